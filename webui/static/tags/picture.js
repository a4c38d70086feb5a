// The pane of the tags: those of the picture, or what the chosen pictures have in common; as a list, or as text.
import { count, h, say } from '../tools.js'
import { offer } from './complete.js'
import { input, meter, select, small } from './parts.js'
import { View } from './view.js'
import { bare, splitTags, splitWeight } from './words.js'

const ROW = 27 // px
const REST = 600 // ms without a key before a text is saved
const PLACES = { bottom: 'at the end', top: 'at the top', center: 'in the middle', after: 'after the first …' }

export class Tags {
  text = false

  constructor(editor) {
    this.editor = editor
    this.set = editor.set
    this.view = new View({
      label: 'Tags of the picture', size: () => [0, ROW], key: item => item.key, draw: (item, old) => this.row(item, old), open: item => this.edit(item),
    })
    Object.assign(this.view.node, {
      oncopy: event => this.copy(event), onpaste: event => this.paste(event),
      ondragover: event => this.over(event), ondrop: event => this.dropped(event), ondragend: () => this.mark(null), ondragleave: () => this.mark(null),
    })
    this.box = offer(input('Add tags', { title: 'Add to what is selected · Ctrl+E', onkeydown: event => event.key === 'Enter' && this.add() }), this.set)
    this.box.addEventListener('taken', () => this.add())
    this.place = select('Where', PLACES, { onchange: () => { this.first.hidden = this.place.value !== 'after' } })
    this.first = input('How many stay first', { type: 'number', min: 0, max: 999, value: 1, hidden: true, class: 'lk-input lt-input lt-number' })
    this.title = h('h4', {}, 'Image tags')
    this.facts = h('span', { class: 'lk-soft lt-facts' })
    this.gauge = h('div', { class: 'lt-gauge' })
    this.area = h('textarea', {
      class: 'lk-input lt-text', 'aria-label': 'Caption', spellcheck: 'false', hidden: true, oninput: () => this.typed(), onblur: () => this.save(),
    })
    this.mode = small('Text', () => this.turn(), { 'aria-pressed': 'false', title: 'Edit the whole caption as text', key: 'Ctrl+U' })
    this.acts = h('div', { class: 'lt-acts', role: 'toolbar', 'aria-label': 'With the selected tags' },
      this.up = small('↑', () => this.shift(-1), { title: 'Earlier', key: 'Alt+↑', 'aria-label': 'Earlier' }),
      this.down = small('↓', () => this.shift(1), { title: 'Later', key: 'Alt+↓', 'aria-label': 'Later' }),
      small('−', () => this.weigh(-0.1), { title: 'Lighter by 0.1', key: 'Alt+−', 'aria-label': 'Lighter' }),
      small('+', () => this.weigh(0.1), { title: 'Heavier by 0.1', key: 'Alt++', 'aria-label': 'Heavier' }),
      small('Edit', () => this.view.at() && this.edit(this.view.at()), { key: 'F2 or a double click' }),
      small('Remove', () => this.remove(), { key: 'Delete or Ctrl+D' }),
      small('Copy', () => this.copy(), { title: 'Copy the selected tags, or all', key: 'Ctrl+C' }),
      small('Paste', () => this.paste(), { title: 'Add the copied tags to what is selected', key: 'Ctrl+V' }))
    this.node = h('section', { class: 'lt-pane', 'data-pane': 'tags', 'aria-label': 'Image tags' },
      h('header', { class: 'lt-head' }, this.title, this.facts, this.mode), this.gauge,
      h('div', { class: 'lt-add' }, this.box, this.place, this.first), this.view.node, this.area, this.acts)
    this.view.node.addEventListener('keydown', event => this.key(event))
    this.set.on('set changed chosen', () => this.draw())
  }

  get several() {
    return this.set.chosen.length > 1
  }

  get scope() {
    return this.several ? 'selected' : 'one'
  }

