"""What is done with a filled form: the plan it tells, the files it is kept in, and what the page asks for."""

from __future__ import annotations

import json
import time
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.pictures import draw_folder
from trainer import configio
from trainer.config import AdafactorSchedule, AdamW, Config, Data, Lora, Train
from trainer.data.folders import collect
from trainer.errors import InputError
from trainer.ladder import climb, settings_of
from trainer.memory import estimate_memory
from webui import form, machine, planning
from webui.configs import KOHYA, LIKENESS, keep, open_file, presets, save
from webui.desk import DEFAULTS, Desk
from webui.own import advised, named, prefix_for, uses_of
from webui.planline import duration, gigabytes, plan_html
from webui.planning import Memory, Outlook, Planner, base_of, smaller
from webui.settings import Settings
from webui.tabs.start import _Own


class Shop:
    """Jobs without any run."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.started = settings, list[Config]()
        self.rate: float | None = None
        self.runs = self
        self.order, self.running, self.told = list[str](), list[str](), list[tuple[str, str]]()

    def lines(self) -> list[dict[str, Any]]:
        return [{"id": "old"}] if self.rate else []

    def config(self, run: str) -> dict[str, Any]:
        return configio.load("demo").model_dump(mode="json")

    def story(self, run: str) -> Shop:
        return self

    def last(self, kind: str) -> dict[str, Any]:
        return {"rate": self.rate}

    def waiting(self) -> dict[str, Any]:
        return {"order": self.order, "running": self.running}

    def command(self, run: str, word: str) -> str:
        self.told.append((run, word))
        return "asked to stop"

    def start(self, config: Config) -> str:
        self.started.append(config)
        return "run"


@pytest.fixture
def place(tmp_path: Path) -> Settings:
    return Settings("127.0.0.1", 0, tmp_path / "data", tmp_path / "data" / "runs", (), (tmp_path,))


@pytest.fixture
def desk(place: Settings) -> Desk:
    return Desk(place, Shop(place))  # pyrefly: ignore


def sheet(desk: Desk, values: dict[str, Any], **more: Any) -> Any:
    whole = {"wire": {}, "path": "", "style": LIKENESS, "run": None, "wish": {}}
    return desk.sheet(values, **(whole | more))


def test_the_plan_of_the_demo(place: Settings) -> None:
    shop = Shop(place)
    planner = Planner(shop)  # pyrefly: ignore
    told = planner.outlook(configio.load("demo"), 30)
    assert told.plan and told.memory and not told.mistakes
    assert (told.plan.pictures, told.plan.items, told.plan.reg_items, told.plan.steps) == (12, 120, 120, 600)
    assert told.seconds is None and "time known after the first steps" in plan_html(told)
    shop.rate = 4.0
    again = planner.outlook(configio.load("demo"), 30)
    assert again.seconds == 150 and "600 steps" in plan_html(again)
    assert planner.outlook(configio.load("demo", ["train.batch=2"]), 30).seconds is None


def test_the_plan_follows_the_folder(place: Settings, tmp_path: Path) -> None:
    draw_folder(tmp_path / "img", {"3_zk9": 1})
    planner = Planner(Shop(place))  # pyrefly: ignore
    config = Config(data=Data(images=str(tmp_path / "img"), resolution=(64, 64)), train=Train(epochs=2))
    first = planner.outlook(config, 30)
    draw_folder(tmp_path / "img", {"5_more": 1})
    second = planner.outlook(config, 30)
    assert first.plan and second.plan
    assert (first.plan.steps, second.plan.steps) == (6, 16)


def test_what_is_not_there_stands_at_its_field(place: Settings) -> None:
    planner = Planner(Shop(place))  # pyrefly: ignore
    told = planner.outlook(configio.load("demo", ["model.base=/no/x.safetensors", "data.images=/no/img"]), 30)
    assert told.mistakes and set(told.mistakes.at) == {"model.base", "data.images"}
    html = plan_html(told)
    assert 'data-go="model.base"' in html and 'data-go="data.images"' in html


def test_a_model_that_moved_is_named_aloud() -> None:
    config = Config.model_validate({"model": {"base": "runwayml/stable-diffusion-v1-5"}})
    found, said = base_of(config)
    assert found and found.family == "sd15"
    assert said[0] == "runwayml/stable-diffusion-v1-5 has moved: stable-diffusion-v1-5/stable-diffusion-v1-5 is taken"


def test_the_remedy_makes_it_fit_and_is_no_more_than_needed() -> None:
    config = Config.model_validate({"model": {"base": "a/b"}, "train": {"batch": 4}})
    area = 1024 * 1024
    for gigabytes_free in (48, 24, 16, 12):
        free = int(gigabytes_free * 1e9)
        changes, fixed = smaller(config, "sdxl", area, free, {"bf16": True})
        assert sum(estimate_memory(fixed, "sdxl", area).values()) <= planning.TIGHT * free
        values = form.apply(form.write(config), changes)
        assert estimate_memory(form.read(values), "sdxl", area) == estimate_memory(fixed, "sdxl", area)
        for name in changes.keys() - {"train.accumulate"}:
            rest = {other: value for other, value in changes.items() if other != name}
            less = form.read(form.apply(form.write(config), rest))
            assert sum(estimate_memory(less, "sdxl", area).values()) > planning.TIGHT * free


def test_a_batch_that_is_made_smaller_is_added_up() -> None:
    config = Config.model_validate({"model": {"base": "a/b"}, "train": {"batch": 4, "accumulate": 2}})
    changes, _ = smaller(config, "sdxl", 1024 * 1024, int(1e9), {"bf16": False})
    assert (changes["train.batch"], changes["train.accumulate"], changes["train.precision"]) == (1, 8, "fp16")


def test_attention_that_saves_memory_is_tried_before_what_costs_time() -> None:
    config = Config.model_validate({"model": {"base": "a/b"}, "train": {"attention": "none", "precision": "bf16"}})
    need = sum(estimate_memory(config, "sd15", 512 * 512).values())
    changes, _ = smaller(config, "sd15", 512 * 512, int(0.9 * need / planning.TIGHT), {"bf16": True})
    assert changes == {"train.attention": "sdpa"}


def test_remedies_are_the_ladder_s_and_main_memory_gets_none_of_a_card_s() -> None:
    """The options of a small card in the ladder's order, each only where the rest of the config allows it."""
    tree: dict[str, Any] = {"model": {"base": "a/b"}, "train": {"batch": 2, "precision": "bf16"}}
    tree["rates"] = {"text_encoder": None, "text_encoder_2": None}
    lora, area, least = Config.model_validate(tree), 1024 * 1024, int(1e9)
    changes, fixed = smaller(lora, "sdxl", area, least, {"bf16": True})
    ladder: list[str] = []
    now = lora
    while step := next(climb(now, "sdxl", "bf16"), None):
        ladder, now = [*ladder, *settings_of([step[0]])], step[1]
    assert list(changes) == [name for name in dict.fromkeys(ladder) if name in changes]
    assert {"memory.offload_activations", "memory.swap", "memory.base_weights"} <= changes.keys()
    values = form.read(form.apply(form.write(lora), changes))
    assert values.memory == fixed.memory and values.memory.swap
    plain, _ = smaller(lora, "sdxl", area, least, None)
    assert plain and not any(name.startswith(("memory.", "optimizer.")) for name in plain)
    whole = Config.model_validate({**tree, "network": {"type": "full_model"}})
    changes, fixed = smaller(whole, "sdxl", area, least, {"bf16": True})
    assert changes["network.fused"] is True and changes["train.clip"] is None and changes["train.batch"] == 1
    assert not {"memory.swap", "memory.base_weights", "train.accumulate"} & changes.keys()


