"""The Dataset tab: tags, the doctor, and folders; all of it is drawn by our own elements from our routes."""

from __future__ import annotations

import gradio as gr

PARTS = {
    "Tag editor": "<likeness-tags></likeness-tags>",
    "Doctor": "<likeness-doctor></likeness-doctor>",
    "Dataset balancing": '<likeness-folders tool="balance"></likeness-folders>',
    "Duplicates": '<likeness-folders tool="dedupe"></likeness-folders>',
    "Import": """<likeness-drop into="likeness-tool[job='folders.import'] [data-name=source]"></likeness-drop>
<likeness-tool job="folders.import"></likeness-tool>""",
}


def build() -> None:
    """Puts the parts here."""
    with gr.Tabs(elem_id="dataset"):
        for word, element in PARTS.items():
            with gr.Tab(word):
                gr.HTML(element, apply_default_css=False)
