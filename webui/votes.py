"""Votes on the pictures of a grid: which of two is better, and stars; kept in votes.json in the grid's folder.

A vote names the pictures by their labels, {"checkpoint": "zk9", "strength": "strength 0.8"}, so that it counts on when
the grid gets another row.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from trainer.durable import read_json, write_json
from trainer.errors import InputError

FILE = "votes.json"
SIDES = ("x", "y", "z")
CANDIDATES = ("checkpoint", "strength", "base")
"""Axes between whose places one chooses; the others are the conditions under which they are compared."""
Z = 1.96  # of the interval that holds 95 %
Tree = dict[str, Any]
Place = Sequence[int]
Labels = dict[str, str]
_writing = threading.Lock()


def wilson(wins: int, duels: int) -> float:
    """The lower bound of the share of wins, as Wilson 1927 has it: few duels prove little. 0 without a win."""
    if not wins:
        return 0.0
    share, square = wins / duels, Z * Z
    spread = Z * math.sqrt(share * (1 - share) / duels + square / (4 * duels * duels))
    return (share + square / (2 * duels) - spread) / (1 + square / duels)


def read(folder: Path) -> Tree:
    """{"duels": [{"better", "worse", "keys", "time"}], "stars": [{"key", "labels", "time"}]}."""
    try:
        told: Any = read_json(folder / FILE)
    except FileNotFoundError:
        return {"duels": [], "stars": []}
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / FILE}: cannot be read ({error}); move it away to begin anew") from error
    told = told if isinstance(told, dict) else {}
    return {name: [one for one in told.get(name, []) if isinstance(one, dict)] for name in ("duels", "stars")}


def duel(folder: Path, plan: Tree, better: Place, worse: Place) -> None:
    """Counts that one picture is better than another; InputError for places that the grid has not."""
    (winner, first), (loser, second) = _cell(plan, better), _cell(plan, worse)
    if first == second:
        raise InputError("worse: it is the same picture as better; choose two")
    vote = {"better": first, "worse": second, "keys": [winner["key"], loser["key"]], "time": time.time()}
    with _writing:
        told = read(folder)
        write_json(folder / FILE, {**told, "duels": [*told["duels"], vote]})


def take_back(folder: Path) -> bool:
    """Forgets the newest duel; False when there is none."""
    with _writing:
        told = read(folder)
        write_json(folder / FILE, {**told, "duels": told["duels"][:-1]})
    return bool(told["duels"])


def star(folder: Path, plan: Tree, place: Place, is_on: bool) -> None:
    """Puts a star on a picture, or takes it off."""
    cell, labels = _cell(plan, place)
    with _writing:
        told = read(folder)
        stars = [one for one in told["stars"] if one.get("key") != cell["key"]]
        if is_on:
            stars.append({"key": cell["key"], "labels": labels, "time": time.time()})
        write_json(folder / FILE, {**told, "stars": stars})


def tally(folder: Path, plan: Tree) -> Tree:
    """{"duels": how many, "stars": keys, "sides": {x: [count of each label]}, "ranking": counts of candidates, the best
    first, "candidates": sides}; a count is {"wins", "duels", "stars", "low": `wilson`}, in the ranking with "words"."""
    told, chosen = read(folder), candidates(plan)
    sides = {side: [_count(told, {_kind(plan, side): word}) for word in plan["labels"][side]] for side in SIDES}
    kinds = [_kind(plan, side) for side in chosen]
    found: dict[Any, Labels] = {}
    for _, labels in _all_labels(plan):
        words = {kind: labels[kind] for kind in kinds if kind in labels}
        found[tuple(words.items())] = words
    ranking: list[Tree] = [{**_count(told, words), "words": list(words.values())} for words in found.values()]
    ranking = [one for one in ranking if one["duels"] or one["stars"]]
    ranking.sort(key=lambda one: (-one["low"], -one["stars"], -one["duels"]))
    stars = [one.get("key") for one in told["stars"]]
    return {"duels": len(told["duels"]), "stars": stars, "sides": sides, "ranking": ranking, "candidates": chosen}


def candidates(plan: Tree) -> list[str]:
    """The sides between whose places one chooses: checkpoints, strengths, bases; else all that change."""
    kinds = plan["kinds"]
    found = [side for side in SIDES if kinds[side] in CANDIDATES]
    return found or [side for side in SIDES if len(plan["labels"][side]) > 1]


def _count(told: Tree, words: Labels) -> Tree:
    """How often what bears these labels won against others of these kinds."""

    def bears(labels: Any) -> bool:
        return isinstance(labels, dict) and words.items() <= labels.items()

    def compares(better: Any, worse: Any) -> bool:
        return bears(better) != bears(worse) and bool(words.keys() & better.keys() & worse.keys())

    between = [vote for vote in told["duels"] if compares(vote.get("better"), vote.get("worse"))]
    wins = sum(bears(vote["better"]) for vote in between)
    stars = sum(bears(one.get("labels")) for one in told["stars"])
    return {"wins": wins, "duels": len(between), "stars": stars, "low": wilson(wins, len(between))}


def _cell(plan: Tree, place: Place) -> tuple[Tree, Labels]:
    """The cell of a place, and its labels."""
    for cell, labels in _all_labels(plan):
        if [cell[side] for side in SIDES] == list(place):
            return cell, labels
    raise InputError(f"place: {list(place)} is not in this grid; it was drawn again meanwhile, open it once more")


def _all_labels(plan: Tree) -> Iterator[tuple[Tree, Labels]]:
    """Each cell with its labels; a picture that stands in a whole row, as the base model's does at every strength, has
    none of that side."""
    places: dict[str, dict[str, set[int]]] = {}
    for cell in plan["cells"]:
        for side in SIDES:
            places.setdefault(cell["key"], {}).setdefault(side, set()).add(cell[side])
    for cell in plan["cells"]:
        of = {side: plan["labels"][side][cell[side]] for side in SIDES if len(places[cell["key"]][side]) == 1}
        yield cell, {_kind(plan, side): label for side, label in of.items() if label}


def _kind(plan: Tree, side: str) -> str:
    """What a side is called in a vote: its kind, or its own name where that is nothing or stands twice."""
    kinds = plan["kinds"]
    is_own = kinds[side] != "none" and list(kinds.values()).count(kinds[side]) == 1
    return kinds[side] if is_own else side
