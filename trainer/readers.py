"""Which programs load which network: docs/networks.md, made by `python -m trainer.readers > docs/networks.md`."""

from __future__ import annotations

from typing import get_args

from trainer.config import Network
from trainer.kohya.networks import TYPES
from trainer.tree import members

PROGRAMS = ("A1111", "Forge", "ComfyUI", "InvokeAI", "diffusers")
LOADS = {
    "LoRA, LoRA-FA, LoCon, DyLoRA": ("yes", "yes", "yes", "yes", "yes"),
    "… with DoRA": ("1.9 and newer", "yes", "yes", "yes", "no"),
    "… with Tucker": ("yes", "yes", "yes", "yes", "no"),
    "LoHa": ("yes", "yes", "yes", "yes", "no"),
    "LoKr": ("yes", "yes", "yes", "yes", "no"),
    "LoHa, LoKr with DoRA": ("1.9 and newer", "yes", "yes", "no", "no"),
    "GLoRA": ("yes", "yes", "yes", "no", "no"),
    "(IA)³": ("yes", "no", "no", "yes", "no"),
    "Diag-OFT": ("1.7 and newer", "no", "yes", "no", "no"),
    "BOFT": ("1.9 and newer", "no", "yes", "no", "no"),
    "Native fine-tuning": ("yes", "yes", "yes", "yes", "no"),
    "Norms (train_norm)": ("yes", "yes", "yes", "yes", "no"),
}
"""Whether each of PROGRAMS has code for a type's names. diffusers was tried by the tests, and so is this table; the
others were read in their sources: A1111 extensions-builtin/Lora, Forge packages_3rdparty/comfyui_lora_collection,
ComfyUI comfy/lora.py and comfy/weight_adapter, InvokeAI invokeai/backend/patches/layers."""
HEAD = """# Networks

Made from the code by `python -m trainer.readers > docs/networks.md`.

A network is what is trained beside the frozen base model. `network.type` chooses it; each type has options of its own
(docs/options.md), and the page shows those alone. The maths of all but LoRA and LoRA-FA is lycoris-lora's.

| `network.type` | in the Kohya GUI | what it is |
| --- | --- | --- |
"""
PROGRAM_HEAD = """
## Which programs load what

All files have kohya's names. A program that lacks a type skips its layers, or refuses the file.

"""
TAIL = """
diffusers was tried: the test suite loads a file of each row into a pipeline of 0.42 and compares what it predicts. Of a
DoRA it drops the norms with a warning, and draws other pictures; all else that it lacks it refuses. The others were
read in their published sources in November 2026: A1111 `extensions-builtin/Lora`, Forge
`packages_3rdparty/comfyui_lora_collection`, ComfyUI `comfy/lora.py` and `comfy/weight_adapter`, InvokeAI
`invokeai/backend/patches/layers`. InvokeAI takes DoRA for a LoRA alone. ComfyUI passes over what a Diag-OFT learns by
`rescaled`, and takes `constraint` as it is, not times the rows of a layer: leave both off for it.

## What differs from lycoris-lora, and why

- Its walk over the model names a layer twice with Stable Diffusion 1.5 (4.1.3) and fails, and its preset attn-only
  finds no layer in diffusers' UNet. The walk here knows both, and gives the layers that sd-scripts trains.
- It adds a change to the weight in the base model's precision before it takes the weight off again: in bf16 small
  changes are lost. Here that sum is done in float32.
- Its draws come from global generators. Here the first values follow from the seed and the layer's name, and dropouts
  and a DyLoRA's ranks from the seed and the step, so that a resumed training is the same to the bit.
- Its DyLoRA trains with alpha / number of blocks and saves alpha, which readers divide by the rank. Here both are
  alpha / rank, and samples are made with all ranks.
- Its DyLoRA saves the up matrices of convolutions without their window of 1 x 1, and cannot read them back. Here they
  have it.
- A scalar is multiplied into its weights when a file is saved, as there; the state to resume from keeps both.
- Norms are trained without dropout of rows: its own keeps the rows that it should leave out. Diag-OFT has none either:
  its own drops parts of the rotation itself, and with them parts of the base model.

## What differs from peft

LoHa, LoKr, DoRA and (IA)³ compute what peft's do, to 1e-6. OFT and BOFT cannot: of a layer W, outputs by inputs, those
of lycoris-lora make R W, which is what A1111 and ComfyUI read, and peft's make W R, as the papers do (Qiu et al. 2023,
arXiv 2306.07280; Liu et al. 2024, arXiv 2311.06243). W R keeps the angles between the rows of W, whatever R is, and R W
does not: no matrices of peft's give the same. The rotation itself is alike: peft's, of the transposed layer, is ours to
1e-6.

## Blocks

LoRA and LoRA-FA take a rank, an alpha and a share of the UNet's rate for each block. SD1.5 has 25 blocks: 12 down (the
first has no layer), 1 in the middle, 12 up. SDXL has 23: one without a layer, 9 input blocks, 3 in the middle, 9 output
blocks, and one without a layer.
Weights are lists of 12, 1 and 12 numbers (SDXL: 9, 3 and 9), or a curve: `sine`, `cosine`, `linear`, `reverse_linear`,
`zeros`, with such as `+0.25` behind to lift it. A block of weight 0 or rank 0 is left out. A list of another length is
refused, where sd-scripts cuts it or fills it with 1.

## Pivotal tuning

`pivotal` trains new words together with a LoRA of any type: `--set pivotal.token=zk9 --set pivotal.init_word=woman`, or
LoRA > Parameters > Advanced > Pivotal tuning. Captions and prompts hold the words as they are written. `pivotal.rate`
is their own learning rate, and from `pivotal.stop` on, such as `50%`, they stay as they are while the LoRA goes on.

`pivotal.files` says where the vectors are kept. In the LoRA's file they are `bundle_emb.<word>.string_to_param.*`, for
SDXL `bundle_emb.<word>.clip_l` and `.clip_g`: A1111's form, which OneTrainer writes too. A1111 knows the words as soon
as the LoRA is worn, and so do Generate, grids and comparisons here. ComfyUI passes over them, and takes the file that
lies beside the LoRA as an embedding. diffusers refuses a LoRA that holds anything else: choose `apart` for it, and
`load_lora_weights` reads the one file, `load_textual_inversion` the other.

## Filter files

`network.filter` is a TOML file in LyCORIS's form and outranks the preset: `enable_conv`, `unet_target_module`,
`unet_target_name`, `text_encoder_target_module`, `text_encoder_target_name`, `exclude_name`, `use_fnmatch`,
`module_algo_map` and `name_algo_map`, with options of their own for some layers (`algo`, `dim`, `alpha`, `factor` and
others). Names are those of sd-scripts: diffusers' for SD1.5, Stability's (`input_blocks.4.1...`) for SDXL.
"""


def document() -> str:
    """The whole page."""
    rows = []
    for kind in members(get_args(Network)[0]):
        word = kind.model_fields["type"].default
        names = [name for name, one in TYPES.items() if one.type == word]
        if names:
            rows.append(f"| `{word}` | {', '.join(names)} | {(kind.__doc__ or '').splitlines()[0]} |")
    lines = [f"| | {' | '.join(PROGRAMS)} |", f"|{' --- |' * (1 + len(PROGRAMS))}"]
    lines += [f"| {name} | {' | '.join(loads)} |" for name, loads in LOADS.items()]
    return HEAD + "\n".join(rows) + "\n" + PROGRAM_HEAD + "\n".join(lines) + "\n" + TAIL


if __name__ == "__main__":
    print(document(), end="")
