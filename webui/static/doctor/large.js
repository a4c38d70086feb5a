// One picture of a finding large: arrow keys go to those beside it.
import { button, h, over, pictureAt, say } from '../tools.js'
import { measures } from './parts.js'

export function enlarge(finding, name) {
  const { told, doctor, best } = finding, names = told.groups?.length ? told.groups.flat() : told.pictures
  let at = names.indexOf(name)
  const picture = h('img', { alt: '', onload: () => { picture.hidden = false }, onerror: () => { picture.hidden = true } }) // a broken one
  const title = h('b'), detail = h('span'), facts = h('span', { class: 'lk-soft' })
  const show = () => {
    const here = names[at], group = best.get(here)
    picture.src = pictureAt(`${doctor.report.folder}/${here}`, 1024)
    picture.alt = here
    say(title, here)
    say(detail, [told.details?.[here], `${at + 1} of ${names.length}`].filter(Boolean).join(' · '))
    say(facts, measures(doctor.report.measured?.[here]))
    keep.hidden = !group
    say(keep, group?.kept === here ? 'Kept' : 'Keep this one')
    // A button that is disabled in truth would lose the focus, and the keys with it.
    const off = new Map([[earlier, at === 0], [later, at === names.length - 1], [keep, group?.kept === here]])
    for (const [node, isOff] of off) node.setAttribute('aria-disabled', isOff)
  }
  const go = steps => {
    at = Math.max(0, Math.min(at + steps, names.length - 1))
    show()
  }
  const keep = button('', () => {
    finding.keep(names[at])
    show()
  }, { class: 'lk-button lk-primary' })
  const arrow = (sign, label, steps) => button(sign, () => go(steps), { class: 'lk-button', 'aria-label': label, title: label })
  const earlier = arrow('←', 'Previous picture', -1), later = arrow('→', 'Next picture', 1)
  const keys = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }
  const dialog = over(told.title, {
    class: 'lk-large ld-large',
    onkeydown: event => {
      if (!keys[event.key]) return
      event.preventDefault()
      go(keys[event.key])
    },
  }, picture, h('p', { 'aria-live': 'polite' }, title, detail, facts),
  h('div', { class: 'lk-row' }, earlier, later, keep, button('Close', () => dialog.close(), { class: 'lk-button' })))
  show()
  dialog.showModal()
}
