// The form of a training: marks at its fields, search over all of them, paths by a file browser. The fields are
// Gradio's; what is wrong or changed is told by Python through window.likenessMarks, what is to be done through
// window.likenessState, and asked for by `likeness-ask`.
import { address, button, h, newId, say } from './tools.js'
import { choose, fileHere } from './browse.js'

const state = () => window.likenessState || {}
const marks = () => window.likenessMarks || {}
const field = name => document.getElementById(`field-${name}`)
const inputOf = box => box?.querySelector('textarea, input')
const shown = node => node?.offsetParent != null

export function ask(detail) {
  dispatchEvent(new CustomEvent('likeness-ask', { detail }))
}

// Writes into one of Gradio's fields as a person would.
export function type(input, value) {
  const kind = input instanceof HTMLTextAreaElement ? HTMLTextAreaElement : HTMLInputElement
  Object.getOwnPropertyDescriptor(kind.prototype, 'value').set.call(input, value)
  input.dispatchEvent(new Event('input', { bubbles: true }))
}

// Opens a tab by its words: LoRA, Runs, ...
export function tab(words, within = '#tabs') {
  const all = [...document.querySelectorAll(`${within} button[role="tab"]`)]
  all.find(node => node.textContent.trim() === words)?.click()
}

// Marks

// A field is called by its label alone; Gradio puts the help into the label too. A group of fields is a block as well.
function name(box) {
  const title = box.querySelector('[data-testid="block-info"], .label-text'), help = box.querySelector('.info-text'), input = inputOf(box)
  if (title?.closest('.block') !== box || !help || !input || input.hasAttribute('aria-label')) return
  input.setAttribute('aria-label', title.textContent.trim())
  help.id ||= newId()
  input.setAttribute('aria-describedby', help.id)
}

function mark() {
  const { mistakes = {}, changed = [] } = marks()
  document.querySelectorAll('#tabs .block, #trainer .block').forEach(name)
  const moved = new Set(changed)
  for (const box of document.querySelectorAll('.field')) {
    const name = box.id.slice('field-'.length)
    box.classList.toggle('moved', moved.has(name))
    reset(box, name, moved.has(name))
    tell(box, name, mistakes[name])
    if (box.matches('.path-file, .path-folder')) browser(box)
  }
  document.querySelectorAll('.path-file:not(.field), .path-folder:not(.field)').forEach(browser)
}

function reset(box, name, moved) {
  const old = box.querySelector('.reset')
  if (!moved) return old?.remove()
  if (old) return
  const words = box.querySelector('[data-testid="block-info"], .label-text')?.textContent.trim()
  const back = () => ask({ do: 'reset', name })
  box.append(button('↺', back, { class: 'reset', title: 'Changed. Back to the default', 'aria-label': `${words}: back to the default` }))
}

function tell(box, name, words) {
  const input = inputOf(box)
  let line = box.querySelector('.mistake')
  if (!words) {
    line?.remove()
    input?.removeAttribute('aria-invalid')
    input?.removeAttribute('aria-errormessage')
    return box.classList.remove('wrong')
  }
  if (!line) box.append(line = h('p', { class: 'mistake', id: `mistake-${name}` }))
  say(line, words)
  box.classList.add('wrong')
  if (input && !input.hasAttribute('aria-invalid')) {
    input.setAttribute('aria-invalid', 'true')
    input.setAttribute('aria-errormessage', line.id)
  }
}

function browser(box) {
  const input = inputOf(box)
  if (!input || box.querySelector('.browse')) return
  const kind = box.classList.contains('path-folder') ? 'folder' : 'file'
  const ends = [...box.classList].filter(name => name.startsWith('ends-')).map(name => name.replace('ends-', '.'))
  const words = box.querySelector('[data-testid="block-info"]')?.textContent.trim() || 'Path'
  const open = async () => {
    const path = await choose({ title: words, kind, ends, start: input.value })
    if (path) type(input, path)
  }
  input.after(button('Browse', open, { class: 'browse', 'aria-label': `Browse for ${words}` }))
}

