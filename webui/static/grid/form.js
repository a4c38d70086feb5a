// <likeness-grid-form>: what a grid is drawn of, with a type and values for each axis, counted while it is written.
// Tells `likeness-drawn` (bubbling, detail: the folder) when one was started.
import { choose } from '../browse.js'
import { loras } from '../generate/loras.js'
import { Tool } from '../tool.js'
import { ask, button, clock, count, duration, h, has, notice, press, say } from '../tools.js'

const REST = 400 // ms after which what is written is counted
const SIDES = ['x', 'y', 'z']
const FILES = { checkpoint: ['.safetensors'], base: ['.safetensors', '.ckpt'] } // types whose values are files
const SEEDS = 2 ** 32

class Form extends Tool {
  axes = new Map()

  get source() {
    return 'api/grids/form'
  }

  build(form) {
    this.kinds = new Map(form.kinds.map(each => [each.kind, each]))
    this.runs = form.runs
    const parts = form.groups.map(({ title, fields }) => {
      const grid = this.grid(fields, form.values)
      if (title === 'Axes') return h('div', { class: 'lg-axes' }, SIDES.map(side => this.axis(side)))
      return title ? h('details', { class: 'lk-fold' }, h('summary', {}, title), grid) : grid
    })
    this.sum = h('p', { class: 'lg-sum', role: 'status' })
    this.target = h('p', { class: 'lk-note', hidden: true })
    const start = button(form.start, () => press(start, () => this.start(), words => this.tell(words)), { class: 'lk-button lk-primary', title: 'Ctrl+Enter' })
    this.form = h('form', {
      class: 'lk-tool', onsubmit: event => event.preventDefault(), oninput: () => this.changed(), onchange: () => this.changed(),
      onkeydown: event => event.key === 'Enter' && (event.ctrlKey || event.metaKey) && !start.disabled && start.click(),
    }, parts, this.target, this.told, h('div', { class: 'lk-row lg-start' }, start, button('Back to the defaults', () => this.reset(), { class: 'lk-button' }), this.sum))
    this.replaceChildren(this.form)
    this.boxes.get('loras').look()
    this.changed()
  }

  beside(field, box) {
    return field.name === 'loras' ? loras(field, box) : super.beside(field, box)
  }

  row(field, value) {
    const row = super.row(field, value)
    if (field.name === 'seed') {
      const random = () => this.put('seed', String(Math.floor(Math.random() * SEEDS)))
      row.querySelector('.lk-line').append(button('Random', random, { class: 'lk-button lk-small', 'aria-label': 'Random seed' }))
    }
    return row
  }

  // The type of an axis, its values, and what helps to write them.
  axis(side) {
    const name = `${side}.values`, kind = this.boxes.get(`${side}.kind`), row = this.rows.get(name)
    for (const option of kind.options) say(option, this.kinds.get(option.value).label)
    const fill = button('Fill', () => press(fill, () => this.fill(side), words => this.wrong(row, words)), { class: 'lk-button lk-small', 'aria-label': `Fill the values of ${side.toUpperCase()}` })
    const files = button('Add a file', () => this.addFile(side), { class: 'lk-button lk-small', 'aria-label': `Add a file to ${side.toUpperCase()}` })
    const run = h('select', { class: 'lk-select lk-small', 'aria-label': `Add a run to ${side.toUpperCase()}`, onchange: () => this.addRun(side, run) },
      h('option', { value: '' }, 'Add a run …'),
      this.runs.map(each => h('option', { value: each.folder }, `${each.name}, ${count(each.files, 'file')}, ${clock(each.created)}`)))
    const places = h('p', { class: 'lk-help lg-places' })
    const helps = h('div', { class: 'lk-row' }, run, files, fill)
    row.append(helps, places)
    this.axes.set(side, { kind, run, files, fill, places, hint: row.querySelector('.lk-help') })
    return h('fieldset', { class: 'lg-axis' }, h('legend', { class: 'lk-hidden' }, `${side.toUpperCase()} axis`), this.rows.get(`${side}.kind`), row)
  }

  settle() {
    super.settle()
    for (const [side, { kind, run, files, fill, hint }] of this.axes) {
      const type = this.kinds.get(kind.value)
      this.rows.get(`${side}.values`).hidden = kind.value === 'none'
      say(hint, type.hint && `${type.hint}.`)
      run.hidden = kind.value !== 'checkpoint' || !this.runs.length
      files.hidden = !FILES[kind.value]
      fill.hidden = kind.value === 'prompt'
    }
  }

  put(name, value) {
    this.write(name, value)
    this.changed()
  }

  add(side, text) {
    const before = this.read(`${side}.values`).trim()
    this.put(`${side}.values`, before ? `${before}\n${text}` : text)
  }

