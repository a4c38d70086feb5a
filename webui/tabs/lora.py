"""The form of a training, of the LoRA tab and the others that train, in the order and words of the Kohya GUI."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from html import escape
from typing import Any

import gradio as gr
from gradio.components import Component

from trainer.config import Config
from webui.boxes import Boxes, is_seen
from webui.configs import KOHYA, LIKENESS, presets
from webui.desk import DEFAULTS, Desk, Sheet
from webui.fields import FIELDS
from webui.jobs import Jobs
from webui.layout import ADVANCED, BASIC, CONFIGURATION, FOLDERS, METADATA, MODEL, PICKS, PLACES, SAMPLES
from webui.methods import LORA, METHODS
from webui.settings import Settings
from webui.tabs.sweep import SweepPart

Data = dict[Any, Any]
"""What Gradio hands over, or is to show, by component."""
Work = Callable[[Sheet], None]
BASES = (".safetensors", ".ckpt")
WIRE = """
addEventListener('likeness-ask', ({ detail }) => trigger(detail.do === 'look' ? 'input' : 'submit', detail))
"""
"""Carries what static/form.js asks for to Python."""


def _teller(word: str) -> str:
    """Carries what Python says to static/form.js, as window.likeness<word> and an event."""
    return f"""
const tell = () => {{
  window.likeness{word} = JSON.parse(props.value || '{{}}')
  dispatchEvent(new Event('likeness-{word.lower()}'))
}}
watch('value', tell)
tell()
"""


class LoraTab:
    """The form's components. The boxes exist before they are drawn, so that other tabs can fill them."""

    def __init__(self, settings: Settings, jobs: Jobs) -> None:
        self.settings = settings
        self.boxes = Boxes(Config())
        self.groups = {title: gr.Accordion(title, open=False, render=False) for title in ADVANCED}
        self.desk = Desk(settings, jobs)
        # Two, since a look at the form may be answered late, and is not to undo the turn of a tab.
        self.wire = gr.HTML("{}", html_template="", js_on_load=WIRE + _teller("State"), render=False, elem_id="wire")
        self.marks = gr.HTML("{}", html_template="", js_on_load=_teller("Marks"), render=False, elem_id="marks")
        self.plan = gr.HTML(elem_id="plan", render=False)
        self.family = gr.HTML(elem_id="family", render=False)
        self.said = gr.HTML(elem_id="said", render=False)
        self.panel = gr.HTML("<likeness-job></likeness-job>", elem_id="job", render=False, apply_default_css=False)
        self.run = gr.State(None, render=False)
        self.sweep = SweepPart()
        self.kept = gr.State({}, render=False)
        self.shown = (self.marks, self.plan, self.family, self.said)

    def draw(self) -> None:
        """Puts everything in its place, and ties what happens to what is done."""
        self.wire.render()
        self.marks.render()
        self.run.render()
        self.kept.render()
        tabs = escape(json.dumps({method.tab: name for name, method in METHODS.items()}))
        gr.HTML(
            f'<likeness-search data-index="{escape(json.dumps(list(_index())))}" data-tabs="{tabs}"></likeness-search>'
        )
        self._draw_configuration()
        self._draw_model()
        self._draw_folders()
        self._draw_parameters()
        self.sweep.draw()
        self.wish |= self.sweep.wish
        with gr.Column(elem_id="bar"):
            self.plan.render()
            self.said.render()
            with gr.Row(elem_id="actions"):
                self.start = gr.Button("Start training", variant="primary", min_width=120)
                self.stop = gr.Button("Stop training", min_width=120)
                self.print = gr.Button("Print training command", min_width=120)
                self.board = gr.Button("Start TensorBoard", min_width=120)
        self.panel.render()
        self._tie()

    # What stands where

    def _draw_configuration(self) -> None:
        with gr.Accordion("Configuration file", elem_classes="part"):
            with gr.Row(elem_classes=["grid", "wide"]):
                listed = [(DEFAULTS, DEFAULTS)]
                listed += [(f"{name}: {about}" if about else name, name) for name, about in presets(self.settings)]
                self.preset = gr.Dropdown(
                    listed, value=None, label="Presets", info="Settings for a purpose; what they leave out is default."
                )
                self.path = gr.Textbox(
                    label="Configuration file path", max_lines=1, elem_id="config-path",
                    info="A file of ours or of the Kohya GUI.", elem_classes=["path-file", "ends-json", "ends-toml"],
                )  # fmt: skip
            with gr.Row(elem_classes="buttons"):
                self.open = gr.Button("Open", size="sm", min_width=80)
                self.save = gr.Button("Save", size="sm", min_width=80)
                self.save_as = gr.Button("Save as", size="sm", min_width=80)
                self.load = gr.Button("Load", size="sm", min_width=80)
                self.style = gr.Radio([LIKENESS, KOHYA], value=LIKENESS, label="Save in the format of", min_width=200)
            self.boxes.place(CONFIGURATION)

    def _draw_model(self) -> None:
        with gr.Accordion("Source model", elem_classes="part"):
            self.pick = gr.Dropdown(
                list(picks(self.settings)), value=None, label="Model Quick Pick",
                info="Models of the hub, and those in your folders of models.",
            )  # fmt: skip
            self.boxes.place(MODEL[:1])
            self.family.render()
            with gr.Row(elem_classes="grid"):
                self.boxes.place(MODEL[1:])

    def _draw_folders(self) -> None:
        with gr.Accordion("Folders", elem_classes="part"):
            with gr.Row(elem_classes=["grid", "wide"]):
                self.boxes.place(FOLDERS)
            with gr.Accordion("Prepare folders", open=False):
                gr.Markdown("Copies pictures into `img/<repeats>_<trigger> <class>` and makes `log` and `model`.")
                with gr.Row(elem_classes="grid"):
                    self.wish: dict[str, Component] = {
                        "trigger": gr.Textbox(label="Instance prompt", info="The trigger word.", max_lines=1),
                        "class": gr.Textbox(label="Class prompt", info="What it is: woman, dog.", max_lines=1),
                        "repeats": gr.Textbox("10", label="Repeats in img", info="Of each picture.", max_lines=1),
                        "images": _folder("Training images", "Pictures as they lie now."),
                        "reg": _folder("Regularisation images", "Pictures of the class; may stay empty."),
                        "reg_repeats": gr.Textbox("1", label="Repeats in reg", info="Of each picture.", max_lines=1),
                        "destination": _folder("Destination training directory", "Where the folders are made."),
                    }
                self.prepare = gr.Button("Prepare training data", size="sm")

    def _draw_parameters(self) -> None:
        with gr.Accordion("Parameters", elem_classes="part"), gr.Tabs(elem_id="parameters"):
            with gr.Tab("Basic"), gr.Row(elem_classes="grid"):
                self.boxes.place(BASIC)
            with gr.Tab("Advanced"):
                for title, group in self.groups.items():
                    group.render()
                    with group, gr.Row(elem_classes="grid"):
                        self.boxes.place(ADVANCED[title])
            for title, names in (("Samples", SAMPLES), ("Metadata", METADATA)):
                with gr.Tab(title), gr.Row(elem_classes="grid"):
                    self.boxes.place(names)

    # What happens

    def _tie(self) -> None:
        desk, boxes = self.desk, self.boxes
        everything = boxes.all() | {self.wire, self.path, self.style, self.run, self.kept}
        everything |= set(self.wish.values())
        outputs = [*boxes.by_name.values(), *self.groups.values(), self.wire, *self.shown]
        outputs += [self.path, self.style, self.run, self.kept, self.panel]

        # What fills the form is done one after the other, so that the last press is what stands in it.
        def tie(event: Any, work: Work, trigger_mode: str = "once") -> None:
            event(
                partial(self.answer, work=work), everything, outputs,
                show_progress="hidden", trigger_mode=trigger_mode, concurrency_id="fill", concurrency_limit=1,
            )  # fmt: skip

        def tie_choice(box: gr.Dropdown, work: Callable[[Sheet, str | None], None]) -> None:
            def answer(data: Data, chosen: gr.SelectData) -> Data:
                return self.answer(data, lambda sheet: work(sheet, chosen.value))

            # Not `input`, which Gradio tells of twice: the second could undo what is pressed meanwhile.
            box.select(answer, everything, outputs, show_progress="hidden", concurrency_id="fill")

        def asked(data: Data, event: gr.EventData) -> Data:
            return self.answer(data, partial(desk.asked, ask=dict(event._data or {})))

        owners = {shown.owner for shown in FIELDS.values()} - {""}
        choosers = {name for owner in owners for name in (owner, f"{owner}.type") if name in FIELDS}
        # A text box of Gradio tells of keys alone, not of a paste or a deletion; static/form.js tells of all.
        told = ("check", "choice")
        plain = [box for name, box in boxes.by_name.items() if FIELDS[name].kind in told and name not in choosers]
        gr.on(
            [self.wire.input, *(box.input for box in plain)],
            self.glance, boxes.all() | {self.wire}, list(self.shown),
            show_progress="hidden", trigger_mode="always_last", concurrency_limit=8,
            preprocess=False,  # or a look that comes late is refused, for the choices of the tab that was left
        )  # fmt: skip
        for name in choosers:
            tie(boxes.by_name[name].input, partial(desk.choose, name=name), "always_last")
        tie_choice(self.preset, desk.preset)
        tie_choice(self.pick, desk.pick)
        tie(self.load.click, desk.load)
        tie(self.path.submit, desk.load)
        tie(self.save.click, desk.save)
        tie(self.prepare.click, desk.prepare)
        tie(self.start.click, desk.start)
        tie(self.sweep.count.click, desk.sweep)
        tie(self.sweep.start.click, partial(desk.sweep, start=True))
        tie(self.stop.click, desk.stop)
        tie(self.print.click, desk.print_command)
        self.wire.submit(asked, everything, outputs, show_progress="hidden", concurrency_id="fill")
        self.open.click(fn=None, js="() => likeness.openFile()")
        self.save_as.click(fn=None, js="() => likeness.saveFile()")
        self.board.click(fn=None, js="() => likeness.tab('TensorBoard')")

    def first(self, page: gr.Blocks) -> None:
        """What is shown when the page opens: the settings of last time, and the job that runs."""
        inputs = self.boxes.all() | {self.wire}
        outputs = [*self.boxes.by_name.values(), *self.groups.values(), self.wire, *self.shown, self.run, self.panel]
        page.load(partial(self.answer, work=self.desk.remember), inputs, outputs, show_progress="hidden")

    def sheet(self, data: Mapping[Any, Any]) -> Sheet:
        """What stands on the page."""
        wire = json.loads(data.get(self.wire) or "{}")
        return self.desk.sheet(
            self.boxes.values(data),
            wire=wire,
            tab=wire.get("tab", LORA),
            kept=data.get(self.kept) or {},
            path=data.get(self.path) or "",
            style=data.get(self.style) or LIKENESS,
            run=data.get(self.run),
            wish={name: data.get(box) for name, box in getattr(self, "wish", {}).items()},
        )

    def glance(self, data: Mapping[Any, Any]) -> Data:
        """What is to be said of what stands on the page; no box changes, nor which of them are seen."""
        sheet = self.sheet(data)
        self.desk.look(sheet)
        return dict(zip(self.shown, sheet.said(), strict=True))

    def answer(self, data: Mapping[Any, Any], work: Work) -> Data:
        """Lets the desk do something with what stands on the page, and gives what is to change there."""
        sheet = self.sheet(data)
        before = earlier(sheet.values, sheet.wire)
        work(sheet)
        told = self.boxes.updates(sheet.values, sheet.tab, None if sheet.whole else before)
        told |= self._groups_of(sheet, before)
        told |= {self.wire: sheet.state(), **dict(zip(self.shown, sheet.said(), strict=True))}
        if sheet.path != (data.get(self.path) or ""):
            told[self.path] = sheet.path
        if sheet.style != (data.get(self.style) or LIKENESS):
            told[self.style] = sheet.style
        if sheet.kept != (data.get(self.kept) or {}):
            told[self.kept] = sheet.kept
        if sheet.run != data.get(self.run):
            told |= {self.run: sheet.run, self.panel: panel_of(sheet.run)}
        return told

    def _groups_of(self, sheet: Sheet, before: Mapping[str, Any]) -> Data:
        """A group that has no field to show is not shown; only what differs from `before`, unless all is told."""

        def seen(values: Mapping[str, Any]) -> dict[str, bool]:
            return {group: any(is_seen(name, values, sheet.tab) for name in ADVANCED[group]) for group in ADVANCED}

        now = seen(sheet.values)
        was = dict[str, bool]() if sheet.whole else seen(before)
        return {self.groups[group]: gr.update(visible=shown) for group, shown in now.items() if shown != was.get(group)}


