"""Sweeps: what is tried, which runs are made of it, what they are compared by, and that a killed one goes on."""

from __future__ import annotations

import json
import os
import signal
import sys
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from trainer.__main__ import main
from trainer.config import Config
from trainer.durable import write_json
from trainer.errors import InputError
from trainer.runfolder import RunFolder
from trainer.sweep import adaptive, far, running
from trainer.sweep.folder import SweepFolder, ended, sweeps
from trainer.sweep.planning import plan
from trainer.sweep.table import table_of
from trainer.sweep.vary import config_of, drawn, grid, read, read_all
from trainer.terminal import Wish
from webui import sweeps as page
from webui.jobs import Jobs
from webui.planning import Planner
from webui.settings import Settings

RATES = "optimizer.lr=1e-4, 3e-4"
RANKS = "network.rank=4,8"


def config(**parts: Any) -> Config:
    return Config.model_validate({"output": {"name": "zk9"}, "train": {"device": "cpu"}, **parts})


def trained(run: RunFolder, held_out: float, end: str = "done", score: float | None = None, **more: Any) -> None:
    """What a training leaves in its folder."""
    (run.checkpoints / "zk9.safetensors").write_bytes(b"weights")
    with run.owned():
        run.event("start", step=0, steps=2)
        run.event("step", step=1, epoch=1, loss=0.5, average=0.5, memory=10**9)
        run.event("checkpoint", step=1, file="checkpoints/zk9-000001.safetensors", epoch=1)
        run.event("validation", step=1, loss=held_out, train_loss=0.4)
        run.event("step", step=2, epoch=2, loss=0.3, average=0.4, memory=2 * 10**9)
        run.event("validation", step=2, loss=held_out + 0.1, train_loss=0.3)
        run.event("checkpoint", step=2, file="checkpoints/zk9.safetensors", epoch=None)
        if score is not None:
            run.event("score", step=2, epoch=2, row={"total": score, "file": str(run.checkpoints / "zk9.safetensors")})
        run.event(end, step=2, **more)


def by_rank(run: RunFolder, wish: Wish) -> int:
    """A trainer whose held-out loss is the lower the higher the rank."""
    if not ended(run):
        trained(run, 1 / run.config().network.rank)
    return 0


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., SweepFolder]:
    def go(*lines: str, how: str = "grid", count: int = 0, **parts: Any) -> SweepFolder:
        return SweepFolder.make(tmp_path / "runs", plan(config(**parts), lines, how, count)[0])

    return go


def test_every_combination_is_a_run_with_a_config_of_its_own(make: Callable[..., SweepFolder]) -> None:
    folder = make(RATES, RANKS)
    sweep = folder.read()
    assert [trial.values for trial in sweep.trials] == [
        {"optimizer.lr": rate, "network.rank": rank} for rate in (1e-4, 3e-4) for rank in (4, 8)
    ]
    runs = [folder.begin(sweep, place) for place in range(4)]
    told = [run.config() for run in runs]
    assert [(one.optimizer.lr, one.network.rank, one.output.name) for one in told] == [
        (1e-4, 4, "zk9-01"), (1e-4, 8, "zk9-02"), (3e-4, 4, "zk9-03"), (3e-4, 8, "zk9-04"),
    ]  # fmt: skip
    assert [folder.begin(folder.read(), place).path for place in range(4)] == [run.path for run in runs]
    assert [found.path for found in sweeps(folder.runs)] == [folder.path]


