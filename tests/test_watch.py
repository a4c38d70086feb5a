"""Comparing while training: what it finds, what it leaves alone, and when it ends a training early."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from tests.conftest import Train, Tree
from tests.test_train import kinds, last, weights
from tests.test_verdict import row as made_row
from trainer.compare.painter import Painter
from trainer.config import Config, Watch
from trainer.runfolder import RunFolder
from trainer.train import run
from trainer.tree import overlay
from trainer.verdict.live import Lookout
from trainer.verdict.options import Compare
from trainer.verdict.patience import why_end
from trainer.verdict.run import run as compare
from trainer.verdict.scores import Row
from webui import form

QUICK: Tree = {"every_epochs": 1, "questions": 1, "seeds": 2, "steps": 1, "cfg": 1}
EPOCHS: Tree = {"train": {"steps": None, "epochs": 2, "batch": 10}}  # one step in each
RISES_AND_FALLS = (0.3, 0.6, 0.4, 0.35, 0.3, 0.2)


def told(folder: RunFolder, kind: str) -> list[dict[str, Any]]:
    return [event for event in folder.events() if event["kind"] == kind]


def same(one: RunFolder, other: RunFolder) -> bool:
    """Whether two trainings left the same weights, to the bit."""
    files = {file.name for folder in (one, other) for file in folder.checkpoints.iterdir()}
    pairs = [(weights(one, name), weights(other, name)) for name in files]
    return all(torch.equal(a[name], b[name]) for a, b in pairs for name in (*a, *b))


# What a look does


@pytest.mark.parametrize(
    ("base", "more"),
    [
        ("sd15", {"network": {"dropout": 0.3}, "captions": {"shuffle": True}}),
        ("sdxl", {"train": {"precision": "bf16", "checkpointing": True}, "rates": {"text_encoder": None}}),
        ("sd15", {"train": {"precision": "fp16"}, "data": {"cache_latents": False, "crop": "random"}}),
    ],
    ids=["fp32", "bf16", "fp16"],
)
def test_the_training_goes_on_as_if_nobody_had_looked(
    base: str, more: Tree, train: Train, bases: dict[str, Path]
) -> None:
    changes = overlay(overlay(EPOCHS, more), {"model": {"base": str(bases[base])}})
    plain, watched = train(changes), train({**changes, "compare": QUICK})
    assert same(plain, watched)
    rows = [event["row"] for event in told(watched, "score")]
    assert [(one["epoch"], one["step"], one["strength"]) for one in rows] == [(1, 1, 1.0), (2, 2, 1.0)]
    assert [Path(one["file"]).name for one in rows] == ["zk9-000001.safetensors", "zk9.safetensors"]
    assert all(Path(one["file"]).is_file() and 0 <= one["total"] <= 1 for one in rows)
    assert set(rows[0]["values"]) == {"likeness", "obedience", "spill", "copying", "variety", "burn"}
    assert [len(one["pictures"]) for one in rows] == [len(told(watched, "asked")[0]["asked"])] * 2
    assert all(Image.open(file).size == (64, 64) for one in rows for file in one["pictures"])
    assert not told(plain, "score") and not (plain.path / "compare").exists()


def test_it_finds_what_the_comparison_afterwards_finds(train: Train) -> None:
    quick = {**QUICK, "steps": 2, "cfg": 3}
    folder = train({**EPOCHS, "compare": quick, "optimizer": {"lr": 0.05}})
    options = {name: quick[name] for name in ("questions", "seeds", "steps", "cfg")}
    report = compare(
        Compare(folder=str(folder.path), strengths=(1.0,), average=False, device="cpu", batch=10, **options)
    )
    for live, later in zip(told(folder, "score"), report.found["rows"], strict=True):
        assert live["row"]["file"] == later["file"] and live["row"]["scores"]["train_loss"] is not None
        for name, values in live["row"]["values"].items():
            assert values == pytest.approx(later["values"][name], abs=0.02), name


def pixels(folder: RunFolder) -> list[np.ndarray]:
    return [np.asarray(Image.open(file)) for event in told(folder, "score") for file in event["row"]["pictures"]]


def test_each_option_changes_what_is_drawn(train: Train) -> None:
    epoch = overlay(EPOCHS, {"train": {"epochs": 1}})
    plain = pixels(train({**epoch, "compare": QUICK}))
    for name, value in (("questions", 2), ("seeds", 3), ("steps", 2), ("cfg", 4.0)):
        found = pixels(train({**epoch, "compare": {**QUICK, name: value}}))
        more = name in ("questions", "seeds")
        assert len(found) > len(plain) if more else len(found) == len(plain)
        assert more or any((a != b).any() for a, b in zip(found, plain, strict=True)), name
    assert pixels(train({**epoch, "compare": {**QUICK, "every_epochs": 2}})) == []


def test_a_look_that_fails_is_a_warning(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*rest: Any) -> None:
        raise RuntimeError("no more memory\nand more of it")

    plain = train(EPOCHS)
    monkeypatch.setattr(Painter, "paint_many", fail)
    folder = train({**EPOCHS, "compare": {**QUICK, "patience": 1}})
    said = [event["text"] for event in told(folder, "warning") if "compared" in event["text"]]
    assert said == [f"epoch {epoch} could not be compared: no more memory" for epoch in (1, 2)]
    assert same(plain, folder) and folder.state() == "done"


def test_stop_does_not_wait_for_the_pictures(small: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = overlay(small, {"train": {"steps": 9, "batch": 10}, "compare": QUICK})
    folder = RunFolder.create(tmp_path, Config.model_validate(tree))
    paint = Painter.paint_many

    def press(*rest: Any) -> Any:
        folder.send("stop")
        return paint(*rest)

    monkeypatch.setattr(Painter, "paint_many", press)
    assert run(folder) == 0
    assert not told(folder, "score") and not told(folder, "warning")
    assert last(folder)["reason"] == "stop" and last(folder)["step"] == 2


# Early stopping


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparisons that find these likenesses, epoch after epoch, and draw nothing."""

    def compare(self: Lookout, step: int, epoch: int, should_stop: Any) -> None:
        row = made_row(epoch, 1.0, likeness=RISES_AND_FALLS[min(epoch, len(RISES_AND_FALLS)) - 1])
        self.report.score(step, epoch, {**row.to_json(), "pictures": []})

    monkeypatch.setattr(Lookout, "_compare", compare)


