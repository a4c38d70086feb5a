"""Three runs of the truth set over again: the same training, the same truth, and what the verdict measures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.truth.bench import RESULTS, painter, right
from benchmarks.truth.measure import Truth, merged
from benchmarks.truth.runs import FIT, TABLE
from benchmarks.truth.world import Character, character_shown, place_shown
from trainer.compare.options import Look
from trainer.compare.shelf import checkpoints_of
from trainer.compare.shot import Stage
from trainer.durable import read_json
from trainer.pocket.draw import PLACES, one_creature, paint_creature
from trainer.verdict.options import Compare
from trainer.verdict.run import run as compare

DOC = Path(__file__).parents[1] / "docs" / "compare.md"
SHORT = [run for run in TABLE if run.name in ("short-93", "short-94", "hot-89")]


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    return {one["run"]: one for one in read_json(RESULTS)}


def test_the_table_holds_enough_runs_of_other_characters(results: dict[str, Any]) -> None:
    assert len(FIT) >= 15 and len(TABLE) >= 20
    assert {run.name for run in TABLE} == {*results}
    assert not {run.character for run in FIT} & {run.character for run in TABLE}
    table = [results[run.name] for run in TABLE]
    assert right(table)["random"] < 0.4
    told = next(line for line in DOC.read_text().splitlines() if "within 5 % of the best**" in line)
    assert [cell.strip() for cell in told.split("|")[2:-1]] == [f"{share:.0%}" for share in right(table).values()]


@pytest.mark.parametrize("run", SHORT, ids=lambda run: run.name)
def test_a_run_comes_out_as_it_is_told(run: Any, results: dict[str, Any], tmp_path: Path, models: Path) -> None:
    """Its first two files; the verdict draws fewer pictures here than for the table."""
    told = results[run.name]
    truth = {(one["label"], one["strength"]): one for one in told["candidates"]}
    trained, paint = run.train(tmp_path, files=2), painter()
    first, second = checkpoints_of(str(trained.path))
    early, late = (truth[f"{run.made().trigger}-{epoch:06}", 1.0] for epoch in (1, 2))
    assert (first.stem, second.stem) == (early["label"], run.made().trigger)
    found = Truth()
    with merged(paint, Stage(Look()).base("pocket"), second, 1.0) as family:
        found.look(family, run.made(), 0)
    assert found.score == pytest.approx(late["truth"], abs=0.05)
    options = {"questions": 4, "seeds": 2, "steps": 8, "cfg": 4, "batch": 24, "device": "cpu", "average": False}
    told = compare(Compare(folder=str(trained.path), strengths=(1.0,), **options), painter=paint).to_json()
    for row, one in zip(told["rows"], (early, late), strict=True):
        assert row["scores"]["likeness"] == pytest.approx(one["likeness"], abs=0.25)
        assert row["scores"]["burn"] == pytest.approx(one["burn"], abs=0.1)


def test_the_truth_knows_a_character_from_others() -> None:
    for number in (0, 40):
        character = Character.made(number, 3)
        mine = [(place, paint_creature(f"test {place}", character.look, place)) for place in PLACES]
        others = [one_creature(f"test {n}").picture for n in range(30)]
        assert sum(character_shown(picture, character.look) for _, picture in mine) / len(mine) > 0.9
        assert sum(character_shown(picture, character.look) for picture in others) / len(others) < 0.15
        assert all(place_shown(picture, place, character.look) > 0.9 for place, picture in mine)
        wrong = [place_shown(picture, "at night", character.look) for place, picture in mine if place != "at night"]
        assert max(wrong) < 0.1
