// <likeness-gallery>: the pictures of a folder, the newest first. `gallery.look(folder)` reads it anew; pictures that are
// there stay as they are. Tells `likeness-send` (bubbling, detail: {values, missing}) when settings are asked for.
import { ask, button, count, h, pictureAt, say } from '../tools.js'
import { Large } from './large.js'

const PAGE = 60

class Gallery extends HTMLElement {
  pictures = []
  most = PAGE
  thumbs = new Map()

  connectedCallback() {
    if (this.list) return
    this.list = h('ul', { class: 'lk-gallery', onkeydown: event => this.arrows(event) })
    this.none = h('p', { class: 'lk-empty' }, 'Pictures appear here, the newest first.')
    this.more = button('Older pictures', () => {
      this.most += PAGE
      this.look(this.folder)
    }, { class: 'lk-button lk-small', hidden: true })
    this.undo = h('div', { class: 'lk-row', role: 'status' })
    this.append(this.undo, this.none, this.list, this.more)
  }

  async look(folder = '') {
    if (folder !== this.folder) this.most = PAGE
    this.folder = folder
    const turn = this.turn = {}
    const found = await ask(`api/studio/pictures?${new URLSearchParams({ folder, count: this.most })}`).catch(error => error)
    if (turn !== this.turn) return
    if (found instanceof Error) return this.tell(found.message)
    const first = this.drawn && found.pictures[0]?.name !== this.pictures[0]?.name && found.pictures[0]
    this.drawn = true
    this.pictures = found.pictures
    this.none.hidden = Boolean(found.pictures.length)
    this.more.hidden = !found.more
    say(this.more, `${count(found.more, 'older picture')}`)
    const kept = new Map(found.pictures.map(one => [`${one.file} ${one.stamp}`, one]))
    for (const [key, thumb] of this.thumbs) if (!kept.has(key)) (thumb.remove(), this.thumbs.delete(key))
    let after = null
    for (const [key, one] of kept) {
      const thumb = this.thumbs.get(key) || this.thumb(one)
      this.thumbs.set(key, thumb)
      const place = after ? after.nextSibling : this.list.firstChild
      if (thumb !== place) this.list.insertBefore(thumb, place)
      after = thumb
    }
    if (first) this.list.scrollTo({ left: 0 })
    this.large?.moved(this.pictures)
  }

  thumb(one) {
    return h('li', {}, h('button', { type: 'button', class: 'lk-thumb', onclick: () => this.open(one), 'aria-label': `Enlarge ${one.name}` },
      h('img', { src: pictureAt(one.file, 384, one.stamp), alt: '', loading: 'lazy', decoding: 'async' })))
  }

  arrows(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key]
    if (!step) return
    const all = [...this.list.querySelectorAll('button')]
    all[all.indexOf(document.activeElement) + step]?.focus()
    event.preventDefault()
  }

  open(one) {
    this.large = new Large(this, one)
    this.large.dialog.addEventListener('close', () => {
      this.thumbs.get(`${this.large.one.file} ${this.large.one.stamp}`)?.firstChild.focus()
      this.large = null
    })
  }

  // Sets a picture aside; the way back stands above the pictures, and wherever `tell` puts it.
  async remove(one, tell = () => {}) {
    const gone = await ask('api/studio/aside', { path: one.file })
    const note = () => {
      const back = button('Put it back', async () => {
        await ask('api/studio/back', gone).then(() => (this.tell(''), tell('')), error => this.tell(error.message))
        this.look(this.folder)
      }, { class: 'lk-button lk-small' })
      return [h('span', {}, `${one.name} is set aside.`), back]
    }
    this.undo.replaceChildren(...note())
    tell(...note())
    await this.look(this.folder)
  }

  tell(words) {
    this.undo.replaceChildren(words)
  }
}

customElements.define('likeness-gallery', Gallery)
