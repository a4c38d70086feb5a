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
SHOW = "() => ({ __type__: 'update', visible: true })"
HIDE = "() => ({ __type__: 'update', visible: 'hidden' })"
"""The tabs that train share one form, below all tabs; static/form.js asks for what stands in it when one is opened."""
BOARD = """<iframe class="board" src="tensorboard/" title="TensorBoard"></iframe>"""


def build(settings: Settings, jobs: Jobs) -> gr.Blocks:
    """The page of one server. Nothing but what stands in the boxes is kept in it: all else is read from files."""
    with gr.Blocks(title="Likeness", analytics_enabled=False, fill_width=True) as page:
        gr.HTML(TITLE)
        lora = LoraTab(settings, jobs)
        with gr.Tabs(selected="start", elem_id="tabs"):
            with gr.Tab("Start", id="start") as first:
                start.build(settings, jobs, lora)
            trainers = [gr.Tab(method.tab, id=name, elem_classes="trainer") for name, method in METHODS.items()]
            with gr.Tab("Dataset", id="dataset") as data:
                dataset.build()
            with gr.Tab("Compare", id="compare") as comparing:
                compare.build()
            with gr.Tab("Utilities", id="utilities") as tools:
                utilities.build()
            with gr.Tab("Runs", id="runs") as past:
                runs.build(settings, jobs)
            with gr.Tab("TensorBoard", id="tensorboard") as board:
                frame = gr.HTML(EMPTY, elem_id="board")
        with gr.Column(visible=False, elem_id="trainer") as shared:
            lora.draw()
        for tab in trainers:
            tab.select(fn=None, js=SHOW, outputs=shared)
        for tab in (first, data, comparing, tools, past, board):
            tab.select(fn=None, js=HIDE, outputs=shared)
        gr.HTML(CONSENT)
        board.select(lambda: BOARD if _curves(settings) else EMPTY, outputs=frame, show_progress="hidden")
        lora.first(page)
        for event in page.fns.values():
            event.api_visibility = "private"  # else the page carries 1.4 MB on how programs may press its buttons
    return page


def _curves(settings: Settings) -> bool:
    """Whether any run has written what TensorBoard reads."""
    return any(settings.runs.glob("*/tb/**/events.out.tfevents.*"))
