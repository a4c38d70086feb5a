// <likeness-crop folder="/pictures" sizes="512x512,512x768">: a frame on each picture, as the crop tool would cut it, to
// be moved by hand. What is drawn is kept in the folder at once, and goes before what the tool finds by itself.
// detector, focus, background: as the tool has them.
import { ask, button, h, newId, notice, say } from './tools.js'
import { limited } from './easel.js'
import { Live } from './live.js'
import { large, load, Strip, takesKeys } from './strip.js'

const LEAST = 32 // pixels of a side; the server refuses less
const SOON = 250 // ms after the last key or turn of the wheel
const OPTIONS = ['sizes', 'detector', 'focus', 'background']
const CORNERS = { nw: [0, 0], ne: [1, 0], sw: [0, 1], se: [1, 1] }
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }
const HELP = 'Drag the frame, or a corner of it; turn the wheel, or pinch, to make it larger or smaller. Keys: arrows move it by 1 %, with Shift by 5 %; + and − make it larger and smaller; Enter shows the next picture, Shift Enter the one before; R goes back to the automatic frame.'

class Crop extends Live {
  static observedAttributes = ['folder', ...OPTIONS]
  shown = '' // the attributes that are drawn
  pointers = new Map()

  attributeChangedCallback() {
    if (this.seen) this.show()
  }

  show() {
    const wanted = JSON.stringify(Crop.observedAttributes.map(name => this.getAttribute(name)))
    if (wanted === this.shown) return
    this.flush()
    this.shown = wanted
    this.open(wanted)
  }

  hide() {
    super.hide()
    this.flush()
  }

  async open(wanted) {
    this.folder = this.getAttribute('folder') || ''
    if (!this.folder) return this.empty('Choose a folder of pictures above: each is shown here with the frame that will be cut.')
    this.empty('Reading the folder …')
    const found = await ask(`api/crop/boxes?${new URLSearchParams({ folder: this.folder })}`).catch(error => error)
    if (wanted !== this.shown) return
    if (found instanceof Error) return this.empty(found.message, 'lk-note lk-bad')
    if (!found.pictures.length) return this.empty('No pictures lie in this folder.')
    this.build()
    this.strip.fill(this.folder, found.pictures, new Set(Object.keys(found.boxes)), 'drawn by hand')
    this.choose(found.pictures[0])
  }

  empty(words, kind = 'lk-empty') {
    this.picture = null
    this.replaceChildren(h('p', { class: kind, role: 'status' }, words))
  }

  build() {
    const id = newId()
    this.strip = new Strip(name => this.choose(name))
    this.told = h('p', { class: 'lk-told', id, role: 'status' })
    this.warning = h('p', { class: 'lk-note lk-warn', hidden: true })
    this.error = notice()
    this.frame = h('div', { class: 'lk-cut', tabindex: 0, role: 'group', 'aria-label': 'Frame to cut', 'aria-describedby': id },
      Object.keys(CORNERS).map(corner => h('i', { class: `lk-corner lk-${corner}`, 'data-corner': corner })))
    this.sheet = h('div', { class: 'lk-sheet' })
    this.stage = h('div', { class: 'lk-stage' }, this.sheet)
    this.preview = h('canvas', { class: 'lk-preview', role: 'img', 'aria-label': 'Preview of the cut picture' })
    this.size = h('select', { class: 'lk-select', 'aria-label': 'Size', onchange: () => this.reshape() })
    this.named = h('b', { class: 'lk-name' })
    this.back = button('Back to automatic', () => this.reset(), { class: 'lk-button', title: 'R' })
    this.previous = button('Previous', () => this.go(-1), { class: 'lk-button', title: 'Shift Enter' })
    this.following = button('Next', () => this.go(1), { class: 'lk-button lk-primary', title: 'Enter' })
    this.replaceChildren(this.strip.node, this.error, h('div', { class: 'lk-bench' }, this.stage,
      h('div', { class: 'lk-side' }, h('div', { class: 'lk-row' }, this.named, this.size), this.preview, this.told, this.warning,
        h('div', { class: 'lk-row' }, this.previous, this.following, this.back))),
    h('details', { class: 'lk-keys' }, h('summary', {}, 'How to use it'), h('p', { class: 'lk-soft' }, HELP)))
    this.listen()
  }

  listen() {
    this.sheet.addEventListener('pointerdown', event => this.grab(event))
    this.sheet.addEventListener('pointermove', event => this.drag(event))
    for (const end of ['pointerup', 'pointercancel']) this.sheet.addEventListener(end, event => this.drop(event))
    this.stage.addEventListener('wheel', event => {
      event.preventDefault()
      this.scale(Math.exp(limited(event.deltaY, -100, 100) / 1000))
    }, { passive: false })
    this.onkeydown = event => this.key(event)
  }

  query(more) {
    const given = OPTIONS.filter(name => this.getAttribute(name)).map(name => [name, this.getAttribute(name)])
    return { folder: this.folder, name: this.name, ...Object.fromEntries(given), ...more }
  }

