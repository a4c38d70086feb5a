// The bar at the top: the folder, the filter, and everything about what was done.
import { choose } from '../browse.js'
import { workOn } from '../folder.js'
import { button, count, h, notice, press, say } from '../tools.js'
import { completing } from './complete.js'
import { float, input, open, select, small } from './parts.js'
import { advice, asides, help, snapshots } from './windows.js'

const REST = 200 // ms without a key before the filter is used
const FOLDER = 'likeness-tags-folder', OPTIONS = 'likeness-tags-options'
const DEFAULTS = { extension: '.txt', separator: ',', weighted: false }

// The folder of captions: a box, the file browser, and how the captions are read. `go` opens what is chosen.
export class FolderRow {
  options = { ...DEFAULTS, ...JSON.parse(localStorage.getItem(OPTIONS) || '{}') }

  constructor(go, words) {
    this.go = go
    this.box = input('Folder of pictures', { value: localStorage.getItem(FOLDER) || '', onkeydown: event => event.key === 'Enter' && this.open() })
    this.act = button('Open', () => this.open(), { class: 'lk-button lk-small lk-primary' })
    const more = small('Options', () => {
      panel.showPopover()
      float(more, panel)
    }, { title: 'How captions are read' })
    const panel = this.panel()
    this.told = notice()
    this.node = h('div', { class: 'lt-folder' }, this.box, small('Browse', () => this.browse(), { 'aria-label': `Browse for ${words}` }), this.act, more, panel)
  }

  panel() {
    const { options } = this
    const ending = input('Caption extension', { value: options.extension, onchange: () => this.keep({ extension: ending.value.trim() || '.txt' }) })
    const comma = input('Separator', { value: options.separator, onchange: () => this.keep({ separator: comma.value.trim() || ',' }) })
    const weighted = h('input', { type: 'checkbox', onchange: () => this.keep({ weighted: weighted.checked }) })
    weighted.checked = options.weighted
    const mode = select('Tags are offered that', { start: 'start with what is written', contain: 'contain what is written' }, { value: completing.mode, onchange: () => { completing.mode = mode.value } })
    return h('div', { class: 'lt-panel', popover: 'auto' },
      h('label', { class: 'lt-field' }, h('span', {}, 'Caption extension'), ending), h('label', { class: 'lt-field' }, h('span', {}, 'Separator'), comma),
      h('label', { class: 'lt-check' }, weighted, 'Weighted captions: (smile:1.2) is a weight, not letters'),
      h('label', { class: 'lt-field' }, h('span', {}, 'Tags are offered that'), mode), h('p', { class: 'lk-soft' }, 'The first three count from the next opening on.'))
  }

  keep(wish) {
    Object.assign(this.options, wish)
    localStorage.setItem(OPTIONS, JSON.stringify(this.options))
  }

  async browse() {
    const path = await choose({ title: 'Folder of pictures', kind: 'folder', start: this.box.value })
    if (!path) return
    this.box.value = path
    this.open()
  }

  open(folder = this.box.value.trim()) {
    this.box.value = folder
    if (!folder) return this.box.focus()
    this.asked = folder
    return press(this.act, async () => {
      await this.go(folder, { ...this.options })
      localStorage.setItem(FOLDER, folder)
      workOn(folder)
    }, this.told.tell)
  }
}

export class Bar {
  constructor(editor) {
    const { set } = this.editor = editor
    this.set = set
    this.folder = new FolderRow((folder, options) => set.open(folder, options), 'a folder of pictures')
    this.problems = small('', () => this.tellProblems(), { class: 'lk-button lk-small lt-care', hidden: true })
    this.query = input('Filter', {
      type: 'search', placeholder: 'Filter: tag:smile AND NOT tokens:>75', oninput: () => this.typed(), onkeydown: event => event.key === 'Enter' && this.look(),
    })
    this.fault = notice('lt-fault')
    this.facts = h('span', { class: 'lt-count', role: 'status' })
    this.stale = small('Filter again', () => set.filter({}), { hidden: true, title: 'Some pictures were changed and fit the filter no more, or now' })
    this.undo = small('Undo', () => set.undo(), { class: 'lk-button lk-small lt-step' })
    this.redo = small('Redo', () => set.redo(), { class: 'lk-button lk-small lt-step' })
    this.work = h('div', { class: 'lt-bar', hidden: true },
      h('div', { class: 'lt-filter' }, this.query, small('?', () => help(editor), { 'aria-label': 'How to filter' }), this.fault),
      this.facts, this.stale, h('i', { class: 'lt-gap' }), this.undo, this.redo,
      small('Snapshots', () => snapshots(editor)), small('Advice', () => advice(editor)), small('Put back …', () => asides(editor), { title: 'Pictures that were set aside' }))
    const keys = small('Keys', () => editor.keys(), { key: 'Alt+K', class: 'lk-button lk-small lt-desk' })
    this.full = small('Fill the window', () => editor.fill(), { 'aria-pressed': 'false', class: 'lk-button lk-small lt-desk' })
    this.node = h('div', { class: 'lt-top' }, h('div', { class: 'lt-bar' }, this.folder.node, this.problems, h('i', { class: 'lt-gap' }), keys, this.full), this.folder.told, this.work)
    set.on('set', () => this.opened())
    set.on('set changed', () => this.steps())
    set.on('filter', () => this.filtered())
    set.on('set filter stale', () => { this.stale.hidden = !set.stale })
    set.on('set filter chosen', () => this.counted())
  }

  opened() {
    this.work.hidden = false
    const { problems } = this.set.info
    this.problems.hidden = !problems.length
    say(this.problems, count(problems.length, 'problem'))
    this.filtered()
  }

  tellProblems() {
    open(this.editor, 'Problems', [h('ul', { class: 'lt-lines' }, this.set.info.problems.map(one => h('li', {}, h('span', { class: 'lk-wide' }, h('b', {}, one.file), h('small', {}, `${one.what}; ${one.done}`)))))])
  }

  steps() {
    for (const [node, words, what] of [[this.undo, 'Undo', this.set.done], [this.redo, 'Redo', this.set.undone]]) {
      node.setAttribute('aria-disabled', String(!what)) // not `disabled`, which would take the focus away, and the keys with it
      say(node, what ? `${words}: ${what}` : words)
      node.title = what ? `${words}: ${what} · Ctrl+${words === 'Redo' ? 'Shift+' : ''}Z` : `Nothing to ${words.toLowerCase()}`
    }
  }

  filtered() {
    const { set } = this
    if (document.activeElement !== this.query) this.query.value = set.query
    this.fault.tell(set.fault)
    this.query.setAttribute('aria-invalid', String(!!set.fault))
  }

  counted() {
    const { set } = this, chosen = set.chosen.length
    say(this.facts, `${set.shown.length.toLocaleString('en')} of ${set.pictures.length.toLocaleString('en')} shown, ${chosen.toLocaleString('en')} selected`)
  }

  typed() {
    clearTimeout(this.timer)
    this.timer = setTimeout(() => this.look(), REST)
  }

  // What is written by hand is taken as it is, the clicked tags in it too.
  look() {
    clearTimeout(this.timer)
    if (this.query.value.trim() !== this.set.query) this.set.filter({ typed: this.query.value, clicked: [] })
  }

  write(query) {
    this.query.value = query
    this.look()
    this.focus()
  }

  focus() {
    this.query.focus()
    this.query.select()
  }
}
