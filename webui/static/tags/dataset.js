// The pane of the pictures: thumbnails, which are chosen, and what is done with the pictures themselves.
import { h, say } from '../tools.js'
import { cell, forget, small } from './parts.js'
import { View } from './view.js'

const SIDE = 'likeness-thumbs', SIDES = { min: 56, max: 256, step: 8 }
const NAME = 22 // px below a thumbnail

export class Dataset {
  side = +localStorage.getItem(SIDE) || 104

  constructor(editor) {
    this.editor = editor
    const { set } = editor
    this.set = set
    this.view = new View({
      label: 'Pictures', size: () => [this.side + 8, this.side + NAME], key: picture => picture.id,
      draw: (picture, old) => cell(picture, old, this.side), drop: forget,
      pick: () => set.choose(this.view.chosen(), this.view.at()), open: () => editor.preview(),
      act: (picture, event) => event.type === 'keydown' && editor.preview(),
    })
    const size = h('input', {
      type: 'range', class: 'lt-range', 'aria-label': 'Size of the thumbnails', title: 'Size of the thumbnails', ...SIDES, value: this.side,
      oninput: () => this.resize(+size.value),
    })
    this.node = h('section', { class: 'lt-pane', 'data-pane': 'pictures', 'aria-label': 'Dataset' },
      h('header', { class: 'lt-head' }, h('h4', {}, 'Dataset'), size,
        small('All', () => this.view.pickAll(), { title: 'Select all that are shown', key: 'Ctrl+A' }),
        small('Invert', () => this.invert(), { title: 'Invert the selection', key: 'Ctrl+I' }),
        small('Untagged', () => this.untagged(), { title: 'Go to the next picture without a caption', key: 'Ctrl+J' }),
        this.several = small('Several', () => this.adding(), { class: 'lk-button lk-small lt-touch', 'aria-pressed': 'false', title: 'A tap selects one more' }),
        small('View', () => editor.preview(), { title: 'The picture large', key: 'Ctrl+P' }),
        small('Set aside', () => this.aside(), { title: 'Move what is selected out of the data set; it can be put back' })),
      this.view.node, this.none = h('p', { class: 'lt-none-here', hidden: true }))
    set.on('set filter', () => this.draw())
    set.on('changed', () => this.view.render(true))
    set.on('chosen', () => this.follow())
  }

  draw() {
    const { set, view } = this
    view.picked = new Set(set.chosen.map(picture => picture.id))
    view.set(set.shown)
    view.cursor = set.current ? set.shown.indexOf(set.current) : -1
    view.start = view.cursor
    view.render()
    if (view.cursor >= 0) view.reveal()
    this.none.hidden = set.shown.length > 0
    say(this.none, set.pictures.length ? 'No picture passes the filter.' : 'No pictures here.')
    set.tell('chosen')
  }

  // The cursor may be moved from elsewhere: the preview, the grid of one tag.
  follow() {
    const { view, set } = this
    if (view.at() === set.current && view.picked.size === set.chosen.length) return
    view.cursor = set.shown.indexOf(set.current)
    view.picked = new Set(set.chosen.map(picture => picture.id))
    view.reveal()
    view.render()
  }

  resize(side) {
    this.side = side
    localStorage.setItem(SIDE, side)
    this.view.render(true)
    this.view.reveal()
  }

  // Without a keyboard there is no Ctrl to hold.
  adding() {
    this.view.adding = !this.view.adding
    this.several.setAttribute('aria-pressed', String(this.view.adding))
  }

  invert() {
    const { view } = this
    view.pickAll(view.keys.filter(key => !view.picked.has(key)))
  }

  // The next one without tags, from the cursor on and round.
  untagged() {
    const { shown } = this.set, from = this.view.cursor + 1
    const found = [...shown.keys()].map(step => (from + step) % shown.length).find(place => !shown[place].tags.length)
    if (found === undefined) return this.set.tell('said', 'Every picture that is shown has a caption.')
    this.view.go(found)
    this.view.node.focus()
  }

  aside() {
    const { set } = this
    if (set.chosen.length) set.change('aside', () => ({ ids: set.chosen.map(picture => picture.id) }))
  }
}