  // How many pictures it is about, and their tags; a tag keeps its cursor wherever it moves.
  draw() {
    const { set, view } = this, { current } = set
    if (this.area.picture && this.area.picture !== current) this.save()
    const locked = !this.several && current?.locked
    say(this.title, this.several ? `Tags of ${set.chosen.length}` : 'Image tags')
    say(this.facts, !current ? '' : this.several ? '' : locked ? `locked: ${locked}` : `${count(current.tags.length, 'tag')}, ${count(current.tokens, 'token')}`)
    const gauge = current && !this.several ? meter(current.tokens) : h('div', { class: 'lt-meter' })
    this.gauge.replaceChildren(gauge)
    view.node.setAttribute('aria-label', this.several ? `Tags of ${set.chosen.length} pictures` : `Tags of ${current?.name || 'no picture'}`)
    this.up.disabled = this.down.disabled = this.several || !current
    this.mode.disabled = this.several || !current || !!locked
    const text = this.text && !this.mode.disabled
    this.mode.setAttribute('aria-pressed', String(text))
    view.node.hidden = text
    this.area.hidden = !text
    for (const node of this.acts.children) node.hidden = text
    if (text) return this.write()
    view.set(this.several ? this.common() : this.own())
  }

  own() {
    const seen = new Map()
    return (this.set.current?.tags || []).map((tag, place) => {
      const words = bare(tag), times = (seen.get(words) || 0) + 1
      seen.set(words, times)
      return { key: `${words}\n${times}`, tag, place } // a tag stays selected when it gets a weight
    })
  }

