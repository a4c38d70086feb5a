// The folder that is worked on: what one tool is given stands in the next one too. A change is told as `likeness-folder`
// (bubbling, detail: the folder) on the document.
const KEPT = 'likeness-data'

export const dataFolder = () => sessionStorage.getItem(KEPT) || ''

export function workOn(folder) {
  if (!folder || folder === dataFolder()) return
  sessionStorage.setItem(KEPT, folder)
  document.dispatchEvent(new CustomEvent('likeness-folder', { bubbles: true, detail: folder }))
}
