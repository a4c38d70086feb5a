// <likeness-mask folder="/pictures" masks="/pictures/masks">: what is subject and what background in each picture, to be
// corrected with a brush. Without `masks`, masks are those of the folder, or those that the background tool made of it.
// Fires `likeness-redo` (bubbling) when the tool that it belongs to is to make again what has a new mask.
import { address, ask, button, h, newId, notice, press, say } from './tools.js'
import { Easel, limited } from './easel.js'
import { Live } from './live.js'
import { dye, Paint, png, valuesOf, VIEWS } from './paint.js'
import { load, Strip, takesKeys } from './strip.js'

const HELP = 'Paint over the subject, erase over the background; going to another picture, or another tab, saves the mask. Keys: B brush, E eraser, [ and ] size, { and } hardness, Ctrl Z and Ctrl Shift Z undo and redo, I invert, V next view, + and − zoom, 0 whole picture, Page Down and Page Up other pictures, Ctrl S save. The wheel zooms; hold Space, or the middle button, to move the picture; on a touch screen two fingers do both. Shift and a press draw a straight line from where the last stroke ended. Without a mouse: arrows move the brush (with Shift further), Enter paints.'
const TOO_LARGE = 'the mask has too many shades to be sent (4 MB). Paint its edges harder, or make the picture smaller first.'
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }

class Mask extends Live {
  static observedAttributes = ['folder', 'masks']
  shown = ''
  view = 'veil'
  erasing = false
  brush = { size: 40, hardness: 100, opacity: 100 }

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

  hide() {
    super.hide()
    this.kept()
  }

