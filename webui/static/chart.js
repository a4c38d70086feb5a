// <likeness-chart>: loss or learning rate over steps, drawn as SVG. `chart.draw(runs)` takes
// [{name, steps, epochs?, checkpoints?, validations?}]; marks (epochs, checkpoints, validation) are drawn for a single run.
import { bytes, h, has, loss, newId, number, svg } from './tools.js'

const HEIGHT = 260
const EDGE = { left: 52, right: 14, top: 14, bottom: 26 }
export const COLOURS = 6 // --lk-line-1 .. --lk-line-6 in panel.css
export const PARTS = { unet: 'UNet', text_encoder: 'text encoder', text_encoder_2: 'text encoder 2' }
const KINDS = { loss: 'Loss', lr: 'Learning rate' }

// What it draws beside lines, and what it says of a point, others may say otherwise: verdict/curve.js does.
export class Chart extends HTMLElement {
  curves = KINDS
  runs = []
  lines = [] // {name, place, points: [{step, epoch, value}]}: one for each run, or for each rate of each run
  kind = 'loss'
  smoothing = 0.9

  connectedCallback() {
    if (!this.plot) this.build()
    this.size = new ResizeObserver(() => this.render())
    this.size.observe(this.plot)
  }

  disconnectedCallback() {
    this.size?.disconnect()
  }

  build() {
    const id = newId(), group = newId()
    this.kinds = h('fieldset', { class: 'lk-switch' }, h('legend', { class: 'lk-hidden' }, 'Curve of'), Object.entries(this.curves).map(([kind, words]) => h('label', {},
      h('input', { type: 'radio', name: group, checked: kind === this.kind, onchange: () => {
        this.menu.hidden = true
        this.show(kind)
      } }), words)))
    this.slider = h('input', {
      id, type: 'range', min: 0, max: 0.99, step: 0.01, value: this.smoothing,
      oninput: () => {
        this.smoothing = +this.slider.value
        this.shown.textContent = this.smoothing.toFixed(2)
        this.render()
      },
    })
    this.shown = h('output', { for: id }, this.smoothing.toFixed(2))
    this.smoother = h('span', { class: 'lk-row' }, h('label', { for: id }, 'Smoothing'), this.slider, this.shown)
    this.legend = h('div', { class: 'lk-legend' })
    this.tip = h('div', { class: 'lk-tip', hidden: true })
    this.menu = h('div', { class: 'lk-menu', hidden: true })
    this.plot = h('div', {
      class: 'lk-plot', onpointermove: event => this.hover(event), onpointerleave: () => this.hover(null),
      onkeydown: event => event.key === 'Escape' && this.close(),
    }, this.tip, this.menu)
    this.append(
      h('div', { class: 'lk-chart-head' }, this.kinds, this.legend, this.smoother),
      this.plot,
    )
  }

  draw(runs) {
    this.runs = runs
    this.show(this.kind)
  }

  show(kind) {
    this.kind = kind
    this.lines = this.runs.flatMap(kind === 'loss' ? lossOf : ratesOf)
    if (this.smoother) this.smoother.hidden = kind !== 'loss'
    this.render()
  }

