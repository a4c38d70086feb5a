"""Files of the Kohya GUI's LoRA tab, read into our options and written from them.

`read` says for each key of a file what became of it, and refuses what would train as something else.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainer.kohya import table
from trainer.kohya.reader import Note, Reader
from trainer.kohya.reading import KNOWN, read_all
from trainer.kohya.whole import TABS, tab_of
from trainer.kohya.writing import lost, write
from trainer.tree import ConfigError, Tree

OURS = {"seed", "optimizer"}
"""Keys of the Kohya GUI that are names of ours too."""
EVERY_KEY = {*KNOWN, *table.LEGACY, *table.LEGACY_VALUES, *table.DEAD, *table.DREAMBOOTH_KEYS} | {
    key for keys in table.TABS.values() for key in keys
}


@dataclass(frozen=True)
class Reading:
    """What a file of the Kohya GUI says.

    config_tree: our options, those alone that the file sets; notes: what became of each key, in the file's order;
    sources: the key that each option came from, by dotted name, so that a message can name it.
    """

    config_tree: Tree
    notes: tuple[Note, ...]
    sources: dict[str, str]

    def lines(self) -> list[str]:
        """What a person should know: how much was converted, then a line for all that is not plainly so."""
        count = {kind: sum(note.outcome == kind for note in self.notes) for kind in ("converted", "family", "unused")}
        quiet = f"{count['family']} belong to other model families, {count['unused']} have no effect in it"
        first = f"settings of the Kohya GUI: {len(self.notes)} keys, {count['converted']} converted, {quiet}"
        return [first, *(str(note) for note in self.notes if note.loud)]


def is_kohya(tree: Tree) -> bool:
    """Whether a tree is a file of the Kohya GUI, of whichever tab: flat, without our version, and with a key of its."""
    if "version" in tree or "preset" in tree or any(isinstance(value, dict) for value in tree.values()):
        return False
    return bool(EVERY_KEY & tree.keys() - OURS)


def read(tree: Tree, name: str) -> Reading:
    """Our options for a file of the Kohya GUI; `name` is its path, from which that of a dataset file counts.

    Missing keys are left to our defaults. Raises ConfigError, with a line for each key, for a file of another tab, a
    family or method that is not here, and a value that cannot be read.
    """
    if (tab := tab_of(tree)) not in ("LoRA", "Textual Inversion", *TABS):
        raise ConfigError(
            f"{name}: a file of the Kohya GUI's {tab} tab, which is still to come here; the LoRA tab's files are read"
        )
    reader = Reader(tree, name)
    read_all(reader)
    order = {key: place for place, key in enumerate([*tree, *reader.notes])}
    notes = sorted(reader.notes.values(), key=lambda note: order[note.key])
    return Reading(reader.tree, tuple(notes), reader.sources)


__all__ = ["Note", "Reading", "is_kohya", "lost", "read", "tab_of", "write"]
