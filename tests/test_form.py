"""The form: any config stands in it and comes back the same, mistakes stand at their fields, the plan is true."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from trainer.config import Adafactor, AdafactorSchedule, AdamW, Config, Data, Lora, Sample, Save, Train, Validation
from trainer.errors import InputError
from trainer.tree import fields, leaves, overlay
from webui import form
from webui.fields import FIELDS, variant_of
from webui.layout import PLACES, WORDS
from webui.settings import Settings

DICE = random.Random(3)
POOL: list[Any] = [
    *(None, True, False, 0, 1, 2, 8, 75, 225, 512, 999, 1000, 0.0, 1e-8, 0.5, 0.999, 1e-30, -0.8, "same", "10%"),
    *("", "x", " two words, ", "é・|||", "#00ff7F", ".txt", "a\nb", "1e-4", "/tmp/a b", "photo of zk9 --d 1 --s 20"),
    *("1:9,0.5", "1:20,0.3:40,1e-2"),
    *((), (5,), (0.9, 0.99), (1e-30, 1e-3), (512, 768), (64, 64), (200, 400, 600), ("one", "two --n x"), ("#",)),
    *(choice for shown in FIELDS.values() for _, choice in shown.choices),
    *(DICE.randrange(1, 300) for _ in range(40)),
    *(round(10 ** DICE.uniform(-9, 3), DICE.randrange(3, 15)) for _ in range(40)),
]  # fmt: skip


def accepted(name: str) -> list[Any]:
    """What the type of an option alone lets in."""
    found: dict[str, Any] = {}
    for info in (info for dotted, info in fields() if dotted == name):
        adapter = TypeAdapter(Annotated[info.annotation, info])
        for value in POOL:
            with contextlib.suppress(ValidationError):
                made = adapter.validate_python(value)
                found[repr(made)] = made
    return list(found.values())


CHOICES = {name: accepted(name) for name in FIELDS if name != "version" and name != "data.buckets"}


@st.composite
def configs(draw: st.DrawFn) -> Config:
    """Valid configs: some options are set to what they take, and those that cannot stand together are thrown away."""
    tree: dict[str, Any] = Config().model_dump()
    for owner in ("optimizer", "schedule", "objective.noise", "objective.loss"):
        word = draw(st.sampled_from(FIELDS[f"{owner}.type"].choices))[1]
        part: dict[str, Any] = {"type": word}
        tree = overlay(tree, {owner: part} if "." not in owner else {"objective": {owner.split(".")[1]: part}})
    if draw(st.booleans()):
        tree["data"]["buckets"] = None
    if "adafactor" in (tree["optimizer"]["type"], tree["schedule"]["type"]):
        tree["optimizer"], tree["schedule"] = {"type": "adafactor"}, {"type": "adafactor"}
    for name in draw(st.lists(st.sampled_from(sorted(CHOICES)), max_size=12, unique=True)):
        if name.endswith(".type"):
            continue
        above, last = name.rpartition(".")[::2]
        part = form.found(tree, above) if above else tree
        shown = FIELDS[name]
        if isinstance(part, dict) and (not shown.owner or part.get("type", "on") in shown.meanings):
            part[last] = draw(st.sampled_from(CHOICES[name]))
    try:
        return Config.model_validate(tree)
    except ValidationError:
        assume(False)
        raise AssertionError from None


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(configs())
def test_what_is_written_into_the_form_is_read_from_it(config: Config) -> None:
    values = form.write(config)
    again = form.read(values)
    assert again == config
    assert form.write(again) == values
    assert all(isinstance(value, (str, bool)) for value in values.values())


def test_every_option_has_one_place() -> None:
    placed = [name for names in PLACES.values() for name in names]
    assert len(placed) == len(set(placed))
    assert {*placed, *form.HIDDEN} == {name for name, _ in leaves()} == set(FIELDS)


def test_labels_are_the_tutorials() -> None:
    labels = [shown.label for shown in FIELDS.values()]
    assert len(set(labels)) == len(labels)
    words = (
        *("Train batch size", "Epoch", "Save every N epochs", "Caption Extension", "Mixed precision", "Save precision"),
        *("Optimizer", "Network Rank (Dimension)", "Network Alpha", "Max Resolution", "Enable buckets", "LoRA type"),
        *("Image folder", "Output folder", "Model output name", "Cache latents", "LR Scheduler", "CrossAttention"),
        *("Full bf16 training", "Gradient checkpointing", "Don't upscale bucket resolution", "Sample prompts"),
    )
    assert set(words) <= set(labels)
    attention = FIELDS["train.attention"]
    assert [word for word, _ in attention.choices] == ["sdpa", "xformers", "none"]
    assert "Memory efficient attention" in attention.meanings[""].help, "a check box that tutorials name"
    assert FIELDS["train.epochs"].today == "Max train epoch" and FIELDS["train.epochs"].key == "max_train_epochs"
    assert {
        name: set(words) <= {word for word, _ in FIELDS[name].choices} for name, words in WORDS.items()
    } == dict.fromkeys(WORDS, True)


def test_off_is_not_zero() -> None:
    config = Config(save=Save(every_epochs=None, state_minutes=0), data=Data(workers=0), train=Train(clip=None))
    values = form.write(config)
    assert (values["save.every_epochs"], values["save.state_minutes"], values["data.workers"]) == ("", "0", "0")
    assert form.read(values) == config
    with pytest.raises(form.Mistakes) as caught:
        form.read({**values, "save.every_epochs": "0"})
    assert caught.value.at == {"save.every_epochs": '"0" is not possible here: it must be 1 or more'}


def test_numbers_keep_every_digit() -> None:
    config = Config(optimizer=AdamW(lr=1.2345678901234567e-05, betas=(0.9, 0.98765432109)), network=Lora(alpha=16))
    values = form.write(config)
    assert (values["optimizer.lr"], values["network.alpha"]) == ("1.2345678901234568e-05", "16")
    assert values["data.resolution"] == "512,512" and form.read(values) == config


def test_sizes_as_people_write_them() -> None:
    for text, size in {"768": (768, 768), "512x768": (512, 768), " 512, 768 ": (512, 768)}.items():
        assert form.read({**form.write(Config()), "data.resolution": text}).data.resolution == size


def test_one_timestep_is_a_list_still() -> None:
    config = Config(validation=Validation(timesteps=(500,)), sample=Sample(prompts=("one",)))
    assert form.read(form.write(config)) == config


def test_a_new_variant_brings_its_own_values_and_keeps_what_both_have() -> None:
    values = form.write(Config(optimizer=AdamW(lr=3e-4, weight_decay=0.1)))
    eight = form.apply(values, {"optimizer.type": "adamw8bit"})
    assert (eight["optimizer.lr"], eight["optimizer.weight_decay"]) == ("0.0003", "0.1")
    prodigy = form.apply(eight, {"optimizer.type": "prodigy"})
    assert (prodigy["optimizer.lr"], prodigy["optimizer.weight_decay"], prodigy["optimizer.d_coef"]) == ("1", "0", "1")
    line = form.apply({**values, "schedule.warmup": "5%"}, {"schedule.type": "linear"})
    assert line["schedule.warmup"] == "5%" and variant_of("schedule", line) == "linear"


def test_what_differs_from_the_default_is_known() -> None:
    assert form.changed(form.write(Config())) == []
    config = Config(optimizer=Adafactor(), schedule=AdafactorSchedule(), data=Data(buckets=None), seed=1)
    assert set(form.changed(form.write(config))) == {"seed", "data.buckets", "optimizer.type", "schedule.type"}


WRONG: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "limit": ({"train.batch": "0"}, {"train.batch": "1 or more"}),
    "word": ({"network.rank": "many"}, {"network.rank": "a whole number"}),
    "comma": ({"optimizer.lr": "0,5"}, {"optimizer.lr": "a number"}),
    "name": ({"output.name": "../x"}, {"output.name": "cannot be a file name"}),
    "two": ({"optimizer.betas": "0.9"}, {"optimizer.betas": "such as 0.9,0.999"}),
    "endless": ({"train.epochs": ""}, {"train.epochs": "“Epoch” and “Max train steps” must be given"}),
    "parts": ({"data.crop": "random"}, {"data.crop": "set “Cache latents” to false"}),
    "unlike": (
        {"data.cache_text": True, "captions.shuffle": True},
        {"data.cache_text": "do not vary", "captions.shuffle": "do not vary"},
    ),
    "pair": ({"schedule.type": "adafactor"}, {"schedule.type": "choose both, or neither"}),
    "nothing": (
        {"rates.unet": "", "rates.text_encoder": "", "rates.text_encoder_2": ""},
        dict.fromkeys(("rates.unet", "rates.text_encoder", "rates.text_encoder_2"), "nothing would be trained"),
    ),
    "several": ({"train.batch": "-1", "seed": "x"}, {"train.batch": "1 or more", "seed": "a whole number"}),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_stands_at_its_field(name: str) -> None:
    changes, places = WRONG[name]
    with pytest.raises(form.Mistakes) as caught:
        form.read({**form.write(Config()), **changes})
    assert caught.value.at.keys() == places.keys()
    assert all(words in caught.value.at[field] for field, words in places.items())
    assert all(FIELDS[field].label in str(caught.value) for field in places)


def test_what_the_engine_refuses_stands_at_its_field() -> None:
    told = form.at_fields(InputError("model.vae: x does not exist: leave it empty\nProdigy finds one rate"))
    assert told.at == {"model.vae": "x does not exist: leave it empty"}
    assert told.general == ("Prodigy finds one rate",)
    told = form.at_fields(InputError("rates: none of unet, text_encoder is trained: give one of them a rate"))
    assert set(told.at) == {"rates.unet", "rates.text_encoder"}


def test_the_page_has_every_box_once_and_no_value_follows_a_change(tmp_path: Path) -> None:
    from webui import app
    from webui.jobs import Jobs

    place = Settings("127.0.0.1", 0, tmp_path / "data", tmp_path / "data" / "runs", (), (tmp_path,))
    place.runs.mkdir(parents=True)
    page = app.build(place, Jobs(place, watch=False))
    made = page.get_config_file()
    ids = [part["props"].get("elem_id") or "" for part in made["components"]]
    boxes = [name.removeprefix("field-") for name in ids if name.startswith("field-")]
    assert sorted(boxes) == sorted(shown.name for shown in form.PLACED)
    labels = {part["props"].get("label") for part in made["components"]}
    assert {"Start", "LoRA", "Runs", "TensorBoard", "Model Quick Pick", "Basic", "Advanced", "Samples"} <= labels
    events = {event for part in made["dependencies"] for _, event in part["targets"]}
    assert "change" not in events and {"input", "click", "submit", "load"} <= events
    assert app.look().keys() == {"theme", "head"}
