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
CLASS = (
    "Regularisation pictures by the base model, so that training does not change what it knows of the class. What is"
    " there is not drawn again; then name the folder as Regularisation folder."
)
MODELS = "What the tools above work better with. Nothing is fetched until you press, and every checksum is compared."
LORA = {
    "Extract LoRA": ("lora.extract", "What a finetuned model has learned beyond its base, as a LoRA."),
    "Merge LoRA": ("lora.merge", "LoRAs into one, or into a checkpoint, each with its ratio."),
    "Resize LoRA": ("lora.resize", "The same LoRA with a smaller rank."),
    "Verify LoRA": ("lora.verify", "What a file is, whether all of it is sound, and what it was trained with."),
    "Convert LoRA": ("lora.convert", "Between the names of Kohya, diffusers and peft."),
    "Average LoRAs": ("lora.average", "The mean of the epochs of one run, which is often better than any of them."),
    "Metadata": ("lora.metadata", "Title, author, licence and tags of a LoRA; a copy is written."),
    "Extract DyLoRA": ("lora.dylora", "A LoRA of each rank out of a DyLoRA."),
}
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
        with gr.Tab("Class pictures"):
            _tool("reg.make", CLASS)
        with gr.Tab("LoRA tools"), gr.Tabs(elem_id="lora-tools"):
            for word, (job, lead) in LORA.items():
                with gr.Tab(word):
                    _tool(job, lead)
        with gr.Tab("Convert model"):
            _tool("model.convert", "A single file into a diffusers folder, or back.")
        with gr.Tab("Downloads"):
            gr.HTML(f'<p class="lk-lead">{MODELS}</p><likeness-models></likeness-models>', apply_default_css=False)


def _tool(job: str, lead: str) -> None:
    hand = 'hand="{}" hand-title="{}"'.format(*HANDS[job]) if job in HANDS else ""
    gr.HTML(f'<p class="lk-lead">{lead}</p><likeness-tool job="{job}" {hand}></likeness-tool>', apply_default_css=False)
