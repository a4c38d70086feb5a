"""The samplers by their names in A1111, and the words of the Kohya GUI for them. Works without torch."""

from __future__ import annotations

from typing import Any, Literal, get_args

KARRAS = " Karras"
"""At the end of a name: noise levels by Karras et al. 2022 (arXiv 2206.00364, equation 5)."""
SamplerName = Literal[
    "DPM++ 2M Karras", "DPM++ 2M", "DPM++ 2S Karras", "DPM++ 2S", "Euler a", "Euler Karras", "Euler", "Heun Karras",
    "Heun", "DPM2 Karras", "DPM2", "DPM2 a Karras", "DPM2 a", "LMS Karras", "LMS", "DDIM", "PLMS", "DPM 2M Karras",
    "DPM 2M",
]  # fmt: skip
NAMES: tuple[str, ...] = get_args(SamplerName)
WORDS = {
    "DDIM": "ddim", "PLMS": "pndm", "LMS": "lms", "Euler": "euler", "Euler a": "euler_a", "Heun": "heun",
    "DPM2": "dpm_2", "DPM2 a": "dpm_2_a", "DPM 2M": "dpmsolver", "DPM++ 2M": "dpmsolver++", "DPM++ 2S": "dpmsingle",
}  # fmt: skip
"""What the Kohya GUI calls them."""
_KNOWN = {name.lower(): name for name in NAMES} | {word: name for name, word in WORDS.items()}


def name_of(written: Any) -> Any:
    """A sampler's name, however it is written: `euler_a`, `k_euler_a`, `euler a`; what is none stays as it is."""
    text = written.strip().lower() if isinstance(written, str) else ""
    return _KNOWN.get(text) or _KNOWN.get(text.removeprefix("k_")) or written
