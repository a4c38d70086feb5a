// Snapshots, advice, and what the filter and the keys are.
import { button, clock, count, h, notice, press } from '../tools.js'
import { open, small } from './parts.js'
import { pictureAt } from './words.js'

// A window whose list is asked for when it opens; `fill` gives its parts, and can ask for all of it anew.
async function asked(editor, title, lead, fill) {
  const told = notice('lt-bad'), body = h('div')
  const dialog = open(editor, title, [h('p', { class: 'lk-soft' }, lead), told, body], { class: 'lk-dialog lt-dialog lt-wide' })
  const change = async (route, wish) => {
    const done = await editor.set.change(route, () => wish)
    if (done?.error) throw new Error(done.error)
    await again()
  }
  const again = async () => {
    try {
      body.replaceChildren(...await fill({ tell: told.tell, change, dialog }))
    } catch (error) {
      told.tell(error.message)
    }
  }
  await again()
}

export const snapshots = editor => asked(editor, 'Snapshots',
  'Before a change the captions are copied. Restoring puts back those that the change was about, as they were before it; that can be undone too.',
  async ({ tell, change }) => {
    const { snapshots: found } = await editor.set.ask('snapshots')
    if (!found.length) return [h('p', { class: 'lk-empty' }, 'None yet: the first change makes one.')]
    return [h('ul', { class: 'lt-lines' }, found.map(one => h('li', {},
      h('span', { class: 'lk-wide' }, h('b', {}, one.what), h('small', {}, `${typeof one.time === 'number' ? clock(one.time) : one.time}, ${count(one.files, 'file')}`)),
      small('Restore', event => press(event.currentTarget, () => change('restore', { snapshot: one.id }), tell), { 'aria-label': `Restore what was before: ${one.what}` }))))]
  })

const KINDS = { subject: 'Another person', 'one of': 'They contradict', parent: 'Said twice' }

export const advice = editor => asked(editor, 'Advice', 'Tags that contradict each other, do not fit the data set, or say the same twice; each with its reason.',
  async ({ tell, change }) => {
    const { set } = editor, { findings, count: all } = await set.ask('advice')
    if (!findings.length) return [h('p', { class: 'lk-empty' }, 'Nothing contradicts.')]
    const cure = (event, which) => press(event.currentTarget, () => change('cure', { findings: which }), tell)
    const doing = one => [one.remove?.length && `Remove ${one.remove.join(', ')}`, one.add?.length && `add ${one.add.join(', ')}`].filter(Boolean).join(' and ')
    return [h('div', { class: 'lk-row' }, button(`Cure all ${all.toLocaleString('en')}`, event => cure(event, 'all'), { class: 'lk-button lk-primary lk-small' }),
      h('span', { class: 'lk-soft' }, findings.length < all ? `${findings.length} are listed` : '')),
    h('ul', { class: 'lt-lines' }, findings.map((one, place) => {
      const picture = set.byId.get(one.id)
      return h('li', {}, picture && h('img', { src: pictureAt(picture, 48), alt: '', loading: 'lazy' }),
        h('span', { class: 'lk-wide' }, h('b', {}, picture?.name || one.what), h('small', {}, `${KINDS[one.kind] || one.kind}: ${one.why}`), h('small', {}, doing(one))),
        small('Cure', event => cure(event, [place]), { 'aria-label': `Cure: ${doing(one)}` }))
    }))]
  })

const EXAMPLES = [
  ['tag:smile', 'has the tag'], ['tag:"long hair"', 'words with spaces go between quotes'], ['tag:*hair', '* is any letters, ? is one'],
  ['caption:red', 'anywhere in the caption'], ['name:*close*', 'in the file name; path: looks at folders too'],
  ['tokens:>75', 'also tags:<5, chars:>=200, with = != < > <= >='], ['smile OR grin', 'either; AND both, XOR one alone'],
  ['NOT tag:smile', 'without it'], ['tag:1girl AND NOT (tag:smile OR tags:<5)', 'brackets go first'],
]

export function help(editor) {
  const dialog = open(editor, 'The filter', [
    h('p', { class: 'lk-soft' }, 'A word alone is looked for in captions and paths. AND, OR, NOT and XOR are written in capitals. A click on a line tries it.'),
    h('ul', { class: 'lt-lines' }, EXAMPLES.map(([query, words]) => h('li', {}, h('button', {
      type: 'button', class: 'lk-link lt-code', onclick: () => {
        dialog.close()
        editor.bar.write(query)
      },
    }, query), h('small', { class: 'lk-wide' }, words))))])
}

export function keysWindow(editor, groups) {
  const line = ([keys, words]) => [h('dt', {}, keys.flatMap((key, place) => [place ? ' or ' : '', h('kbd', {}, key)])), h('dd', {}, words)]
  open(editor, 'Keys', [h('p', { class: 'lk-soft' }, 'They work while the editor has the focus. Most are those of BooruDatasetTagManager; where a browser keeps a key for itself, another stands here.'),
    ...groups.flatMap(([title, lines]) => [h('h4', {}, title), h('dl', { class: 'lt-keys' }, lines.flatMap(line))])], { class: 'lk-dialog lt-dialog lt-wide' })
}

// Pictures that were set aside, to be put back.
export const asides = editor => asked(editor, 'Set aside', 'Pictures that were moved out of the data set, each with its caption. They are not trained on.',
  async ({ tell, change }) => {
    const { names } = await editor.set.ask('aside')
    if (!names.length) return [h('p', { class: 'lk-empty' }, 'No picture is set aside.')]
    const back = (event, wanted) => press(event.currentTarget, () => change('put_back', { names: wanted }), tell)
    return [h('ul', { class: 'lt-lines' }, names.map(name => {
      const place = name.slice(name.indexOf('/') + 1) // without the folder of that time
      return h('li', {}, h('span', { class: 'lk-wide' }, place), small('Put back', event => back(event, [name]), { 'aria-label': `Put back ${place}` }))
    })),
    names.length > 1 && button(`Put all ${names.length} back`, event => back(event, names), { class: 'lk-button lk-small' })].filter(Boolean)
  })
