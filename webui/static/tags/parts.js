// Pieces that several parts of the editor are made of.
import { button, h, newId } from '../tools.js'
import { pictureAt } from './words.js'

const ICONS = { undo: '↶', redo: '↷' }

// A small button; `key` is told in its title.
export function small(text, onclick, { key, icon, title, ...props } = {}) {
  const made = button(icon ? ICONS[icon] : text, onclick, { class: 'lk-button lk-small', ...props })
  const told = [title || (icon && text), key].filter(Boolean).join(' · ')
  if (told) made.title = told
  if (icon) made.setAttribute('aria-label', text)
  return made
}

export function select(label, choices, props = {}) {
  const { value, ...rest } = props
  const node = h('select', { class: 'lk-select lk-small', 'aria-label': label, ...rest },
    Object.entries(choices).map(([name, words]) => h('option', { value: name }, words)))
  if (value !== undefined) node.value = value
  return node
}

export const input = (label, props = {}) => h('input', {
  type: 'text', class: 'lk-input lt-input', 'aria-label': label, placeholder: label, autocomplete: 'off', spellcheck: 'false', ...props,
})

// A panel that floats at a node: nothing moves when it opens. Escape and a click elsewhere close it.
export function float(anchor, panel) {
  const { left, bottom, top } = anchor.getBoundingClientRect()
  const width = panel.offsetWidth, height = panel.offsetHeight
  panel.style.left = `${Math.max(8, Math.min(left, innerWidth - width - 8))}px`
  panel.style.top = `${bottom + 4 + height < innerHeight ? bottom + 4 : Math.max(8, top - height - 4)}px`
}

// A window over the page; removed when it closes. Gives the dialog.
export function open(host, title, parts, props = {}) {
  const id = newId()
  const { onclose, ...rest } = props
  const close = small('Close', () => made.close(), { class: 'lk-button lk-small' })
  const made = h('dialog', {
    class: 'lk-dialog lt-dialog', 'aria-labelledby': id, ...rest,
    onclick: event => event.target === made && made.close(),
    onclose: () => {
      made.remove()
      onclose?.()
    },
  }, h('header', { class: 'lt-title' }, h('h3', { id }, title), close), ...parts)
  host.append(made)
  made.showModal()
  return made
}

// A picture's cell in a grid: the picture, its name, and how long its caption is.
export function cell(picture, old, side, name = true) {
  const node = old || h('div', { class: 'lt-cell' }, h('img', { alt: '', decoding: 'async', draggable: 'false' }),
    name && h('span', { class: 'lt-name' }), h('b', { class: 'lt-tokens' }))
  const [image, label] = node.children, tokens = node.lastChild
  const source = pictureAt(picture, side)
  if (image.src !== source) image.src = source
  if (name) label.textContent = picture.name
  const none = !picture.tags.length
  tokens.textContent = picture.locked ? 'locked' : none ? (picture.missing ? 'no caption' : 'empty') : picture.tokens
  tokens.className = `lt-tokens ${none || picture.locked ? 'lt-none' : level(picture.tokens)}`
  node.title = [picture.place, picture.locked && `cannot be edited: ${picture.locked}`].filter(Boolean).join('\n')
  const said = picture.locked ? `locked, ${picture.locked}` : none ? 'no caption' : `${picture.tags.length} tags, ${picture.tokens} tokens`
  node.setAttribute('aria-label', `${picture.name}, ${said}`)
  return node
}

// A request for a picture that is not seen any more is given up.
export const forget = node => node.firstChild.removeAttribute('src')

const MARKS = [75, 150, 225]
const level = tokens => `lt-level-${MARKS.filter(mark => tokens > mark).length}`

// How many tokens a caption takes, against the chunks that CLIP reads.
export function meter(tokens) {
  const most = Math.max(MARKS.find(mark => tokens <= mark) || Math.ceil(tokens / 75) * 75, 75)
  const marks = MARKS.filter(mark => mark < most).map(mark => h('i', { style: `left: ${100 * mark / most}%` }))
  return h('div', { class: `lt-meter ${level(tokens)}`, role: 'img', 'aria-label': `${tokens} tokens; CLIP reads ${MARKS.join(', ')}`, title: `${tokens} of ${most} tokens` },
    h('span', { style: `width: ${100 * tokens / most}%` }), marks)
}
