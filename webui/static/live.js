// What is told from the server while it happens. One stream for each run and one poll for each address, however many
// elements listen: a browser grants a site six connections.
import { address, ask, runPath } from './tools.js'
import { Story } from './story.js'

const AGAIN = 1500 // ms before a stream that the browser gave up is opened anew
const PATIENCE = 8000 // ms for the answer to a poll
const OPENING = 30000 // ms for a stream to begin: a long run is read first
const SILENCE = 12000 // ms without a word, or one of the server's pings, after which a stream is dead
const streams = new Map()
const polls = new Map()

// Calls `listener(stream, what, anew)` with what = 'state', 'events', 'log', 'link' or 'gone'; anew: look at all of it,
// not at its last part alone. Gives a function that ends it.
export function watch(run, listener) {
  const stream = streams.get(run) || new Stream(run)
  streams.set(run, stream)
  stream.listeners.add(listener)
  for (const what of ['link', 'state', 'events', 'log']) listener(stream, what, true)
  if (stream.gone) listener(stream, 'gone', true)
  return () => {
    stream.listeners.delete(listener)
    if (!stream.listeners.size) {
      stream.close()
      streams.delete(run)
    }
  }
}

class Stream {
  constructor(run) {
    this.run = run
    this.listeners = new Set()
    this.story = new Story()
    this.line = null // what api/runs tells of it
    this.log = [] // texts as they came
    this.lost = this.gone = false
    this.open()
  }

  open() {
    this.source = new EventSource(address(runPath(this.run, '/stream')))
    this.fresh = true
    this.listen(OPENING)
    this.source.onopen = () => {
      this.listen()
      this.link(false)
    }
    this.source.onerror = () => this.failed()
    this.source.addEventListener('ping', () => this.listen())
    this.source.addEventListener('state', event => {
      this.listen()
      this.line = JSON.parse(event.data)
      this.tell('state')
    })
    this.source.addEventListener('events', event => {
      this.listen()
      for (const one of JSON.parse(event.data)) this.story.add(one)
      this.tell('events')
    })
    this.source.addEventListener('log', event => {
      this.listen()
      if (this.fresh) this.log = [] // a new stream begins with the end of the log once more
      const anew = this.fresh
      this.fresh = false
      this.log.push(JSON.parse(event.data).text)
      if (this.log.length > 400) this.log.splice(0, 200, this.log.slice(0, 200).join('').slice(-65536))
      this.tell('log', anew)
    })
  }

  // A tunnel that died says nothing, not even that it ended.
  listen(patience = SILENCE) {
    clearTimeout(this.silence)
    this.silence = setTimeout(() => {
      this.link(true)
      this.source.close()
      this.open()
    }, patience)
  }

  // The browser itself comes back when a stream breaks, but not when the answer is no stream (a proxy's 502, a server
  // that is starting): then we do, unless the run is not there any more.
  async failed() {
    this.link(true)
    if (this.source.readyState !== EventSource.CLOSED) return
    clearTimeout(this.silence)
    const answer = await ask(runPath(this.run), undefined, 'GET', PATIENCE).catch(error => error)
    if (!this.listeners.size) return
    if (answer.status === 404) {
      this.gone = true
      this.link(false)
      this.tell('gone')
      return
    }
    clearTimeout(this.timer)
    this.timer = setTimeout(() => this.open(), AGAIN)
  }

  link(lost) {
    if (this.lost === lost) return
    this.lost = lost
    this.tell('link')
  }

  tell(what, anew = false) {
    for (const listener of [...this.listeners]) listener(this, what, anew)
  }

  close() {
    clearTimeout(this.timer)
    clearTimeout(this.silence)
    this.source.close()
  }
}

// Calls `listener(answer, error)` now and every so many seconds; gives a function that ends it.
export function poll(path, seconds, listener) {
  let one = polls.get(path)
  if (!one) {
    one = { listeners: new Set(), last: null, timer: 0, turn: 0 }
    polls.set(path, one)
    one.look = async () => {
      clearTimeout(one.timer)
      const turn = ++one.turn
      const [answer, error] = await ask(path, undefined, 'GET', PATIENCE).then(found => [found, null], problem => [null, problem])
      if (turn !== one.turn) return // asked once more meanwhile
      one.last = answer || one.last
      for (const each of [...one.listeners]) each(answer, error)
      if (one.listeners.size) one.timer = setTimeout(one.look, 1000 * seconds)
    }
    one.timer = setTimeout(one.look)
  }
  one.listeners.add(listener)
  if (one.last) listener(one.last, null)
  return () => {
    one.listeners.delete(listener)
    if (!one.listeners.size) {
      clearTimeout(one.timer)
      polls.delete(path)
    }
  }
}

// Asks again at once, after something was changed.
export const refresh = path => polls.get(path)?.look()

// An element that works only while it is shown: subclasses give show(), and put into `ends` what ends what they began
// there. Tabs that are not chosen cost nothing, and a removed element holds no connection. Scrolled away is shown too,
// hence the wide margin.
export class Live extends HTMLElement {
  seen = false
  ends = []

  connectedCallback() {
    this.eye = new IntersectionObserver(seen => {
      const visible = seen.at(-1).isIntersecting
      if (visible === this.seen) return
      this.seen = visible
      if (visible) this.show()
      else this.hide()
    }, { rootMargin: '20000px' })
    this.eye.observe(this)
  }

  disconnectedCallback() {
    this.eye?.disconnect()
    this.hide()
    this.seen = false
  }

  hide() {
    for (const end of this.ends.splice(0)) end()
  }
}
