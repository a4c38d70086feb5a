// "Which is better?", two pictures at a time that differ in what one chooses between (checkpoints, strengths) and in
// nothing else; blind, unless one wants to see the names.
import { button, count, grouped, h, notice, over, press, say } from '../tools.js'
import { percent } from './cells.js'

const OTHERS = ['x', 'y', 'z']

// Pairs that can be compared: of the same conditions, drawn, and not one picture twice. The base model is left out where
// others are enough: nobody wants to choose it.
function pairs(grid) {
  const chosen = grid.votes.candidates, fixed = OTHERS.filter(side => !chosen.includes(side))
  const found = []
  for (const cells of grouped(grid.drawnCells, cell => fixed.map(side => cell[side]).join()).values()) {
    const trained = cells.filter(cell => !grid.isReference(cell)), some = trained.length > 1 ? trained : cells
    some.forEach((a, place) => {
      for (const b of some.slice(place + 1)) if (a.key !== b.key) found.push([a, b])
    })
  }
  return found
}

export function duel(told, vote) {
  if (!pairs(told()).length) return false
  const seen = new Map() // how often each was shown here
  let pair = [], answered = 0
  const blind = h('input', { type: 'checkbox', checked: true, onchange: () => name() })
  const images = [0, 1].map(place => h('img', { alt: place ? 'The right picture' : 'The left picture' }))
  const names = [0, 1].map(() => h('p', { class: 'lg-said' }))
  const prompt = h('p', { class: 'lk-soft' }), said = h('p', { class: 'lk-soft', role: 'status' }), wrong = notice()
  const sides = [0, 1].map(place => h('button', { type: 'button', class: 'lg-pick', 'aria-label': place ? 'The right one is better' : 'The left one is better', onclick: () => choose(place) }, images[place]))
  const skip = button('Cannot tell (↓)', () => next(), { class: 'lk-button' })
  const back = button('Take the last back (U)', () => press(back, async () => {
    await vote({ undo: true })
    answered--
    report('Taken back.')
  }, wrong.tell), { class: 'lk-button', disabled: true })
  const report = words => {
    say(said, `${words} ${count(answered, 'vote')} by now.`.trim())
    back.disabled = answered === 0
  }
  const name = () => names.forEach((node, place) => say(node, blind.checked ? (place ? 'B' : 'A') : told().words(pair[place])))
  // Those that were shown least, by chance among equals, on either side.
  const next = () => {
    const all = pairs(told()), times = cell => seen.get(cell.key) || 0
    const least = Math.min(...all.map(([a, b]) => times(a) + times(b)))
    const some = all.filter(([a, b]) => times(a) + times(b) === least)
    pair = some[Math.floor(Math.random() * some.length)]
    if (Math.random() < 0.5) pair = [pair[1], pair[0]]
    pair.forEach((cell, place) => {
      seen.set(cell.key, times(cell) + 1)
      images[place].src = told().whole(cell)
    })
    say(prompt, pair[0].prompt)
    name()
  }
  const choose = async place => {
    if (choose.busy) return
    choose.busy = true
    const [better, worse] = place ? [pair[1], pair[0]] : pair
    try {
      await vote({ better: [better.x, better.y, better.z], worse: [worse.x, worse.y, worse.z] })
      wrong.tell('')
      answered++
      report(`${told().words(better)} over ${told().words(worse)}.`)
      next()
    } catch (error) {
      wrong.tell(error.message)
    }
    choose.busy = false
  }
  const dialog = over('Which is better?', {
    class: 'lk-large lg-dialog lg-duel', tabindex: -1,
    onkeydown: event => {
      const does = { ArrowLeft: () => choose(0), ArrowRight: () => choose(1), ArrowDown: next, u: () => answered && back.click() }[event.key]
      if (!does || event.ctrlKey || event.altKey || event.metaKey) return
      event.preventDefault()
      does()
    },
  }, h('header', { class: 'lk-head' }, h('h3', {}, 'Which is better?'), h('label', { class: 'lk-row' }, blind, 'Blind: hide the names')), prompt,
  h('div', { class: 'lg-pair' }, sides.map((node, place) => h('div', {}, node, names[place]))), said, wrong,
  h('div', { class: 'lk-row' }, skip, back, button('Close', () => dialog.close(), { class: 'lk-button' })),
  h('p', { class: 'lk-soft' }, 'Press the better picture, or its arrow key (← →); what was chosen is named after each vote.'))
  dialog.showModal()
  next()
  report('')
  dialog.focus() // on neither picture: a frame around one is a hint
  return true
}

// The candidates by their votes, the surest first.
export function ranking(votes) {
  const row = ({ words, wins, duels, stars, low }, place) => h('tr', {}, h('td', {}, `${place + 1}.`), h('th', { scope: 'row' }, words.filter(Boolean).join(', ')),
    h('td', {}, duels ? `${wins} of ${duels}` : '–'), h('td', {}, duels ? percent(low) : '–'), h('td', {}, stars ? `★ ${stars}` : ''))
  return h('table', { class: 'lk-table lg-ranking' }, h('caption', { class: 'lk-soft' }, `${count(votes.duels, 'vote')}. “At least” is the share of wins that is certain to 95 % (Wilson): few votes prove little.`),
    h('thead', {}, h('tr', {}, ['', 'Candidate', 'Won', 'At least', 'Stars'].map(words => h('th', { scope: 'col' }, words)))), h('tbody', {}, votes.ranking.map(row)))
}
