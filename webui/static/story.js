// All that a run has told, from its events. To hear an event twice changes nothing, so a stream may begin anew.

const MOST = 4000 // steps that are kept; of a longer run one in two, in four, ...

export class Story {
  start = {}
  ending = null // the last of stopped, done, error
  steps = [] // {step, epoch, loss, ...}, ascending
  epochs = new Map() // step of an epoch's end -> event
  validations = new Map() // step -> event
  checkpoints = new Map() // file -> event
  samples = new Map() // file -> event
  warnings = new Set()

  add(event) {
    const { kind, step } = event
    if (kind === 'step') this.#step(event)
    else if (kind === 'start') this.#start(event)
    else if (kind === 'epoch') this.epochs.set(step, event)
    else if (kind === 'validation') this.validations.set(step, event)
    else if (kind === 'checkpoint') this.checkpoints.set(event.file, event)
    else if (kind === 'sample') this.samples.set(event.file, event)
    else if (kind === 'warning') this.warnings.add(event.text)
    else if (['stopped', 'done', 'error'].includes(kind)) this.ending = event
  }

  get last() {
    return this.steps.at(-1)
  }

  // A run that goes on from a state repeats the steps after it.
  #start(event) {
    this.start = event
    this.ending = null
    const from = event.step || 0
    this.steps = this.steps.filter(one => one.step <= from)
    for (const told of [this.epochs, this.validations]) {
      for (const step of told.keys()) if (step > from) told.delete(step)
    }
  }

  #step(event) {
    while (this.steps.length && this.last.step >= event.step) this.steps.pop()
    this.steps.push(event)
    if (this.steps.length > MOST) this.#thin()
  }

  // The first of every so many steps, and the last. Powers of two: what was left is left evenly again.
  #thin() {
    const { last, steps: [first] } = this
    const every = 2 ** Math.ceil(Math.log2((last.step - first.step) / MOST * 2))
    const part = one => Math.floor(one.step / every)
    this.steps = this.steps.filter((one, place, all) => !place || one === last || part(one) > part(all[place - 1]))
  }
}
