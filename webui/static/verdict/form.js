// <likeness-verdict-form>: what a comparison is made with; the run is chosen beside it (`form.take(line)`).
// Tells `likeness-begun` (bubbling) when one was started.
import { Tool } from '../tool.js'
import { ask, button, count, duration, h, has, press, say } from '../tools.js'

const REST = 400 // ms after which what is written is counted

class Form extends Tool {
  line = null

  get source() {
    return 'api/verdicts/form'
  }

  // Another folder than that of the pictures: it is chosen beside the form.
  show() {
    this.drawn ||= this.draw()
  }

  build(form) {
    this.fields.delete('folder')
    const groups = form.groups.map(({ title, fields }) => {
      const grid = this.grid(fields.filter(({ name }) => name !== 'folder'), form.values)
      return title ? h('details', { class: 'lk-fold' }, h('summary', {}, title), grid) : grid
    })
    this.sum = h('p', { class: 'lv-sum', role: 'status' })
    this.start_ = button(form.start, () => press(this.start_, () => this.start(), words => this.tell(words)), { class: 'lk-button lk-primary' })
    this.form = h('form', { class: 'lk-tool', onsubmit: event => event.preventDefault(), oninput: () => this.changed(), onchange: () => this.changed() },
      groups, this.told, h('div', { class: 'lk-row lv-start' }, this.start_, button('Back to the defaults', () => this.reset(), { class: 'lk-button' }), this.sum))
    this.replaceChildren(this.form)
    this.changed()
  }

  // The run whose files are compared; what is written for another run is not for this one.
  take(line) {
    if (this.line?.folder === line.folder) return
    const isOther = this.line !== null
    this.line = line
    if (!this.form) return
    if (isOther) for (const name of ['base', 'data', 'trigger', 'prompts', 'contradicting', 'plain']) this.write(name, this.fields.get(name).default)
    this.changed()
  }

  changed() {
    this.settle()
    clearTimeout(this.resting)
    this.resting = setTimeout(() => this.count(), REST)
  }

  values() {
    return { ...super.values(), folder: this.line?.folder || '' }
  }

  // How much work it is, before the start.
  async count() {
    if (!this.line) return
    const asked = this.asked = {}
    this.sum.classList.add('lv-old')
    const found = await ask('api/verdicts/count', { values: this.values() }).catch(error => error)
    if (asked !== this.asked) return // written on meanwhile
    this.sum.classList.remove('lv-old')
    say(this.sum, found instanceof Error ? this.named(found.message) : sum(found, this.line))
  }

  // What is refused, with the words of the page for the names of options.
  named(message) {
    return message.split('\n').map(line => {
      const [name, ...rest] = line.split(': ')
      return this.fields.has(name) ? `${this.fields.get(name).label}: ${rest.join(': ')}` : line
    }).join(' ')
  }

  reset() {
    super.reset()
    this.changed()
  }

  async start() {
    await ask('api/verdicts', { values: this.values() })
    this.dispatchEvent(new CustomEvent('likeness-begun', { bubbles: true }))
  }
}

function sum({ files, pictures, seconds, trigger }, { base }) {
  const time = has(seconds) ? `about ${duration(seconds < 100 ? Math.max(1, seconds) : 60 * Math.round(seconds / 60)).replace(' 0 s', '')}` : 'how long it takes is known after the first ones'
  const subject = trigger ? ` of “${trigger}”` : ''
  return `${count(files, 'file')}: ${count(pictures, 'picture')}${subject}${base ? ` on ${base}` : ''}; ${time}.`
}

customElements.define('likeness-verdict-form', Form)