def test_verdicts() -> None:
    verdicts = [Memory(need, free, "GPU").verdict for need, free in ((8, 10), (9, 10), (11, 10), (1, None))]
    assert verdicts == ["fits", "tight", "too large", "unknown"]
    html = plan_html(Outlook(memory=Memory(11 * 10**9, 10**10, "<GPU>", {"train.checkpointing": True})))
    assert "Gradient checkpointing on" in html and "<GPU>" not in html
    assert (duration(5), duration(600), duration(9000)) == ("5 s", "10 min", "2 h 30 min")
    assert (gigabytes(4e8), gigabytes(1.26e10)) == ("400 MB", "12.6 GB")


# Files


def test_a_file_in_either_format_comes_back(place: Settings) -> None:
    config = Config(network=Lora(rank=32, alpha=16), train=Train(epochs=3), optimizer=AdamW(lr=2e-4))
    for style in (LIKENESS, KOHYA):
        path, lost = save(place, str(place.data_dir / f"{style}"), config, style, None)
        assert path.suffix == ".json" and not lost
        back = open_file(place, str(path))[1].config
        assert (back.network.rank, back.train.epochs, back.optimizer) == (32, 3, config.optimizer)
    assert "network_dim" in json.loads((place.data_dir / "Kohya GUI.json").read_text())


