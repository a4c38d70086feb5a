// A list or a grid of which only the rows in view exist, with a cursor and a choice of several, by mouse and by keys.
import { h, newId } from '../tools.js'

const SPARE = 2 // rows beyond what is seen, so that scrolling shows no gap

export class View {
  items = []
  keys = []
  cursor = -1
  adding = false // does a plain click choose one more
  picked = new Set()
  nodes = new Map()

  // {label, size: () => [width, height] of a cell (width 0: the whole line), key: item -> text, draw: (item, node or
  // null) -> node, several: may more than one be chosen, pick: () => called when the choice changed, act: (item, event)
  // => a plain click or Enter, open: (item) => a double click, drop: node => called for one that is not seen any more}
  constructor(wish) {
    Object.assign(this, { several: true, pick() {}, act() {}, open() {}, drop() {} }, wish)
    this.space = h('div', { class: 'lt-space', role: 'presentation' })
    this.node = h('div', {
      class: 'lt-view', role: 'listbox', tabindex: 0, 'aria-label': this.label, 'aria-multiselectable': String(this.several),
      onscroll: () => this.render(), onkeydown: event => this.pressed(event),
      onclick: event => this.click(event), ondblclick: event => this.double(event),
    }, this.space)
    new ResizeObserver(() => this.render()).observe(this.node)
  }

  // Other things to show; the cursor and the choice stay with what they were on.
  set(items) {
    const at = this.keys[this.cursor]
    this.items = items
    this.keys = items.map(this.key)
    const there = new Set(this.keys)
    for (const key of this.picked) if (!there.has(key)) this.picked.delete(key)
    const found = at === undefined ? -1 : this.keys.indexOf(at)
    this.cursor = found >= 0 ? found : Math.min(this.cursor, items.length - 1)
    this.render(true)
  }

  get columns() {
    const [width] = this.size()
    return width ? Math.max(1, Math.floor(this.node.clientWidth / width)) : 1
  }

  render(anew = false) {
    const { clientHeight, clientWidth, scrollTop } = this.node
    if (!clientWidth) return
    const [, height] = this.size(), { columns } = this
    const wide = clientWidth / columns
    const first = Math.max(0, Math.floor(scrollTop / height) - SPARE) * columns
    const last = Math.min(this.items.length, (Math.ceil((scrollTop + clientHeight) / height) + SPARE) * columns)
    this.space.style.height = `${Math.ceil(this.items.length / columns) * height}px`
    const seen = new Set(this.keys.slice(first, last))
    for (const [key, node] of this.nodes) {
      if (seen.has(key)) continue
      this.drop(node)
      node.remove()
      this.nodes.delete(key)
    }
    for (let place = first; place < last; place++) this.place(place, anew, place % columns * wide, Math.floor(place / columns) * height, wide, height)
    const at = this.nodes.get(this.keys[this.cursor])
    if (at) this.node.setAttribute('aria-activedescendant', at.id)
    else this.node.removeAttribute('aria-activedescendant')
  }

  place(place, anew, left, top, width, height) {
    const key = this.keys[place]
    let node = this.nodes.get(key)
    if (!node || anew) {
      const old = node
      node = this.draw(this.items[place], node || null)
      node.id ||= newId()
      node.setAttribute('role', this.items[place].head ? 'presentation' : 'option')
      this.nodes.set(key, node)
      if (old !== node) this.space.append(node)
    }
    node.place = place
    node.setAttribute('aria-setsize', this.items.length)
    node.setAttribute('aria-posinset', place + 1)
    node.setAttribute('aria-selected', String(this.picked.has(key)))
    node.classList.toggle('lt-at', place === this.cursor)
    const where = `translate(${left}px, ${top}px)`
    if (node.style.transform !== where) node.style.transform = where
    Object.assign(node.style, { width: `${width}px`, height: `${height}px` })
  }

  // Moves the cursor; how: 'only' chooses this one alone, 'also' turns it over, 'to' chooses all from the last one on.
  go(place, how = 'only') {
    if (!this.items.length) return
    const back = place < this.cursor
    this.cursor = Math.max(0, Math.min(this.items.length - 1, place))
    if (this.items[this.cursor].head) this.cursor = Math.min(this.items.length - 1, Math.max(1, this.cursor + (back ? -1 : 1)))
    const key = this.keys[this.cursor]
    if (how === 'to' && this.several) {
      const [from, to] = [this.start ?? this.cursor, this.cursor].sort((a, b) => a - b)
      this.picked = new Set(this.keys.slice(from, to + 1))
    } else {
      this.start = this.cursor
      if (how === 'also' && this.several && this.picked.has(key)) this.picked.delete(key)
      else if (how === 'also' && this.several) this.picked.add(key)
      else this.picked = new Set([key])
    }
    this.reveal()
    this.render()
    this.pick()
  }

  pickAll(keys = this.keys) {
    this.picked = new Set(keys)
    this.render()
    this.pick()
  }

  chosen() {
    return this.items.filter((item, place) => this.picked.has(this.keys[place]))
  }

  at() {
    return this.items[this.cursor]
  }

  reveal() {
    const [, height] = this.size(), top = Math.floor(this.cursor / this.columns) * height
    const { scrollTop, clientHeight } = this.node
    if (top < scrollTop) this.node.scrollTop = top
    else if (top + height > scrollTop + clientHeight) this.node.scrollTop = top + height - clientHeight
  }

  cell(event) {
    return event.target.closest?.('[role="option"]')
  }

  click(event) {
    const cell = this.cell(event)
    if (!cell || event.target.closest('button, input')) return
    const more = event.ctrlKey || event.metaKey || this.adding
    this.go(cell.place, event.shiftKey ? 'to' : more ? 'also' : 'only')
    if (!event.shiftKey && !more) this.act(this.at(), event)
  }

  double(event) {
    const cell = this.cell(event)
    if (cell && !event.target.closest('button, input')) this.open(this.items[cell.place])
  }

  pressed(event) {
    if (event.target !== this.node || event.altKey) return
    const { columns } = this, [, height] = this.size()
    const page = Math.max(1, Math.floor(this.node.clientHeight / height)) * columns
    const more = event.ctrlKey || event.metaKey
    const step = {
      ArrowDown: columns, ArrowUp: -columns, PageDown: page, PageUp: -page, Home: -this.items.length, End: this.items.length,
      ...(columns > 1 && { ArrowRight: 1, ArrowLeft: -1 }),
    }[event.key]
    if (step && !(more && event.key.startsWith('Page'))) this.go(this.cursor + step, event.shiftKey ? 'to' : 'only')
    else if (event.key === 'a' && more && this.several) this.pickAll()
    else if (event.key === ' ' && more) this.go(this.cursor, 'also')
    else if (event.key === 'Enter' && !more && this.at()) this.act(this.at(), event)
    else return
    event.preventDefault()
  }
}
