"""`python -m trainer caption`: what is written, what is left alone, what is said, and that all of it can be undone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.taggers import draw_tagger
from trainer import durable
from trainer.__main__ import main
from trainer.captioners.base import Report
from trainer.captioners.command import KINDS
from trainer.captioners.options import Wd14
from trainer.captioners.record import FILE, Record
from trainer.captioners.run import run
from trainer.captioners.wd14 import Wd14Captioner
from trainer.durable import DiskError
from trainer.errors import InputError
from trainer.snapshots import snapshots

RED = "red theme, ^_^, (o)_(o), zk9 (hat) (creature), red one\n"
BLUE = "blue theme, ^_^, (o)_(o), zk9 (hat) (creature)\n"


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(draw_tagger(tmp_path_factory.mktemp("models") / "tagger"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures: a red one, a blue one with a caption, and a red one in a folder inside."""
    draw(tmp_path / "a.png", "red")
    draw(tmp_path / "b.jpg", "blue")
    draw(tmp_path / "10_zk9" / "c.webp", "red")
    (tmp_path / "b.txt").write_bytes(b"an old caption, ^_^\r\n")
    return tmp_path


def draw(file: Path, colour: str) -> None:
    file.parent.mkdir(exist_ok=True)
    Image.new("RGB", (40, 30), colour).save(file)


