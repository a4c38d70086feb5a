// The picture large, with its tags: arrow keys go from picture to picture.
import { h, say } from '../tools.js'
import { open, small } from './parts.js'
import { pictureAt } from './words.js'

export function preview(editor) {
  const { set } = editor
  if (!set.current) return
  const picture = h('img', { alt: '' }), words = h('p', { class: 'lt-caption' }), place = h('span', { class: 'lk-soft' })
  const show = () => {
    const { current, shown } = set
    picture.src = pictureAt(current, 1024)
    picture.alt = current.name
    say(window.querySelector('h3'), current.name)
    say(words, current.text || 'No caption')
    say(place, `${shown.indexOf(current) + 1} of ${shown.length}`)
  }
  const go = step => {
    const next = set.shown[set.shown.indexOf(set.current) + step]
    if (!next) return
    set.choose([next], next)
    show()
  }
  const keys = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1, ' ': 1 }
  const window = open(editor, '', [picture, words, h('div', { class: 'lk-row' },
    small('←', () => go(-1), { 'aria-label': 'Previous picture' }), small('→', () => go(1), { 'aria-label': 'Next picture' }), place)], {
    class: 'lk-dialog lt-dialog lt-preview', onclose: () => editor.focusPane('pictures'),
    onkeydown: event => {
      const step = event.target.matches('button') && event.key === ' ' ? 0 : keys[event.key]
      if (!step || event.ctrlKey) return
      event.preventDefault()
      go(step)
    },
  })
  show()
}
