// The bar of changes to many pictures: on which, what, and, in a panel that floats, with what.
import { button, count, h, newId, notice, say } from '../tools.js'
import { offer } from './complete.js'
import { float, input, small } from './parts.js'
import { SCOPES } from './set.js'
import { splitTags } from './words.js'

const tags = (name, words, hint) => ({ name, words, hint, kind: 'tags' })
const number = (name, words, value, rest) => ({ name, words, value, kind: 'number', ...rest })
const choice = (name, words, choices) => ({ name, words, choices, kind: 'choice' })
const check = (name, words) => ({ name, words, kind: 'check' })
const AT = { bottom: 'At the end', top: 'At the top', center: 'In the middle', after: 'After the first …' }
const place = values => values.at === 'after' ? Math.max(0, Math.round(values.after)) : values.at

// Each: the button, the fields, what the server is asked; `go`: words of the button that does it; `start`: what stands in
// the fields at first, of the selected tags (as a line, as a list) and of the tags of the picture.
const FORMS = {
  add: {
    name: 'Add', go: 'Add to', fields: [tags('text', 'Tags'), choice('at', 'Where', AT), number('after', 'How many stay first', 1, { min: 0, only: ['at', 'after'] }), check('move', 'Move those that are there already')],
    wish: values => values.text && { do: 'add', text: values.text, at: place(values), move: values.move },
  },
  remove: { name: 'Remove', go: 'Remove from', fields: [tags('text', 'Tags')], start: names => ({ text: names }), wish: (values, split) => values.text && { do: 'remove', tags: split(values.text) } },
  replace: {
    name: 'Replace', go: 'Replace in', fields: [{ ...tags('from', 'This tag'), one: true }, { ...tags('to', 'By', 'nothing: it is removed'), one: true }],
    start: (names, [from = '', to = '']) => ({ from, to }),
    wish: values => values.from && { do: 'replace', pairs: { [values.from]: values.to } },
  },
  regex: {
    name: 'Regex', go: 'Replace in', title: 'Find and replace by a regular expression',
    fields: [{ name: 'pattern', words: 'Pattern', hint: String.raw`(\w+) hair`, kind: 'text' }, { name: 'replacement', words: 'Replacement', hint: String.raw`hair, \1`, kind: 'text' }, check('whole', 'In the whole caption, not tag by tag')],
    wish: values => values.pattern && { do: 'regex', ...values },
  },
  sort: {
    name: 'Sort', go: 'Sort', fields: [choice('by', 'By', { alphabet: 'alphabet', frequency: 'frequency', kind: 'kind, as for training' }), number('keep', 'How many stay first', 1, { min: 0 })],
    wish: values => ({ do: 'sort', by: values.by, keep: Math.round(values.keep) }),
  },
  keep_first: { name: 'Keep first', go: 'Shorten', title: 'Keep only the first tags', fields: [number('number', 'Tags that stay', 10, { min: 1 })], wish: values => ({ do: 'keep_first', number: Math.round(values.number) }) },
  truncate: { name: 'Shorten', go: 'Shorten', title: 'Take tags from the end until a caption fits', fields: [number('tokens', 'Tokens at most', 75, { min: 1 })], wish: values => ({ do: 'truncate', tokens: Math.round(values.tokens) }) },
  weigh: {
    name: 'Weights', go: 'Weigh in', fields: [tags('text', 'Tags'), number('by', 'Heavier by', 0.1, { step: 0.1, min: -1.9, max: 1.9 })],
    start: names => ({ text: names }),
    wish: (values, split) => values.text && { do: 'weigh', tags: split(values.text), by: values.by },
  },
  set_all: {
    name: 'Set', go: 'Set in', title: 'Give pictures exactly these tags', fields: [tags('text', 'Tags'), check('only_empty', 'Only pictures that have none')],
    start: (names, list, picture) => ({ text: picture }),
    wish: values => values.text && { do: 'set_all', text: values.text, only_empty: values.only_empty },
  },
}
const AT_ONCE = {
  order: ['Order for training', 'Subject, switchable tags, negative tags, pose, hands, shot'],
  dedupe: ['No doubles', 'Take away what is there twice'],
  spaces: ['Spaces', 'Write _ as a space, and tidy the spaces and commas'],
  clear: ['Clear captions', 'Take all tags away'],
}

