// <likeness-drop into="#field">: pictures, folders or a zip, dropped or chosen. They are uploaded, and the path of the
// folder that they became is written into the field, as if it had been typed.
import { address, button, bytes, count, h, has, say } from './tools.js'

const TOO_LARGE = ' A proxy on the way limits uploads: send a smaller zip, or open this page over ssh.'

class Drop extends HTMLElement {
  connectedCallback() {
    if (this.area) return
    this.files = this.picker({ multiple: true, accept: 'image/*,.zip,.txt,.caption' })
    this.folder = this.picker({ webkitdirectory: true })
    this.told = h('p', { class: 'lk-soft', role: 'status' })
    this.bar = h('progress', { class: 'lk-bar', max: 1, value: 0, hidden: true, 'aria-label': 'Upload' })
    this.problems = h('details', { class: 'lk-note lk-warn', hidden: true }, h('summary'), h('ul'))
    this.stopButton = button('Cancel', () => this.request?.abort(), { class: 'lk-button lk-small', hidden: true })
    this.area = h('div', {
      class: 'lk-drop',
      ondragover: event => {
        event.preventDefault()
        this.area.classList.add('lk-over')
      },
      ondragleave: () => this.area.classList.remove('lk-over'),
      ondrop: async event => {
        event.preventDefault()
        this.area.classList.remove('lk-over')
        await dropped(event.dataTransfer).then(files => this.send(files), () => say(this.told, 'Your browser could not read what was dropped. Choose it with a button.'))
      },
    }, h('b', {}, 'Drop pictures, a folder or a zip here'),
    h('div', { class: 'lk-row' }, button('Choose pictures or a zip', () => this.files.click(), { class: 'lk-button' }),
      button('Choose a folder', () => this.folder.click(), { class: 'lk-button' })),
    this.files, this.folder, this.bar, this.told, this.stopButton)
    this.append(this.area, this.problems)
  }

  disconnectedCallback() {
    this.request?.abort()
  }

  picker(props) {
    const input = h('input', {
      type: 'file', hidden: true, ...props,
      onchange: () => {
        this.send([...input.files].map(file => [file.webkitRelativePath || file.name, file]))
        input.value = ''
      },
    })
    return input
  }

  // Field texts go along, so that the folder gets their names.
  send(files) {
    this.request?.abort()
    if (!files.length) return say(this.told, 'There was no file in it.')
    const form = new FormData()
    form.append('repeats', 1) // how often each is seen is then a matter of epochs alone
    for (const [name, field] of [['trigger', 'trigger'], ['class', 'class-word']]) {
      const words = this.hasAttribute(field) && document.querySelector(this.getAttribute(field))?.value.trim()
      if (words) form.append(name, words)
    }
    for (const [name, file] of files) form.append('files', file, name)
    const size = files.reduce((sum, [, file]) => sum + file.size, 0)
    const request = this.request = new XMLHttpRequest() // fetch does not tell how far an upload is
    const end = words => {
      this.bar.hidden = this.stopButton.hidden = true
      say(this.told, words)
    }
    request.upload.onprogress = event => {
      this.bar.value = event.loaded / event.total
      say(this.told, event.loaded < event.total ? `${bytes(event.loaded)} of ${bytes(size)} sent` : 'Looking at the pictures …')
    }
    request.onload = () => this.came(request.status, read(request.responseText), end)
    request.onerror = () => end('The connection was lost. Drop them again.')
    request.onabort = () => end('Cancelled; nothing was kept.')
    this.bar.hidden = this.stopButton.hidden = false
    this.bar.value = 0
    request.open('POST', address('api/upload'))
    request.setRequestHeader('Accept', 'application/json')
    request.send(form)
  }

  came(status, answer, end) {
    if (status !== 200) return end(answer.error || `The server answered ${status}.${status === 413 ? TOO_LARGE : ''}`)
    end(`${count(answer.pictures, 'picture')}${has(answer.captions) && answer.captions ? ` and ${count(answer.captions, 'caption')}` : ''} uploaded.`)
    this.problems.hidden = !answer.problems.length
    say(this.problems.firstChild, `${count(answer.problems.length, 'file')} left out`)
    this.problems.lastChild.replaceChildren(...answer.problems.map(text => h('li', {}, text)))
    const field = document.querySelector(this.getAttribute('into'))
    field.value = answer.images
    field.dispatchEvent(new Event('input', { bubbles: true }))
  }
}

// A proxy refuses in HTML.
function read(text) {
  try {
    return JSON.parse(text)
  } catch {
    return {}
  }
}

// [[path, file]] of what was dropped, folders with all that is in them.
async function dropped(transfer) {
  const entries = [...transfer.items].map(item => item.webkitGetAsEntry()).filter(Boolean)
  const found = []
  const read = (reader, method) => new Promise((good, bad) => reader[method](good, bad))
  const walk = async entry => {
    if (entry.isFile) found.push([entry.fullPath.replace(/^\//, ''), await read(entry, 'file')])
    else {
      const reader = entry.createReader()
      for (let some = await read(reader, 'readEntries'); some.length; some = await read(reader, 'readEntries')) {
        for (const one of some) await walk(one) // a call gives a hundred at most
      }
    }
  }
  for (const entry of entries) await walk(entry)
  return found
}

customElements.define('likeness-drop', Drop)