let waiting = 0
function refresh() {
  waiting ||= setTimeout(() => {
    waiting = 0
    mark()
  }, 20)
}

// What is written is looked at once the hand rests.
const REST = 250 // ms
let resting = 0
addEventListener('input', ({ target }) => {
  if (!target.matches?.('[data-testid="textbox"]')) return
  clearTimeout(resting)
  if (target.closest('.field')) resting = setTimeout(() => ask({ do: 'look' }), REST)
  // Gradio's boxes tell Python of keys alone; so that a paste, a deletion and a chosen path count too:
  else target.dispatchEvent(new KeyboardEvent('keypress', { bubbles: true }))
})

// The tabs that train share one form: which of them it is for is told by Python, and asked for when another is opened.
let tabs = {} // what each is called in state
let settling = 0
const opened = () => [...document.querySelectorAll('#tabs button[role="tab"][aria-selected="true"]')]
  .find(node => node.closest('.tabs').id === 'tabs')?.textContent.trim()

function settle(turn) {
  const to = tabs[opened()], now = state().tab
  if (!now || to === now) return
  if (turn) tab(Object.keys(tabs).find(words => tabs[words] === now))
  else if (to) {
    ask({ do: 'turn', to })
    clearTimeout(settling)
    settling = setTimeout(settle, 500, false) // Gradio drops what is asked while it waits for an answer
  }
}
addEventListener('click', ({ target }) => target.closest?.('#tabs button[role="tab"]') && setTimeout(settle, 0, false))

let again = 0
function lookAgain() {
  clearTimeout(again)
  const later = marks().tab === state().tab ? marks().again : REST // an answer that came late told of another tab
  if (later) again = setTimeout(ask, later, { do: 'look' })
}
addEventListener('likeness-marks', () => {
  refresh()
  lookAgain()
})
addEventListener('likeness-state', () => {
  const { turn, dialog, start } = state()
  settle(turn)
  lookAgain()
  if (dialog === 'save') saveFile()
  if (start) setTimeout(() => document.getElementById('job')?.scrollIntoView({ block: 'start' }), 200)
})
// Tabs and accordions are drawn when they are opened; the marks come after.
const MARKED = '.field, .path-file, .path-folder, .info-text'
const bears = node => node.nodeType === 1 && (node.closest(MARKED) || node.querySelector(MARKED))
new MutationObserver(changes => changes.some(({ addedNodes }) => [...addedNodes].some(bears)) && refresh())
  .observe(document.documentElement, { childList: true, subtree: true })

// What is pressed in a text that Python wrote

addEventListener('click', event => {
  const pressed = event.target.closest?.('[data-ask], [data-go], [data-copy]')
  if (!pressed) return
  const { ask: wish, go: name } = pressed.dataset
  if (wish) ask(JSON.parse(wish))
  else if (name) go(name)
  else copy(pressed)
})

async function copy(pressed) {
  const code = pressed.parentElement.querySelector('code')
  getSelection().selectAllChildren(code) // where the clipboard is closed (http), Ctrl-C is one key away
  await navigator.clipboard?.writeText(code.textContent).then(() => say(pressed, 'Copied'), () => {})
}

// Configuration files

async function openFile() {
  const chosen = await choose({ title: 'Open a configuration file', kind: 'file', ends: ['.json', '.toml'], here: true, start: pathField()?.value })
  if (chosen instanceof File) ask({ do: 'open', name: chosen.name, text: await chosen.text() })
  else if (chosen) ask({ do: 'load', file: chosen })
}

async function saveFile() {
  const name = `${inputOf(field('output.name'))?.value || 'settings'}.json`
  const path = await choose({ title: 'Save as', kind: 'save', ends: ['.json'], start: pathField()?.value, name })
  if (path) ask({ do: 'save', file: path }) // Gradio takes a `path` for an upload of its own
}

const pathField = () => inputOf(document.getElementById('config-path'))

// Search

const until = async (found, tries = 40) => {
  for (; tries; tries--) {
    const node = found()
    if (node) return node
    await new Promise(done => setTimeout(done, 25))
  }
}

let index = []

