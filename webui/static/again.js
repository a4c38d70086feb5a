// The dialog that makes a new run from another one's settings, with changes.
import { ask, button, h, newId, press, runPath } from './tools.js'
import { meant, names, shown } from './settings.js'

const MAIN = ['output.name', 'train.epochs', 'train.batch', 'optimizer.lr', 'network.rank', 'network.alpha', 'data.resolution', 'seed']

// Resolves with the id of the new run, or with null when it was closed.
export async function duplicate(line) {
  const [{ settings }, known] = await Promise.all([ask(runPath(line.id)), names()])
  const old = name => shown(known, name, settings[name])
  const fields = MAIN.filter(name => name in settings).map(name => ({ name, label: known[name].label, old: old(name) }))
  const named = text => Object.keys(known).find(name => known[name].label.toLowerCase() === text.trim().toLowerCase()) ?? text.trim()
  const others = newId()
  const more = h('div', { class: 'lk-more' })
  const addMore = () => {
    const name = h('input', { class: 'lk-input', list: others, placeholder: 'another setting', 'aria-label': 'Another setting' })
    const value = h('input', { class: 'lk-input', placeholder: 'value', 'aria-label': 'Its value' })
    name.addEventListener('change', () => {
      const words = known[named(name.value)]?.choices.map(([, word]) => word).join(', ')
      value.placeholder = [named(name.value) in settings ? `now ${old(named(name.value))}` : 'value', words].filter(Boolean).join('; ')
    })
    more.append(h('div', { class: 'lk-row' }, name, value))
    name.focus()
  }
  return new Promise(resolve => {
    const told = h('div', { class: 'lk-note lk-bad', role: 'alert', hidden: true })
    const tell = words => {
      told.hidden = !words
      told.replaceChildren(...words.split('\n').map(line => h('div', {}, line)))
    }
    let made = null
    const start = async () => {
      made = (await ask(runPath(line.id, '/again'), { set: changes() })).id
      dialog.close()
    }
    const changes = () => {
      const set = {}
      for (const field of fields) if (field.input.value !== field.old) set[field.name] = meant(known, field.name, field.input.value)
      for (const row of more.children) {
        const [name, value] = row.children
        if (name.value.trim()) set[named(name.value)] = meant(known, named(name.value), value.value)
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
      h('datalist', { id: others }, Object.entries(known).map(([name, { label }]) => h('option', { value: label, label: name }))),
      more, button('Change another setting', addMore, { class: 'lk-button lk-small' }), told,
      h('div', { class: 'lk-row lk-end' }, button('Close', () => dialog.close(), { class: 'lk-button' }), send))
    document.body.append(dialog)
    dialog.showModal()
  })
}
