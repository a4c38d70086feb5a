// The settings of a run in the words of the page.
import { ask, h, has } from './tools.js'

let asked = null

// What the page calls each option and its choices: {dotted name: {label, kind, choices: [[value, word]]}}.
export function names() {
  asked ??= ask('api/options').catch(error => {
    asked = null
    throw error
  })
  return asked
}

// The head of an option's row; one of another version has no name of ours.
export const title = (known, name) => h('th', { scope: 'row', title: name }, known[name]?.label ?? name)

export function shown(known, name, value) {
  const choice = known[name]?.choices.find(([meant]) => meant === value)
  if (choice) return choice[1]
  if (!has(value) || value === '' || value.length === 0) return '–'
  if (Array.isArray(value)) return value.join(value.every(one => typeof one === 'number') ? ',' : '\n')
  return typeof value === 'object' ? JSON.stringify(value) : String(value)
}

// What was typed, as a value: a choice's word, nothing for "–", numbers with commas between, JSON, else a text.
export function meant(known, name, text) {
  const typed = text.trim() === '–' ? '' : text.trim(), option = known[name]
  const choice = option?.choices.find(([, word]) => word.toLowerCase() === typed.toLowerCase())
  if (choice) return choice[0]
  if (option?.kind === 'lines') return typed ? [typed] : []
  if (option?.kind === 'text') return typed && text
  if (!typed) return null
  try {
    return JSON.parse(/^[\d.]+(,[\d.]+)+$/.test(typed) ? `[${typed}]` : typed)
  } catch {
    return typed
  }
}
