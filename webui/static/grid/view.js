// One grid as it is drawn: how far it is, its cells, and what may be done with them.
import { ask, button, clock, count, duration, h, has, notice, press, runPath, say } from '../tools.js'
import { WORDS } from '../task.js'
import { blink } from './blink.js'
import { Told, titleOf } from './cells.js'
import { duel, ranking } from './duel.js'
import { enlarge } from './large.js'
import { Table } from './table.js'

const SOON = 700, LATER = 5000 // ms between two looks while it is drawn, and after
const SURE = 5000 // ms in which Remove must be pressed again
const STOPS = ['Stop', 'Stop at once', 'Kill']

export class View {
  // hand: { change(values, folder), removed() } of the element around it.
  constructor(hand) {
    this.hand = hand
    this.chosen = null // the pictures to compare, while they are picked
    this.table = new Table(cell => this.pressed(cell))
    this.pill = h('span', { class: 'lk-pill' })
    this.title = h('h3')
    this.when = h('span', { class: 'lk-soft' })
    this.prompt = h('p', { class: 'lk-soft lg-prompt' })
    this.bar = h('progress', { class: 'lk-bar', max: 1, 'aria-label': 'Progress' })
    this.far = h('span', { class: 'lk-soft', role: 'status' })
    this.trouble = notice()
    this.told_ = notice()
    this.outcome = h('p', { class: 'lk-soft', role: 'status' })
    this.orders = h('div', { class: 'lk-row' })
    this.pick = button('Blink two', () => this.choose(this.chosen ? null : []), { class: 'lk-button lk-small', 'aria-pressed': 'false' })
    this.vote_ = button('Vote', () => duel(() => this.told, body => this.vote(body)) || this.told_.tell('There are no two pictures yet that differ in a checkpoint, a strength or another choice alone.'), { class: 'lk-button lk-small' })
    this.hint = h('span', { class: 'lk-soft', role: 'status' })
    this.bench = h('div', { class: 'lk-row lg-bench' }, this.table.control, this.pick, this.vote_, this.hint)
    this.votes = h('details', { class: 'lk-fold' }, h('summary', {}, 'Votes'), h('div'))
    this.node = h('section', { class: 'lk-card lg-view', hidden: true, 'aria-label': 'Grid' },
      h('header', { class: 'lk-head' }, this.pill, this.title, this.when), this.prompt,
      h('div', { class: 'lk-progress' }, this.bar, this.far), this.outcome, this.trouble, this.orders, this.told_, this.bench, this.table.node, this.votes)
  }

  // Shows the grid of a folder; null shows none.
  open(folder) {
    if (folder === this.folder) return
    this.folder = folder
    this.told = this.moment = null
    this.choose(null)
    this.node.hidden = true
    this.told_.tell('')
    this.trouble.tell('')
    this.look()
  }

  end() {
    clearTimeout(this.timer)
    this.turn = null
  }

  async look() {
    clearTimeout(this.timer)
    const { folder } = this, turn = this.turn = {}
    if (!folder) return
    const known = this.told?.plan ? this.told.stamp : ''
    const told = await ask(`api/grids/one?${new URLSearchParams({ folder, stamp: known })}`).catch(error => error)
    if (turn !== this.turn) return
    if (told instanceof Error) {
      if (told.status === 404) return this.hand.removed()
      this.trouble.tell(told.message)
      this.node.hidden = false
    } else this.draw(told, known)
    this.timer = setTimeout(() => this.look(), ['running', 'queued'].includes(told.state) ? SOON : LATER)
  }

  draw(told, known) {
    if (told.stamp && told.stamp === known) told.plan = this.told.plan
    this.told = told.plan ? new Told(told) : told
    this.node.hidden = false
    this.status()
    const { plan } = told
    this.bench.hidden = this.table.node.hidden = !plan
    this.votes.hidden = !plan || !(told.votes.ranking.length)
    if (!plan) return
    this.table.draw(this.told)
    if (this.chosen) this.table.mark(this.chosen)
    this.vote_.disabled = this.pick.disabled = this.told.drawnCells.length < 2
    const key = JSON.stringify(told.votes)
    if (key !== this.counted) this.votes.lastChild.replaceChildren(ranking(told.votes))
    this.counted = key
  }

