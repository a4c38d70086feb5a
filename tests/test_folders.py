"""Folders as people bring them: every picture and caption is trained, or spoken of with what was done about it."""

from __future__ import annotations

import hashlib
import io
import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from trainer.config import Captions, Data
from trainer.data import folders
from trainer.data.folders import SHIPPED, Collection, FolderError, collect, read_caption
from trainer.data.pictures import PictureError

FACES = "10_zk9 man"


def png(shade: int = 0, size: tuple[int, int] = (48, 40), **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (shade, 0, 0)).save(file, "PNG", **options)
    return file.getvalue()


def lay(root: Path, files: dict[str, bytes | str]) -> Path:
    """Writes files under their paths; text as UTF-8."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def gather(root: Path, captions: Captions | None = None, **data: Any) -> Collection:
    return collect(Data(images=str(root), **data), captions or Captions())


def problems(found: Collection) -> list[str]:
    assert all("\n" not in str(problem) and str(problem).isprintable() for problem in found.problems)
    return [str(problem) for problem in found.problems]


def test_the_kohya_layout(tmp_path: Path) -> None:
    root = lay(
        tmp_path,
        {
            f"{FACES}/b.png": png(1),
            f"{FACES}/b.txt": "zk9, smiling\n",
            f"{FACES}/a.PNG": png(2, (60, 80)),
            f"{FACES}/a.TXT": "zk9, sad",
            "3_zk9_body/c.jpeg": png(3),
            "3_zk9_body/c.txt": "standing",
        },
    )
    seen: list[tuple[int, int]] = []
    found = collect(Data(images=str(root)), Captions(), lambda done, total: seen.append((done, total)))
    assert problems(found) == [] and found.summary() == []
    assert [(p.path.name, p.caption, p.caption_source, p.size) for p in found.pictures] == [
        ("a.PNG", "zk9, sad", "file", (60, 80)),
        ("b.png", "zk9, smiling", "file", (48, 40)),
        ("c.jpeg", "standing", "file", (48, 40)),
    ]
    assert [(p.folder.name, p.folder.repeats, p.folder.words, p.folder.reg) for p in found.pictures[1:]] == [
        (FACES, 10, "zk9 man", False),
        ("3_zk9_body", 3, "zk9_body", False),
    ]
    assert found.pictures[1].digest == hashlib.sha256(png(1)).hexdigest()
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_plain_folder_takes_its_repeats_from_the_config(tmp_path: Path) -> None:
    found = gather(lay(tmp_path / "faces", {"a.png": png(), "a.txt": "zk9"}), repeats=7)
    assert [(p.caption, p.folder.repeats, p.folder.name) for p in found.pictures] == [("zk9", 7, "faces")]


def test_regularisation_pictures_are_marked(tmp_path: Path) -> None:
    root = lay(tmp_path, {f"img/{FACES}/a.png": png(1), "reg/1_man/r.png": png(2), "plain/r.png": png(3)})
    found = gather(root / "img", reg=str(root / "reg"))
    assert [(p.folder.reg, p.folder.repeats, p.caption) for p in found.pictures] == [
        (False, 10, "zk9 man"),
        (True, 1, "man"),
    ]
    found = gather(root / "img", reg=str(root / "plain"), repeats=5)
    assert [(p.folder.reg, p.folder.repeats) for p in found.pictures] == [(False, 10), (True, 1)]
    with pytest.raises(FolderError, match=r"data.reg: .* is the image folder"):
        gather(root / "img", reg=str(root / "img" / "." / ""))
    with pytest.raises(FolderError, match=r"data.reg: .*nothere does not exist"):
        gather(root / "img", reg=str(root / "nothere"))


def test_the_shipped_set_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert SHIPPED["zk9"] == Path(folders.__file__).parents[1] / "pocket" / "zk9"
    lay(tmp_path, {"img/10_zk9/a.png": png(1), "reg/1_creature/b.png": png(2)})
    monkeypatch.setitem(SHIPPED, "zk9", tmp_path)
    found = collect(Data(images="zk9", reg="zk9"), Captions())
    assert [p.caption for p in found.pictures] == ["zk9", "creature"]


@pytest.mark.parametrize(
    ("files", "choose", "says"),
    [
        ({}, "none", r"data.images: .*none does not exist; .* does$"),
        ({"images/x.txt": ""}, "image", r"does not exist; .* does, and holds images"),
        ({"a.png": png()}, "a.png", "is a file: choose the folder"),
        ({"img/notes.docx": "x", "img/b.mp4": "x"}, "img", r"holds no pictures, but 1 .mp4, 1 .docx; .png"),
        ({"img/10_zk9/notes.md": "x"}, "img", r"holds no pictures, but 1 folder"),
        ({f"img/{FACES}/a.png": png()}, f"img/{FACES}", "a folder of 10 repeats: choose its parent, .*img; or"),
        ({"img/face/a.png": png(), "img/body/b.png": png()}, "img", "rename body, face to <rep.*, such as '10_body'"),
        ({"img/20240101_zk9/a.png": png()}, "img", "asks for 20240101 repeats, more than 10000"),
        ({"img/1_x/a.png": b"", "img/1_x/b.png": "<html>"}, "img", "none of its pict.*a.png: an empty file.*b.png"),
    ],
)  # fmt: skip
def test_a_folder_that_cannot_be_trained_is_refused_with_a_remedy(
    tmp_path: Path, files: dict[str, bytes], choose: str, says: str
) -> None:
    with pytest.raises(FolderError, match=says):
        gather(lay(tmp_path, files) / choose)


@pytest.mark.parametrize(
    ("value", "says"), [("  ", "is empty"), ("x" * 4000, "cannot be opened"), ("C:\\a\\b", "Windows")]
)
@pytest.mark.skipif(os.name == "nt", reason="these are paths as they fail elsewhere")
def test_a_path_that_is_none_is_refused(value: str, says: str) -> None:
    with pytest.raises(FolderError, match=says):
        collect(Data(images=value), Captions())


def test_a_folder_with_a_number_may_hold_a_plain_set(tmp_path: Path) -> None:
    assert gather(lay(tmp_path / "2024", {"a.png": png()}), repeats=2).pictures[0].folder.repeats == 2


def test_what_lies_beside_is_left_out_and_listed(tmp_path: Path) -> None:
    root = lay(
        tmp_path / "img",
        {
            f"{FACES}/a.png": png(1),
            f"{FACES}/a.txt": "zk9",
            f"{FACES}/old/b.png": png(2),
            f"{FACES}/IMG_1.HEIC": "x",
            f"{FACES}/._a.png": "mac",
            f"{FACES}/Thumbs.db": "windows",
            "loose.png": png(3),
            "faces/c.png": png(4),
            "0_zero/d.png": png(5),
            "5_empty/readme.md": "x",
            "log/events": "x",
        },
    )
    found = gather(root)
    assert [p.path.name for p in found.pictures] == ["a.png"]
    assert problems(found) == [
        "img: 1 pictures beside the picture folders (loose.png): left out",
        "img/0_zero: its name does not begin with a number of repeats: left out",
        "img/faces: its name does not begin with a number of repeats: left out",
        "img/5_empty: holds no pictures: left out",
        f"{FACES}/IMG_1.HEIC: a kind that is not read: save it as PNG or JPEG: left out",
        f"{FACES}/old: a folder inside a picture folder: left out",
    ]
    assert found.summary() == []


def test_broken_and_tiny_pictures_are_left_out_and_counted(tmp_path: Path) -> None:
    files = {
        "a.png": png(1),
        "b.png": b"",
        "c.jpg": "<!doctype html>",
        "d.png": png(2)[:-30],
        "e.png": png(3, (31, 900)),
    }
    (tmp_path / FACES / "f.png").mkdir(parents=True)
    found = gather(lay(tmp_path, {f"{FACES}/{name}": content for name, content in files.items()}))
    assert [p.path.name for p in found.pictures] == ["a.png"]
    left_out = [problem for problem in found.problems if problem.done == "left out"]
    assert [p.file for p in left_out] == [f"{FACES}/{name}" for name in ("b.png", "c.jpg", "d.png", "e.png", "f.png")]
    for problem, what in zip(left_out, ("empty file", "web page", "cut off", "31 x 900", "not a file"), strict=True):
        assert what in problem.what


def test_what_was_changed_in_a_picture_is_noted(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    found = gather(lay(tmp_path, {f"{FACES}/{n}.png": png(n, exif=exif) for n in range(5)}))
    assert found.pictures[0].size == (40, 48) and found.pictures[0].notes == ("turned upright by its EXIF data",)
    assert found.summary() == ["5 x turned upright by its EXIF data (0.png, 1.png, 2.png and 2 more)"]


def test_errors_name_the_option_that_the_folder_came_from(tmp_path: Path) -> None:
    for files in ({}, {"img/1_x/a.png": b""}, {"img/a.png": b""}):
        with pytest.raises(FolderError, match=r"^validation\.folder: "):
            data = Data(images=str(lay(tmp_path, files) / "img"))
            collect(data, Captions(), field="validation.folder")


def test_missing_captions_are_counted_once_a_folder(tmp_path: Path) -> None:
    root = lay(tmp_path, {f"{FACES}/{name}.png": png(i) for i, name in enumerate("abcde")} | {f"{FACES}/a.txt": "zk9"})
    found = gather(root)
    assert [(p.caption, p.caption_source) for p in found.pictures[:2]] == [("zk9", "file"), ("zk9 man", "folder")]
    assert problems(found) == [
        f"{FACES}: 4 of 5 pictures have no .txt caption (b.png, c.png, d.png and 1 more): "
        "trained with the folder's words 'zk9 man'"
    ]
    bare = gather(root / FACES / "..", Captions(extension=".caption"))
    assert f"{FACES}: 1 files that are no picture's .caption caption (a.txt): not used" in problems(bare)
    plain = gather(lay(tmp_path / "plain", {"a.png": png()}))
    assert (plain.pictures[0].caption, plain.pictures[0].caption_source) == ("", "none")
    assert problems(plain) == ["plain: 1 of 1 pictures have no .txt caption (a.png): trained without words"]


CAPTIONS: dict[str, tuple[bytes, str, str | None]] = {
    "plain": (b"zk9, smiling", "zk9, smiling", None),
    "newline": (b"zk9\n", "zk9", None),
    "crlf": (b"zk9, smiling\r\n", "zk9, smiling", None),
    "blank lines": (b"\r\n  \n zk9 \n", "zk9", None),
    "tab": (b"zk9,\tsad", "zk9, sad", None),
    "two lines": (b"one\ntwo\r\n", "one", "trained with the first line"),
    "old mac lines": (b"one\rtwo", "one", "trained with the first line"),
    "not a line": ("one\u2028two".encode(), "one two", "blanks"),
    "empty": (b"", "", "trained without words"),
    "blank": (b" \r\n\t\n", "", "trained without words"),
    "utf-8": ("café, 女, 😀".encode(), "café, 女, 😀", None),
    "utf-8 mark": (b"\xef\xbb\xbfzk9, caf\xc3\xa9", "zk9, café", "read as utf-8-sig"),
    "mark alone": (b"\xef\xbb\xbf", "", "trained without words"),
    "utf-16 mark": ("zk9, café\n".encode("utf-16"), "zk9, café", "read as utf-16"),
    "utf-16 be mark": (b"\xfe\xff" + "zk9, 女".encode("utf-16-be"), "zk9, 女", "read as utf-16"),
    "utf-32 mark": ("zk9".encode("utf-32"), "zk9", "read as utf-32"),
    "utf-16 le bare": ("zk9, café".encode("utf-16-le"), "zk9, café", "read as utf-16-le"),
    "utf-16 be bare": ("zk9, café".encode("utf-16-be"), "zk9, café", "read as utf-16-be"),
    "cp1252": ("zk9\u2019s café \u2013 déjà vu".encode("cp1252"), "zk9\u2019s café \u2013 déjà vu", "read as cp1252"),
    "ansi": (b"zk9\x1b[2J\x1b]0;x\x07, sad", "zk9 [2J ]0;x , sad", "blanks"),
    "zero": (b"zk9\0, sad", "zk9 , sad", "blanks"),
    "reversed": ("zk9 \u202edas".encode(), "zk9  das", "blanks"),
    "html": (b"<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>", None),
    "64 KiB": (b"x" * 65536, "x" * 65536, None),
}
REFUSED = {
    "gbk": ("一个女孩的照片".encode("gbk"), "no encoding that can be told: save it as UTF-8"),
    "cp1251": ("девушка".encode("cp1251"), "no encoding that can be told"),
    "not in cp1252": (b"zk9 \x81 x", "no encoding that can be told"),
    "half a utf-16": ("zk9, sad".encode("utf-16")[:-1], "no encoding that can be told"),
    "too long": (b"x" * 65537, "longer than 64 KiB"),
}


@pytest.mark.parametrize("name", CAPTIONS)
def test_a_caption_is_read_and_what_was_odd_is_said(tmp_path: Path, name: str) -> None:
    raw, text, done = CAPTIONS[name]
    (tmp_path / "a.txt").write_bytes(raw)
    caption, changes = read_caption(tmp_path / "a.txt")
    assert caption == text
    assert [change for _, change in changes][-1:] == [] if done is None else any(done in c for _, c in changes)


@pytest.mark.parametrize("name", REFUSED)
def test_a_caption_that_cannot_be_read_leaves_its_picture_out(tmp_path: Path, name: str) -> None:
    raw, reason = REFUSED[name]
    with pytest.raises(PictureError, match=reason):
        read_caption(lay(tmp_path / "alone", {"a.txt": raw}) / "a.txt")
    root = lay(
        tmp_path / "img",
        {f"{FACES}/a.png": png(1), f"{FACES}/a.txt": raw, f"{FACES}/b.png": png(2), f"{FACES}/b.txt": "b"},
    )
    found = gather(root)
    assert [p.path.name for p in found.pictures] == ["b.png"] and len(found.problems) == 1
    assert "its caption a.txt" in found.problems[0].what and found.problems[0].done == "left out"


def test_wildcards_keep_every_line_with_words(tmp_path: Path) -> None:
    root = lay(tmp_path, {f"{FACES}/a.png": png(), f"{FACES}/a.txt": "{one|two}\r\n\n three \n"})
    found = gather(root, Captions(wildcards=True))
    assert found.pictures[0].caption == "{one|two}\nthree" and not found.problems


def test_a_caption_that_is_a_folder_leaves_its_picture_out(tmp_path: Path) -> None:
    lay(tmp_path, {f"{FACES}/a.png": png(1), f"{FACES}/b.png": png(2), f"{FACES}/a.txt/x": "x"})
    found = gather(tmp_path)
    assert f"{FACES}/a.png: its caption a.txt is not a file: left out" in problems(found)


def test_two_pictures_of_one_name_or_of_the_same_bytes_are_spoken_of(tmp_path: Path) -> None:
    root = lay(
        tmp_path, {f"{FACES}/a.png": png(1), f"{FACES}/a.jpg": png(2), f"{FACES}/a.txt": "zk9", "1_x/b.png": png(1)}
    )
    found = gather(root)
    assert len(found.pictures) == 3 and [p.caption for p in found.pictures] == ["zk9", "zk9", "x"]
    assert problems(found)[0] == f"{FACES}/a.png: a.jpg has the same name, so both have one caption: both are trained"
    assert problems(found)[-1] == f"1_x/b.png: the same picture as {FACES}/a.png: both are trained"


def test_a_caption_without_a_picture_is_not_used(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {
        f"{FACES}/{name}": "x" for name in ("p.txt", "q.txt", "r.caption", "a.txt", "a.caption")
    }
    found = gather(lay(tmp_path, files | {f"{FACES}/a.png": png()}))
    assert found.pictures[0].caption == "x"
    assert problems(found) == [
        f"{FACES}: 4 files that are no picture's .txt caption (a.caption, p.txt, q.txt and 1 more): not used"
    ]


ODD_NAMES = (
    "line\nbreak", "carriage\rreturn", "escape\x1b[2J", "rtl\u202egnp", "quo\"te's", "$(touch pwned)", "--help", "`ls`",
    "a b  c", "<img src=x onerror=alert(1)>", "emoji 👩\u200d🎨", "女の子", "trailing.dot.", "CON", "l" * 200, "%s{0}",
    "semi;colon&", "two\u2028lines",
    os.fsdecode(b"caf\xe9"), unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é"),
)  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="Windows allows few of these names")
def test_odd_names_are_trained_and_shown_in_one_line(tmp_path: Path) -> None:
    for i, name in enumerate(ODD_NAMES):
        path = tmp_path / FACES / name
        try:
            lay(tmp_path, {f"{FACES}/{name}.png": png(i), f"{FACES}/{name}.txt": f"caption {i}"})
            lay(tmp_path, {f"{FACES}/broken {name[:60]}.png": b""})
        except OSError:
            pytest.skip(f"this disk does not take {path!r}")
    found = gather(tmp_path)
    assert sorted(p.caption for p in found.pictures) == sorted(f"caption {i}" for i in range(len(ODD_NAMES)))
    assert len(found.problems) == len(ODD_NAMES)
    for problem in found.problems:
        assert len(str(problem).splitlines()) == 1
        str(problem).encode("utf-8")
        assert not {"\x1b", "\u202e"} & set(str(problem))


def test_an_accent_written_in_two_ways_finds_its_caption(tmp_path: Path) -> None:
    root = lay(tmp_path, {f"{FACES}/{unicodedata.normalize('NFD', 'José')}.png": png(), f"{FACES}/José.txt": "zk9"})
    assert gather(root).pictures[0].caption == "zk9"
    root = lay(tmp_path / "case", {f"{FACES}/IMG_1.JPG": png(), f"{FACES}/img_1.txt": "zk9"})
    assert gather(root).pictures[0].caption == "zk9"


@pytest.mark.skipif(os.name == "nt", reason="making links needs rights on Windows")
def test_a_cropped_face_takes_the_caption_of_its_picture_unless_it_has_its_own(tmp_path: Path) -> None:
    crops = {"anna_2_10_20_0.png": png(1), "anna_2_30_40_1.png": png(2), "anna_2_30_40_1.txt": "her own"}
    root = lay(tmp_path, {f"{FACES}/{name}": text for name, text in {**crops, "anna.txt": "both"}.items()})
    assert [picture.caption for picture in gather(root).pictures] == ["both", "her own"]
    few = lay(tmp_path / "few", {f"{FACES}/anna_10_20_0.png": png(1), f"{FACES}/anna.txt": "not its own"})
    assert [picture.caption_source for picture in gather(few).pictures] == ["folder"]


def test_words_of_an_odd_folder_are_clean(tmp_path: Path) -> None:
    lay(tmp_path, {os.fsdecode(b"10_zk9\n caf\xe9 \x1bman") + "/a.png": png()})
    found = gather(tmp_path)
    assert found.pictures[0].caption == "zk9  caf  man"
    assert "folder's words 'zk9  caf  man'" in problems(found)[0]


@pytest.mark.skipif(os.name == "nt", reason="making links needs rights on Windows")
def test_links_that_leave_the_folder_are_not_followed(tmp_path: Path) -> None:
    lay(tmp_path, {"secret/s.png": png(9), "secret/s.txt": "password"})
    root = lay(
        tmp_path / "img",
        {
            f"{FACES}/a.png": png(1),
            f"{FACES}/b.png": png(2),
            f"{FACES}/b.txt": "b",
            "1_x/x.png": png(3),
            "1_x/x.txt": "x",
        },
    )
    (root / FACES / "a.txt").symlink_to(tmp_path / "secret" / "s.txt")
    (root / FACES / "s.png").symlink_to(tmp_path / "secret" / "s.png")
    (root / FACES / "gone.png").symlink_to(tmp_path / "nothing.png")
    (root / "2_secret").symlink_to(tmp_path / "secret")
    (root / FACES / "inside.png").symlink_to(root / "1_x" / "x.png")
    found = gather(root)
    assert [p.path.name for p in found.pictures] == ["b.png", "inside.png", "x.png"]
    assert not any("password" in p.caption for p in found.pictures)
    left_out = {problem.file for problem in found.problems if problem.done == "left out"}
    assert left_out == {"img/2_secret", f"{FACES}/a.png", f"{FACES}/s.png", f"{FACES}/gone.png"}
    link = tmp_path / "link"
    link.symlink_to(root)
    assert len(gather(link).pictures) == 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    lay(tmp_path, {f"{FACES}/a.png": png(1), f"{FACES}/b.png": png(2)})
    os.mkfifo(tmp_path / FACES / "c.png")
    os.mkfifo(tmp_path / FACES / "b.txt")
    found = gather(tmp_path)
    assert [p.path.name for p in found.pictures] == ["a.png"]
    assert f"{FACES}/c.png: not a file: left out" in problems(found)


def test_the_order_does_not_depend_on_the_disk(tmp_path: Path) -> None:
    for place, names in (("one", "dacb"), ("two", "bcad")):
        lay(tmp_path / place, {f"{FACES}/{name}.png": png(ord(name)) for name in names})
    first, second = gather(tmp_path / "one"), gather(tmp_path / "two")
    assert [p.digest for p in first.pictures] == [p.digest for p in second.pictures]


def test_a_stop_while_looking_ends_at_once(tmp_path: Path) -> None:
    lay(tmp_path, {f"{FACES}/{i}.png": png(i) for i in range(30)})

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect(Data(images=str(tmp_path)), Captions(), stop)
