// <likeness-tool job="images.resize">: the form of a tool, made of its options, with its start button and its newest
// run. The folder that was worked on last, with any tool, stands in the next one too.
// hand="likeness-crop", hand-title: an element for work by hand on the same pictures, and what it is called.
import { choose } from './browse.js'
import { dataFolder, workOn } from './folder.js'
import { sides, slider } from './inputs.js'
import { Live, refresh } from './live.js'
import { ask, button, h, newId, notice, press, say } from './tools.js'

export class Tool extends Live {
  show() {
    this.drawn ||= this.draw()
    const folder = this.boxes?.get('folder')
    if (folder && dataFolder() && folder.value !== dataFolder()) {
      this.write('folder', dataFolder())
      this.lead()
    }
  }

  get job() {
    return this.getAttribute('job')
  }

  get source() {
    return `api/tools/${this.job}`
  }

  async draw() {
    const form = await ask(this.source).catch(error => {
      this.replaceChildren(h('p', { class: 'lk-note lk-bad', role: 'alert' }, error.message))
      this.drawn = null
    })
    if (!form) return
    this.fields = new Map(form.groups.flatMap(({ fields }) => fields.map(field => [field.name, field])))
    this.boxes = new Map()
    this.rows = new Map()
    this.told = notice()
    this.build(form)
    if (dataFolder()) this.write('folder', dataFolder())
    this.settle()
    this.lead()
  }

  build(form) {
    const groups = form.groups.map(({ title, fields }) => {
      const grid = this.grid(fields, form.values)
      return title ? h('details', { class: 'lk-fold' }, h('summary', {}, title), grid) : grid
    })
    const start = button(form.start, () => press(start, () => this.start(), words => this.tell(words)), { class: 'lk-button lk-primary' })
    this.form = h('form', { class: 'lk-tool', onsubmit: event => event.preventDefault(), oninput: () => this.settle() },
      groups, this.told, h('div', { class: 'lk-row' }, start, button('Back to the defaults', () => this.reset(), { class: 'lk-button' })))
    this.task = h('likeness-task', { job: this.job })
    this.replaceChildren(h('section', { class: 'lk-card' }, this.form), this.task, this.byHand())
  }

  grid(fields, values) {
    return h('div', { class: 'lk-fields' }, fields.map(field => this.row(field, values[field.name])))
  }

  // The element for work by hand is told of the fields that it knows.
  byHand() {
    if (!this.hasAttribute('hand')) return ''
    this.hand = h(this.getAttribute('hand'))
    this.hand.addEventListener('likeness-redo', () => this.start().catch(error => this.tell(error.message))) // what is made already stays
    this.form.addEventListener('change', () => this.lead())
    return h('details', { class: 'lk-fold lk-job' }, h('summary', {}, this.getAttribute('hand-title')), this.hand)
  }

  async lead() {
    if (!this.hand) return
    await customElements.whenDefined(this.hand.localName)
    this.hand.parentNode.hidden = this.boxes.get('buckets')?.checked // then the shapes are not known beforehand
    for (const name of customElements.get(this.hand.localName).observedAttributes) {
      if (this.boxes.has(name)) this.hand.setAttribute(name, this.read(name).trim())
    }
  }

  // One field: its label, what is written, its help, and what is wrong with it.
  row(field, value) {
    const id = newId(), help = newId()
    const common = { id, 'aria-describedby': help, 'data-name': field.name }
    const box = field.kind === 'check' ? h('input', { type: 'checkbox', ...common })
      : field.kind === 'choice' ? h('select', common, field.choices.map(word => h('option', { value: word }, word)))
        : field.kind === 'lines' || field.kind === 'long' ? h('textarea', { rows: field.kind === 'long' ? 3 : 2, spellcheck: 'false', ...common })
          : h('input', { type: field.kind === 'colour' ? 'color' : 'text', autocomplete: 'off', spellcheck: 'false', inputmode: field.kind === 'number' ? 'decimal' : null, ...common })
    const beside = this.beside(field, box)
    this.boxes.set(field.name, box)
    this.write(field.name, value)
    const words = [field.help, field.today && `“${field.today}” in the Kohya GUI.`].filter(Boolean).join(' ').split('`').map((text, place) => place % 2 ? h('code', {}, text) : text)
    const label = h('label', { for: id }, field.label)
    const below = h('p', { class: 'lk-help', id: help }, words, field.key && h('code', {}, ` ${field.key}`))
    const line = h('div', { class: 'lk-line' }, beside, box, field.path && button('Browse', () => this.browse(field), { class: 'lk-button lk-small', 'aria-label': `Browse for ${field.label}` }))
    const row = h('div', { class: `lk-field lk-field-${field.kind}` }, field.kind === 'check' ? h('div', { class: 'lk-line' }, box, label) : [label, this.offers(field, box), line], below, h('p', { class: 'lk-wrong', hidden: true }))
    this.rows.set(field.name, row)
    return row
  }

