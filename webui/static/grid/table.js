// The cells of a grid in their places, one table for each place on z, under labels that stay in sight; zoomed by
// buttons, by the wheel with Ctrl, and by two fingers.
import { h, newId, say } from '../tools.js'
import { percent, stars } from './cells.js'

const LEAST = 64, MOST = 256 // px of a cell's width where all must fit
const LIMITS = [0.05, 8]
const STEPS = new Map([['fit', 'Fit'], [1, '100 %'], [2, '200 %']])

export class Table {
  // act(cell): a picture was pressed.
  constructor(act) {
    this.act = act
    this.zoom = 'fit'
    const name = newId()
    this.steps = [...STEPS].map(([value, words]) => h('label', {}, h('input', { type: 'radio', name, value, class: 'lk-hidden', checked: value === 'fit', onchange: () => this.set(value) }), words))
    this.far = h('output', { class: 'lk-soft' })
    this.control = h('fieldset', { class: 'lg-switch' }, h('legend', { class: 'lk-hidden' }, 'Zoom'), this.steps, this.far)
    this.node = h('div', {
      class: 'lg-box', tabindex: 0, role: 'region', 'aria-label': 'The grid', onkeydown: event => this.key(event),
    })
    this.node.addEventListener('wheel', event => this.wheel(event), { passive: false })
    this.node.addEventListener('touchstart', event => this.pinch(event, true), { passive: true })
    this.node.addEventListener('touchmove', event => this.pinch(event), { passive: false })
    this.eye = new ResizeObserver(() => this.zoom === 'fit' && this.told && this.size())
    this.eye.observe(this.node)
  }

  // Builds it anew when the plan is another, else changes only the cells that did.
  draw(told) {
    const anew = this.told?.stamp !== told.stamp || this.told?.folder !== told.folder
    this.told = told
    if (anew) this.build()
    const next = told.state === 'running' && told.plan.cells.find(cell => !told.isDrawn(cell) && !told.wrong[cell.file])
    for (const [cell, node] of this.cells) this.settle(cell, node, cell === next)
    for (const { side, place, node } of this.heads) this.count(side, place, node)
    this.size()
  }

  build() {
    const { told } = this, { labels } = told.plan
    this.cells = new Map()
    this.heads = []
    const named = side => labels[side].some(Boolean)
    const head = (side, place, scope) => {
      const isBase = told.plan.reference === side && place === 0
      const votes = h('span', { class: 'lg-count' })
      this.heads.push({ side, place, node: votes })
      return h('th', { scope, class: isBase ? 'lg-base' : null }, h('span', { class: 'lg-label' }, labels[side][place]), isBase && h('span', { class: 'lg-mark' }, 'base model'), votes)
    }
    this.tables = labels.z.map((panel, z) => h('table', { class: `lg-table${named('y') ? '' : ' lg-flat'}` },
      named('z') && h('caption', {}, h('span', {}, panel || '–')),
      named('x') && h('thead', {}, h('tr', {}, named('y') && h('td', { class: 'lg-corner' }), labels.x.map((_, x) => head('x', x, 'col')))),
      h('tbody', {}, labels.y.map((_, y) => h('tr', {}, named('y') && head('y', y, 'row'), labels.x.map((_, x) => this.place(x, y, z)))))))
    this.node.replaceChildren(...this.tables)
  }

  place(x, y, z) {
    const cell = this.told.cell(x, y, z), node = h('td', { 'data-place': `${x},${y},${z}` })
    if (cell) this.cells.set(cell, node)
    return node
  }

  settle(cell, node, isNext) {
    const { told } = this, wrong = told.wrong[cell.file], isDrawn = told.isDrawn(cell)
    const key = isDrawn ? `${told.drawn[cell.file]}` : wrong || (isNext ? 'now' : told.state)
    if (node.lgKey !== key) {
      node.lgKey = key
      node.replaceChildren(isDrawn ? this.picture(cell) : wrong ? h('div', { class: 'lg-none lg-wrong' }, h('b', {}, 'Failed'), ` ${wrong}`)
        : h('div', { class: `lg-none${isNext ? ' lg-now' : ''}` }, isNext ? 'Being drawn' : ['running', 'queued'].includes(told.state) ? 'Waiting' : 'Not drawn'))
    }
    if (isDrawn) {
      node.firstChild.classList.toggle('lg-starred', told.isStarred(cell))
      node.firstChild.setAttribute('aria-label', `${told.words(cell)}${told.isReference(cell) ? ', base model' : ''}${told.isStarred(cell) ? ', starred' : ''}`)
    }
  }

