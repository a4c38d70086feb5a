// <likeness-generate>: prompt, settings, and what was drawn, as in A1111's txt2img. The resident painter of this machine
// draws (webui/studio.py); what it is asked for, how far it is and the pictures are files, so any tab finds them again.
import { tab } from './form.js'
import './generate/gallery.js'
import { loras } from './generate/loras.js'
import { poll, refresh } from './live.js'
import { Tool } from './tool.js'
import { ask, button, bytes, count, duration, h, has, notice, press, say } from './tools.js'

const KEEP = 500 // ms after the last letter until the form is kept
const RANDOM = '-1'
const SEED = /-(\d+)\.\w+$/ // in a picture's name

class Generate extends Tool {
  mine = new Set() // requests that were under way while one looked

  get job() {
    return 'compare.sample'
  }

  get source() {
    return 'api/studio/form'
  }

  show() {
    super.show()
    this.boxes?.get('loras').look()
    this.ends.push(poll('api/studio', 1, told => told && this.form && this.heard(told)))
  }

  build(form) {
    const [model, prompt, lora, ...others] = form.groups
    const part = ({ title, fields }) => {
      const grid = this.grid(fields, form.values)
      for (const [name, value] of Object.entries({ 'data-part': title, role: 'group', 'aria-label': `${title}: settings` })) grid.setAttribute(name, value)
      return title === 'More' ? h('details', { class: 'lk-fold' }, h('summary', {}, title), grid) : grid
    }
    const [generation, hires, face, more] = others.map(part)
    this.go = button(form.start, () => press(this.go, () => this.start(), words => this.tell(words)), { class: 'lk-button lk-primary lk-go', title: 'Ctrl+Enter' })
    this.halt = button('Stop', () => this.stop(this.current), { class: 'lk-button lk-stop', hidden: true })
    this.haltAll = button('Stop all', () => this.stop(null), { class: 'lk-button lk-stop', hidden: true })
    this.bar = h('progress', { class: 'lk-bar', max: 1, 'aria-label': 'Progress' })
    this.far = h('span', { class: 'lk-soft', role: 'status' })
    this.progress = h('div', { class: 'lk-progress', hidden: true }, this.bar, this.far)
    this.held = h('span', { class: 'lk-soft' })
    this.free = button('Free the memory', () => press(this.free, () => this.order('free', {}), words => this.tell(words)), { class: 'lk-button lk-small', hidden: true, title: 'What is asked for is called off; pictures that are drawn stay' })
    this.notes = notice('lk-note', 'status')
    this.gallery = h('likeness-gallery')
    this.form = h('form', {
      class: 'lk-tool lk-studio', onsubmit: event => event.preventDefault(), onkeydown: event => this.key(event),
      oninput: () => (this.settle(), this.later()),
    }, part(model), h('div', { class: 'lk-studio-prompt' }, part(prompt), part(lora)),
    h('div', { class: 'lk-studio-bar' }, h('div', { class: 'lk-row' }, this.go, this.halt, this.haltAll, this.progress), this.told, this.notes,
      h('div', { class: 'lk-row' }, this.held, this.free)),
    h('div', { class: 'lk-studio-body' }, h('div', { class: 'lk-studio-settings' }, generation, hires, face, more, this.back()), this.gallery))
    this.addEventListener('likeness-send', ({ detail }) => this.take(detail))
    this.addEventListener('likeness-word', ({ detail }) => this.word(detail))
    this.replaceChildren(h('section', { class: 'lk-card' }, this.form))
    this.boxes.get('loras').look()
    this.gallery.look(this.read('out').trim())
  }

  back() {
    return h('div', { class: 'lk-row' }, button('Back to the defaults', () => this.reset(), { class: 'lk-button lk-small' }))
  }

  beside(field, box) {
    return field.name === 'loras' ? loras(field, box) : super.beside(field, box)
  }

  row(field, value) {
    const row = super.row(field, value)
    if (field.name === 'seed') {
      row.querySelector('.lk-line').append(
        button('Random', () => this.seed(RANDOM), { class: 'lk-button lk-small', title: 'A new seed each time: -1' }),
        button('Last', () => this.seed(this.gallery.pictures[0]?.name.match(SEED)?.[1]), { class: 'lk-button lk-small', title: 'The seed of the newest picture', 'aria-label': 'Reuse the last seed' }))
    }
    if (field.name === 'base') row.append(this.about = h('p', { class: 'lk-help', role: 'status' }))
    return row
  }

  // An embedding: its word into the prompt, and the folder where it is found.
  word({ name, folder }) {
    const folders = this.read('folders').split('\n').filter(line => line.trim() && line !== folder)
    this.write('prompt', [this.read('prompt').trim(), name].filter(Boolean).join(', '))
    this.write('folders', [...folders, folder].filter(Boolean).join('\n'))
    this.boxes.get('prompt').focus()
    this.later()
  }

  seed(value) {
    if (!has(value)) return
    this.write('seed', value)
    this.later()
  }

