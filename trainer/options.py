"""docs/options.md from the schema: `python -m trainer.options > docs/options.md`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from trainer.config import Config

Node = dict[str, Any]
HEAD = """# Options

Made from the schema by `python -m trainer.options > docs/options.md`. In a file an option is nested
(`{"train": {"batch": 2}}`), as a flag it is dotted (`--set train.batch=2`). `null` means off, 0 means 0.
"""
LIMITS = {
    "minimum": "from {:,}",
    "exclusiveMinimum": "above {:,}",
    "maximum": "to {:,}",
    "exclusiveMaximum": "below {:,}",
}
KINDS = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "`true`, `false`",
    "null": "`null`",
}


def document() -> str:
    """The whole page."""
    schema = Config.model_json_schema()
    return "\n".join([HEAD, *table("config", schema, "", schema["$defs"])]) + "\n"


def table(title: str, part: Node, prefix: str, parts: Node) -> Iterator[str]:
    """One part as a table, then the parts inside it."""
    inside = {name: inner for name, node in part["properties"].items() if (inner := list(refs(node)))}
    yield f"## {title}\n\n{' '.join(part['description'].split())}\n"
    rows = {name: node for name, node in part["properties"].items() if name != "type" and "$ref" not in node}
    if rows:
        yield "| option | on the page | values | default | what it does | kohya_ss |"
        yield f"|{' --- |' * 6}"
        for name, node in rows.items():
            about = (values(node, parts), default(node), node.get("description", ""), kohya(node))
            cells = (f"`{prefix}{name}`", node["title"], *about)
            yield f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in cells)} |"
        yield ""
    for name, inner in inside.items():
        for ref in inner:
            kind = parts[ref]["properties"].get("type", {}).get("const")
            yield from table(f"{prefix}{name}" + (f": {kind}" if kind else ""), parts[ref], f"{prefix}{name}.", parts)


def refs(node: Node) -> Iterator[str]:
    """Names of the parts that an option can hold."""
    if "$ref" in node:
        yield node["$ref"].rsplit("/", 1)[-1]
    for inner in (*node.get("anyOf", ()), *node.get("oneOf", ()), *([node["items"]] if "items" in node else [])):
        yield from refs(inner)


def values(node: Node, parts: Node) -> str:
    """The values an option takes, in words."""
    if "$ref" in node:
        kind = parts[node["$ref"].rsplit("/", 1)[-1]]["properties"].get("type", {}).get("const")
        return f"`{kind}`" if kind else "a part"
    if choices := node.get("enum") or ([node["const"]] if "const" in node else None):
        return ", ".join(f"`{choice}`" for choice in choices)
    if several := node.get("anyOf") or node.get("oneOf") or node.get("prefixItems"):
        return ", ".join(dict.fromkeys(values(inner, parts) for inner in several))
    if node["type"] == "array":
        return f"list of {values(node['items'], parts)}"
    limits = [words.format(node[limit]) for limit, words in LIMITS.items() if limit in node]
    return " ".join([KINDS[node["type"]], *limits])


def default(node: Node) -> str:
    """A default as it is written in a file; of a part, its kind; nothing where one must be given."""
    if "default" not in node:
        return ""
    value = node["default"]
    return f"`{json.dumps(value['type'] if isinstance(value, dict) and 'type' in value else value)}`"


def kohya(node: Node) -> str:
    """The option's name in kohya_ss."""
    return f"`{node['kohya']}`" if "kohya" in node else ""


if __name__ == "__main__":
    print(document(), end="")