def test_files_outside_the_roots_are_neither_read_nor_written(place: Settings) -> None:
    for path in ("/etc/passwd", "relative.json", ""):
        with pytest.raises(InputError, match="Configuration file"):
            open_file(place, path)
    with pytest.raises(InputError, match="Configuration file"):
        save(place, "/etc/x.json", Config(), LIKENESS, None)


def test_a_file_of_one_s_own_is_kept_and_none_is_overwritten(place: Settings) -> None:
    first, same, other = (keep(place, "C:\\my\\set.json", text)[0] for text in ("1", "1", "2"))
    assert (first.name, same, other.name) == ("set.json", first, "set-2.json")
    with pytest.raises(InputError):
        keep(place, "..", "x")


def test_no_secret_is_kept(place: Settings) -> None:
    secrets = ("huggingface_token", "wandb_api_key", "wandb_api_key_textbox", "my_password")
    extra = "--wandb_api_key=hush --keep_tokens_separator ||| --hf-token hush hush '--api_key hush' --debug"
    rest = {"network_dim": 8, "keep_tokens": 1, "max_token_length": 75, "comment": "the token ä"}
    whole = {**rest, **dict.fromkeys(secrets, "hush"), "additional_parameters": extra}
    for start in ("", "\ufeff"):
        file, left = keep(place, "k.json", start + json.dumps(whole))
        assert json.loads(file.read_text("utf-8")) == {
            **rest,
            "additional_parameters": "--keep_tokens_separator ||| --debug",
        }
        assert left == [
            *secrets,
            *(f"additional_parameters --{name}" for name in ("wandb_api_key", "hf-token", "api_key")),
        ]
    for text in (json.dumps(rest), '{"seed": 1, "seed": 2}', "[1]", "{"):
        file, left = keep(place, "plain.json", text)
        assert file.read_text("utf-8") == text and not left


@pytest.mark.parametrize(("there", "chosen"), [(KOHYA, LIKENESS), (LIKENESS, KOHYA)])
def test_a_file_is_saved_in_its_own_format(desk: Desk, place: Settings, there: str, chosen: str) -> None:
    file, _ = save(place, str(place.data_dir / "set.json"), Config(seed=5), there, None)
    before = file.read_bytes()
    page = sheet(desk, form.write(Config()), path=str(file), style=chosen)
    desk.save(page)
    assert f"set.json is in the format of {there}, not of {chosen}" in str(page.mistakes[0])
    assert file.read_bytes() == before
    desk.load(page)
    assert page.style == there
    page.values = form.write(Config(seed=6))
    desk.save(page)
    assert open_file(place, str(file))[1].config.seed == 6 and (b"version" in file.read_bytes()) == (there == LIKENESS)


