"""From the keys of the Kohya GUI to options of ours, part by part."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from pydantic.fields import FieldInfo

from trainer.config import Config, Kohya
from trainer.dataset_toml import read_dataset
from trainer.kohya import inversion, networks, table, whole
from trainer.kohya.learning import finds_rate, read_optimizer, read_rates, read_schedule
from trainer.kohya.reader import Reader, did_you_mean, places
from trainer.kohya.words import WordError, arguments, kind_of
from trainer.tree import fields, overlay

MAPPED: dict[str, tuple[str, dict[Any, Any]]] = {
    "sdxl": ("model.family", {False: "auto", True: "sdxl"}),
    "v_parameterization": ("model.prediction", {False: "auto", True: "v"}),
    "sdxl_no_half_vae": ("model.vae_precision", {False: "auto", True: "fp32"}),
    "sdxl_cache_text_encoder_outputs": ("data.cache_text", {False: False, True: True}),
    "random_crop": ("data.crop", {False: "center", True: "random"}),
    "no_metadata": ("output.metadata", {False: True, True: False}),
    "save_precision": ("save.precision", {"float": "fp32", "fp16": "fp16", "bf16": "bf16"}),
    "xformers": ("train.attention", {kernel: kernel for kernel in ("sdpa", "xformers", "none")}),
    "fp8_base": ("memory.base_weights", {False: "same", True: "fp8"}),
    "template": ("network.template", inversion.TEMPLATES),
    "num_repeats": ("data.repeats", {}),
    "--sample_prompts": ("sample.file", {}),
}
"""Keys whose values have other names here: the option, and its value for each of Kohya's; no values means as it is.

False of `v_parameterization` and `sdxl` is auto, as the GUI sets these boxes from the file too.
"""
BY_HAND = {"no_half_vae", "cache_text_encoder_outputs"}  # the schema's marks name sd-scripts' arguments
MARKED = {mark.key for _, field in fields() for mark in field.metadata if isinstance(mark, Kohya)} - BY_HAND
KNOWN = {*table.FRESH, *MAPPED, *MARKED, *whole.KEYS}
ABSENT = "is not supported: Stable Diffusion 1.5 and SDXL are"


def read_all(reader: Reader) -> None:
    """Everything: the parts that decide which options there are, then all other keys by the schema's marks."""
    of_model = whole.tab_of(reader.left) in whole.TABS
    expand(reader)
    read_dataset_file(reader)
    refuse(reader)
    read_model(reader)
    if of_model:
        whole.read_whole(reader)
    elif not inversion.read_words(reader):
        read_type(reader)
    read_optimizer(reader)
    read_schedule(reader)
    read_rates(reader)
    if of_model:
        whole.read_text_rates(reader, finds_rate(reader))
    read_noise_and_loss(reader)
    read_data(reader)
    read_length(reader)
    read_precision(reader)
    read_saving(reader)
    read_marked(reader)
    read_rest(reader)
    reader.check()


def expand(reader: Reader) -> None:
    """Puts extra arguments and old names in the place of the keys that they stand for."""
    if extra := reader.take("additional_parameters", str):
        try:
            reader.add(arguments(extra, KNOWN))
        except WordError as error:
            reader.refuse("additional_parameters", str(error))
    for old in [key for key in reader.left if key in (*table.LEGACY, *table.LEGACY_VALUES)]:
        new, value = modern(reader, old)
        if new in reader.left or value is None:
            reader.say(old, "unused" if value is not None else "same", f"{new} is given, and wins")
        else:
            reader.say(old, "converted", f"read as {new}")
            reader.add({new: value})


def read_dataset_file(reader: Reader) -> None:
    """Puts what a dataset file of sd-scripts says on top; its path counts from the file that names it."""
    if dataset := reader.take("dataset_config", str):
        shared, subsets = read_dataset(Path(reader.name).parent / Path(dataset).expanduser())
        reader.add(shared)
        reader.put("data.subsets", subsets, "dataset_config")
        reader.say("dataset_config", "converted", "its pictures and captions outrank this file's", loud=True)
        for key in ("train_data_dir", "reg_data_dir"):
            if reader.take(key, str):
                reader.say(key, "unused", "dataset_config names the folders")


