"""The sweep's fields: which options to vary, and how."""

from __future__ import annotations

import gradio as gr
from gradio.components import Component

from webui.sweeps import EVERY, SOME

ABOUT = """Trains with several values of some options, each combination as a run of its own in the queue; their table
is in Runs. Write an option and its values in a line."""
EXAMPLE = "optimizer.lr = 1e-4, 3e-4\nnetwork.rank = 8, 16"


class SweepPart:
    """The components. `wish` goes to the desk with the form, by name."""

    wish: dict[str, Component]
    count: gr.Button
    start: gr.Button

    def draw(self) -> None:
        """Puts them here."""
        with gr.Accordion("Sweep", open=False, elem_id="sweep", elem_classes="part"):
            gr.Markdown(ABOUT)
            with gr.Row(elem_classes=["grid", "wide"]):
                vary = gr.Textbox(
                    label="Options to vary", lines=3, placeholder=EXAMPLE,
                    info="By chance, a range will do: optimizer.lr = 1e-5..1e-3 log, or network.rank = 4..64.",
                )  # fmt: skip
                how = gr.Radio([EVERY, SOME], value=EVERY, label="Which runs")
                count = gr.Textbox("10", label="Runs", info="How many, where they are drawn by chance.", max_lines=1)
                seed = gr.Textbox("0", label="Seed of the sweep", info="Another draws other runs.", max_lines=1)
            self.wish = {"sweep_vary": vary, "sweep_how": how, "sweep_count": count, "sweep_seed": seed}
            with gr.Row(elem_classes="buttons"):
                self.count = gr.Button("Count the runs", size="sm", min_width=120)
                self.start = gr.Button("Queue the sweep", size="sm", min_width=120)
