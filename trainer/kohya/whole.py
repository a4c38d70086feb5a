"""Files of the Kohya GUI's Dreambooth and Finetuning tabs: those of their keys that the LoRA tab does not have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainer.config import Config, Full
from trainer.kohya import table
from trainer.kohya.reader import Reader
from trainer.tree import Tree

TABS = ("Dreambooth", "Finetuning")
FRESH: dict[str, Any] = json.loads((Path(__file__).parent / "fresh_dreambooth.json").read_text("utf-8"))
"""What the Dreambooth tab saves from a fresh page: all 175 keys with their first values."""
UNUSED = {
    "batch_size": "pictures are encoded one by one, or as model.vae_batch says",
    "full_path": "pictures are found by their content",
    "generate_image_buckets": "sizes are found anew for each training",
    "disable_mmap_load_safetensors": "models are read a tensor at a time, which needs no setting",
}
FLUX = ("flux1_clip_l", "flux1_t5xxl", "blockwise_fused_optimizers", "flux_fused_backward_pass")
RATES = {"learning_rate_te": "SD1.5", "learning_rate_te1": "SDXL", "learning_rate_te2": "SDXL"}
KEYS = {
    *(*UNUSED, *FLUX, *RATES, "fused_optimizer_groups", "no_token_padding", "train_text_encoder", "sdxl_checkbox"),
    *("image_folder", "dataset_repeats", "train_dir", "caption_metadata_filename", "latent_metadata_filename"),
    *("generate_caption_database", "use_latent_files"),
}
"""What neither the schema nor the LoRA tab names."""
FILES = (".safetensors", ".ckpt", ".pt", ".bin")


def tab_of(tree: Tree) -> str:
    """The tab of the Kohya GUI that a file was saved from: "LoRA", "Dreambooth", "Finetuning", ..."""
    for tab, keys in table.TABS.items():
        if any(key in tree for key in keys):
            return tab
    if table.DREAMBOOTH_KEYS & tree.keys() and not table.LORA_KEYS & tree.keys():
        return "Dreambooth"
    return "LoRA"


def read_whole(reader: Reader) -> None:
    """Chooses the training of the model's own weights, and reads what it alone has; rates of text encoders follow."""
    reader.put("network", {"type": "full_model"}, "learning_rate_te")
    if "sdxl_checkbox" in reader.left:
        reader.add({"sdxl": reader.take("sdxl_checkbox", bool)})
        reader.say("sdxl", "converted", "read from sdxl_checkbox")
        reader.left["sdxl"] = reader.peek("sdxl_checkbox", bool)
    sdxl = bool(reader.peek("sdxl", bool))
    _read_pictures(reader)
    _read_form(reader)
    _read_fused(reader, sdxl)
    blocks = reader.take("block_lr", str)
    if blocks and sdxl:
        reader.put("network.block_rates", blocks, "block_lr")
    elif blocks:
        reader.say("block_lr", "unused", "the Kohya GUI reads it for SDXL alone", loud=True)
    if reader.take("no_token_padding", bool):
        reader.refuse("no_token_padding", "captions are filled up here, as the model learned them: set it to false")
    for key in [key for key in reader.left if key in UNUSED]:
        reader.say(key, "same", UNUSED[key])
    for key in [key for key in reader.left if key in FLUX]:
        reader.say(key, "family", "only Flux.1 reads it")


def read_text_rates(reader: Reader, relative: bool) -> None:
    """The text encoders' rates and their end: 0 leaves one as it is. Where Adafactor finds the rates, it finds these.

    The GUI drops a 0, so that sd-scripts trains at `learning_rate`; what was meant is taken, and told.
    """
    sdxl = bool(reader.peek("sdxl", bool))
    share = reader.take("stop_text_encoder_training", int)
    off = (share or 0) < 0 or reader.take("train_text_encoder", bool) is False
    if share and share > 0:
        reader.put("network.text_stop", f"{share}%" if share < 100 else None, "stop_text_encoder_training")
    keys = ("learning_rate_te1", "learning_rate_te2") if sdxl else ("learning_rate_te",) * 2
    for key, part in zip(keys, ("text_encoder", "text_encoder_2"), strict=True):
        rate = reader.peek(key, float)
        reader.take(key, float)
        if off or rate == 0:
            reader.put(f"rates.{part}", None, key)
            if rate == 0 and not off:
                reader.say(key, "converted", "the text encoder is not trained", loud=True)
        elif rate is not None:
            reader.put(f"rates.{part}", "same" if relative else rate, key)
    for key in [key for key in reader.left if key in RATES]:
        reader.say(key, "unused", f"{RATES[key]} alone reads it")


