"""The page: its tabs, its look, and what opens with it."""

from __future__ import annotations

import gradio as gr

from webui.jobs import Jobs
from webui.methods import METHODS
from webui.settings import Settings
from webui.tabs import compare, dataset, runs, start, utilities
from webui.tabs.lora import LoraTab
from webui.theme import look

__all__ = ["build", "look"]

TITLE = """<header class="title"><h1>Likeness</h1>
<p>Teaches Stable Diffusion a face, a character or a style.</p></header>"""
CONSENT = """<footer class="consent">Train on people who agreed to it, and on art you may use.</footer>"""
EMPTY = """<p class="lk-empty">No curves yet. From the first steps of a training on, its loss and learning rates are
drawn here, over those of the runs before.
<button class="lk-link" onclick="likeness.tab('Start')">The demo has some in a minute</button></p>"""
BOARD = """<iframe class="board" src="tensorboard/" title="TensorBoard"></iframe>"""


def build(settings: Settings, jobs: Jobs) -> gr.Blocks:
    """The page of one server. Nothing but what stands in the boxes is kept in it: all else is read from files."""
    with gr.Blocks(title="Likeness", analytics_enabled=False, fill_width=True) as page:
        gr.HTML(TITLE)
        lora = LoraTab(settings, jobs)
        with gr.Tabs(selected="start", elem_id="tabs"):
            with gr.Tab("Start", id="start"):
                start.build(settings, jobs, lora)
            for name, method in METHODS.items():
                gr.Tab(method.tab, id=name, elem_id=f"trains-{name}")
            with gr.Tab("Dataset", id="dataset"):
                dataset.build()
            with gr.Tab("Compare", id="compare"):
                compare.build()
            with gr.Tab("Utilities", id="utilities"):
                utilities.build()
            with gr.Tab("Runs", id="runs"):
                runs.build(settings, jobs)
            with gr.Tab("TensorBoard", id="tensorboard") as board:
                frame = gr.HTML(EMPTY, elem_id="board")
        # The tabs that train share one form: page.css shows it below them, and form.js asks for what stands in it.
        with gr.Column(elem_id="trainer"):
            lora.draw()
        gr.HTML(CONSENT)
        board.select(lambda: BOARD if _curves(settings) else EMPTY, outputs=frame, show_progress="hidden")
        lora.first(page)
        for event in page.fns.values():
            event.api_visibility = "private"  # else the page carries 1.4 MB on how programs may press its buttons
    return page


def _curves(settings: Settings) -> bool:
    """Whether any run has written what TensorBoard reads."""
    return any(settings.runs.glob("*/tb/**/events.out.tfevents.*"))
