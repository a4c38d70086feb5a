// <likeness-verdict run="ID">: which file of a training is best: its files compared, the verdict with its evidence and
// all pictures, and the best one put to use. Without `run` the newest training that has files.
import { choose } from './browse.js'
import { Live, poll, refresh } from './live.js'
import { ask, button, clock, count, h, has, notice, say } from './tools.js'
import { answer } from './verdict/answer.js'
import { Table } from './verdict/table.js'
import { Told } from './verdict/told.js'
import { use } from './verdict/use.js'
import { Wall } from './verdict/wall.js'
import './verdict/curve.js'
import './verdict/form.js'
import './log.js'
import './task.js'

const OPEN = 'likeness-verdict' // the folder that was looked at last
const SOON = 1000, LATER = 5000 // ms between two looks while it works, and after
const WAITS = ['running', 'queued']
const OTHER = 'other'

class Verdict extends Live {
  static observedAttributes = ['run']
  lines = null
  line = null // what is chosen, as api/verdicts tells it

  attributeChangedCallback() {
    this.wish = this.getAttribute('run')
    if (this.wish) this.removeAttribute('run')
    if (this.lines) this.settle(this.lines)
  }

  show() {
    if (!this.picker) this.build()
    this.ends.push(() => this.end(), poll('api/verdicts', 3, lines => lines && this.settle(lines)))
    this.look()
  }

  build() {
    this.picker = h('select', { class: 'lk-select', id: 'lv-run', onchange: () => this.picked() })
    this.facts = h('span', { class: 'lk-soft' })
    this.told_ = notice()
    this.form = h('likeness-verdict-form')
    this.fold = h('details', { class: 'lk-fold lv-form', open: true }, h('summary', {}, 'Compare its files'), this.form)
    this.none = h('p', { class: 'lk-empty', hidden: true }, 'No training has files yet. Train one, and come back: this tells you which of its files to use.')
    this.start = h('section', { class: 'lk-card lv-card' }, h('header', { class: 'lk-head' }, h('label', { for: 'lv-run' }, 'Which file is best of'), this.picker, this.facts), this.told_, this.none, this.fold)
    this.task = h('likeness-task', { job: 'compare.verdict', hidden: true })
    this.table = new Table(row => this.use(row))
    this.wall = new Wall()
    this.curve = h('likeness-verdict-curve')
    this.answer = h('div', { class: 'lv-answer' })
    this.order = h('h4')
    this.view = h('section', { class: 'lk-card lv-card', 'aria-label': 'Verdict', hidden: true }, this.answer, this.order, this.table.node, this.curve, this.wall.node)
    const settle = () => this.start.parentNode === this || this.append(this.start, this.task, this.view)
    this.addEventListener('likeness-begun', () => {
      this.fold.open = false
      refresh('api/verdicts')
      refresh('api/tools')
      this.look()
    })
    settle()
    // Gradio, given the same element again, keeps it and takes its children away.
    new MutationObserver(settle).observe(this, { childList: true })
  }

  // What can be chosen; the run that was asked for, else the one that was looked at, is compared, or is the newest.
  settle(lines) {
    this.lines = lines
    this.none.hidden = lines.length > 0 || has(this.line)
    const find = test => lines.find(test)
    const wished = this.wish && find(line => line.id === this.wish), kept = sessionStorage.getItem(OPEN)
    if (wished) this.wish = null
    const chosen = wished || find(line => line.folder === (this.line?.folder ?? kept)) || this.line || find(line => line.busy) || lines[0]
    this.fold.hidden = this.picker.parentNode.hidden = !chosen
    this.list(chosen)
    if (chosen) this.open(chosen)
  }

