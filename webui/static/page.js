// All elements of the page; panel.css is their look, the server's routes do the rest.
import './job.js'
import './runs.js'
import './drop.js'
import './recent.js'
import './board.js'
import './task.js'
import './tool.js'
import './ways.js'

// Elements that come with their tab: each file here brings others, which a tunnel fetches one after the other.
const LATER = {
  'likeness-tags': './tags/editor.js', 'likeness-doctor': './doctor.js', 'likeness-folders': './folders.js',
  'likeness-verdict': './verdict.js', 'likeness-generate': './generate.js', 'likeness-grid': './grid.js',
  'likeness-crop': './crop.js', 'likeness-sweeps': './sweeps.js', 'likeness-mask': './mask.js', 'likeness-models': './models.js',
}

function fetchThose() {
  for (const [name, file] of Object.entries(LATER)) {
    if (!document.querySelector(name)) continue
    import(file)
    delete LATER[name]
  }
}

new MutationObserver(fetchThose).observe(document.documentElement, { childList: true, subtree: true })
fetchThose()
