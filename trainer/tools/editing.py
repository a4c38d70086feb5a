"""What a file says about itself, changed; its tensors are copied to the bit."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

from trainer.errors import InputError
from trainer.families.header import ModelError, kind_of
from trainer.tools.loras import DOWN
from trainer.tools.options import Metadata
from trainer.tools.report import Report, Steps, Stop, Tell, never, silent
from trainer.tools.tensors import destination, existing, read_file, write, write_network

SPEC = ("title", "author", "description", "license", "tags")
KEY = re.compile(r"[\w.-]+")
HASHES = ("sshs_model_hash", "sshs_legacy_hash")


def run(options: Metadata, tell: Tell = silent, should_stop: Stop = never) -> Report:
    """Writes the file with its metadata changed; a LoRA gets its hashes anew."""
    source = existing("model", options.model)
    if source.is_dir() or kind_of(source) != "safetensors":
        raise ModelError(source, "has no metadata", "Choose a .safetensors file; `lora convert` makes one.")
    path = _target(options, source)
    tensors, metadata = read_file(source)
    changed = _changed(options, metadata)
    if changed == metadata:
        raise InputError("metadata: nothing would change; give title, author, comment, set or remove")
    is_lora = any(key.endswith(tuple(DOWN)) for key in tensors)
    (write_network if is_lora else write)(path, tensors, changed, Steps(len(tensors), tell, should_stop))
    new = sorted(key for key in changed if key not in metadata and key not in HASHES)
    other = sorted(key for key in changed if key in metadata and changed[key] != metadata[key] and key not in HASHES)
    gone = sorted(set(metadata) - set(changed))
    told = {"written": new, "changed": other, "removed": gone}
    lines = [f"{word}: {', '.join(keys)}" for word, keys in told.items() if keys]
    return Report(f"{path}: {len(new) + len(other) + len(gone)} keys are other than before.", [str(path)], lines, told)


def _target(options: Metadata, source: Path) -> Path:
    if options.save_to:
        same = Path(options.save_to).expanduser().resolve() == source.resolve()
        if not same:
            return destination(options.save_to, [source], options.overwrite)
    if not options.overwrite:
        raise InputError(f"save_to: {source} itself would be changed; give another name, or set overwrite")
    return source


def _changed(options: Metadata, metadata: dict[str, str]) -> dict[str, str]:
    kept = {key: text for key, text in metadata.items() if not any(fnmatchcase(key, one) for one in options.remove)}
    for name in SPEC:
        if (text := getattr(options, name)) is not None:
            kept[f"modelspec.{name}"] = text
    if options.comment is not None:
        kept["ss_training_comment"] = options.comment
    for line in options.set:
        key, sign, text = line.partition("=")
        if not sign or not KEY.fullmatch(key.strip()):
            raise InputError(f"set: {line[:60]!r} is no key with a value; write it as ss_output_name=zk9")
        if key.strip() in HASHES:
            raise InputError(f"set: {key.strip()} follows from the file, and is written by itself")
        kept[key.strip()] = text.strip()
    return kept
