// The pictures of a folder in a row, for tools that work on one after the other.
import { address, ask, h, pictureAt } from './tools.js'

const SIZE = 160 // pixels of a small picture

export class Strip {
  // choose(name) is called when a person picks one.
  constructor(choose) {
    this.choose = choose
    this.names = []
    this.items = new Map()
    this.node = h('div', { class: 'lk-film', role: 'listbox', 'aria-label': 'Pictures', 'aria-orientation': 'horizontal', onkeydown: event => this.walk(event) })
  }

  // marked: a set of names that bear a mark, and what it means.
  fill(folder, names, marked, meaning) {
    this.names = names
    this.meaning = meaning
    this.items = new Map(names.map(name => [name, h('button', {
      type: 'button', class: 'lk-frame', role: 'option', tabindex: -1, title: name, 'aria-selected': 'false', onclick: () => this.choose(name),
    }, h('img', { src: pictureAt(`${folder}/${name}`, SIZE), alt: '', loading: 'lazy', decoding: 'async' }))]))
    for (const name of names) this.mark(name, marked.has(name))
    this.node.replaceChildren(...this.items.values())
  }

  mark(name, on) {
    const item = this.items.get(name)
    item?.classList.toggle('lk-marked', on)
    item?.setAttribute('aria-label', on ? `${name}, ${this.meaning}` : name)
  }

  select(name) {
    for (const each of [this.chosen, name]) {
      this.items.get(each)?.setAttribute('aria-selected', String(each === name))
      if (this.items.has(each)) this.items.get(each).tabIndex = each === name ? 0 : -1
    }
    this.chosen = name
    const item = this.items.get(name)
    const middle = item.offsetLeft + item.offsetWidth / 2 - this.node.offsetLeft
    this.node.scrollLeft = middle - this.node.clientWidth / 2 // scrollIntoView would move the page too
  }

  // The picture so many places further; undefined at the ends.
  beside(name, steps) {
    return this.names[this.names.indexOf(name) + steps]
  }

  walk(event) {
    const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key]
    if (!steps) return
    event.preventDefault()
    event.stopPropagation()
    const here = [...this.items.values()].indexOf(document.activeElement)
    const name = this.names[Math.max(0, Math.min(here + steps, this.names.length - 1))]
    this.items.get(name).focus()
    this.choose(name)
  }
}

const path = (folder, name) => `api/picture/large?${new URLSearchParams({ folder, name })}`
export const large = (folder, name) => address(path(folder, name))

// The picture, decoded; an Error that says why it cannot be shown, which only an answer that is no picture tells.
export async function load(folder, name) {
  const image = new Image()
  image.src = large(folder, name)
  await image.decode().catch(async () => {
    await ask(path(folder, name))
    throw new Error(`${name} cannot be shown.`)
  })
  return image
}

// Keys of a tool: not those that a field or a button takes itself.
export const takesKeys = (target, key) => /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName) ? target.type !== 'range' || /^(Arrow|Page|Home|End)/.test(key)
  : /^(BUTTON|SUMMARY|A)$/.test(target.tagName) && (key === 'Enter' || key === ' ')
