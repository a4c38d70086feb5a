// <likeness-queue>: what trains and what waits; reorder by dragging or by arrow buttons, start at a time, choose a GPU.
import { Live, poll, refresh } from './live.js'
import { ask, button, clock, duration, h, has, inShort, notice, pill, press, runPath, say } from './tools.js'

class Queue extends Live {
  show() {
    if (!this.list) this.build()
    this.ends.push(
      poll('api/queue', 2, queue => queue && this.take({ queue })),
      poll('api/runs', 2, lines => lines && this.take({ lines })),
      poll('api/tools', 2, tools => tools && this.take({ tools })),
      poll('api/machine', 3, machine => machine && this.take({ gpus: machine.gpus })),
    )
  }

  build() {
    this.known = { gpus: [], tools: [] }
    this.pause = button('', () => this.post({ paused: !this.known.queue.paused }), { class: 'lk-button' })
    this.told = notice()
    this.list = h('ol', { class: 'lk-queue' })
    this.none = h('p', { class: 'lk-empty' }, 'Nothing waits. A run that you start while another trains waits here for its turn.')
    this.append(h('header', { class: 'lk-head' }, h('h3', {}, 'Queue'), this.pause),
      h('p', { class: 'lk-soft' }, 'One run trains on each GPU. The queue moves on while this page\'s server runs, also when a run fails.'),
      this.told, this.list, this.none)
  }

  take(news) {
    Object.assign(this.known, news)
    const { queue, lines: trainings, tools, gpus } = this.known
    if (!queue || !trainings || this.dragged) return
    const lines = [...trainings, ...tools]
    const key = JSON.stringify([queue, gpus.map(gpu => gpu.index), lines.filter(line => queue.order.includes(line.id) || line.state === 'running')])
    if (key === this.key || this.list.contains(document.activeElement) && /INPUT|SELECT/.test(document.activeElement.tagName)) return
    this.key = key
    say(this.pause, queue.paused ? 'Go on with the queue' : 'Pause the queue')
    this.told.tell(queue.problem || (queue.paused ? 'The queue is paused: what trains goes on, nothing new is started.' : ''))
    const find = id => lines.find(line => line.id === id)
    const running = lines.filter(line => line.state === 'running')
    const waiting = queue.order.map(find).filter(Boolean)
    const focus = this.list.contains(document.activeElement) && document.activeElement.dataset.key
    this.list.replaceChildren(...running.map(line => this.running(line)), ...waiting.map((line, place) => this.waiting(line, place, waiting.length)))
    if (focus) this.list.querySelector(`[data-key="${CSS.escape(focus)}"]`)?.focus()
    this.none.hidden = this.list.childElementCount > 0
  }

  running(line) {
    const { progress } = line
    const gpu = this.known.gpus.length > 1 && has(line.gpu) ? `GPU ${line.gpu}, ` : ''
    const left = gpu + (has(progress.left_s) ? `${duration(progress.left_s)} left` : 'getting ready')
    const [done, all] = line.job ? [progress.done, progress.total] : [progress.step, progress.steps]
    return h('li', { class: 'lk-item' }, pill('running', line.job && 'At work'), this.title(line),
      h('progress', { class: 'lk-bar', max: 1, value: all ? done / all : 0, 'aria-label': `Progress of ${line.name}` }), h('span', { class: 'lk-soft' }, left))
  }

