"""Networks in the words of the Kohya GUI and of sd-scripts: LoRA_type, network_module and network_args."""

from __future__ import annotations

from typing import Any, NamedTuple

from trainer.config import PRESETS, Blocks, Config, Kohya
from trainer.kohya.reader import Reader
from trainer.kohya.words import ALGOS, NETWORK_ARGUMENTS
from trainer.tree import Tree


class Type(NamedTuple):
    """What a LoRA_type of the GUI is: its type here, and the keys that it passes on to the trainer beside its size."""

    type: str
    module: str
    keys: str
    preset: str = ""


_PLUS = "loraplus_lr_ratio loraplus_unet_lr_ratio loraplus_text_encoder_lr_ratio"
_BLOCKS = (
    "down_lr_weight mid_lr_weight up_lr_weight block_lr_zero_threshold block_dims block_alphas conv_block_dims"
    f" conv_block_alphas rank_dropout module_dropout {_PLUS}"
)
_SMALL = f"conv_dim conv_alpha rank_dropout module_dropout use_tucker {_PLUS}"
_LYCORIS = f"LyCORIS_preset conv_dim conv_alpha {_PLUS}"
_NORMED = f"{_LYCORIS} rank_dropout module_dropout train_norm"
_COMPOSED = f"{_NORMED} bypass_mode dora_wd rank_dropout_scale use_scalar use_tucker"
TYPES = {
    "Kohya DyLoRA": Type("dylora", "networks.dylora", f"{_BLOCKS} conv_dim conv_alpha unit", "kohya"),
    "Kohya LoCon": Type("lora", "networks.lora", f"{_BLOCKS} conv_dim conv_alpha"),
    "Kohya LoHa": Type("loha", "networks.loha", _SMALL, "kohya"),
    "Kohya LoKr": Type("lokr", "networks.lokr", f"{_SMALL} factor", "kohya"),
    "LoRA-FA": Type("lora_fa", "networks.lora_fa", _BLOCKS),
    "LyCORIS/iA3": Type("ia3", "lycoris.kohya", f"{_LYCORIS} train_on_input"),
    "LyCORIS/BOFT": Type("boft", "lycoris.kohya", _NORMED),
    "LyCORIS/Diag-OFT": Type("diag_oft", "lycoris.kohya", f"{_NORMED} rank_dropout_scale constrain rescaled"),
    "LyCORIS/DyLoRA": Type("dylora", "lycoris.kohya", f"{_NORMED} unit"),
    "LyCORIS/GLoRA": Type("glora", "lycoris.kohya", _NORMED),
    "LyCORIS/LoCon": Type("locon", "lycoris.kohya", _COMPOSED),
    "LyCORIS/LoHa": Type("loha", "lycoris.kohya", _COMPOSED),
    "LyCORIS/LoKr": Type("lokr", "lycoris.kohya", f"{_COMPOSED} factor decompose_both use_cp"),
    "LyCORIS/Native Fine-Tuning": Type(
        "native", "lycoris.kohya", "LyCORIS_preset rank_dropout module_dropout rank_dropout_scale train_norm"
    ),
    "Standard": Type("lora", "networks.lora", _BLOCKS),
}
"""The types of LoRA in the order of the GUI, for Stable Diffusion."""
CHOOSING = tuple(sorted({key for one in TYPES.values() for key in one.keys.split()}))
"""Keys that only some types pass on."""
BY_BLOCK = ("down_lr_weight", "mid_lr_weight", "up_lr_weight", "block_dims")


def read_network(reader: Reader) -> None:
    """The type of network, and what its type alone decides; its numbers follow by the schema's marks."""
    kind = reader.take("LoRA_type", str) or "Standard"
    found = TYPES["LyCORIS/LoCon" if kind == "LoCon" else kind]
    if found.type != "lora":
        reader.put("network.type", found.type, "LoRA_type")
    for key in CHOOSING:
        if key in reader.left and key not in found.keys.split():
            drop(reader, key, f"LoRA_type {kind} does not read it")
    if found.preset:
        reader.put("network.preset", found.preset, "LoRA_type")
    elif preset := reader.take("LyCORIS_preset", str):
        reader.put("network.preset" if preset in PRESETS else "network.filter", preset, "LyCORIS_preset")
    if found.type in ("lora", "lora_fa"):
        _read_blocks(reader)
    else:
        _read_lycoris(reader)


