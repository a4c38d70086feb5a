// What the parts of the verdict share: a comparison as api/verdicts/one tells it, and what its candidates are called.
import { has, number } from '../tools.js'

export const KINDS = { subject: 'As trained', contradicting: 'Something else asked for', plain: 'Without the trigger' }

export const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] } // candidates, prompts

// Which pictures a measure is seen on, in the order of what was asked.
const SEEN = { likeness: ['subject', 'contradicting'], obedience: ['contradicting'], spill: ['plain'], copying: ['subject', 'contradicting'], burn: ['subject', 'contradicting'] }

export const keyOf = row => `${row.file} ${row.strength}`

export const fileName = row => row.file.split(/[\\/]/).at(-1)

export function nameOf(row) {
  if (row.kind !== 'file') return row.label.charAt(0).toUpperCase() + row.label.slice(1)
  return has(row.epoch) ? `Epoch ${row.epoch}` : has(row.step) ? `Step ${row.step.toLocaleString('en')}` : row.label
}

export const strengthOf = row => number(row.strength)

// Whole models and embeddings are what they are: they have no strength.
export const isLora = row => !row.what || row.what === 'lora'

export const words = row => isLora(row) ? `${nameOf(row)} at strength ${strengthOf(row)}` : nameOf(row)

// The age of a file among the others: its step, else its epoch; averages come last.
export const ageOf = row => row.kind === 'file' ? row.step ?? row.epoch ?? Infinity : Infinity

export class Told {
  constructor(told) {
    Object.assign(this, told)
    this.byAge = [...this.rows].sort((a, b) => (ageOf(a) > ageOf(b)) - (ageOf(a) < ageOf(b)) || b.strength - a.strength)
    this.strengths = [...new Set(this.rows.map(row => row.strength))].sort((a, b) => b - a)
    this.bare = this.rows.every(isLora) ? 'No LoRA' : 'Untrained'
    this.pick = this.find(this.verdict?.pick)
    this.best = this.find(this.verdict?.best)
    this.ties = (this.verdict?.ties || []).map(mark => this.find(mark)).filter(Boolean)
  }

  find(mark) {
    return mark && this.rows.find(row => keyOf(row) === keyOf(mark))
  }

  // What was measured on one picture of a row: [[measure, value]].
  seen(row, place) {
    const { kind } = this.asked[place]
    return Object.entries(SEEN).filter(([, kinds]) => kinds.includes(kind)).flatMap(([measure, kinds]) => {
      const places = this.asked.flatMap((one, number) => kinds.includes(one.kind) ? [number] : []), values = row.values?.[measure] || []
      return values.length === places.length ? [[measure, values[places.indexOf(place)]]] : []
    })
  }
}
