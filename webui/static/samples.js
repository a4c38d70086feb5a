// <likeness-samples>: pictures made during training; rows are prompts, columns the steps, the base model first.
// `grid.draw(samples)` takes [{file, url, thumb, step, epoch, prompt, seed, index}]; a column may bear a name of its own
// (`column`), as when runs are compared.
import { button, h, over } from './tools.js'

class Samples extends HTMLElement {
  drawn = ''

  draw(samples) {
    const shape = JSON.stringify(samples.map(sample => [sample.file, sample.column]))
    if (shape === this.drawn) return // pictures that are there must not flicker
    this.drawn = shape
    const columns = columnsOf(samples)
    const rows = rowsOf(samples)
    this.cells = rows.map(row => columns.map(column => samples.findLast(sample => keyOf(sample) === column.key && rowKey(sample) === row.key)))
    this.columns = columns
    this.hidden = !samples.length
    const box = this.querySelector('.lk-scroll')
    const atEnd = !box || box.scrollLeft + box.clientWidth >= box.scrollWidth - 24
    this.replaceChildren(h('div', { class: 'lk-scroll', tabindex: -1 }, h('table', { class: 'lk-samples' },
      h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'Prompt'), columns.map(column => h('th', { scope: 'col' }, column.name)))),
      h('tbody', {}, rows.map((row, y) => h('tr', {}, h('th', { scope: 'row', title: row.prompt }, h('span', {}, row.prompt)),
        columns.map((column, x) => h('td', {}, this.thumb(x, y)))))))))
    if (atEnd) this.firstChild.scrollLeft = this.firstChild.scrollWidth
  }

  thumb(x, y) {
    const sample = this.cells[y][x]
    if (!sample) return null
    return h('button', { type: 'button', class: 'lk-thumb', onclick: () => this.open(x, y), 'aria-label': `Enlarge: ${this.words(x, y)}` },
      h('img', { src: `${sample.thumb}?size=256`, alt: '', loading: 'lazy', decoding: 'async' }))
  }

  words(x, y) {
    return `${this.columns[x].name}, ${this.cells[y][x].prompt}`
  }

  // One picture large: arrow keys go along a prompt's steps and from prompt to prompt.
  open(x, y) {
    const { cells, columns } = this // of now: a picture may come while one looks
    const picture = h('img', { alt: '' }), text = h('p'), link = h('a', { class: 'lk-button', download: true }, 'Download')
    const show = () => {
      const sample = cells[y][x]
      picture.src = `${sample.thumb}?size=1024`
      picture.alt = `${columns[x].name}, ${sample.prompt}`
      text.replaceChildren(h('b', {}, columns[x].name), ` · ${sample.prompt} · seed ${sample.seed}`)
      link.href = sample.url
    }
    const go = (right, down) => {
      let [a, b] = [x + right, y + down]
      while (cells[b] && a >= 0 && a < columns.length && !cells[b][a]) [a, b] = [a + right, b + down]
      if (cells[b]?.[a]) {
        [x, y] = [a, b]
        show()
      }
    }
    const keys = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }
    const arrow = (sign, name, right, down) => button(sign, () => go(right, down), { class: 'lk-button', 'aria-label': name, title: name })
    const dialog = over('Sample picture', {
      class: 'lk-large',
      onkeydown: event => {
        if (!keys[event.key]) return
        event.preventDefault()
        go(...keys[event.key])
      },
    }, picture, text, h('div', { class: 'lk-row' },
      arrow('←', 'Earlier', -1, 0), arrow('→', 'Later', 1, 0), arrow('↑', 'Prompt above', 0, -1), arrow('↓', 'Prompt below', 0, 1),
      link, button('Close', () => dialog.close(), { class: 'lk-button' })))
    show()
    dialog.showModal()
  }
}

const keyOf = sample => sample.column ?? sample.step
const rowKey = sample => sample.index ?? sample.prompt

function columnsOf(samples) {
  const found = new Map(samples.map(sample => [keyOf(sample), sample]))
  const columns = [...found.values()]
  if (columns.every(sample => sample.column === undefined)) columns.sort((a, b) => a.step - b.step)
  return columns.map(sample => ({ key: keyOf(sample), name: sample.column ?? nameOf(sample, columns) }))
}

// The epoch, unless several columns belong to it.
function nameOf(sample, columns) {
  if (!sample.step) return 'Base model'
  const alone = columns.filter(other => other.step && other.epoch === sample.epoch).length === 1
  return sample.epoch && alone ? `Epoch ${sample.epoch}` : `Step ${sample.step.toLocaleString('en')}`
}

function rowsOf(samples) {
  const rows = new Map(samples.map(sample => [rowKey(sample), { key: rowKey(sample), prompt: sample.prompt }]))
  return [...rows.values()].sort((a, b) => a.key < b.key ? -1 : 1)
}

customElements.define('likeness-samples', Samples)
