// <likeness-mask folder="/pictures" masks="/pictures/masks">: what is subject and what background in each picture, to be
// corrected with a brush. Without `masks`, masks are those of the folder, or those that the background tool made of it.
// Fires `likeness-redo` with {folder, name} on the window when a picture is to be made again with its new mask.
import { address, ask, button, count, h, newId, press, say } from './tools.js'
import { Live } from './live.js'
import { dye, Paint, png, valuesOf, VIEWS } from './paint.js'
import { load, Strip, takesKeys } from './strip.js'

const ZOOMS = [0.02, 32]
const HELP = 'Paint over the subject, erase over the background. Keys: B brush, E eraser, [ and ] size, { and } hardness, Ctrl Z and Ctrl Shift Z undo and redo, I invert, V next view, + and − zoom, 0 whole picture, Page Down and Page Up other pictures, Ctrl S save. The wheel zooms; hold Space, or the middle button, to move the picture; on a touch screen two fingers do both. Shift and a press draw a straight line from where the last stroke ended. Without a mouse: arrows move the brush (with Shift further), Enter paints.'
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }
const limited = (value, low, high) => Math.max(low, Math.min(value, high))

class Mask extends Live {
  static observedAttributes = ['folder', 'masks']
  shown = ''
  view = 'veil'
  erasing = false
  brush = { size: 40, hardness: 100, opacity: 100 }
  pointers = new Map()

  attributeChangedCallback() {
    if (this.seen) this.show()
  }

  show() {
    const leave = event => this.dirty && event.preventDefault()
    addEventListener('beforeunload', leave)
    this.ends.push(() => removeEventListener('beforeunload', leave))
    const wanted = JSON.stringify(Mask.observedAttributes.map(name => this.getAttribute(name)))
    if (wanted === this.shown) return
    this.shown = wanted
    this.open(wanted)
  }

  async open(wanted) {
    if (!await this.kept()) return
    const [folder, masks] = Mask.observedAttributes.map(name => this.getAttribute(name) || '')
    this.place = { folder, ...(masks && { masks }) }
    if (!folder) return this.empty('Choose a folder of pictures above: the masks of its pictures are corrected here.')
    this.empty('Reading the folder …')
    const found = await ask(`api/mask/list?${new URLSearchParams(this.place)}`).catch(error => error)
    if (wanted !== this.shown) return
    if (found instanceof Error) return this.empty(found.message, 'lk-note lk-bad')
    if (!found.pictures.length) return this.empty('No pictures lie in this folder.')
    this.build()
    this.strip.fill(folder, found.pictures, new Set(found.masked), 'has a mask')
    this.choose(found.pictures[0])
  }

  empty(words, kind = 'lk-empty') {
    this.paint = null
    this.replaceChildren(h('p', { class: kind, role: 'status' }, words))
  }

  build() {
    this.strip = new Strip(name => this.choose(name))
    this.error = h('p', { class: 'lk-note lk-bad', role: 'alert', hidden: true })
    this.none = h('p', { class: 'lk-note', hidden: true }, 'This picture has no mask yet: all of it is background. Paint its subject, or begin with “All subject” and erase. The Background tool makes the masks of all pictures at once.')
    this.canvas = h('canvas')
    this.sheet = h('div', { class: 'lk-sheet' })
    this.ring = h('div', { class: 'lk-ring', hidden: true })
    this.stage = h('div', { class: 'lk-stage lk-easel', tabindex: 0, role: 'application', 'aria-label': 'Mask of the picture: paint with the brush' }, this.sheet, this.ring)
    this.title = h('b', { class: 'lk-name' })
    this.told = h('p', { class: 'lk-told', role: 'status' })
    this.replaceChildren(this.strip.node, this.error, this.none, this.tools(), this.stage,
      h('div', { class: 'lk-row lk-foot' }, this.title, this.told), this.acts(),
      h('details', { class: 'lk-keys' }, h('summary', {}, 'How to use it'), h('p', { class: 'lk-soft' }, HELP)))
    this.listen()
  }

