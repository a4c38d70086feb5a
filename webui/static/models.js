// <likeness-models>: model files that the tools can use: which are here, what each is for, and a button that fetches it.
import { Live, refresh } from './live.js'
import { ask, button, bytes, h, notice, press } from './tools.js'

class Models extends Live {
  show() {
    if (!this.list) this.build()
    this.look()
  }

  build() {
    this.told = notice()
    this.list = h('ul', { class: 'lk-recent' })
    this.task = h('likeness-task', { job: 'models.get' })
    this.append(h('section', { class: 'lk-card' }, this.told, this.list), this.task)
    this.addEventListener('likeness-report', () => this.look())
  }

  async look() {
    const { models, folder } = await ask('api/models').catch(error => (this.told.tell(error.message), {}))
    if (!models) return
    this.list.replaceChildren(...models.map(model => this.row(model)),
      h('li', { class: 'lk-soft' }, `They lie in ${folder}; a file that is put there by hand is as good.`))
  }

  row(model) {
    const get = button('Download', () => press(get, async () => {
      await ask('api/tools/models.get', { options: { names: [model.name] } })
      refresh('api/tools')
    }, this.told.tell), { class: 'lk-button lk-small', 'aria-label': `Download ${model.name}` })
    return h('li', {},
      h('span', { class: `lk-pill ${model.here ? 'lk-done' : ''}` }, model.here ? 'Here' : bytes(model.size)),
      h('div', { class: 'lk-wide' }, h('b', {}, model.name), ` ${model.what}`, h('div', { class: 'lk-soft' }, `${model.licence} · ${model.file}`)),
      !model.here && get)
  }
}

customElements.define('likeness-models', Models)
