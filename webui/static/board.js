// TensorBoard in its frame looks for new runs and steps by itself; what a person chose there stays.
const SETTINGS = '_tb_global_settings' // its own name for them
const OURS = { autoReload: true, autoReloadPeriodInMs: 15000 }

if (!localStorage.getItem(SETTINGS)) localStorage.setItem(SETTINGS, JSON.stringify(OURS))