  tools() {
    const kind = newId()
    this.kinds = ['Brush', 'Eraser'].map((name, place) => h('input', { type: 'radio', name: kind, checked: !place, onchange: () => { this.erasing = !!place } }))
    const range = (name, min, max, unit) => {
      const value = h('output')
      const input = h('input', { type: 'range', min, max, oninput: () => this.sized({ [name]: +input.value }) })
      this.sliders[name] = { input, value, unit }
      return h('label', { class: 'lk-slider' }, h('span', {}, name[0].toUpperCase() + name.slice(1)), input, value)
    }
    this.sliders = {}
    this.looks = h('select', { class: 'lk-select lk-small', 'aria-label': 'View', onchange: () => this.look(this.looks.value) },
      Object.entries(VIEWS).map(([key, { name }]) => h('option', { value: key }, name)))
    this.compare = button('Before', () => this.look(this.view, !this.old), { class: 'lk-button lk-small', 'aria-pressed': 'false', title: 'As it was when it was opened or saved last' })
    const zoom = (sign, name, factor) => button(sign, () => this.zoom(factor), { class: 'lk-button lk-small', 'aria-label': name, title: name })
    const bar = h('div', { class: 'lk-tools' },
      h('fieldset', { class: 'lk-switch', 'aria-label': 'Tool' }, this.kinds.map((input, place) => h('label', {}, input, ['Brush', 'Eraser'][place]))),
      range('size', 1, 400, ' px'), range('hardness', 0, 100, ' %'), range('opacity', 1, 100, ' %'),
      h('div', { class: 'lk-row' }, this.looks, this.compare, zoom('−', 'Zoom out', 1 / 1.25),
        button('Fit', () => this.fit(), { class: 'lk-button lk-small', title: 'Show all of it (0)' }), zoom('+', 'Zoom in', 1.25)))
    this.sized({})
    return bar
  }

  acts() {
    const small = (text, work, title) => button(text, work, { class: 'lk-button', title })
    this.undo = small('Undo', () => this.step('undo'), 'Ctrl Z')
    this.redo = small('Redo', () => this.step('redo'), 'Ctrl Shift Z')
    this.store = button('Save mask', () => press(this.store, () => this.save(), words => this.fail(words)), { class: 'lk-button lk-primary', title: 'Ctrl S' })
    this.again = button('Make the picture again with this mask', () => {
      dispatchEvent(new CustomEvent('likeness-redo', { detail: { folder: this.place.folder, name: this.name } }))
    }, { class: 'lk-button', hidden: true })
    this.before = small('Previous', () => this.go(-1), 'Page Up')
    this.after = small('Next', () => this.go(1), 'Page Down')
    return h('div', { class: 'lk-row lk-foot' }, this.undo, this.redo,
      small('All subject', () => this.all(() => 255)), small('All background', () => this.all(() => 0)), small('Invert', () => this.all(value => 255 - value), 'I'),
      h('span', { class: 'lk-gap' }), this.before, this.after, this.store, this.again)
  }

  listen() {
    this.stage.addEventListener('pointerdown', event => this.down(event))
    this.stage.addEventListener('pointermove', event => this.moved(event))
    for (const end of ['pointerup', 'pointercancel']) this.stage.addEventListener(end, event => this.up(event))
    this.stage.addEventListener('pointerleave', () => { this.ring.hidden = true })
    this.stage.addEventListener('wheel', event => {
      event.preventDefault()
      const seen = this.stage.getBoundingClientRect()
      this.zoom(Math.exp(-limited(event.deltaY, -100, 100) / 400), event.clientX - seen.left, event.clientY - seen.top)
    }, { passive: false })
    const size = new ResizeObserver(() => this.paint && this.fitted && this.fit())
    size.observe(this.stage)
    this.onkeydown = event => this.key(event)
    this.onkeyup = event => this.holdSpace(event, false)
  }