const heads = words => [...document.querySelectorAll('#trainer button.label-wrap')].find(node => node.textContent.trim().startsWith(words))

// Opens all that a field is in, and puts the cursor there.
export async function go(name) {
  const entry = index.find(one => one.name === name)
  tab(Object.keys(tabs).find(words => tabs[words] === state().tab))
  for (const step of entry?.way || []) {
    tab(step, '#parameters')
    const isTab = [...document.querySelectorAll('#parameters button[role="tab"]')].some(node => node.textContent.trim() === step)
    const head = isTab ? null : await until(() => heads(step))
    if (head && !head.classList.contains('open')) head.click()
  }
  const box = await until(() => shown(field(name)) && field(name)) || field(entry?.owner)
  if (!box) return
  box.scrollIntoView({ block: 'center' })
  inputOf(box)?.focus({ preventScroll: true })
  box.classList.add('found')
  setTimeout(() => box.classList.remove('found'), 1600)
}

const plain = text => text.toLowerCase().replace(/[_\-./]+/g, ' ')

class Search extends HTMLElement {
  connectedCallback() {
    if (this.input) return
    index = JSON.parse(this.dataset.index)
    tabs = JSON.parse(this.dataset.tabs)
    settle(false)
    for (const entry of index) {
      entry.first = plain([entry.label, entry.key, entry.name, entry.today].join(' | '))
      entry.all = plain(`${entry.first} | ${entry.help} | ${entry.way.join(' ')}`)
    }
    this.list = h('ul', { id: 'search-list', role: 'listbox', 'aria-label': 'Fields found', hidden: true })
    this.input = h('input', {
      type: 'search', placeholder: 'Search all fields', 'aria-label': 'Search all fields', autocomplete: 'off', role: 'combobox',
      'aria-expanded': 'false', 'aria-controls': 'search-list', oninput: () => this.find(), onkeydown: event => this.key(event),
      onfocus: () => this.find(), onblur: () => setTimeout(() => this.show([]), 150),
    })
    this.append(this.input, this.list)
  }

  find() {
    const words = plain(this.input.value).split(' ').filter(Boolean)
    if (!words.length) return this.show([])
    const hits = index.filter(entry => words.every(word => entry.all.includes(word)))
    const rank = entry => words.every(word => entry.first.includes(word)) ? (entry.first.startsWith(words.join(' ')) ? 0 : 1) : 2
    this.show(hits.sort((a, b) => rank(a) - rank(b)).slice(0, 9), true)
  }

  show(entries, asked) {
    this.at = 0
    this.entries = entries
    this.list.replaceChildren(...entries.map((entry, place) => h('li', {
      id: `found-${place}`, role: 'option', onmousedown: event => { event.preventDefault(); this.take(place) },
    }, h('b', {}, entry.label), h('small', {}, [entry.way.join(' › '), entry.key, entry.only].filter(Boolean).join(' · ')), h('span', {}, entry.help))))
    if (asked && !entries.length) this.list.append(h('li', { class: 'none' }, 'No field is called so.'))
    this.list.hidden = !this.list.childElementCount
    this.input.setAttribute('aria-expanded', String(!this.list.hidden))
    this.point(0)
  }

  point(place) {
    this.at = Math.max(0, Math.min(this.entries.length - 1, place))
    for (const [number, node] of [...this.list.children].entries()) node.setAttribute('aria-selected', String(number === this.at))
    this.input.setAttribute('aria-activedescendant', this.entries.length ? `found-${this.at}` : '')
  }

  key(event) {
    if (event.key === 'ArrowDown') this.point(this.at + 1)
    else if (event.key === 'ArrowUp') this.point(this.at - 1)
    else if (event.key === 'Enter' && this.entries.length) this.take(this.at)
    else if (event.key === 'Escape') this.show([])
    else return
    event.preventDefault()
  }

  take(place) {
    const { name } = this.entries[place]
    this.input.value = ''
    this.show([])
    go(name)
  }
}
customElements.define('likeness-search', Search)

// For Gradio's buttons and for other tabs
window.likeness = { ask, tab, go, openFile, saveFile, fileHere, address }
refresh() // what stood here before this script came
