"""The Runs tab: the queue, every run, and runs side by side. All of it is drawn by static/runs.js from our routes."""

from __future__ import annotations

import gradio as gr

from webui.jobs import Jobs
from webui.settings import Settings


def build(settings: Settings, jobs: Jobs) -> None:
    """Puts the tab's one element here."""
    gr.HTML("<likeness-runs></likeness-runs><likeness-sweeps></likeness-sweeps>", apply_default_css=False)
