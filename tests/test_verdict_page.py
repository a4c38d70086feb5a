"""The verdict in the page: runs to choose from, the count before the start, rows as they come, the answer, its use."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image, ImageDraw
from safetensors.numpy import save_file
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.browser import needs_browser
from tests.elements import Show, page_of, showing
from tests.pictures import draw_folder
from tests.serving import Served, free_port
from tests.waiting import until
from trainer.config import Config
from trainer.durable import read_json, write_json
from trainer.runfolder import RunFolder, identity
from trainer.tree import validate
from trainer.verdict.diagnosis import Facts
from trainer.verdict.options import Compare
from trainer.verdict.scores import LOSSES, MEASURES, Row
from trainer.verdict.verdict import judge
from webui import api, machine, pictures, process, toolapi, verdicts
from webui.jobs import Jobs
from webui.settings import Settings
from webui.toolform import options_of

Tree = dict[str, Any]
LOOKS = ("page", "panel", "tool", "generate", "grid", "verdict")
EPOCHS = 6
KINDS = ("subject", "contradicting", "plain")
PLACE = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
LORA = {
    f"{PLACE}.lora_down.weight": np.ones((4, 768), np.float32),
    f"{PLACE}.lora_up.weight": np.zeros((320, 4), np.float32),
    f"{PLACE}.alpha": np.array(4, np.float32),
}
"""One of the weights that a LoRA of SD 1.5 changes."""
SEEN = {"likeness": 8, "obedience": 4, "spill": 4, "copying": 8, "variety": 6, "burn": 8}
"""On how many pictures each measure is seen, of two prompts of each kind with two seeds."""


@pytest.fixture
def jobs(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    """Jobs of a data folder of the test's own; nothing starts by itself."""
    data = tmp_path / "data"
    monkeypatch.setenv("LIKENESS_HOME", str(data))
    monkeypatch.setattr(machine, "gpus", lambda: [])
    (data / "models").mkdir(parents=True)
    roots = (tmp_path_factory.getbasetemp(),)
    made = Jobs(Settings("127.0.0.1", 0, data, data / "runs", (data / "models",), roots), watch=False)
    yield made
    made.close()
    for _, child in made._children:
        child.kill()
        child.wait()


@pytest.fixture
def client(jobs: Jobs) -> TestClient:
    rooms = [toolapi.routes(jobs.settings, jobs), verdicts.routes(jobs.settings, jobs)]
    return TestClient(Starlette(routes=[one for room in rooms for one in room]))


@pytest.fixture
def trained(jobs: Jobs, tmp_path: Path) -> RunFolder:
    return train(jobs, tmp_path)


def train(jobs: Jobs, place: Path, name: str = "zk9") -> RunFolder:
    """A training that has ended, as the engine leaves it: six files of LoRA."""
    images = draw_folder(place / f"img-{name}", {"10_zk9 woman": 4})
    tree = {"model": {"base": "pocket"}, "data": {"images": str(images)}, "output": {"name": name}}
    run = RunFolder.create(jobs.runs.root, Config.model_validate(tree))
    run.event("start", family="sd15", images=4, epochs=EPOCHS, steps=10 * EPOCHS)
    for epoch in range(1, EPOCHS + 1):
        told = {"ss_epoch": str(epoch), "ss_steps": str(10 * epoch), "ss_output_name": name}
        file = f"{name}.safetensors" if epoch == EPOCHS else f"{name}-{epoch:06}.safetensors"
        save_file(LORA, run.checkpoints / file, told)
        run.event("epoch", step=10 * epoch, epoch=epoch, loss=0.2 - 0.01 * epoch)
    run.event("done")
    run.write_pid(ended=1.0)
    return run


