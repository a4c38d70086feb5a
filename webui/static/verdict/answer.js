// The verdict in words: the sentence, how sure it is, why, what to do next, and what was not measured.
import { button, clock, h } from '../tools.js'
import { words } from './told.js'

const SURE = {
  clear: 'Clear: had other pictures been drawn, it would have stayed on top nine times of ten or more, and nothing ties with it.',
  likely: 'Likely: had other pictures been drawn, it would have stayed on top at least six times of ten; or more often, but others tie with it.',
  'a toss-up': 'A toss-up: other pictures could as well have put another one first. More seeds would make it surer.',
  'the only one': 'There was nothing to compare it with.',
}
const FOUND = {
  good: 'Good', underfit: 'Underfit: it has learned too little', overfit: 'Overfit: it ignores the prompt', burnt: 'Burnt: colours and edges are overdone',
  leak: 'Leaks: it shows without the trigger', copying: 'Copies training pictures', 'no difference': 'It changes nothing', 'not measured': 'Not measured',
}

// use(row), show(row): what is pressed about a candidate.
export function answer(told, { use, show }) {
  const { verdict, best, pick, ties } = told, row = pick || best
  if (!verdict) return [h('p', { class: 'lv-sentence' }, told.summary || 'It was stopped before there was a verdict.'), ...notes(told.notes)]
  const isAlone = verdict.sureness === 'the only one'
  const often = `Had other pictures been drawn, it would have stayed on top, or within 2 % of it, ${Math.round(100 * verdict.confidence)} times of 100${ties.length ? '; others tie with it' : ''}.`
  return [
    h('p', { class: 'lv-sentence' }, verdict.sentence),
    h('div', { class: 'lk-row lv-facts' },
      row && h('span', { class: `lv-sure lv-${verdict.sureness.split(' ').at(-1)}`, tabindex: 0, title: SURE[verdict.sureness] },
        isAlone ? 'The only one' : verdict.sureness.charAt(0).toUpperCase() + verdict.sureness.slice(1)),
      row && h('span', { class: 'lk-soft' }, isAlone ? SURE[verdict.sureness] : often)),
    ties.length > 0 && h('p', { class: 'lv-ties' }, h('b', {}, ties.length > 1 ? 'Ties. ' : 'A tie. '), 'By these pictures it cannot be told apart from ',
      ties.flatMap((tie, place) => [place ? ', ' : '', button(words(tie), () => show(tie), { class: 'lk-link' })]), '.'),
    h('div', { class: 'lk-row' },
      row && button(pick ? 'Use this one' : `Use ${words(best)} all the same`, () => use(row), { class: `lk-button ${pick ? 'lk-primary' : ''}` }),
      h('span', { class: 'lk-soft' }, `Compared on ${told.base.split(/[\\/]/).at(-1)}, ${clock(told.when)}${told.eyes?.length ? `; looked at by ${told.eyes.join(', ')}` : ''}`)),
    h('dl', { class: 'lv-next' }, h('dt', {}, 'Diagnosis'), h('dd', {}, FOUND[verdict.diagnosis]), h('dt', {}, 'Next step'), h('dd', {}, verdict.next_step)),
    verdict.evidence.length > 0 && h('section', { 'aria-label': 'Evidence' }, h('h4', {}, 'Why'), h('dl', { class: 'lv-why' }, verdict.evidence.flatMap(pair))),
    ...notes([...verdict.not_measured, ...told.notes]),
  ].filter(Boolean)
}

// "Likeness: 0.63 ..." as a name and what is told of it.
function pair(line) {
  const [name, ...rest] = line.split(': ')
  return [h('dt', {}, name), h('dd', {}, rest.join(': '))]
}

function notes(lines) {
  if (!lines?.length) return []
  return [h('details', { class: 'lk-fold lv-missing' }, h('summary', {}, `Not measured, and how to get it (${lines.length})`), h('ul', {}, lines.map(line => h('li', {}, line))))]
}
