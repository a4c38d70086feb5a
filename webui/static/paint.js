// A mask in memory and what a brush does to it: numbers only, nothing is shown here. Its values go from 0, background,
// to 255, the subject. A rectangle is [left, top, right, bottom] in pixels.

const MOST_KEPT = 256e6 // bytes of undoing

export class Paint {
  constructor(width, height, values = new Uint8Array(width * height)) {
    Object.assign(this, { width, height, values })
    this.base = new Uint8Array(values.length) // as it was before the stroke
    this.cover = new Uint8Array(values.length) // how much of each pixel the stroke covers: over itself it adds nothing
    this.steps = []
    this.touched = null // the stroke's rectangle so far
    this.at = 0 // steps that are done; those after it were undone
  }

  get whole() {
    return [0, 0, this.width, this.height]
  }

  // A stroke begins: size across in pixels; hardness and opacity from 0 to 1; value: 255 paints, 0 erases.
  begin({ size, hardness, opacity, value }) {
    this.base.set(this.values)
    this.brush = { radius: size / 2, edge: Math.max(1, size / 2 * (1 - hardness)), opacity, value }
    this.touched = null
  }

  // The stroke goes on along a straight line; gives the rectangle that changed, null outside the picture. A pixel is
  // covered as far as its middle lies within the brush, over an edge of one pixel at least.
  line(x0, y0, x1, y1) {
    const { radius, edge, opacity, value } = this.brush, { width, base, cover, values } = this
    const outer = radius + 0.5, inner = Math.max(0, outer - edge)
    const rect = this.inside([Math.min(x0, x1) - outer, Math.min(y0, y1) - outer, Math.max(x0, x1) + outer, Math.max(y0, y1) + outer])
    if (!rect) return null
    const [dx, dy] = [x1 - x0, y1 - y0], length = dx * dx + dy * dy || 1
    for (let y = rect[1]; y < rect[3]; y++) {
      for (let x = rect[0]; x < rect[2]; x++) {
        const [px, py] = [x + 0.5 - x0, y + 0.5 - y0]
        const part = Math.max(0, Math.min((px * dx + py * dy) / length, 1))
        const away = (px - part * dx) ** 2 + (py - part * dy) ** 2
        if (away >= outer * outer) continue
        const soft = away <= inner * inner ? 1 : (outer - Math.sqrt(away)) / edge
        const covered = Math.round(255 * (edge > 1 ? soft * soft * (3 - 2 * soft) : soft))
        const place = y * width + x
        if (covered <= cover[place]) continue
        cover[place] = covered
        values[place] = Math.round(base[place] + (value - base[place]) * opacity * covered / 255)
      }
    }
    this.touched = this.touched ? joined(this.touched, rect) : rect
    return rect
  }

  // The stroke ends: it can be undone from now on.
  end() {
    const rect = this.touched
    this.touched = null
    if (!rect) return
    const before = cut(this.base, this.width, rect)
    paste(this.cover, this.width, rect, new Uint8Array(before.length))
    this.keep(rect, before)
  }

  // The stroke never was; gives the rectangle that changed back.
  cancel() {
    const rect = this.touched
    this.touched = null
    if (!rect) return null
    const before = cut(this.base, this.width, rect)
    paste(this.cover, this.width, rect, new Uint8Array(before.length))
    paste(this.values, this.width, rect, before)
    return rect
  }

  // Each value becomes what `change` makes of it.
  all(change) {
    const before = this.values.slice()
    for (let place = 0; place < before.length; place++) this.values[place] = change(before[place])
    this.keep(this.whole, before)
  }

  keep(rect, before) {
    this.steps.splice(this.at, Infinity, { rect, before, after: cut(this.values, this.width, rect) })
    let kept = this.steps.reduce((sum, step) => sum + 2 * step.before.length, 0)
    while (kept > MOST_KEPT && this.steps.length > 1) {
      kept -= 2 * this.steps.shift().before.length
    }
    this.at = this.steps.length
  }

