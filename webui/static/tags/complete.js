// Tags that a person may be about to write, under a text box: own tags by frequency, then those of lists.
import { h, newId } from '../tools.js'
import { float } from './parts.js'

const REST = 60 // ms without a key before the server is asked
const MODE = 'likeness-complete'
export const completing = { get mode() { return localStorage.getItem(MODE) || 'start' }, set mode(mode) { localStorage.setItem(MODE, mode) } }

// Makes a text box offer tags. `several`: the box takes tags with separators between them, and the last one is completed.
export function offer(box, set, several = true) {
  const list = h('ul', { class: 'lt-offers', id: newId(), role: 'listbox', 'aria-label': 'Tags', popover: 'manual' })
  let at = -1, turn = 0, timer = 0
  const open = () => list.matches(':popover-open')
  const close = () => {
    turn++
    clearTimeout(timer)
    if (list.isConnected && open()) list.hidePopover()
    box.setAttribute('aria-expanded', 'false')
    box.removeAttribute('aria-activedescendant')
    at = -1
  }
  const last = () => several ? box.value.slice(box.value.lastIndexOf(set.options.separator) + 1).trim() : box.value.trim()
  const point = place => {
    at = place
    for (const [number, node] of [...list.children].entries()) node.setAttribute('aria-selected', String(number === at))
    box.setAttribute('aria-activedescendant', list.children[at]?.id || '')
    list.children[at]?.scrollIntoView({ block: 'nearest' })
  }
  const take = tag => {
    const cut = several ? box.value.lastIndexOf(set.options.separator) + 1 : 0
    box.value = `${box.value.slice(0, cut)}${cut ? ' ' : ''}${tag}`
    close()
    box.dispatchEvent(new CustomEvent('taken', { detail: tag }))
    box.focus()
  }
  const look = async () => {
    const text = last(), now = ++turn
    if (!text || !set.info) return close()
    const offers = await set.complete(text, completing.mode).catch(() => [])
    if (now !== turn) return
    if (!offers.length || document.activeElement !== box) return close()
    const pointed = list.children[at]?.firstChild.textContent // stays so, when the list changes under the hand
    list.replaceChildren(...offers.map(one => h('li', {
      id: newId(), role: 'option', onpointerdown: event => {
        event.preventDefault()
        take(one.tag)
      },
    }, h('span', {}, one.tag), one.alias && h('small', {}, `also ${one.alias}`), h('small', { class: one.own ? 'lt-own' : '' }, one.count.toLocaleString('en')))))
    if (!list.isConnected) box.after(list)
    list.showPopover()
    list.style.minWidth = `${box.offsetWidth}px`
    float(box, list)
    box.setAttribute('aria-expanded', 'true')
    point(offers.findIndex(one => one.tag === pointed))
  }
  for (const [name, value] of Object.entries({ role: 'combobox', 'aria-autocomplete': 'list', 'aria-expanded': 'false', 'aria-controls': list.id })) box.setAttribute(name, value)
  box.addEventListener('input', () => {
    clearTimeout(timer)
    timer = setTimeout(look, REST)
  })
  box.addEventListener('blur', close)
  box.addEventListener('keydown', event => {
    if (event.key === 'Enter' && (at < 0 || !open())) return close() // what was written counts
    if (!open()) return
    const many = list.childElementCount
    if (event.key === 'ArrowDown') point((at + 1) % many)
    else if (event.key === 'ArrowUp') point(at > 0 ? at - 1 : many - 1)
    else if (event.key === 'Tab' || event.key === 'Enter') take(list.children[Math.max(0, at)].firstChild.textContent)
    else if (event.key === 'Escape') close()
    else return
    event.preventDefault()
    event.stopImmediatePropagation()
  }, true) // before what the box itself does on Enter
  return box
}
