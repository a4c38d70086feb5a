"""The page: a web server of one process that shows, starts and stops the engine's work. It never imports torch."""
