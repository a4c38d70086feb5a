// The dialog that makes a new run from another one's settings, with changes.
import { ask, button, h, newId, press, runPath, say } from './tools.js'
import { flat, shown } from './job.js'

const MAIN = {
  'output.name': 'Model output name', 'train.epochs': 'Epoch', 'train.batch': 'Train batch size', 'optimizer.lr': 'Learning rate',
  'network.rank': 'Network Rank (Dimension)', 'network.alpha': 'Network Alpha', 'data.resolution': 'Max Resolution', seed: 'Seed',
}

// Resolves with the id of the new run, or with null when it was closed.
export async function duplicate(line) {
  const { config } = await ask(runPath(line.id))
  const values = new Map(flat(config))
  const fields = Object.entries(MAIN).filter(([name]) => values.has(name)).map(([name, label]) => ({ name, label, old: shown(values.get(name)) }))
  const others = newId()
  const more = h('div', { class: 'lk-more' })
  const addMore = () => {
    const name = h('input', { class: 'lk-input', list: others, placeholder: 'another setting', 'aria-label': 'Another setting' })
    const value = h('input', { class: 'lk-input', placeholder: 'value', 'aria-label': 'Its value' })
    name.addEventListener('change', () => {
      value.placeholder = values.has(name.value) ? `now ${shown(values.get(name.value))}` : 'value'
    })
    more.append(h('div', { class: 'lk-row' }, name, value))
    name.focus()
  }
  return new Promise(resolve => {
    const told = h('p', { class: 'lk-note lk-bad', role: 'alert', hidden: true })
    const tell = words => {
      told.hidden = !words
      say(told, words)
    }
    let made = null
    const start = async () => {
      made = (await ask(runPath(line.id, '/again'), { set: changes() })).id
      dialog.close()
    }
    const changes = () => {
      const set = {}
      for (const field of fields) if (field.input.value !== field.old) set[field.name] = valueOf(field.input.value)
      for (const row of more.children) {
        const [name, value] = row.children
        if (name.value.trim()) set[name.value.trim()] = valueOf(value.value)
      }
      return set
    }
    const send = button('Train', () => press(send, start, tell), { class: 'lk-button lk-primary' })
    const dialog = h('dialog', { class: 'lk-dialog', onclose: () => (dialog.remove(), resolve(made)), 'aria-label': `Duplicate ${line.name} with changes` },
      h('h3', {}, `Train ${line.name} again, with changes`),
      h('p', { class: 'lk-soft' }, 'A new run in its own folder; the old one stays as it is.'),
      h('div', { class: 'lk-form' }, fields.map(field => {
        const id = newId()
        field.input = h('input', { id, class: 'lk-input', value: field.old })
        return h('div', {}, h('label', { for: id }, field.label), field.input)
      })),
      h('datalist', { id: others }, [...values.keys()].map(name => h('option', { value: name }))),
      more, button('Change another setting', addMore, { class: 'lk-button lk-small' }), told,
      h('div', { class: 'lk-row lk-end' }, button('Close', () => dialog.close(), { class: 'lk-button' }), send))
    document.body.append(dialog)
    dialog.showModal()
  })
}

// What was typed: JSON where it is JSON (a number, true, [512, 768]), nothing for "–", else a text.
function valueOf(text) {
  if (text.trim() === '' || text === '–') return null
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}