def asked() -> list[Tree]:
    """Two prompts of each kind, two seeds each."""
    words = {
        "subject": ("zk9 woman, smiling", "zk9 woman, from the side, in a red pullover in front of a brick wall"),
        "contradicting": ("zk9 woman with long green hair", "zk9 woman on snow"),
        "plain": ("a woman, smiling", "a red star at night"),
    }
    return [
        {"kind": kind, "prompt": prompt, "bare": prompt.replace("zk9 ", "").strip(" ,"), "seed": seed,
         "asked": prompt.partition("woman ")[2] if kind == "contradicting" else ""}
        for kind in KINDS for prompt in words[kind] for seed in (42, 43)
    ]  # fmt: skip


def draw(folder: Path, name: str, share: float) -> list[str]:
    """A picture for each question; `share` is how far it is from the base's."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, question in enumerate(asked()):
        picture = Image.new("RGB", (64, 64), (30 + 12 * number, 90, int(60 + 150 * share)))
        pen = ImageDraw.Draw(picture)
        pen.ellipse((12, 6 + 20 * (1 - share), 52, 58), fill=(230, int(200 - 120 * share), 150))
        pen.text((4, 50), f"{name} {question['seed']}", fill=(255, 255, 255))
        files.append(str(folder / f"{name}-{number}.png"))
        picture.save(files[-1])
    return files


def candidates(run: RunFolder) -> list[Row]:
    """Rows of a run that rises and then overfits: six files at 1, the best two at 0.8 too, and an average."""
    files = sorted(run.checkpoints.glob("*.safetensors"), key=lambda file: (len(file.stem) == 3, file.name))
    rows = [row(file, place + 1, 1.0) for place, file in enumerate(files)]
    rows += [row(files[place], place + 1, 0.8) for place in (3, 4)]
    average = run.path / "averages" / "epochs-3-to-5.safetensors"
    return [*rows, row(average, None, 0.8, "average", "average of epochs 3 to 5")]


def row(file: Path, epoch: int | None, strength: float, kind: Any = "file", label: str = "") -> Row:
    age = strength * (epoch or 3)
    means = {
        "likeness": min(0.72, 0.12 * age + 0.05), "obedience": 1 - max(0, 0.17 * (age - 3)), "spill": 0.02 * age,
        "copying": 0.04 * age, "variety": 1 - 0.03 * age, "burn": max(0, 0.2 * (age - 4.5)),
    }  # fmt: skip
    noise = {
        name: np.random.default_rng([place, int(100 * age)]).normal(size=SEEN[name])
        for place, name in enumerate(MEASURES)
    }
    values = {name: tuple(means[name] + 0.02 * (noise[name] - noise[name].mean())) for name in MEASURES}
    losses = {"train_loss": 0.2 - 0.01 * epoch if epoch else None}
    return Row(str(file), label or file.stem, strength, epoch, 10 * epoch if epoch else None, kind, values, losses)


def shown(run: RunFolder, one: Row, number: int) -> Tree:
    """A row with its pictures."""
    return {**one.to_json(), "pictures": draw(run.path / "cells", f"r{number}", one.scores["likeness"] or 0)}


def record(run: RunFolder, rows: list[Row] | None = None) -> Tree:
    """verdict.json, as the engine writes it."""
    rows = rows or candidates(run)
    verdict = judge(rows, Facts("zk9", 1e-4, 16, 16.0, EPOCHS, 60, 4))
    told = {
        "summary": verdict.sentence, "stopped": False, "files": [], "lines": [], "folder": str(run.path),
        "base": "pocket", "trigger": "zk9", "when": 1_790_000_000.0, "verdict": verdict.to_json(),
        "rows": [shown(run, one, number) for number, one in enumerate(rows)],
        "reference": {"label": "no LoRA", "pictures": draw(run.path / "cells", "base", 0)},
        "asked": asked(), "notes": ["Faces: no face model is here; Utilities, Downloads, has one"],
    }  # fmt: skip
    write_json(run.path / verdicts.FILE, told)
    return told


def begin(jobs: Jobs, run: RunFolder) -> RunFolder:
    """A comparison that works in this process, as far as its files tell."""
    options = Compare(folder=str(run.path)).model_dump(mode="json")
    job = RunFolder.make(jobs.runs.root, verdicts.JOB, {"job": verdicts.JOB, "options": options})
    at_work(job, run)
    return job


def at_work(job: RunFolder, run: RunFolder) -> None:
    """What a comparison tells before its first row, each time that it is started."""
    job.write_pid(events=job.size())
    job.event("start", job=verdicts.JOB)
    job.event("asked", asked=asked())
    job.event("reference", pictures=draw(run.path / "cells", "base", 0))


def one(client: TestClient, folder: Path, stamp: str = "") -> Tree:
    answer = client.get("/api/verdicts/one", params={"folder": str(folder), "stamp": stamp})
    assert answer.status_code == 200, answer.text
    return answer.json()


# Routes


def test_the_form_has_each_option_once_and_explains_each_measure(client: TestClient) -> None:
    form = client.get("/api/verdicts/form").json()
    assert [field["name"] for field in form["groups"][0]["fields"]] == ["folder", "base", "strengths", "seeds"]
    assert [*form["measures"]] == [*MEASURES, *LOSSES]
    assert all(one["title"] and one["about"] for one in form["measures"].values())
    made = validate(Compare, options_of(verdicts.JOB, {**form["values"], "folder": "/x"}))
    assert made == Compare(folder="/x")


def test_runs_are_listed_the_newest_first(client: TestClient, jobs: Jobs, trained: RunFolder, tmp_path: Path) -> None:
    empty = RunFolder.create(jobs.runs.root, Config.model_validate({"output": {"name": "untrained"}}))
    newer = train(jobs, tmp_path, "mk2")
    record(newer)
    begin(jobs, trained)
    elsewhere = tmp_path / "other"
    elsewhere.mkdir()
    begin(jobs, RunFolder(elsewhere)).event("done", summary="")
    lines = client.get("/api/verdicts").json()
    assert {line["name"] for line in lines} == {"mk2", "zk9", "other"} and empty.path.is_dir()
    first, second, third = lines
    assert first["created"] >= second["created"] and third["id"] is None
    told = {line["name"]: line for line in lines}
    assert told["mk2"]["verdict"] and not told["mk2"]["busy"] and told["mk2"]["files"] == EPOCHS
    assert told["zk9"]["busy"] and told["zk9"]["verdict"] is None and told["zk9"]["base"] == "pocket"


def test_pictures_are_counted_before_the_start(client: TestClient, jobs: Jobs, trained: RunFolder) -> None:
    def count(**values: Any) -> Tree:
        answer = client.post("/api/verdicts/count", json={"values": {"folder": str(trained.path), **values}})
        assert answer.status_code == 200, answer.text
        return answer.json()

    found = count(strengths="1, 0.8", questions="2", seeds="2", finalists="2")
    assert found == {"files": 6, "pictures": (1 + 6 + 2 + 2) * 12, "seconds": None, "trigger": "zk9"}
    assert count(strengths="1", questions="2", seeds="1", average=False)["pictures"] == 7 * 6
    assert count(strengths="1", questions="2", seeds="1", average=False, plain="a\nb\nc")["pictures"] == 7 * 7
    job, rows = begin(jobs, trained), candidates(trained)
    story = [event for event in job.events() if event["kind"] != "reference"]
    times = [{"kind": "reference", "time": 100.0, "pictures": []}]
    times += [{"kind": "score", "time": 112.0 + 12 * n, "row": shown(trained, rows[n], n)} for n in range(2)]
    (job.path / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in [*story, *times]))
    steps = count(questions="2", steps="40")
    assert steps["seconds"] == pytest.approx(2 * steps["pictures"])  # a second for 20 steps
    assert count(base=str(trained.checkpoints / "other.safetensors"))["seconds"] is None


MISTAKES = {
    "no folder": ({"folder": ""}, "folder: "),
    "none there": ({"folder": "{root}/none"}, "folder: {root}/none is no folder here"),
    "elsewhere": ({"folder": "/etc"}, "folder: /etc is not in a folder that the page may use"),
    "an option": ({"steps": "0"}, "steps: 0: it must be 1 or more"),
    "a trigger of another run": ({"trigger": "mk2"}, "trigger: 'mk2' is in no caption"),
}


@pytest.mark.parametrize("wish", MISTAKES.values(), ids=MISTAKES)
def test_what_is_wrong_is_said_before_the_start(
    client: TestClient, jobs: Jobs, trained: RunFolder, wish: tuple[Tree, str]
) -> None:
    root = str(jobs.settings.roots[0])
    values = {"folder": str(trained.path)} | {name: text.replace("{root}", root) for name, text in wish[0].items()}
    for path in ("/api/verdicts", "/api/verdicts/count"):
        answer = client.post(path, json={"values": values})
        assert answer.status_code in (400, 403), answer.text
        assert answer.json()["error"].startswith(wish[1].replace("{root}", root))
    assert jobs.tasks() == []


def test_what_belongs_to_one_run_is_not_kept_for_the_next(client: TestClient, jobs: Jobs, trained: RunFolder) -> None:
    jobs.pause(True)
    own = {"folder": str(trained.path), "trigger": "zk9", "prompts": "zk9 woman", "seeds": "3"}
    made = client.post("/api/verdicts", json={"values": own}).json()
    assert jobs.runs.config(made["id"])["options"]["prompts"] == ["zk9 woman"]
    values = client.get("/api/verdicts/form").json()["values"]
    assert (values["seeds"], values["trigger"], values["prompts"], values["folder"]) == ("3", "", "", "")
    again = client.post("/api/verdicts", json={"values": own})
    assert again.status_code == 409 and "at work" in again.json()["error"]


def test_rows_are_told_as_they_come_and_the_verdict_after_them(
    client: TestClient, jobs: Jobs, trained: RunFolder
) -> None:
    nothing = one(client, trained.path)
    assert (nothing["job"], nothing["stamp"], nothing["output"]) == (None, "", "zk9")
    job, rows = begin(jobs, trained), candidates(trained)
    for number, each in enumerate(rows[:2]):
        job.event("score", row=shown(trained, each, number))
    told = one(client, trained.path)
    assert told["job"]["state"] == "running" and told["told"]["live"] and told["told"]["verdict"] is None
    assert [each["label"] for each in told["told"]["rows"]] == ["zk9-000001", "zk9-000002"]
    assert len(told["told"]["asked"]) == len(told["told"]["reference"]["pictures"]) == 12
    assert "told" not in one(client, trained.path, told["stamp"])
    job.event("score", row={**shown(trained, rows[1], 1), "total": 0.5})  # told once more after a stop
    again = one(client, trained.path, told["stamp"])
    assert [each["total"] for each in again["told"]["rows"]] == [rows[0].total, 0.5]
    written = record(trained)
    job.event("done", summary=written["summary"])
    job.write_pid(ended=2.0)
    ended = one(client, trained.path, again["stamp"])
    assert ended["told"]["verdict"] == written["verdict"] and "live" not in ended["told"]
    (trained.path / verdicts.FILE).write_text("{")
    broken = client.get("/api/verdicts/one", params={"folder": str(trained.path)})
    assert broken.status_code == 400 and "compare the files once more" in broken.json()["error"]


def test_what_a_training_scored_by_itself_is_told_too(client: TestClient, trained: RunFolder) -> None:
    first, second, *_ = candidates(trained)
    trained.event("asked", asked=asked())
    trained.event("reference", pictures=draw(trained.path / "compare", "base", 0))
    for number, each in enumerate((first, second)):
        trained.event("score", step=10 * number, epoch=number, row=shown(trained, each, number))
    told = one(client, trained.path)
    assert told["job"] is None and told["told"]["live"]
    assert [each["label"] for each in told["told"]["rows"]] == ["zk9-000001", "zk9-000002"]
    record(trained)
    assert one(client, trained.path, told["stamp"])["told"]["verdict"]


def test_a_folder_that_is_gone_or_elsewhere_says_so(client: TestClient, trained: RunFolder) -> None:
    for folder, status in ((trained.path / "none", 404), (Path("/etc"), 403)):
        assert client.get("/api/verdicts/one", params={"folder": str(folder)}).status_code == status


def test_the_folders_of_programs_are_remembered_and_nothing_of_the_lora(
    client: TestClient, jobs: Jobs, trained: RunFolder, tmp_path: Path
) -> None:
    jobs.pause(True)
    values = {"file": str(trained.checkpoints / "zk9.safetensors"), "name": "x", "trigger": "zk9", "overwrite": True,
              "strength": "0.8", "a1111": str(tmp_path)}  # fmt: skip
    assert client.post("/api/tools/lora.use", json={"values": values}).status_code == 200
    vectors = {"emb_params": np.ones((1, 768), np.float32)}
    save_file(vectors, trained.checkpoints / "zk9_hat.safetensors", {"ss_session_id": "7"})  # of another training
    save_file(vectors, trained.checkpoints / "zk9_cap.safetensors")
    form = client.get("/api/verdicts/use", params={"file": values["file"]}).json()
    assert form["words"] == ["cap"]
    kept = form["values"]
    assert (kept["a1111"], kept["name"], kept["trigger"], kept["overwrite"]) == (str(tmp_path), "", "", False)
    paths = {field["name"]: field["path"] for group in form["groups"] for field in group["fields"] if field["path"]}
    programs = dict.fromkeys(("a1111", "forge", "comfyui", "invokeai", "save_to"), "folder")
    assert paths == {"file": "file", "preview": "file", **programs}


# The page


class Server:
    """The real routes on a free port, with jobs that run, and a page with the element in the real look."""

    def __init__(self, jobs: Jobs) -> None:
        site = [
            *api.routes(jobs.settings, jobs), *toolapi.routes(jobs.settings, jobs),
            *verdicts.routes(jobs.settings, jobs), *pictures.routes(jobs.settings),
            page_of("likeness-verdict", "verdict.js", LOOKS),
        ]  # fmt: skip
        self.served = Served(site, free_port())


@pytest.fixture
def show(jobs: Jobs, browser: Any) -> Iterator[Show]:
    """Opens the page with its form."""
    served = Server(jobs).served
    with showing(browser, served.address) as go:

        def ready(width: int = 1280, query: str = "") -> Any:
            view = go(width, query)
            view.get_by_label("Which file is best of").wait_for()
            return view

        yield ready
    served.stop()


def column(view: Any, number: int) -> list[str]:
    """What stands in a column of the table."""
    return view.locator(f".lv-table tbody tr > :nth-child({number})").all_inner_texts()


@needs_browser
def test_rows_come_in_the_verdict_is_shown_and_put_to_use(
    jobs: Jobs, show: Show, trained: RunFolder, tmp_path: Path
) -> None:
    view = show()
    view.get_by_text("6 files: 384 pictures of “zk9” on pocket; how long it takes is known after").wait_for()
    job, rows = begin(jobs, trained), candidates(trained)
    for number, each in enumerate(rows):
        job.event("score", row=shown(trained, each, number))
        job.event("progress", done=12 * number, total=120, rate=2.0, left_s=60 - 6 * number)
        if number in (0, 4):
            view.get_by_text(f"So far: {number + 1} candidate").wait_for()
            assert view.locator(".lv-table tbody tr").count() == number + 1
    view.get_by_role("button", name="Stop", exact=True).wait_for()
    view.reload()  # a closed tab finds it again
    view.get_by_text("So far: 9 candidates").wait_for()
    told = record(trained)
    job.event("done", summary=told["summary"])
    job.write_pid(ended=2.0)
    view.locator(".lv-sentence", has_text=told["summary"]).wait_for()
    until(lambda: view.locator("likeness-task").is_hidden())
    answer = view.locator(".lv-answer").inner_text()
    for line in [told["verdict"]["next_step"], told["verdict"]["sureness"].capitalize(), "not measured"]:
        assert line.lower() in answer.lower()

    picked = view.locator("tr.lv-pick")
    assert f"Epoch {told['verdict']['pick']['epoch']}" in picked.inner_text() and "the pick" in picked.inner_text()
    totals = column(view, 3)
    assert totals == sorted(totals, reverse=True) and len(totals) == 9
    head = view.get_by_role("button", name="Burn")
    assert head.get_attribute("title") == f"Burn: {MEASURES['burn'].about}"
    head.click()
    burns = [float(text) for text in column(view, 9)]
    assert burns == sorted(burns) and view.locator("[aria-sort=ascending]").inner_text().startswith("Burn")
    view.keyboard.press("Enter")  # the focus stays on the head
    assert [float(text) for text in column(view, 9)] == burns[::-1]

    wall = view.get_by_role("region", name="The pictures")
    assert wall.locator("thead th").all_inner_texts()[0].split("\n")[0] == "No LoRA"
    assert wall.locator("tbody tr").count() == 12
    view.get_by_text("Something else asked for", exact=True).click()
    assert wall.locator("tbody tr").count() == 4
    wall.locator(".lg-cell").nth(1).click()
    large = view.get_by_role("dialog", name="Picture")
    first = large.inner_text()
    view.keyboard.press("ArrowLeft")
    large.get_by_text("No LoRA: the base model alone").wait_for()
    view.keyboard.press("ArrowRight")
    assert large.inner_text() == first and "obeys the prompt" in first and "likeness" in first
    view.keyboard.press("Escape")
    use(view, tmp_path)


def use(view: Any, place: Path) -> None:
    """Presses "Use this one", and looks at what lies in the folder of A1111."""
    lora = place / "webui" / "models" / "Lora"
    lora.mkdir(parents=True)
    view.locator(".lv-answer").get_by_role("button", name="Use this one").click()
    window = view.get_by_role("dialog", name="Use this one")
    window.get_by_label("Final name").fill("zk9 woman")
    assert window.get_by_label("Trigger").input_value() == "zk9"
    strength = window.get_by_label("Recommended strength", exact=True).input_value()
    window.locator(".lv-previews label").nth(2).click()
    preview = Path(window.get_by_label("Preview picture", exact=True).input_value())
    window.get_by_label("Folder of A1111", exact=True).fill(str(place / "none"))
    window.get_by_role("button", name="Use this one").click()
    window.get_by_text("Failed").wait_for()
    window.get_by_label("Folder of A1111", exact=True).fill(str(place / "webui"))
    window.get_by_role("button", name="Use this one").click()
    window.get_by_text("It is there").wait_for()
    result = window.locator(".lv-result").inner_text()
    assert "A1111" in result and f"<lora:zk9 woman:{strength}> zk9" in result and "zk9 woman.png: written" in result
    assert json.loads((lora / "zk9 woman.json").read_text())["activation text"] == "zk9"
    assert (lora / "zk9 woman.png").read_bytes() == preview.read_bytes()
    assert (lora / "zk9 woman.safetensors").is_file()
    window.get_by_role("button", name="Close").click()
    view.get_by_role("button", name="Use Epoch 1 at strength 1").click()
    again = view.get_by_role("dialog", name="Use this one")
    again.get_by_label("Folder of A1111", exact=True).wait_for()
    assert again.get_by_label("Folder of A1111", exact=True).input_value() == str(place / "webui")
    assert again.get_by_label("Final name").input_value() == "zk9"
    view.keyboard.press("Escape")


@needs_browser
def test_a_stopped_comparison_is_gone_on_with(
    jobs: Jobs, show: Show, trained: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows fill the table and the wall of the page that is open, before a stop and after."""
    begun: list[Path] = []

    def engine(run: RunFolder, *given: Any) -> subprocess.Popen[bytes]:
        """Another process than the first: one that waits."""
        begun.append(run.path)
        at_work(run, trained)
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        until(psutil.Process(child.pid).cmdline)
        file = run.path / "pid.json"
        write_json(file, {**read_json(file), **identity(psutil.Process(child.pid))})
        return child

    monkeypatch.setattr(process, "start", engine)
    view, rows = show(), candidates(trained)
    table, wall = view.locator(".lv-table"), view.get_by_role("region", name="The pictures")
    task = view.locator("likeness-task")

    def score(number: int, count: int) -> None:
        """Another row, and what is seen of it: its line, and its pictures beside those of the base model."""
        job.event("score", row=shown(trained, rows[number], number))
        view.get_by_text(f"So far: {count} candidate").wait_for()
        assert sorted(table.locator("tbody th").all_inner_texts()) == sorted(
            f"Epoch {row.epoch}\n{Path(row.file).name}" for row in rows[:count]
        )
        assert wall.locator("thead th").count() == 1 + count
        assert wall.locator("tbody tr:first-child img").count() == 1 + count

    job = begin(jobs, trained)
    score(0, 1)
    score(1, 2)
    task.get_by_role("button", name="Stop", exact=True).click()
    until(lambda: job.take_command() == "stop")
    summary = "Stopped after 2 candidates; start it again, and what is drawn is taken from before."
    write_json(job.path / "report.json", {"summary": summary, "stopped": True, "files": [], "lines": []})
    job.event("stopped", summary=summary)
    job.write_pid(ended=2.0)
    task.get_by_text("Stopped", exact=True).wait_for()
    task.get_by_text(summary).wait_for()
    view.get_by_text("2 candidates, before it was stopped").wait_for()

    task.get_by_role("button", name="Go on", exact=True).click()
    task.get_by_text("At work", exact=True).wait_for()
    assert begun == [job.path] and len(jobs.tasks()) == 1  # the same folder, so with what it was asked
    score(0, 2)  # what was drawn before is told once more
    score(2, 3)
    assert task.get_by_role("button", name="Stop", exact=True).is_visible()
    process.kill(job)