def test_presets_are_listed_with_their_purpose(place: Settings) -> None:
    assert dict(presets(place))["demo"] == configio.load("demo").about


# What is asked for


def test_a_preset_fills_the_form_and_leaves_nothing_of_before(desk: Desk) -> None:
    page = sheet(desk, form.write(Config(seed=9, network=Lora(dropout=0.5))))
    desk.preset(page, "demo")
    assert form.read(page.values) == configio.load("demo")
    desk.preset(page, DEFAULTS)
    assert form.read(page.values) == Config()


def test_adafactor_brings_its_schedule(desk: Desk) -> None:
    values = {**form.write(Config()), "optimizer.type": "adafactor"}
    page = sheet(desk, values, wire={"variants": {"optimizer": "adamw", "schedule": "cosine"}})
    desk.choose(page, "optimizer.type")
    assert form.read(page.values).schedule == AdafactorSchedule() and "LR Scheduler" in page.notes[0]
    page = sheet(desk, {**page.values, "optimizer.type": "lion"}, wire={"variants": {"optimizer": "adafactor"}})
    desk.choose(page, "optimizer.type")
    assert form.read(page.values).schedule.type == "cosine"


def test_a_field_is_reset_and_a_remedy_applied(desk: Desk) -> None:
    page = sheet(desk, form.write(Config(seed=9)))
    desk.asked(page, {"do": "reset", "name": "seed"})
    desk.asked(page, {"do": "set", "changes": {"train.checkpointing": True, "no.such": 1}})
    assert form.read(page.values) == Config(train=Train(checkpointing=True))


def test_a_kohya_file_of_one_s_own_is_opened_and_its_changes_told(desk: Desk) -> None:
    text = json.dumps({"network_dim": 24, "train_batch_size": 3, "learning_rate": 0.0002, "optimizer": "AdamW"})
    page = sheet(desk, form.write(Config(seed=9)))
    desk.asked(page, {"do": "open", "name": "kohya.json", "text": text})
    config = form.read(page.values)
    assert (config.network.rank, config.train.batch, config.seed) == (24, 3, Config().seed)
    assert page.notes[0] == "kohya.json is loaded." and "4 converted" in page.notes[1]
    desk.asked(page, {"do": "open", "name": "bad.json", "text": "{"})
    assert "broken JSON" in str(page.mistakes[0]) and form.read(page.values) == config


def test_start_takes_what_is_right_and_nothing_else(desk: Desk) -> None:
    wrong = sheet(desk, {**form.write(Config()), "train.batch": "0"})
    desk.start(wrong)
    missing = sheet(desk, form.write(Config(data=Data(images="/no/such"))))
    desk.start(missing)
    assert desk.jobs.started == [] and missing.outlook.mistakes  # pyrefly: ignore
    right = sheet(desk, form.write(configio.load("demo")))
    desk.start(right)
    assert desk.jobs.started == [configio.load("demo")] and right.run == "run"  # pyrefly: ignore


def test_stop_ends_what_is_shown_and_nothing_else(desk: Desk) -> None:
    shop: Any = desk.jobs

    def press(shown: str | None) -> str:
        page = sheet(desk, form.write(Config()), run=shown)
        desk.stop(page)
        return page.notes[0]

    assert press(None) == press("mine") == "No training runs."
    shop.running, shop.order = ["other"], ["next"]
    assert "mine does not train now. What trains is other; stop it in Runs" in press("mine")
    assert "next waits in the queue" in press("next")
    assert shop.told == []
    assert press(None) == press("other") == "other: asked to stop."
    assert shop.told == [("other", "stop")] * 2


