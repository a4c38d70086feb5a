// The captions of a folder as the server has them: what is shown, what is chosen, and every change, one after the other.
// Tells 'set' (all is new), 'changed', 'filter', 'stale' (it fits no more), 'chosen', 'state' (saving, saved, a refusal), 'said'.
import { ask, count } from '../tools.js'
import { bare, compose } from './words.js'

export const SCOPES = { one: 'This one', selected: 'Selected', filtered: 'Shown', all: 'All' }
const AGAIN = 250 // ms after a change before it is looked whether the filter still fits

export class TagSet extends EventTarget {
  pictures = []
  shown = []
  chosen = [] // pictures, in the order that they are shown
  current = null // the picture that the cursor is on
  counts = new Map()
  typed = ''
  clicked = []
  mode = 'AND'
  saving = 0
  state = { words: '', bad: false, outside: false }

  get query() {
    return compose(this.typed, this.clicked, this.mode)
  }

  tell(what, detail) {
    this.dispatchEvent(new CustomEvent(what, { detail }))
  }

  on(what, listener) {
    for (const each of what.split(' ')) this.addEventListener(each, event => listener(event.detail))
  }

  // Opening and asking

  async open(folder, options) {
    const found = await ask('api/captions/open', { folder, ...options })
    Object.assign(this, { asked: folder, options, typed: '', clicked: [], fault: '' })
    this.take(found)
  }

  // A set of the server's; `keep` the filter and what is chosen.
  async take(found, keep = false) {
    const old = keep ? new Set(this.chosen.map(picture => picture.path)) : new Set()
    const path = keep && this.current?.path
    Object.assign(this, { info: found, pictures: found.pictures, undone: found.redo, done: found.undo })
    this.byId = new Map(found.pictures.map(picture => [picture.id, picture]))
    this.counts = new Map()
    for (const picture of found.pictures) this.count(picture, 1)
    this.shown = this.pictures
    this.stale = false
    this.chosen = this.pictures.filter(picture => old.has(picture.path))
    this.current = this.pictures.find(picture => picture.path === path) || this.chosen[0] || this.pictures[0] || null
    if (!this.chosen.length && this.current) this.chosen = [this.current]
    this.state = { words: 'Saved', bad: false, outside: false }
    if (keep && this.query) await this.find().catch(() => {})
    this.tell('set')
    this.tell('state')
  }

  // A request about this set. A server that was started anew does not know it: then it is opened once more.
  async ask(rest, body) {
    const path = () => `api/captions/${this.info.id}/${rest}`
    try {
      return await ask(path(), body)
    } catch (error) {
      if (error.status !== 404) throw error
      await this.take(await ask('api/captions/open', { folder: this.asked, ...this.options }), true)
      return ask(path(), body)
    }
  }

  complete(text, mode) {
    return this.ask(`complete?${new URLSearchParams({ text, mode })}`).then(answer => answer.offers)
  }

  // Filter

  async filter(wish) {
    Object.assign(this, wish)
    const turn = this.turn = (this.turn || 0) + 1
    try {
      await this.find(() => turn === this.turn)
      if (turn === this.turn) this.fault = ''
    } catch (error) {
      if (turn === this.turn) this.fault = error.message
    }
    if (turn === this.turn) this.tell('filter')
  }

  async find(wanted = () => true) {
    const { query } = this
    const ids = query && (await this.ask('find', { query })).ids
    if (!wanted()) return
    this.shown = query ? ids.map(id => this.byId.get(id)).filter(Boolean) : this.pictures
    this.stale = false
    const there = new Set(this.shown)
    this.chosen = this.chosen.filter(picture => there.has(picture))
    if (!there.has(this.current)) this.current = this.chosen[0] || this.shown[0] || null
    if (!this.chosen.length && this.current) this.chosen = [this.current]
  }

  // What is worked on does not vanish while it is worked on: that the filter fits no more is only said.
  again() {
    clearTimeout(this.timer)
    if (!this.query) return
    const { query } = this
    this.timer = setTimeout(async () => {
      const { ids } = await this.ask('find', { query }).catch(() => ({ ids: null }))
      if (!ids || query !== this.query) return
      const there = new Set(ids)
      this.stale = ids.length !== this.shown.length || this.shown.some(picture => !there.has(picture.id))
      this.tell('stale')
    }, AGAIN)
  }

  // What is chosen

  choose(chosen, current) {
    this.chosen = chosen
    this.current = current
    this.tell('chosen')
  }

  within(scope) {
    return { one: this.current ? [this.current] : [], selected: this.chosen, filtered: this.shown, all: this.pictures }[scope]
  }

  // On how many pictures each tag is.
  tally(pictures) {
    if (pictures === this.pictures) return this.counts
    const found = new Map()
    for (const picture of pictures) for (const tag of new Set(picture.tags.map(bare))) found.set(tag, (found.get(tag) || 0) + 1)
    return found
  }

  count(picture, by) {
    for (const tag of new Set(picture.tags.map(bare))) {
      const now = (this.counts.get(tag) || 0) + by
      if (now) this.counts.set(tag, now)
      else this.counts.delete(tag)
    }
  }

  // Changes: one at a time, in the order they were asked for. `wish` may be a function of the set as it is by then.

  edit(wish, pictures) {
    const list = Array.isArray(pictures) ? pictures : this.within(pictures)
    const scope = list === this.pictures ? 'all' : 'selected' // what is seen is what is changed, so pictures go by their numbers
    const where = { scope, ...(scope !== 'all' && { ids: list.map(picture => picture.id) }) }
    return this.change('edit', () => {
      const now = typeof wish === 'function' ? wish() : wish
      return now && { ...now, ...where }
    })
  }

  change(route, body = () => ({})) {
    this.line = (this.line || Promise.resolve()).then(() => this.send(route, body))
    return this.line
  }

  async send(route, body) {
    const wish = body()
    if (!wish) return null
    this.saving++
    this.tell('state')
    try {
      const answer = await this.ask(route, wish)
      this.state = { words: 'Saved', bad: false, outside: false }
      if (answer.pictures) await this.take(answer, true)
      else await this.changed(answer)
      return answer
    } catch (error) {
      this.state = { words: error.message, bad: true, outside: error.status === 409 }
      return { error: error.message }
    } finally {
      this.saving--
      this.tell('state')
    }
  }

  // Pictures that are different now; those that were set aside are gone, and for new ones all is asked anew.
  changed(answer) {
    const gone = new Set(answer.gone)
    if (gone.size || answer.changed.some(news => !this.byId.has(news.id))) return this.moved(answer)
    for (const news of answer.changed) {
      const picture = this.byId.get(news.id)
      this.count(picture, -1)
      this.count(Object.assign(picture, news), 1)
    }
    this.done = answer.undo
    this.undone = answer.redo
    this.report(answer)
    this.tell('changed', answer)
    this.again()
  }

  async moved(answer) {
    await this.take(await this.ask('refresh', {}), true)
    this.report(answer)
  }

  report({ what, count: many }) {
    this.tell('said', many ? `${what} (${count(many, 'picture')})` : `${what}: nothing to change`)
  }

  undo() {
    return this.done ? this.change('undo') : this.tell('said', 'Nothing to undo')
  }

  redo() {
    return this.undone ? this.change('redo') : this.tell('said', 'Nothing to redo')
  }

  refresh() {
    return this.change('refresh')
  }
}