def words(folder: Path) -> dict[str, str]:
    """All captions of a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes().decode("latin-1")
        for path in sorted(folder.rglob("*.txt"))
    }


@pytest.fixture
def caption(tagger: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """Captions the folder through the command line, and gives its report."""

    def caption(*flags: str) -> dict[str, Any]:
        assert main(["caption", str(folder), "--json", "--model", tagger, *flags]) == 0
        return json.loads(capsys.readouterr().out)

    return caption


def test_captions_are_written_beside_the_pictures(caption: Any, folder: Path, tagger: str, capsys: Any) -> None:
    report = caption("--recursive", "--no-download")
    assert words(folder) == {"10_zk9/c.txt": RED, "a.txt": RED, "b.txt": BLUE}
    assert (report["captioned"], report["pictures"], report["problems"]) == (3, 3, [])
    assert report["tags"]["^_^"] == 3 and report["tags"]["red one"] == 2
    assert main(["caption", str(folder), "--model", tagger]) == 0
    said = capsys.readouterr()
    assert "     2  ^_^\n" in said.out and said.out.endswith("0 captioned, 2 as they were\n")
    assert "on the CPU" in said.err


def test_a_run_is_one_snapshot_and_comes_back_byte_for_byte(caption: Any, folder: Path) -> None:
    before = words(folder)
    report = caption("--recursive", "--batch", "1")
    (made,) = snapshots(folder)
    assert (made.id, made.what, len(made.files)) == (report["snapshot"], "WD14 captions", 3)
    made.restore()
    assert words(folder) == before and before["b.txt"].endswith("\r\n")


@pytest.mark.parametrize(
    ("existing", "second"),
    [
        ("overwrite", BLUE),
        ("skip", "an old caption, ^_^\r\n"),
        ("append", f"an old caption, ^_^, {BLUE.replace('^_^, ', '')}"),
        ("prepend", f"{BLUE.strip()}, an old caption\n"),
    ],
)
def test_what_becomes_of_a_caption_that_is_there(existing: str, second: str, caption: Any, folder: Path) -> None:
    caption("--existing", existing)
    assert words(folder) == {"a.txt": RED, "b.txt": second}


@pytest.mark.parametrize("existing", ["overwrite", "skip", "append", "prepend"])
def test_a_second_run_has_nothing_to_do(existing: str, caption: Any, folder: Path) -> None:
    caption("--existing", existing, "--prefix", "zk9")
    written = words(folder)
    report = caption("--existing", existing, "--prefix", "zk9")
    assert (report["captioned"], report["done_before"], report["snapshot"]) == (0, 2, None)
    assert words(folder) == written and len(snapshots(folder)) == 1


def test_overwrite_overwrites_what_append_kept(caption: Any, folder: Path) -> None:
    caption("--existing", "append")
    assert caption("--existing", "overwrite")["captioned"] == 2
    assert words(folder) == {"a.txt": RED, "b.txt": BLUE}


def test_what_changed_is_captioned_again(caption: Any, folder: Path) -> None:
    caption()
    draw(folder / "a.png", "blue")
    os.utime(folder / "a.png", ns=(1, 1))
    assert caption()["captioned"] == 1
    (folder / "b.txt").write_text("edited by hand")
    assert caption()["captioned"] == 1
    assert words(folder) == {"a.txt": BLUE, "b.txt": BLUE}
    assert caption("--undesired-tags", "blue theme")["captioned"] == 2
    record = folder / ".likeness" / "captions.jsonl"
    record.write_text(record.read_text()[:-30])  # as a power cut may leave it
    assert caption("--undesired-tags", "blue theme")["captioned"] == 1


def test_a_torn_line_of_the_record_costs_that_line_alone(folder: Path) -> None:
    made = {folder / "a.txt": (folder / "a.png", b"red"), folder / "b.txt": (folder / "b.jpg", b"blue")}
    for caption, of in made.items():
        Record(folder, "x").add({caption: of})
        (folder / FILE).write_bytes((folder / FILE).read_bytes() + b'{"caption": "c.t')
    known = Record(folder, "x")
    assert all(known.holds(picture, caption, content) for caption, (picture, content) in made.items())


def test_the_record_goes_through_no_link(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (folder / ".likeness").symlink_to(outside)
    with pytest.raises(InputError, match="a link leads out of the folder of pictures: remove it"):
        Record(folder, "x").add({folder / "a.txt": (folder / "a.png", b"red")})
    assert not any(outside.iterdir())


def test_masks_are_no_pictures(folder: Path) -> None:
    draw(folder / "masks" / "a.png", "white")
    draw(folder / "10_zk9" / "masks.png", "red")
    basic(folder, "--caption-text", "zk9", "--recursive")
    assert words(folder).keys() == {"a.txt", "b.txt", "10_zk9/c.txt", "10_zk9/masks.txt"}
    draw(folder / "20_zk9" / "x.png", "red")
    (folder / "20_zk9").rename(folder / "10_zk9" / "masks")  # no folder of masks, which lies at the top
    basic(folder, "--caption-text", "zk9", "--recursive")
    assert "10_zk9/masks/x.txt" in words(folder)


def test_a_caption_without_words_is_none(caption: Any, folder: Path) -> None:
    (folder / "b.txt").write_bytes(b" \n")
    assert caption("--existing", "skip")["captioned"] == 2
    assert words(folder)["b.txt"] == BLUE


def test_broken_pictures_are_named_and_the_rest_goes_on(caption: Any, folder: Path, capsys: Any) -> None:
    (folder / "0.png").write_bytes(b"")
    (folder / "half.jpg").write_bytes((folder / "b.jpg").read_bytes()[:200])
    (folder / "page.png").write_text("<!doctype html>")
    (folder / "raw.heic").write_bytes(b"x")
    draw(folder / "a.webp", "red")
    (folder / "gone.png").symlink_to("/nowhere.png")
    draw(folder / "linked.png", "red")
    (folder / "linked.txt").symlink_to("/etc/hostname")
    draw(folder / "odd.png", "red")
    (folder / "odd.txt").write_bytes(bytes(range(128, 256)))
    report = caption("--existing", "append")
    said = {problem["file"]: problem["what"] for problem in report["problems"]}
    assert said.keys() == {
        *("0.png", "half.jpg", "page.png", "raw.heic", "a.webp", "gone.png", "linked.png", "odd.png")
    }
    assert "web page" in said["page.png"] and "a.png has the same name" in said["a.webp"]
    assert (report["captioned"], report["pictures"]) == (2, 10)
    assert words(folder).keys() - {"linked.txt", "odd.txt"} == {"a.txt", "b.txt"}


def test_wrong_flags_are_told(folder: Path, tagger: str, capsys: Any) -> None:
    for flags, said in (
        (["--batch", "0"], 'batch: "0": it must be 1 or more (Pictures that the model looks at together'),
        (["--general-threshold", "1.5"], 'general_threshold: "1.5"'),
        (["--tag-replacement", "a"], "tag_replacement: \"a\": 'a' is not of the form old,new"),
        (["--caption-extension", ".png"], "which captions would overwrite"),
        (["--find", "x"], "find: no such option"),
        (["--captioner", "basic", "--model", "x"], "model: no such option"),
        (["--captioner", "basic"], "nothing to do"),
        (["--captioner", "basic", "--replace", "x"], "set find"),
    ):
        assert main(["caption", str(folder), *flags]) == 2
        assert said in capsys.readouterr().err
    assert main(["caption", str(folder / "none")]) == 2
    assert "none does not exist: check the path" in capsys.readouterr().err
    assert main(["caption", str(folder / "10_zk9" / ".."), "--existing", "skip", "--model", tagger]) == 0
    (folder / "empty" / "inside").mkdir(parents=True)
    assert main(["caption", str(folder / "empty"), "--model", "/no/such/model"]) == 2
    assert "the folders in it are read with recursive" in capsys.readouterr().err


def test_every_option_has_a_flag(folder: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        main(["caption", "--help"])
    said = capsys.readouterr().out
    options = {name for kind in KINDS.values() for name in kind.model_fields} - {"folder"}
    assert [name for name in options if f"--{name.replace('_', '-')}" not in said] == []
    assert said.count("  DIR  ") == 1 and "wd14: Threshold." not in said and "Threshold." in said


def stopped_after(batches: int, folder: Path, tagger: str) -> Report:
    """A run in batches of one that is asked to stop."""
    options = Wd14(folder=str(folder), model=(tagger,), batch=1, workers=1)
    asked = iter([False] * batches + [True] * 99)
    return run(Wd14Captioner(options, lambda text: None), options, should_stop=lambda: next(asked))


def test_a_stopped_run_is_whole_and_goes_on(tagger: str, tmp_path: Path) -> None:
    for i in range(6):
        draw(tmp_path / f"{i}.png", "red")
    report = stopped_after(2, tmp_path, tagger)
    assert (report.stopped, report.captioned) == (True, 2)
    assert "4 still to do" in report.summary()
    assert words(tmp_path) == {"0.txt": RED, "1.txt": RED}
    told: list[tuple[int, int]] = []
    options = Wd14(folder=str(tmp_path), model=(tagger,), batch=4)  # the batch decides nothing
    report = run(Wd14Captioner(options, lambda text: None), options, lambda *figures: told.append(figures))
    assert (report.captioned, report.done_before, report.stopped) == (4, 2, False)
    assert told[-1] == (6, 6) and len(words(tmp_path)) == 6


def test_ctrl_c_leaves_everything_whole(tagger: str, tmp_path: Path) -> None:
    for i in range(300):
        draw(tmp_path / f"{i:03}.png", "red")
    slowly = """import sys, time
