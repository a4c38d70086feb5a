// <likeness-doctor>: looks at a data set, and shows the report: the score with its parts, what to do first, and a card
// for each finding with its reason, its pictures and its cures. Nothing is cured without a press; all can be undone.
import { Finding } from './doctor/finding.js'
import { advice, buckets, framing, listed, ordered, score, WORDS } from './doctor/parts.js'
import { dataFolder } from './folder.js'
import { Live, poll, refresh } from './live.js'
import { ask, button, clock, count, duration, filePath, h, newId, notice, press, say } from './tools.js'

const JOB = 'images.report'
const KEPT = 'likeness-doctor' // what was cured since the newest report, so that it can be undone after a reload
const STEPS = 3 // things that are named as the first to do
const WHAT = 'The doctor looks at every picture and caption of a folder, says what would spoil the training, and offers a cure for it. Nothing is changed until you press one, and every cure can be undone.'

class Doctor extends Live {
  folder = ''
  lines = []
  done = [] // cures since the report: { finding, did, undo, pictures, gone, out: what was chosen of the finding }

  show() {
    if (!this.body) this.build()
    const settle = () => this.settle(this.lines)
    addEventListener('likeness-folder', settle)
    this.ends.push(() => removeEventListener('likeness-folder', settle), poll('api/tools', 2, lines => this.settle(lines || this.lines)))
  }

  build() {
    this.tool = h('likeness-tool', { job: JOB })
    this.body = h('div', { class: 'ld-report' })
    this.append(this.tool, this.body)
    this.addEventListener('likeness-report', event => this.take(event.detail, event.target.run))
    this.clear()
  }

  get task() {
    return this.tool.querySelector('likeness-task')
  }

  // Shows the newest run on the folder that is chosen, unless one was just started.
  settle(lines) {
    this.lines = lines
    const folder = dataFolder().replace(/(?<=.)\/+$/, ''), { task } = this
    if (folder !== this.folder) {
      this.folder = folder
      task?.removeAttribute('run')
      this.clear()
    }
    if (task && (task.getAttribute('folder') || '') !== folder) task.setAttribute('folder', folder)
    const busy = lines.some(line => line.job === JOB && line.about.folder === folder && ['queued', 'running'].includes(line.state))
    this.body.classList.toggle('ld-old', busy)
    if (this.empty) this.empty.hidden = busy
    if (this.report) this.date()
  }

  clear() {
    this.key = this.report = null
    this.empty = h('p', { class: 'lk-empty' }, WHAT)
    this.body.replaceChildren(this.empty)
  }

  take(report, run) {
    const line = this.lines.find(line => line.id === run), key = `${run} ${report.stopped || ''}`
    const other = this.folder && line && line.about.folder !== this.folder && !this.task.hasAttribute('run')
    if (other || key === this.key) return // shown once more, as when a tab is
    Object.assign(this, { report, run, key, created: line?.created, empty: null })
    this.draw()
  }

  draw() {
    const { report } = this, kept = JSON.parse(localStorage.getItem(KEPT) || 'null')
    this.done = kept?.key === this.key ? kept.done : []
    this.findings = ordered(report.findings).map((told, place) => new Finding(this, told, place))
    this.age = h('span', { class: 'lk-soft' })
    this.told = notice()
    this.again = button('Look again', () => press(this.again, () => this.look(), this.told.tell), { class: 'lk-button' })
    this.stale = h('p', { class: 'lk-note ld-stale', role: 'status', hidden: true })
    this.first = h('div', { class: 'ld-first' })
    this.cards = h('div', { class: 'ld-cards' }, this.findings.map(finding => finding.node))
    this.none = h('p', { class: 'lk-empty', hidden: true })
    this.body.replaceChildren(
      h('section', { class: 'lk-card ld-head', 'aria-label': 'Report' },
        h('header', { class: 'lk-head' }, h('h3', { class: 'lk-wide', title: report.folder }, report.folder.split('/').at(-1)),
          h('span', { class: 'lk-soft' }, count(report.pictures, 'picture')), this.age, this.again),
        this.told, this.stale,
        report.stopped && h('p', { class: 'lk-note lk-warn' }, 'It was stopped before the end: this speaks of the pictures that were looked at.'),
        h('div', { class: 'ld-top' }, score(report.score), this.first)),
      h('div', { class: 'ld-pair' }, advice(report.advice), framing(report.framing)),
      h('section', { class: 'ld-findings', 'aria-label': 'Findings' },
        h('header', { class: 'lk-head' }, h('h3', {}, 'Findings'), this.filter()), this.cards, this.none),
      ...[buckets(report), listed('What was not checked', report.not_checked)].filter(Boolean))
    this.choose('all')
    this.date()
    this.changed()
  }