  status() {
    const { told } = this, { state, cells } = told, busy = ['running', 'queued'].includes(state)
    const done = told.plan ? Object.keys(told.drawn).length : 0, left = told.left_s
    this.pill.className = `lk-pill lk-${state}`
    say(this.pill, state === 'running' ? 'Drawing' : WORDS[state])
    say(this.title, titleOf(told))
    say(this.when, `${told.name} · ${clock(told.time)}`)
    say(this.prompt, told.prompt)
    this.bar.parentNode.hidden = !busy
    this.bar.classList.toggle('lk-idle', state === 'queued')
    if (state === 'running' && !told.plan) this.bar.removeAttribute('value')
    else this.bar.value = cells ? done / cells : 0
    say(this.far, state === 'queued' ? 'It waits for its turn: one job at a time draws or trains.' : !told.plan ? 'It starts: models are looked at.' : !done ? `0 of ${count(cells, 'picture')} · the model is loaded`
      : `${done} of ${count(cells, 'picture')}${has(left) ? ` · ${duration(left)} left` : ''}`)
    const lost = Object.keys(told.wrong).length
    this.trouble.tell([told.error && `${told.error.text}. ${told.error.remedy || ''}`, lost && !busy && `${count(lost, 'picture')} could not be drawn: see there why.`].filter(Boolean).join(' '))
    const key = [state, told.stops, told.sheet, done > 0, told.stamp, told.summary].join()
    if (key !== this.moment) {
      this.moment = key
      this.settled(state, done)
    }
  }

  settled(state, done) {
    const { told } = this, order = (words, work, main = '') => {
      const node = button(words, () => press(node, work, this.told_.tell), { class: `lk-button ${main}` })
      return node
    }
    const command = word => async () => {
      await ask(runPath(told.run, '/command'), { command: word })
      this.look()
    }
    const all = {
      running: [order(STOPS[Math.min(told.stops, 2)], command('stop'), 'lk-stop')],
      queued: [order('Take it out of the queue', command('cancel'))],
      stopped: [told.run && order('Go on', command('resume'), 'lk-primary')],
      interrupted: [order('Go on', command('resume'), 'lk-primary')],
      error: [order('Try again', command('resume'), 'lk-primary')],
    }[state] || []
    const isBusy = ['running', 'queued'].includes(state)
    if (told.values && !isBusy) all.push(order('Change, and draw again', async () => this.hand.change(told.values, told.folder)))
    if (told.sheet && !isBusy) all.push(h('a', { class: 'lk-button', href: this.told.file('sheet.png'), download: true }, 'sheet.png'))
    if (done && told.plan) all.push(h('a', { class: 'lk-button', href: this.told.zip, download: true }, 'All as a zip'))
    if (!isBusy) all.push(this.removal(told))
    this.orders.replaceChildren(...all.filter(Boolean))
    say(this.outcome, ['done', 'stopped'].includes(state) && told.summary ? told.summary.replace(/, in \/.*\.$/, '.') : '')
    this.outcome.hidden = !this.outcome.textContent
    this.told_.tell('')
  }

  // Asked for twice: the second press, within some seconds, is the one that counts.
  removal(told) {
    const node = button('Remove', () => {
      if (node.textContent !== 'Remove') return press(node, () => this.hand.remove(told), this.told_.tell)
      say(node, 'To the trash: press again')
      setTimeout(() => say(node, 'Remove'), SURE)
    }, { class: 'lk-button' })
    return node
  }

  // Two pictures are picked one after the other, to be looked at in one place.
  choose(chosen) {
    this.chosen = chosen
    this.pick.setAttribute('aria-pressed', Boolean(chosen))
    say(this.hint, chosen ? `Press ${chosen.length ? 'the second picture' : 'two pictures'}.` : '')
    if (this.told?.plan) this.table.mark(chosen)
  }

  pressed(cell) {
    if (!this.chosen) return enlarge(() => this.told, cell, body => this.vote(body))
    const chosen = this.chosen.some(each => each.file === cell.file) ? this.chosen.filter(each => each.file !== cell.file) : [...this.chosen, cell]
    this.choose(chosen)
    if (chosen.length < 2) return
    this.choose(null)
    blink(() => this.told, chosen, body => this.vote(body))
  }

  async vote(body) {
    this.told.votes = await ask('api/grids/vote', { folder: this.folder, ...body })
    this.draw({ ...this.told, plan: this.told.plan }, this.told.stamp)
  }
}