  list(chosen) {
    const all = !chosen || this.lines.some(line => line.folder === chosen.folder) ? this.lines : [chosen, ...this.lines]
    const told = line => [line.name, has(line.files) && count(line.files, 'file'), clock(line.created), line.busy ? 'being compared' : has(line.verdict) && 'compared'].filter(Boolean).join(' · ')
    const key = JSON.stringify(all.map(line => [line.folder, told(line)]))
    if (key !== this.listed) {
      this.listed = key
      this.picker.replaceChildren(...all.map(line => h('option', { value: line.folder }, told(line))), h('option', { value: OTHER }, 'Another folder of LoRAs …'))
    }
    if (chosen) this.picker.value = chosen.folder
  }

  async picked() {
    const { value } = this.picker
    if (value !== OTHER) return this.open(this.lines.find(line => line.folder === value) || this.line)
    const folder = await choose({ title: 'A folder of LoRAs of one training', kind: 'folder' })
    const line = folder ? { folder, name: folder.split(/[\\/]/).at(-1), created: Date.now() / 1000 } : this.line
    this.list(line)
    if (line) this.open(line)
  }

  open(line) {
    const isOther = line.folder !== this.line?.folder, isTurned = line.busy !== this.line?.busy
    this.line = line
    this.form.take?.(line)
    customElements.whenDefined('likeness-verdict-form').then(() => this.form.take(line))
    say(this.facts, [line.base, has(line.verdict) && `compared ${clock(line.verdict)}`].filter(Boolean).join(' · '))
    if (!isOther) {
      if (isTurned) this.look() // begun, gone on with or ended
      return
    }
    sessionStorage.setItem(OPEN, line.folder)
    this.known = null
    this.stamp = ''
    this.view.hidden = true
    this.fold.open = true
    this.task.setAttribute('folder', line.folder)
    this.task.hidden = true
    this.told_.tell('')
    this.look()
  }

  end() {
    clearTimeout(this.timer)
    this.turn = null
  }

  async look() {
    clearTimeout(this.timer)
    if (!this.line) return
    const turn = this.turn = {}, { folder } = this.line
    this.measures ||= (await ask('api/verdicts/form').catch(() => ({}))).measures
    const found = await ask(`api/verdicts/one?${new URLSearchParams({ folder, stamp: this.stamp })}`).catch(error => error)
    if (turn !== this.turn) return
    const failed = found instanceof Error
    this.told_.tell(failed && found.status ? found.message : '')
    if (!failed && this.measures) this.draw(found)
    this.timer = setTimeout(() => this.look(), WAITS.includes(found.job?.state) ? SOON : LATER)
  }

  draw(found) {
    const { job, told, stamp } = found, isBusy = WAITS.includes(job?.state)
    this.found = found
    this.task.hidden = !job || !isBusy && job.state === 'done'
    this.count(isBusy)
    if (told === undefined && stamp === this.stamp) return
    const isFirst = !this.known
    this.stamp = stamp
    this.known = told && new Told({ ...told, measures: this.measures })
    this.view.hidden = !this.known
    say(this.fold.firstChild, this.known ? 'Compare its files again' : 'Compare its files')
    if (isFirst && this.known || isBusy) this.fold.open = false
    if (!this.known) return
    const { known } = this
    this.answer.replaceChildren(...(told.live ? [] : answer(known, { use: row => this.use(row), show: row => this.wall.show(row) })))
    this.count(isBusy)
    this.table.draw(known, this.measures)
    this.table.node.hidden = this.order.hidden = !known.rows.length
    this.curve.tell(known)
    this.wall.draw(known)
  }

  // What the table holds.
  count(isBusy) {
    const many = this.known?.rows.length || 0
    say(this.order, !this.known?.live ? 'All candidates' : !this.found.job ? `${count(many, 'file')}, scored while it trained; a comparison of all files gives the verdict` : isBusy ? `So far: ${count(many, 'candidate')}. The order can still change.` : `${count(many, 'candidate')}, before it was stopped`)
  }

  use(row) {
    use({ told: this.known, row, output: this.found.output })
  }
}

customElements.define('likeness-verdict', Verdict)
