// The keys of the editor: BooruDatasetTagManager's where a browser leaves them to a page. Each line is [keys, words,
// what it does]; those without the last are done by the part that has the focus, and stand here to be read.
const WRITES = 'input:not([type="radio"], [type="checkbox"], [type="range"]), textarea, select'

export function groups(editor) {
  const { set, tags, all, batch, grid, bar } = editor
  return [
    ['Panes', [
      [['Ctrl+1'], 'Dataset', () => editor.focusPane('pictures')],
      [['Ctrl+2'], 'Image tags', () => editor.focusPane('tags')],
      [['Ctrl+3'], 'All tags', () => editor.focusPane('all')],
      [['Ctrl+L'], 'Hide or show the dataset', () => editor.hidePane('pictures')],
      [['Ctrl+K'], 'Hide or show the image tags', () => editor.hidePane('tags')],
      [['Shift+J'], 'Hide or show all tags', () => editor.hidePane('all')],
      [['Ctrl+P', 'Ctrl+5'], 'Preview', () => editor.preview()],
    ]],
    ['Pictures', [
      [['Arrow keys', 'Home', 'End', 'Page Up', 'Page Down'], 'From picture to picture; with Shift several'],
      [['Ctrl+A'], 'Select all that are shown'],
      [['Ctrl+I'], 'Invert the selection', () => grid.invert()],
      [['Ctrl+J'], 'The next picture without a caption', () => grid.untagged()],
      [['Alt+→'], 'Next picture', () => editor.step(1)],
      [['Alt+←'], 'Previous picture', () => editor.step(-1)],
      [['Shift+T'], 'Check one tag: yes or no on every picture', () => editor.check(all.names()[0])],
    ]],
    ['Tags of the picture', [
      [['Ctrl+E'], 'Add tags', () => editor.focusAdd()],
      [['Ctrl+D'], 'Remove the selected tags; in their pane Delete too', () => tags.remove()],
      [['F2', 'a double click'], 'Edit the tag'],
      [['Alt+↑'], 'Move it up', () => tags.shift(-1)],
      [['Alt+↓'], 'Move it down', () => tags.shift(1)],
      [['Alt++'], 'Heavier', () => tags.weigh(0.1)],
      [['Alt+-'], 'Lighter', () => tags.weigh(-0.1)],
      [['Ctrl+C', 'Ctrl+V'], 'Copy tags, paste tags'],
      [['Ctrl+U'], 'As text', () => tags.turn()],
    ]],
    ['All tags', [
      [['Ctrl+F'], 'Find a tag', () => editor.focusFind()],
      [['Enter', 'a click'], 'Filter by the tag'],
      [['Shift+F'], 'Filter by the selected tags', () => set.filter({ clicked: all.names() })],
      [['Shift+G'], 'Take the tags out of the filter', () => set.filter({ clicked: [] })],
      [['Ctrl+Y'], 'Filter by AND, OR, NOT, XOR', () => editor.turnMode()],
      [['Insert'], 'Add to what is selected'],
      [['Delete'], 'Remove from all pictures'],
    ]],
    ['Many pictures', [
      [['Alt+W'], 'Add to all', () => batch.open('add', {}, 'all')],
      [['Shift+W'], 'Add to the selected', () => batch.open('add', {}, 'selected')],
      [['Alt+Shift+W'], 'Add to those that are shown', () => batch.open('add', {}, 'filtered')],
      [['Alt+R'], 'Remove from all', () => batch.open('remove', {}, 'all')],
      [['Shift+R'], 'Remove from the selected', () => batch.open('remove', {}, 'selected')],
      [['Alt+Shift+R'], 'Remove from those that are shown', () => batch.open('remove', {}, 'filtered')],
      [['Ctrl+G'], 'Replace in all', () => batch.open('replace', {}, 'all')],
      [['Ctrl+Q', 'Alt+Q'], 'Sort', () => batch.open('sort')],
    ]],
    ['Everywhere', [
      [['Ctrl+Z'], 'Undo', () => set.undo()],
      [['Ctrl+Shift+Z'], 'Redo', () => set.redo()],
      [['Ctrl+S'], 'Nothing to do: all is saved at once', () => editor.saved()],
      [['Ctrl+Shift+F'], 'Filter the dataset', () => bar.focus()],
      [['Ctrl+Shift+G'], 'No filter', () => set.filter({ typed: '', clicked: [] })],
      [['Alt+K', '?'], 'These keys', () => editor.keys()],
    ]],
  ]
}

const ARROWS = { '↑': 'ArrowUp', '↓': 'ArrowDown', '←': 'ArrowLeft', '→': 'ArrowRight' }
const ALIKE = { '=': '+', '_': '-' } // what is on the same key

// A key as it is written above. Letters and digits go by their place, since Alt makes other signs of them.
function spelled(event) {
  const place = /^(?:Key|Digit|Numpad)([A-Z0-9])$/.exec(event.code)
  const arrow = Object.keys(ARROWS).find(sign => ARROWS[sign] === event.key)
  const name = place?.[1] || arrow || ALIKE[event.key] || event.key
  if (name === '?') return '?'
  return `${event.ctrlKey || event.metaKey ? 'Ctrl+' : ''}${event.altKey ? 'Alt+' : ''}${event.shiftKey && name !== '+' ? 'Shift+' : ''}${name}`
}

// Does what a key stands for; says whether it was one of ours.
export function press(event, editor) {
  const keys = spelled(event)
  const writes = event.target.matches(WRITES)
  if (writes && !/^(Ctrl|Alt)\+/.test(keys)) return false
  if (writes && /Z$/.test(keys) && event.target.value) return false // the box takes its own letters back
  if (event.target.closest('dialog') && !/^Ctrl\+(Shift\+)?[ZS]$/.test(keys)) return false
  for (const [, lines] of editor.keyGroups) {
    const line = lines.find(([names, , does]) => does && names.includes(keys))
    if (!line) continue
    event.preventDefault()
    line[2]()
    return true
  }
  return false
}
