// One picture of the wall large: arrow keys go to other candidates and prompts; what was measured on it stands below.
import { button, h, pictureAt, say } from '../tools.js'
import { KEYS, words } from './told.js'

export function enlarge(wall, x, y) {
  let here = [x, y]
  const { columns, places, told } = wall, { measures } = told // of now: a picture may come while one looks
  const picture = h('img', { alt: '', class: 'lg-whole' }), title = h('b'), prompt = h('span'), figures = h('span', { class: 'lk-soft' })
  const show = () => {
    const [column, place] = [columns[here[0]], places[here[1]]]
    const { prompt: asked, bare, seed } = told.asked[place]
    picture.src = pictureAt(column.pictures[place], 1024, 0)
    picture.alt = wall.words(...here)
    say(title, column.row ? words(column.row) : `${column.name}: the base model alone`)
    say(prompt, `${column.row ? asked : bare} · seed ${seed}`)
    say(figures, column.row ? told.seen(column.row, place).map(([name, value]) => `${measures[name].title.toLowerCase()} ${(Math.abs(value) < 0.005 ? 0 : value).toFixed(2)}`).join(' · ') : '')
    for (const [key, node] of Object.entries(arrows)) node.setAttribute('aria-disabled', !wall.step(here, KEYS[key]))
  }
  const go = way => {
    here = wall.step(here, way) || here
    show()
  }
  const arrow = (key, sign, label) => button(sign, () => go(KEYS[key]), { class: 'lk-button', 'aria-label': label, title: label })
  const arrows = { ArrowLeft: arrow('ArrowLeft', '←', 'Candidate before'), ArrowRight: arrow('ArrowRight', '→', 'Candidate after'), ArrowUp: arrow('ArrowUp', '↑', 'Prompt above'), ArrowDown: arrow('ArrowDown', '↓', 'Prompt below') }
  const dialog = h('dialog', {
    class: 'lk-large lg-dialog', 'aria-label': 'Picture',
    onkeydown: event => {
      if (!KEYS[event.key] || event.ctrlKey || event.altKey || event.metaKey) return
      event.preventDefault()
      go(KEYS[event.key])
    },
    onclick: event => event.target === dialog && dialog.close(),
    onclose: () => dialog.remove(),
  }, picture, h('p', { class: 'lg-said', 'aria-live': 'polite' }, title, prompt, figures),
  h('div', { class: 'lk-row' }, Object.values(arrows), button('Close', () => dialog.close(), { class: 'lk-button' })))
  document.body.append(dialog)
  show()
  dialog.showModal()
}