  common() {
    const tally = this.set.tally(this.set.chosen)
    return [...tally].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).map(([tag, many]) => ({ key: `${tag}\n1`, tag, many }))
  }

  row(item, old) {
    const node = old || h('div', { class: 'lt-row' }, h('span'), h('small'))
    const [name, fact] = node.children
    const [words, weight] = splitWeight(item.tag), all = this.set.chosen.length
    const heavy = Math.abs(weight - 1) > 0.001
    node.draggable = !this.several
    node.ondragstart = event => {
      if (!this.view.picked.has(item.key)) this.view.go(node.place)
      this.dragged = this.view.chosen()
      event.dataTransfer.effectAllowed = 'move'
      event.dataTransfer.setData('text/plain', item.tag)
    }
    say(name, heavy && !this.several ? words : item.tag)
    say(fact, this.several ? (item.many === all ? 'all' : `${item.many} of ${all}`) : heavy ? `×${+weight.toFixed(2)}` : '')
    node.title = item.tag
    return node
  }

  // Changes

  async add() {
    const text = this.box.value.trim()
    if (!text) return
    this.box.value = ''
    const at = this.place.value === 'after' ? Math.max(0, Math.round(+this.first.value || 0)) : this.place.value
    const done = await this.set.edit({ do: 'add', text, at }, this.scope)
    if (done?.error && !this.box.value) this.box.value = text // it is not lost
  }

  // The next one is selected then, so that several go one after the other.
  async remove() {
    const gone = this.view.chosen(), { current } = this.set
    if (!gone.length) return
    const places = new Set(gone.map(item => item.place))
    if (this.several) await this.set.edit({ do: 'remove', tags: gone.map(item => item.tag) }, 'selected')
    else await this.put(current.tags.filter((tag, place) => !places.has(place)))
    if (current === this.set.current && !this.view.picked.size) this.view.go(this.view.cursor)
  }

  key(event) {
    const act = { Delete: () => this.remove(), F2: () => this.view.at() && this.edit(this.view.at()) }[event.key]
    if (!act || event.target !== this.view.node || event.ctrlKey || event.altKey || event.shiftKey) return
    event.preventDefault()
    act()
  }

  // One picture's tags, exactly these.
  put(tags, picture = this.set.current) {
    return this.set.edit({ do: 'tags', tags }, [picture])
  }

  shift(by) {
    const moved = this.view.chosen()
    if (this.several || !moved.length) return
    const first = moved[0].place + by, last = moved.at(-1).place + by
    if (by < 0 ? first < 0 : last >= this.set.current.tags.length) return
    this.moveTo(moved, by < 0 ? first : last + 1)
  }

  // Moves tags before the one at a place.
  moveTo(moved, place) {
    const { tags } = this.set.current, places = new Set(moved.map(item => item.place))
    const kept = part => part.filter(([number]) => !places.has(number)).map(([, tag]) => tag)
    const all = [...tags.entries()]
    this.put([...kept(all.slice(0, place)), ...moved.map(item => item.tag), ...kept(all.slice(place))])
  }

  weigh(by) {
    const tags = this.view.chosen().map(item => item.tag)
    if (tags.length) this.set.edit({ do: 'weigh', tags, by }, this.scope)
  }

  // In its own line; Enter saves, Escape leaves it as it was.
  edit(item) {
    const node = this.view.nodes.get(item.key)
    if (!node || node.querySelector('input')) return
    let over = false
    const { several } = this, { current, chosen } = this.set
    const end = keep => {
      if (over) return
      over = true
      const text = box.value.trim()
      box.remove()
      node.classList.remove('lt-editing')
      if (keep && text !== item.tag) {
        if (several) this.set.edit({ do: 'replace', pairs: { [item.tag]: text } }, chosen)
        else this.put(current.tags.flatMap((tag, place) => place === item.place ? splitTags(text, this.set.options.separator) : [tag]), current)
      }
      this.view.node.focus()
    }
    const box = offer(input('Tag', {
      value: item.tag, onblur: () => end(true), onkeydown: event => {
        event.stopPropagation()
        if (event.key === 'Enter' || event.key === 'Escape') {
          event.preventDefault()
          end(event.key === 'Enter')
        }
      },
    }), this.set)
    node.classList.add('lt-editing')
    node.append(box)
    box.select()
    box.focus()
  }

  // Copies

  copy(event) {
    const items = this.view.chosen().length ? this.view.chosen() : this.view.items
    if (!items.length) return
    const text = this.copied = items.map(item => item.tag).join(`${this.set.options.separator} `)
    if (event) {
      event.clipboardData.setData('text/plain', text)
      event.preventDefault()
    } else navigator.clipboard?.writeText(text).catch(() => {}) // closed on http: ours is enough
    this.set.tell('said', `Copied: ${count(items.length, 'tag')}`)
  }

  paste(event) {
    const text = event ? event.clipboardData.getData('text/plain').split('\n')[0].trim() : this.copied
    event?.preventDefault()
    if (text) this.set.edit({ do: 'add', text, at: 'bottom' }, this.scope)
    else this.set.tell('said', 'Copy tags first')
  }

  // Dragging

  over(event) {
    if (!this.dragged) return
    event.preventDefault()
    this.mark(this.view.cell(event), event)
  }

  mark(node, event) {
    for (const each of this.view.nodes.values()) each.classList.remove('lt-before', 'lt-after')
    this.goal = null
    if (!node) return
    const { top, height } = node.getBoundingClientRect(), after = event.clientY > top + height / 2
    node.classList.add(after ? 'lt-after' : 'lt-before')
    this.goal = node.place + (after ? 1 : 0)
  }

  dropped(event) {
    event.preventDefault()
    if (this.dragged && this.goal !== null) this.moveTo(this.dragged, this.goal)
    this.dragged = null
    this.mark(null)
  }

  // Text

  turn() {
    this.text = !this.text
    if (!this.text) this.save()
    this.draw()
    if (this.text) this.area.focus()
    else this.view.node.focus()
  }

  write() {
    const { current } = this.set
    if (this.area.picture === current && this.area.value !== this.area.saved) return // it is being written
    this.area.picture = current
    this.area.saved = this.area.value = current.text
  }

  typed() {
    clearTimeout(this.timer)
    this.gauge.firstChild.classList.add('lt-old')
    this.timer = setTimeout(() => this.save(), REST)
  }

  async save() {
    clearTimeout(this.timer)
    const { area } = this, { picture } = area, text = area.value.replace(/\s*\n\s*/g, ' ') // a caption is one line
    if (!picture || area.value === area.saved) return
    const before = area.saved
    area.saved = text
    const done = await this.set.edit({ do: 'text', text }, [picture])
    if (done?.error && area.picture === picture) area.saved = before // what was written stays to be saved
  }
}