  async fill(side) {
    const kind = this.read(`${side}.kind`), { values } = await ask('api/grids/fill', { kind, values: this.read(`${side}.values`).split('\n').filter(line => line.trim()) })
    if (!values.length) throw new Error('Nothing is there to choose from: train a LoRA first, or add a file.')
    this.put(`${side}.values`, values.join('\n'))
  }

  async addFile(side) {
    const kind = this.read(`${side}.kind`), path = await choose({ title: this.kinds.get(kind).label, kind: 'file', ends: FILES[kind] })
    if (path) this.add(side, path)
  }

  // A run brings its base model, and a prompt where there is none.
  addRun(side, list) {
    const run = this.runs.find(each => each.folder === list.value)
    list.value = ''
    if (!run) return
    if (run.base) this.write('base', run.base)
    if (!this.read('prompt').trim()) this.write('prompt', run.prompt)
    this.add(side, run.folder)
  }

  // What is written in an earlier grid, to be changed; drawn in its folder, where what is there is not drawn again.
  take(values, folder) {
    for (const [name, value] of Object.entries(values)) this.write(name, value)
    this.write('out', folder)
    this.changed()
    this.form.querySelector('textarea').focus()
    this.scrollIntoView({ block: 'start', behavior: 'smooth' })
  }

  changed() {
    this.settle()
    const out = this.read('out').trim()
    this.target.hidden = !out
    if (out) {
      this.target.replaceChildren(`It is drawn in ${out.split('/').at(-1)}: what is there already is kept, and its votes too. `,
        button('As a new grid', () => this.put('out', ''), { class: 'lk-link' }))
    }
    clearTimeout(this.resting)
    this.resting = setTimeout(() => this.count(), REST)
  }

  // The sum before the start; what is wrong is said at its field, unless that is still empty.
  async count() {
    const asked = this.asked = {}
    this.sum.classList.add('lg-old')
    const found = await ask('api/grids/count', { values: this.values() }).catch(error => error)
    if (asked !== this.asked) return // written on meanwhile
    this.sum.classList.remove('lg-old')
    const failed = found instanceof Error
    for (const [side, { places }] of this.axes) {
      const labels = !failed && found.labels[side] || []
      say(places, labels.length ? `${labels.length}: ${labels.slice(0, 12).join(' · ')}${labels.length > 12 ? ' …' : ''}` : '')
    }
    if (!failed) {
      this.mark('')
      this.boxes.get('size').made(found.side) // what an empty box takes
      return say(this.sum, [sum(found), ...found.notes].join(' '))
    }
    const empty = SIDES.filter(side => this.read(`${side}.kind`) !== 'none' && !this.read(`${side}.values`).trim())
    const lines = error(found).filter(line => !empty.some(side => line.startsWith(`${side}.values: `)))
    const rest = this.mark(lines.join('\n'))
    say(this.sum, empty.length ? `${empty.map(side => side.toUpperCase()).join(' and ')} ${empty.length > 1 ? 'have' : 'has'} no values yet.` : rest.join(' ') || 'Something is not right yet: see the fields above.')
  }

  // Each line at the field with which it begins; gives the others.
  mark(words) {
    const rest = []
    for (const row of this.rows.values()) this.wrong(row, '')
    for (const line of words.split('\n').filter(Boolean)) {
      const [name, ...said] = line.split(': ')
      if (this.isOpen(name)) this.wrong(this.rows.get(name), said.join(': '))
      else rest.push(line)
    }
    return rest
  }

  tell(words) {
    const rest = this.mark(words)
    this.told.tell(rest.join(' '))
    const bad = this.form.querySelector('[aria-invalid]')
    bad?.closest('details')?.setAttribute('open', '')
    bad?.focus()
  }

  reset() {
    super.reset()
    this.changed()
  }

  async start() {
    this.asked = null
    const { folder } = await ask('api/grids', { values: this.values() })
    this.put('out', '')
    this.dispatchEvent(new CustomEvent('likeness-drawn', { bubbles: true, detail: folder }))
  }
}

const error = found => found.message.split('\n')

function sum({ sides, reference, pictures, new: more, same, seconds }) {
  const places = sides.filter(many => many > 1).join(' × ') || '1', there = has(more) ? pictures - same - more : 0
  const words = [reference ? `${places} + ${reference} reference = ${count(pictures, 'picture')}` : `${sides.filter(many => many > 1).length > 1 ? `${places} = ` : ''}${count(pictures, 'picture')}`]
  if (same) words.push(`${pictures - same} different`)
  if (more === 0) words.push('all there already: none is drawn')
  else if (there > 0) words.push(`${there} there already, ${more} to draw`)
  if (seconds) words.push(`about ${seconds < 100 ? duration(Math.max(1, seconds)) : duration(60 * Math.round(seconds / 60)).replace(' 0 s', '')}`)
  return `${words.join(', ')}.`
}

customElements.define('likeness-grid-form', Form)
