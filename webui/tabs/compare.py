"""The Compare tab: which file is best, pictures by hand, and grids of them; all of it is drawn by our own elements."""

from __future__ import annotations

import gradio as gr

PARTS = {
    "Verdict": "<likeness-verdict></likeness-verdict>",
    "Generate": "<likeness-generate></likeness-generate>",
    "X/Y/Z grid": "<likeness-grid></likeness-grid>",
}


def build() -> None:
    """Puts the parts here."""
    with gr.Tabs(elem_id="compare"):
        for word, element in PARTS.items():
            with gr.Tab(word):
                gr.HTML(element, apply_default_css=False)
