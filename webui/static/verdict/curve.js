// <likeness-verdict-curve>: total and likeness of the files over their epochs, a line for each strength.
import { Chart, COLOURS } from '../chart.js'
import { h, has, svg } from '../tools.js'
import { isLora } from './told.js'

const SCORES = { total: row => row.total, likeness: row => row.scores.likeness }

class Curve extends Chart {
  curves = { total: 'Total', likeness: 'Likeness' }
  kind = 'total'

  tell(told) {
    const files = told.byAge.filter(row => row.kind === 'file')
    this.unit = files.every(row => has(row.epoch)) ? 'epoch' : 'step'
    this.best = told.pick || told.best
    this.draw(told.strengths.map(strength => ({
      name: `strength ${strength}`, rows: files.filter(row => row.strength === strength && has(row[this.unit])),
    })).filter(({ rows }) => rows.length))
    this.hidden = new Set(files.map(row => row[this.unit])).size < 2
  }

  show(kind) {
    this.kind = kind
    this.lines = this.runs.map(({ name, rows }, place) => ({
      name, place, points: rows.map(row => ({ step: row[this.unit], value: SCORES[kind](row), row })).filter(({ value }) => has(value)),
    }))
    if (this.smoother) this.smoother.hidden = true
    this.render()
  }

  // A dot for each file, and a ring around the one to use.
  marks() {
    const { x, y } = this.space
    return this.lines.flatMap(({ points, place }) => points.flatMap(({ step, value, row }) => {
      const style = `--line: var(--lk-line-${place % COLOURS + 1})`
      const dot = svg('circle', { class: 'lv-dot', cx: x(step), cy: y(value), r: 3.5, style })
      return row === this.best ? [svg('circle', { class: 'lv-ring', cx: x(step), cy: y(value), r: 8, style }), dot] : [dot]
    }))
  }

  said({ step, value, row }) {
    return `${this.unit} ${step.toLocaleString('en')}: ${this.curves[this.kind].toLowerCase()} ${value.toFixed(2)}${row === this.best ? ', the best' : ''}`
  }

  explain() {
    super.explain(false)
    this.legend.append(h('span', { class: 'lk-soft' }, this.lines.length > 1 || !this.runs[0]?.rows.every(isLora) ? `by ${this.unit}` : `at ${this.runs[0].name}, by ${this.unit}`))
  }

  words() {
    return super.words().replace(/ steps/g, ` ${this.unit}s`)
  }
}

customElements.define('likeness-verdict-curve', Curve)
