// The LoRAs that a picture wears: a row with a slider for each, and a list to take more from. What counts stands in the
// box, `file:strength` a line, where :strength:strength would be those of the U-Net and of the text encoders. The list
// has the embeddings too; one that is taken is told as `likeness-word` (bubbling, detail: what is known of it).
import { choose } from '../browse.js'
import { ask, button, grouped, h } from '../tools.js'

const MORE = 'Add a LoRA or an embedding …'
const LINE = /^(.*?)(?::(-?[\d.]+))?(?::(-?[\d.]+))?$/s
const nameOf = file => file.split(/[\\/]/).at(-1).replace(/\.safetensors$/i, '')

export function loras(field, box) {
  const rows = h('ul', { class: 'lk-loras' })
  const list = h('select', { 'aria-label': 'Add a LoRA or an embedding', onchange: () => add(list.value) })
  let known = [], words = []
  const told = () => box.dispatchEvent(new Event('input', { bubbles: true }))
  const write = lines => {
    box.value = lines.join('\n')
    box.meet()
    told()
  }
  const lines = () => box.value.split('\n').filter(line => line.trim())
  const add = file => {
    list.value = ''
    const word = words.find(one => one.file === file)
    if (word) return box.dispatchEvent(new CustomEvent('likeness-word', { bubbles: true, detail: word }))
    if (!file) return
    write([...lines(), `${file}:1`])
    rows.lastChild?.querySelector('input[type="text"]').focus()
  }
  const row = (line, place) => {
    const [, file, unet = '1', text] = line.match(LINE)
    const found = known.find(one => one.file === file), name = found?.name || nameOf(file)
    const number = h('input', { type: 'text', inputmode: 'decimal', value: unet, 'aria-label': `Strength of ${name}` })
    const bar = h('input', { type: 'range', min: -1, max: 2, step: 0.05, value: unet, 'aria-label': `Strength of ${name}, slider`, tabindex: -1 })
    const both = h('small', { class: 'lk-soft' }, text && text !== unet ? `text encoders ${text}` : '')
    const set = (from, to) => {
      to.value = from.value
      both.textContent = ''
      box.value = lines().map((other, at) => at === place ? `${file}:${from.value.trim() || 0}` : other).join('\n')
    }
    number.addEventListener('input', () => set(number, bar))
    bar.addEventListener('input', () => set(bar, number))
    const gone = button('✕', () => {
      write(lines().filter((_, at) => at !== place))
      list.focus()
    }, { class: 'lk-button lk-small', 'aria-label': `Take ${name} away`, title: 'Take it away' })
    return h('li', {}, h('span', { class: 'lk-wide', title: file }, h('b', {}, name), ' ', h('small', { class: 'lk-soft' }, found?.place || ''), both), h('div', { class: 'lk-line' }, bar, number, gone))
  }
  box.hidden = true
  box.meet = () => rows.replaceChildren(...lines().map(row))
  box.look = async () => {
    ;[known, words] = await Promise.all([ask('api/studio/loras'), ask('api/studio/embeddings')]).catch(() => [known, words])
    const group = ([label, all]) => h('optgroup', { label }, all.map(({ name, file }) => h('option', { value: file }, name)))
    list.replaceChildren(h('option', { value: '' }, known.length + words.length ? MORE : 'No LoRA is at hand yet'),
      ...[...grouped(known, one => one.place)].map(group), ...[...grouped(words, one => `Embeddings: ${one.place}`)].map(group))
    if (!rows.contains(document.activeElement)) box.meet()
  }
  const browse = button('Browse', async () => add(await choose({ title: 'A LoRA', kind: 'file', ends: field.ends, start: '' })), { class: 'lk-button lk-small', 'aria-label': 'Browse for a LoRA' })
  return h('div', { class: 'lk-wide' }, rows, h('div', { class: 'lk-line' }, list, browse))
}