def _read_pictures(reader: Reader) -> None:
    """The Finetuning tab's folder and repeats, and the file of captions where it is not made anew."""
    if folder := reader.take("image_folder", str):
        reader.add({"train_data_dir": folder})
        reader.say("image_folder", "converted", "read as train_data_dir")
        reader.left["train_data_dir"] = folder
    if repeats := reader.take("dataset_repeats", int):
        reader.put("data.repeats", repeats, "dataset_repeats")
    latents = reader.take("use_latent_files", str) != "No"
    made = reader.take("generate_caption_database", bool)
    names = [reader.take(key, str) for key in ("caption_metadata_filename", "latent_metadata_filename")]
    place = reader.take("train_dir", str)
    name = names[1] if latents else names[0]
    if made is False and place and name:
        reader.put("data.metadata", str(Path(place) / name), "train_dir")
    elif made is not None:
        reader.say("generate_caption_database", "same", "captions are read from the image folder at each training")


def _read_form(reader: Reader) -> None:
    """In which form the model is saved."""
    form = reader.take("save_model_as", str)
    if not form:
        return
    base = reader.peek("pretrained_model_name_or_path", str) or ""
    if form == "same as source model":
        form = "safetensors" if base.lower().endswith(FILES) else "diffusers"
    if form == "ckpt":
        reader.say("save_model_as", "converted", "saved as safetensors, which needs no trust", loud=True)
    if form == "diffusers":
        reader.say("save_model_as", "converted", "a folder for diffusers, its tensors as safetensors")
    reader.put("network.form", "diffusers" if form.startswith("diffusers") else "safetensors", "save_model_as")


def _read_fused(reader: Reader, sdxl: bool) -> None:
    """Steps in the backward pass, which never see the norm of all gradients together."""
    fused, groups = reader.take("fused_backward_pass", bool), reader.take("fused_optimizer_groups", int)
    if (fused or groups) and not sdxl:
        key = "fused_backward_pass" if fused else "fused_optimizer_groups"
        reader.say(key, "unused", "the Kohya GUI reads it for SDXL alone", loud=True)
        return
    if groups and not fused:
        said = "a step for each weight in the backward pass is taken, which saves more"
        reader.say("fused_optimizer_groups", "converted", said, loud=True)
    if fused or groups:
        reader.put("network.fused", True, "fused_backward_pass")
        reader.put("train.clip", None, "max_grad_norm")
        if reader.take("max_grad_norm", float):
            said = "not used with fused_backward_pass: there are never all gradients at once"
            reader.say("max_grad_norm", "converted", said, loud=True)


def write_whole(config: Config, network: Full, tree: Tree, extra: Tree) -> None:
    """The Dreambooth tab's own keys; what it cannot say is left as on a fresh page."""
    rate = config.optimizer.lr or FRESH["learning_rate"]
    rates = {part: rate if own == "same" else own or 0 for part, own in config.rates}
    first, second = rates["text_encoder"], rates["text_encoder_2"]
    tree |= {"learning_rate": rates["unet"] or rate, "learning_rate_te": first}
    tree |= {"learning_rate_te1": first, "learning_rate_te2": second}
    share = network.text_stop.removesuffix("%") if isinstance(network.text_stop, str) else ""
    tree["stop_text_encoder_training"] = int(share) if share.isdigit() else 0
    for key in ("unet_lr", "text_encoder_lr"):
        extra.pop(key, None)  # keys of the LoRA tab
    tree["save_model_as"] = "diffusers_safetensors" if network.form == "diffusers" else "safetensors"