  settle() {
    super.settle()
    const base = this.read('base').trim()
    if (base !== this.base) {
      this.base = base
      clearTimeout(this.asking)
      this.asking = setTimeout(() => this.meetBase(base), this.family === undefined ? 0 : KEEP)
    }
    this.rows.get('clip_skip').hidden = Boolean(this.family) && this.family !== 'sd15'
  }

  async browse(field) {
    await super.browse(field)
    this.later()
  }

  // What a base model is decides what an empty size means, and whether there is a clip skip.
  async meetBase(base) {
    const found = await ask(`api/studio/base?${new URLSearchParams({ base })}`).catch(error => error)
    if (base !== this.base) return
    this.family = found.family || null
    say(this.about, found.title ? [found.title, found.side && `made for ${found.side} px`].filter(Boolean).join(', ') : found.message)
    this.about.classList.toggle('lk-wrong', found instanceof Error)
    this.boxes.get('size').made(found.side)
    this.rows.get('clip_skip').hidden = Boolean(this.family) && this.family !== 'sd15'
  }

  later() {
    clearTimeout(this.keeping)
    this.keeping = setTimeout(() => {
      const values = Object.fromEntries([...this.fields.keys()].map(name => [name, this.read(name)]))
      ask('api/studio/form', { values }, 'PUT').catch(() => {}) // with the next letter, or at Generate
    }, KEEP)
  }

  reset() {
    super.reset()
    this.later()
  }

  key(event) {
    if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey)) return
    event.preventDefault()
    this.go.click()
  }

  async start() {
    this.notes.tell('')
    const { id } = await ask('api/studio', { values: this.values() })
    this.mine.add(id)
    await refresh('api/studio')
  }

  stop(request) {
    return this.order('stop', { request }).catch(error => this.tell(error.message))
  }

  async order(word, body) {
    await ask(`api/studio/${word}`, body)
    await refresh('api/studio')
  }

  // What the painter tells, once a second.
  heard(told) {
    const { requests: [first, ...others], state, holder, answer, drawn } = told
    this.current = first?.id
    this.halt.hidden = this.progress.hidden = !first
    this.haltAll.hidden = !others.length
    if (first) {
      this.mine.add(first.id)
      const begun = first.done || first.step
      if (begun) this.bar.value = first.share
      else this.bar.removeAttribute('value')
      this.bar.classList.toggle('lk-idle', state === 'waiting')
      say(this.far, [
        state === 'waiting' ? `Waiting until ${holder.name} has ended` : state !== 'drawing' ? 'Starting …' : !begun && 'Loading the model …',
        `${Math.min(first.done + 1, first.total)} of ${count(first.total, 'picture')}`,
        first.step > 0 && `step ${first.step} of ${first.steps}`,
        has(first.left_s) && state === 'drawing' && `${duration(first.left_s)} left`,
        others.length && `${others.length} more asked for`,
      ].filter(Boolean).join(' · '))
    }
    this.holds(told)
    if (drawn !== this.drawn || this.out !== this.read('out').trim()) {
      this.drawn = drawn
      this.out = this.read('out').trim()
      this.gallery.look(this.out)
    }
    if (answer && answer.id !== this.answer && !first) this.answered(answer)
  }

  // Who has the GPU, and what can be done about it.
  holds({ state, holder, memory, requests, idle }) {
    const used = memory?.total && `${memory.name}: ${bytes(memory.used)} of ${bytes(memory.total)} in use`
    const words = holder ? [`${holder.job ? holder.name : `The training ${holder.name}`} has the ${memory ? 'GPU' : 'machine'} now; pictures wait until it has ended.`]
      : state === 'ready' ? [`A base model stays in memory for the next picture, at most ${idle} minutes.`, used] : [state !== 'off' && used]
    say(this.held, words.filter(Boolean).join(' '))
    this.held.hidden = !this.held.textContent
    this.free.hidden = state === 'off' || (state === 'starting' && !requests.length)
    const training = holder && !holder.job // tools are not among the runs
    if (training && !this.toRuns) this.held.after(this.toRuns = button('See it in Runs', () => tab('Runs'), { class: 'lk-button lk-small' }))
    if (this.toRuns) this.toRuns.hidden = !training
  }

  answered(answer) {
    this.answer = answer.id
    const [, hour, minute] = answer.id.match(/_(\d\d)(\d\d)/) || []
    const when = this.mine.has(answer.id) ? '' : `Asked for at ${hour}:${minute}: `
    if (!answer.error) this.notes.tell(answer.lines.map(line => when + line).join(' '))
    else if (when) this.told.tell(when + answer.error)
    else this.tell(answer.error)
  }

  // All settings of a picture, as it tells them.
  take({ values, missing }) {
    for (const [name, value] of Object.entries(values)) this.write(name, value)
    this.settle()
    this.later()
    this.tell('')
    this.notes.tell(missing.length ? `Not here, so it stays as it was: ${missing.join(', ')}.` : '')
    this.boxes.get('prompt').focus()
    this.form.scrollIntoView({ block: 'start', behavior: 'smooth' })
  }
}

customElements.define('likeness-generate', Generate)
