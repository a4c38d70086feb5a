// <likeness-runs>: the queue, every run with its notes and files, and runs side by side.
import { Live, poll, refresh } from './live.js'
import { STATES, ask, button, clock, duration, h, has, inShort, loss, notice, pill, press, runPath, say } from './tools.js'
import './queue.js'
import './compare.js'
import { which } from './job.js'
import { WORDS } from './task.js'
import { duplicate } from './again.js'

const MOST_COMPARED = 6
const MOST_TOOLS = 50
const NONE = 'No run yet. What you train is kept here, with its settings, curve, samples and files.'

class Runs extends Live {
  chosen = new Set()
  lines = []

  show() {
    if (!this.list) this.build()
    this.ends.push(poll('api/runs', 2, (lines, error) => {
      this.lost.hidden = Boolean(lines)
      if (error) say(this.lost, `${error.message} It is asked again every 2 seconds.`)
      if (lines) this.draw(lines)
    }), poll('api/tools', 2, lines => lines && this.listTools(lines)))
  }

  build() {
    this.lost = h('p', { class: 'lk-note lk-warn', role: 'status', hidden: true })
    this.told = notice('lk-note', 'status')
    this.search = h('input', { type: 'search', class: 'lk-input', placeholder: 'Search name, base model, note', 'aria-label': 'Search runs', oninput: () => this.table() })
    this.compareButton = button('Compare', () => this.compare(), { class: 'lk-button' })
    this.rows = h('tbody')
    this.empty = h('p', { class: 'lk-empty' }, NONE)
    this.tools = h('details', { class: 'lk-fold', hidden: true }, h('summary', {}, 'Tools'), h('ul', { class: 'lk-recent' }))
    this.list = h('section', {},
      h('likeness-queue'),
      h('header', { class: 'lk-head' }, h('h3', {}, 'Runs'), this.search, this.compareButton),
      this.told,
      h('table', { class: 'lk-runs' }, h('thead', {}, h('tr', {},
        h('th', {}, h('span', { class: 'lk-hidden' }, 'Choose to compare')), ['Name', 'State', 'Made', 'Loss', ''].map(title => h('th', { scope: 'col' }, title)))), this.rows),
      this.empty, this.tools)
    this.view = h('section', { hidden: true })
    this.addEventListener('likeness-open', event => this.open(event.detail))
    this.addEventListener('likeness-again', event => this.again(event.detail).catch(error => this.told.tell(error.message)))
    this.append(this.lost, this.list, this.view)
  }

  draw(lines) {
    this.lines = lines
    for (const id of this.chosen) if (!lines.some(line => line.id === id)) this.chosen.delete(id)
    this.table()
  }

  // Rows are drawn anew only when something in them changed, so that nothing under the pointer or the focus is lost.
  table() {
    const words = this.search.value.trim().toLowerCase().split(/\s+/).filter(Boolean)
    const shown = this.lines.filter(line => line.state !== 'queued' && words.every(word => `${line.name} ${line.id} ${inShort(line)} ${line.note} ${STATES[line.state]}`.toLowerCase().includes(word)))
    const old = new Map([...this.rows.children].map(row => [row.dataset.run, row]))
    const rows = shown.map(line => {
      const row = old.get(line.id), key = JSON.stringify([line, this.chosen.has(line.id)])
      if (row?.key === key) return row
      const made = this.row(line)
      made.key = key
      if (row?.contains(document.activeElement)) return row // under someone's hand
      return made
    })
    if (rows.length !== this.rows.childElementCount || rows.some((row, place) => row !== this.rows.children[place])) this.rows.replaceChildren(...rows)
    this.empty.hidden = shown.length > 0
    say(this.empty, words.length ? 'No run is called so.' : NONE)
    this.rows.parentElement.hidden = !shown.length
    this.compareButton.disabled = this.chosen.size < 2 || this.chosen.size > MOST_COMPARED
    say(this.compareButton, this.chosen.size < 2 ? 'Compare (choose two or more)' : this.chosen.size > MOST_COMPARED ? `Compare (at most ${MOST_COMPARED})` : `Compare ${this.chosen.size} runs`)
  }

