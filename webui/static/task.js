// <likeness-task job="images.resize">: the newest run of a tool, live: how far it is, what came of it, and the way back.
// Tells `likeness-report` (bubbling, detail: the report) when one is there. `folder` shows runs on that folder alone.
import { Live, poll, refresh, watch } from './live.js'
import { address, ask, button, clock, count, duration, filePath, h, has, notice, number, press, runPath, say } from './tools.js'

export const WORDS = { queued: 'Waiting', running: 'At work', done: 'Done', stopped: 'Stopped', error: 'Failed', interrupted: 'Cut off' }
const STOPS = ['Stop', 'Stop at once', 'Kill']
const MOST = 200 // problems and tags that are listed

class Task extends Live {
  static observedAttributes = ['job', 'folder', 'run']

  attributeChangedCallback() {
    if (this.lines) this.choose(this.lines)
  }

  show() {
    if (!this.body) this.build()
    this.ends.push(() => this.follow(null), poll('api/tools', 2, lines => lines && this.choose(lines)))
  }

  build() {
    this.pill = h('span', { class: 'lk-pill' })
    this.name = h('b')
    this.when = h('span', { class: 'lk-soft' })
    this.bar = h('progress', { class: 'lk-bar', max: 1, 'aria-label': 'Progress' })
    this.far = h('span', { class: 'lk-soft', 'aria-live': 'polite' })
    this.sentence = h('p', { class: 'lk-sentence', role: 'status' })
    this.trouble = h('div', { class: 'lk-note lk-bad', role: 'alert', hidden: true })
    this.told = notice('lk-note', 'status')
    this.buttons = h('div', { class: 'lk-row' })
    this.problems = h('details', { class: 'lk-fold', hidden: true }, h('summary'), h('ul', { class: 'lk-problems' }))
    this.tags = h('details', { class: 'lk-fold', hidden: true }, h('summary', {}, 'How often each tag was written'), h('ol', { class: 'lk-tally' }))
    this.says = h('details', { class: 'lk-fold', open: true, hidden: true }, h('summary', {}, 'What it says'), h('pre', { class: 'lk-says', tabindex: 0 }))
    this.log = h('likeness-log')
    this.body = h('section', { class: 'lk-job lk-task', hidden: true },
      h('header', { class: 'lk-head' }, this.pill, this.name, this.when),
      h('div', { class: 'lk-progress' }, this.bar, this.far),
      this.sentence, this.trouble, this.told, this.buttons, this.says, this.problems, this.tags,
      h('details', { class: 'lk-fold' }, h('summary', {}, 'Log'), this.log))
    this.append(this.body)
    // Gradio, given the same element with another attribute, keeps it and takes its children away.
    new MutationObserver(() => this.body.parentNode === this || this.append(this.body)).observe(this, { childList: true })
  }

  // The run that is named; else the newest of this job, on this folder if one is named.
  choose(lines) {
    this.lines = lines
    const jobs = (this.getAttribute('job') || '').split(' '), folder = this.getAttribute('folder'), run = this.getAttribute('run')
    const mine = lines.filter(line => run ? line.id === run : jobs.includes(line.job) && (!folder || line.about.folder === folder))
    this.follow(mine[0]?.id || null)
  }

  follow(run) {
    if (run === this.run) return
    this.unwatch?.()
    this.unwatch = null
    this.run = run
    this.reported = this.moment = null
    if (this.body) this.body.hidden = !run
    if (run) this.unwatch = watch(run, (stream, what, anew) => this.heard(stream, what, anew))
  }

  heard(stream, what, anew) {
    if (what === 'log') {
      if (anew) this.log.clear()
      this.log.write(anew ? stream.log.join('') : stream.log.at(-1))
    }
    if (what === 'state' && stream.line) this.status(stream.line)
  }

  status(line) {
    const { state, progress, about } = line, { done, total } = progress
    this.pill.className = `lk-pill lk-${state}`
    say(this.pill, WORDS[state])
    say(this.name, line.name)
    say(this.when, [about.folder, clock(line.created)].filter(Boolean).join(' · '))
    this.bar.parentNode.hidden = !['running', 'queued'].includes(state) && !has(done)
    this.bar.classList.toggle('lk-idle', state !== 'running')
    if (state === 'running' && !total) this.bar.removeAttribute('value')
    else this.bar.value = total ? done / total : Number(state === 'done')
    say(this.far, [
      has(done) && `${done.toLocaleString('en')} of ${total.toLocaleString('en')}`,
      progress.rate && `${number(progress.rate)} a second`,
      has(progress.left_s) && `${duration(progress.left_s)} left`,
    ].filter(Boolean).join(' · '))
    say(this.sentence, state === 'queued' ? 'It waits until the GPU is free.' : state === 'running' ? '' : about.summary || '')
    this.sentence.hidden = !this.sentence.textContent
    const key = `${line.id} ${state} ${line.stops || 0}`
    if (key !== this.moment) {
      this.moment = key
      this.settled(line, state)
    }
  }

