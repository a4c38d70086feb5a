// Ways from one tool to another: what is found in one is mended in the other, on the same pictures.
import { workOn } from './tool.js'

// {folder, query or pictures}: opens the tag editor on a folder, with a filter.
addEventListener('likeness-open-tags', async ({ detail: { folder, query, pictures } }) => {
  workOn(folder)
  likeness.tab('Dataset')
  likeness.tab('Tag editor', '#dataset')
  await customElements.whenDefined('likeness-tags')
  for (let tries = 40; tries; tries--) {
    const editor = document.querySelector('likeness-tags:not([mode])')
    if (editor) return editor.open(folder, query || (pictures || []).map(name => `path:"${name}"`).join(' OR '))
    await new Promise(drawn => setTimeout(drawn, 50)) // the tab draws itself when it is opened
  }
})