def modern(reader: Reader, old: str) -> tuple[str, Any]:
    """Today's key for an old one, and its value."""
    value = reader.left[old]
    match old:
        case "use_8bit_adam":
            return "optimizer", "AdamW8bit" if reader.peek(old, bool) else "AdamW"
        case "use_wandb" | "use_wandb_checkbox":
            return "log_with", "wandb" if reader.peek(old, bool) else ""
        case "locon":
            return "LoRA_type", "LoCon" if reader.peek(old, bool) else "Standard"
        case "network_train":
            word = str(value).lower()
            only = ("unet" in word) != ("text" in word)
            return "text_encoder_lr" if "unet" in word else "unet_lr", 0 if only else None
        case _:
            return table.LEGACY[old], value


def idle(reader: Reader, key: str) -> bool:
    """Whether a key is off, or as on a fresh page where that asks for nothing."""
    value = reader.left[key]
    return value in ("", 0, False, None, *table.HARMLESS.get(key, ())) or str(value).lower() in ("false", "0", "no")


def refuse(reader: Reader) -> None:
    """Refuses families and methods that are not here: nothing is trained as something else."""
    for key in [key for key in table.REFUSED if key in reader.left]:
        if idle(reader, key):
            reader.say(key, "same")
        else:
            reader.refuse(key, table.REFUSED[key])


def read_model(reader: Reader) -> None:
    """The family and the base model."""
    sdxl = reader.peek("sdxl", bool)
    for key, family in table.FAMILIES.items():
        on = reader.take(key, bool)
        if on and not sdxl:
            reader.refuse(key, f"{family} {ABSENT}")
        elif on is not None:
            reader.say(key, "unused" if on else "family", "sdxl is on, and wins" if on else "")
    if not sdxl:
        for key in ("sdxl_no_half_vae", "sdxl_cache_text_encoder_outputs"):
            if reader.take(key, bool) is not None:
                reader.say(key, "unused", "sdxl is off")
    for key, dotted in (("pretrained_model_name_or_path", "model.base"), ("train_data_dir", "data.images")):
        if value := reader.take(key, str):
            reader.put(dotted, value, key)
        elif dotted != "data.images" or "data.subsets" not in reader.sources:
            default = {"model.base": "pocket", "data.images": "zk9"}[dotted]
            reader.say(key, "same", f"not given: the shipped `{default}` is taken", loud=True)


def read_type(reader: Reader) -> None:
    """The type of LoRA, if it is one of Stable Diffusion."""
    kind = str(reader.left.get("LoRA_type") or "Standard")
    if kind in table.FAMILY_TYPES:
        reader.refuse("LoRA_type", f"{table.FAMILY_TYPES[kind]} {ABSENT}")
    elif kind not in (*networks.TYPES, "LoCon"):
        reader.refuse("LoRA_type", f"is not known: {', '.join(networks.TYPES)} are here")
    else:
        networks.read_network(reader)


def read_noise_and_loss(reader: Reader) -> None:
    """Which noise and which loss; their numbers follow by the schema's marks."""
    kind = reader.take("noise_offset_type", str) or "Original"
    if kind not in ("Original", "Multires"):
        reader.refuse("noise_offset_type", "is not known: write Original or Multires")
    switch, ours = ("multires_noise_iterations", "multires") if kind == "Multires" else ("noise_offset", "offset")
    number = int if ours == "multires" else float
    if reader.peek(switch, number):
        reader.put("objective.noise", {"type": ours}, switch)
    elif reader.take(switch, number) is not None:
        reader.put("objective.noise", {"type": "plain"}, switch)
    if loss := reader.take("loss_type", str):
        reader.put("objective.loss", {"type": loss}, "loss_type")