  // What was painted is saved before another picture is shown; false when that fails, and then it stays.
  async kept() {
    if (!this.dirty) return true
    return this.save().then(() => true, error => this.fail(`${this.name}: not saved. ${error.message}`))
  }

  async choose(name) {
    if (!name || !await this.kept()) return
    this.name = name
    this.paint = null
    this.strip.select(name)
    this.before.disabled = !this.strip.beside(name, -1)
    this.after.disabled = !this.strip.beside(name, 1)
    this.again.hidden = this.none.hidden = true
    say(this.title, name)
    say(this.told, 'Reading the picture …')
    try {
      const [image, mask] = await Promise.all([load(this.place.folder, name), this.fetched(name)])
      const { naturalWidth: width, naturalHeight: height } = image
      const values = mask ? await valuesOf(mask, width, height) : undefined
      if (this.name !== name) return
      this.begin(image, new Paint(width, height, values), !!mask)
      this.fail('')
    } catch (error) {
      if (this.name !== name) return
      this.sheet.replaceChildren()
      say(this.told, '')
      this.fail(error.message)
    }
  }

  // The file of a mask, null when there is none.
  async fetched(name) {
    const answer = await fetch(address(`api/mask?${new URLSearchParams({ ...this.place, name })}`))
    if (answer.ok) return answer.blob()
    if (answer.status === 404) return null
    throw new Error((await answer.json().catch(() => ({}))).error || `The server answered ${answer.status}.`)
  }

  begin(image, paint, there) {
    this.paint = paint
    this.saved = paint.values.slice()
    this.savedAt = paint.last
    this.there = there
    this.none.hidden = there
    this.tip = null // where the last stroke ended
    const { width, height } = paint
    Object.assign(this.canvas, { width, height })
    Object.assign(this.sheet.style, { width: `${width}px`, height: `${height}px` })
    image.alt = this.name
    image.draggable = false
    this.sheet.replaceChildren(image, this.canvas)
    this.sliders.size.input.max = Math.max(100, Math.round(Math.max(width, height) / 3))
    this.sized({ size: Math.max(2, Math.round(Math.max(width, height) / 25)) })
    this.old = false
    this.fit()
    this.look(this.view)
    this.changed()
  }

  get dirty() {
    return !!this.paint && this.paint.last !== this.savedAt
  }

  changed() {
    const { paint } = this
    this.undo.disabled = !paint.at
    this.redo.disabled = paint.at === paint.steps.length
    this.store.disabled = !this.dirty && this.there
    if (this.dirty) this.again.hidden = true
    let inside = 0
    for (const value of paint.values) inside += value > 127
    say(this.told, `${paint.width} × ${paint.height} pixels, ${Math.round(100 * inside / paint.values.length)} % subject${this.dirty ? ', not saved' : ''}`)
  }

  sized(more) {
    Object.assign(this.brush, more)
    for (const [name, { input, value, unit }] of Object.entries(this.sliders)) {
      this.brush[name] = limited(this.brush[name], +input.min, +input.max)
      input.value = this.brush[name]
      say(value, `${this.brush[name]}${unit}`)
    }
    this.circle()
  }

  look(view, old = false) {
    this.view = this.looks.value = view
    this.old = old
    this.compare.setAttribute('aria-pressed', String(old))
    if (this.paint) this.show_(this.paint.whole)
  }

  show_(rect) {
    if (rect) dye(this.canvas.getContext('2d'), this.old ? this.saved : this.paint.values, this.paint.width, rect, this.view)
  }

  // Zoom and place

  fit() {
    if (!this.paint) return
    const { clientWidth, clientHeight } = this.stage, { width, height } = this.paint
    const scale = Math.min(clientWidth / width, clientHeight / height)
    this.lay(scale, (clientWidth - width * scale) / 2, (clientHeight - height * scale) / 2)
    this.fitted = true
  }