  // What stands before a field's box, and writes into it.
  beside(field, box) {
    return field.kind === 'sides' ? sides(box) : field.range ? slider(field, box) : null
  }

  // A list to choose from, above a box where anything may be written; an offer is a word, or a word and what it means.
  offers(field, box) {
    if (!field.offers.length) return null
    const own = field.kind === 'lines' ? 'Several, or one of your own:' : 'Another:'
    const offers = [...field.offers, own].map(one => Array.isArray(one) ? one : [one, one])
    const list = h('select', { 'aria-label': field.label }, offers.map(([word, value]) => h('option', { value }, word)))
    const meet = () => {
      list.value = offers.some(([, value]) => value === box.value) ? box.value : own
      box.parentNode.hidden = list.value !== own
    }
    list.addEventListener('change', () => {
      if (list.value !== own) box.value = list.value
      box.parentNode.hidden = list.value !== own
      if (list.value === own) box.focus()
    })
    box.meet = meet
    queueMicrotask(meet)
    return list
  }

  write(name, value) {
    const box = this.boxes.get(name)
    if (!box) return
    if (box.type === 'checkbox') box.checked = Boolean(value)
    else box.value = value ?? ''
    box.meet?.()
  }

  read(name) {
    const box = this.boxes.get(name)
    return box.type === 'checkbox' ? box.checked : box.value
  }

  // Shows the fields that count beside the others.
  settle() {
    for (const [name, { when }] of this.fields) {
      if (!when) continue
      const value = this.read(when.name)
      this.rows.get(name).hidden = when.values.length ? !when.values.includes(value) : !value
    }
    if (this.boxes.has('folder')) workOn(this.read('folder').trim())
  }

  async browse(field) {
    const before = field.kind === 'lines' ? this.read(field.name).split('\n').filter(Boolean) : []
    const path = await choose({ title: field.label, kind: field.path, ends: field.ends, start: before.at(-1) || this.read(field.name) })
    if (!path) return
    this.write(field.name, [...before, path].join('\n'))
    this.settle()
    this.lead()
  }

  reset() {
    for (const { name, default: value } of this.fields.values()) if (name !== 'folder') this.write(name, value)
    this.settle()
    this.tell('')
  }

  // What stands in the boxes that count.
  values() {
    return Object.fromEntries([...this.fields.keys()].filter(name => !this.rows.get(name).hidden).map(name => [name, this.read(name)]))
  }

  async start() {
    const { id } = await ask(`api/tools/${this.job}`, { values: this.values() })
    refresh('api/tools')
    this.task.setAttribute('run', id)
    setTimeout(() => this.task.scrollIntoView({ block: 'nearest', behavior: 'smooth' }), 300)
  }

  // Each line of a refusal at the field that it begins with; the others above the button.
  tell(words) {
    const general = []
    for (const row of this.rows.values()) this.wrong(row, '')
    for (const line of words.split('\n').filter(Boolean)) {
      const [name, ...rest] = line.split(': ')
      const named = this.isOpen(name) ? name : [...this.fields.keys()].findLast(each => this.isOpen(each) && line.split(/\W+/).includes(each))
      const row = this.rows.get(named)
      if (!row) general.push(line)
      else {
        this.wrong(row, named === name ? rest.join(': ').replace(` (${this.fields.get(name).help})`, '') : line) // its help stands above
        row.closest('details')?.setAttribute('open', '')
      }
    }
    this.told.tell(general.join(' '))
    this.form.querySelector('[aria-invalid]')?.focus()
  }

  isOpen(name) {
    return this.rows.get(name)?.hidden === false
  }

  wrong(row, words) {
    const line = row.querySelector('.lk-wrong'), box = row.querySelector('[data-name]')
    say(line, words)
    line.hidden = !words
    if (words) box.setAttribute('aria-invalid', 'true')
    else box.removeAttribute('aria-invalid')
  }
}

customElements.define('likeness-tool', Tool)
