"""How the page looks: warm paper, clay, the system's own letters; nothing is fetched."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.themes.utils.colors import Color

CLAY = Color(
    name="clay", c50="#fdf5f0", c100="#fae6da", c200="#f3c9b1", c300="#e9a582", c400="#dc7f54", c500="#c65f33",
    c600="#a84a23", c700="#883a1b", c800="#6b2f18", c900="#522616", c950="#2e130a",
)  # fmt: skip
PAPER = Color(
    name="paper", c50="#fbf9f6", c100="#f4f0ea", c200="#e7e1d8", c300="#d3cabd", c400="#a69b8c", c500="#7b7165",
    c600="#5f564c", c700="#473f37", c800="#2c2722", c900="#1f1b18", c950="#171411",
)  # fmt: skip
SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Liberation Mono", "monospace")
COLOURS = {
    "body_background_fill": "*neutral_100",
    "body_background_fill_dark": "*neutral_950",
    "body_text_color": "*neutral_900",
    "body_text_color_dark": "#efe9e1",
    "body_text_color_subdued": "*neutral_600",
    "body_text_color_subdued_dark": "#b3a999",
    "background_fill_primary": "#fffdfa",
    "background_fill_primary_dark": "*neutral_900",
    "background_fill_secondary": "*neutral_50",
    "background_fill_secondary_dark": "*neutral_900",
    "border_color_primary": "*neutral_200",
    "border_color_primary_dark": "#3a332c",
    "border_color_accent": "*primary_400",
    "border_color_accent_dark": "*primary_500",
    "color_accent": "*primary_600",
    "color_accent_soft": "*primary_50",
    "color_accent_soft_dark": "#3a2317",
    "link_text_color": "*primary_700",
    "link_text_color_dark": "*primary_300",
    "block_background_fill": "#fffdfa",
    "block_background_fill_dark": "*neutral_900",
    "block_border_width": "0px",
    "block_border_width_dark": "0px",
    "block_shadow": "none",
    "block_shadow_dark": "none",
    "block_padding": "8px 10px",
    "block_label_text_color": "*neutral_700",
    "block_label_text_color_dark": "#d9d0c4",
    "block_title_text_color": "*neutral_800",
    "block_title_text_color_dark": "#e6ded3",
    "block_title_text_weight": "600",
    "block_title_text_size": "14px",
    "block_info_text_size": "12.5px",
    "block_info_text_color": "*neutral_600",
    "block_info_text_color_dark": "#b3a999",
    "input_background_fill": "*neutral_50",
    "input_background_fill_dark": "#2a2520",
    "input_border_color": "*neutral_300",
    "input_border_color_dark": "#4a4239",
    "input_border_width": "1px",
    "input_border_color_focus": "*primary_600",
    "input_border_color_focus_dark": "*primary_400",
    "input_padding": "7px 9px",
    "input_text_size": "14px",
    "input_shadow": "none",
    "input_shadow_focus": "0 0 0 3px #a84a2333",
    "input_shadow_focus_dark": "0 0 0 3px #dc7f5444",
    "checkbox_background_color": "#fffdfa",
    "checkbox_background_color_dark": "#2a2520",
    "checkbox_border_color": "*neutral_400",
    "checkbox_border_color_dark": "#6a6056",
    "checkbox_background_color_selected": "*primary_600",
    "checkbox_background_color_selected_dark": "*primary_500",
    "checkbox_border_color_selected": "*primary_600",
    "checkbox_label_background_fill": "transparent",
    "checkbox_label_background_fill_dark": "transparent",
    "checkbox_label_border_width": "0px",
    "checkbox_label_border_width_dark": "0px",
    "button_primary_background_fill": "*primary_600",
    "button_primary_background_fill_dark": "*primary_600",
    "button_primary_background_fill_hover": "*primary_700",
    "button_primary_background_fill_hover_dark": "*primary_500",
    "button_primary_text_color": "#ffffff",
    "button_secondary_background_fill": "#fffdfa",
    "button_secondary_background_fill_dark": "*neutral_800",
    "button_secondary_background_fill_hover": "*neutral_100",
    "button_secondary_background_fill_hover_dark": "*neutral_700",
    "button_secondary_border_color": "*neutral_300",
    "button_secondary_border_color_dark": "#4a4239",
    "button_border_width": "1px",
    "button_secondary_text_color": "*neutral_800",
    "button_secondary_text_color_dark": "#efe9e1",
    "button_large_padding": "9px 16px",
    "button_large_text_size": "15px",
    "button_small_padding": "6px 12px",
    "button_transform_hover": "none",
    "button_transform_active": "none",
    "panel_border_width": "0px",
    "layout_gap": "10px",
    "section_header_text_size": "15px",
    "section_header_text_weight": "650",
}
"""The theme's variables that differ from Gradio's base, in light and (`_dark`) dark."""
# Linked, not given as css: Gradio rewrites selectors and breaks those with a comma in brackets.
HEAD = """
<meta name="color-scheme" content="light dark">
<link rel="stylesheet" href="static/page.css">
<link rel="stylesheet" href="static/panel.css">
<link rel="stylesheet" href="static/tool.css">
<link rel="stylesheet" href="static/picture_tools.css">
<link rel="stylesheet" href="static/folders.css">
<link rel="stylesheet" href="static/doctor.css">
<link rel="stylesheet" href="static/tags.css">
<link rel="stylesheet" href="static/generate.css">
<link rel="stylesheet" href="static/grid.css">
<link rel="stylesheet" href="static/verdict.css">
<script type="module" src="static/page.js"></script>
<script type="module" src="static/form.js"></script>
<script type="module" src="static/browse.js"></script>
"""


def look() -> dict[str, Any]:
    """What gradio.mount_gradio_app is told of the looks."""
    return {"theme": theme(), "head": HEAD}


def theme() -> gr.themes.Base:
    """The theme, in light and dark."""
    made = gr.themes.Base(
        primary_hue=CLAY,
        secondary_hue=PAPER,
        neutral_hue=PAPER,
        spacing_size=gr.themes.sizes.spacing_sm,
        radius_size=gr.themes.sizes.radius_md,
        text_size=gr.themes.sizes.text_md,
        font=SANS,
        font_mono=MONO,
    )
    return made.set(**COLOURS)