  picture(cell) {
    return h('button', { type: 'button', class: 'lg-cell', onclick: () => this.act(this.told.plan.cells.find(each => each.file === cell.file)) },
      h('img', { alt: '', decoding: 'async', loading: 'lazy' }), h('span', { class: 'lg-star', 'aria-hidden': 'true' }, '★'))
  }

  count(side, place, node) {
    const { wins, duels, stars: many, low } = this.told.votes.sides[side][place]
    const words = duels ? `${wins} of ${duels} · ≥ ${percent(low)}` : ''
    node.replaceChildren(words, many ? stars(many) : '')
    node.title = duels ? `Better in ${wins} of ${duels} votes: at least ${percent(low)} of all, with 95 % certainty (Wilson)` : ''
    node.hidden = !duels && !many
  }

  mark(chosen) {
    for (const [cell, node] of this.cells || []) {
      if (!this.told.isDrawn(cell)) continue
      if (chosen) node.firstChild.setAttribute('aria-pressed', chosen.some(each => each.file === cell.file))
      else node.firstChild.removeAttribute('aria-pressed')
    }
  }

  // Zoom

  get scale() {
    if (this.zoom !== 'fit') return this.zoom
    const [width] = this.told.side, labels = this.node.querySelector('tbody th')?.offsetWidth || 0
    const room = (this.node.clientWidth - labels - 16) / this.told.many[0] - 6
    return Math.max(LEAST, Math.min(MOST, room)) / width
  }

  size() {
    if (!this.told.side || !this.node.clientWidth) return
    const [width, height] = this.told.side, { scale } = this, dense = Math.min(2, devicePixelRatio)
    this.node.style.setProperty('--wide', `${width * scale}px`)
    this.node.style.setProperty('--high', `${height * scale}px`)
    this.node.classList.toggle('lg-large', scale > 1.01 && this.zoom !== 'fit')
    for (const [cell, node] of this.cells) {
      const image = node.querySelector('img')
      if (!image) continue
      const source = this.told.picture(cell, Math.max(width, height) * scale * dense)
      if (image.src !== source) image.src = source
    }
    for (const label of this.steps) label.firstChild.checked = label.firstChild.value === String(this.zoom)
    say(this.far, STEPS.has(this.zoom) ? '' : percent(scale))
  }

  // at: a point of the screen that stays where it is.
  set(zoom, at) {
    const box = this.node.getBoundingClientRect(), before = this.told ? this.scale : 1
    this.zoom = zoom === 'fit' ? zoom : Math.min(Math.max(zoom, LIMITS[0]), LIMITS[1])
    if (!this.told) return
    this.size()
    const grown = this.scale / before, x = (at?.clientX ?? box.left + box.width / 2) - box.left, y = (at?.clientY ?? box.top + box.height / 2) - box.top
    this.node.scrollLeft = (this.node.scrollLeft + x) * grown - x
    this.node.scrollTop = (this.node.scrollTop + y) * grown - y
  }

  wheel(event) {
    if (!event.ctrlKey || !this.told) return // a trackpad's pinch comes as a wheel with Ctrl
    event.preventDefault()
    this.set(this.scale * Math.exp(-event.deltaY / 300), event)
  }

  pinch(event, begins = false) {
    if (event.touches.length !== 2 || !this.told) return
    const [a, b] = event.touches, wide = Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY)
    if (begins) this.pinched = { wide, scale: this.scale }
    else if (this.pinched) {
      event.preventDefault()
      this.set(this.pinched.scale * wide / this.pinched.wide, { clientX: (a.clientX + b.clientX) / 2, clientY: (a.clientY + b.clientY) / 2 })
    }
  }

  // + and - zoom; arrow keys go from picture to picture.
  key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || !this.told) return
    const zooms = { '+': () => this.set(this.scale * 1.25), '-': () => this.set(this.scale / 1.25), 0: () => this.set('fit') }
    if (zooms[event.key]) {
      event.preventDefault()
      return zooms[event.key]()
    }
    const from = event.target.closest('[data-place]')?.dataset.place.split(',').map(Number)
    const cell = from && step(this.told, from, event.key)
    if (!cell) return
    event.preventDefault()
    this.cells.get(cell).firstChild.focus()
  }
}

const KEYS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, -1], ArrowDown: [1, 1], PageUp: [2, -1], PageDown: [2, 1] }

// The next picture in the way of a key; null where there is none.
export function step(told, from, key) {
  const way = KEYS[key]
  if (!way) return null
  const place = [...from]
  do {
    place[way[0]] += way[1]
    const cell = told.cell(...place)
    if (cell && told.isDrawn(cell)) return cell
  } while (place[way[0]] >= 0 && place[way[0]] < told.many[way[0]])
  return null
}
