// Captions written by hand, in the way of the Kohya GUI: five pictures a page, a text box and quick tags at each.
import { button, count, h, newId, say } from '../tools.js'
import { FolderRow } from './bar.js'
import { offer } from './complete.js'
import { input, meter, small } from './parts.js'
import { bare, pictureAt, splitTags } from './words.js'

const PAGE = 5
const REST = 600 // ms without a key before a caption is saved
const WORDS = 10 // a longer caption is a sentence, and no quick tag
const QUICK = 'likeness-quick-tags'

export class Manual {
  first = 0

  constructor(host, set) {
    this.set = set
    this.folder = new FolderRow((folder, options) => set.open(folder, options), 'a folder to caption')
    this.quick = input('Quick tags', { value: localStorage.getItem(QUICK) || '', placeholder: 'Quick tags, with commas between them', oninput: () => this.quickened() })
    this.auto = h('input', { type: 'checkbox', checked: true, onchange: () => this.saveAll() })
    this.limit = input('Words at most', { type: 'number', min: 1, max: 999, value: WORDS, class: 'lk-input lt-input lt-number' })
    this.said = h('span', { class: 'lk-soft', role: 'status' })
    this.list = h('div', { class: 'lt-manual' })
    const pages = [this.pages(), this.pages()]
    this.work = h('div', { hidden: true },
      h('div', { class: 'lt-bar' }, this.quick, small('Import tags from captions', () => this.import(), { title: 'Makes a quick tag of every tag in the captions' }),
        h('label', { class: 'lt-check' }, 'of', this.limit, 'words at most'), h('label', { class: 'lt-check' }, this.auto, 'Autosave'), small('Save', () => this.saveAll(true)),
        small('Undo', () => this.set.undo()), this.said), pages[0].node, this.list, pages[1].node)
    this.pagers = pages
    host.append(h('div', { class: 'lt-top' }, h('div', { class: 'lt-bar' }, this.folder.node), this.folder.told), this.work)
    set.on('set', () => this.draw())
    set.on('changed', ({ changed }) => this.take(changed))
    set.on('state', () => {
      say(this.said, set.state.bad ? set.state.words : set.saving ? 'Saving …' : set.state.words)
      this.said.classList.toggle('lt-bad', set.state.bad)
    })
  }

  pages() {
    const back = small('Previous', () => this.go(this.first - PAGE)), on = small('Next', () => this.go(this.first + PAGE))
    const box = input('Page', { type: 'number', min: 1, class: 'lk-input lt-input lt-number', onchange: () => this.go((Math.round(box.value) - 1) * PAGE) })
    const facts = h('span', { class: 'lk-soft' })
    return { node: h('div', { class: 'lk-row lt-pager' }, back, box, facts, on), back, on, box, facts }
  }

  go(first) {
    const { pictures } = this.set
    this.saveAll()
    this.first = Math.max(0, Math.min(Math.floor((pictures.length - 1) / PAGE) * PAGE, first))
    this.draw()
  }

  draw() {
    const { pictures } = this.set, last = Math.ceil(pictures.length / PAGE)
    this.work.hidden = false
    this.first = Math.max(0, Math.min(this.first, (last - 1) * PAGE))
    for (const { back, on, box, facts } of this.pagers) {
      box.value = this.first / PAGE + 1
      box.max = last
      say(facts, `of ${count(last, 'page')}, ${count(pictures.length, 'picture')}`)
      back.disabled = !this.first
      on.disabled = this.first + PAGE >= pictures.length
    }
    this.items = pictures.slice(this.first, this.first + PAGE).map(picture => this.item(picture))
    this.list.replaceChildren(...this.items.map(item => item.node))
    this.quickened()
  }

  item(picture) {
    const id = newId()
    const item = { picture, saved: picture.text, tags: h('div', { class: 'lt-quick', role: 'group', 'aria-label': `Quick tags of ${picture.name}` }), gauge: h('div', { class: 'lt-gauge' }, meter(picture.tokens)) }
    item.box = offer(h('textarea', { id, class: 'lk-input', rows: 4, value: picture.text, spellcheck: 'false', disabled: !!picture.locked, oninput: () => this.typed(item), onblur: () => this.auto.checked && this.save(item) }), this.set)
    item.box.addEventListener('taken', () => this.typed(item))
    item.node = h('div', { class: 'lt-written' }, h('img', { src: pictureAt(picture, 256), alt: '' }),
      h('div', { class: 'lk-wide' }, h('label', { for: id }, picture.name), item.gauge, item.box, picture.locked ? h('p', { class: 'lt-bad' }, picture.locked) : item.tags))
    return item
  }

  typed(item) {
    clearTimeout(item.timer)
    this.press(item)
    if (this.auto.checked) item.timer = setTimeout(() => this.save(item), REST)
    else say(this.said, 'Not saved yet')
  }

  async save(item) {
    clearTimeout(item.timer)
    const text = item.box.value.replace(/\s*\n\s*/g, ' ') // a caption is one line
    if (text === item.saved || item.picture.locked) return
    const before = item.saved
    item.saved = text
    const done = await this.set.edit({ do: 'text', text }, [item.picture])
    if (done?.error) item.saved = before // what was written stays to be saved
  }

  // Of this page; without autosave only when it is asked for.
  saveAll(asked = this.auto.checked) {
    if (asked) for (const item of this.items || []) this.save(item)
  }

  // What the server has now, unless something newer is being written.
  take(changed) {
    for (const item of this.items) {
      if (!changed.some(news => news.id === item.picture.id)) continue
      item.gauge.replaceChildren(meter(item.picture.tokens))
      if (item.box.value === item.saved) item.box.value = item.picture.text
      if (item.box.value === item.picture.text) item.saved = item.picture.text
      this.press(item)
    }
  }

  // Quick tags

  quickened() {
    const { separator } = this.set.options
    localStorage.setItem(QUICK, this.quick.value)
    this.names = [...new Set(splitTags(this.quick.value, separator))]
    for (const item of this.items || []) {
      item.tags.replaceChildren(...this.names.map(name => button(name, () => this.turn(item, name), { class: 'lk-button lk-small' })))
      this.press(item)
    }
  }

  had(item) {
    return splitTags(item.box.value, this.set.options.separator)
  }

  press(item) {
    const had = new Set(this.had(item).map(bare))
    for (const [place, node] of [...item.tags.children].entries()) node.setAttribute('aria-pressed', String(had.has(bare(this.names[place]))))
  }

  turn(item, name) {
    const tags = this.had(item), kept = tags.filter(tag => bare(tag) !== bare(name))
    item.box.value = (kept.length < tags.length ? kept : [...tags, name]).join(`${this.set.options.separator} `)
    this.typed(item)
    if (this.auto.checked) this.save(item)
  }

  import() {
    const most = +this.limit.value || WORDS
    const found = [...this.set.counts].sort((a, b) => b[1] - a[1]).map(([tag]) => tag).filter(tag => tag.split(/\s+/).length <= most)
    this.quick.value = [...new Set([...splitTags(this.quick.value, this.set.options.separator), ...found])].join(`${this.set.options.separator} `)
    this.quickened()
  }
}
