// <likeness-use>: "Use this one": a candidate under its final name, with a preview, to where pictures are made.
import { Tool } from '../tool.js'
import { ask, button, h, pictureAt, press, say } from '../tools.js'
import { refresh } from '../live.js'
import { fileName, nameOf } from './told.js'

const SHOWN = ['name', 'strength', 'trigger']
const LACKS = { model: ['strength', 'negative'], embedding: ['strength', 'negative', 'trigger'] } // fields

class Use extends Tool {
  get source() {
    return `api/verdicts/use?file=${encodeURIComponent(this.given.row.file)}`
  }

  show() {
    this.drawn ||= this.draw()
  }

  build(form) {
    const { told, row, output } = this.given
    this.fields.delete('file')
    const own = { name: output, strength: String(row.strength), trigger: told.trigger || '', preview: this.bestPicture() }
    if (row.what === 'embedding') own.name = own.trigger.replace(/[<>]/g, '') // prompts call it by its file
    if (row === told.pick) own.notes = told.verdict.sentence
    const values = { ...form.values, ...own }, [, where, more] = form.groups
    const field = name => this.fields.get(name)
    this.start_ = button(form.start, () => press(this.start_, () => this.start(), words => this.tell(words)), { class: 'lk-button lk-primary' })
    this.task = h('likeness-task', { job: 'lora.use', hidden: true })
    this.result = h('section', { class: 'lv-result', 'aria-label': 'What was written', hidden: true })
    this.addEventListener('likeness-report', event => this.written(event.detail))
    this.form = h('form', { class: 'lk-tool', onsubmit: event => event.preventDefault(), oninput: () => this.settle() },
      this.grid(SHOWN.map(field), values), this.pictures(own.preview), this.row(field('preview'), own.preview),
      h('div', {}, h('h4', {}, where.title), h('p', { class: 'lk-soft' }, 'Give the folders of the programs that you draw with, once: they are remembered. With none it goes to “chosen” in the run folder.')),
      this.grid(where.fields, values),
      h('details', { class: 'lk-fold' }, h('summary', {}, more.title), this.grid(more.fields, values)),
      this.told)
    for (const name of LACKS[row.what] || []) this.rows.get(name).hidden = true
    this.replaceChildren(h('p', { class: 'lk-soft' }, `${nameOf(row)}, ${fileName(row)}: it is copied, the original stays where it is.`,
      form.words.length > 0 && ` Its new words lie beside it, and go along as embeddings: ${form.words.join(', ')}.`),
      this.form, this.task, this.result, h('div', { class: 'lk-row lv-use-row' }, this.start_, button('Close', () => this.closest('dialog').close(), { class: 'lk-button' })))
    this.form.querySelector('input').focus()
  }

  // Pictures that show the subject.
  get candidates() {
    const { told, row } = this.given
    return told.asked.flatMap(({ kind, prompt }, place) => kind !== 'plain' && row.pictures?.[place] ? [{ file: row.pictures[place], place, kind, prompt }] : [])
  }

  // As trained, and of those the one with most of the likeness.
  bestPicture() {
    const { told, row } = this.given, likeness = ({ place }) => Object.fromEntries(told.seen(row, place)).likeness ?? 0
    const trained = this.candidates.filter(({ kind }) => kind === 'subject'), some = trained.length ? trained : this.candidates
    return [...some].sort((a, b) => likeness(b) - likeness(a))[0]?.file || ''
  }

  pictures(chosen) {
    if (!this.candidates.length) return ''
    return h('fieldset', { class: 'lv-previews' }, h('legend', {}, 'Preview, out of its pictures'), this.candidates.map(({ file, prompt }) => h('label', { title: prompt },
      h('input', { type: 'radio', name: 'lv-preview', class: 'lk-hidden', checked: file === chosen, 'aria-label': prompt, onchange: () => this.write('preview', file) }),
      h('img', { src: pictureAt(file, 128, 0), alt: '' }))))
  }

  values() {
    return { ...super.values(), file: this.given.row.file }
  }

  async start() {
    this.result.hidden = true
    const { id } = await ask('api/tools/lora.use', { values: this.values() })
    refresh('api/tools')
    this.task.hidden = false
    this.task.setAttribute('run', id)
    this.task.scrollIntoView({ block: 'nearest' })
  }

  // What was written where, and the words for a prompt.
  written({ summary, placed = [], lines = [], prompt }) {
    const homeOf = ({ program, file }) => `${program} ${folderOf(file)}`
    const copy = button('Copy', async () => {
      getSelection().selectAllChildren(code) // where the clipboard is closed (http), Ctrl-C is one key away
      await navigator.clipboard?.writeText(prompt).then(() => say(copy, 'Copied'), () => {})
    }, { class: 'lk-button lk-small' }), code = h('code', {}, prompt)
    this.result.replaceChildren(
      placed.length ? h('h4', {}, 'It is there') : h('p', {}, summary),
      placed.length ? h('dl', { class: 'lv-why' }, [...new Set(placed.map(homeOf))].flatMap(home => {
        const mine = placed.filter(one => homeOf(one) === home)
        return [h('dt', {}, mine[0].program), h('dd', {}, h('div', { class: 'lk-soft' }, folderOf(mine[0].file)), h('ul', {}, mine.map(({ file, state }) => h('li', {}, `${fileName({ file })}: ${state}`))))]
      })) : '',
      prompt ? h('p', { class: 'lk-row' }, 'In a prompt:', code, copy) : '',
      ...lines.slice(placed.length).map(line => h('p', { class: 'lk-note' }, line)))
    this.task.hidden = true
    this.result.hidden = false
    say(this.start_, 'Use it elsewhere too')
    this.start_.classList.remove('lk-primary')
    this.result.scrollIntoView({ block: 'nearest' })
  }
}

const folderOf = file => file.replace(/[\\/][^\\/]*$/, '')

customElements.define('likeness-use', Use)

export function use(given) {
  const element = Object.assign(h('likeness-use'), { given })
  const dialog = h('dialog', { class: 'lk-dialog lv-use', 'aria-label': 'Use this one', onclose: () => dialog.remove() }, h('h3', {}, 'Use this one'), element)
  document.body.append(dialog)
  dialog.showModal()
}
