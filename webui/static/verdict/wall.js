// The picture wall: what every candidate drew for the same prompts and seeds, beside what the base model draws alone.
import { h, newId, pictureAt } from '../tools.js'
import { enlarge } from './large.js'
import { KEYS, KINDS, isLora, keyOf, nameOf, strengthOf } from './told.js'

const SIZE = 256 // px of small pictures that are asked for
const ALL = 'all'

export class Wall {
  constructor() {
    this.kind = ALL
    this.strength = null // null: that of the pick
    this.kinds = h('div')
    this.strengths = h('div')
    this.box = h('div', { class: 'lg-box lv-wall', tabindex: 0, role: 'region', 'aria-label': 'The pictures' })
    this.node = h('section', { 'aria-label': 'Pictures' }, h('header', { class: 'lk-head' }, h('h4', {}, 'Pictures'), this.kinds, this.strengths), this.box)
  }

  draw(told) {
    const key = JSON.stringify([this.kind, this.strength, told.folder, told.reference.pictures, told.rows.map(row => [row.file, row.strength, row.pictures, row === told.pick])])
    this.told = told
    this.node.hidden = !told.asked.length || !told.rows.length && !told.reference.pictures.length
    if (key === this.drawn) return // pictures that are there must not flicker
    this.drawn = key
    if (!told.strengths.includes(this.strength) && this.strength !== ALL) this.strength = null
    const strength = this.strength ?? (told.pick || told.best)?.strength ?? told.strengths[0]
    const kinds = Object.keys(KINDS).filter(kind => told.asked.some(one => one.kind === kind))
    this.kinds.replaceChildren(this.switch('Which prompts', [[ALL, 'All prompts'], ...kinds.map(kind => [kind, KINDS[kind]])], this.kind, kind => { this.kind = kind }))
    this.strengths.replaceChildren(told.strengths.length > 1 ? this.switch('Strength', [...told.strengths.map(one => [one, String(one)]), [ALL, 'All strengths']], strength, one => { this.strength = one }) : '')
    this.columns = [
      { row: null, name: told.bare, pictures: told.reference.pictures },
      ...told.byAge.filter(row => strength === ALL || row.strength === strength).map(row => ({ row, name: nameOf(row), pictures: row.pictures || [] })),
    ]
    this.places = told.asked.flatMap((one, place) => this.kind === ALL || one.kind === this.kind ? [place] : [])
    this.box.replaceChildren(h('table', { class: 'lg-table' },
      h('thead', {}, h('tr', {}, h('td', { class: 'lg-corner' }), this.columns.map(column => this.head(column)))),
      h('tbody', {}, this.places.map((place, y) => h('tr', {}, this.prompt(told.asked[place]), this.columns.map((_, x) => h('td', {}, this.picture(x, y))))))))
  }

  switch(title, choices, chosen, choose) {
    const name = newId()
    return h('fieldset', { class: 'lg-switch' }, h('legend', { class: 'lk-hidden' }, title), choices.map(([value, words]) => h('label', {},
      h('input', { type: 'radio', name, class: 'lk-hidden', checked: value === chosen, onchange: event => {
        choose(value)
        const label = event.target.parentNode.textContent
        this.draw(this.told)
        ;[...this.node.querySelectorAll('label')].find(node => node.textContent === label)?.firstChild.focus()
      } }), words)))
  }

  head({ row, name }) {
    const { pick, best } = this.told, isBest = row && row === (pick || best)
    return h('th', { scope: 'col', class: row ? null : 'lg-base', 'data-key': row && keyOf(row) }, h('span', { class: 'lg-label' }, name),
      row ? isLora(row) && h('span', { class: 'lg-count' }, `at ${strengthOf(row)}`) : h('span', { class: 'lg-mark' }, 'base model'),
      isBest && h('span', { class: 'lv-mark' }, pick ? 'the pick' : 'the best'))
  }

  prompt({ kind, prompt, seed, asked }) {
    return h('th', { scope: 'row', title: prompt }, h('span', { class: 'lg-label lv-prompt' }, prompt),
      h('span', { class: 'lg-count' }, [asked && KINDS[kind] !== asked && `asks: ${asked}`, `seed ${seed}`].filter(Boolean).join(' · ')))
  }

  picture(x, y) {
    const file = this.columns[x].pictures[this.places[y]]
    if (!file) return h('div', { class: 'lg-none' }, 'Not drawn')
    return h('button', { type: 'button', class: 'lg-cell', 'aria-label': `Enlarge: ${this.words(x, y)}`, onclick: () => enlarge(this, x, y), onkeydown: event => this.walk(event, x, y) },
      h('img', { src: pictureAt(file, SIZE, 0), alt: '', loading: 'lazy', decoding: 'async' }))
  }

  words(x, y) {
    const { row, name } = this.columns[x], { prompt, bare, seed } = this.told.asked[this.places[y]]
    return `${row && isLora(row) ? `${name} at ${strengthOf(row)}` : name}, ${row ? prompt : bare}, seed ${seed}`
  }

  // The next picture from a place in a direction; null where there is none.
  step([x, y], [right, down]) {
    do {
      x += right
      y += down
      if (this.columns[x]?.pictures[this.places[y]]) return [x, y]
    } while (this.columns[x] && this.places[y] !== undefined)
    return null
  }

  walk(event, x, y) {
    const next = KEYS[event.key] && this.step([x, y], KEYS[event.key])
    if (!next) return
    event.preventDefault()
    this.box.querySelectorAll('tbody tr')[next[1]].children[next[0] + 1].firstChild.focus()
  }

  // Brings the pictures of a candidate into sight.
  show(row) {
    if (this.strength !== ALL) this.strength = row.strength
    this.draw(this.told)
    this.node.scrollIntoView({ block: 'start', behavior: 'smooth' })
    const head = [...this.box.querySelectorAll('th[data-key]')].find(node => node.dataset.key === keyOf(row))
    if (head) this.box.scrollLeft += head.getBoundingClientRect().left - this.box.getBoundingClientRect().left - this.box.clientWidth / 2
  }
}
