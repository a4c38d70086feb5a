// <likeness-browser>: a dialog that chooses a file or a folder of the machine that the page's server runs on.
import { ask, button, bytes, count, h, has, notice, say } from './tools.js'

const LAST = 'likeness-folder' // the folder that was looked at last

class Browser extends HTMLElement {
  connectedCallback() {
    if (this.dialog) return
    this.title_ = h('h3', { id: 'browser-title' })
    this.roots = h('div', { class: 'roots' })
    this.path = h('input', { type: 'text', 'aria-label': 'Path', autocomplete: 'off', spellcheck: 'false', onkeydown: event => event.key === 'Enter' && this.enter(event) })
    this.told = notice('refused')
    this.list = h('ul', { class: 'entries', 'aria-label': 'Files and folders', onkeydown: event => this.arrows(event) })
    this.name = h('input', { type: 'text', 'aria-label': 'File name', autocomplete: 'off', spellcheck: 'false' })
    this.take = button('Choose this folder', () => this.finish(), { class: 'take' })
    this.here = button('From this computer', async () => this.end(await fileHere(this.wish.ends)))
    const cancel = button('Cancel', () => this.end(null))
    this.nameRow = h('label', { class: 'name' }, 'File name', this.name)
    this.dialog = h('dialog', { 'aria-labelledby': 'browser-title', oncancel: () => this.end(null), onclose: () => this.end(null) },
      this.title_, this.roots, this.path, this.told, this.list, this.nameRow, h('div', { class: 'row' }, this.here, h('i'), cancel, this.take))
    this.append(this.dialog)
  }

  // {title, kind: folder | file | save, ends, start: a path, name, here: a file of the person's own computer may be
  // taken too} -> a path, a File, or null.
  choose(wish) {
    this.wish = wish
    this.sure = null // the path that Save was pressed for, and that it would replace
    say(this.title_, wish.title)
    this.nameRow.hidden = wish.kind !== 'save'
    this.name.value = wish.name || ''
    this.here.hidden = !wish.here
    this.take.hidden = wish.kind === 'file' && wish.ends?.length && !wish.ends.includes('.safetensors')
    say(this.take, wish.kind === 'save' ? 'Save' : 'Choose this folder')
    this.dialog.showModal()
    this.open(wish.start || localStorage.getItem(LAST) || '', true)
    return new Promise(done => { this.done = done })
  }

  end(answer) {
    const done = this.done
    this.done = null
    if (this.dialog.open) this.dialog.close()
    done?.(answer)
  }

  async open(path, first) {
    const { kind, ends = [] } = this.wish
    const query = new URLSearchParams({ path, kind: kind === 'folder' ? 'folder' : 'file', ext: ends.join(',') })
    try {
      this.show(await ask(`api/browse?${query}`))
    } catch (error) {
      if (first && path) return this.open('', false)
      this.told.tell(error.message)
    }
  }

  show(found) {
    this.folder = found.path
    this.sure = null
    this.told.tell('')
    this.path.value = found.path
    if (found.path) localStorage.setItem(LAST, found.path)
    this.take.disabled = !found.path
    this.roots.replaceChildren(...found.roots.map(root => button(root.name, () => this.open(root.path), { title: root.path })))
    const up = has(found.parent) && found.path ? [this.entry('↑ up', '', () => this.open(found.parent))] : []
    const entries = found.entries.map(one => this.entry(
      one.folder ? `${one.name}/` : one.name,
      one.folder ? (one.pictures ? count(one.pictures, 'picture') : '') : bytes(one.size),
      () => one.folder ? this.open(one.path) : this.pick(one)))
    const nothing = found.entries.length ? [] : [h('li', { class: 'none' }, 'Nothing here to choose.')]
    const more = found.more ? [h('li', { class: 'none' }, `and ${found.more} more: write the path`)] : []
    this.list.replaceChildren(...up, ...entries, ...nothing, ...more)
    this.list.querySelector('button')?.focus()
  }

  entry(name, facts, onclick) {
    return h('li', {}, h('button', { type: 'button', class: 'entry', onclick }, h('span', {}, name), h('small', {}, facts)))
  }

  pick(one) {
    if (this.wish.kind !== 'save') return this.end(one.path)
    this.name.value = one.name
    this.name.focus()
  }

  async finish() {
    if (this.wish.kind !== 'save') return this.end(this.folder)
    const name = this.name.value.trim()
    if (!name) return this.name.focus()
    const file = /\.json$/i.test(name) ? name : `${name}.json`
    const there = [...this.list.querySelectorAll('span')].some(node => node.textContent === file)
    const path = `${this.folder.replace(/[\\/]$/, '')}${this.folder.includes('\\') ? '\\' : '/'}${file}`
    if (there && this.sure !== path) {
      this.sure = path
      return this.told.tell(`${file} is there already: press Save again to replace it.`)
    }
    this.end(path)
  }

  enter(event) {
    event.preventDefault()
    this.open(this.path.value.trim())
  }

  arrows(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key]
    if (!step) return
    event.preventDefault()
    const all = [...this.list.querySelectorAll('button')]
    all[all.indexOf(document.activeElement) + step]?.focus()
  }
}
customElements.define('likeness-browser', Browser)

// One dialog for the page.
export function choose(wish) {
  let browser = document.querySelector('likeness-browser')
  if (!browser) document.body.append(browser = document.createElement('likeness-browser'))
  return browser.choose(wish)
}

// A file of the computer that the browser runs on; null when none was chosen.
export function fileHere(ends = []) {
  return new Promise(done => {
    const input = h('input', { type: 'file', accept: ends.join(','), onchange: () => done(input.files[0] || null), oncancel: () => done(null) })
    input.click()
  })
}
