// The candidates and what was measured of each: bars with figures, sorted by any of them.
import { button, h, has, loss } from '../tools.js'
import { ageOf, fileName, isLora, keyOf, nameOf, strengthOf, words } from './told.js'

const WHICH = { title: 'File', about: 'a file of the run, or an average of several; sorted by when it was saved', good: true }
const STRENGTH = { title: 'Strength', about: 'at which the LoRA is worn, as in <lora:name:0.8>', good: false }
const TOTAL = { title: 'Total', about: 'the measures together, 0 to 1: candidates are ordered by it', good: true }

export class Table {
  // use(row): "Use this one" was pressed.
  constructor(use) {
    this.use = use
    this.sorted = { by: 'total', down: true }
    this.node = h('div', { class: 'lv-scroll', tabindex: 0, role: 'region', 'aria-label': 'Candidates' })
  }

  // Measures that no candidate has are left out: what was not measured is said above.
  draw(told, measures) {
    this.told = told
    this.measures = Object.fromEntries(Object.entries(measures).filter(([name]) => told.rows.some(row => has(row.scores[name]))))
    const columns = [['file', WHICH], ...(told.rows.every(isLora) ? [['strength', STRENGTH]] : []), ['total', TOTAL], ...Object.entries(this.measures)]
    const focused = this.node.contains(document.activeElement) && document.activeElement.dataset.by
    const rows = [...told.rows].sort((a, b) => this.order(a, b))
    this.node.replaceChildren(h('table', { class: 'lv-table' },
      h('thead', {}, h('tr', {}, columns.map(([name, measure]) => this.head(name, measure)), h('td', { class: 'lv-last' }))),
      h('tbody', {}, rows.map(row => this.row(row)))))
    if (focused) this.node.querySelector(`[data-by="${focused}"]`)?.focus()
  }

  head(name, { title, about, good }) {
    const { by, down } = this.sorted, isBy = by === name
    const sort = () => {
      this.sorted = { by: name, down: isBy ? !down : good && name !== 'file' }
      this.draw(this.told, this.measures)
    }
    return h('th', { scope: 'col', 'aria-sort': isBy ? (down ? 'descending' : 'ascending') : 'none', class: name === 'file' ? 'lv-name' : null },
      button(title, sort, { class: 'lv-sort', title: `${title}: ${about}`, 'data-by': name }),
      has(this.measures[name]) && h('span', { class: 'lv-way' }, good ? 'more is better' : 'less is better'))
  }

  value(row, name) {
    return name === 'file' ? ageOf(row) : name === 'strength' ? row.strength : name === 'total' ? row.total : row.scores[name]
  }

  // Those that were not measured come last, either way.
  order(a, b) {
    const [x, y] = [a, b].map(row => this.value(row, this.sorted.by))
    if (!has(x) || !has(y)) return has(y) - has(x)
    return (x === y ? 0 : x > y ? 1 : -1) * (this.sorted.down ? -1 : 1) || b.total - a.total
  }

  row(row) {
    const { told } = this, isPick = row === told.pick, isBest = !told.pick && row === told.best
    const mark = isPick ? 'the pick' : isBest ? 'the best of them' : told.ties.includes(row) ? 'ties with it' : ''
    return h('tr', { 'data-key': keyOf(row), class: isPick || isBest ? 'lv-pick' : null },
      h('th', { scope: 'row', class: 'lv-name', title: row.file }, nameOf(row), mark && h('span', { class: 'lv-mark' }, mark), h('span', { class: 'lk-soft' }, fileName(row))),
      isLora(row) && h('td', {}, strengthOf(row)), this.bar(row.total, true),
      Object.entries(this.measures).map(([name, measure]) => measure.loss ? h('td', { class: 'lv-figure' }, name === 'gap' ? percent(row.scores.gap) : loss(row.scores[name])) : this.bar(row.scores[name], measure.good)),
      h('td', { class: 'lv-last' }, button('Use', () => this.use(row), { class: `lk-button lk-small${isPick ? ' lk-primary' : ''}`, title: 'Use this one', 'aria-label': `Use ${words(row)}` })))
  }

  bar(value, good) {
    if (!has(value)) return h('td', { class: 'lv-figure' }, '–')
    const part = Math.max(0, Math.min(1, value))
    return h('td', {}, h('span', { class: 'lv-figure' }, figure(value)),
      h('span', { class: `lv-bar${good ? '' : ' lv-less'}`, 'aria-hidden': 'true', style: `--part: ${(100 * part).toFixed(1)}%` }))
  }
}

const figure = value => (Math.abs(value) < 0.005 ? 0 : value).toFixed(2)
const percent = share => has(share) ? `${share < 0 ? '−' : '+'}${Math.abs(Math.round(100 * share))} %` : '–'
