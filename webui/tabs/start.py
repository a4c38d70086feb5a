"""The Start tab: the demo with one button, one's own pictures with settings that fit them, and what one had before."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from trainer import configio
from trainer.data.folders import SHIPPED
from trainer.errors import InputError
from webui.form import at_fields
from webui.jobs import Jobs
from webui.own import SD15, advised, named
from webui.planline import mistakes_html, plan_html
from webui.planning import Outlook
from webui.settings import Settings
from webui.tabs.lora import LoraTab, panel_of, picks

STRIP = 8  # demo pictures that are shown
PATIENCE = 0.5  # seconds between two words about pictures that are being opened
EMPTY = '<p class="lk-soft">Choose your pictures, and the settings for them are told here.</p>'
ASIDE = '<likeness-job only="active"></likeness-job>'
OPEN = """async () => {
  likeness.tab('LoRA')
  await new Promise(drawn => setTimeout(drawn, 200))
  likeness.openFile()
}"""
TO_FORM = "() => likeness.tab('LoRA')"
SHOW = "() => setTimeout(() => document.getElementById('start-job')?.scrollIntoView({ behavior: 'smooth' }), 150)"


def build(settings: Settings, jobs: Jobs, form: LoraTab) -> None:
    """Draws the tab and ties it; `form` is the LoRA tab, which plans, and takes settings that one wants to see."""
    with gr.Column(elem_classes="lk-card"):
        gr.HTML(_demo_html(), apply_default_css=False)
        demo = gr.Button("Start the demo", variant="primary", elem_id="start-demo", scale=0)
    panel = gr.HTML(ASIDE, elem_id="start-job", apply_default_css=False)
    with gr.Row(elem_classes="lk-cards"):
        with gr.Column(scale=3, min_width=320, elem_classes="lk-card"):
            own = _Own(settings, jobs, form)
        with gr.Column(scale=2, min_width=300):
            with gr.Column(elem_classes="lk-card"):
                gr.HTML(
                    _head("Go on where I was", "What trains now, and what was trained before."), apply_default_css=False
                )
                gr.HTML("<likeness-recent></likeness-recent>", apply_default_css=False)
            with gr.Column(elem_classes="lk-card"):
                gr.HTML(
                    _head("Open my Kohya settings", "A JSON file of the Kohya GUI. Every change is told."),
                    apply_default_css=False,
                )
                gr.Button("Open a settings file", scale=0).click(fn=None, js=OPEN)

    def start_demo() -> str:
        try:
            return panel_of(jobs.start(configio.load("demo")))
        except InputError as error:
            raise gr.Error(str(error), duration=None, print_exception=False) from None

    demo.click(start_demo, outputs=panel, show_progress="hidden").then(fn=None, js=SHOW)
    own.tie(panel)


class _Own:
    """The card for one's own pictures."""

    def __init__(self, settings: Settings, jobs: Jobs, form: LoraTab) -> None:
        self.settings, self.jobs, self.form = settings, jobs, form
        gr.HTML(
            _head("Train my own pictures", "10 to 250 of a person, a creature, a thing or a style."),
            apply_default_css=False,
        )
        with gr.Row():
            self.trigger = gr.Textbox(
                label="Trigger word", info="A made-up word, such as zk9.", max_lines=1, elem_id="start-trigger"
            )
            self.kind = gr.Textbox(
                label="Class word", info="What it is: woman, dog, style.", max_lines=1, elem_id="start-class"
            )
        fields = "#start-{} :is(input, textarea)"
        gr.HTML(
            f'<likeness-drop into="{fields.format("images")}" trigger="{fields.format("trigger")}"'
            f' class-word="{fields.format("class")}"></likeness-drop>',
            apply_default_css=False,
        )
        self.images = gr.Textbox(
            label="or a folder that is here", info="With pictures, or with folders named 10_zk9 woman.", max_lines=1,
            elem_id="start-images", elem_classes=["path-folder"],
        )  # fmt: skip
        choices = list(picks(settings))
        first = next((path for _, path in choices if Path(path).is_absolute()), SD15)
        self.base = gr.Dropdown(
            choices, value=first, label="Base model", info="What is taught; the LoRA belongs to its family.",
            allow_custom_value=True, elem_id="start-base",
        )  # fmt: skip
        self.plan = gr.HTML(EMPTY, elem_id="start-plan", apply_default_css=False)
        with gr.Row():
            self.go = gr.Button("Start training", variant="primary", elem_id="start-own", min_width=170, scale=0)
            self.details = gr.Button("See all settings", elem_id="start-details", min_width=170, scale=0)

    def tie(self, panel: gr.HTML) -> None:
        """Ties the card's fields and buttons."""
        asked: list[Any] = [self.images, self.trigger, self.kind, self.base]
        gr.on(
            [box.input for box in (self.images, self.trigger, self.kind, self.base)],
            self.look, asked, self.plan, show_progress="hidden", trigger_mode="always_last",
        )  # fmt: skip
        self.go.click(self.start, asked, [self.plan, panel], show_progress="hidden").then(fn=None, js=SHOW)
        form, boxes = self.form, self.form.boxes

        def fill(data: Mapping[Any, Any]) -> dict[Any, Any]:
            try:
                config = advised(self.settings, *(data[box] for box in asked))[0]
            except InputError as error:
                return {self.plan: _refusal(error)}
            told = ["These are the settings for your pictures; change what you like."]
            return form.answer(data, lambda sheet: form.desk.fill(sheet, config, told))

        given = {*asked, *boxes.all(), form.wire, form.kept}
        told = [self.plan, *boxes.all(), *form.groups.values(), form.wire, *form.shown, form.kept]
        self.details.click(fill, given, told, show_progress="hidden").then(fn=None, js=TO_FORM)

    def look(self, images: str, trigger: str, kind: str, base: str) -> Iterator[str]:
        """The plan in words, again while pictures are being opened."""
        if not (images or "").strip():
            yield EMPTY
            return
        try:
            config, reasons = advised(self.settings, images, trigger, kind, base)
        except InputError as error:
            yield _refusal(error)
            return
        while True:
            outlook = self.form.desk.planner.outlook(config, PATIENCE)
            yield _told(outlook, reasons)
            if outlook.looking is None:
                return

    def start(self, images: str, trigger: str, kind: str, base: str) -> tuple[Any, Any]:
        """Starts the training, or says why not."""
        try:
            if not trigger.strip():
                raise InputError("Trigger word: it is empty; give a word that means nothing yet, such as zk9")
            config, reasons = advised(self.settings, named(self.settings, images, trigger, kind), trigger, kind, base)
            outlook = self.form.desk.planner.outlook(config, None)
            if outlook.mistakes:
                return _told(outlook, reasons), gr.skip()
            return _told(outlook, reasons), panel_of(self.jobs.start(config))
        except InputError as error:
            return _refusal(error), gr.skip()


# What is shown


def _demo_html() -> str:
    pictures = sorted((SHIPPED["zk9"] / "img").glob("*/*.png"))[:STRIP]
    strip = "".join(
        f'<img alt="" src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}">' for path in pictures
    )
    words = (
        "These are pictures of zk9, a creature that no model has seen. Press Start: in three minutes a small model"
        " learns it, before your eyes, and you have a LoRA."
    )
    return f'{_head("See it work", words)}<div class="lk-strip" aria-hidden="true">{strip}</div>'


def _head(title: str, words: str) -> str:
    return f'<h2 class="lk-title">{escape(title)}</h2><p class="lk-lead">{escape(words)}</p>'


def _told(outlook: Outlook, reasons: tuple[str, ...]) -> str:
    why = f'<p class="lk-soft">Why so: {escape("; ".join(reasons))}.</p>'
    return plan_html(outlook) + why


def _refusal(error: InputError) -> str:
    return mistakes_html(at_fields(error))
