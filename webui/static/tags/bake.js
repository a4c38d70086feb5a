// "Bake in": what should always appear has no tag of its own, so that it is learned as part of the trigger word. It is
// said which tags go, and from how many pictures, before they do.
import { button, count, h, notice, press, say } from '../tools.js'
import { offer } from './complete.js'
import { input, open } from './parts.js'
import { bare, splitTags } from './words.js'

export async function bake(editor) {
  const { set } = editor
  const told = notice('lt-bad')
  const list = h('fieldset', { class: 'lt-traits' }, h('legend', { class: 'lk-hidden' }, 'Traits'))
  const more = offer(input('Other tags that go, such as those of a costume', { oninput: () => draw() }), set)
  more.addEventListener('taken', () => draw())
  const sum = h('p', { class: 'lt-sum', role: 'status' })
  const scope = editor.batch.scope === 'one' ? 'all' : editor.batch.scope
  const pictures = set.within(scope === 'selected' && set.chosen.length < 2 ? 'all' : scope)
  const tally = set.tally(pictures)
  let traits = []
  const ticked = () => traits.filter(trait => trait.box.checked)
  const draw = () => {
    const other = splitTags(more.value, set.options.separator)
    const tags = new Set([...ticked().flatMap(trait => trait.tags), ...other.map(bare)].filter(tag => tally.has(tag)))
    const hit = pictures.filter(picture => picture.tags.some(tag => tags.has(bare(tag))))
    act.disabled = !tags.size
    say(sum, [
      tags.size && `${count(tags.size, 'tag')} will go from ${count(hit.length, 'picture')} of ${pictures.length}: ${[...tags].map(tag => `${tag} (${tally.get(tag)})`).join(', ')}`,
      act.disabled && `Choose what should always appear. ${count(pictures.length, 'picture')} will be looked at.`,
    ].filter(Boolean).join(' '))
  }
  const work = async () => {
    const wish = { do: 'bake_in', traits: ticked().map(trait => trait.name), tags: splitTags(more.value, set.options.separator) }
    const done = await set.edit(wish, pictures)
    if (done?.error) throw new Error(done.error)
    dialog.close()
  }
  const act = button('Bake in', () => press(act, work, told.tell), { class: 'lk-button lk-primary', disabled: true })
  const dialog = open(editor, 'Bake in', [
    h('p', { class: 'lk-soft' }, 'What is in every picture and has no tag is learned with the trigger word, and appears whenever that is used. What keeps its tag can be switched on and off by it.'),
    list, more, sum, told, h('div', { class: 'lk-row' }, act)])
  draw()
  try {
    const { traits: found } = await set.ask('groups')
    traits = found.map(({ name, tags }) => ({ name, tags: tags.map(one => one.tag).filter(tag => tally.has(tag)), box: h('input', { type: 'checkbox', onchange: () => draw() }) }))
    list.append(...traits.map(({ name, tags, box }) => {
      box.disabled = !tags.length
      return h('label', { class: 'lt-trait' }, box, h('b', {}, name), h('span', { class: 'lk-soft' }, tags.map(tag => `${tag} (${tally.get(tag)})`).join(', ') || 'no tag of it here'))
    }))
  } catch (error) {
    told.tell(error.message)
  }
}
