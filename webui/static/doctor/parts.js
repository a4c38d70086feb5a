// The parts of a report that are only read: score, advice, framing, tables.
import { count, h, has } from '../tools.js'

export const WORDS = { bad: 'Bad', care: 'Care', hint: 'Hint' }
const SHOTS = { close_up: 'Close-up', half: 'Half body', full: 'Full body' }
const SOURCES = {
  detector: 'Measured by the size of the faces that were found.',
  tags: 'Read from the tags in the captions.',
  none: 'Not known: there is neither a face detector nor a tag of the shot.',
}

const part = value => `${Math.round(100 * value)} %`
const size = ([width, height]) => `${width} × ${height}`

// The worst first, else in the order they came.
export function ordered(findings) {
  const order = Object.keys(WORDS)
  return [...findings].sort((a, b) => order.indexOf(a.severity) - order.indexOf(b.severity))
}

const tone = (points, of) => points >= 0.8 * of ? 'good' : points >= 0.5 * of ? 'care' : 'bad'

const bar = (points, of) => h('span', { class: `ld-bar ld-${tone(points, of)}`, 'aria-hidden': 'true' }, h('i', { style: `width:${of ? 100 * points / of : 0}%` }))

export function score({ points, of, parts }) {
  const row = part => h('tr', {}, h('th', { scope: 'row' }, part.name), h('td', {}, bar(part.points, part.of)),
    h('td', { class: 'ld-number' }, `${part.points} of ${part.of}`), h('td', { class: 'lk-soft' }, part.why))
  return h('div', { class: 'ld-score' },
    h('p', { class: `ld-sum ld-${tone(points, of)}` }, h('b', {}, points), ` of ${of}`), bar(points, of),
    of < 100 && h('p', { class: 'lk-soft' }, `${100 - of} points could not be judged: see what was not checked.`),
    h('table', { class: 'lk-table' }, h('caption', { class: 'lk-hidden' }, 'The parts of the score'), h('tbody', {}, parts.map(row))))
}

// How often to train, with its arithmetic, and what the folders' names say now.
export function advice(told) {
  if (!told) return null
  const { repeats, epochs, batch, steps, arithmetic, folders = [] } = told
  const times = [...new Set(folders.map(folder => folder.repeats))]
  const row = folder => h('tr', {}, h('th', { scope: 'row' }, folder.folder), h('td', {}, count(folder.pictures, 'picture')),
    h('td', {}, folder.now === folder.repeats ? `${count(folder.now, 'repeat')}, as now` : `${count(folder.repeats, 'repeat')}${has(folder.now) ? `, now ${folder.now}` : ''}`))
  return h('section', { class: 'lk-card', 'aria-label': 'Advice' }, h('h3', {}, 'How long to train'),
    h('p', { class: 'ld-advice' }, h('b', {}, `${steps.toLocaleString('en')} steps`), `: ${times.length > 1 ? times.join(' and ') : repeats} repeats, ${count(epochs, 'epoch')}, batch ${batch}`),
    h('p', { class: 'lk-soft' }, arithmetic),
    folders.length > 0 && h('table', { class: 'lk-table' }, h('caption', { class: 'lk-hidden' }, 'Repeats of each folder'), h('tbody', {}, folders.map(row))))
}

// The shares of those whose shot is known, and of all that are not.
export function framing(told) {
  if (!told) return null
  const known = Object.keys(SHOTS).reduce((sum, shot) => sum + told[shot], 0), unknown = told.unknown || 0
  const parts = known ? Object.entries(SHOTS).map(([shot, words]) => ({ shot, words, share: told[shot], wide: told[shot] / known * (1 - unknown) })) : []
  if (unknown) parts.push({ shot: 'unknown', words: known ? 'Unknown, of all' : 'Unknown', share: unknown, wide: unknown })
  const segment = ({ shot, wide }) => wide > 0 && h('i', { class: `ld-${shot}`, style: `width:${100 * wide}%` })
  return h('section', { class: 'lk-card', 'aria-label': 'Framing' }, h('h3', {}, 'How near the pictures are'),
    h('div', { class: 'ld-shots', 'aria-hidden': 'true' }, parts.map(segment)),
    h('ul', { class: 'ld-legend' }, parts.map(({ shot, words, share }) => h('li', { class: `ld-${shot}` }, `${words} ${part(share)}`))),
    told.advice && h('p', {}, told.advice[0].toUpperCase() + told.advice.slice(1)), h('p', { class: 'lk-soft' }, SOURCES[told.from]))
}

export function buckets({ buckets: sizes = [], lost }) {
  if (!sizes.length) return null
  const most = Math.max(...sizes.map(({ pictures }) => pictures))
  const row = bucket => h('tr', {}, h('th', { scope: 'row' }, size(bucket.size)),
    h('td', {}, h('span', { class: 'ld-bar', 'aria-hidden': 'true' }, h('i', { style: `width:${100 * bucket.pictures / most}%` }))),
    h('td', { class: 'ld-number' }, bucket.pictures.toLocaleString('en')), h('td', { class: 'ld-number' }, part(bucket.lost)))
  return fold(`Buckets: ${count(sizes.length, 'size')}${has(lost) ? `, ${part(lost)} of a picture cut off in the mean` : ''}`,
    h('table', { class: 'lk-table ld-buckets' }, h('thead', {}, h('tr', {}, ['Size', '', 'Pictures', 'Cut off'].map(word => word ? h('th', { scope: 'col' }, word) : h('td')))), h('tbody', {}, sizes.map(row))))
}

export const listed = (title, lines = []) => lines.length > 0 && fold(title, h('ul', { class: 'ld-lines' }, lines.map(line => h('li', {}, line[0].toUpperCase() + line.slice(1)))), true)

const fold = (title, content, open = false) => h('details', { class: 'lk-card ld-fold', open }, h('summary', {}, title), content)

// What was measured of a picture, in words.
export function measures(told) {
  if (!told) return ''
  const words = [
    has(told.width) && `${size([told.width, told.height])} pixels`, has(told.sharpness) && `sharpness ${told.sharpness}`,
    has(told.noise) && `noise ${told.noise}`, has(told.clipped) && `${part(told.clipped)} white`, has(told.black) && `${part(told.black)} black`,
    has(told.faces) && count(told.faces, 'face'), told.bucket && `bucket ${size(told.bucket)}`, has(told.lost) && `${part(told.lost)} cut off`,
  ]
  return words.filter(Boolean).join(' · ')
}
