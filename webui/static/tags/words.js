// What a tag says, what a filter asks, addresses of pictures: nothing here knows the page.
import { pictureAt as sized } from '../tools.js'

const LAYERS = 8 // of brackets that are read, as trainer/tags/tag.py reads them
const WEIGHT = /:([+-]?(?:\d+(?:\.\d*)?|\.\d+))$/

// Words and weight, in A1111's notation: `(smile:1.2)` is ['smile', 1.2]; trainer.tags.tag.split_weight in letters of ours.
export function splitWeight(tag) {
  let weight = 1
  for (let layer = 0; layer < LAYERS; layer++) {
    const inner = tag.slice(1, -1).trim()
    if (!enclosed(tag) || !inner.replace(WEIGHT, '')) break
    const number = tag[0] === '(' && WEIGHT.exec(inner)
    if (tag[0] === '[') [tag, weight] = [inner, weight / 1.1]
    else if (number) [tag, weight] = [inner.slice(0, number.index).trim(), weight * number[1]]
    else [tag, weight] = [inner, weight * 1.1]
  }
  return [tag, weight]
}

const known = new Map()

// Tags with the same bare words are the same tag.
export function bare(tag) {
  let words = known.get(tag)
  if (words === undefined) {
    words = splitWeight(tag)[0].replace(/\\([()[\]\\])/g, '$1')
    if (known.size > 65536) known.clear()
    known.set(tag, words)
  }
  return words
}

function enclosed(tag) {
  if (!['()', '[]'].includes(tag.slice(0, 1) + tag.slice(-1))) return false
  let depth = 0
  for (const { 0: found, index } of tag.matchAll(/\\.|[()[\]]/g)) {
    depth += '(['.includes(found) ? 1 : ')]'.includes(found) ? -1 : 0
    if (depth === 0) return index + found.length === tag.length
  }
  return false
}

export const splitTags = (text, separator) => text.split(separator).map(tag => tag.trim()).filter(Boolean)

// A tag as a term of the filter language.
export const term = tag => `tag:${/^[\w-]+$/.test(tag) ? tag : `"${tag.replace(/[\\"*?]/g, '\\$&')}"`}`

// A filter of typed words, and of tags that were clicked: all of them, any, none, or an odd number (of two: one alone).
export function compose(typed, tags, mode) {
  const terms = tags.map(term)
  const clicked = mode === 'NOT' ? terms.map(each => `NOT ${each}`).join(' AND ') : terms.join(` ${mode} `)
  if (!typed.trim() || !clicked) return typed.trim() || clicked
  const boxed = (text, single) => single ? text : `(${text})`
  return `${boxed(typed.trim(), !/\b(OR|XOR)\b/.test(typed))} AND ${boxed(clicked, mode === 'AND' || mode === 'NOT' || tags.length < 2)}`
}

const SIZES = [64, 128, 192, 256, 384, 512, 1024]

// A picture at a size in CSS pixels; few sizes, so that each is made once.
export function pictureAt(picture, pixels) {
  const wanted = pixels * Math.min(2, devicePixelRatio || 1)
  const size = SIZES.find(each => each >= wanted) || 1024
  return sized(picture.path, size, picture.stamp)
}