  render() {
    if (!this.plot?.clientWidth) return
    const single = this.runs.length === 1 && this.kind === 'loss'
    this.smoothed = this.lines.map(({ points }) => smooth(points, this.kind === 'loss' ? this.smoothing : 0))
    const also = this.kind === 'lr' ? [0] : single ? validationsOf(this.runs[0]).map(event => event.loss) : []
    this.space = space(this.lines, this.smoothed, also, this.plot.clientWidth)
    const empty = !this.lines.some(({ points }) => points.length)
    const focused = this.querySelector('.lk-dot:focus')?.dataset.file
    const picture = svg('svg', { width: this.space.width, height: HEIGHT, role: 'group', 'aria-label': this.words() },
      ...(empty ? [] : axes(this.space, this.kind)),
      ...(this.runs.length === 1 && !empty ? epochLines(this.runs[0], this.space) : []),
      svg('clipPath', { id: 'lk-clip' }, svg('rect', {
        x: EDGE.left - 6, y: EDGE.top - 6, width: Math.max(0, this.space.width - EDGE.left - EDGE.right + 12), height: HEIGHT - EDGE.top - EDGE.bottom + 12,
      })),
      svg('g', { 'clip-path': 'url(#lk-clip)' },
        ...(this.kind === 'loss' ? this.lines : []).map(({ points, place }) => line(points.map(({ step, value }) => [step, value]), this.space, place, 'lk-raw')),
        ...this.lines.map(({ place }, number) => line(this.smoothed[number], this.space, place, 'lk-smooth'))),
      ...(empty ? [] : this.marks(single)),
      svg('line', { class: 'lk-cross', y1: EDGE.top, y2: HEIGHT - EDGE.bottom, visibility: 'hidden' }),
    )
    this.plot.querySelector('svg')?.remove()
    this.plot.prepend(empty ? svg('svg', { height: HEIGHT }, svg('text', { x: '50%', y: '50%', class: 'lk-none' },
      'The curve begins with the first step')) : picture)
    if (focused) this.querySelector(`.lk-dot[data-file="${CSS.escape(focused)}"]`)?.focus()
    this.explain(single)
  }

  marks(single) {
    if (!single) return []
    const { x, y } = this.space, [run] = this.runs
    const nodes = []
    const validations = validationsOf(run)
    nodes.push(line(validations.map(event => [event.step, event.loss]), this.space, 0, 'lk-validation'))
    for (const event of validations) nodes.push(svg('circle', { class: 'lk-valid-dot', cx: x(event.step), cy: y(event.loss), r: 3 }))
    for (const file of run.checkpoints || []) {
      const open = () => this.open(file)
      nodes.push(svg('circle', {
        class: 'lk-dot', 'data-file': file.file, cx: x(file.step), cy: y(at(this.smoothed[0], file.step)), r: 5.5, tabindex: 0, role: 'button',
        'aria-label': `Checkpoint of step ${file.step}: download`, onclick: open,
        onkeydown: event => (event.key === 'Enter' || event.key === ' ') && (event.preventDefault(), open()),
      }))
    }
    return nodes
  }

  explain(single) {
    const entry = (name, kind, place = 0) => h('span', { class: `lk-key ${kind}`, style: `--line: var(--lk-line-${place % COLOURS + 1})` }, name)
    const run = this.runs[0]
    const entries = !single ? (this.lines.length > 1 ? this.lines : []).map(({ name, place }) => entry(name, 'lk-smooth', place)) : [
      entry('Loss', 'lk-smooth'), run.validations?.size > 0 && entry('Validation loss', 'lk-validation'),
      run.checkpoints?.length > 0 && entry('Checkpoint', 'lk-dot'),
    ]
    this.legend.replaceChildren(...entries.filter(Boolean))
  }

  // The loss nearest to the pointer, in words.
  hover(event) {
    const cross = this.plot.querySelector('.lk-cross')
    const box = this.plot.getBoundingClientRect()
    const place = event && event.clientX - box.left
    this.tip.hidden = !cross || !event || !this.menu.hidden || place < EDGE.left - 4
    cross?.setAttribute('visibility', this.tip.hidden ? 'hidden' : 'visible')
    if (this.tip.hidden) return
    const step = this.space.step(place)
    const rows = this.lines.flatMap(({ name, points }, index) => {
      const found = nearest(points, step)
      return found < 0 ? [] : [[name, points[found], this.smoothed[index][found][1]]]
    })
    const near = rows.reduce((best, row) => Math.abs(row[1].step - step) < Math.abs(best - step) ? row[1].step : best, Infinity)
    const spot = this.space.x(near)
    cross.setAttribute('x1', spot)
    cross.setAttribute('x2', spot)
    this.tip.replaceChildren(...rows.map(([name, point, mean]) => h('div', {},
      this.lines.length > 1 && h('b', {}, `${name}: `), this.said(point, mean))))
    this.tip.style.left = `${Math.max(0, Math.min(spot + 12, box.width - this.tip.offsetWidth))}px`
  }

