"""Finds and replaces in a process of its own, which can be stopped; run by its path, so that it starts in no time.

Reads {"pattern", "replacement", "texts"} as JSON, and writes {"texts"} or {"error"}.
"""

import json
import re
import sys

MOST = 50_000_000  # letters that come out


def substitute(pattern: str, replacement: str, texts: list[str]) -> dict[str, object]:
    """The texts with every match replaced, or what is wrong with the pattern."""
    try:
        found = re.compile(pattern)
        changed = []
        for text in texts:
            changed.append(found.sub(replacement, text))
            if sum(map(len, changed[-1:])) > MOST:
                return {"error": "the result is too long"}
    except (re.error, IndexError, OverflowError, RecursionError, MemoryError) as error:
        return {"error": str(error) or type(error).__name__}
    return {"texts": changed}


if __name__ == "__main__":
    json.dump(substitute(**json.load(sys.stdin)), sys.stdout)