@pytest.mark.parametrize(
    ("line", "share", "value"),
    [
        ("optimizer.lr=1e-5..1e-3 log", 0.5, 1e-4),
        ("network.dropout=0.0..0.5", 0.5, 0.25),
        ("network.rank=4..6", 0.99, 6),
        ("schedule.type=cosine,linear", 0.6, "linear"),
        ("data.flip=true,false", 0.1, True),
        ("data.resolution=[[512,512],[768,512]]", 0.9, (768, 512)),
    ],
)
def test_values_as_they_are_written(line: str, share: float, value: Any) -> None:
    one = read(line)
    assert one.at(share) == value and read(one.text()) == one


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["optimizer.lr"], "write an option and its values"),
        (["optimizer.lr=1e-4"], "a single value"),
        (["optimizer.lr=1e-3..1e-5"], "no range"),
        (["network.dropout=0..0.5 log"], "above 0"),
        ([RATES, RATES], "named twice"),
        ([], "no option is named"),
        (["network.rank=4..64"], "a grid needs listed values"),
        (["network.rnk=4,8"], "network.rnk: no such option; did you mean network.rank"),
        (["network.rank=4,0"], "network.rank: 0: it must be"),
        (["optimizer.lr=1e-4,quick"], "optimizer.lr"),
        ([f"seed={','.join(map(str, range(1001)))}"], "1,001 runs, the limit is 1,000"),
    ],
)
def test_what_cannot_be_tried_is_refused_before_anything_is_made(lines: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        SweepFolder.make(tmp_path / "runs", plan(config(), lines)[0])
    assert said in str(caught.value) and not (tmp_path / "runs").exists()


def test_a_changed_type_brings_its_own_defaults() -> None:
    tree = config().model_dump(mode="json")
    made = config_of(tree, {"optimizer.lr": 0.5, "optimizer.type": "prodigy"}, 0)
    assert made.optimizer.type == "prodigy" and made.optimizer.lr == 0.5


def test_what_is_drawn_by_chance_follows_from_the_seed() -> None:
    fields = read_all(["optimizer.lr=1e-5..1e-3 log", RANKS])
    ten = drawn(fields, 10, 1)
    assert drawn(fields, 4, 1) == ten[:4] and drawn(fields, 10, 2) != ten
    assert len({json.dumps(values) for values in ten}) == 10
    assert all(1e-5 <= values["optimizer.lr"] <= 1e-3 for values in ten)
    assert len(drawn(read_all([RANKS]), 10, 1)) == 2, "there are no more"
    assert len(grid(read_all([RANKS, RATES]))) == 4


def test_a_sweep_goes_on_where_it_was_left(make: Callable[..., SweepFolder]) -> None:
    folder, begun = make(RATES, RANKS), list[str]()

    def stopped_at_the_second(run: RunFolder, wish: Wish) -> int:
        begun.append(run.config().output.name)
        if len(begun) == 2:
            trained(run, 1.0, "stopped", reason="stop")
            return 0
        return by_rank(run, wish)

    assert not running.train_all(folder, Wish(), stopped_at_the_second, say=lambda line: None)
    assert begun == ["zk9-01", "zk9-02"]
    assert [row.state for row in sorted(table_of(folder).rows, key=lambda row: row.place)][1:] == [
        "stopped", "planned", "planned",
    ]  # fmt: skip
    assert running.train_all(folder, Wish(), by_rank, say=lambda line: None)
    assert all(row.state == "done" for row in table_of(folder).rows)
    starts = [sum(event["kind"] == "start" for event in RunFolder(folder.runs / str(trial.run)).events())
              for trial in folder.read().trials]  # fmt: skip
    assert starts == [1, 2, 1, 1]


def test_a_run_that_ended_early_by_itself_is_done(make: Callable[..., SweepFolder]) -> None:
    folder = make(RANKS)
    run = folder.begin(folder.read(), 0)
    trained(run, 0.2, "stopped", reason="turned")
    assert ended(run)


def test_the_table_orders_by_the_most_telling_measure_that_all_have(make: Callable[..., SweepFolder]) -> None:
    folder = make("network.rank=4,8,16")
    sweep = folder.read()
    first, second, failed = (folder.begin(sweep, place) for place in range(3))
    with failed.owned():  # before anything telling was measured, and so it has no say
        failed.event("start", step=0, steps=2)
        failed.event("step", step=1, epoch=1, loss=0.1, average=0.1)
        failed.event("error", text="The loss is not a number")
    (first.checkpoints / "zk9-000001.safetensors").write_bytes(b"weights")
    trained(first, 0.2)
    trained(second, 0.3, score=0.7)
    table = table_of(folder)
    assert table.by == "held_out" and table.best and (table.best.place, table.best.held_out) == (1, 0.2)
    assert table.best.file == str(first.checkpoints / "zk9-000001.safetensors"), "where it was lowest"
    assert table.best.memory == 2 * 10**9 and table.best.loss == 0.4 and table.best.seconds is not None
    verdict = {"best": {"file": str(first.checkpoints / "zk9.safetensors"), "strength": 0.8}}
    write_json(first.path / "verdict.json", {"verdict": verdict, "rows": [{"total": 0.5}, {"total": 0.6}]})
    table = table_of(folder)
    assert table.by == "score" and [(row.place, row.score) for row in table.rows] == [
        (2, 0.7), (1, 0.6), (3, None),
    ]  # fmt: skip
    assert table.rows[1].why.endswith("strength 0.8")
    assert "Best: run 2 (network.rank 8), score 0.7. Use zk9.safetensors" in table.text()
    assert table_of(folder, "loss").by == "loss"


def test_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    write_json(tmp_path / "zk9.json", config().model_dump(mode="json"))
    words = ["sweep", str(tmp_path / "zk9.json"), "--vary", RANKS, "--runs", str(tmp_path / "runs")]
    assert main([*words, "--plan"]) == 0 and not (tmp_path / "runs").exists()
    assert "run 2: network.rank 8" in capsys.readouterr().out
    assert main([*words, "--vary", "network.rank=1"]) == 2
    calls: list[list[str]] = []

    def call(command: list[str], run: RunFolder, wish: Wish) -> int:
        calls.append(command[:1])
        if command[0] == "train":
            trained(run, 0.5)
            return 0
        return 1

    monkeypatch.setattr(running, "call", call)
    assert main([*words, "--set", "compare.afterwards=true", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert calls == [["train"], ["compare"], ["train"], ["compare"]]
    assert [row["state"] for row in told["rows"]] == ["done", "done"] and told["best"]["place"] == 1
    folder = sweeps(tmp_path / "runs")[0].path
    assert main(["sweep", "--resume", str(folder)]) == 0 and calls.count(["train"]) == 2, "nothing is trained twice"
    assert main(["sweep", "--table", str(folder)]) == 0
    assert "Best: run 1" in capsys.readouterr().out


def test_optuna_needs_to_be_there_and_something_to_search_by(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"validation\.share"):
        adaptive.objective(config(), "auto")
    assert adaptive.objective(config(validation={"share": 0.2}), "auto") == "held_out"
    assert adaptive.objective(config(compare={"afterwards": True}), "auto") == "score"
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.setattr(adaptive, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="not installed"):
        plan(config(validation={"share": 0.2}), [RATES], "optuna", 3)


def test_optuna_asks_is_told_and_goes_on(make: Callable[..., SweepFolder]) -> None:
    lines = ["network.rank=1..64", "optimizer.lr=1e-5..1e-3 log"]
    folder = make(*lines, how="optuna", count=12, validation={"share": 0.2})
    begun = list[str]()

    def killed(run: RunFolder, wish: Wish) -> int:
        begun.append(run.path.name)
        if len(begun) == 6:
            raise KeyboardInterrupt
        return by_rank(run, wish)

    with pytest.raises(KeyboardInterrupt):
        running.train_all(folder, Wish(), killed, say=lambda line: None)
    assert running.train_all(folder, Wish(), by_rank, say=lambda line: None)
    table = table_of(folder)
    ranks = [trial.values["network.rank"] for trial in folder.read().trials]
    assert len(ranks) == 12 and len(set(ranks)) > 4 and table.best and table.best.values["network.rank"] == max(ranks)


def test_ray_gets_one_gpu_for_each_run(make: Callable[..., SweepFolder], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself is not here: what stands in for it runs each call when it is asked for."""
    folder, gpus = make(RANKS, train={"device": "auto"}), list[int]()

    def remote(num_gpus: int, max_retries: int) -> Any:
        gpus.append(num_gpus)
        return lambda work: types.SimpleNamespace(remote=lambda *given: partial(work, *given))

    def wait(waiting: list[Any], num_returns: int, timeout: float) -> Any:
        return waiting[:1], waiting[1:]

    def train(run: RunFolder, wish: Wish) -> int:
        return by_rank(run, wish) if run.config().network.rank == 4 else 1

    fake = types.SimpleNamespace(init=lambda address: None, remote=remote, wait=wait, get=lambda made: made())
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setattr(far, "find_spec", lambda name: name)
    monkeypatch.setattr(far, "train", train)
    said: list[str] = []
    far.train_far(folder, "auto", said.append)
    assert gpus == [1, 1] and [line.split(": ")[1] for line in said] == [
        "done; 1 to go",
        "failed (exit code 1); 0 to go",
    ]

    def first_a_signal(waiting: list[Any], num_returns: int, timeout: float) -> Any:
        fake.wait = wait
        os.kill(os.getpid(), signal.SIGTERM)
        return [], waiting

    fake.wait = first_a_signal
    later = make(RANKS, train={"device": "auto"})
    far.train_far(later, "auto", said.append)
    assert [line.split(": ")[1] for line in said[2:]] == ["stopped; 1 to go", "stopped; 0 to go"]


def test_on_the_page(tmp_path: Path) -> None:
    settings = Settings("127.0.0.1", 0, tmp_path, tmp_path / "runs", (), (tmp_path,))
    jobs = Jobs(settings, watch=False)
    jobs.pause(True)
    wish = {"sweep_vary": f"{RATES}\n\n{RANKS}", "sweep_how": page.EVERY}
    told = page.look(config(), wish, Planner(jobs))
    assert told[0] == "4 runs, 4,800 steps in all; time known after the first steps."
    some = {**wish, "sweep_how": page.SOME, "sweep_count": "3", "sweep_seed": "1"}
    assert page.look(config(), some, Planner(jobs))[0].startswith("3 runs, 3,600 steps")
    for bad, said in (
        ({"sweep_count": "many"}, "Runs: 'many'"),
        ({"sweep_vary": "network.rank=8,0"}, "network.rank: 0: it must be 1 or more"),
        ({"sweep_vary": "data.images=zk9,nowhere", "sweep_how": page.EVERY}, "run 2 is data.images"),
    ):
        with pytest.raises(InputError, match=said):
            page.look(config(), {**some, **bad}, Planner(jobs))
    assert not jobs.waiting()["order"]
    assert page.begin(config(), wish, jobs).startswith("4 runs are in the queue")
    order = jobs.waiting()["order"]
    assert [RunFolder(settings.runs / run).config().output.name for run in order] == [f"zk9-0{n}" for n in (1, 2, 3, 4)]
    trained(RunFolder(settings.runs / order[0]), 0.4)
    client = TestClient(Starlette(routes=page.routes(settings, jobs)))
    (line,) = client.get("/api/sweeps").json()
    found = client.get(f"/api/sweeps/{line['name']}").json()
    assert [row["state"] for row in found["rows"]] == ["done", "queued", "queued", "queued"]
    assert client.post(f"/api/sweeps/{line['name']}", json={"do": "resume"}).json() == {"queued": 3}
    assert client.get("/api/sweeps/..%2f..").status_code == 404
