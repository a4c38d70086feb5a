// <likeness-job run="ID">: one training, live, with its buttons. Without `run` it follows what trains now, else what
// waits, else the newest run, so that a page that is opened again shows where things stand; with only="active" no old one.
import { Live, poll, refresh, watch } from './live.js'
import {
  STATES, address, ask, button, bytes, clock, count, duration, filePath, h, has, inShort, loss, notice, number, press, runPath, say, speed,
} from './tools.js'
import { names, shown, title } from './settings.js'
import { PARTS } from './chart.js'
import './log.js'
import './samples.js'

const FACTS = {
  step: 'Step', epoch: 'Epoch', rate: 'Speed', left: 'Time left', loss: 'Loss now', average: 'Loss, average', lr: 'Learning rate', device: 'Memory',
}
const WHAT_STOP_DOES = [
  'Stop finishes the step, saves and ends. A second press ends it at once, without saving; a third kills it.',
  'Stopping: it finishes the step and saves. Press again to end it at once; what was learned since the last save is lost then.',
  'Ending it without saving. If it hangs, press again to kill it.',
]

class Job extends Live {
  static observedAttributes = ['run']

  attributeChangedCallback() {
    if (this.seen) this.follow(this.getAttribute('run'))
  }

  show() {
    if (!this.facts) this.build()
    const fixed = this.getAttribute('run')
    if (fixed) this.follow(fixed)
    this.ends.push(
      () => {
        this.unwatch?.()
        this.unwatch = this.run = null
      },
      poll('api/runs', 2, (lines, error) => this.choose(lines, error)),
      poll('api/machine', 3, machine => machine && this.measure(machine)),
    )
  }

  // Which run is shown, when none was named; and a choice among those that are under way.
  choose(lines, error) {
    this.dataset.known = '' // panel.css shows what stands below it
    if (!lines) return this.told(error)
    this.lost.hidden = !this.cut
    const active = lines.filter(line => line.state === 'running' || line.state === 'queued')
    if (!this.getAttribute('run')) {
      const still = active.find(line => line.id === this.picked)
      const next = still || active.find(line => line.state === 'running') || active.at(-1)
      const last = this.getAttribute('only') === 'active' ? this.run : lines[0]?.id // what was seen to end stays
      this.follow(next?.id || last)
    }
    const others = active.some(line => line.id !== this.run) && !this.getAttribute('run')
    this.others.hidden = !others
    if (others) {
      const shown = [...active, ...lines.filter(line => line.id === this.run && !active.includes(line))]
      const key = JSON.stringify(shown.map(line => [line.id, line.state, line.name]))
      if (key !== this.othersKey) {
        this.othersKey = key
        this.others.replaceChildren(...shown.map(line => h('option', { value: line.id }, `${line.name}: ${STATES[line.state].toLowerCase()}`)))
      }
      this.others.value = this.run
    }
  }

  follow(run) {
    this.body.hidden = !run
    this.none.hidden = Boolean(run) || this.getAttribute('only') === 'active'
    if (run === this.run) return
    this.unwatch?.()
    this.run = run
    this.line = this.detailOf = null
    say(this.facts.device.previousElementSibling, FACTS.device)
    this.told(null)
    this.away.hidden = true
    this.unwatch = run ? watch(run, (stream, what, anew) => this.heard(stream, what, anew)) : null
  }

  heard(stream, what, anew) {
    if (what === 'link') {
      this.cut = stream.lost
      this.lost.hidden = !this.cut
    }
    if (what === 'gone') this.away.hidden = false
    if (what === 'log') {
      if (anew) this.log.clear()
      this.log.write(anew ? stream.log.join('') : stream.log.at(-1))
    }
    if (what === 'events') this.picture(stream)
    if ((what === 'state' || what === 'events') && stream.line) this.status(stream)
  }