  // Both give the rectangle that changed, null when there is nothing to undo.
  undo() {
    const step = this.steps[this.at - 1]
    return step ? this.put(step, step.before, this.at - 1) : null
  }

  redo() {
    const step = this.steps[this.at]
    return step ? this.put(step, step.after, this.at + 1) : null
  }

  put(step, values, at) {
    paste(this.values, this.width, step.rect, values)
    this.at = at
    return step.rect
  }

  // The last step that is done: as long as it is the same, so is the mask.
  get last() {
    return this.steps[this.at - 1] || null
  }

  inside([left, top, right, bottom]) {
    const rect = [Math.max(0, Math.floor(left)), Math.max(0, Math.floor(top)), Math.min(this.width, Math.ceil(right)), Math.min(this.height, Math.ceil(bottom))]
    return rect[0] < rect[2] && rect[1] < rect[3] ? rect : null
  }
}

const joined = (a, b) => [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[2], b[2]), Math.max(a[3], b[3])]

function cut(values, width, [left, top, right, bottom]) {
  const wide = right - left, part = new Uint8Array(wide * (bottom - top))
  for (let y = top; y < bottom; y++) part.set(values.subarray(y * width + left, y * width + right), (y - top) * wide)
  return part
}

function paste(values, width, [left, top, right, bottom], part) {
  const wide = right - left
  for (let y = top; y < bottom; y++) values.set(part.subarray((y - top) * wide, (y - top + 1) * wide), y * width + left)
}

// How a mask looks over its picture, pixel by pixel: (value, x, y, colours, place) writes red, green, blue, alpha.
const CELL = 16 // pixels of the checkerboard
export const VIEWS = {
  veil: { name: 'Background red', dye: (value, x, y, to, at) => colour(to, at, 225, 29, 72, (255 - value) * 0.6) },
  cut: { name: 'Background away', dye: (value, x, y, to, at) => {
    const grey = ((x / CELL ^ y / CELL) & 1) ? 205 : 245
    colour(to, at, grey, grey, grey, 255 - value)
  } },
  mask: { name: 'Mask alone', dye: (value, x, y, to, at) => colour(to, at, value, value, value, 255) },
  picture: { name: 'Picture alone', dye: (value, x, y, to, at) => colour(to, at, 0, 0, 0, 0) },
}

function colour(to, at, red, green, blue, alpha) {
  to[at] = red
  to[at + 1] = green
  to[at + 2] = blue
  to[at + 3] = alpha
}

// Draws a rectangle of a mask's values onto a canvas of its size.
export function dye(context, values, width, [left, top, right, bottom], view) {
  const image = context.createImageData(right - left, bottom - top), paint = VIEWS[view].dye
  for (let y = top, at = 0; y < bottom; y++) {
    for (let x = left; x < right; x++, at += 4) paint(values[y * width + x], x, y, image.data, at)
  }
  context.putImageData(image, left, top)
}

// The values of a picture of a mask, brought to a size: its red, as all its colours are one.
export async function valuesOf(blob, width, height) {
  const picture = await createImageBitmap(blob, { colorSpaceConversion: 'none' })
  const context = canvas(width, height).getContext('2d', { willReadFrequently: true })
  context.drawImage(picture, 0, 0, width, height)
  const { data } = context.getImageData(0, 0, width, height), values = new Uint8Array(width * height)
  for (let place = 0; place < values.length; place++) values[place] = data[4 * place]
  return values
}

// The mask as a PNG file, in base64.
export async function png(values, width, height) {
  const drawn = canvas(width, height)
  dye(drawn.getContext('2d'), values, width, [0, 0, width, height], 'mask')
  const blob = await new Promise(done => drawn.toBlob(done, 'image/png'))
  const reader = new FileReader()
  await new Promise(done => {
    reader.onload = done
    reader.readAsDataURL(blob)
  })
  return reader.result.slice(reader.result.indexOf(',') + 1)
}

const canvas = (width, height) => Object.assign(document.createElement('canvas'), { width, height })
