"""The tools of the page as jobs (trainer.jobs): options checked before one starts, and what one did taken back."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trainer.captioners.options import OrPath
from trainer.config.parts import IsPath
from trainer.durable import read_json, write_json
from trainer.errors import InputError
from trainer.jobs import REPORT, job_of
from trainer.runfolder import RunFolder
from trainer.snapshots import load
from trainer.tree import fields, validate
from webui.browse import inside
from webui.runs import UNDONE, Conflict
from webui.settings import Settings

UNSAFE = re.compile(r"[^\w.-]+")
MODELS = ("base",)
"""Options that may also name the model that is shipped, or one of the hub."""
STRENGTHS = re.compile(r"(:-?[\d.]+){0,2}$")
"""What may stand behind a LoRA's file."""
SLACK = 2.0  # seconds by which a file may be newer than the report that tells of it


def config_of(name: str, options: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """config.json of a job, with whole paths; InputError has a line for each option that is wrong.

    Raises Outside for a file or folder that the page may not use.
    """
    part = job_of(name).options
    tree = validate(part, options).model_dump(mode="json")
    for option, field in fields(part):
        *above, last = option.split(".")
        owner: Any = tree
        for word in above:
            owner = owner.get(word) or {}  # a part that is off holds nothing
        marks, given = [type(mark) for mark in field.metadata], owner.get(last)
        if given and (IsPath in marks or OrPath in marks):
            is_path = IsPath in marks and last not in MODELS
            whole = [
                str(inside(name, settings.roots, option)) if is_path or _leads(name) else name
                for name in ([given] if isinstance(given, str) else given)
            ]
            owner[last] = whole[0] if isinstance(given, str) else whole
    for option, path in _drawn_with(tree):
        inside(path, settings.roots, option)
    return {"job": name, "options": tree}


def _drawn_with(tree: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The files and folders that stand among the LoRAs and on the axes of what is drawn, each after its option."""
    for text in tree.get("loras") or ():
        if re.search(r"[\\/~]", text):
            yield "loras", STRENGTHS.sub("", text)
    for side in ("x", "y", "z"):
        axis = tree.get(side) or {}
        for text in axis.get("values", ()):
            if axis["kind"] == "checkpoint" or (axis["kind"] == "base" and _leads(text)):
                yield f"{side}.values", text


def _leads(name: str) -> bool:
    """Whether a name leads to a file or folder here, and is none of the hub."""
    return name[:1] in ("~", ".") or ".." in Path(name).parts or os.path.isabs(name) or os.path.exists(name)


def title_of(config: Mapping[str, Any]) -> str:
    """What the run folder of a job is called: `caption.wd14-10_zk9 woman`, safe on any disk."""
    words = [config["job"], Path(config["options"].get("folder", "")).name]
    return "-".join(UNSAFE.sub("_", word)[:60] for word in words if word)


def take_back(run: RunFolder, anyway: bool) -> dict[str, Any]:
    """Puts back what a job changed; the second time, makes it again. {"files": how many, "undone": bool}.

    Conflict when files were changed since by something else, unless `anyway`; InputError when nothing was changed.
    """
    report, kept = read_json(run.path / REPORT), run.path / UNDONE
    folder = Path(read_json(run.path / "config.json")["options"]["folder"])
    if not report.get("snapshot"):
        raise InputError(f"{run.path.name}: it changed nothing that could be taken back")
    undone = kept.is_file()
    snapshot = load(folder, read_json(kept)["snapshot"] if undone else report["snapshot"])
    since = (kept if undone else run.path / REPORT).stat().st_mtime + SLACK
    newer = [name for name in snapshot.files if (folder / name).is_file() and (folder / name).stat().st_mtime > since]
    if newer and not anyway:
        names = ", ".join(newer[:3]) + (" and more" if len(newer) > 3 else "")
        raise Conflict(
            f"{len(newer)} of these files were changed since ({names}); what they are now would go into a snapshot"
        )
    undo = snapshot.restore()
    if undone:
        kept.unlink()
        write_json(run.path / REPORT, {**report, "snapshot": undo.id})
    else:
        write_json(kept, {"snapshot": undo.id})
    return {"files": len(undo.files), "undone": not undone}
