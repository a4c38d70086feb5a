// Where a picture lies on a stage: zoomed and moved by wheel, keys, a held button or two fingers; and the ring that shows
// the brush. Places on the stage are [x, y] in CSS pixels, those in the picture in its own.
import { h } from './tools.js'

const ZOOMS = [0.02, 32]
const IN_SIGHT = 40 // CSS pixels of the picture that never leave the stage
export const limited = (value, low, high) => Math.max(low, Math.min(value, high))

export class Easel {
  size = [1, 1]
  scale = 1
  x = 0
  y = 0
  brush = 1 // across, in pixels of the picture
  pointers = new Map()

  constructor(label) {
    this.sheet = h('div', { class: 'lk-sheet' })
    this.ring = h('div', { class: 'lk-ring', hidden: true })
    this.stage = h('div', { class: 'lk-stage lk-easel', tabindex: 0, role: 'application', 'aria-label': label }, this.sheet, this.ring)
    this.stage.addEventListener('pointerleave', () => { this.ring.hidden = true })
    this.stage.addEventListener('wheel', event => {
      event.preventDefault()
      this.zoom(Math.exp(-limited(event.deltaY, -100, 100) / 400), ...this.where(event))
    }, { passive: false })
    new ResizeObserver(() => this.fitted && this.fit()).observe(this.stage)
  }

  // Puts layers of one size on the stage, whole.
  show(size, ...layers) {
    this.size = size
    Object.assign(this.sheet.style, { width: `${size[0]}px`, height: `${size[1]}px` })
    this.sheet.replaceChildren(...layers)
    this.fit()
  }

  fit() {
    const { clientWidth, clientHeight } = this.stage, [width, height] = this.size
    const scale = Math.min(clientWidth / width, clientHeight / height)
    this.lay(scale, (clientWidth - width * scale) / 2, (clientHeight - height * scale) / 2)
    this.fitted = true
  }

  // The place (x, y) of the stage stays where it is; without one, its middle.
  zoom(factor, x = this.stage.clientWidth / 2, y = this.stage.clientHeight / 2) {
    const scale = limited(this.scale * factor, ...ZOOMS), by = scale / this.scale
    this.lay(scale, x - (x - this.x) * by, y - (y - this.y) * by)
  }

  lay(scale, x, y) {
    const { clientWidth, clientHeight } = this.stage, [width, height] = this.size
    this.scale = scale
    this.x = limited(x, IN_SIGHT - width * scale, clientWidth - IN_SIGHT)
    this.y = limited(y, IN_SIGHT - height * scale, clientHeight - IN_SIGHT)
    this.fitted = false
    this.sheet.style.transform = `translate(${this.x}px, ${this.y}px) scale(${scale})`
    this.sheet.classList.toggle('lk-grain', scale >= 3)
    this.point()
  }

  where(event) {
    const seen = this.stage.getBoundingClientRect()
    return [event.clientX - seen.left - this.stage.clientLeft, event.clientY - seen.top - this.stage.clientTop]
  }

  inPicture([x, y]) {
    return [(x - this.x) / this.scale, (y - this.y) / this.scale]
  }

  // The ring as large as the brush, at a place of the stage or where it is.
  point(place = this.pointed) {
    if (!place) return
    this.pointed = place
    const wide = Math.max(4, this.brush * this.scale)
    Object.assign(this.ring.style, { width: `${wide}px`, height: `${wide}px`, transform: `translate(${place[0] - wide / 2}px, ${place[1] - wide / 2}px)` })
  }

  // The ring moved by keys, from the middle at first.
  nudge([x, y], step) {
    const { clientWidth, clientHeight } = this.stage, [a, b] = this.pointed || [clientWidth / 2, clientHeight / 2]
    this.ring.hidden = false
    this.point([limited(a + x * step, 0, clientWidth), limited(b + y * step, 0, clientHeight)])
  }

  // The hand: begin() holds the picture at all pointers that are down, move() lets it follow them.
  begin() {
    this.held = this.pointers.size ? this.grip() : null
  }

  move() {
    const { x, y, wide } = this.held, now = this.grip()
    this.zoom(now.wide / wide, x, y)
    this.lay(this.scale, this.x + now.x - x, this.y + now.y - y)
    this.held = now
  }

  // The middle of all pointers, and how far two are apart.
  grip() {
    const all = [...this.pointers.values()], [x, y] = [0, 1].map(side => all.reduce((sum, place) => sum + place[side], 0) / all.length)
    return { x, y, wide: all.length > 1 ? Math.max(1, Math.hypot(all[0][0] - all[1][0], all[0][1] - all[1][1])) : 1 }
  }
}