  async choose(name) {
    if (!name) return
    this.flush()
    this.name = name
    this.picture = null
    this.strip.select(name)
    this.previous.disabled = !this.strip.beside(name, -1)
    this.following.disabled = !this.strip.beside(name, 1)
    say(this.named, name)
    this.stage.setAttribute('aria-busy', 'true')
    const [image, cut] = await Promise.all([load(this.folder, name), ask(`api/crop/cut?${new URLSearchParams(this.query())}`)]).catch(error => [error])
    if (this.name !== name) return
    this.stage.removeAttribute('aria-busy')
    this.error.tell(image instanceof Error ? image.message : '')
    const hadFocus = this.contains(document.activeElement) && !this.strip.node.contains(document.activeElement)
    this.sheet.replaceChildren(...image instanceof Error ? [] : [image, h('div', { class: 'lk-dim' }), this.frame])
    for (const node of [this.preview, this.told]) node.hidden = image instanceof Error
    if (image instanceof Error) return this.warning.hidden = true
    this.sheet.style.setProperty('--shape', image.naturalWidth / image.naturalHeight)
    image.alt = name
    image.draggable = false
    this.image = image
    this.take(cut)
    if (hadFocus) this.frame.focus({ preventScroll: true })
    const next = this.strip.beside(name, 1)
    if (next) new Image().src = large(this.folder, next)
  }

  // What the server says would be cut.
  take({ cut, size, picture, how, drawn }) {
    const [left, top, right, bottom] = cut
    this.picture = picture
    this.target = size
    this.box = { x: left, y: top, w: right - left, h: bottom - top }
    this.how = how
    this.drawn = drawn
    this.strip.mark(this.name, drawn)
    this.offer()
    this.draw()
  }

  // Of several sizes of one shape, the first is the one that the tool takes.
  offer() {
    const sizes = (this.getAttribute('sizes') || '512x512').split(/[\s,]+/).filter(Boolean).map(text => text.split('x').map(Number))
    const pairs = sizes.map(([width, height = width]) => [width, height])
    const shapes = pairs.filter(([w, h], place) => pairs.findIndex(([a, b]) => a * h === b * w) === place)
    const same = ([w, h]) => w * this.target[1] === h * this.target[0]
    this.size.replaceChildren(...shapes.map(pair => h('option', { value: pair.join('x'), selected: same(pair) }, pair.join(' × '))))
    this.size.hidden = shapes.length < 2
  }

  draw() {
    const { x, y, w, h: high } = this.box, [width, height] = this.picture, [wide, tall] = this.target
    const sides = { left: x / width, top: y / height, right: (x + w) / width, bottom: (y + high) / height }
    for (const [side, part] of Object.entries(sides)) this.sheet.style.setProperty(`--${side}`, `${100 * part}%`)
    const factor = Math.max(wide / w, tall / high)
    const small = Math.round(w) < wide || Math.round(high) < tall
    this.frame.classList.toggle('lk-care', small)
    say(this.told, `${Math.round(w)} × ${Math.round(high)} of ${width} × ${height} pixels become ${wide} × ${tall}. ${this.drawn ? 'Drawn by hand.' : `Automatic: ${this.how}.`}`)
    say(this.warning, `Smaller than ${wide} × ${tall}: it would be enlarged ${factor.toFixed(factor < 1.1 ? 2 : 1)} times, which blurs it.`)
    this.warning.hidden = !small
    this.back.disabled = !this.drawn
    const scale = this.image.naturalWidth / width
    Object.assign(this.preview, { width: wide, height: tall })
    const context = this.preview.getContext('2d')
    context.imageSmoothingQuality = 'high'
    context.drawImage(this.image, x * scale, y * scale, w * scale, high * scale, 0, 0, wide, tall)
  }

  get largest() {
    return Math.min(this.picture[0], this.picture[1] * this.shape)
  }

  get shape() {
    return this.target[0] / this.target[1]
  }

  // The frame so wide, with the point (across, down) of it, in parts of 1, at (x, y), as far as the picture goes.
  put(w, x, y, across = 0, down = 0) {
    const [width, height] = this.picture
    w = limited(w, Math.min(this.largest, LEAST * Math.max(1, this.shape)), this.largest)
    const high = w / this.shape
    this.box = { x: limited(x - across * w, 0, width - w), y: limited(y - down * high, 0, height - high), w, h: high }
    this.drawn = this.unsaved = true
    this.draw()
  }

  scale(factor) {
    if (!this.picture) return
    const { x, y, w, h: high } = this.box
    this.put(w * factor, x + w / 2, y + high / 2, 0.5, 0.5)
    this.later()
  }

  key(event) {
    if (!this.picture || event.ctrlKey || event.metaKey || event.altKey || takesKeys(event.target, event.key)) return
    const move = MOVES[event.key]
    if (move) {
      const part = event.shiftKey ? 0.05 : 0.01
      this.put(this.box.w, this.box.x + move[0] * part * this.picture[0], this.box.y + move[1] * part * this.picture[1])
      this.later()
    } else if (event.key === '+' || event.key === '=') this.scale(1.02)
    else if (event.key === '-' || event.key === '−') this.scale(1 / 1.02)
    else if (event.key === 'Enter') this.go(event.shiftKey ? -1 : 1)
    else if (event.key === 'r' || event.key === 'R') this.reset()
    else return
    event.preventDefault()
  }