  date() {
    const age = Date.now() / 1000 - this.created
    say(this.age, this.created ? `looked at ${clock(this.created)}, ${age < 60 ? 'just now' : `${duration(age)} ago`}` : '')
  }

  filter() {
    const name = newId(), { findings } = this
    return h('fieldset', { class: 'ld-filter' }, h('legend', { class: 'lk-hidden' }, 'Show'), ['all', ...Object.keys(WORDS)].map(severity => {
      const many = findings.filter(({ told }) => severity === 'all' || told.severity === severity).length
      return h('label', { class: `ld-${severity}` },
        h('input', { type: 'radio', name, class: 'lk-hidden', checked: severity === 'all', onchange: () => this.choose(severity) }),
        `${severity === 'all' ? 'All' : WORDS[severity]} ${many.toLocaleString('en')}`)
    }))
  }

  choose(severity) {
    let seen = 0
    for (const { node, told } of this.findings) {
      node.hidden = severity !== 'all' && told.severity !== severity
      seen += !node.hidden
    }
    this.none.hidden = seen > 0
    say(this.none, this.findings.length ? 'Nothing of this kind.' : 'Nothing is wrong with these pictures and captions.')
  }

  // Pictures that are not where they were, by what became of them.
  get gone() {
    return new Map(this.done.flatMap(({ gone, did }) => gone.map(name => [name, did])))
  }

  // After a cure, or when one was undone: what can still be done, and what should be first.
  changed() {
    const { done, key } = this
    localStorage.setItem(KEPT, JSON.stringify({ key, done }))
    const open = this.findings.filter(finding => !finding.isDone())
    for (const finding of this.findings) finding.settle(finding === open[0])
    this.again.classList.toggle('lk-primary', done.length > 0)
    this.stale.hidden = !done.length
    say(this.stale, `${count(done.length, 'cure was', 'cures were')} made since this report. Look again for the new score.`)
    const step = finding => h('li', {}, h('span', { class: `lk-pill ld-${finding.told.severity}` }, WORDS[finding.told.severity]),
      button(finding.told.title, () => this.go(finding), { class: 'lk-link' }))
    const rest = open.length - STEPS
    this.first.replaceChildren(h('h4', {}, open.length ? 'What to do first' : 'Nothing is left to do'),
      open.length ? h('ol', {}, open.slice(0, STEPS).map(step)) : h('p', {}, done.length ? 'Look again to be sure.' : 'Nothing is wrong with these pictures and captions.'),
      rest > 0 ? h('p', { class: 'lk-soft' }, `and ${rest} more below`) : '')
  }

  go(finding) {
    if (finding.node.hidden) this.querySelector('.ld-filter input').click()
    finding.node.scrollIntoView({ block: 'start', behavior: 'smooth' })
    finding.title.focus({ preventScroll: true })
  }

  // A cure may be undone unless a later one has changed the same pictures.
  isLast(record) {
    const later = this.done.slice(this.done.indexOf(record) + 1)
    return !later.some(({ pictures }) => pictures.some(name => record.pictures.includes(name)))
  }

  async cure(finding, { do: what, label, pictures: all, ...wish }, pictures) {
    const made = await ask('api/doctor/cure', { ...wish, folder: this.report.folder, do: what, pictures })
    this.done.push({ ...made, pictures, finding: finding.place, out: [...finding.out] })
    this.changed()
  }

  async undo(record) {
    await ask('api/doctor/undo', { folder: this.report.folder, undo: record.undo })
    this.done = this.done.filter(other => other !== record)
    this.changed()
  }

  // The same once more, with the options of this report, whatever stands in the form by now.
  async look() {
    const { options } = await ask(filePath(this.run, 'config.json'))
    const { id } = await ask(`api/tools/${JOB}`, { options })
    refresh('api/tools')
    this.task.setAttribute('run', id)
    this.task.scrollIntoView({ block: 'nearest', behavior: 'smooth' })
  }
}

customElements.define('likeness-doctor', Doctor)
