// <likeness-compare runs="A,B">: what differs between runs, their curves laid over each other, samples side by side.
import { address, ask, boardPath, h, inShort, pill } from './tools.js'
import { COLOURS } from './chart.js'
import { names, shown, title } from './settings.js'
import './samples.js'

class Compare extends HTMLElement {
  async connectedCallback() {
    this.replaceChildren(h('p', { class: 'lk-empty' }, 'Reading the runs …'))
    const ids = this.getAttribute('runs').split(',').map(encodeURIComponent).join(',')
    const found = await Promise.all([ask(`api/compare?ids=${ids}`), names()]).catch(error => error)
    if (found instanceof Error) this.replaceChildren(h('p', { class: 'lk-note lk-bad', role: 'alert' }, found.message))
    else if (this.isConnected) this.draw(...found)
  }

  draw({ runs, different, curves, samples }, known) {
    const called = runs.map(line => runs.filter(other => other.name === line.name).length > 1 ? line.id : line.name)
    const chart = h('likeness-chart'), grid = h('likeness-samples')
    const head = place => h('th', { scope: 'col' }, h('span', { class: 'lk-key lk-smooth', style: `--line: var(--lk-line-${place % COLOURS + 1})` }, called[place]))
    const rows = Object.entries(different)
    this.replaceChildren(
      h('h3', {}, `${runs.length} runs side by side`),
      h('div', { class: 'lk-scroll' }, h('table', { class: 'lk-table' },
        h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'What differs'), runs.map((_, place) => head(place)))),
        h('tbody', {},
          h('tr', {}, h('th', { scope: 'row' }, 'State'), runs.map(line => h('td', {}, pill(line.state)))),
          rows.map(([name, values]) => h('tr', {}, title(known, name), values.map(value => h('td', {}, shown(known, name, value))))),
          h('tr', {}, h('th', { scope: 'row' }, 'Notes'), runs.map(line => h('td', {}, line.note || '–'))))),
      !rows.length && h('p', { class: 'lk-empty' }, `Their settings are all the same (${inShort(runs[0])}).`)),
      h('a', { href: address(boardPath(runs.map(line => line.id))), target: '_blank' }, 'These runs in TensorBoard'),
      chart)
    chart.draw(curves.map((curve, place) => ({ name: called[place], steps: curve.steps })))
    if (samples.some(each => each.length)) this.pictures(grid, samples, called)
  }

  // Of each run the samples of one moment: the last, or that of an epoch.
  pictures(grid, samples, called) {
    const epochs = [...new Set(samples.flat().map(sample => sample.epoch ?? 0))].sort((a, b) => a - b)
    const choice = h('select', { class: 'lk-select', 'aria-label': 'Which samples', onchange: () => show() },
      h('option', { value: '' }, 'the last of each run'), epochs.map(epoch => h('option', { value: epoch }, epoch ? `epoch ${epoch}` : 'the base model')))
    const show = () => grid.draw(samples.flatMap((each, place) => {
      const wanted = choice.value === '' ? Math.max(...each.map(sample => sample.step)) : each.findLast(sample => (sample.epoch ?? 0) === +choice.value)?.step
      return each.filter(sample => sample.step === wanted).map(sample => ({
        ...sample, url: address(sample.url), thumb: address(sample.thumb), column: called[place], file: `${place}:${sample.file}`,
      }))
    }))
    this.append(h('header', { class: 'lk-head' }, h('h4', {}, 'Samples'), choice), grid)
    show()
  }
}

customElements.define('likeness-compare', Compare)
