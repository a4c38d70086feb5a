// <likeness-folders tool="balance | dedupe">: folders of repeats balanced by a plan that is seen first; duplicates in
// groups, of which one is kept.
import { choose } from './browse.js'
import { dataFolder, workOn } from './folder.js'
import { Live } from './live.js'
import { ask, button, bytes, count, h, newId, notice, pictureAt, press, say } from './tools.js'

const THUMB = 256 // pixels of a small picture
const PAUSE = 300 // ms without a key before a plan is asked for
const WAYS = { steps: 'Training steps per concept per epoch', equal: 'The same pictures × repeats for all', faces: 'Faces 24, bodies 16' }

class Folders extends Live {
  show() {
    if (!this.view) this.build()
    this.view.begin()
  }

  build() {
    this.view = this.getAttribute('tool') === 'dedupe' ? new Duplicates() : new Balance()
    this.append(this.view.node)
    // Gradio, given the same element with another attribute, keeps it and takes its children away.
    new MutationObserver(() => this.view.node.parentNode === this || this.append(this.view.node)).observe(this, { childList: true })
  }
}

// A field with its label and help; box: an input or a select.
function field(label, box, help, beside) {
  const id = newId(), about = newId()
  box.id = id
  box.setAttribute('aria-describedby', about)
  const line = h('div', { class: 'lk-line' }, box, beside)
  const name = h('label', { for: id }, label), check = box.type === 'checkbox'
  if (check) line.append(name)
  return h('div', { class: `lk-field ${check ? 'lk-field-check' : ''}` }, !check && name, line, h('p', { class: 'lk-help', id: about }, help))
}

class Balance {
  constructor() {
    const again = () => {
      clearTimeout(this.timer)
      this.timer = setTimeout(() => this.plan(), PAUSE)
    }
    this.folder = h('input', { type: 'text', autocomplete: 'off', spellcheck: 'false', })
    this.how = h('select', {}, Object.entries(WAYS).map(([value, text]) => h('option', { value }, text)))
    this.steps = h('input', { type: 'text', inputmode: 'numeric', value: '1000' })
    this.faces = h('select')
    this.insecure = h('input', { type: 'checkbox' })
    const browse = button('Browse', async () => {
      const path = await choose({ title: 'Dataset folder', kind: 'folder', start: this.folder.value })
      if (path) this.folder.value = path
      if (path) this.plan()
    }, { class: 'lk-button lk-small', 'aria-label': 'Browse for the dataset folder' })
    this.stepsField = field('Training steps per concept per epoch', this.steps, 'Pictures × repeats that each folder is to have.')
    this.facesField = field('Folder of faces', this.faces, 'The other folder counts as bodies.')
    this.told = notice()
    this.said = h('p', { class: 'lk-soft', role: 'status' })
    this.hint = h('p', { class: 'lk-note', hidden: true })
    this.problems = h('ul', { class: 'lk-problems' })
    this.table = h('div', { class: 'lk-scroll', hidden: true })
    this.apply = button('Balance dataset', () => this.press(this.apply, { apply: true }), { class: 'lk-button lk-primary', disabled: true })
    this.back = button('Give the old names back', () => this.press(this.back, { undo: true }), { class: 'lk-button', hidden: true })
    this.node = h('section', { class: 'lk-card lk-tool', oninput: again },
      h('p', { class: 'lk-lead' }, 'Renames the folders of concepts, so that each is used equally, however many pictures it holds. Nothing is renamed before you have seen the plan.'),
      h('div', { class: 'lk-fields' },
        field('Dataset folder', this.folder, 'The folder that holds the concepts’ folders, such as 10_zk9.', browse),
        field('Repeats by', this.how, 'How the repeats are found.'), this.stepsField, this.facesField,
        field('Insecure folder renaming', this.insecure, 'Number folders too whose names have no number; {2}zk9 then counts twice.')),
      this.told, this.hint, this.table, this.problems,
      h('div', { class: 'lk-row' }, this.apply, this.back, this.said))
    this.settle()
  }

  // With the folder that is worked on.
  begin() {
    if (!dataFolder() || dataFolder() === this.folder.value.trim()) return
    this.folder.value = dataFolder()
    this.plan()
  }

  settle() {
    this.stepsField.hidden = this.how.value !== 'steps'
    this.facesField.hidden = this.how.value !== 'faces'
  }

  get wish() {
    const how = this.how.value
    return {
      folder: this.folder.value.trim(), how, insecure: this.insecure.checked,
      ...(how === 'steps' && { steps: this.steps.value.trim() }), ...(how === 'faces' && { faces: this.faces.value }),
    }
  }

  async plan() {
    this.settle()
    const turn = this.turn = (this.turn || 0) + 1
    const wish = this.wish
    this.apply.disabled = true
    if (!wish.folder) return
    const [report, error] = await ask('api/balance', wish).then(found => [found, null], problem => [null, problem])
    if (turn !== this.turn) return
    this.told.tell(error?.message)
    this.table.hidden = this.hint.hidden = Boolean(error)
    if (report) {
      workOn(wish.folder)
      this.show(report)
    }
  }

  async press(node, change) {
    const report = await press(node, () => ask('api/balance', { ...this.wish, ...change }), this.told.tell)
    if (!report) return
    await this.plan() // what there is now
    say(this.said, report.summary)
  }