def read_data(reader: Reader) -> None:
    """Buckets, caches, and the text of sample prompts."""
    buckets = reader.take("enable_bucket", bool)
    if buckets is not None:
        reader.put("data.buckets", {} if buckets else None, "enable_bucket")
    steps = reader.peek("bucket_reso_steps", int)
    if buckets is not False and steps and steps % 8 and reader.take("bucket_reso_steps", int):
        unit = 32 if reader.peek("sdxl", bool) else 64
        whole = -(-steps // unit) * unit
        reader.put("data.buckets.step", whole, "bucket_reso_steps")
        said = f"{whole} is taken: buckets have sides in steps of {unit}, and today's sd-scripts refuses {steps} too"
        reader.say("bucket_reso_steps", "converted", said, loud=True)
    cache, disk = reader.take("cache_latents", bool), reader.peek("cache_latents_to_disk", bool)
    if cache is not None or disk:
        reader.put("data.cache_latents", bool(cache or disk), "cache_latents")
    if disk and cache is False:
        reader.say("cache_latents", "converted", "cache_latents_to_disk is on, which turns it on", loud=True)
    read_masks(reader)
    prompts = reader.take("sample_prompts", str)
    if prompts is not None:
        lines = [line.strip() for line in prompts.splitlines()]
        reader.put("sample.prompts", [line for line in lines if line and line[0] != "#"], "sample_prompts")


def read_masks(reader: Reader) -> None:
    """Masked loss, which sd-scripts leaves at whole pictures where no masks are named."""
    subsets = reader.tree.get("data", {}).get("subsets", ())
    named = reader.peek("alpha_mask", bool) or any(one.get("masks") or one.get("alpha_mask") for one in subsets)
    if reader.take("masked_loss", bool) and not named:
        said = "no masks are named, so whole pictures are trained, as in sd-scripts; set data.alpha_mask or data.masks"
        reader.say("masked_loss", "unused", said, loud=True)


def read_length(reader: Reader) -> None:
    """Epochs or steps. The GUI's page holds 1600 steps, which outrank its Epoch field: what was meant is told."""
    given = {key: reader.take(key, int) for key in ("max_train_epochs", "max_train_steps", "epoch")}
    epochs, steps, epoch = given.values()
    if epochs:
        reader.put("train.epochs", epochs, "max_train_epochs")
        if steps:
            said = f"max_train_epochs {epochs} is given and wins, as in sd-scripts"
            reader.say("max_train_steps", "unused", said, loud=True)
        if epoch is not None and epoch != epochs:
            reader.say("epoch", "unused", f"max_train_epochs {epochs} is given and wins", loud=True)
    elif steps:
        reader.put("train.steps", steps, "max_train_steps")
        reader.put("train.epochs", None, "max_train_steps")
        fresh = ", the number on a fresh page of the Kohya GUI," if steps == table.FRESH["max_train_steps"] else ""
        if epoch is not None:
            said = f"max_train_steps {steps}{fresh} is in the file and wins, as in the Kohya GUI"
            remedy = f"for {epoch} epochs set train.epochs={epoch} and train.steps=null"
            reader.say("epoch", "unused", f"{said}; {remedy}", loud=True)
    elif epoch:
        reader.put("train.epochs", epoch, "epoch")
        if given["max_train_steps"] is None:
            said = f"{epoch} epochs: the file has no max_train_steps; the Kohya GUI would take its page's, such as 1600"
            reader.say("epoch", "converted", said, loud=True)
    else:
        default = Config().train.epochs
        reader.say("epoch", "same", f"the file says no length: {default} epochs are taken", loud=True)


def read_precision(reader: Reader) -> None:
    """Mixed precision, and whether the trained weights take it too."""
    mixed = reader.take("mixed_precision", str)
    if mixed == "fp8":
        return reader.refuse("mixed_precision", "fp8 is not supported: write bf16 or fp16")
    full = {kind: reader.take(f"full_{kind}", bool) for kind in ("fp16", "bf16")}
    for kind in (kind for kind, on in full.items() if on):
        if mixed and mixed != kind:
            reader.refuse(f"full_{kind}", f"needs mixed_precision {kind}, which is {mixed}: change one of them")
        mixed = kind
    if mixed:
        reader.put("train.precision", mixed, "mixed_precision")
    if any(on is not None for on in full.values()):
        reader.put("train.full", any(full.values()), "full_fp16" if full["fp16"] else "full_bf16")
    return None


def read_saving(reader: Reader) -> None:
    """What is kept of the files saved on the way; sd-scripts counts a distance in steps, this counts files."""
    if (form := reader.take("save_model_as", str)) == "ckpt":
        reader.say("save_model_as", "unsupported", "a LoRA is saved as safetensors, which every tool reads")
    elif form not in (None, "", "safetensors"):
        reader.say("save_model_as", "same", "safetensors, as the Kohya GUI reads it")
    read_kept(reader, "save.keep_last", "files", "")
    read_kept(reader, "save.state_keep", "states", "_state")


def read_kept(reader: Reader, dotted: str, what: str, ending: str) -> None:
    """How many files or states are kept."""
    by_epochs, by_steps = f"save_last_n_epochs{ending}", f"save_last_n_steps{ending}"
    epochs, steps = reader.take(by_epochs, int), reader.take(by_steps, int)
    every = reader.peek("save_every_n_steps", int)
    if epochs:
        reader.put(dotted, epochs, by_epochs)
        if steps:
            said = f"one number is kept for {what} of epochs and of steps: that of {by_epochs}"
            reader.say(by_steps, "unsupported", said)
    elif steps and every:
        reader.put(dotted, steps // every + 1, by_steps)
        reader.say(by_steps, "converted", f"the newest {steps // every + 1} {what}")
    elif steps:
        reader.say(by_steps, "unused", "save_every_n_steps is off")


def read_marked(reader: Reader) -> None:
    """Every key that the schema names, where the chosen parts have its option."""
    whole = overlay(Config().model_dump(mode="json"), reader.tree)
    here = {key: (dotted, field) for key, dotted, field in places(whole) if key and key not in BY_HAND}
    for key in [*reader.left]:
        if key in MAPPED:
            read_mapped(reader, key)
        elif key in here:
            read_plain(reader, key, *here[key])
        elif key in MARKED:
            reader.say(key, "unused", "what this file chooses has no such option")
    if reader.tree.get("train", {}).get("attention") == "none":
        read_plain_attention(reader)
    if reader.tree.get("seed") == 0:
        said = "the Kohya GUI draws a seed for 0; here 0 is one, the same each time"
        reader.say("seed", "converted", said, loud=True)


def read_plain_attention(reader: Reader) -> None:
    """Attention that is not computed by a kernel: the Kohya GUI has a check box that saves its memory all the same."""
    if reader.peek("mem_eff_attn", bool):
        reader.put("train.attention", "sdpa", "mem_eff_attn")
        reader.say("mem_eff_attn", "same", "sdpa is taken, which computes the same and saves as much memory", loud=True)
    else:
        said = "as in the Kohya GUI; train.attention=sdpa computes the same, faster and in far less memory"
        reader.say("xformers", "converted", said, loud=True)


def read_mapped(reader: Reader, key: str) -> None:
    """A key whose values have other names here."""
    dotted, values = MAPPED[key]
    value = reader.left[key]
    if key == "xformers" and isinstance(value, bool):
        reader.add({key: "xformers" if value else "none"})  # a check box until August 2023
    kind = type(next(iter(values))) if values else int if key == "num_repeats" else str
    value = reader.take(key, kind)
    if value in (None, ""):
        reader.say(key, "same")
    elif values and value not in values:
        reader.refuse(key, f"is not one of {', '.join(map(str, values))}")
    else:
        reader.put(dotted, values.get(value, value), key)


def read_plain(reader: Reader, key: str, dotted: str, field: FieldInfo) -> None:
    """A key that is an option: 0 and '' turn off what can be off, and else 0 stays 0."""
    value = reader.take(key, kind_of(field.annotation))
    nothing = value in ("", 0) and not isinstance(value, bool)
    if nothing and type(None) in get_args(field.annotation):
        reader.put(dotted, None, key)
    elif value is None or (nothing and key == "vae_batch_size"):
        reader.say(key, "same")
    elif value == "" and field.default != "":
        reader.say(key, "same", f"empty: {field.default} is taken", loud=True)
    else:
        reader.put(dotted, value, key)


def read_rest(reader: Reader) -> None:
    """What has no option: said for each key, as far as it asks for something."""
    for key in [*reader.left]:
        off = idle(reader, key)
        if key in table.SECRETS:
            reader.say(key, "same") if off else reader.say(key, "secret", "is left behind: secrets are never kept")
        elif key in table.UNSUPPORTED:
            if off or reader.left[key] == table.FRESH[key]:
                reader.say(key, "same")
            else:
                reader.say(key, "unsupported", f"is not used: {table.UNSUPPORTED[key]}")
        elif key in table.SAME:
            reader.say(key, "same", table.SAME[key])
        elif key in table.DEAD:
            reader.say(key, "unused", table.DEAD[key])
        elif key in table.FAMILY_KEYS:
            reader.say(key, "family", f"only {table.FAMILY_KEYS[key]} reads it")
        elif key.startswith("--"):
            reader.say(key, "unsupported", "an argument that is not used here")
        else:
            reader.say(key, "unknown", f"is not a key of the Kohya GUI, and not used{did_you_mean(key)}")