  zoom(factor, x = this.stage.clientWidth / 2, y = this.stage.clientHeight / 2) {
    if (!this.paint) return
    const scale = limited(this.at.scale * factor, ...ZOOMS), by = scale / this.at.scale
    this.lay(scale, x - (x - this.at.x) * by, y - (y - this.at.y) * by)
  }

  // Some of the picture always stays in sight.
  lay(scale, x, y) {
    const { clientWidth, clientHeight } = this.stage, { width, height } = this.paint, rest = 40
    this.at = { scale, x: limited(x, rest - width * scale, clientWidth - rest), y: limited(y, rest - height * scale, clientHeight - rest) }
    this.fitted = false
    this.sheet.style.transform = `translate(${this.at.x}px, ${this.at.y}px) scale(${scale})`
    this.sheet.classList.toggle('lk-grain', scale >= 3)
    this.circle()
  }

  // The ring is as large as the brush, where the pointer is.
  circle(x = this.hover?.[0], y = this.hover?.[1]) {
    if (!this.at || x === undefined) return
    this.hover = [x, y]
    const wide = Math.max(4, this.brush.size * this.at.scale)
    Object.assign(this.ring.style, { width: `${wide}px`, height: `${wide}px`, transform: `translate(${x - wide / 2}px, ${y - wide / 2}px)` })
  }

  // Pointers

  where(event) {
    const seen = this.stage.getBoundingClientRect()
    return [event.clientX - seen.left, event.clientY - seen.top]
  }

  inPicture([x, y]) {
    return [(x - this.at.x) / this.at.scale, (y - this.at.y) / this.at.scale]
  }

  down(event) {
    if (!this.paint) return
    event.preventDefault()
    this.stage.focus({ preventScroll: true })
    this.stage.setPointerCapture(event.pointerId)
    this.pointers.set(event.pointerId, this.where(event))
    if (this.pointers.size > 1 || this.space || event.button === 1) { // two fingers, or a hand that moves
      this.show_(this.paint.cancel())
      this.painting = false
      this.hand = this.grip()
    } else if (event.button === 0) this.stroke(this.inPicture(this.where(event)), event.shiftKey)
  }

  // The middle of all pointers and how far they are apart.
  grip() {
    const all = [...this.pointers.values()], middle = [0, 1].map(side => all.reduce((sum, place) => sum + place[side], 0) / all.length)
    return { x: middle[0], y: middle[1], wide: all.length > 1 ? Math.max(1, Math.hypot(all[0][0] - all[1][0], all[0][1] - all[1][1])) : 1 }
  }

  stroke([x, y], straight) {
    if (this.old) this.look(this.view)
    this.paint.begin({ size: this.brush.size, hardness: this.brush.hardness / 100, opacity: this.brush.opacity / 100, value: this.erasing ? 0 : 255 })
    const [a, b] = straight && this.tip || [x, y]
    this.show_(this.paint.line(a, b, x, y))
    this.tip = [x, y]
    this.painting = true
  }

  moved(event) {
    if (!this.paint) return
    const place = this.where(event)
    this.ring.hidden = event.pointerType === 'touch' && !this.painting
    this.circle(...place)
    if (!this.pointers.has(event.pointerId)) return
    this.pointers.set(event.pointerId, place)
    if (this.painting) {
      const seen = event.getCoalescedEvents?.() || []
      for (const each of seen.length ? seen : [event]) this.on(this.inPicture(this.where(each)))
    } else if (this.hand) {
      const { x, y, wide } = this.hand, now = this.grip()
      this.zoom(now.wide / wide, x, y)
      this.lay(this.at.scale, this.at.x + now.x - x, this.at.y + now.y - y)
      this.hand = now
    }
  }

  on([x, y]) {
    this.show_(this.paint.line(...this.tip, x, y))
    this.tip = [x, y]
  }

