"""The logic of the tag editor: captions in memory, a filter language, edits, findings, undo. It brings no torch."""