  // Nodes, made once: later only their texts change, so nothing jumps.
  build() {
    this.pill = h('span', { class: 'lk-pill' })
    this.name = h('h3')
    this.short = h('span', { class: 'lk-soft' })
    this.others = h('select', {
      class: 'lk-select', 'aria-label': 'Which run is shown', hidden: true,
      onchange: () => {
        this.picked = this.others.value
        this.follow(this.picked)
      },
    })
    this.sentence = h('p', { class: 'lk-sentence', 'aria-live': 'polite' })
    this.bar = h('progress', { class: 'lk-bar', max: 1, 'aria-label': 'Progress' })
    this.percent = h('b', { class: 'lk-percent' })
    this.facts = Object.fromEntries(Object.keys(FACTS).map(name => [name, h('dd')]))
    this.lost = h('p', { class: 'lk-note lk-warn', role: 'status', hidden: true },
      'Connection lost. The training goes on without this page; what you see is from before, and comes up to date by itself.')
    this.away = h('p', { class: 'lk-note lk-warn', hidden: true }, 'This run is no longer here: it was moved to the trash.')
    this.trouble = h('div', { class: 'lk-note lk-bad', role: 'alert', hidden: true })
    this.refusal = notice()
    this.warnings = h('details', { class: 'lk-note lk-warn', hidden: true }, h('summary'), h('ul'))
    this.buttons = h('div', { class: 'lk-row' })
    this.hint = h('p', { class: 'lk-soft lk-hint' })
    this.chart = h('likeness-chart')
    this.samples = h('likeness-samples', { hidden: true })
    this.samplesHead = h('h4', { hidden: true }, 'Samples')
    this.files = h('div', { class: 'lk-files' })
    this.log = h('likeness-log')
    this.settings = h('details', { class: 'lk-fold', ontoggle: () => this.settings.open && this.showSettings() }, h('summary', {}, 'Settings'), h('div'))
    this.none = h('p', { class: 'lk-empty', hidden: true }, 'Nothing has been trained yet. What you start is shown here, live.')
    this.body = h('div', { class: 'lk-job', hidden: true },
      h('header', { class: 'lk-head' }, this.pill, this.name, this.short, this.others),
      this.away, this.lost, this.sentence,
      h('div', { class: 'lk-progress' }, this.bar, this.percent),
      h('dl', { class: 'lk-facts' }, Object.entries(FACTS).map(([name, title]) => h('div', {}, h('dt', {}, title), this.facts[name]))),
      this.trouble, this.warnings, this.buttons, this.refusal, this.hint,
      this.chart, this.samplesHead, this.samples,
      h('h4', {}, 'Files'), this.files,
      h('details', { class: 'lk-fold', open: true }, h('summary', {}, 'Log'), this.log), this.settings)
    const settle = () => this.body.parentNode === this || this.append(this.none, this.body)
    settle()
    // Gradio, given the same element with another run, keeps it and takes its children away.
    new MutationObserver(settle).observe(this, { childList: true })
  }

  // The state in words, the numbers, and the buttons that make sense in it.
  status(stream) {
    const { line, story } = stream, { progress } = line
    const state = line.state === 'stopped' && story.ending?.reason === 'pause' ? 'paused' : line.state
    this.pill.className = `lk-pill lk-${state}`
    say(this.pill, STATES[state])
    say(this.name, line.name)
    say(this.short, inShort(line))
    const steps = progress.steps || 0, step = progress.step || 0
    this.bar.classList.toggle('lk-idle', state !== 'running')
    if (state === 'running' && !steps) this.bar.removeAttribute('value')
    else this.bar.value = steps ? step / steps : 0
    say(this.percent, steps ? `${Math.floor(100 * step / steps)} %` : '')
    say(this.sentence, sentence(line, state, story))
    const tell = (name, text) => say(this.facts[name], text)
    tell('step', steps ? `${step.toLocaleString('en')} of ${steps.toLocaleString('en')}` : '–')
    tell('epoch', has(progress.epoch) ? `${progress.epoch} of ${progress.epochs ?? line.about.epochs ?? '?'}` : '–')
    tell('rate', speed(state === 'running' ? progress.rate : story.last?.rate))
    tell('left', has(progress.left_s) ? `${duration(progress.left_s)}, until ${clock(Date.now() / 1000 + progress.left_s)}` : '–')
    tell('loss', loss(progress.loss))
    tell('average', loss(progress.average))
    tell('lr', rates(progress.lr))
    if (!this.machine || state !== 'running') tell('device', has(progress.memory) ? `${bytes(progress.memory)} at most` : '–')
    this.line = line
    this.measure(this.machine)
    this.choices(line, state)
    this.explain(line, story)
    if (this.listFiles(line)) this.picture(stream)
  }