  // What may be done in a state, and what came of it: looked at once for each.
  async settled(line, state) {
    const order = (text, word, main) => {
      const node = button(text, () => press(node, () => this.command(word), this.told.tell), { class: `lk-button ${main}` })
      return node
    }
    this.buttons.replaceChildren(...{
      running: [order(STOPS[Math.min(line.stops || 0, 2)], 'stop', 'lk-stop')],
      queued: [order('Take it out of the queue', 'cancel', '')],
      stopped: [order('Go on', 'resume', 'lk-primary')],
      interrupted: [order('Go on', 'resume', 'lk-primary')],
      error: [order('Try again', 'resume', '')],
    }[state] || [])
    this.told.tell('')
    this.trouble.hidden = this.problems.hidden = this.tags.hidden = this.says.hidden = true
    if (['error', 'interrupted'].includes(state)) {
      const { error } = await ask(runPath(line.id)).catch(() => ({}))
      if (error && line.id === this.run) {
        this.trouble.replaceChildren(...error.text.split('\n').map(text => h('div', {}, text)), error.remedy && h('p', {}, error.remedy) || '')
        this.trouble.hidden = false
      }
    }
    if (line.files.length && ['done', 'stopped'].includes(state)) this.report(line, await ask(filePath(line.id, 'report.json')).catch(() => null))
  }

  report(line, report) {
    if (!report || line.id !== this.run) return
    const problems = report.problems || [], tags = Object.entries(report.tags || {})
    this.problems.hidden = !problems.length
    say(this.problems.firstChild, count(problems.length, 'problem'))
    this.problems.lastChild.replaceChildren(...problems.slice(0, MOST).map(({ file, what, done }) => h('li', {}, h('b', {}, file), `: ${what}${done ? `; ${done}` : ''}`)),
      problems.length > MOST && h('li', {}, `and ${problems.length - MOST} more, in the report`) || '')
    this.tags.hidden = !tags.length
    this.tags.lastChild.replaceChildren(...tags.slice(0, MOST).map(([tag, many]) => h('li', {}, h('span', {}, tag), h('b', {}, many.toLocaleString('en')))))
    this.says.hidden = !report.lines?.length
    say(this.says.lastChild, (report.lines || []).join('\n'))
    if (report.snapshot) this.buttons.append(this.undo(line))
    const made = report.out || (line.job.startsWith('caption.') && line.about.folder)
    if (made) {
      const open = () => dispatchEvent(new CustomEvent('likeness-open-tags', { detail: { folder: made } }))
      this.buttons.append(button('Open in the tag editor', open, { class: 'lk-button' }))
    }
    if (report.out) {
      const caption = () => dispatchEvent(new CustomEvent('likeness-caption', { detail: { folder: made } }))
      this.buttons.append(button('Caption these', caption, { class: 'lk-button' }))
    }
    this.buttons.append(h('a', { class: 'lk-button', href: address(filePath(line.id, 'report.json')), download: true }, 'Report'))
    this.dispatchEvent(new CustomEvent('likeness-report', { bubbles: true, detail: report }))
  }

  // Takes back what was done, and makes it again; over newer work only when that was said.
  undo(line, undone = line.undone) {
    const words = undone ? 'Make it again' : 'Undo all of it'
    const node = button(words, () => press(node, async () => {
      const { files } = await ask(runPath(line.id, '/undo'), { anyway: node.textContent !== words }).catch(error => {
        if (error.status === 409) say(node, `${words}, all the same`)
        throw error
      })
      this.told.tell(`${count(files, 'file')} as ${undone ? 'after' : 'before'}.`)
      node.replaceWith(this.undo(line, !undone))
    }, this.told.tell), { class: 'lk-button' })
    return node
  }

  async command(word) {
    await ask(runPath(this.run, '/command'), { command: word })
    refresh('api/tools')
  }
}

customElements.define('likeness-task', Task)
