"""The forms of the tools: their fields with what was filled in last, and what stands in them read back.

A form is told to the page as JSON, made from the tool's options; static/tool.js draws it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from trainer.durable import DiskError, make_folder, read_json, write_json
from trainer.errors import InputError
from trainer.jobs import job_of
from webui.fields import Field, fields_of
from webui.settings import Settings
from webui.toollayout import COLOURS, ENDINGS, FOLDERS, GOALS, LAYOUT, LONG, OFFERS, RANGES, SIDES, START, WHEN

KINDS = {"colour": COLOURS, "long": LONG, "sides": SIDES}
"""Options that are shown otherwise than their type says."""


def form_of(settings: Settings, name: str) -> dict[str, Any]:
    """A tool's form: {"title", "start", "groups": [{"title", "fields"}], "values": {name: what stood there last}}.

    Raises InputError for a job that has none.
    """
    job = job_of(name)
    if name not in LAYOUT:
        raise InputError(f"job: {name} has no form; there is one for each of {', '.join(LAYOUT)}")
    known = fields_of(job.options)
    values = {shown.name: _default(shown) for shown in known.values()} | kept(settings, name)
    groups = [
        {"title": title, "fields": [_field(name, known[option]) for option in options]}
        for title, options in LAYOUT[name].items()
    ]
    start = START.get(name) or START[name.partition(".")[0]]
    return {"title": job.title, "start": start, "groups": groups, "values": values}


def options_of(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in a form's boxes as options, unchecked; those that are not shown are left out."""
    known = fields_of(job_of(name).options)
    tree = {option: value for option, value in values.items() if option not in known}  # to be refused by name
    full = {shown.name: _default(shown) for shown in known.values()} | dict(values)
    owners = {shown.owner for shown in known.values()}
    for shown in known.values():
        if shown.name not in values or shown.meaning(full) is None:
            continue
        *above, last = shown.name.split(".")
        part = tree
        for word in above:
            part = part.setdefault(word, {})
        value = shown.read(values[shown.name])
        part[last] = ({} if value else None) if shown.name in owners else value
    return tree


def keep(settings: Settings, name: str, values: Mapping[str, Any]) -> None:
    """Keeps what stands in a form for the next visit, but not where files go: that is another place each time.

    It is worth no error when the disk is full.
    """
    file = _file(settings, name)
    try:
        make_folder(file.parent)
        write_json(file, {option: value for option, value in values.items() if option not in GOALS})
    except DiskError:
        return


def kept(settings: Settings, name: str) -> dict[str, Any]:
    """What stood in a form when it was kept last, as far as it still has such fields."""
    try:
        kept = read_json(_file(settings, name))
    except (OSError, ValueError):
        return {}
    known = fields_of(job_of(name).options)
    return {option: value for option, value in kept.items() if option in known} if isinstance(kept, dict) else {}


def _file(settings: Settings, name: str) -> Path:
    return settings.data_dir / "tools" / f"{name}.json"


def _default(shown: Field) -> Any:
    default = next(iter(shown.meanings.values())).default
    return "" if default is PydanticUndefined else shown.write(default)


def _field(name: str, shown: Field) -> dict[str, Any]:
    """One field for the page."""
    meaning = next(iter(shown.meanings.values()))
    when = WHEN.get(name, {}).get(shown.name) or ((shown.owner, (True,)) if shown.owner else None)
    return {
        "name": shown.name,
        "label": shown.label,
        "help": " ".join(meaning.help.split()),
        "key": shown.key,
        "today": shown.today,
        "kind": next((kind for kind, names in KINDS.items() if shown.name in names), shown.kind),
        "choices": [word for word, _ in shown.choices],
        "offers": OFFERS.get(name, {}).get(shown.name, ()),
        "path": ("folder" if shown.name in FOLDERS else "file") if shown.is_path else "",
        "range": RANGES.get(name, {}).get(shown.name),
        "ends": ENDINGS.get(name, {}).get(shown.name, ()),
        "default": _default(shown),
        "when": {"name": when[0], "values": when[1]} if when else None,
    }