  choices(line, state) {
    const stops = line.stops || 0
    const key = `${line.id} ${state} ${stops}`
    if (key === this.choicesKey) return
    this.choicesKey = key
    const order = (text, word, main) => {
      const node = button(text, () => press(node, () => this.command(word), words => this.told(words && { message: words })),
        { class: `lk-button ${main || ''}`, 'data-command': word })
      return node
    }
    const running = [
      order(['Stop', 'Stop at once', 'Kill'][Math.min(stops, 2)], 'stop', 'lk-stop'),
      ...(stops ? [] : [order('Save now', 'save'), order('Sample now', 'sample'), order('Pause', 'pause')]),
    ]
    const resumable = ['stopped', 'paused', 'interrupted', 'error'].includes(state)
    this.buttons.replaceChildren(...(state === 'running' ? running : state === 'queued' ? [order('Take it out of the queue', 'cancel')]
      : resumable ? [order('Resume', 'resume', 'lk-primary')] : []))
    say(this.hint, state === 'running' ? WHAT_STOP_DOES[Math.min(stops, 2)]
      : resumable ? 'Resume goes on from the last saved state, with the same numbers as if it had never stopped.' : '')
  }

  async command(word) {
    await ask(runPath(this.run, '/command'), { command: word })
    refresh('api/runs')
  }

  told(error) {
    this.refusal.tell(error?.status === 0 ? '' : error?.message)
    if (error?.status === 0) this.lost.hidden = false
  }

  // Why it failed, and what was noticed on the way.
  explain(line, story) {
    const failed = line.state === 'error' || line.state === 'interrupted'
    this.trouble.hidden = !failed
    const moment = `${line.id} ${line.state} ${story.ending?.time}`
    if (failed && this.detailOf !== moment) {
      this.detailOf = moment
      this.trouble.replaceChildren()
      ask(runPath(line.id)).then(detail => this.trouble.replaceChildren(...(detail.error
        ? [h('b', {}, detail.error.text), detail.error.remedy && h('p', {}, detail.error.remedy)].filter(Boolean) : [])), error => this.told(error))
    }
    const warnings = [...story.warnings]
    this.warnings.hidden = !warnings.length
    say(this.warnings.firstChild, count(warnings.length, 'warning'))
    if (this.warnings.lastChild.childElementCount !== warnings.length) {
      this.warnings.lastChild.replaceChildren(...warnings.map(text => h('li', {}, text)))
    }
  }

