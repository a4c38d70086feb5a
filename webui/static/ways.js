// Ways from one tool to another: what is found in one is mended in the other, on the same pictures.
import { workOn } from './folder.js'

const MOST = 200 // pictures that a filter can name

// A tab draws itself when it is opened.
async function drawn(found, tries = 100) {
  for (; tries; tries--) {
    const it = found()
    if (it) return it
    await new Promise(later => setTimeout(later, 50))
  }
}

// {folder, query or pictures}: opens the tag editor on a folder, with a filter.
addEventListener('likeness-open-tags', async ({ detail: { folder, query, pictures } }) => {
  workOn(folder)
  likeness.tab('Dataset')
  likeness.tab('Tag editor', '#dataset')
  await customElements.whenDefined('likeness-tags')
  const editor = await drawn(() => document.querySelector('likeness-tags:not([mode])'))
  editor.setAttribute('folder', folder)
  const wish = query || (pictures || []).slice(0, MOST).map(name => `path:"${name}"`).join(' OR ')
  if (wish && await drawn(() => editor.set.info?.folder === folder)) editor.set.filter({ typed: wish, clicked: [] })
})

// {folder}: opens the captioning of a folder.
addEventListener('likeness-caption', ({ detail: { folder } }) => {
  workOn(folder)
  likeness.tab('Captioning', '#utilities')
})

// {run}: opens the verdict on the files of a training.
addEventListener('likeness-which', async ({ detail: { run } }) => {
  likeness.tab('Compare')
  likeness.tab('Verdict', '#compare')
  const verdict = await drawn(() => document.querySelector('likeness-verdict'))
  verdict?.setAttribute('run', run)
})
