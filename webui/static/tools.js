// What all elements share: addresses, requests, building of nodes (text is never parsed as HTML), numbers for people.

// The page may lie under any prefix, so everything counts from this file: <prefix>/static/tools.js.
const BASE = new URL('..', import.meta.url)
export const address = path => new URL(path, BASE).href

// A picture of a data set, made small: at most so many pixels wide and high. With a stamp, which is another when the
// picture is, the browser need not ask whether it has changed.
export const pictureAt = (path, size, stamp) => address(`api/picture?${new URLSearchParams({ path, size, ...(has(stamp) && { v: stamp }) })}`)

// The answer of one of our routes; an Error that carries the server's words, and its status (0: not reached, or not
// within so many milliseconds).
export async function ask(path, body, method = body === undefined ? 'GET' : 'POST', within) {
  const options = { method, headers: { Accept: 'application/json' }, ...(within && { signal: AbortSignal.timeout(within) }) }
  if (body !== undefined) {
    options.headers['Content-Type'] = 'application/json'
    options.body = JSON.stringify(body)
  }
  const answer = await fetch(address(path), options).catch(() => null)
  if (!answer) throw fault('The page\'s server cannot be reached. Trainings go on without it.', 0)
  const data = await answer.json().catch(() => null)
  if (!answer.ok) throw fault(data?.error || `The server answered ${answer.status}.`, answer.status)
  return data
}

function fault(words, status) {
  return Object.assign(new Error(words), { status })
}

export const runPath = (run, rest = '') => `api/runs/${encodeURIComponent(run)}${rest}`
export const filePath = (run, file, kind = 'file') => runPath(run, `/${kind}/`) + file.split('/').map(encodeURIComponent).join('/')

// TensorBoard with some runs chosen: it filters them by a pattern of names.
export const boardPath = runs => `tensorboard/?runFilter=${encodeURIComponent(`^(${runs.map(run => run.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('|')})/`)}`

// A node: h('button', { class: 'x', onclick: f, disabled: true }, 'text', node, [nodes]).
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children)
}

export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS('http://www.w3.org/2000/svg', tag), props, children)
}

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value)
    else if (name === 'value') node.value = value
    else if (value === true) node.setAttribute(name, '')
    else if (value !== false && value != null) node.setAttribute(name, value)
  }
  node.append(...children.flat().filter(child => child != null && child !== false))
  return node
}

// Sets a text only when it changed: a selection in it, and a screen reader, are left in peace.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text
}

export function button(text, onclick, props = {}) {
  return h('button', { type: 'button', onclick, ...props }, text)
}

// A place for what is refused, or said, hidden while it is empty: `node.tell(words)` fills it.
export function notice(kind = 'lk-note lk-bad', role = 'alert') {
  const node = h('p', { class: kind, role, hidden: true })
  node.tell = words => {
    say(node, words || '')
    node.hidden = !words
  }
  return node
}

// A window over the page, to be shown with `showModal()`: Escape, a press beside it and `close()` end it.
export function over(label, props, ...children) {
  const node = h('dialog', { 'aria-label': label, onclick: event => event.target === node && node.close(), ...props }, ...children)
  node.addEventListener('close', () => node.remove())
  document.body.append(node)
  return node
}

// Runs what a press asks for; the button waits meanwhile, and a refusal is told by `tell`.
export async function press(node, work, tell) {
  node.disabled = true
  try {
    tell('')
    return await work()
  } catch (error) {
    tell(error.message)
  } finally {
    node.disabled = false
  }
}

let numbers = 0
export const newId = () => `likeness-${++numbers}`

// Numbers for people

// Things by what `key` says of each, in the order in which they come: a Map of lists.
export function grouped(all, key) {
  const found = new Map()
  for (const one of all) found.set(key(one), [...found.get(key(one)) || [], one])
  return found
}

export const has = value => value !== null && value !== undefined

export function number(value, digits = 3) {
  if (!has(value)) return '–'
  const size = Math.abs(value)
  if (size !== 0 && (size < 0.001 || size >= 1e6)) return value.toExponential(digits - 1).replace(/\.?0*e\+?/, 'e')
  return size >= 1000 ? Math.round(value).toLocaleString('en') : String(+value.toPrecision(digits))
}

export const loss = value => has(value) ? value.toFixed(value < 0.01 ? 5 : 4) : '–'
export const count = (many, one, more = `${one}s`) => `${many.toLocaleString('en')} ${many === 1 ? one : more}`

export function bytes(size) {
  if (!has(size)) return '–'
  if (size < 1e3) return `${size} bytes`
  const unit = size < 1e6 ? [1e3, 'kB'] : size < 1e9 ? [1e6, 'MB'] : [1e9, 'GB']
  const value = size / unit[0]
  return `${value.toFixed(value < 10 ? 1 : 0)} ${unit[1]}`
}

export function duration(seconds) {
  if (!has(seconds)) return '–'
  const s = Math.max(0, Math.round(seconds))
  if (s < 60) return `${s} s`
  if (s < 3600) return `${Math.floor(s / 60)} min ${s < 600 ? `${s % 60} s` : ''}`.trim()
  const hours = Math.floor(s / 3600)
  return hours < 48 ? `${hours} h ${Math.floor(s % 3600 / 60)} min` : `${Math.floor(hours / 24)} days ${hours % 24} h`
}

export function speed(rate) {
  if (!rate) return '–'
  return rate >= 1 ? `${number(rate)} steps a second` : `${number(1 / rate)} s a step`
}

const sameDay = (a, b) => a.toDateString() === b.toDateString()

// The time of day, with the day when it is not today.
export function clock(unix) {
  const date = new Date(unix * 1000), now = new Date()
  const time = date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })
  if (sameDay(date, now)) return time
  const day = { day: 'numeric', month: 'short', ...(date.getFullYear() !== now.getFullYear() && { year: 'numeric' }) }
  return `${date.toLocaleDateString([], day)}, ${time}`
}

// States in words, and as the last part of a class
export const STATES = {
  queued: 'Waiting', running: 'Training', stopped: 'Stopped', paused: 'Paused', done: 'Done',
  error: 'Failed', interrupted: 'Cut off', lost: 'Connection lost',
}

export const pill = (state, words) => h('span', { class: `lk-pill lk-${state}` }, words || STATES[state] || state)

export function inShort(line) {
  const { about, family } = line
  const words = [
    { sd15: 'SD 1.5', sdxl: 'SDXL' }[family] || family, about.base, has(about.rank) && `rank ${about.rank}`,
    has(about.lr) && `rate ${number(about.lr)}`, has(about.epochs) && count(about.epochs, 'epoch'),
    has(about.pictures) && count(about.pictures, 'picture'), about.folder,
  ]
  return words.filter(Boolean).join(' · ')
}