def earlier(values: Mapping[str, Any], wire: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in the boxes, with the choices by which they are seen: one just made has shown no field yet."""
    found = dict(values)
    for owner, variant in (wire.get("variants") or {}).items():
        found |= {owner: variant == "on"} if owner in found else {f"{owner}.type": variant}
    return found


def panel_of(run: str | None) -> str:
    """The element that shows a run; without one, what trains now."""
    return f'<likeness-job run="{escape(run)}"></likeness-job>' if run else "<likeness-job></likeness-job>"


def _folder(label: str, info: str) -> gr.Textbox:
    return gr.Textbox(label=label, info=info, max_lines=1, elem_classes=["path-folder"])


def picks(settings: Settings) -> Iterator[tuple[str, str]]:
    """Base models that are at hand: the hub's best known, and the files in the folders of models."""
    yield from PICKS
    for folder in settings.models:
        found: Iterable[Any] = sorted(path for path in folder.rglob("*") if path.suffix.lower() in BASES)
        for path in found:
            yield str(path.relative_to(folder)), str(path)


def _index() -> Iterator[dict[str, Any]]:
    """What the search box finds: each field by its label, help, and names in the Kohya GUI."""
    for way, names in PLACES.items():
        for name in names:
            shown = FIELDS[name]
            helps = " ".join(dict.fromkeys(meaning.help for meaning in shown.meanings.values()))
            only = f"with {FIELDS[f'{shown.owner}.type'].label} {', '.join(shown.meanings)}" if _needs(name) else ""
            yield {
                "name": name, "label": shown.label, "help": helps, "key": shown.key, "today": shown.today,
                "way": way, "only": only, "owner": f"{shown.owner}.type" if _needs(name) else shown.owner,
            }  # fmt: skip


def _needs(name: str) -> bool:
    """Whether a field is there for some variants of a union alone."""
    shown = FIELDS[name]
    chooser = FIELDS.get(f"{shown.owner}.type")
    return chooser is not None and len(shown.meanings) < len(chooser.choices)
