// All that a run has told, from its events. To hear an event twice changes nothing, so a stream may begin anew.

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
  }
}
