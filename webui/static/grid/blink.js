// Two pictures of a grid in one place: they take turns (Space turns by hand), or a line that is moved parts them.
import { button, h, newId, notice, over, press, say } from '../tools.js'

const SLOWEST = 3, FASTEST = 0.4 // s a picture; faster, large pictures would flash at a rate that can harm

export function blink(told, [a, b], vote) {
  const grid = told(), name = newId()
  let side = 0, timer = 0, way = 'blink'
  const images = [a, b].map(cell => h('img', { src: grid.whole(cell), alt: grid.words(cell), draggable: false }))
  const names = [a, b].map((cell, place) => button(grid.words(cell), () => hold(place), { class: 'lk-button lg-name' }))
  const line = h('i', { class: 'lg-line' })
  const stage = h('div', { class: 'lg-stage' }, images, line)
  const run = button('', () => timer ? hold() : go(), { class: 'lk-button lk-primary' })
  const speed = h('input', { type: 'range', min: FASTEST, max: SLOWEST, step: 0.1, value: 1, 'aria-label': 'Seconds a picture', oninput: () => { say(seconds, `${speed.value} s`); if (timer) go() } })
  const seconds = h('output', {}, '1 s')
  const wipe = h('input', { type: 'range', min: 0, max: 100, step: 0.5, value: 50, 'aria-label': 'Where the line is', oninput: () => part() })
  const blinks = h('div', { class: 'lk-row' }, run, button('Turn (Space)', () => turn(), { class: 'lk-button' }), h('label', { class: 'lk-row' }, 'Speed', speed, seconds))
  const wipes = h('div', { class: 'lg-wipe', hidden: true }, wipe)
  const ways = h('fieldset', { class: 'lg-switch' }, h('legend', { class: 'lk-hidden' }, 'How'), Object.entries({ blink: 'Blink', wipe: 'Slider', both: 'Side by side' }).map(([value, words]) =>
    h('label', {}, h('input', { type: 'radio', name, value, class: 'lk-hidden', checked: value === way, onchange: () => choose(value) }), words)))
  const wrong = notice(), said = notice('lk-note', 'status')
  const better = [a, b].map((cell, place) => button(place ? 'The second is better' : 'The first is better', event => press(event.currentTarget, async () => {
    await vote({ better: [cell.x, cell.y, cell.z], worse: place ? [a.x, a.y, a.z] : [b.x, b.y, b.z] })
    said.tell(`Counted: ${grid.words(cell)}.`)
  }, wrong.tell), { class: 'lk-button' }))

  const show = () => {
    images.forEach((image, place) => image.classList.toggle('lg-off', way === 'blink' && place !== side))
    names.forEach((node, place) => node.setAttribute('aria-pressed', way === 'blink' && place === side))
    say(run, timer ? 'Stop' : 'Start')
  }
  const turn = () => {
    side = 1 - side
    show()
  }
  const hold = (place = side) => {
    clearInterval(timer)
    timer = 0
    side = place
    show()
  }
  const go = () => {
    clearInterval(timer)
    timer = setInterval(turn, 1000 * speed.value)
    show()
  }
  const part = () => stage.style.setProperty('--part', `${wipe.value}%`)
  const choose = value => {
    way = value
    stage.className = `lg-stage lg-${value}`
    blinks.hidden = value !== 'blink'
    wipes.hidden = value !== 'wipe'
    hold()
    part()
  }
  stage.addEventListener('pointermove', event => {
    if (way !== 'wipe' || (event.pointerType !== 'mouse' && !event.buttons)) return
    const box = stage.getBoundingClientRect()
    wipe.value = 100 * (event.clientX - box.left) / box.width
    part()
  })
  stage.addEventListener('click', () => way === 'blink' && turn())
  const dialog = over('Two pictures', {
    class: 'lk-large lg-dialog',
    onkeydown: event => {
      const arrow = { ArrowLeft: -2, ArrowRight: 2 }[event.key]
      if (event.key === ' ') {
        event.preventDefault()
        if (timer) hold()
        if (way === 'blink') turn()
      } else if (arrow && way === 'wipe' && event.target !== wipe) {
        wipe.value = +wipe.value + arrow
        part()
      }
    },
    onkeyup: event => event.key === ' ' && event.preventDefault(), // a button in focus would be pressed too
    onclose: () => clearInterval(timer),
  }, h('header', { class: 'lk-head' }, ways), stage, h('div', { class: 'lg-names' }, names), blinks, wipes,
  h('div', { class: 'lk-row lg-choice' }, better, button('Close', () => dialog.close(), { class: 'lk-button' })), said, wrong)
  dialog.showModal()
  choose('blink')
  if (!matchMedia('(prefers-reduced-motion: reduce)').matches) go()
  run.focus()
}
