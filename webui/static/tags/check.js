// One tag over many pictures: each is framed green (has it) or red (has it not); a click or a key turns it over, and it
// is saved at once.
import { count, h, say } from '../tools.js'
import { offer } from './complete.js'
import { cell, forget, input, open, select, small } from './parts.js'
import { SCOPES } from './set.js'
import { View } from './view.js'
import { bare } from './words.js'

const SIDE = 132, NAME = 22 // px

export function check(editor, tag = '') {
  const { set } = editor
  const has = picture => picture.tags.some(each => bare(each) === bare(box.value.trim()))
  const go = () => box.value.trim()
  const view = new View({
    label: 'Pictures with and without the tag', several: false, size: () => [SIDE + 12, SIDE + NAME], key: picture => picture.id, drop: forget,
    draw: (picture, old) => {
      const node = cell(picture, old, SIDE)
      const yes = go() && has(picture)
      node.classList.toggle('lt-yes', !!yes)
      node.classList.toggle('lt-no', !!go() && !yes)
      node.setAttribute('aria-label', `${picture.name}${go() ? (yes ? ', yes' : ', no') : ''}`)
      return node
    },
    act: picture => turn(picture),
  })
  // What is asked for is told from the set as it is when its turn comes, so that quick keys count each.
  const turn = (picture, wanted = null) => {
    const words = go()
    if (!words) return box.focus()
    set.edit(() => {
      const yes = picture.tags.some(each => bare(each) === bare(words))
      if (wanted === yes) return null
      return yes ? { do: 'remove', tags: [words] } : { do: 'add', text: words, at: 'bottom' }
    }, [picture])
  }
  const draw = () => {
    const pictures = set.within(which.value), yes = go() ? pictures.filter(has).length : 0
    view.set(pictures)
    say(facts, go() ? `${count(yes, 'picture')} yes, ${pictures.length - yes} no` : 'Choose a tag')
  }
  const box = offer(input('Tag', { value: tag, oninput: () => draw(), onkeydown: event => event.key === 'Enter' && begin() }), set, false)
  box.addEventListener('taken', () => begin())
  const which = select('Pictures', { all: 'All pictures', filtered: 'Those that are shown', selected: `${SCOPES.selected} ones` }, { value: set.query ? 'filtered' : 'all', onchange: () => draw() })
  if (set.chosen.length > 1) which.value = 'selected'
  const facts = h('span', { class: 'lk-soft', role: 'status' })
  const begin = () => {
    draw()
    view.node.focus()
    if (view.cursor < 0) view.go(0)
  }
  view.node.addEventListener('keydown', event => {
    const wanted = { y: true, n: false, ' ': null }[event.key.toLowerCase()]
    if (wanted === undefined || event.ctrlKey || event.altKey || event.metaKey || !view.at()) return
    event.preventDefault()
    turn(view.at(), wanted)
    if (wanted !== null) view.go(view.cursor + 1)
  })
  const gone = new AbortController()
  for (const what of ['changed', 'set']) set.addEventListener(what, draw, { signal: gone.signal })
  open(editor, 'Check one tag', [h('div', { class: 'lt-add' }, box, which, facts, small('Undo', () => set.undo(), { key: 'Ctrl+Z' })),
    h('p', { class: 'lk-soft' }, 'A click, Enter or Space turns a picture over; Y and N answer and go on. All is saved at once.'), view.node], {
    class: 'lk-dialog lt-dialog lt-large', onclose: () => gone.abort(),
  })
  draw()
  if (tag) begin()
  else box.focus()
}