  // A pointer's place in pixels of the picture.
  at(event) {
    const seen = this.sheet.getBoundingClientRect()
    return [(event.clientX - seen.left) / seen.width * this.picture[0], (event.clientY - seen.top) / seen.height * this.picture[1]]
  }

  grab(event) {
    if (!this.picture || event.button) return
    event.preventDefault()
    this.frame.focus({ preventScroll: true })
    this.sheet.setPointerCapture(event.pointerId)
    this.pointers.set(event.pointerId, this.at(event))
    const corner = CORNERS[event.target.dataset.corner]
    this.held = { box: this.box, from: this.at(event), corner, inside: this.frame.contains(event.target) }
    if (this.pointers.size > 1) this.held = { box: this.box, spread: this.spread() }
  }

  drag(event) {
    if (!this.pointers.has(event.pointerId)) return
    const [x, y] = this.at(event)
    this.pointers.set(event.pointerId, [x, y])
    const { box, from, corner, inside, spread } = this.held
    if (spread) return this.put(box.w * this.spread() / spread, box.x + box.w / 2, box.y + box.h / 2, 0.5, 0.5)
    if (corner) { // the corner across from it stays where it is
      const [across, down] = [1 - corner[0], 1 - corner[1]]
      const [stays, high] = [box.x + across * box.w, box.y + down * box.h]
      const room = Math.min(across ? stays : this.picture[0] - stays, (down ? high : this.picture[1] - high) * this.shape)
      const w = Math.max(Math.abs(x - stays), Math.abs(y - high) * this.shape)
      return this.put(Math.min(w, room), stays, high, across, down)
    }
    if (inside) this.put(box.w, box.x + x - from[0], box.y + y - from[1])
    else this.put(box.w, x, y, 0.5, 0.5) // outside: the frame comes to the pointer
  }

  drop(event) {
    if (!this.pointers.delete(event.pointerId)) return
    this.held = { box: this.box, from: [...this.pointers.values()][0], inside: true }
    if (!this.pointers.size) this.flush()
  }

  spread() {
    const [[a, b], [c, d]] = [...this.pointers.values()]
    return Math.max(1, Math.hypot(a - c, b - d))
  }

  later() {
    clearTimeout(this.timer)
    this.timer = setTimeout(() => this.flush(), SOON)
  }

  flush() {
    if (this.unsaved) this.save()
  }

  // Whole pixels along the short side, so that the cut has just this size.
  settled() {
    const { x, y, w, h: high } = this.box, [width, height] = this.picture
    const wide = this.shape < 1 ? Math.round(w) : Math.round(Math.round(high) * this.shape)
    const tall = this.shape < 1 ? Math.round(Math.round(w) / this.shape) : Math.round(high)
    const left = limited(Math.round(x), 0, Math.max(0, width - wide)), top = limited(Math.round(y), 0, Math.max(0, height - tall))
    return [left / width, top / height, Math.min(1, (left + wide) / width), Math.min(1, (top + tall) / height)]
  }

  save() {
    return this.tell(this.settled())
  }

  reset() {
    if (this.picture && this.drawn) this.tell(null)
  }

  // One after the other, so that the last word is the last one told.
  tell(box) {
    clearTimeout(this.timer)
    this.unsaved = false
    const { name, box: meant } = this, body = this.query({ box })
    this.telling = Promise.resolve(this.telling).then(() => ask('api/crop/boxes', body)).then(answer => {
      this.strip.mark(name, answer.drawn)
      if (this.name !== name || this.box !== meant) return // it was moved on meanwhile
      this.error.tell('')
      this.take(answer)
    }, error => this.error.tell(`${name}: not kept. ${error.message}`))
    return this.telling
  }

  // Another shape: around the same middle when it was drawn, else what the tool would cut in it.
  async reshape() {
    const [wide, tall] = this.size.value.split('x').map(Number)
    const { x, y, w, h: high } = this.box, { name } = this
    let box = [x + w / 2, y + high / 2, Math.sqrt(w * high * wide / tall)]
    if (!this.drawn) {
      const found = await ask(`api/crop/proposal?${new URLSearchParams(this.query({ sizes: this.size.value }))}`).catch(error => error)
      if (this.name !== name) return
      if (found instanceof Error) return this.error.tell(found.message)
      const [left, top, right, bottom] = found.cut
      box = [(left + right) / 2, (top + bottom) / 2, right - left]
    }
    this.target = [wide, tall]
    this.put(box[2], box[0], box[1], 0.5, 0.5)
    this.save()
  }

  go(steps) {
    this.choose(this.strip.beside(this.name, steps))
  }
}

customElements.define('likeness-crop', Crop)
