// The pane of all tags of the data set: how often each is there; a click filters the pictures by it.
import { count, grouped, h, say } from '../tools.js'
import { input, select, small } from './parts.js'
import { View } from './view.js'

const ROW = 27 // px
const SORTS = { '-count': 'Most first', count: 'Fewest first', name: 'A to Z', '-name': 'Z to A' }
const MODES = { AND: 'AND: all of them', OR: 'OR: any of them', NOT: 'NOT: none of them', XOR: 'XOR: one of two' }
const SORT = 'likeness-tags-sort'

export class AllTags {
  kinds = null // what each tag speaks of, while they are grouped

  constructor(editor) {
    this.editor = editor
    const { set } = editor
    this.set = set
    this.view = new View({
      label: 'All tags', size: () => [0, ROW], key: item => item.key, draw: (item, old) => this.row(item, old), act: item => this.click(item.tag),
    })
    this.view.pick = () => this.point()
    this.search = input('Find a tag', { type: 'search', title: 'Find a tag · Ctrl+F', oninput: () => this.draw(), onkeydown: event => this.enter(event) })
    this.sort = select('Order', SORTS, { value: localStorage.getItem(SORT) || '-count', onchange: () => this.ordered() })
    this.group = small('Groups', () => this.turn(), { 'aria-pressed': 'false', title: 'Group by what the tags speak of' })
    this.modes = select('A click filters by', MODES, { title: 'How clicked tags filter the pictures · Ctrl+Y', onchange: () => set.filter({ mode: this.modes.value }) })
    this.clear = small('Clear', () => set.filter({ clicked: [] }), { title: 'Take the clicked tags out of the filter' })
    this.facts = h('span', { class: 'lk-soft lt-facts' })
    this.acts = h('div', { class: 'lt-acts', role: 'toolbar', 'aria-label': 'With these tags' },
      small('Add', () => this.add(), { title: 'Add to what is selected', key: 'Insert' }),
      small('Remove', () => this.remove(), { title: 'Remove from all pictures', key: 'Delete' }),
      small('Replace', () => editor.batch.open('replace', {}, 'all'), { title: 'Replace in all pictures', key: 'Ctrl+G' }),
      small('Yes / No', () => editor.check(this.names()[0]), { title: 'Check this tag on every picture', key: 'Shift+T' }))
    this.node = h('section', { class: 'lt-pane', 'data-pane': 'all', 'aria-label': 'All tags' },
      h('header', { class: 'lt-head' }, h('h4', {}, 'All tags'), this.facts, this.group),
      h('div', { class: 'lt-add' }, this.search, this.sort), h('div', { class: 'lt-add' }, this.modes, this.clear), this.view.node, this.acts)
    this.view.node.addEventListener('keydown', event => this.key(event))
    set.on('set changed', () => this.draw())
    set.on('filter', () => this.draw())
  }

  names() {
    return this.view.chosen().filter(item => !item.head).map(item => item.tag)
  }

  point() {
    for (const node of [...this.acts.children].slice(0, 2)) node.setAttribute('aria-disabled', String(!this.names().length))
  }

  draw() {
    const { set, view } = this
    const wanted = this.search.value.trim().toLowerCase()
    const [, back, by] = /^(-?)(.*)$/.exec(this.sort.value)
    const all = [...set.counts].map(([tag, many]) => ({ key: tag, tag, many })).filter(item => item.tag.toLowerCase().includes(wanted))
    const name = (a, b) => a.tag.localeCompare(b.tag)
    const sign = back ? -1 : 1
    all.sort((a, b) => by === 'count' ? sign * (a.many - b.many) || name(a, b) : sign * name(a, b))
    view.set(this.kinds ? this.grouped(all) : all)
    say(this.facts, wanted ? `${all.length} of ${count(set.counts.size, 'tag')}` : count(set.counts.size, 'tag'))
    this.modes.value = set.mode
    this.clear.setAttribute('aria-disabled', String(!set.clicked.length))
    this.point()
    if (this.kinds && [...set.counts.keys()].some(tag => !this.kinds.has(tag))) this.learn()
  }

  grouped(all) {
    const parts = grouped(all, item => this.kinds.get(item.tag) || 'other')
    return [...new Set([...this.order, 'other'])].filter(name => parts.has(name))
      .flatMap(name => [{ head: true, key: `\n${name}`, tag: name, many: parts.get(name).length }, ...parts.get(name)])
  }

  row(item, old) {
    const node = old || h('div', { class: 'lt-row' }, h('span'), h('small'))
    const [name, fact] = node.children
    node.classList.toggle('lt-heading', !!item.head)
    node.classList.toggle('lt-filtered', !item.head && this.set.clicked.includes(item.tag))
    say(name, item.tag)
    say(fact, item.many.toLocaleString('en'))
    node.title = item.tag
    node.setAttribute('aria-label', item.head ? item.tag : `${item.tag}, ${count(item.many, 'picture')}${this.set.clicked.includes(item.tag) ? ', in the filter' : ''}`)
    return node
  }

  ordered() {
    localStorage.setItem(SORT, this.sort.value)
    this.draw()
  }

  async turn() {
    this.kinds = this.kinds ? null : new Map()
    this.group.setAttribute('aria-pressed', String(!!this.kinds))
    if (this.kinds) await this.learn()
    else this.draw()
  }

  async learn() {
    if (this.learning) return
    this.learning = true
    try {
      const { groups } = await this.set.ask('groups')
      this.order = groups.map(group => group.name)
      if (this.kinds) this.kinds = new Map([...this.set.counts.keys()].map(tag => [tag, 'other']).concat(groups.flatMap(group => group.tags.map(({ tag }) => [tag, group.name]))))
    } catch (error) {
      this.kinds = null
      this.group.setAttribute('aria-pressed', 'false')
      this.set.tell('said', error.message)
    }
    this.learning = false
    this.draw()
  }

  click(tag) {
    const { set } = this
    set.filter({ clicked: set.clicked.includes(tag) ? set.clicked.filter(each => each !== tag) : [...set.clicked, tag] })
  }

  add() {
    const text = this.names().join(`${this.set.options.separator} `)
    if (text) this.set.edit({ do: 'add', text, at: 'bottom' }, 'selected')
  }

  remove() {
    if (this.names().length) this.set.edit({ do: 'remove', tags: this.names() }, 'all')
  }

  key(event) {
    const act = { Insert: () => this.add(), Delete: () => this.remove() }[event.key]
    if (!act || event.ctrlKey || event.altKey || event.shiftKey) return
    event.preventDefault()
    act()
  }

  // From the search box into the list.
  enter(event) {
    if (!['Enter', 'ArrowDown'].includes(event.key)) return
    event.preventDefault()
    this.view.node.focus()
    this.view.go(0)
  }
}