  up(event) {
    if (!this.pointers.delete(event.pointerId) || !this.paint) return
    if (this.painting) {
      this.painting = false
      this.paint.end()
      this.changed()
    }
    this.hand = this.pointers.size ? this.grip() : null
  }

  // Keys

  key(event) {
    if (!this.paint || event.altKey) return
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key
    if (event.ctrlKey || event.metaKey) {
      const work = { z: () => this.step(event.shiftKey ? 'redo' : 'undo'), y: () => this.step('redo'), s: () => this.store.click() }[key]
      if (!work) return
      event.preventDefault()
      return work()
    }
    if (takesKeys(event.target, event.key)) return
    if (key === ' ' && event.target === this.stage) this.holdSpace(event, true)
    else if (!this.letter(key, event.shiftKey)) return
    event.preventDefault()
  }

  letter(key, far) {
    const { size, hardness } = this.brush
    const work = {
      b: () => this.hold(false), e: () => this.hold(true), i: () => this.all(value => 255 - value), v: () => this.look(next(this.view)),
      '[': () => this.sized({ size: Math.min(size - 1, Math.round(size / 1.15)) }), ']': () => this.sized({ size: Math.max(size + 1, Math.round(size * 1.15)) }),
      '{': () => this.sized({ hardness: hardness - 10 }), '}': () => this.sized({ hardness: hardness + 10 }),
      '+': () => this.zoom(1.25), '=': () => this.zoom(1.25), '-': () => this.zoom(1 / 1.25), 0: () => this.fit(),
      PageDown: () => this.go(1), PageUp: () => this.go(-1), Enter: () => this.dab(), ...Object.fromEntries(Object.entries(MOVES).map(([arrow, way]) => [arrow, () => this.nudge(way, far)])),
    }[key]
    work?.()
    return work
  }

  hold(erasing) {
    this.erasing = erasing
    this.kinds[+erasing].checked = true
  }

  holdSpace(event, held) {
    if (event.key !== ' ') return
    this.space = held
    this.stage.classList.toggle('lk-hand', held)
  }

  // The brush moved by keys: a quarter of it, or all of it.
  nudge([x, y], far) {
    const step = Math.max(1, this.brush.size * this.at.scale * (far ? 1 : 0.25))
    const [a, b] = this.hover || [this.stage.clientWidth / 2, this.stage.clientHeight / 2]
    this.ring.hidden = false
    this.circle(limited(a + x * step, 0, this.stage.clientWidth), limited(b + y * step, 0, this.stage.clientHeight))
  }

  dab() {
    if (this.ring.hidden) return this.nudge([0, 0])
    this.stroke(this.inPicture(this.hover))
    this.painting = false
    this.paint.end()
    this.changed()
  }

  // Changes of all of it, and saving

  all(change) {
    if (!this.paint) return
    this.paint.all(change)
    this.look(this.view)
    this.changed()
  }

  step(way) {
    if (!this.paint || this.painting) return
    const rect = this.paint[way]()
    if (this.old) this.look(this.view)
    else this.show_(rect)
    this.changed()
  }

  async save() {
    const { paint, name, place } = this, values = paint.values.slice(), at = paint.last
    await ask('api/mask', { ...place, name, png: await png(values, paint.width, paint.height) })
    this.strip.mark(name, true)
    if (this.paint !== paint) return
    this.saved = values
    this.savedAt = at
    this.there = this.none.hidden = true
    this.changed()
    this.again.hidden = this.dirty
  }

  go(steps) {
    this.choose(this.strip.beside(this.name, steps))
  }

  fail(words) {
    say(this.error, words)
    this.error.hidden = !words
  }
}

const next = view => Object.keys(VIEWS)[(Object.keys(VIEWS).indexOf(view) + 1) % Object.keys(VIEWS).length]

customElements.define('likeness-mask', Mask)
