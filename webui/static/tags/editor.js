// <likeness-tags folder="...">: the tag editor. Without a folder it opens the one that is worked on. mode="manual": captions written by hand, five pictures a page.
import { dataFolder } from '../folder.js'
import { Live } from '../live.js'
import { button, h, newId, say } from '../tools.js'
import { AllTags } from './all.js'
import { bake } from './bake.js'
import { Bar } from './bar.js'
import { Batch } from './batch.js'
import { check } from './check.js'
import { Dataset } from './dataset.js'
import { groups, press } from './keys.js'
import { Manual } from './manual.js'
import { Tags } from './picture.js'
import { preview } from './preview.js'
import { TagSet } from './set.js'
import { keysWindow } from './windows.js'

const PANES = { pictures: 'Dataset', tags: 'Image tags', all: 'All tags' }
const MODES = ['AND', 'OR', 'NOT', 'XOR']

class Editor extends Live {
  static observedAttributes = ['folder']
  set = new TagSet()
  given = null // the folder that the page named last

  attributeChangedCallback() {
    if (this.bar && this.seen) this.look()
  }

  show() {
    if (!this.bar) this.build()
    if (!this.look() && this.set.info) this.set.refresh() // another tab's tool may have written captions meanwhile
    const left = () => this.keep()
    document.addEventListener('visibilitychange', left)
    this.ends.push(() => document.removeEventListener('visibilitychange', left))
  }

  // What is being written is saved when one looks elsewhere.
  hide() {
    super.hide()
    this.keep()
  }

  keep() {
    this.tags?.save()
    if (this.bar instanceof Manual) this.bar.saveAll()
  }

  // Opens the folder that the page names, once; later on the one that is worked on. False when that is open already.
  look() {
    const given = this.getAttribute('folder'), folder = given !== this.given ? given : dataFolder()
    this.given = given
    if (!folder || folder === this.bar.folder.asked) return false
    this.bar.folder.open(folder)
    return true
  }

  build() {
    if (this.getAttribute('mode') === 'manual') {
      this.bar = new Manual(this, this.set)
      return
    }
    this.bar = new Bar(this)
    this.batch = new Batch(this)
    this.grid = new Dataset(this)
    this.tags = new Tags(this)
    this.all = new AllTags(this)
    this.keyGroups = groups(this)
    for (const pane of [this.tags, this.all]) pane.node.addEventListener('focusin', () => { this.last = pane })
    this.tabIndex = -1 // a click on an empty place keeps the keys here
    this.addEventListener('keydown', event => press(event, this))
    const name = newId()
    this.tabs = h('fieldset', { class: 'lt-tabs' }, h('legend', { class: 'lk-hidden' }, 'Part'), Object.entries(PANES).map(([pane, words]) => h('label', {},
      h('input', { type: 'radio', name, value: pane, onchange: () => { this.panes.dataset.at = pane } }), h('span', {}, words))))
    this.panes = h('div', { class: 'lt-panes', 'data-at': 'pictures' }, this.grid.node, this.tags.node, this.all.node)
    this.work = h('div', { class: 'lt-work', hidden: true }, this.batch.node, this.tabs, this.panes, this.line())
    this.none = h('p', { class: 'lk-empty' }, 'Choose the folder that holds your pictures. Each caption is the .txt file beside its picture; every change is saved at once, and can be undone.')
    this.tabs.querySelector('input').checked = true
    this.append(this.bar.node, this.work, this.none)
    this.set.on('set', () => {
      this.work.hidden = false
      this.none.hidden = true
    })
  }

  // What was done, and whether it is saved.
  line() {
    this.said = h('span', { class: 'lk-wide', role: 'status' })
    this.state = h('span')
    this.fault = h('span', { class: 'lt-bad', role: 'alert' })
    this.takeIn = button('Take them in', () => this.set.refresh(), { class: 'lk-button lk-small', hidden: true, title: 'Read the captions from the disk again; that can be undone' })
    let timer = 0
    this.set.on('said', words => {
      say(this.said, words)
      clearTimeout(timer)
      timer = setTimeout(() => say(this.said, ''), 8000)
    })
    this.set.on('state', () => {
      const { saving, state } = this.set
      say(this.state, saving ? 'Saving …' : state.bad ? '' : state.words)
      say(this.fault, state.bad ? state.words : '')
      this.takeIn.hidden = !state.outside
    })
    return h('div', { class: 'lt-line' }, this.said, this.fault, this.takeIn, this.state)
  }

  // What keys and buttons ask for

  showPane(pane) {
    this.tabs.querySelector(`[value="${pane}"]`).click()
    this.panes.classList.remove(`lt-without-${pane}`)
  }

  focusPane(pane) {
    this.showPane(pane)
    const part = { pictures: this.grid, tags: this.tags, all: this.all }[pane]
    const goal = part.text ? part.area : part.view.node
    goal.focus()
  }

  hidePane(pane) {
    this.panes.classList.toggle(`lt-without-${pane}`)
    if (!this.contains(document.activeElement) || !document.activeElement.offsetParent) this.focus() // the keys stay here
  }

  focusAdd() {
    this.showPane('tags')
    this.tags.box.focus()
  }

  focusFind() {
    this.showPane('all')
    this.all.search.select()
    this.all.search.focus()
  }

  step(by) {
    const { shown, current } = this.set, next = shown[shown.indexOf(current) + by]
    if (next) this.set.choose([next], next)
  }

  turnMode() {
    const mode = MODES[(MODES.indexOf(this.set.mode) + 1) % MODES.length]
    this.set.tell('said', `Clicked tags filter by ${mode}`)
    this.set.filter({ mode })
  }

  // The tags that are selected in the pane that had the focus last, for a form.
  named() {
    return this.last === this.all ? this.all.names() : this.tags.view.chosen().map(item => item.tag)
  }

  saved() {
    this.set.tell('said', this.set.state.bad ? this.set.state.words : 'All is saved already: each change is, at once.')
  }

  fill() {
    const full = this.classList.toggle('lt-full')
    this.bar.full.setAttribute('aria-pressed', String(full))
    document.documentElement.classList.toggle('lt-filled', full)
  }

  preview() {
    preview(this)
  }

  check(tag) {
    check(this, tag)
  }

  bake() {
    bake(this)
  }

  keys() {
    keysWindow(this, this.keyGroups)
  }
}

customElements.define('likeness-tags', Editor)