export class Batch {
  constructor(editor) {
    this.editor = editor
    this.set = editor.set
    const name = newId()
    this.scopes = Object.fromEntries(Object.entries(SCOPES).map(([scope, words]) => [scope, { words, box: h('input', { type: 'radio', name, value: scope, onchange: () => this.draw() }), label: h('span') }]))
    this.scopes.selected.box.checked = true
    this.panel = h('form', { class: 'lt-panel', popover: 'auto', onsubmit: event => this.submit(event), onkeydown: event => event.stopPropagation() })
    this.buttons = {}
    const forms = Object.entries(FORMS).map(([what, form]) => this.buttons[what] = small(`${form.name} …`, () => this.open(what), { title: form.title, 'aria-haspopup': 'dialog' }))
    const once = Object.entries(AT_ONCE).map(([what, [words, title]]) => small(words, () => this.set.edit({ do: what }, this.scope), { title }))
    this.node = h('div', { class: 'lt-batch', role: 'toolbar', 'aria-label': 'Changes to many pictures' },
      h('fieldset', { class: 'lt-scopes' }, h('legend', { class: 'lk-hidden' }, 'On which pictures'),
        Object.values(this.scopes).map(({ box, label }) => h('label', {}, box, label))),
      h('div', { class: 'lt-forms' }, forms, once[0], small('Bake in …', () => editor.bake(), { title: 'Traits that should always appear: their tags go', 'aria-haspopup': 'dialog' }), once.slice(1)), this.panel)
    this.set.on('set filter chosen', () => this.draw())
  }

  get scope() {
    return Object.keys(this.scopes).find(scope => this.scopes[scope].box.checked)
  }

  set scope(scope) {
    this.scopes[scope].box.checked = true
    this.draw()
  }

  draw() {
    for (const [scope, { words, label }] of Object.entries(this.scopes)) {
      say(label, scope === 'one' ? words : `${words} ${this.set.within(scope).length.toLocaleString('en')}`)
    }
    if (this.panel.matches(':popover-open')) this.words()
  }

  words() {
    say(this.go, `${FORMS[this.what].go} ${count(this.set.within(this.scope).length, 'picture')}`)
  }

  // Opens a form; `values` and a scope may be given by who asks.
  open(what, values = {}, scope) {
    const form = FORMS[what]
    this.what = what
    if (scope) this.scope = scope
    const joint = `${this.set.options.separator} `, names = this.editor.named()
    const filled = { ...form.start?.(names.join(joint), names, (this.set.current?.tags || []).join(joint)), ...values }
    this.fields = form.fields.map(field => this.field(field, filled[field.name]))
    this.go = h('button', { type: 'submit', class: 'lk-button lk-small lk-primary' })
    this.told = notice('lt-bad')
    this.panel.setAttribute('aria-label', form.title || form.name)
    this.panel.replaceChildren(form.title ? h('p', { class: 'lk-soft' }, form.title) : '',
      ...this.fields.map(field => field.row), this.told, h('div', { class: 'lk-row' }, this.go, button('Cancel', () => this.panel.hidePopover(), { class: 'lk-button lk-small' })))
    this.rows()
    this.words()
    this.panel.showPopover()
    float(this.buttons[what], this.panel)
    const first = this.fields[0].box
    first.focus()
    first.select?.()
  }

  field(field, value = field.value) {
    const box = {
      tags: () => offer(input(field.words, { value: value || '', placeholder: field.hint || field.words }), this.set, !field.one),
      text: () => input(field.words, { value: value || '', placeholder: field.hint, class: 'lk-input lt-input lt-code' }),
      number: () => input(field.words, { type: 'number', value, min: field.min, max: field.max, step: field.step || 1, required: true }),
      choice: () => h('select', { class: 'lk-select lk-small', 'aria-label': field.words, onchange: () => this.rows() }, Object.entries(field.choices).map(([name, words]) => h('option', { value: name }, words))),
      check: () => h('input', { type: 'checkbox' }),
    }[field.kind]()
    const row = h('label', { class: field.kind === 'check' ? 'lt-check' : 'lt-field' }, field.kind === 'check' ? [box, field.words] : [h('span', {}, field.words), box])
    return { ...field, box, row }
  }

  // Fields that count only beside a choice
  rows() {
    for (const { only, row } of this.fields) if (only) row.hidden = this.values()[only[0]] !== only[1]
  }

  values() {
    return Object.fromEntries(this.fields.map(({ name, kind, box }) => [name, kind === 'check' ? box.checked : kind === 'number' ? +box.value : kind === 'text' ? box.value : box.value.trim()]))
  }

  async submit(event) {
    event.preventDefault()
    const { what, go } = this
    const split = text => splitTags(text, this.set.options.separator)
    const wish = FORMS[what].wish(this.values(), split)
    if (!wish) return this.fields[0].box.focus()
    go.disabled = true
    const done = await this.set.edit(wish, this.scope)
    go.disabled = false
    this.told.tell(done?.error)
    if (!done?.error) this.panel.hidePopover()
  }
}
