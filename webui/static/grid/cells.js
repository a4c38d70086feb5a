// What the parts of a grid share: its cells by their places, what they are called, and where their pictures are.
import { address, h, pictureAt } from '../tools.js'

export const SIDES = ['x', 'y', 'z']
const SIZES = [128, 256, 512, 1024] // px of small pictures that are asked for
const KINDS = { checkpoint: 'checkpoints', strength: 'strengths', prompt: 'prompts', seed: 'seeds', cfg: 'CFG', steps: 'steps', sampler: 'samplers', base: 'base models' }

export const titleOf = line => line.sides.map(([many, kind]) => `${many} ${many === 1 ? KINDS[kind].replace(/s$/, '') : KINDS[kind]}`).join(' × ') || (line.cells ? 'One picture' : 'A new grid')

const keyOf = (x, y, z) => `${x},${y},${z}`

// A grid as api/grids/one tells it.
export class Told {
  constructor(told) {
    Object.assign(this, told)
    this.at = new Map(this.plan.cells.map(cell => [keyOf(cell.x, cell.y, cell.z), cell]))
    this.many = SIDES.map(side => this.plan.labels[side].length)
  }

  cell(x, y, z) {
    return this.at.get(keyOf(x, y, z))
  }

  isDrawn(cell) {
    return this.drawn[cell.file] !== undefined
  }

  isReference(cell) {
    return this.plan.reference !== null && cell[this.plan.reference] === 0
  }

  isStarred(cell) {
    return this.votes.stars.includes(cell.key)
  }

  // The pictures that are there, in the order in which they stand.
  get drawnCells() {
    return this.plan.cells.filter(cell => this.isDrawn(cell)).sort((a, b) => a.z - b.z || a.y - b.y || a.x - b.x)
  }

  labelsOf(cell, sides = SIDES) {
    return sides.map(side => this.plan.labels[side][cell[side]]).filter(Boolean)
  }

  words(cell) {
    return this.labelsOf(cell).join(', ') || 'the picture'
  }

  // The picture as it was drawn: whoever judges sharpness must not look at a smaller copy.
  whole(cell) {
    return this.file(cell.file, { show: '', v: this.drawn[cell.file] })
  }

  // At least so many pixels of the screen wide: small where that is enough.
  picture(cell, pixels) {
    const size = SIZES.find(each => each >= pixels)
    return size && size < Math.max(...this.side) ? pictureAt(`${this.folder}/${cell.file}`, size, this.drawn[cell.file]) : this.whole(cell)
  }

  file(name, more = {}) {
    return address(`api/grids/file?${new URLSearchParams({ folder: this.folder, file: name, ...more })}`)
  }

  get zip() {
    return address(`api/grids/zip?${new URLSearchParams({ folder: this.folder })}`)
  }
}

export const stars = many => h('span', { class: 'lg-stars', title: `${many} starred` }, `★ ${many}`)

export const percent = share => `${Math.round(100 * share)} %`