def test_the_printed_command_trains_the_same(desk: Desk, tmp_path: Path) -> None:
    config = configio.load("demo", ["optimizer.type=prodigy"])
    page = sheet(desk, form.write(config))
    desk.print_command(page)
    blocks = [unescape(part.split("</code>")[0]) for part in page.command.split("<code>")[2:]]
    assert blocks[0] == "python launch.py train zk9.json"
    (tmp_path / "zk9.json").write_text(blocks[1])
    assert configio.load(str(tmp_path / "zk9.json")) == config


def test_the_form_is_remembered_until_the_next_visit(desk: Desk, place: Settings) -> None:
    place.data_dir.mkdir()
    desk.look(sheet(desk, form.write(Config(seed=77))))
    page = sheet(desk, form.write(Config()))
    desk.remember(page)
    assert form.read(page.values).seed == 77


# Pictures of one's own


def test_what_folders_say_of_repeats_and_words(tmp_path: Path) -> None:
    direct = draw_folder(tmp_path, {"mine": 3}) / "mine"  # captions say "zk9, thing ..."
    kohya = draw_folder(tmp_path / "img", {"24_zk9 face": 3, "16_zk9 body": 2, "notes": 1})
    bare = draw_folder(tmp_path, {"bare": 2}) / "bare"
    for caption in bare.glob("*.txt"):
        caption.unlink()
    assert [uses_of(folder) for folder in (direct, kohya)] == [None, 24 * 3 + 16 * 2]
    assert prefix_for(direct, "zk9", "woman") == ""
    assert prefix_for(direct, "mina", "woman") == "mina,"
    assert prefix_for(bare, "mina", "woman") == "mina woman"
    assert prefix_for(kohya, "mina", "woman") == ""


def test_uploaded_pictures_with_other_words_are_copied(place: Settings, tmp_path: Path) -> None:
    images = draw_folder(place.data_dir / "uploads" / "zk9" / "img", {"1_zk9": 2})
    there = sorted(path.name for path in (images / "1_zk9").iterdir())
    assert named(place, str(images), "zk9", "") == str(images)
    copy = Path(named(place, str(images), " mina ", "woman"))
    assert [folder.name for folder in copy.iterdir()] == ["1_mina woman"]
    assert sorted(path.name for path in (copy / "1_mina woman").iterdir()) == there
    assert sorted(path.name for path in (images / "1_zk9").iterdir()) == there  # for the runs of before
    assert named(place, str(images), "mina", "woman") == str(copy)  # a second press of Start
    own = draw_folder(tmp_path / "own", {"1_zk9": 1})
    assert named(place, str(own), "mina", "woman") == str(own)  # what a person named is left alone


def test_start_waits_for_pictures_that_are_still_opened(
    desk: Desk, place: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = draw_folder(tmp_path, {"mine": 2}) / "mine"

    def slow(*asked: Any) -> Any:
        time.sleep(0.3)
        return collect(*asked)

    monkeypatch.setattr(planning, "collect", slow)
    card = object.__new__(_Own)
    card.settings, card.jobs, card.form = place, desk.jobs, SimpleNamespace(desk=desk)  # pyrefly: ignore
    told, panel = card.start(str(folder), "zk9", "", "pocket")
    assert "steps" in told and "run" in panel
    assert [Path(config.data.images) for config in desk.jobs.started] == [folder]  # pyrefly: ignore


@pytest.mark.parametrize(("bf16", "precision"), [(True, "bf16"), (False, "fp16"), (None, "fp16")])
def test_own_pictures_are_trained_in_what_the_card_computes_in(
    place: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bf16: bool | None, precision: str
) -> None:
    card = {"index": 0, "uuid": "", "name": "any", "memory_total": 24 * 10**9, "bf16": bf16}
    monkeypatch.setattr(machine, "gpus", lambda: [card])
    folder = draw_folder(tmp_path, {"mine": 2}) / "mine"
    assert advised(place, str(folder), "zk9", "", "pocket")[0].train.precision == precision
