// <likeness-grid>: X/Y/Z grids: what is to be drawn, the grid that is looked at while it is drawn, and the earlier ones.
import { Live, poll, refresh } from './live.js'
import { ask, button, clock, count, h, notice } from './tools.js'
import { WORDS } from './task.js'
import { titleOf } from './grid/cells.js'
import { View } from './grid/view.js'
import './grid/form.js'

const OPEN = 'likeness-grid' // the grid that was looked at last
const FEW = 8 // earlier grids that are listed at first

class Grid extends Live {
  lines = []

  show() {
    if (!this.view) this.build()
    this.view.look()
    this.ends.push(() => this.view.end(), poll('api/grids', 3, lines => lines && this.settle(lines)))
  }

  build() {
    this.form = h('likeness-grid-form')
    this.fold = h('details', { class: 'lk-card lg-fold', open: true }, h('summary', {}, 'What is drawn'), this.form)
    this.view = new View({
      change: (values, folder) => {
        this.fold.open = true
        this.form.take(values, folder)
      },
      remove: told => this.remove(told),
      removed: () => this.open(null),
    })
    this.list = h('ul', { class: 'lk-recent' })
    this.told = notice()
    this.more = button('Show all', () => {
      this.all = true
      this.draw()
    }, { class: 'lk-link', hidden: true })
    this.earlier = h('section', { class: 'lk-card', 'aria-label': 'Earlier grids' }, h('h3', {}, 'Grids'), this.told, this.list, this.more)
    this.addEventListener('likeness-drawn', ({ detail: folder }) => {
      this.open(folder, true)
      refresh('api/grids')
    })
    this.append(this.fold, this.view.node, this.earlier)
    // Gradio, given the same element again, keeps it and takes its children away.
    new MutationObserver(() => this.view.node.parentNode === this || this.append(this.fold, this.view.node, this.earlier)).observe(this, { childList: true })
  }

  // Shows the grid that was looked at last; else one that is drawn, else the newest.
  settle(lines) {
    this.lines = lines
    const kept = sessionStorage.getItem(OPEN)
    if (!this.view.folder) {
      const chosen = lines.find(line => line.folder === kept) || lines.find(line => line.state === 'running') || lines[0]
      if (['running', 'queued'].includes(chosen?.state)) this.fold.open = false // who comes back wants to see it
      if (chosen) this.open(chosen.folder)
    }
    this.draw()
  }

  open(folder, isNew = false) {
    if (folder) sessionStorage.setItem(OPEN, folder)
    else sessionStorage.removeItem(OPEN)
    if (isNew && folder === this.view.folder) this.view.look() // drawn again in its place
    this.view.open(folder)
    if (!folder) this.view.node.hidden = true
    this.draw()
    if (isNew) setTimeout(() => this.view.node.scrollIntoView({ block: 'start', behavior: 'smooth' }), 400)
  }

  draw() {
    const shown = this.all ? this.lines : this.lines.slice(0, FEW)
    const key = JSON.stringify([this.view.folder, this.lines.length, shown.map(({ progress, ...line }) => line)])
    if (key === this.key) return
    this.key = key
    const within = this.list.contains(document.activeElement) && document.activeElement.dataset.folder
    this.list.replaceChildren(...shown.map(line => this.row(line)))
    if (!shown.length) this.list.append(h('li', { class: 'lk-soft' }, 'Nothing yet. What you draw will stand here, also after this page was closed.'))
    this.more.hidden = shown.length === this.lines.length
    if (within) this.list.querySelector(`[data-folder="${CSS.escape(within)}"]`)?.focus()
  }

  row(line) {
    const isOpen = line.folder === this.view.folder
    return h('li', { 'aria-current': isOpen }, h('span', { class: `lk-pill lk-${line.state}` }, line.state === 'running' ? 'Drawing' : WORDS[line.state]),
      h('div', { class: 'lk-wide' }, button(titleOf(line), () => this.open(line.folder, true), { class: 'lk-link', 'data-folder': line.folder }),
        h('div', { class: 'lk-soft' }, [clock(line.time), line.cells && `${line.pictures} of ${count(line.cells, 'picture')}`, line.prompt].filter(Boolean).join(' · '))),
      isOpen && h('span', { class: 'lk-soft' }, 'shown above'))
  }

  async remove(told) {
    await ask('api/grids/trash', { folder: told.folder })
    this.open(null)
    refresh('api/grids')
  }
}

customElements.define('likeness-grid', Grid)