  show(report) {
    const changed = report.plan.filter(line => line.old !== line.new)
    const rows = report.plan.map(line => h('tr', {},
      h('td', {}, line.old), h('td', { class: line.old === line.new ? 'lk-soft' : 'lk-new' }, line.old === line.new ? 'as it is' : line.new),
      h('td', {}, line.pictures.toLocaleString('en')), h('td', {}, line.repeats.toLocaleString('en')), h('td', {}, line.steps.toLocaleString('en'))))
    this.table.replaceChildren(h('table', { class: 'lk-table lk-plan' },
      h('caption', { class: 'lk-hidden' }, 'Plan'),
      h('thead', {}, h('tr', {}, ['Folder', 'New name', 'Pictures', 'Repeats', 'Steps'].map(text => h('th', { scope: 'col' }, text)))),
      h('tbody', {}, rows)))
    this.table.hidden = false
    const chosen = this.faces.value
    this.faces.replaceChildren(h('option', { value: '' }, 'Told by name or shape'), ...report.plan.map(line => h('option', {}, line.old)))
    this.faces.value = report.plan.some(line => line.old === chosen) ? chosen : ''
    say(this.hint, report.hint)
    this.hint.hidden = !report.hint || this.how.value === 'faces'
    this.problems.replaceChildren(...report.problems.map(one => h('li', {}, `${one.file}: ${one.what}: ${one.done}`)))
    this.apply.disabled = !changed.length
    this.back.hidden = !report.undo
    say(this.said, report.summary)
  }
}

// The form of the tool, and what its report shows: one fieldset for each group, in which one picture is kept.
class Duplicates {
  constructor() {
    this.head = h('h4')
    this.told = notice()
    this.said = h('span', { class: 'lk-soft', role: 'status' })
    this.away = button('Set the others aside', () => press(this.away, () => this.setAside(), this.told.tell), { class: 'lk-button lk-primary' })
    this.back = button('Put back', () => press(this.back, () => this.putBack(), this.told.tell), { class: 'lk-button', hidden: true })
    this.groups = h('div', { class: 'lk-twins' })
    const acts = h('div', { class: 'lk-row lk-sticky' }, this.away, this.back, this.said)
    this.result = h('section', { hidden: true, 'aria-label': 'Duplicates' }, this.head, this.told, this.groups, acts)
    this.node = h('div', { 'onlikeness-report': event => this.show(event.detail) }, h('likeness-tool', { job: 'folders.dedupe' }), this.result)
  }

  begin() {} // its tool does

  show(report) {
    this.report = report
    this.aside = report.aside || []
    this.told.tell('')
    this.result.hidden = !report.groups.length && !this.aside.length
    say(this.head, report.summary)
    this.choices = report.groups.map((group, place) => new Twins(group, place + 1, () => this.tally()))
    this.groups.replaceChildren(...this.choices.map(choice => choice.node))
    this.settle()
  }

  // Pictures that are to go, and what the buttons can do.
  tally() {
    const going = this.choices.flatMap(choice => choice.going)
    this.away.disabled = !going.length
    say(this.said, going.length ? `${count(going.length, 'picture')} would be moved to .likeness/aside of their folder.` : 'All are kept.')
    return going
  }

  settle() {
    const done = this.aside.length > 0
    this.groups.toggleAttribute('inert', done)
    this.away.hidden = done
    this.back.hidden = !done
    if (done) say(this.said, `${count(this.aside.reduce((sum, one) => sum + one.names.length, 0), 'picture')} set aside.`)
    else this.tally()
  }

  async setAside() {
    const { aside } = await ask('api/dedupe/aside', { folders: this.report.folders, pictures: this.tally() })
    this.aside = aside
    this.settle()
    this.back.focus()
  }

  async putBack() {
    const { pictures } = await ask('api/dedupe/back', { aside: this.aside })
    this.aside = []
    this.settle()
    say(this.said, `${count(pictures.length, 'picture')} put back.`)
  }
}

class Twins {
  constructor(group, number, changed) {
    this.group = group
    const name = newId()
    const choose = kept => {
      this.kept = kept
      for (const [place, card] of this.cards.entries()) card.classList.toggle('lk-goes', kept !== null && place !== kept)
      changed()
    }
    const option = (value, checked, ...words) => h('label', { class: 'lk-pick' },
      h('input', { type: 'radio', name, checked, onchange: () => choose(value) }), ...words)
    this.cards = group.map((one, place) => this.card(one, option(place, !place, 'Keep')))
    this.node = h('fieldset', { class: 'lk-group' }, h('legend', {}, `Group ${number}`),
      h('div', { class: 'lk-cards-row' }, this.cards), option(null, false, 'These differ: keep all'))
    this.kept = 0
    this.cards.forEach((card, place) => card.classList.toggle('lk-goes', place > 0))
  }

  get going() {
    return this.kept === null ? [] : this.group.filter((one, place) => place !== this.kept).map(one => one.path)
  }

  card(one, pick) {
    const facts = [`${one.width} × ${one.height}`, bytes(one.bytes), one.caption && 'with a caption']
    const picture = h('img', {
      src: pictureAt(one.path, THUMB), alt: '', loading: 'lazy', decoding: 'async',
      onerror: () => picture.replaceWith(h('div', { class: 'lk-missing' }, 'no longer here')),
    })
    const input = pick.querySelector('input')
    input.setAttribute('aria-label', `Keep ${one.name}`)
    return h('div', { class: 'lk-twin' }, h('label', { class: 'lk-face', for: input.id = newId() }, picture), pick,
      h('p', { class: 'lk-name' }, one.name), h('p', { class: 'lk-soft' }, facts.filter(Boolean).join(' · ')),
      h('p', { class: 'lk-why' }, one.why ? `Best: ${one.why}` : one.same))
  }
}

customElements.define('likeness-folders', Folders)