def drop(reader: Reader, key: str, why: str) -> None:
    """Takes a key that the GUI does not pass on either."""
    if key in reader.left:
        reader.say(key, "unused" if reader.left[key] not in ("", None) else "same", why)


def _read_blocks(reader: Reader) -> None:
    """What counts only beside other keys, which sd-scripts leaves unread without them."""
    if not reader.peek("conv_dim", int):
        drop(reader, "conv_alpha", "it counts only beside Convolution Rank")
    weighted = any(reader.peek(key, str) for key in BY_BLOCK[:3])
    if not weighted:
        drop(reader, "block_lr_zero_threshold", "it counts only beside weights of blocks")
    if not weighted and not reader.peek("block_dims", str):
        for key in ("block_alphas", "conv_block_dims", "conv_block_alphas"):
            drop(reader, key, "it counts only beside Block dims or weights of blocks")
    elif not reader.peek("conv_block_dims", str):
        drop(reader, "conv_block_alphas", "it counts only beside Conv dims")


def _read_lycoris(reader: Reader) -> None:
    """What LyCORIS computes otherwise than its keys say, or not at all."""
    if reader.take("dim_from_weights", bool):
        reader.refuse("dim_from_weights", "LyCORIS's types take their size from network_dim: set it to false")
    if reader.peek("bypass_mode", bool):
        if reader.take("dora_wd", bool):
            reader.say("dora_wd", "unused", "bypass_mode never sees the whole weight that it decomposes", loud=True)
    elif reader.take("network_dropout", float):
        reader.say("network_dropout", "unused", "LyCORIS drops neurons in bypass_mode alone", loud=True)
    if reader.take("use_cp", bool):
        reader.take("use_tucker", bool)
        reader.put("network.tucker", True, "use_cp")
    if reader.peek("factor", int) == 0:
        reader.take("factor", int)
        reader.put("network.factor", 1, "factor")


def kind_of(network: Any) -> str:
    """The GUI's LoRA_type of a network; '' where it has none."""
    if network.type == "lora" and network.conv_rank is not None:
        return "Kohya LoCon"
    preset = "kohya" if getattr(network, "preset", "") == "kohya" and not network.filter else ""
    kinds = [name for name, one in TYPES.items() if one.type == network.type]
    exact = [name for name in kinds if TYPES[name].preset == preset]
    return (exact or [name for name in kinds if not TYPES[name].preset] or [""])[-1]


def write_network(config: Config, tree: Tree) -> None:
    """The type, and the keys that other types would read."""
    network = config.network
    tree["LoRA_type"] = kind_of(network) or "Standard"
    if isinstance(network, Blocks):
        if tree["LoRA_type"] != "Kohya LoCon":
            tree |= {"conv_dim": 1, "conv_alpha": 1}
    elif getattr(network, "filter", None):
        tree["LyCORIS_preset"] = network.filter
    elif tree.get("LyCORIS_preset") == "kohya":
        tree["LyCORIS_preset"] = "full"


def module_of(network: Any) -> str:
    """`ss_network_module`."""
    return TYPES[kind_of(network)].module


def arguments_of(network: Any) -> dict[str, str]:
    """`ss_network_args` without its `dropout`: every option that is not at rest, in the words of sd-scripts."""
    own = TYPES[kind_of(network)]
    names = {key: name for name, key in NETWORK_ARGUMENTS.items()} if own.module == "lycoris.kohya" else {}
    found: dict[str, str] = {}
    for option, field in type(network).model_fields.items():
        key = next((mark.key for mark in field.metadata if isinstance(mark, Kohya)), "")
        value = getattr(network, option)
        if key in CHOOSING and value is not None and (value != field.default or key in ("LyCORIS_preset", "factor")):
            found[names.get(key, key)] = _text(value)
    if getattr(network, "conv_rank", None) is not None and hasattr(network, "conv_alpha"):
        found["conv_alpha"] = _text(network.conv_alpha)
    else:
        found.pop("conv_alpha", None)
    if own.module == "lycoris.kohya":
        found["algo"] = next(algo for algo, kind in reversed(ALGOS.items()) if TYPES[kind].type == network.type)
        found |= {"preset": network.filter.replace("\\", "/").rsplit("/", 1)[-1]} if network.filter else {}
        found |= {name: "True" for name in ("rs_lora",) if getattr(network, name, False)}
    else:
        found.pop("LyCORIS_preset", None)
    return found


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(f"{number:g}" for number in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