  waiting(line, place, all) {
    const move = (sign, name, to) => button(sign, () => this.move(line.id, to), {
      class: 'lk-button lk-small', 'aria-label': `${name}: ${line.name}`, 'data-key': `${name} ${line.id}`, disabled: to < 0 || to >= all,
    })
    const item = h('li', {
      class: 'lk-item', draggable: 'true', 'data-run': line.id,
      ondragstart: event => {
        this.dragged = line.id
        event.dataTransfer.effectAllowed = 'move'
        event.dataTransfer.setData('text/plain', line.name)
      },
      ondragover: event => {
        if (!this.dragged) return
        event.preventDefault()
        item.classList.add('lk-over')
      },
      ondragleave: () => item.classList.remove('lk-over'),
      ondrop: event => {
        event.preventDefault()
        const from = this.dragged
        this.dragged = null
        this.move(from, place)
      },
      ondragend: () => {
        this.dragged = null
        item.classList.remove('lk-over')
      },
    }, h('span', { class: 'lk-handle', 'aria-hidden': 'true' }, '⠿'), h('b', {}, `${place + 1}.`), this.title(line),
    h('div', { class: 'lk-acts' }, this.time(line), this.gpu(line), move('↑', 'Earlier', place - 1), move('↓', 'Later', place + 1),
      !line.job && button('Duplicate', () => this.dispatchEvent(new CustomEvent('likeness-again', { detail: line, bubbles: true })), { class: 'lk-button lk-small' }),
      button('Cancel', event => press(event.currentTarget, () => this.cancel(line), this.told.tell), { class: 'lk-button lk-small', 'aria-label': `Cancel ${line.name}` })))
    return item
  }

  title(line) {
    const open = () => this.dispatchEvent(new CustomEvent('likeness-open', { detail: line.id, bubbles: true }))
    return h('div', { class: 'lk-wide' }, button(line.name, open, { class: 'lk-link', 'data-key': `open ${line.id}` }), h('div', { class: 'lk-soft' }, inShort(line)))
  }

  // A time before which it does not start
  time(line) {
    const local = at => new Date(at * 1000 - new Date(at * 1000).getTimezoneOffset() * 60000).toISOString().slice(0, 16)
    if (has(line.at)) {
      return h('span', { class: 'lk-at' }, `at ${clock(line.at)} `,
        button('As soon as possible', () => this.post({ id: line.id, at: null }), { class: 'lk-button lk-small', 'data-key': `now ${line.id}` }))
    }
    const field = h('input', {
      type: 'datetime-local', class: 'lk-input', 'aria-label': `Start ${line.name} at`, min: local(Date.now() / 1000), hidden: true,
      onchange: () => {
        if (!field.value || !field.reportValidity()) return
        const at = new Date(field.value).getTime() / 1000
        field.blur()
        this.post({ id: line.id, at })
      },
      onkeydown: event => event.key === 'Escape' && field.blur(),
      onblur: () => { // not chosen after all
        set.hidden = false
        field.hidden = true
      },
    })
    const set = button('Start at …', () => {
      set.hidden = true
      field.hidden = false
      field.focus()
      field.showPicker?.()
    }, { class: 'lk-button lk-small', 'data-key': `at ${line.id}` })
    return h('span', {}, set, field)
  }

  gpu(line) {
    const { gpus } = this.known
    if (gpus.length < 2) return null
    const choice = h('select', {
      class: 'lk-select lk-small', 'aria-label': `GPU of ${line.name}`,
      onchange: () => {
        const gpu = choice.value === '' ? null : +choice.value
        choice.blur()
        this.post({ id: line.id, gpu })
      },
    }, h('option', { value: '' }, 'any GPU'), gpus.map(gpu => h('option', { value: gpu.index }, `GPU ${gpu.index}`)))
    choice.value = line.gpu ?? ''
    return choice
  }

  move(id, to) {
    const order = this.known.queue.order.filter(each => each !== id)
    order.splice(to, 0, id)
    return this.post({ order })
  }

  async cancel(line) {
    await ask(runPath(line.id, '/command'), { command: 'cancel' })
    this.changed()
  }

  async post(wish) {
    try {
      this.known.queue = await ask('api/queue', wish)
      this.changed()
    } catch (error) {
      this.told.tell(error.message)
    }
  }

  changed() {
    this.take({})
    refresh('api/queue')
    refresh('api/runs')
  }
}

customElements.define('likeness-queue', Queue)
