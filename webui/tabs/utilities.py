"""The Utilities tab, in the order and the words of the Kohya GUI. Its tools are drawn by static/tool.js."""

from __future__ import annotations

import gradio as gr

CAPTIONING = {
    "Basic": ("caption.basic", "The same words for every picture, and changes to the captions there are."),
    "BLIP": ("caption.sentences", "Sentences by a model on this machine: BLIP, Florence-2, Qwen-VL, JoyCaption."),
    "BLIP2": ("caption.blip2", "Sentences by BLIP-2."),
    "GIT": ("caption.git", "Sentences by GIT."),
    "Server": ("caption.endpoint", "Sentences by a server that speaks OpenAI's language, here or elsewhere."),
    "WD14": (
        "caption.wd14",
        "Tags as anime models know them. A second run does what is left.",
    ),
}
IMAGES = {
    "Resize": ("images.resize", "New pictures of one size, in a folder of their own; the originals stay."),
    "Crop": ("images.crop", "Cut around the face, or around what stands out; the report says which."),
    "Background": ("images.background", "Takes the background away, or puts another behind; masks are kept."),
    "Group images": ("folders.group", "Copies in groups of one shape, so that a batch wastes no pixels."),
}
MODELS = "What the tools above work better with. Nothing is fetched until you press, and every checksum is compared."
HANDS = {
    "images.crop": ("likeness-crop", "Draw the crops by hand"),
    "images.background": ("likeness-mask", "Correct the masks with a brush"),
}
"""What is done by hand on the pictures of a tool."""


def build() -> None:
    """Puts the tools here."""
    with gr.Tabs(elem_id="utilities"):
        with gr.Tab("Captioning"), gr.Tabs(elem_id="captioning", selected="WD14"):
            for word, (job, lead) in CAPTIONING.items():
                with gr.Tab(f"{word} Captioning", id=word):
                    _tool(job, lead)
            with gr.Tab("Manual Captioning", id="Manual"):
                gr.HTML('<likeness-tags mode="manual"></likeness-tags>', apply_default_css=False)
        for word, (job, lead) in IMAGES.items():
            with gr.Tab(word):
                _tool(job, lead)
        with gr.Tab("Models"):
            gr.HTML(f'<p class="lk-lead">{MODELS}</p><likeness-models></likeness-models>', apply_default_css=False)


def _tool(job: str, lead: str) -> None:
    hand = 'hand="{}" hand-title="{}"'.format(*HANDS[job]) if job in HANDS else ""
    gr.HTML(f'<p class="lk-lead">{lead}</p><likeness-tool job="{job}" {hand}></likeness-tool>', apply_default_css=False)