from trainer.__main__ import main
from trainer.captioners.wd14 import Wd14Captioner
look = Wd14Captioner.look
Wd14Captioner.look = lambda self, pictures: [time.sleep(0.05), look(self, pictures)][1]
sys.exit(main(sys.argv[1:]))"""
    command = [sys.executable, "-c", slowly, "caption", str(tmp_path), "--model", tagger, "--batch", "1"]
    root = Path(__file__).resolve().parents[1]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not words(tmp_path):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    made = words(tmp_path)
    assert set(made.values()) == {RED} and 1 <= len(made) < 300
    assert f"{300 - len(made)} still to do" in out
    assert list(tmp_path.rglob("*.part")) == []


def test_a_full_disk_ends_the_run_and_spoils_nothing(
    tagger: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = words(folder)
    monkeypatch.setenv("LIKENESS_FAULT", "write:1:ENOSPC")
    monkeypatch.setattr(durable, "_calls", Counter())
    options = Wd14(folder=str(folder), model=(tagger,))
    with pytest.raises(DiskError, match="make room"):
        run(Wd14Captioner(options, lambda text: None), options)
    assert words(folder) == before


def test_a_picture_that_goes_away_is_left_out(tagger: str, folder: Path) -> None:
    options = Wd14(folder=str(folder), model=(tagger,), workers=1)
    captioner = Wd14Captioner(options, lambda text: None)
    opened = captioner.prepare

    def prepare(picture: Path) -> Any:
        (folder / "b.jpg").unlink(missing_ok=True)
        return opened(picture)

    captioner.prepare = prepare
    report = run(captioner, options)
    assert (report.captioned, [problem.file for problem in report.problems]) == (1, ["b.jpg"])


def test_a_failing_model_is_an_error_and_not_a_hang(tagger: str, folder: Path) -> None:
    options = Wd14(folder=str(folder), model=(tagger,))
    captioner = Wd14Captioner(options, lambda text: None)

    class Session:
        def run(self, *words: object) -> None:
            raise RuntimeError("out of memory")

    captioner.taggers[0].session = Session()
    with pytest.raises(InputError, match="make batch smaller"):
        run(captioner, options)


def basic(folder: Path, *flags: str) -> dict[str, str]:
    assert main(["caption", str(folder), "--captioner", "basic", *flags]) == 0
    return words(folder)


def test_basic_captions(folder: Path) -> None:
    (folder / "a.png").write_bytes(b"no picture, and no matter")
    assert basic(folder, "--caption-text", "zk9 woman", "--prefix", "photo of") == {
        "a.txt": "photo of zk9 woman\n",
        "b.txt": "an old caption, ^_^\r\n",
    }
    changed = basic(folder, "--overwrite", "--find", "woman", "--replace", "man", "--postfix", ", outdoors")
    assert changed == {"a.txt": "photo of zk9 man , outdoors\n", "b.txt": "an old caption, ^_^ , outdoors\n"}
    assert basic(folder, "--overwrite", "--find", "woman", "--replace", "man", "--postfix", ", outdoors") == changed
    assert set(basic(folder, "--overwrite", "--caption-text", "zk9").values()) == {"zk9\n"}
    assert len(snapshots(folder)) == 3


def test_the_tools_bring_no_torch() -> None:
    code = """import sys
from trainer import downloads, flags
from trainer.captioners import basic, command, run, wd14
assert not {"torch", "transformers", "onnxruntime", "huggingface_hub", "httpx"} & sys.modules.keys()"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[1])