  async open(wanted) {
    if (!await this.kept()) return this.shown = ''
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
    this.error = notice()
    this.none = h('p', { class: 'lk-note', hidden: true }, 'This picture has no mask yet: all of it is background. Paint its subject, or begin with “All subject” and erase. The Background tool makes the masks of all pictures at once.')
    this.canvas = h('canvas')
    this.easel = new Easel('Mask of the picture: paint with the brush')
    this.stage = this.easel.stage
    this.named = h('b', { class: 'lk-name' })
    this.told = h('p', { class: 'lk-told', role: 'status' })
    this.replaceChildren(this.strip.node, this.error, this.none, this.tools(), this.stage,
      h('div', { class: 'lk-row lk-foot' }, this.named, this.told), this.acts(),
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
    const zoom = (sign, name, factor) => button(sign, () => this.easel.zoom(factor), { class: 'lk-button lk-small', 'aria-label': name, title: name })
    const bar = h('div', { class: 'lk-tools' },
      h('fieldset', { class: 'lk-switch', 'aria-label': 'Tool' }, this.kinds.map((input, place) => h('label', {}, input, ['Brush', 'Eraser'][place]))),
      range('size', 1, 400, ' px'), range('hardness', 0, 100, ' %'), range('opacity', 1, 100, ' %'),
      h('div', { class: 'lk-row' }, this.looks, this.compare, zoom('−', 'Zoom out', 1 / 1.25),
        button('Fit', () => this.easel.fit(), { class: 'lk-button lk-small', title: 'Show all of it (0)' }), zoom('+', 'Zoom in', 1.25)))
    this.sized({})
    return bar
  }

  acts() {
    const small = (text, work, title) => button(text, work, { class: 'lk-button', title })
    this.undo = small('Undo', () => this.step('undo'), 'Ctrl Z')
    this.redo = small('Redo', () => this.step('redo'), 'Ctrl Shift Z')
    this.store = button('Save mask', () => press(this.store, () => this.save(), this.error.tell), { class: 'lk-button lk-primary', title: 'Ctrl S' })
    this.again = button('Make the picture again with this mask', () => this.dispatchEvent(new CustomEvent('likeness-redo', { bubbles: true })), { class: 'lk-button', hidden: true })
    this.previous = small('Previous', () => this.go(-1), 'Page Up')
    this.following = small('Next', () => this.go(1), 'Page Down')
    return h('div', { class: 'lk-row lk-foot' }, this.undo, this.redo,
      small('All subject', () => this.all(() => 255)), small('All background', () => this.all(() => 0)), small('Invert', () => this.all(value => 255 - value), 'I'),
      h('span', { class: 'lk-gap' }), this.previous, this.following, this.store, this.again)
  }

  listen() {
    this.stage.addEventListener('pointerdown', event => this.down(event))
    this.stage.addEventListener('pointermove', event => this.moved(event))
    for (const end of ['pointerup', 'pointercancel']) this.stage.addEventListener(end, event => this.up(event))
    this.stage.addEventListener('blur', () => this.holdSpace(false))
    this.onkeydown = event => this.key(event)
    this.onkeyup = event => event.key === ' ' && this.holdSpace(false)
  }

  // What was painted is saved before another picture is shown; false when that fails, and then it stays.
  async kept() {
    if (!this.dirty) return true
    return this.save().then(() => true, error => this.error.tell(`${this.name}: not saved. ${error.message}`))
  }

  async choose(name) {
    if (!name || !await this.kept()) return
    this.name = name
    this.paint = null
    this.strip.select(name)
    this.previous.disabled = !this.strip.beside(name, -1)
    this.following.disabled = !this.strip.beside(name, 1)
    this.again.hidden = this.none.hidden = true
    say(this.named, name)
    say(this.told, 'Reading the picture …')
    try {
      const [image, mask] = await Promise.all([load(this.place.folder, name), this.fetched(name)])
      const { naturalWidth: width, naturalHeight: height } = image
      const values = mask ? await valuesOf(mask, width, height) : undefined
      if (this.name !== name) return
      this.begin(image, new Paint(width, height, values), !!mask)
      this.error.tell('')
    } catch (error) {
      if (this.name !== name) return
      this.easel.show([1, 1])
      say(this.told, '')
      this.error.tell(error.message)
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
    this.painting = false
    this.saved = paint.values.slice()
    this.savedAt = paint.last
    this.there = there
    this.none.hidden = there
    this.tip = null // where the last stroke ended
    const { width, height } = paint
    Object.assign(this.canvas, { width, height })
    image.alt = this.name
    image.draggable = false
    this.easel.show([width, height], image, this.canvas)
    this.sliders.size.input.max = Math.max(100, Math.round(Math.max(width, height) / 3))
    this.sized({ size: Math.max(2, Math.round(Math.max(width, height) / 25)) })
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
    this.easel.brush = this.brush.size
    this.easel.point()
  }

  look(view, old = false) {
    this.view = this.looks.value = view
    this.old = old
    this.compare.setAttribute('aria-pressed', String(old))
    if (this.paint) this.repaint(this.paint.whole)
  }

  repaint(rect) {
    if (rect) dye(this.canvas.getContext('2d'), this.old ? this.saved : this.paint.values, this.paint.width, rect, this.view)
  }

  // Pointers

  down(event) {
    if (!this.paint) return
    event.preventDefault()
    this.stage.focus({ preventScroll: true })
    this.stage.setPointerCapture(event.pointerId)
    const { easel } = this
    easel.pointers.set(event.pointerId, easel.where(event))
    if (easel.pointers.size > 1 || this.space || event.button === 1) { // two fingers, or a hand that moves
      this.repaint(this.paint.cancel())
      this.painting = false
      easel.begin()
    } else if (event.button === 0) this.stroke(easel.inPicture(easel.where(event)), event.shiftKey)
  }

  stroke([x, y], straight) {
    if (this.old) this.look(this.view)
    this.paint.begin({ size: this.brush.size, hardness: this.brush.hardness / 100, opacity: this.brush.opacity / 100, value: this.erasing ? 0 : 255 })
    const [a, b] = straight && this.tip || [x, y]
    this.repaint(this.paint.line(a, b, x, y))
    this.tip = [x, y]
    this.painting = true
  }

  moved(event) {
    if (!this.paint) return
    const { easel } = this, place = easel.where(event)
    easel.ring.hidden = event.pointerType === 'touch' && !this.painting
    easel.point(place)
    if (!easel.pointers.has(event.pointerId)) return
    easel.pointers.set(event.pointerId, place)
    if (this.painting) {
      const seen = event.getCoalescedEvents?.() || [] // all places since the last event, so that curves stay round
      for (const each of seen.length ? seen : [event]) this.on(easel.inPicture(easel.where(each)))
    } else if (easel.held) easel.move()
  }

  on([x, y]) {
    this.repaint(this.paint.line(...this.tip, x, y))
    this.tip = [x, y]
  }

  up(event) {
    if (!this.easel.pointers.delete(event.pointerId) || !this.paint) return
    if (this.painting) {
      this.painting = false
      this.paint.end()
      this.changed()
    }
    this.easel.begin()
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
    if (key === ' ' && event.target === this.stage) this.holdSpace(true)
    else if (!this.letter(key, event.shiftKey)) return
    event.preventDefault()
  }

  letter(key, far) {
    const { size, hardness } = this.brush
    const work = {
      b: () => this.hold(false), e: () => this.hold(true), i: () => this.all(value => 255 - value), v: () => this.look(next(this.view)),
      '[': () => this.sized({ size: Math.min(size - 1, Math.round(size / 1.15)) }), ']': () => this.sized({ size: Math.max(size + 1, Math.round(size * 1.15)) }),
      '{': () => this.sized({ hardness: hardness - 10 }), '}': () => this.sized({ hardness: hardness + 10 }),
      '+': () => this.easel.zoom(1.25), '=': () => this.easel.zoom(1.25), '-': () => this.easel.zoom(1 / 1.25), 0: () => this.easel.fit(),
      PageDown: () => this.go(1), PageUp: () => this.go(-1), Enter: () => this.dab(), ...Object.fromEntries(Object.entries(MOVES).map(([arrow, way]) => [arrow, () => this.nudge(way, far)])),
    }[key]
    work?.()
    return work
  }

  hold(erasing) {
    this.erasing = erasing
    this.kinds[+erasing].checked = true
  }

  holdSpace(held) {
    this.space = held
    this.stage.classList.toggle('lk-hand', held)
  }

  // The brush goes a quarter of its size, or all of it.
  nudge(way, far) {
    this.easel.nudge(way, Math.max(1, this.brush.size * this.easel.scale * (far ? 1 : 0.25)))
  }

  dab() {
    if (this.easel.ring.hidden) return this.nudge([0, 0])
    this.stroke(this.easel.inPicture(this.easel.pointed))
    this.painting = false
    this.paint.end()
    this.changed()
  }

  // Changes of all of it, and saving

  all(change) {
    if (!this.paint || this.painting) return
    this.paint.all(change)
    this.look(this.view)
    this.changed()
  }

  step(way) {
    if (!this.paint || this.painting) return
    const rect = this.paint[way]()
    if (this.old) this.look(this.view)
    else this.repaint(rect)
    this.changed()
  }

  async save() {
    const { paint, name, place } = this, values = paint.values.slice(), at = paint.last
    await ask('api/mask', { ...place, name, png: await png(values, paint.width, paint.height) }).catch(error => {
      throw error.status === 413 ? new Error(`${name}: ${TOO_LARGE}`) : error
    })
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
}

const next = view => Object.keys(VIEWS)[(Object.keys(VIEWS).indexOf(view) + 1) % Object.keys(VIEWS).length]

customElements.define('likeness-mask', Mask)