@needs_browser
def test_whole_models_have_no_strength(show: Show, trained: RunFolder) -> None:
    told = record(trained, [replace(one, what="model") for one in candidates(trained)[:EPOCHS]])
    view = show()
    answer, table = view.locator(".lv-answer"), view.locator(".lv-table")
    answer.get_by_role("button", name="Use this one").click()
    window = view.get_by_role("dialog", name="Use this one")
    assert window.get_by_label("Final name").input_value() == "zk9"
    assert not window.get_by_label("Recommended strength", exact=True).is_visible()
    window.get_by_role("button", name="Close").click()
    assert told["verdict"]["sentence"] in answer.inner_text() and "strength" not in answer.inner_text().lower()
    assert table.locator("thead th").all_inner_texts()[1].startswith("Total") and column(view, 2)[0] != "1"
    view.locator("likeness-verdict-curve").get_by_text("by epoch", exact=True).wait_for()
    heads = view.get_by_role("region", name="The pictures").locator("thead th").all_inner_texts()
    assert heads[0].startswith("Untrained") and not any("at 1" in head for head in heads)
    view.locator(".lg-cell").nth(1).click()
    assert "strength" not in view.get_by_role("dialog", name="Picture").inner_text()


@needs_browser
@pytest.mark.parametrize("query", ["", "dark"], ids=["light", "dark"])
def test_it_fits_a_phone(jobs: Jobs, show: Show, trained: RunFolder, query: str) -> None:
    record(trained)
    view = show(390, query)
    view.locator(".lv-pick").wait_for()
    assert view.evaluate("document.documentElement.scrollWidth") == 390
    for name in ("Candidates", "The pictures"):
        box = view.get_by_role("region", name=name)
        assert box.evaluate("box => box.scrollWidth > box.clientWidth")
        box.evaluate("box => { box.scrollLeft = box.scrollWidth }")
        label, edge = box.locator("tbody th").first.bounding_box(), box.bounding_box()
        assert abs(label["x"] - edge["x"]) < 3  # names stay in sight
    assert math.isclose(view.locator(".lg-cell").first.bounding_box()["width"], 104, abs_tol=1)
