// <likeness-log>: the last lines of a log. A carriage return writes a line anew, as in a terminal; the view follows the
// end unless one has scrolled up.
import { button, h } from './tools.js'

const MOST = 1000 // lines

class Log extends HTMLElement {
  connectedCallback() {
    if (this.box) return
    this.box = h('div', { class: 'lk-lines', role: 'log', 'aria-label': 'Last lines of the log', tabindex: 0, onscroll: () => this.scrolled() })
    this.jump = button('Follow the end', () => this.toEnd(), { class: 'lk-button lk-jump', hidden: true })
    this.append(this.box, this.jump)
    this.clear()
  }

  clear() {
    this.line = h('div')
    this.anew = false // whether the next text takes the place of the line
    this.box.replaceChildren(this.line)
    this.follows = true
  }

  write(text) {
    let words = this.line.textContent
    for (const piece of text.split(/(\r\n|\n|\r)/)) {
      if (piece === '\r') this.anew = true
      else if (piece === '\n' || piece === '\r\n') {
        this.line.textContent = words
        this.line = h('div')
        this.box.append(this.line)
        words = ''
        this.anew = false
      } else if (piece) {
        words = this.anew ? piece : words + piece
        this.anew = false
      }
    }
    this.line.textContent = words
    while (this.box.childElementCount > MOST) this.box.firstChild.remove()
    if (this.follows) this.toEnd()
  }

  toEnd() {
    this.box.scrollTop = this.box.scrollHeight
  }

  scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.box
    this.follows = scrollTop + clientHeight >= scrollHeight - 12
    this.jump.hidden = this.follows
  }
}

customElements.define('likeness-log', Log)