  said(point, mean) {
    const value = this.kind === 'loss' ? `loss ${loss(point.value)}, smoothed ${loss(mean)}` : `learning rate ${number(point.value)}`
    return `step ${point.step.toLocaleString('en')}, epoch ${point.epoch}: ${value}`
  }

  open(file) {
    const title = file.epoch ? `Epoch ${file.epoch}` : `Step ${file.step.toLocaleString('en')}`
    const link = h('a', { href: file.url, download: true, class: 'lk-button lk-primary' }, 'Download')
    this.menu.replaceChildren(
      h('b', {}, title), h('div', {}, file.name), h('div', { class: 'lk-soft' }, `step ${file.step.toLocaleString('en')}${has(file.size) ? `, ${bytes(file.size)}` : ''}`),
      h('div', { class: 'lk-row' }, link, h('button', { type: 'button', class: 'lk-button', onclick: () => this.close() }, 'Close')),
    )
    this.opened = file.file
    this.menu.hidden = false
    this.hover(null)
    const left = this.space.x(file.step) - this.menu.offsetWidth / 2
    this.menu.style.left = `${Math.max(0, Math.min(left, this.plot.clientWidth - this.menu.offsetWidth))}px`
    link.focus({ preventScroll: true })
  }

  close() {
    this.menu.hidden = true
    this.querySelector(`.lk-dot[data-file="${CSS.escape(this.opened || '')}"]`)?.focus({ preventScroll: true })
  }

  words() {
    const write = this.kind === 'loss' ? loss : number
    const told = this.lines.filter(({ points }) => points.length).map(({ name, points }) =>
      `${name}: ${this.curves[this.kind].toLowerCase()} from ${write(points[0].value)} to ${write(points.at(-1).value)} over ${points.at(-1).step} steps`)
    return told.join('; ') || 'Nothing yet'
  }
}

const pointsOf = (run, read) => run.steps.flatMap(one => has(read(one)) ? [{ step: one.step, epoch: one.epoch, value: read(one) }] : [])
const validationsOf = run => [...(run.validations?.values() || [])].filter(event => has(event.loss))
const lossOf = (run, place) => [{ name: run.name, place, points: pointsOf(run, one => one.loss) }]

// A line for each rate of a run alone; of several runs, that of their UNet, or of what else is trained.
function ratesOf(run, place, runs) {
  const parts = Object.keys(run.steps.at(-1)?.lr || {})
  const same = run.steps.every(({ lr }) => new Set(Object.values(lr || {})).size < 2)
  const told = same || runs.length > 1 ? parts.slice(0, 1) : parts
  return told.map((part, number) => ({
    name: runs.length > 1 ? run.name : same ? KINDS.lr : PARTS[part] || part, place: place + number, points: pointsOf(run, one => one.lr?.[part]),
  }))
}

// [[step, mean]]: an exponential mean that is not pulled towards its start (as TensorBoard's).
export function smooth(points, weight) {
  let sum = 0, share = 0
  return points.map(point => {
    sum = weight * sum + (1 - weight) * point.value
    share = weight * share + (1 - weight)
    return [point.step, sum / share]
  })
}