def test_it_ends_the_training_when_the_score_has_turned(train: Train, scores: None) -> None:
    changes = {"train": {"steps": None, "epochs": 9, "batch": 10}, "compare": {**QUICK, "patience": 3}}
    folder = train(changes)
    ending = last(folder)
    assert (ending["kind"], ending["reason"], ending["step"]) == ("stopped", "turned", 5)
    assert ending["text"].startswith("Epoch 2 scored best (0.")
    assert ending["text"].endswith(
        "); 3 comparisons since were surely below. Stopped early: nothing after it is needed."
    )
    assert (folder.checkpoints / "zk9-000005.safetensors").is_file() and folder.state() == "stopped"
    assert [path.name for path in folder.states.iterdir()] == ["00000005"]
    assert run(folder) == 0, "who resumes wants more of it"
    assert (last(folder)["reason"], last(folder)["step"]) == ("turned", 8)


def test_a_resumed_training_goes_on_with_the_scores_of_before(
    train: Train, scores: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare = Lookout._compare

    def pause(self: Lookout, step: int, epoch: int, should_stop: Any) -> None:
        compare(self, step, epoch, should_stop)
        if epoch == 3:
            self.folder.send("pause")

    monkeypatch.setattr(Lookout, "_compare", pause)
    folder = train({"train": {"steps": None, "epochs": 9, "batch": 10}, "compare": {**QUICK, "patience": 3}})
    assert (last(folder)["reason"], last(folder)["step"]) == ("pause", 4), "a step that is stopped is not compared"
    assert run(folder) == 0
    assert (last(folder)["reason"], last(folder)["step"]) == ("turned", 6)
    assert last(folder)["text"].startswith("Epoch 2 scored best")


def test_it_ends_the_training_when_the_held_out_loss_does_not_fall(train: Train) -> None:
    """At a rate of next to nothing, no loss is lower than the first."""
    folder = train(
        {
            "train": {"steps": 9, "batch": 10},
            "optimizer": {"lr": 1e-30},
            "validation": {"share": 0.3, "every_epochs": None, "every_steps": 2},
            "compare": {"by": "held_out", "patience": 2},
        }
    )
    assert (last(folder)["reason"], last(folder)["step"]) == ("turned", 6)
    assert "the 2 measurements since were no lower" in last(folder)["text"]
    assert "score" not in kinds(folder)


def events_of(rows: Sequence[Row]) -> list[dict[str, Any]]:
    told = [{"kind": "score", "step": 10 * row.epoch, "row": row.to_json()} for row in rows if row.epoch]
    return json.loads(json.dumps(told))


def test_patience_counts_what_this_attempt_has_measured() -> None:
    watch = Watch(every_epochs=1, patience=3)
    events = events_of([made_row(epoch, likeness=value) for epoch, value in enumerate(RISES_AND_FALLS, 1)])
    assert [step for step in range(10, 70, 10) if why_end(events, watch, step)] == [50, 60]
    assert not why_end(events, Watch(every_epochs=1), 60), "no patience never ends"
    better = events_of([made_row(5, likeness=0.9)])
    assert not why_end([*events, *better], watch, 60), "measured again after a resume, it is another"
    asked = [{"kind": "asked", "asked": [name]} for name in ("a", "b")]
    assert why_end([asked[0], *events, asked[0]], watch, 60)
    assert not why_end([asked[0], *events, asked[1]], watch, 60), "scores of other pictures tell nothing"
    noisy = [made_row(epoch, noise=0.5, likeness=value) for epoch, value in enumerate((0.3, 0.6, 0.55, 0.56, 0.55), 1)]
    assert not why_end(events_of(noisy), watch, 60), "not surely worse"


def test_the_held_out_loss_in_words() -> None:
    watch = Watch(by="held_out", patience=2)
    losses = (0.2, 0.1, 0.1, None, 0.3)
    events: list[dict[str, Any]] = [
        {"kind": "validation", "step": 10 * place, "loss": loss} for place, loss in enumerate(losses, 1)
    ]
    assert not why_end(events, watch, 40), "NaN is no measurement"
    assert why_end(events, watch, 50).startswith(
        "Step 20 had the lowest held-out loss (0.1); the 2 measurements since were no lower. Stopped early"
    )
    saved = {"kind": "checkpoint", "step": 20, "file": "checkpoints/zk9-000002.safetensors", "epoch": 2}
    assert why_end([*events, saved], watch, 50).startswith("Epoch 2 had")
    assert "The nearest file is zk9-000002. " in why_end([*events, {**saved, "step": 25}], watch, 50)


# Options


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"compare.by": "held_out"}, "compare.by"),
        ({"compare.patience": "3"}, "compare.patience"),
        ({"compare.every_epochs": "3", "save.every_epochs": "2"}, "compare.every_epochs"),
        ({"compare.every_epochs": "1", "compare.patience": "3", "save.keep_last": "2"}, "save.keep_last"),
        ({"compare.every_epochs": "1", "compare.patience": "3", "compare.seeds": "1"}, "compare.seeds"),
    ],
)
def test_what_cannot_be_is_said_at_its_field(changes: Tree, field: str) -> None:
    with pytest.raises(form.Mistakes) as caught:
        form.read({**form.write(Config()), **changes})
    assert (field in caught.value.at and "set " in caught.value.at[field]) or "leave one" in caught.value.at[field]


def test_held_out_pictures_must_be_measured() -> None:
    held_out = {"share": 0.2, "every_epochs": None}
    with pytest.raises(ValidationError, match=r"set validation\.share or validation\.folder, and validation"):
        Config.model_validate({"compare": {"by": "held_out"}, "validation": held_out})
    assert Config.model_validate({"compare": {"by": "held_out"}, "validation": {"share": 0.2}}).compare.by == "held_out"
