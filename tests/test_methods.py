"""The tabs that train, which share one form."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trainer.config import Config, Full
from webui import form
from webui.configs import LIKENESS
from webui.desk import DEFAULTS, Desk, fresh
from webui.methods import METHODS, all_types, method_of, types_of
from webui.settings import Settings


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk that plans nothing."""
    (tmp_path / "data").mkdir()
    place = Settings("127.0.0.1", 0, tmp_path / "data", tmp_path / "data" / "runs", (), (tmp_path,))
    made: Any = SimpleNamespace(settings=place, waiting=lambda: {"order": [], "running": []})
    desk = Desk(place, made)
    monkeypatch.setattr(desk.planner, "outlook", lambda config: desk.sheet({}, **PLAIN).outlook)
    return desk


PLAIN: dict[str, Any] = {"wire": {}, "path": "", "style": LIKENESS, "run": None, "wish": {}}


def test_every_kind_of_network_has_one_home() -> None:
    """Two tabs train the model itself; a file of it stays where it is opened."""
    assert [method.tab for method in METHODS.values()] == ["Dreambooth", "LoRA", "Textual Inversion", "Finetuning"]
    assert {word for method in METHODS for word in types_of(method)} == set(all_types())
    assert not {"full_model", "embedding"} & set(types_of("lora"))
    assert method_of("full_model", "finetune") == "finetune" and method_of("full_model", "lora") == "dreambooth"
    assert all(name in form.write(Config()) for method in METHODS.values() for name in (*method.hidden, *method.start))


@pytest.mark.parametrize("method", METHODS)
def test_what_a_tab_begins_with_can_be_trained(method: str) -> None:
    """All that its fields say, but for a word to be learned, is a config."""
    assert form.read(fresh(method)).network.type == types_of(method)[0]


def test_turning_to_another_tab_and_back(desk: Desk) -> None:
    """What stood there stands there again, right or wrong; the next visit finds what was right."""
    sheet = desk.sheet(
        {**fresh("dreambooth"), "train.batch": "many", "optimizer.lr": "2e-6"}, tab="dreambooth", **PLAIN
    )
    desk.turn(sheet, "lora")
    assert sheet.values == fresh("lora") and sheet.whole and sheet.tab == "lora"
    desk.turn(sheet, "dreambooth")
    assert sheet.values["train.batch"] == "many" and list(sheet.kept) == ["lora"]
    sheet.values["train.batch"] = "3"
    desk.look(sheet)
    again = desk.sheet(fresh("lora"), **PLAIN)
    desk.turn(again, "dreambooth")
    assert again.values["train.batch"] == "3" and again.values["optimizer.lr"] == "2e-06"


def test_a_file_goes_to_the_tab_that_trains_it(desk: Desk) -> None:
    sheet = desk.sheet({**fresh("lora"), "network.rank": "7"}, **PLAIN)
    desk.fill(sheet, Config(network=Full(average=0.5)), ["loaded"])
    assert sheet.tab == "dreambooth" and sheet.more["turn"] and sheet.values["network.average"] == "0.5"
    assert sheet.kept["lora"]["network.rank"] == "7"
    desk.preset(sheet, DEFAULTS)
    assert sheet.values == fresh("dreambooth")
