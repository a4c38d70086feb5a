"""Every optimizer of the Kohya GUI, and those of pytorch-optimizer: their libraries' own, and exact when they go on."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor

from tests.conftest import Train
from tests.test_optimizers import OPTIMIZERS, Problem, kept
from trainer import config, kohya
from trainer.config import Averaging, Config, Library
from trainer.config.library import TESTED
from trainer.early import check_optimizer, check_packages, check_paging
from trainer.errors import InputError
from trainer.kohya import table
from trainer.metadata import _optimizer
from trainer.optimizer_kinds import KINDS
from trainer.optimizers import OptimizerError, averaged, build, load, make_schedule, try_out
from trainer.runfolder import RunFolder
from trainer.train import run
from trainer.tree import ConfigError, check, overlay

CLASSES = {kind.model_fields["type"].default: kind for kind in get_args(get_args(config.Optimizer)[0])}
NEW = [word for word, kind in CLASSES.items() if kind not in (*OPTIMIZERS, Library)]
DEFAULTS = Config().model_dump(mode="json")


def trained(optimizer: Any, problem: Problem, steps: int = 10) -> Tensor:
    return problem.train(optimizer, steps=steps).values()


def made(options: Any, problem: Problem) -> torch.optim.Optimizer:
    return build(options, problem.groups(options.lr, options.lr))


def schedule_of(word: str) -> dict[str, Any]:
    if word == "adafactor":
        return {"type": "adafactor"}
    return {"type": "constant" if issubclass(CLASSES[word], Averaging) else "cosine"}


# Against the libraries


def test_every_word_has_its_facts() -> None:
    assert KINDS.keys() == CLASSES.keys()


@pytest.mark.parametrize("word", NEW)
def test_defaults_and_steps_are_the_library_s(word: str) -> None:
    """Its own class, with nothing said but the rate, does the same to the bit."""
    kind, options, ours, theirs = KINDS[word], CLASSES[word](), Problem(), Problem()
    module, _, name = kind.path.rpartition(".")
    said = {"momentum": 0.9, "nesterov": True} if word.startswith("sgdnesterov") else {}
    reference = getattr(importlib.import_module(module), name)(theirs.weights, lr=options.lr, **said)
    if hasattr(reference, "train"):
        reference.train()
    if word == "prodigyplus":  # with a rate for each group, one group is another training
        options = options.model_copy(update={"split_groups": False})
        reference.param_groups[0]["split_groups"] = False
    assert torch.equal(trained(made(options, ours), ours), trained(reference, theirs))
    assert not torch.equal(ours.values(), Problem().values())


OTHER: dict[str, Any] = {
    **{"lr": 0.013, "eps": 1e-2, "weight_decay": 0.5, "alpha": 2.0, "t_alpha": 5, "t_beta3": 5, "momentum": 0.5},
    **{"clip_threshold": 0.01, "d0": 1e-4, "growth_rate": 1.01, "d_coef": 2.0, "beta3": 0.5, "warmup": 5, "later": 2.0},
    **{"averaging": 6.0},
}
BESIDE: dict[str, Any] = {
    **{field: {"weight_decay": 0.5} for field in ("decouple", "no_prox")},
    "beta3": {"d_limiter": False},  # the limit is what the estimate follows in the first steps
}
"""What an option needs beside it to matter."""
FIELDS = [
    (word, name)
    for word in NEW
    for name in CLASSES[word].model_fields
    if name != "type" and not word.startswith("paged")
]


@pytest.mark.parametrize(("word", "field"), FIELDS)
def test_every_option_changes_the_result(word: str, field: str) -> None:
    kind = CLASSES[word]
    value, other = getattr(kind(), field), OTHER.get(field)
    if isinstance(value, bool):
        other = not value
    elif isinstance(value, tuple):
        other = tuple(one * 0.7 for one in value)
    base = BESIDE.get(field, {})
    before, after = Problem(), Problem()
    changed = trained(made(kind(**{**base, field: other}), after), after)
    assert value != other
    assert not torch.equal(trained(made(kind(**base), before), before), changed)


# States


def goes_on(options: Any, dtype: torch.dtype = torch.float32, steps: int = 4) -> bool:
    """Whether a training that stopped in the middle ends as one that did not, and moved at all."""
    through = Problem(dtype)
    optimizer = made(options, through)
    through.train(optimizer, steps=steps)
    saved, values = kept(optimizer.state_dict()), [weight.detach().clone() for weight in through.weights]
    noise = through.noise.get_state()
    through.train(optimizer, steps=steps)

    again = Problem(dtype)
    for weight, value in zip(again.weights, values, strict=True):
        weight.data.copy_(value)
    again.noise.set_state(noise)
    optimizer = made(options, again)
    load(optimizer, saved)
    again.train(optimizer, steps=steps)
    moved = not torch.equal(through.values(), Problem(dtype).values()) and bool(through.values().isfinite().all())
    return moved and torch.equal(through.values(), again.values())


@pytest.mark.parametrize("word", NEW)
def test_each_goes_on_bit_for_bit(word: str) -> None:
    assert goes_on(CLASSES[word]())
    if not KINDS[word].path.startswith("bitsandbytes"):
        assert goes_on(CLASSES[word](), torch.bfloat16)


def test_those_of_pytorch_optimizer_go_on_bit_for_bit() -> None:
    assert [name for name in TESTED if not goes_on(Library(name=name, lr=1e-3))] == []


# What is refused


def test_names_that_no_test_has_trained_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"StabelAdamW is not among those.*did you mean StableAdamW\?"):
        Library(name="StabelAdamW")  # pyrefly: ignore
    with pytest.raises(OptimizerError, match=r"weight_decai is no argument of SOAP; did you mean weight_decay\?"):
        try_out(Library(name="SOAP", args="weight_decai=1"), torch.device("cpu"))
    with pytest.raises(OptimizerError, match=r"optimizer pytorch_optimizer does not take its options"):
        try_out(Library(name="SOAP", args="weight_decay=-1"), torch.device("cpu"))
    try_out(Library(name="SOAP", args="weight_decay=0.1 betas=0.9,0.95"), torch.device("cpu"))


def test_arguments_reach_the_library() -> None:
    plain, heavy = Problem(), Problem()
    trained(made(Library(name="StableAdamW", lr=1e-2), plain), plain)
    trained(made(Library(name="StableAdamW", lr=1e-2, args="weight_decay=0.5 betas=0.5,0.9"), heavy), heavy)
    assert not torch.equal(plain.values(), heavy.values())


def test_what_cannot_run_is_said_early(monkeypatch: pytest.MonkeyPatch) -> None:
    def of(word: str, device: str = "cpu") -> Config:
        tree = {"optimizer": {"type": word}, "schedule": schedule_of(word), "train": {"device": device}}
        return Config.model_validate(tree)

    with pytest.raises(InputError, match=r"optimizer.type: lion8bit does not run on a Mac"):
        check_packages(of("lion8bit", "mps"))
    assert "pages its state on CUDA alone" in check_paging(of("pagedlion8bit"))[0]
    assert check_paging(of("pagedlion8bit", "cuda")) == check_paging(of("lion")) == []
    with pytest.raises(InputError, match=r"DAdaptSGD finds one rate"):
        check_optimizer(CLASSES["dadaptsgd"](), {"unet": 1.0, "text_encoder": 0.5})
    for word, package in (
        ("dadaptadam", "dadaptation"),
        ("adamwschedulefree", "schedulefree"),
        ("came", "pytorch-opt"),
    ):
        with monkeypatch.context() as gone, pytest.raises(InputError, match=rf"optimizer.type: {word}.*{package}"):
            gone.setitem(sys.modules, package.replace("-opt", "_optimizer"), None)
            check_packages(of(word))


def test_an_average_stands_in_place_of_a_schedule() -> None:
    for schedule in ({"type": "cosine"}, {"type": "constant", "warmup": 5}):
        with pytest.raises(ValidationError, match=r"averages its weights in place of a schedule: choose constant"):
            Config.model_validate({"optimizer": {"type": "sgdschedulefree"}, "schedule": schedule})


# Files of the Kohya GUI, and metadata


@pytest.mark.parametrize("word", CLASSES)
def test_each_goes_to_the_kohya_gui_and_back(word: str) -> None:
    tree = {"optimizer": CLASSES[word]().model_dump(), "schedule": schedule_of(word)}
    whole = Config.model_validate(overlay(DEFAULTS, tree))
    assert kohya.lost(whole) == []
    assert check(overlay(DEFAULTS, kohya.read(kohya.write(whole), "x").config_tree), "").optimizer == whole.optimizer


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("DAdaptation", "dadaptadampreprint"), ("PagedAdamW", "pagedadamw"), ("AdEMAMix8bit", "ademamix8bit"),
        ("schedulefree.RAdamScheduleFree", "radamschedulefree"), ("dadaptation.DAdaptLion", "dadaptlion"),
        ("pytorch_optimizer.SOAP", "pytorch_optimizer"), ("SGDNesterov8bit", "sgdnesterov8bit"),
    ],
)  # fmt: skip
def test_other_names_of_the_same(name: str, ours: str) -> None:
    assert kohya.read({**table.FRESH, "optimizer": name}, "x").config_tree["optimizer"]["type"] == ours


def test_arguments_and_schedules_of_the_new_ones() -> None:
    words = "decouple=True weight_decay=0.2 betas=0.9,0.99 growth_rate=1.02 use_bias_correction=True"
    tree = {**table.FRESH, "optimizer": "DAdaptAdam", "optimizer_args": words, "learning_rate": 1.0}
    read = check(overlay(DEFAULTS, kohya.read(tree, "x").config_tree), "").optimizer
    assert read == CLASSES["dadaptadam"](
        decouple=True, weight_decay=0.2, betas=(0.9, 0.99), growth_rate=1.02, bias_correction=True
    )
    words = "weight_decay=0.1 betas=0.9,0.95"
    read = kohya.read({**table.FRESH, "optimizer": "pytorch_optimizer.SOAP", "optimizer_args": words}, "x")
    assert read.config_tree["optimizer"]["args"] == words
    free = kohya.read({**table.FRESH, "optimizer": "AdamWScheduleFree", "lr_warmup": 10}, "x")
    assert free.config_tree["schedule"] == {"type": "constant"}
    assert any("averages its weights in place of a schedule" in line for line in free.lines())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("AdamWSchedulFree", r"is not known; did you mean AdamWScheduleFree\?"),
        ("os.system", r"is not known: choose one of AdamW,"),
        ("pytorch_optimizer.LOMO", r"is not among those of pytorch-optimizer that are tested"),
        ("transformers.Lion", r"is not known"),
    ],
)
def test_unknown_names_are_refused(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        kohya.read({**table.FRESH, "optimizer": name}, "x")


def test_schedules_by_the_name_of_their_class() -> None:
    tree = {**table.FRESH, "lr_scheduler_type": "CosineAnnealingLR", "learning_rate": 1e-4}
    read = kohya.read({**tree, "lr_scheduler_args": "T_max=30 eta_min=1e-5"}, "x").config_tree
    assert read["schedule"] == {"type": "cosine_annealing", "period": 30, "lowest": 0.1}
    whole = check(overlay(DEFAULTS, read), "")
    assert kohya.lost(whole) == []
    rex = {**table.FRESH, "lr_scheduler_type": "pytorch_optimizer.REXScheduler", "lr_scheduler_args": "total_steps=9"}
    assert kohya.read(rex, "x").config_tree["schedule"]["type"] == "rex"
    assert kohya.lost(Config(schedule=config.Rex())) == ["schedule.type 'rex'"]
    for word, said in (("os.system", "lr_scheduler_type.*is not known"), ("CosineAnnealingLR", "needs T_max")):
        with pytest.raises(ConfigError, match=said):
            kohya.read({**table.FRESH, "lr_scheduler_type": word}, "x")


def test_waves_are_those_of_pytorch() -> None:
    ours, theirs = Problem(), Problem()
    mine = made(config.AdamW(lr=1e-3), ours)
    schedule = make_schedule(config.CosineAnnealing(period=7, lowest=0.2), mine, 30)
    other = torch.optim.AdamW(theirs.weights, lr=1e-3)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(other, T_max=7, eta_min=2e-4)
    for _ in range(30):
        assert schedule.get_last_lr()[0] == pytest.approx(reference.get_last_lr()[0], rel=1e-6)
        for optimizer, shape in ((mine, schedule), (other, reference)):
            optimizer.step()
            shape.step()


def test_names_in_metadata_are_those_of_sd_scripts() -> None:
    def named(**options: Any) -> str:
        return _optimizer(Config.model_validate({"optimizer": options, "schedule": schedule_of(options["type"])}))

    assert named(type="dadaptadam", decouple=True) == "dadaptation.dadapt_adam.DAdaptAdam(decouple=True)"
    assert named(type="lion") == "lion_pytorch.lion_pytorch.Lion"
    assert named(type="pytorch_optimizer", name="SOAP") == "pytorch_optimizer.SOAP(name=SOAP)"


# Whole trainings


def test_a_schedule_free_training_saves_its_average_and_goes_on_exactly(train: Train, tmp_path: Path) -> None:
    """One that is saved and measured at each step ends as one that goes on from its first step and is left alone."""
    part = {"optimizer": {"type": "adamwschedulefree", "lr": 1e-2}, "schedule": {"type": "constant"}}
    held_out = {"share": 0.2, "timesteps": [500], "pictures": 1}
    looked = train(
        {
            **part, "train": {"steps": 3}, "validation": {**held_out, "every_steps": 2},
            "save": {"state_minutes": 0, "state_keep": 9, "every_steps": 1},
        }
    )  # fmt: skip
    average = load_file(looked.checkpoints / "zk9-step00000002.safetensors")
    own = load_file(looked.states / "00000002" / "tensors.safetensors")
    ups = [name for name in average if name.endswith("lora_up.weight")]
    assert any(not torch.equal(average[name], own[f"network/{name}"]) for name in ups)

    quiet = looked.config().model_copy(update={"save": config.Save(precision="fp32")})
    alone = RunFolder.create(tmp_path / "alone", quiet)
    shutil.copytree(looked.states / "00000001", alone.states / "00000001")
    assert run(alone) == 0
    first, second = (load_file(folder.checkpoints / "zk9.safetensors") for folder in (looked, alone))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert [event["step"] for event in alone.events() if event["kind"] == "step"] == [2, 3]


def test_a_rate_that_is_found_is_told(train: Train) -> None:
    part = {"type": "dadaptadam", "d0": 1e-3, "decouple": True, "weight_decay": 0.1}
    steps = [event for event in train({"optimizer": part}).events() if event["kind"] == "step"]
    assert steps[0]["lr"]["d*lr/unet"] >= 1e-3 * steps[0]["lr"]["unet"] > 0


def test_averages_leave_the_weights_as_they_were() -> None:
    class Still:
        def ready(self) -> None:
            pass

    problem = Problem()
    optimizer = made(CLASSES["sgdschedulefree"](lr=0.1), problem)
    problem.train(optimizer, steps=3)
    before = problem.values()
    with averaged(optimizer, Still()):  # pyrefly: ignore
        assert not torch.equal(problem.values(), before)
    assert torch.equal(problem.values(), before) and optimizer.param_groups[0]["train_mode"]
