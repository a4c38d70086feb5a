// <likeness-recent>: the newest runs in short, to open or to resume.
import { Live, poll, refresh } from './live.js'
import { ask, button, clock, h, has, notice, pill, press, runPath } from './tools.js'

const MOST = 5

class Recent extends Live {
  show() {
    if (!this.list) {
      this.list = h('ul', { class: 'lk-recent' })
      this.told = notice()
      this.append(this.list, this.told)
    }
    this.ends.push(poll('api/runs', 2, lines => lines && this.draw(lines)))
  }

  draw(lines) {
    const shown = lines.slice(0, MOST)
    const key = JSON.stringify(shown.map(line => [line.id, line.state, line.progress.step]))
    if (key === this.key) return
    this.key = key
    this.list.replaceChildren(...shown.map(line => this.row(line)))
    if (!lines.length) this.list.append(h('li', { class: 'lk-soft' }, 'Nothing yet. Your runs will stand here, also after this page was closed.'))
  }

  row(line) {
    const { step, steps } = line.progress
    const far = has(steps) ? `, step ${step.toLocaleString('en')} of ${steps.toLocaleString('en')}` : ''
    const resume = event => press(event.currentTarget, async () => {
      await ask(runPath(line.id, '/command'), { command: 'resume' })
      refresh('api/runs')
    }, this.told.tell)
    return h('li', {}, pill(line.state), h('div', { class: 'lk-wide' }, button(line.name, () => open(line.id), { class: 'lk-link' }), h('div', { class: 'lk-soft' }, clock(line.created) + far)),
      ['stopped', 'interrupted', 'error'].includes(line.state) && button('Resume', resume, { class: 'lk-button lk-small', 'aria-label': `Resume ${line.name}` }))
  }
}

// Shows a run in the Runs tab, which draws itself when it is opened.
function open(id, tries = 40) {
  window.likeness?.tab('Runs')
  const runs = document.querySelector('likeness-runs')
  if (runs?.list) runs.open(id)
  else if (tries) setTimeout(() => open(id, tries - 1), 50)
}

customElements.define('likeness-recent', Recent)
