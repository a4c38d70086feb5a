// A finding: its reason, its pictures, and its cures. Which pictures a cure is about is chosen by hand.
import { button, count, h, newId, notice, pictureAt, press, say } from '../tools.js'
import { enlarge } from './large.js'
import { WORDS } from './parts.js'

const FEW = 12, MORE = 200 // pictures that are drawn at first, and with each press
const SIZE = 160 // pixels of a thumbnail

export class Finding {
  constructor(doctor, told, place) {
    Object.assign(this, { doctor, told, place })
    this.cures = told.cures || []
    this.out = new Set(this.records.at(-1)?.out || this.cures.flatMap(cure => cure.pictures)) // what the cures are about
    // Of some groups one picture is kept, and another can be kept instead: what is kept, by each of the group's names.
    this.groups = told.groups || []
    this.best = new Map()
    for (const group of this.groups) {
      const kept = group.filter(name => !this.out.has(name)), choice = { group, kept: kept[0] }
      if (kept.length === 1 && told.keep) for (const name of group) this.best.set(name, choice)
    }
    this.cells = new Map()
    this.draw()
  }

  draw() {
    const { told, groups } = this, id = newId()
    this.title = h('h4', { id, tabindex: -1 }, told.title)
    this.pill = h('span', { class: `lk-pill ld-${told.severity}` }, WORDS[told.severity])
    this.pictures = groups.length ? h('div', { class: 'ld-groups' }) : h('ul', { class: 'ld-grid' })
    this.further = button('', () => this.add(MORE), { class: 'lk-button lk-small' })
    this.buttons = this.cures.map(cure => {
      const node = button('', () => press(node, () => this.cure(cure), this.problem.tell).then(() => this.count()), { class: 'lk-button' })
      return node
    })
    this.problem = notice()
    this.results = h('div', { class: 'ld-results', role: 'status' })
    const open = told.pictures.length > 0 && button('Open in the tag editor', () => this.openTags(), { class: 'lk-button lk-small ld-open' })
    this.node = h('article', { class: `lk-card ld-finding ld-${told.severity}`, 'aria-labelledby': id },
      h('header', {}, this.pill, this.title), h('p', {}, told.why), this.pictures, this.further, this.results, this.problem,
      (this.buttons.length > 0 || open) && h('div', { class: 'lk-row' }, this.buttons, open))
    this.drawn = 0
    this.add(FEW)
  }

  // Draws some more pictures; groups are drawn whole.
  add(many) {
    const { told, groups } = this, all = groups.length ? groups : told.pictures
    const until = this.drawn + many
    for (; this.drawn < all.length && this.drawn < until; this.drawn++) {
      const one = all[this.drawn]
      this.pictures.append(groups.length ? h('ul', { class: 'ld-group', 'aria-label': `Group ${this.drawn + 1}` }, one.map(name => this.cell(name))) : this.cell(one))
    }
    const left = all.length - this.drawn
    this.further.hidden = !left
    say(this.further, left > MORE ? `Show ${MORE} more of ${left.toLocaleString('en')}` : `Show ${count(left, groups.length ? 'more group' : 'more', groups.length ? 'more groups' : 'more')}`)
    if (this.isDrawn) this.count()
  }

  cell(name) {
    const { told } = this, group = this.best.get(name), short = name.split('/').at(-1)
    const image = h('img', { src: this.source(name), alt: '', loading: 'lazy', decoding: 'async', onerror: () => { image.hidden = true }, onload: () => { image.hidden = false } })
    const large = () => enlarge(this, name)
    const thumb = button('', group ? () => this.keep(name) : large, { class: 'ld-thumb', 'aria-label': group ? `Keep ${short}` : `Enlarge ${short}`, 'aria-pressed': group ? 'false' : null, title: group ? `Keep ${short} instead` : name })
    thumb.append(image, h('span', {}, 'Cannot be shown'))
    const box = this.cures.length > 0 && h('input', { type: 'checkbox', 'aria-label': `Cure ${short} too`, title: 'Take it out of the cure, or in', onchange: () => this.take(name, box.checked) })
    const mark = h('span', { class: 'ld-mark' })
    const zoom = group && button('⤢', large, { class: 'ld-zoom', 'aria-label': `Enlarge ${short}`, title: 'Enlarge' })
    const node = h('li', { class: 'ld-cell' }, h('div', { class: 'ld-frame' }, thumb, box, zoom, mark),
      h('span', { class: 'ld-name', title: name }, short), told.details?.[name] && h('small', {}, told.details[name]))
    this.cells.set(name, { node, thumb, box, mark, image })
    return node
  }

  source(name) {
    return pictureAt(`${this.doctor.report.folder}/${name}`, SIZE)
  }

  take(name, isIn) {
    this.out[isIn ? 'add' : 'delete'](name)
    this.sure = null
    this.count()
  }

