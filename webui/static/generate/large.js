// One picture large, with what it says of itself: arrow keys go to the others, Escape closes.
import { address, ask, button, h, notice, over, pictureAt, press, say } from '../tools.js'

export class Large {
  constructor(gallery, one) {
    this.gallery = gallery
    this.all = gallery.pictures
    this.image = h('img', { alt: '' })
    this.title = h('b')
    this.text = h('pre', { class: 'lk-says', tabindex: 0, 'aria-label': 'PNG info' })
    this.told = notice()
    this.gone = h('div', { class: 'lk-row', role: 'status' })
    this.save = h('a', { class: 'lk-button', download: true }, 'Download')
    this.copy = button('Copy', () => this.clip(), { class: 'lk-button' })
    this.send = button('Send to prompt', () => this.form(), { class: 'lk-button lk-primary' })
    this.away = button('Delete', () => this.remove(), { class: 'lk-button lk-stop', title: 'Delete (Del): it is set aside, and can be put back' })
    this.newer = button('←', () => this.go(-1), { class: 'lk-button', 'aria-label': 'Newer picture', title: 'Newer (arrow left)' })
    this.older = button('→', () => this.go(1), { class: 'lk-button', 'aria-label': 'Older picture', title: 'Older (arrow right)' })
    this.dialog = over('Picture', { class: 'lk-large lk-picture', onkeydown: event => this.key(event) }, this.image, h('div', { class: 'lk-picture-side' }, this.title, this.text, this.told, this.gone,
      h('div', { class: 'lk-row' }, this.send, this.copy, this.save, this.away),
      h('div', { class: 'lk-row' }, this.newer, this.older, button('Close', () => this.dialog.close(), { class: 'lk-button' }))))
    this.show(one)
    this.dialog.showModal()
    this.send.focus()
  }

  get place() {
    return this.all.findIndex(other => other.file === this.one.file)
  }

  async show(one) {
    this.one = one
    this.image.src = pictureAt(one.file, 1024, one.stamp)
    this.image.alt = one.name
    say(this.title, one.name)
    say(this.copy, 'Copy')
    this.save.href = address(`api/studio/file?${new URLSearchParams({ path: one.file })}`)
    this.marks()
    this.told.tell('')
    this.info = null
    const info = await ask(`api/studio/info?${new URLSearchParams({ path: one.file })}`).catch(error => error)
    if (this.one !== one) return
    if (info instanceof Error) return this.told.tell(info.message)
    this.info = info
    say(this.text, info.text || 'It does not say how it was made.')
    this.send.disabled = this.copy.disabled = !info.text
  }

  // What there is may change while one looks.
  moved(all) {
    this.all = all
    this.marks()
  }

  marks() {
    this.newer.disabled = this.place <= 0
    this.older.disabled = this.place < 0 || this.place + 1 >= this.all.length
  }

  go(step) {
    const next = this.place < 0 ? undefined : this.all[this.place + step]
    if (!next) return
    this.gone.replaceChildren()
    this.show(next)
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key]
    if (event.target === this.text && getSelection().toString()) return
    if (step) this.go(step)
    else if (event.key === 'Delete') this.remove()
    else return
    event.preventDefault()
  }

  async clip() {
    getSelection().selectAllChildren(this.text) // where the clipboard is closed (http), Ctrl-C is one key away
    await navigator.clipboard?.writeText(this.text.textContent).then(() => say(this.copy, 'Copied'), () => {})
  }

  form() {
    const { values, missing } = this.info
    this.dialog.close()
    this.gallery.dispatchEvent(new CustomEvent('likeness-send', { bubbles: true, detail: { values, missing } }))
  }

  async remove() {
    const { one, all, place } = this
    const next = all[place + 1] || all[place - 1]
    await press(this.away, () => this.gallery.remove(one, (...words) => this.gone.replaceChildren(...words)), words => this.told.tell(words))
    if (!next) this.dialog.close()
    else if (this.place < 0) this.show(next)
  }
}
