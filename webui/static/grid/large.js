// One picture of a grid large: arrow keys walk along x and y (Page Up and Page Down along z), with what it says of itself.
import { ask, button, h, notice, over, press, say } from '../tools.js'
import { blink } from './blink.js'
import { step } from './table.js'

// told(): the grid as it is by now, for a picture may come while one looks; vote(body) tells the server.
export function enlarge(told, first, vote) {
  let here = first
  const picture = h('img', { alt: '', class: 'lg-whole' }), title = h('b'), prompt = h('span', { class: 'lk-soft' })
  const text = h('pre', { class: 'lk-says', tabindex: 0, 'aria-label': 'PNG info' }), wrong = notice()
  const star = button('', () => press(star, async () => {
    await vote({ star: [here.x, here.y, here.z], on: !told().isStarred(here) })
    show()
  }, wrong.tell), { class: 'lk-button' })
  const copy = button('Copy', async () => {
    getSelection().selectAllChildren(text) // where the clipboard is closed (http), Ctrl-C is one key away
    await navigator.clipboard?.writeText(text.textContent).then(() => say(copy, 'Copied'), () => {})
  }, { class: 'lk-button lk-small' })
  const link = h('a', { class: 'lk-button', download: true }, 'Download')
  const against = button('Blink with the base model', () => {
    const { reference } = told().plan
    const base = told().cell(...['x', 'y', 'z'].map(side => side === reference ? 0 : here[side]))
    if (base && told().isDrawn(base)) blink(told, [base, here], vote)
  }, { class: 'lk-button' })
  const show = async () => {
    const grid = told()
    picture.src = grid.whole(here)
    picture.alt = grid.words(here)
    say(title, grid.words(here))
    say(prompt, [here.prompt, `seed ${here.seed}`].filter(Boolean).join(' · '))
    const isOn = grid.isStarred(here)
    say(star, isOn ? '★ Starred' : '☆ Star')
    star.setAttribute('aria-pressed', isOn)
    link.href = grid.file(here.file)
    against.hidden = grid.plan.reference === null || grid.isReference(here)
    for (const [key, node] of Object.entries(arrows)) node.setAttribute('aria-disabled', !step(grid, place(), key))
    say(copy, 'Copy')
    const asked = here
    const { text: info } = await ask(`api/grids/info?${new URLSearchParams({ folder: grid.folder, file: here.file })}`).catch(error => ({ text: error.message }))
    if (asked === here) say(text, info || 'It says nothing of itself.')
  }
  const place = () => [here.x, here.y, here.z]
  const go = key => {
    const next = step(told(), place(), key)
    if (!next) return
    here = next
    show()
  }
  const arrow = (key, sign, label) => button(sign, () => go(key), { class: 'lk-button', 'aria-label': label, title: label })
  const arrows = { ArrowLeft: arrow('ArrowLeft', '←', 'Left'), ArrowRight: arrow('ArrowRight', '→', 'Right'), ArrowUp: arrow('ArrowUp', '↑', 'Above'), ArrowDown: arrow('ArrowDown', '↓', 'Below') }
  const dialog = over('Picture of the grid', {
    class: 'lk-large lg-dialog',
    onkeydown: event => {
      if (event.target === text || event.ctrlKey || event.altKey || event.metaKey) return
      if (event.key === 's') return star.click()
      if (!event.key.startsWith('Arrow') && !event.key.startsWith('Page')) return
      event.preventDefault()
      go(event.key)
    },
  }, picture, h('p', { class: 'lg-said', 'aria-live': 'polite' }, title, prompt), wrong,
  h('div', { class: 'lk-row' }, Object.values(arrows), star, against, link, button('Close', () => dialog.close(), { class: 'lk-button' })),
  h('details', { class: 'lk-fold' }, h('summary', {}, 'PNG info'), text, copy))
  dialog.showModal()
  show()
}
