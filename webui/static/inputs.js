// What stands beside a box and writes into it: a slider, or width and height of one size. `box.meet()` follows the box.
import { button, h } from './tools.js'

// What lies beyond the slider's ends can still be written into the box.
export function slider({ label, range: [min, max, step] }, box) {
  const bar = h('input', {
    type: 'range', min, max, step, 'aria-label': `${label}, slider`, tabindex: -1, // the box is enough for the keyboard
    oninput: () => { box.value = bar.value },
  })
  box.meet = () => { bar.value = box.value || min }
  box.addEventListener('input', box.meet)
  return bar
}

export function sides(box) {
  const side = name => h('input', { type: 'text', inputmode: 'numeric', autocomplete: 'off', 'aria-label': name, title: name, oninput: () => join() })
  const both = [side('Width'), side('Height')]
  const join = () => {
    const [width, height] = both.map(({ value }) => value.trim())
    box.value = width || height ? `${width || height}x${height || width}` : ''
  }
  const swap = () => {
    [both[0].value, both[1].value] = [both[1].value, both[0].value]
    join()
    box.dispatchEvent(new Event('input', { bubbles: true }))
  }
  box.hidden = true
  box.meet = () => {
    const [width = '', height = width] = box.value.split(/[x,]/)
    both[0].value = width
    both[1].value = height
  }
  box.made = pixels => both.forEach(one => { one.placeholder = pixels || '' }) // what an empty box takes
  return h('div', { class: 'lk-sides' }, both[0], h('span', { 'aria-hidden': 'true' }, '×'), both[1],
    button('⇄', swap, { class: 'lk-button lk-small', 'aria-label': 'Swap width and height', title: 'Swap width and height' }))
}
