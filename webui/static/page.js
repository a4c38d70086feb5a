// All elements of the page; panel.css is their look, the server's routes do the rest.
import './job.js'
import './runs.js'
import './drop.js'
import './recent.js'
import './board.js'
import './task.js'
import './tool.js'