  // Keeps this picture of its group, and no longer the one before.
  keep(name) {
    const group = this.best.get(name)
    if (group.kept === name || this.cured().has(name) || this.doctor.gone.has(name)) return
    this.out.add(group.kept)
    this.out.delete(name)
    group.kept = name
    this.count()
  }

  // What would take most of the set away is asked for twice.
  async cure(cure) {
    const names = this.about(cure), sure = this.sure === cure
    this.sure = cure.do === 'set_aside' && !sure && 2 * names.length > this.doctor.report.pictures - this.doctor.gone.size ? cure : null
    if (!this.sure) await this.doctor.cure(this, cure, names)
  }

  // The pictures that a cure would change now.
  about(cure) {
    const { gone } = this.doctor, cured = this.cured()
    const all = this.best.size ? this.told.pictures.filter(name => this.best.has(name) || cure.pictures.includes(name)) : cure.pictures
    return all.filter(name => this.out.has(name) && !gone.has(name) && !cured.has(name))
  }

  get records() {
    return this.doctor.done.filter(record => record.finding === this.place)
  }

  cured() {
    return new Set(this.records.flatMap(({ pictures }) => pictures))
  }

  // Whether there is nothing more to be done about it: all was cured, or is gone.
  isDone() {
    const { gone } = this.doctor, cured = this.cured()
    const all = this.cures.length ? [...this.out] : this.told.pictures
    return all.length > 0 && all.every(name => gone.has(name) || cured.has(name))
  }

  // isFirst: its cure is the one to press next.
  settle(isFirst) {
    this.isFirst = isFirst
    this.isDrawn = true
    for (const choice of new Set(this.best.values())) this.settleGroup(choice)
    const { records } = this, isDone = this.isDone()
    this.node.classList.toggle('ld-done', isDone)
    say(this.pill, isDone ? 'Done' : WORDS[this.told.severity])
    this.pill.className = `lk-pill ${isDone ? 'lk-done' : `ld-${this.told.severity}`}`
    this.results.replaceChildren(...records.map(record => {
      const last = this.doctor.isLast(record)
      const undo = button('Undo', () => press(undo, () => this.doctor.undo(record), this.problem.tell), { class: 'lk-button lk-small', 'aria-label': `Undo: ${record.did}`, disabled: !last, title: last ? null : 'Undo first what was done to these pictures after it' })
      return h('p', { class: 'ld-result' }, h('span', { class: 'lk-wide' }, record.did), undo)
    }))
    this.count()
  }

  // When the picture that was to be kept is gone by another cure, the next one of its group is kept.
  settleGroup(choice) {
    const { gone } = this.doctor, next = choice.group.find(name => !gone.has(name))
    if (!gone.has(choice.kept) || !next) return
    this.out.add(choice.kept)
    this.out.delete(next)
    choice.kept = next
  }

  // What stands on the buttons, and how each picture is marked.
  count() {
    this.cures.forEach((cure, place) => {
      const node = this.buttons[place], names = this.about(cure)
      say(node, this.label(cure, names.length))
      node.disabled = !names.length
      node.hidden = !names.length && this.records.length > 0
      node.classList.toggle('lk-primary', this.isFirst && !place)
    })
    const { gone } = this.doctor, cured = this.cured()
    for (const [name, { node, thumb, box, mark, image }] of this.cells) {
      const group = this.best.get(name), away = gone.has(name), done = cured.has(name), kept = group && group.kept === name
      const stays = this.cures.length > 0 && !this.out.has(name)
      node.classList.toggle('ld-gone', away)
      node.classList.toggle('ld-kept', Boolean(this.groups.length && stays))
      node.classList.toggle('ld-left', Boolean(!this.groups.length && stays))
      say(mark, away ? 'Moved' : done ? 'Done' : this.groups.length && stays ? 'Kept' : '')
      if (box) {
        box.checked = this.out.has(name)
        box.hidden = away || done || kept
      }
      if (group) thumb.setAttribute('aria-pressed', String(kept))
      if (image.hidden && !away && this.wasGone?.has(name)) image.src = this.source(name) // it is back
    }
    this.wasGone = gone
  }

  label(cure, many) {
    const { do: what, label } = cure
    if (this.sure === cure) return `Really set ${many.toLocaleString('en')} of ${(this.doctor.report.pictures - this.doctor.gone.size).toLocaleString('en')} aside?`
    if (what !== 'set_aside') return `${label} (${many.toLocaleString('en')})`
    return this.groups.length ? `${label}: set ${many.toLocaleString('en')} aside` : `Set ${many.toLocaleString('en')} aside`
  }

  openTags() {
    const { gone, report } = this.doctor
    const detail = { folder: report.folder, pictures: this.told.pictures.filter(name => !gone.has(name)) }
    window.dispatchEvent(new CustomEvent('likeness-open-tags', { detail }))
  }
}
