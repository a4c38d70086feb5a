"""The page's routes: what they answer, what they refuse, and that nothing outside is ever reached."""

from __future__ import annotations

import io
import json
import os
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from trainer import places
from trainer.runfolder import RunFolder
from webui import api, browse, files, folders, machine, routing, settings, uploads
from webui.api import routes
from webui.jobs import Jobs
from webui.settings import Settings
from webui.stream import LOG, Cursor, stream


def png(color: str = "red", size: tuple[int, int] = (40, 20)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    """Jobs whose queue is paused, so that no engine is started."""
    monkeypatch.setattr(machine, "gpus", lambda: [])
    (tmp_path / "home").mkdir()
    jobs = Jobs(
        Settings("127.0.0.1", 0, tmp_path / "data", tmp_path / "data" / "runs", (), (tmp_path / "home",)), False
    )
    jobs.pause(True)
    yield jobs
    jobs.close()


@pytest.fixture
def client(jobs: Jobs) -> TestClient:
    return TestClient(
        Starlette(routes=[*routes(jobs.settings, jobs), *folders.routes(jobs.settings)]), raise_server_exceptions=True
    )


@pytest.fixture
def run(client: TestClient, jobs: Jobs) -> RunFolder:
    """A run that was trained: two steps, a sample, a checkpoint, a log."""
    answer = client.post("/api/runs", json={"preset": "demo", "set": {"output.name": "zk9"}, "press": "p"})
    folder = RunFolder(jobs.runs.root / answer.json()["id"])
    client.post("/api/queue", json={"order": []})
    (folder.samples / "a 1.png").write_bytes(png())
    (folder.checkpoints / "zk9.safetensors").write_bytes(b"w" * 1000)
    folder.log.write_bytes("été\r50%\x1b[31m red\n".encode())
    folder.event("start", step=0, steps=2, epochs=1, family="sd15", images=12)
    folder.event("step", step=1, epoch=1, loss=0.5, average=0.5, lr={"unet": 1e-3}, rate=2.0, left_s=0.5)
    folder.event("sample", step=1, file="samples/a 1.png", prompt="<b>zk9", seed=4, index=0)
    folder.event("warning", step=1, text="hot")
    folder.event("checkpoint", step=2, file="checkpoints/zk9.safetensors", epoch=1)
    folder.event("checkpoint", step=1, file="checkpoints/gone.safetensors", epoch=None)
    folder.event("done", step=2, files=["checkpoints/zk9.safetensors"])
    folder.write_pid(ended=1.0)
    with jobs.queue.change() as waiting:
        waiting.drop(folder.path.name)
    return folder


def test_a_run_in_short_and_in_full(client: TestClient, run: RunFolder) -> None:
    [line] = client.get("/api/runs").json()
    assert line["id"] == run.path.name and line["name"] == "zk9" and line["state"] == "done"
    assert line["about"] == {"rank": 16, "lr": 4e-3, "epochs": 1, "base": "pocket", "pictures": 12}
    assert line["progress"]["loss"] == 0.5 and line["progress"]["rate"] is None
    found = client.get(f"/api/runs/{run.path.name}").json()
    assert found["settings"]["output.name"] == "zk9" and found["settings"]["data.buckets"] is None
    assert found["warnings"] == ["hot"] and found["error"] is None
    [checkpoint] = found["checkpoints"]
    assert (checkpoint["step"], checkpoint["epoch"], checkpoint["size"]) == (2, 1, 1000)
    assert client.get("/" + checkpoint["url"]).content == b"w" * 1000
    [sample] = found["samples"]
    assert (sample["prompt"], sample["seed"], sample["epoch"]) == ("<b>zk9", 4, 1)
    assert client.get("/" + sample["url"]).content == png()
    small = client.get("/" + sample["thumb"] + "?size=32")
    assert small.headers["content-type"] == "image/webp"
    assert Image.open(io.BytesIO(small.content)).size == (32, 16)


def test_downloads_are_attachments_that_no_browser_runs(client: TestClient, run: RunFolder, jobs: Jobs) -> None:
    (run.samples / "page.html").write_text("<script>alert(1)</script>")
    for name in ("samples/page.html", "checkpoints/zk9.safetensors", "config.json", "stdout.log"):
        answer = client.get(f"/api/runs/{run.path.name}/file/{name}")
        assert answer.status_code == 200 and answer.headers["content-disposition"].startswith("attachment")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "html" not in answer.headers["content-type"] and "sandbox" in answer.headers["content-security-policy"]
    answer = client.get(f"/api/runs/{run.path.name}/zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        names = {name.removeprefix(f"{run.path.name}/") for name in archive.namelist()}
        assert archive.read(f"{run.path.name}/checkpoints/zk9.safetensors") == b"w" * 1000
    assert names == {
        *("config.json", "stdout.log", "checkpoints/zk9.safetensors"),
        *("samples/a 1.png", "samples/page.html"),
    }


def test_a_model_saved_as_a_folder_is_had_as_a_zip(client: TestClient, run: RunFolder, jobs: Jobs) -> None:
    """Whole, named after it, made while it is sent; nothing that a link leads to, and no other folder."""
    for folder in ("zk9-000001", ".part-zk9"):
        (run.checkpoints / folder / "unet").mkdir(parents=True)
        (run.checkpoints / folder / "model_index.json").write_text("{}")
        (run.checkpoints / folder / "unet" / "w.safetensors").write_bytes(b"w" * 70)
    (run.checkpoints / "zk9-000001" / "out").symlink_to(run.path / "pid.json")
    run.event("checkpoint", step=3, file="checkpoints/zk9-000001", epoch=1)
    told = client.get(f"/api/runs/{run.path.name}").json()
    [mine] = [file for file in told["files"] if file["file"] == "checkpoints/zk9-000001"]
    assert mine["size"] >= 72 and not any("part" in file["file"] for file in told["files"])
    assert "checkpoints/zk9-000001" in [one["file"] for one in told["checkpoints"]]
    answer = client.get("/" + mine["url"])
    assert answer.headers["content-disposition"].endswith("zk9-000001.zip") and "content-length" not in answer.headers
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert {*archive.namelist()} == {f"zk9-000001/{name}" for name in ("model_index.json", "unet/w.safetensors")}
        assert archive.read("zk9-000001/unet/w.safetensors") == b"w" * 70
    for name in ("checkpoints", "checkpoints/zk9-000001/unet", "checkpoints/.part-zk9"):
        assert client.get(f"/api/runs/{run.path.name}/file/{name}").status_code == 404, name


def test_nothing_outside_a_run_is_served(client: TestClient, run: RunFolder, jobs: Jobs, tmp_path: Path) -> None:
    secret = tmp_path / "home" / "secret.png"
    secret.write_bytes(png("blue"))
    (run.samples / "link.png").symlink_to(secret)
    (run.samples / "up").symlink_to(tmp_path)
    (run.samples / "self.png").symlink_to("self.png")
    (run.path / "state" / "x").write_text("x")
    names = [
        *("samples/link.png", "samples/up/home/secret.png", "samples/self.png", "events.jsonl", "pid.json", "state/x"),
        *("samples/../pid.json", "samples/%2e%2e/pid.json", "..%2f..%2fqueue.json", "%2fetc%2fpasswd", "samples"),
        *("samples/a%00.png", "samples/.part", "x" * 5000, "control/stop"),
    ]
    for name in names:
        for kind in ("file", "thumb"):
            assert client.get(f"/api/runs/{run.path.name}/{kind}/{name}").status_code == 404, name
    assert client.get(f"/api/runs/{run.path.name}/thumb/checkpoints/zk9.safetensors").status_code == 404
    with zipfile.ZipFile(io.BytesIO(client.get(f"/api/runs/{run.path.name}/zip").content)) as archive:
        assert not [name for name in archive.namelist() if "link" in name or "secret" in name]
    for name in ("..", "%2e%2e", "..%2fruns", "gone", "x" * 300):
        assert client.get(f"/api/runs/{name}/zip").status_code == 404


def test_thumbs_are_made_anew_and_kept(client: TestClient, run: RunFolder, jobs: Jobs) -> None:
    address = f"/api/runs/{run.path.name}/thumb/samples/a 1.png"
    first = client.get(address).content
    [kept] = jobs.settings.data_dir.glob("cache/thumbs/*/*.webp")
    kept.write_bytes(b"kept")
    assert client.get(address).content == b"kept" != first
    (run.samples / "a 1.png").write_bytes(png("green", (10, 10)))
    assert Image.open(io.BytesIO(client.get(address).content)).size == (10, 10)
    (run.samples / "bad.png").write_bytes(b"<html>")
    assert client.get(f"/api/runs/{run.path.name}/thumb/samples/bad.png").status_code == 404
    assert client.get(address + "?size=9999").json()["error"].startswith("size: '9999' is not a whole number")


def test_of_small_pictures_the_newest_are_kept(tmp_path: Path) -> None:
    files.prune(tmp_path / "none yet")
    for place in range(4):
        file = tmp_path / f"a{place}" / "x.webp"
        file.parent.mkdir()
        file.write_bytes(b"x" * 100)
        os.utime(file, (1000 + place, 1000 + place))
    files.prune(tmp_path, most=250)
    assert [path.parent.name for path in sorted(tmp_path.rglob("*.webp"))] == ["a2", "a3"]


def test_what_the_page_calls_options(client: TestClient) -> None:
    found = client.get("/api/options").json()
    on_or_off = [[True, "on"], [None, "off"]]
    assert found["data.buckets"] == {"label": "Enable buckets", "kind": "check", "choices": on_or_off}
    assert ["adamw8bit", "AdamW8bit"] in found["optimizer.type"]["choices"]
    assert [None, "auto"] in found["model.zero_terminal_snr"]["choices"]


@pytest.mark.parametrize(
    ("told", "text", "remedy"),
    [
        (("train.batch: 5 is too high; choose 4 or less", ""), "“Train batch size”: 5 is too high", "Choose 4 or less"),
        (("the GPU's memory is full", "lower train.batch"), "the GPU's memory is full", "Lower “Train batch size”"),
        (("seed: 1; x\noutput.name: 2; y", ""), "seed: 1; x\n“Model output name”: 2; y", ""),
    ],
)
def test_an_error_is_told_as_cause_and_remedy(
    client: TestClient, run: RunFolder, told: tuple[str, str], text: str, remedy: str
) -> None:
    run.event("error", step=2, text=told[0], remedy=told[1])
    found = client.get(f"/api/runs/{run.path.name}").json()["error"]
    assert found == {"text": text, "remedy": remedy}


def test_bodies_must_be_json_and_say_what_is_wrong(client: TestClient, run: RunFolder) -> None:
    address = f"/api/runs/{run.path.name}/note"
    text = {"content-type": "text/plain"}
    assert client.put(address, content=b'{"note": "x"}', headers=text).status_code == 415
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert client.post("/api/queue", content=b"paused=1", headers=form).status_code == 415
    kind = {"content-type": "application/json"}
    for bad in (b"{", b"[1]", b"[" * 100_000, b"\xff", b'{"note": 3}', b"9" * 5000):
        answer = client.put(address, content=bad, headers=kind)
        assert answer.status_code == 400 and answer.json()["error"], bad[:20]
    assert client.put(address, content=b" " * (routing.LARGEST + 1), headers=kind).status_code == 413
    assert client.put(address, json={"note": "x" * 30_000}).status_code == 400
    assert client.put(address, json={"note": "ö <b>"}).status_code == 200
    assert client.get("/api/runs").json()[0]["note"] == "ö <b>"
    assert client.get(f"/api/runs/{run.path.name}/command").status_code == 405
    assert client.post(f"/api/runs/{run.path.name}/command", json={"command": "dance"}).status_code == 400
    assert client.post(f"/api/runs/{run.path.name}/command", json={"command": "stop"}).status_code == 409
    for wish in ({"id": "x", "at": 1}, {"id": run.path.name, "at": "soon"}, {"id": run.path.name, "gpu": 3}, {}):
        assert client.post("/api/queue", json=wish).status_code in (400, 409)


def test_start_again_compare_and_trash(client: TestClient, run: RunFolder, jobs: Jobs) -> None:
    one = run.path.name
    assert client.post("/api/runs", json={"preset": "demo", "press": "p"}).json() == {"id": one}
    two = client.post(f"/api/runs/{one}/again", json={"set": {"network.rank": 4}}).json()["id"]
    assert client.get("/api/queue").json()["order"] == [two]
    found = client.get(f"/api/compare?ids={one},{two}").json()
    assert found["different"] == {"network.rank": [16, 4]}
    assert [len(curve["steps"]) for curve in found["curves"]] == [1, 0] and len(found["samples"][0]) == 1
    assert client.get(f"/api/compare?ids={one}").status_code == 400
    assert client.get(f"/api/compare?ids={one},gone").status_code == 404
    tree = {"network": {"rank": 8}, "output": {"name": "other"}}
    three = client.post("/api/runs", json={"config": tree}).json()["id"]
    assert json.loads((jobs.runs.root / three / "config.json").read_text())["network"]["rank"] == 8
    bad = client.post("/api/runs", json={"config": {"network": {"rnak": 8}}})
    assert bad.status_code == 400 and "did you mean network.rank" in bad.json()["error"]
    assert client.post(f"/api/runs/{one}/trash", json={}).status_code == 200
    assert client.get(f"/api/runs/{one}").status_code == 404
    assert len(client.get("/api/runs").json()) == 2


# The stream


def told(messages: list[str]) -> dict[str, Any]:
    """What messages say, by event."""
    fields = [dict(line.split(": ", 1) for line in message.strip().split("\n")) for message in messages]
    return {field["event"]: json.loads(field["data"]) for field in fields}


def last_id(messages: list[str]) -> str:
    return messages[-1].split("\n")[0].removeprefix("id: ")


def test_a_stream_goes_on_where_the_page_was(jobs: Jobs, run: RunFolder) -> None:
    cursor = Cursor(jobs, run.path.name, None)
    first = cursor.look()
    said = told(first)
    assert said["state"]["state"] == "done" and said["state"]["progress"]["step"] == 1
    assert [event["kind"] for event in said["events"]][:3] == ["start", "step", "sample"]
    assert said["log"]["text"] == "été\r50% red\n"
    assert cursor.look() == []
    run.event("step", step=2, epoch=1, loss=0.25)
    with run.log.open("ab") as log:
        log.write("ü".encode()[:1])
    again = Cursor(jobs, run.path.name, last_id(first))  # the page was reloaded meanwhile
    for one in (cursor, again):
        said = told(one.look())
        assert [event["step"] for event in said["events"]] == [2] and "log" not in said
    with run.log.open("ab") as log:
        log.write("ü".encode()[1:] + b"x" * (3 * LOG) + b"\nend\n")
    text = told(again.look())["log"]["text"]
    assert text == "end\n"
    assert told(Cursor(jobs, run.path.name, "999999999:5").look())["events"][0]["kind"] == "start"
    assert told(Cursor(jobs, run.path.name, "rubbish").look())["log"]["text"].endswith("end\n")


def test_the_stream_tells_at_once_and_ends_with_the_run(
    jobs: Jobs, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webui.stream.PING", 0.0)
    answer = stream(jobs, Cursor(jobs, run.path.name, None))
    assert answer.media_type == "text/event-stream" and answer.headers["x-accel-buffering"] == "no"

    async def listen() -> list[str]:
        heard = []
        async for message in answer.body_iterator:
            heard.append(str(message))
            if len(heard) == 4:
                await anyio.to_thread.run_sync(jobs.trash, run.path.name)
        return heard

    with anyio.from_thread.start_blocking_portal() as portal:
        heard = portal.call(listen)
    assert [message.split("\n")[1] for message in heard[:3]] == ["event: state", "event: events", "event: log"]
    assert heard[3:] == ["event: ping\ndata:\n\n"]


# The file browser


def test_the_browser_stays_in_its_folders(client: TestClient, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "img" / "10_zk9 man").mkdir(parents=True)
    for number in (1, 2, 10):
        (home / "img" / "10_zk9 man" / f"{number}.png").write_bytes(b"")
    (home / "model.SAFETENSORS").write_bytes(b"123")
    (home / "notes.txt").write_text("")
    (home / ".ssh").mkdir()
    (home / "out").symlink_to(tmp_path)
    os.mkdir(os.fsencode(home) + b"/\xff")
    top = client.get("/api/browse").json()
    assert str(home) in [entry["path"] for entry in top["entries"]] and top["parent"] is None
    found = client.get("/api/browse", params={"path": str(home), "kind": "file", "ext": ".safetensors"}).json()
    assert [(entry["name"], entry["folder"], entry["pictures"], entry["size"]) for entry in found["entries"]] == [
        ("img", True, 3, None),
        ("model.SAFETENSORS", False, None, 3),
    ]
    assert found["parent"] == ""
    inner = client.get("/api/browse", params={"path": str(home / "img" / "10_zk9 man"), "kind": "file"}).json()
    assert [entry["name"] for entry in inner["entries"]] == ["1.png", "2.png", "10.png"]
    assert inner["parent"] == str(home / "img")
    for path in ("/etc", str(home / ".."), str(home / "out"), str(home / ".ssh"), "img", "\0", "~nobody-here/x"):
        answer = client.get("/api/browse", params={"path": path})
        assert answer.status_code == 403 and "path: " in answer.json()["error"], path
    assert client.get("/api/browse", params={"path": str(home / "gone")}).status_code == 400


def test_a_root_is_what_no_other_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "ROOT", tmp_path / "elsewhere" / "likeness")  # it may lie in the same folder as ours
    hidden, plain = tmp_path / ".cache" / "models", tmp_path / "more" / "models"
    for folder in (hidden, plain):
        folder.mkdir(parents=True)
    words = ["--data-dir", tmp_path / "data", "--models-dir", hidden, "--models-dir", plain, "--browse-dir", tmp_path]
    roots = settings.read([*map(str, words)]).roots
    assert {tmp_path, hidden} <= {*roots} and not {plain, tmp_path / "data"} & {*roots}
    for place in (hidden, plain, tmp_path / "data" / "models"):
        assert browse.inside(str(place), roots) == place
    with pytest.raises(browse.Outside):
        browse.inside(str(hidden.parent), roots)


# Uploads and folders


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def send(client: TestClient, files: dict[str, bytes], **fields: str) -> Any:
    return client.post("/api/upload", data=fields, files=[("files", (name, data)) for name, data in files.items()])


def test_an_upload_keeps_pictures_and_captions_and_lists_the_rest(client: TestClient, jobs: Jobs) -> None:
    files = {
        "set/ä b.png": png(), "set/ä b.txt": b"zk9", "set/virus.exe": b"MZ", "set/page.png": b"<html>",
        "set/.DS_Store": b"x", "other/ä b.png": png("blue"), "5_zk9 red/c.jpg": png(), "set/big.txt": b"x" * 70_000,
        "CON.png": png(), "../up.png": png(),
    }  # fmt: skip
    answer = send(client, files, trigger="zk9", **{"class": "creature"}, repeats="7", name="my set").json()
    images = Path(answer["images"])
    assert images == jobs.settings.data_dir / "uploads" / "my set" / "img"
    kept = {path.relative_to(images).as_posix(): path.read_bytes() for path in images.rglob("*") if path.is_file()}
    assert kept == {"7_zk9 creature/ä b.png": png(), "7_zk9 creature/ä b.txt": b"zk9", "5_zk9 red/c.jpg": png()}
    assert answer["pictures"] == 2 and answer["captions"] == 1
    assert answer["problems"] == [
        "set/virus.exe: neither a picture nor a caption: left out",
        "set/page.png: not a picture that can be read: left out",
        "other/ä b.png: another of this name came before: left out",
        "set/big.txt: larger than 0.1 MB: left out",
        "CON.png: a name that cannot be kept: left out",
        "../up.png: a name that cannot be kept: left out",
    ]
    again = send(client, {"a.png": png()}, name="my set").json()
    assert again["images"].endswith("/uploads/my set-2/img") and kept.keys() == {
        path.relative_to(images).as_posix() for path in images.rglob("*") if path.is_file()
    }
    assert not list((jobs.settings.data_dir / "uploads").glob(".tmp-*"))


def test_a_zip_cannot_slip_out_or_blow_up(client: TestClient, jobs: Jobs, tmp_path: Path) -> None:
    file = io.BytesIO(zipped({
        "a.png": png(), "../../slip.png": png(), "/abs.png": png(), "C:\\dos\\b.png": png(), "__MACOSX/._a.png": b"x",
        "bomb.png": b"\0" * 30_000_000, "sub/2_x/c.png": png(), "inner.zip": zipped({"d.png": png()}),
    }))  # fmt: skip
    with zipfile.ZipFile(file, "a") as archive:
        link = zipfile.ZipInfo("link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    answer = send(client, {"set.zip": file.getvalue()}, trigger="x").json()
    found = {path.name for path in (jobs.settings.data_dir / "uploads").rglob("*") if path.is_file()}
    assert found == {"a.png", "b.png", "c.png"} and not list(tmp_path.rglob("slip.png"))
    assert [problem.split(": ")[0] for problem in answer["problems"]] == [
        *("../../slip.png", "/abs.png", "bomb.png", "inner.zip", "link.png")
    ]
    torn = zipped({"a.png": png(size=(300, 300)), "b.png": png()}, zipfile.ZIP_STORED).replace(b"IDAT", b"IDAX", 1)
    answer = send(client, {"torn.zip": torn}, name="torn").json()
    assert answer["pictures"] == 1 and "a.png: damaged in the zip" in answer["problems"][0]


def test_uploads_have_limits_and_leave_nothing_behind(
    client: TestClient, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "files: no picture among 1 files" in send(client, {"a.txt": b"x"}).json()["error"]
    assert "repeats: '0' is not a whole number" in send(client, {"a.png": png()}, repeats="0").json()["error"]
    assert "cannot be the name of a folder" in send(client, {"a.png": png()}, name="../x").json()["error"]
    assert send(client, {"a.zip": b"PK rubbish"}).status_code == 400
    kind = {"content-type": "multipart/form-data; boundary=b"}
    for body in (b"", b"rubbish", b"--b\r\nbroken", b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\nopen"):
        assert client.post("/api/upload", content=body, headers=kind).status_code == 400, body
    long = {"content-type": f"multipart/form-data; boundary={'b' * 100_000}"}
    assert client.post("/api/upload", content=b"x", headers=long).status_code == 400
    assert client.post("/api/upload", json={}).status_code == 400
    monkeypatch.setattr(uploads, "MOST_FILES", 3)
    assert send(client, {f"{n}.png": png() for n in range(4)}).status_code == 413
    assert send(client, {"a.zip": zipped({f"{n}.png": png() for n in range(4)})}).status_code == 413
    monkeypatch.setattr(uploads, "MOST_BYTES", 5000)
    assert send(client, {"a.png": b"x" * 6000}).status_code == 413
    assert send(client, {"a.zip": zipped({"a.png": b"\0" * 6000})}).status_code == 413
    assert list((jobs.settings.data_dir / "uploads").iterdir()) == []


def test_kohya_s_folders_are_made_by_copying(client: TestClient, tmp_path: Path) -> None:
    home = tmp_path / "home"
    for name in ("mine", "men"):
        (home / name / "deeper").mkdir(parents=True)
        (home / name / "a.png").write_bytes(png())
    (home / "mine" / "a.txt").write_text("zk9")
    (home / "mine" / "model.ckpt").write_text("x")
    wish = {
        "trigger": "zk9", "class": "man", "repeats": 12, "images": str(home / "mine"), "reg": str(home / "men"),
        "destination": str(home / "set"),
    }  # fmt: skip
    answer = client.post("/api/folders", json=wish).json()
    names = {"images": "img", "reg": "reg", "output": "model", "logging": "log"}
    assert {name: str(home / "set" / folder) for name, folder in names.items()} | {"copied": 2} == answer
    found = {path.relative_to(home / "set").as_posix() for path in (home / "set").rglob("*")}
    assert found == {
        *("img", "img/12_zk9 man", "img/12_zk9 man/a.png", "img/12_zk9 man/a.txt"),
        *("reg", "reg/1_man", "reg/1_man/a.png", "log", "model"),
    }
    assert (home / "mine" / "a.png").is_file()
    assert client.post("/api/folders", json=wish).json() == {**answer, "copied": 0}  # told again, nothing to do
    (home / "set" / "img" / "12_zk9 man" / "a.png").write_bytes(b"mine now")
    again = client.post("/api/folders", json=wish)
    assert again.status_code == 400 and "is there already, with other files" in again.json()["error"]
    for change, words in (
        ({"destination": "/etc/x"}, "destination: "),
        ({"destination": str(api.__file__)}, "destination: "),
        ({"images": str(home)}, "images: no picture lies in"),
        ({"trigger": "a/b"}, "trigger: "),
        ({"trigger": ""}, "trigger: it is empty"),
        ({"class": ""}, "class: it is empty"),
        ({"repeats": 0}, "repeats: "),
        ({"repeats": True}, "repeats: "),
        ({"repeats": 10**400}, "repeats: "),
    ):
        answer = client.post("/api/folders", json={**wish, **change})
        assert answer.status_code in (400, 403) and answer.json()["error"].startswith(words), change
    assert not list((home / "set").rglob(".tmp-*"))


def test_a_link_brings_no_file_in(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(png())
    (tmp_path / "home" / "mine").mkdir()
    (tmp_path / "home" / "mine" / "a.png").symlink_to(tmp_path / "secret.png")
    wish = {"trigger": "x", "images": str(tmp_path / "home" / "mine"), "destination": str(tmp_path / "home" / "set")}
    assert client.post("/api/folders", json=wish).status_code == 403
    assert not (tmp_path / "home" / "set").exists()


def test_counting_pictures_takes_bounded_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    monkeypatch.setattr(browse, "COUNTING", 0)
    assert browse.browse(str(tmp_path), [tmp_path])["entries"][0]["pictures"] is None
