"""The boxes of a training's form as Gradio components: one for each option of the schema, made from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import gradio as gr
from gradio.components import Component

from trainer.config import Config
from webui import form
from webui.fields import FIELDS, Field, Meaning, Values
from webui.layout import ENDINGS, FOLDER_FIELDS, LONG
from webui.methods import LORA, METHODS, types_of

PLAIN = gr.InputHTMLAttributes(autocapitalize="off", autocorrect="off", spellcheck=False, autocomplete="off")


class Boxes:
    """All boxes, made before they have a place: each is rendered where `place` is called for it."""

    def __init__(self, config: Config) -> None:
        values = form.write(config)
        self.by_name: dict[str, Any] = {shown.name: _box(shown, values) for shown in form.PLACED}
        self._names = {box: name for name, box in self.by_name.items()}

    def place(self, names: Iterable[str]) -> None:
        """Puts boxes here."""
        for name in names:
            self.by_name[name].render()

    def all(self) -> set[Any]:
        """Every box, as the inputs or outputs of an event."""
        return set(self.by_name.values())

    def values(self, given: Mapping[Any, Any]) -> dict[str, Any]:
        """What stands in the boxes, from what Gradio hands to an event whose inputs are a set."""
        return {self._names[box]: value for box, value in given.items() if box in self._names}

    def updates(self, values: Values, tab: str, before: Values | None = None) -> dict[Any, Any]:
        """What Gradio must be given so that the boxes hold `values`; only what differs from `before`, when given.

        A tab shows the networks that it trains, and no choice where it is one.
        """
        told: dict[Any, Any] = {}
        types = types_of(tab)
        for name, box in self.by_name.items():
            shown = FIELDS[name]
            meaning = shown.meaning(values)
            more: dict[str, Any] = {}
            if before is None or (shown.owner and shown.meaning(before) is not meaning):
                more = {"visible": is_seen(name, values, tab)}
                if name == "network.type":
                    more = {"visible": len(types) > 1, "choices": [(shown.said(word), word) for word in types]}
                if meaning and len(shown.meanings) > 1:
                    more["info"] = help_of(shown, meaning)
            if more or before is None or values[name] != before[name]:
                told[box] = gr.update(value=values[name], **more)
        return told


def is_seen(name: str, values: Values, tab: str) -> bool:
    """Whether a field has a place on a tab beside these values."""
    return FIELDS[name].meaning(values) is not None and name not in METHODS[tab].hidden


def help_of(shown: Field, meaning: Meaning) -> str:
    """The help below a field: what it does, what the Kohya GUI calls it today if otherwise, and its key there."""
    text = meaning.help.removeprefix(f"{shown.label}: ")
    text = text[:1].upper() + text[1:]
    today = f"“{shown.today}” in the Kohya GUI." if shown.today else ""
    return " ".join(filter(None, (text, today, f"`{shown.key}`" if shown.key else "")))


def _box(shown: Field, values: Values) -> Component:
    meaning = shown.meaning(values)
    kind = shown.kind
    classes = ["field", f"field-{kind}"]
    if shown.is_path:
        classes += ["path-folder" if shown.name in FOLDER_FIELDS else "path-file"]
        classes += [f"ends{ending.replace('.', '-')}" for ending in ENDINGS.get(shown.name, ())]
    common: dict[str, Any] = {
        "label": shown.label,
        "value": values[shown.name],
        "info": help_of(shown, meaning or next(iter(shown.meanings.values()))),
        "visible": meaning is not None,
        "elem_id": f"field-{shown.name}",
        "elem_classes": classes,
        "render": False,
        "min_width": 200,
    }
    if kind == "check":
        return gr.Checkbox(**common)
    if kind == "choice":
        words = types_of(LORA) if shown.name == "network.type" else [word for word, _ in shown.choices]
        return gr.Dropdown([(shown.said(word), word) for word in words], filterable=len(shown.choices) > 9, **common)
    lines = 4 if shown.name in LONG else 1
    return gr.Textbox(lines=lines, max_lines=12 if lines > 1 else 1, html_attributes=PLAIN, **common)