  // The curve and the samples, once a frame however much is told.
  picture(stream) {
    this.latest = stream
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0
      this.paint(this.latest)
    })
  }

  paint({ story, run, line }) {
    const sizes = new Map(line?.files.map(({ file, size }) => [file, size])) // without those that were pruned
    const checkpoints = [...story.checkpoints.values()].filter(({ file }) => file.startsWith('checkpoints/') && sizes.has(file)).map(event => ({
      ...event, name: event.file.split('/').at(-1), url: address(filePath(run, event.file)), size: sizes.get(event.file),
    }))
    this.chart.draw([{ name: line?.name || run, steps: story.steps, epochs: story.epochs, validations: story.validations, checkpoints }])
    const samples = [...story.samples.values()].map(event => ({
      ...event, url: address(filePath(run, event.file)), thumb: address(filePath(run, event.file, 'thumb')),
    }))
    this.samplesHead.hidden = !samples.length
    this.samples.draw(samples)
  }

  // Gives whether they are others than before.
  listFiles(line) {
    const key = JSON.stringify([line.id, line.files, line.state])
    if (key === this.filesKey) return false
    this.filesKey = key
    const item = (name, path, size, more) => h('li', {}, h('a', { href: address(path), download: true }, name), h('span', { class: 'lk-soft' }, [has(size) && bytes(size), more].filter(Boolean).join(', ')))
    const final = line.files.filter(file => !/-(\d{6}|step\d{8})(\.safetensors)?$/.test(file.file))
    const others = line.files.filter(file => !final.includes(file)).reverse()
    this.files.replaceChildren(
      h('ul', {},
        final.map(file => item(file.file.split('/').at(-1), file.url, file.size, line.state === 'done' && 'finished')),
        others.map(file => item(file.file.split('/').at(-1), file.url, file.size)),
        item('config.json', filePath(line.id, 'config.json'), null, 'the settings'), item('stdout.log', filePath(line.id, 'stdout.log'), null, 'the whole log')),
      h('div', { class: 'lk-row' }, line.files.length > 0 && button('Which file is best?', () => which(line.id), { class: `lk-button ${line.state === 'done' ? 'lk-primary' : ''}` }),
        h('a', { class: 'lk-button', href: address(runPath(line.id, '/zip')), download: true }, 'Download all as a zip')))
    return true
  }

  // Where the run trains, as the machine was last heard to be.
  measure(machine) {
    this.machine = machine
    if (!machine || this.line?.state !== 'running') return
    const { gpus, cpu } = machine
    const gpu = gpus.find(each => each.index === this.line.gpu)
    const used = has(this.line.progress.memory) ? `, this run ${bytes(this.line.progress.memory)}` : ''
    const words = gpu ? [`${bytes(gpu.memory_used)} of ${bytes(gpu.memory_total)}`, has(gpu.temperature) && `${gpu.temperature} °C`, has(gpu.load) && `${gpu.load} % busy`]
      : [`${bytes(cpu.memory_total - cpu.memory_free)} of ${bytes(cpu.memory_total)}${used}`, `CPU ${Math.round(cpu.load)} %`]
    say(this.facts.device, words.filter(Boolean).join(' · '))
    say(this.facts.device.previousElementSibling, gpu ? `${gpus.length > 1 ? `GPU ${gpu.index}` : 'GPU'} memory (${gpu.name.replace('NVIDIA ', '')})` : 'Memory')
  }

  async showSettings() {
    const [{ settings }, known] = await Promise.all([ask(runPath(this.run)), names()]).catch(error => (this.told(error), [{ settings: {} }, {}]))
    this.settings.lastChild.replaceChildren(h('table', { class: 'lk-table' }, h('tbody', {},
      Object.entries(settings).map(([name, value]) => h('tr', {}, title(known, name), h('td', {}, shown(known, name, value)))))))
  }
}

// Opens the verdict on the files of a run.
export const which = run => dispatchEvent(new CustomEvent('likeness-which', { detail: { run } }))

function sentence(line, state, story) {
  const { progress } = line
  const at = progress.step ? ` at step ${progress.step.toLocaleString('en')}` : ''
  if (state === 'running' && !progress.steps) return 'Preparing: it looks at the pictures and loads the model.'
  if (state === 'running' && !has(progress.left_s)) return 'Training has begun.'
  if (state === 'running') return `Epoch ${progress.epoch} of ${progress.epochs}. Done at ${clock(Date.now() / 1000 + progress.left_s)}, in ${duration(progress.left_s)}.`
  if (state === 'queued' && line.at > Date.now() / 1000) return `It starts at ${clock(line.at)}.`
  if (state === 'queued') return line.place ? `It waits in the queue, with ${line.place} before it.` : 'It is the next in the queue.'
  if (state === 'done') return `Done${story.ending?.time ? ` at ${clock(story.ending.time)}` : ''}. Download it under Files, or find out which of them is best.`
  if (state === 'stopped' && story.ending?.text) return story.ending.text
  return { paused: `Paused${at}.`, stopped: `Stopped${at}; what was learned is saved.`, error: `It failed${at}.`, interrupted: `It was cut off${at}.` }[state] || ''
}

function rates(lr) {
  const values = Object.keys(PARTS).map(part => [part, lr?.[part]]).filter(([, value]) => has(value))
  if (new Set(values.map(([, value]) => value)).size === 1) return number(values[0][1])
  return values.map(([part, value]) => `${PARTS[part]} ${number(value)}`).join('\n') || '–'
}

customElements.define('likeness-job', Job)
