// <likeness-sweeps>: every sweep, and on opening the table of its runs: what was varied, what came of it, which is best.
import { Live, poll, refresh } from './live.js'
import { address, ask, bytes, button, clock, count, duration, filePath, h, has, loss, notice, number, pill, press, say } from './tools.js'

const pathOf = name => `api/sweeps/${encodeURIComponent(name)}`
const word = value => Array.isArray(value) ? value.join(' × ') : typeof value === 'number' ? number(value) : String(value ?? '–')
const WAITING = { planned: 'Not begun', removed: 'In the trash' }

class Sweeps extends Live {
  show() {
    if (!this.list) {
      this.list = h('div')
      this.all = h('section', { hidden: true }, h('header', { class: 'lk-head' }, h('h3', {}, 'Sweeps')), this.list)
      this.append(this.all)
    }
    this.ends.push(poll('api/sweeps', 5, found => found && this.draw(found)))
  }

  draw(found) {
    this.all.hidden = !found.length
    const old = new Map([...this.list.children].map(one => [one.dataset.name, one]))
    const nodes = found.map(sweep => old.get(sweep.name) || h('likeness-sweep', { 'data-name': sweep.name, 'data-line': JSON.stringify(sweep) }))
    if (nodes.length !== old.size || nodes.some((node, place) => node !== this.list.children[place])) this.list.replaceChildren(...nodes)
  }
}

class Sweep extends Live {
  show() {
    if (!this.fold) this.build()
    if (this.fold.open) this.follow()
  }

  build() {
    const line = JSON.parse(this.dataset.line)
    this.path = pathOf(line.name)
    this.told = notice('lk-note', 'status')
    this.said = h('p')
    this.table = h('table', { class: 'lk-table' })
    const again = button('Queue what is not done', () => press(again, async () => {
      const { queued } = await ask(this.path, { do: 'resume' })
      this.told.tell(queued ? `${count(queued, 'run')} in the queue.` : 'All runs are done.')
      refresh(this.path)
    }, words => this.told.tell(words)), { class: 'lk-button' })
    this.fold = h('details', { class: 'lk-fold', ontoggle: () => this.fold.open ? this.follow() : this.hide() },
      h('summary', {}, `${line.name}: ${count(line.count, 'run')}, ${line.vary.join('; ')} (${clock(line.made)})`),
      this.said, h('div', { class: 'lk-scroll' }, this.table), again, this.told)
    this.append(this.fold)
  }

  follow() {
    this.hide()
    this.ends.push(poll(this.path, 5, (found, error) => {
      if (error) this.told.tell(error.message)
      if (found) this.draw(found)
    }))
  }

  draw({ fields, rows, best, sentence }) {
    const key = JSON.stringify(rows)
    say(this.said, sentence)
    if (key === this.key) return
    this.key = key
    const titles = ['Run', ...fields, 'State', 'Final loss', 'Held-out loss', 'Score', 'Time', 'Memory', 'Best file']
    this.table.replaceChildren(
      h('thead', {}, h('tr', {}, titles.map(title => h('th', { scope: 'col' }, title)))),
      h('tbody', {}, rows.map(row => h('tr', {},
        h('th', { scope: 'row' }, best?.place === row.place ? `${row.place} ★` : row.place),
        fields.map(name => h('td', {}, word(row.values[name]))),
        h('td', {}, WAITING[row.state] || pill(row.state)),
        h('td', {}, loss(row.loss)), h('td', {}, loss(row.held_out)), h('td', {}, has(row.score) ? row.score.toFixed(2) : '–'),
        h('td', {}, has(row.seconds) ? duration(row.seconds) : '–'), h('td', {}, has(row.memory) ? bytes(row.memory) : '–'),
        h('td', {}, this.file(row))))))
  }

  // A link to the file where it lies in the run's own folder; what went wrong where there is none.
  file(row) {
    if (!row.file) return row.said || '–'
    const at = row.file.replaceAll('\\', '/'), within = at.lastIndexOf(`/${row.run}/`)
    const name = at.slice(at.lastIndexOf('/') + 1)
    return within < 0 ? name : h('a', { href: address(filePath(row.run, at.slice(within + row.run.length + 2))), title: row.why, download: true }, name)
  }
}

customElements.define('likeness-sweep', Sweep)
customElements.define('likeness-sweeps', Sweeps)