  row(line) {
    const { progress } = line
    const choose = h('input', {
      type: 'checkbox', checked: this.chosen.has(line.id), 'aria-label': `Compare ${line.name}`,
      onchange: () => {
        if (choose.checked) this.chosen.add(line.id)
        else this.chosen.delete(line.id)
        this.table()
      },
    })
    const act = (text, work, props = {}) => button(text, event => press(event.currentTarget, work, this.told.tell), { class: 'lk-button lk-small', ...props })
    const ended = line.state !== 'running' && line.state !== 'queued'
    const done = progress.steps ? `step ${progress.step.toLocaleString('en')} of ${progress.steps.toLocaleString('en')}` : ''
    const left = line.state === 'running' && has(progress.left_s) ? `, ${duration(progress.left_s)} left` : ''
    return h('tr', { 'data-run': line.id },
      h('td', {}, choose),
      h('td', { class: 'lk-wide' },
        button(line.name, () => this.open(line.id), { class: 'lk-link' }), h('div', { class: 'lk-soft' }, inShort(line)),
        line.note && h('div', { class: 'lk-noted' }, line.note)),
      h('td', {}, pill(line.state), h('div', { class: 'lk-soft' }, done + left)),
      h('td', { 'data-title': 'Made' }, clock(line.created)),
      h('td', { 'data-title': 'Loss' }, loss(progress.average)),
      h('td', {}, h('div', { class: 'lk-acts' },
        ['stopped', 'interrupted', 'error'].includes(line.state) && act('Resume', () => this.resume(line)),
        ended && line.files.length > 1 && button('Which file is best?', () => which(line.id), { class: 'lk-button lk-small' }),
        act('Duplicate', () => this.again(line)),
        ended && act('Trash', () => this.trash(line), { 'aria-label': `Move ${line.name} to the trash` }))))
  }

  // What captioning, resizing and the other tools did; each with its report, and the way back.
  listTools(lines) {
    this.tasks = lines
    const key = JSON.stringify(lines.map(line => [line.id, line.state, line.about.summary]))
    if (key === this.toolsKey) return
    this.toolsKey = key
    this.tools.hidden = !lines.length
    this.tools.lastChild.replaceChildren(...lines.slice(0, MOST_TOOLS).map(line => h('li', {}, pill(line.state, WORDS[line.state]),
      h('div', { class: 'lk-wide' }, button(line.name, () => this.swap(h('likeness-task', { run: line.id })), { class: 'lk-link' }),
        h('div', { class: 'lk-soft' }, [clock(line.created), line.about.folder, line.about.summary].filter(Boolean).join(' · '))))))
  }

  async resume(line) {
    await ask(runPath(line.id, '/command'), { command: 'resume' })
    this.told.tell(`${line.name} goes on from its last saved state as soon as its turn has come.`)
    refresh('api/runs')
    refresh('api/queue')
  }

  async trash(line) {
    const { trash } = await ask(runPath(line.id, '/trash'), {})
    this.told.tell(`${line.name} is in the trash, with all its files: ${trash}. To have it back, move that folder to where your runs are.`)
    refresh('api/runs')
  }

  async again(line) {
    const id = await duplicate(line)
    if (!id) return
    this.told.tell(`Made ${id}; it waits in the queue or trains already.`)
    refresh('api/runs')
    refresh('api/queue')
  }

  // One run, whole, in place of the list.
  open(id) {
    if (this.tasks?.some(line => line.id === id)) return this.swap(h('likeness-task', { run: id }))
    const note = h('textarea', { class: 'lk-input', rows: 3, disabled: true, 'aria-label': 'Notes', placeholder: 'What you tried, what you saw, what to try next' })
    const saved = h('span', { class: 'lk-soft', role: 'status' })
    // An empty field would be saved over a note that was not read yet.
    ask(runPath(id)).then(known => {
      note.value = known.note || ''
      note.disabled = false
    }, error => say(saved, error.message))
    note.addEventListener('change', () => ask(runPath(id, '/note'), { note: note.value }, 'PUT').then(() => {
      say(saved, 'Saved.')
      refresh('api/runs')
    }, error => say(saved, error.message)))
    note.addEventListener('input', () => say(saved, 'Saved when you leave the field.'))
    this.swap(h('likeness-job', { run: id }), h('h4', {}, 'Notes'), note, saved)
  }

  compare() {
    this.swap(h('likeness-compare', { runs: [...this.chosen].join(',') }))
  }

  swap(...nodes) {
    const back = button('← All runs', () => {
      this.view.hidden = true
      this.list.hidden = false
      this.view.replaceChildren()
    }, { class: 'lk-button lk-back' })
    this.view.replaceChildren(back, ...nodes)
    this.list.hidden = true
    this.view.hidden = false
    back.focus({ preventScroll: true })
    this.scrollIntoView({ block: 'nearest' })
  }
}

customElements.define('likeness-runs', Runs)