// Where things stand: scales, with single peaks of the raw loss left out of view, and the values `also` in it.
function space(lines, smoothed, also, width) {
  const raw = lines.flatMap(({ points }) => points.map(point => point.value)).sort((a, b) => a - b)
  const seen = [...smoothed.flat().map(pair => pair[1]), ...also]
  const share = part => raw[Math.floor(part * (raw.length - 1))]
  let low = Math.min(share(0.02) ?? 0, seen.reduce((a, b) => Math.min(a, b), Infinity))
  let high = Math.max(share(0.98) ?? 1, seen.reduce((a, b) => Math.max(a, b), -Infinity))
  const flat = high - low < high * 1e-6 // one value, or what rounding made of it
  const pad = (flat ? high || 1 : high - low) * 0.08
  low = Math.max(0, low - pad)
  high += pad
  const last = Math.max(2, ...lines.map(({ points }) => points.at(-1)?.step || 0))
  const inner = Math.max(1, width - EDGE.left - EDGE.right), tall = HEIGHT - EDGE.top - EDGE.bottom
  return {
    width, low, high, last,
    x: step => EDGE.left + (step - 1) / (last - 1) * inner,
    y: value => EDGE.top + (1 - (Math.min(high, Math.max(low, value)) - low) / (high - low)) * tall,
    step: place => 1 + (place - EDGE.left) / inner * (last - 1),
  }
}

function line(pairs, { x, y, low, high }, place, kind) {
  const free = value => y(low) + (low - value) / (high - low) * (y(low) - y(high)) // peaks leave the view, they do not bend
  const style = `--line: var(--lk-line-${place % COLOURS + 1})`
  if (pairs.length === 1) return svg('circle', { class: `${kind} lk-one`, cx: x(pairs[0][0]), cy: free(pairs[0][1]), r: 3, style })
  const path = pairs.map(([step, value]) => `${x(step).toFixed(1)},${free(value).toFixed(1)}`).join('L')
  return svg('path', { class: kind, d: path ? `M${path}` : '', style })
}

function axes({ x, y, low, high, last, width }, kind) {
  const write = kind === 'lr' ? number : value => String(+value.toPrecision(6))
  const nodes = []
  for (const value of ticks(low, high, 5)) {
    nodes.push(svg('line', { class: 'lk-grid', x1: EDGE.left, x2: width - EDGE.right, y1: y(value), y2: y(value) }),
      svg('text', { x: EDGE.left - 8, y: y(value) + 4, 'text-anchor': 'end' }, write(value)))
  }
  for (const value of ticks(1, last, Math.max(2, width / 130)).filter(Number.isInteger)) {
    nodes.push(svg('text', { x: x(value), y: HEIGHT - 8, 'text-anchor': 'middle' }, value.toLocaleString('en')))
  }
  return nodes
}

function epochLines(run, { x, last }) {
  const ends = [...(run.epochs?.values() || [])].filter(event => event.step <= last)
  const every = Math.ceil(ends.length / 12)
  return ends.flatMap((event, place) => [
    svg('line', { class: 'lk-epoch', x1: x(event.step), x2: x(event.step), y1: EDGE.top, y2: HEIGHT - EDGE.bottom }),
    (place + 1) % every === 0 && svg('text', { class: 'lk-epoch-name', x: x(event.step) - 4, y: EDGE.top + 8, 'text-anchor': 'end' }, `${place + 1 === every ? 'epoch ' : ''}${event.epoch}`),
  ]).filter(Boolean)
}

// Round numbers within a range
function ticks(low, high, wanted) {
  const rough = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(rough))
  const size = [1, 2, 5, 10].find(times => times * power >= rough) * power
  const found = []
  for (let value = Math.ceil(low / size) * size; value <= high + size / 1e6; value += size) found.push(+value.toPrecision(12))
  return found
}

function nearest(points, step) {
  let low = 0, high = points.length - 1
  while (low < high) {
    const middle = (low + high) >> 1
    if (points[middle].step < step) low = middle + 1
    else high = middle
  }
  return low > 0 && step - points[low - 1].step < points[low].step - step ? low - 1 : high
}

function at(pairs, step) {
  return pairs[nearest(pairs.map(([each]) => ({ step: each })), step)]?.[1] ?? 0
}

customElements.define('likeness-chart', Chart)
