"""WD14 taggers on small ONNX files made here: what they see, what becomes of it, and where their files come from."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from tests.serving import Quiet, serving
from tests.taggers import COLOURS, RATINGS, SIDE, TAGS, draw_json_tagger, draw_tagger
from trainer.ahead import ahead
from trainer.captioners import models
from trainer.captioners.command import run_captions
from trainer.captioners.options import TAGGERS, Wd14
from trainer.captioners.tags import read_vocabulary, replacements, spaced
from trainer.captioners.wd14 import Wd14Captioner
from trainer.data.pictures import open_picture
from trainer.downloads import Remote, Stopped
from trainer.errors import InputError

RED, BLUE, DARK = (255, 0, 0), (0, 0, 255), (0, 0, 0)


def quiet(text: str) -> None:
    """Nobody listens."""


@pytest.fixture
def tagger(tmp_path: Path) -> Path:
    return draw_tagger(tmp_path / "tagger")


def captions(options: Wd14, *colours: tuple[int, int, int], before: str | None = None) -> list[str]:
    """The captions of plain pictures of these colours."""
    captioner = Wd14Captioner(options, quiet)
    folder = Path(options.folder)
    folder.mkdir(exist_ok=True)
    ready = []
    for i, colour in enumerate(colours):
        Image.new("RGB", (SIDE, SIDE), colour).save(folder / f"{i}.png")
        ready.append(captioner.prepare(folder / f"{i}.png"))
    return [captioner.caption(seen, before) for seen in captioner.look(ready)]


@pytest.fixture
def ask(tagger: Path, tmp_path: Path) -> Callable[..., str]:
    """The caption of a red picture with some options."""

    def ask(before: str | None = None, **options: Any) -> str:
        return captions(Wd14(folder=str(tmp_path / "pictures"), model=(str(tagger),), **options), RED, before=before)[0]

    return ask


def the_long_way(image: Image.Image, side: int) -> np.ndarray:
    """The published recipe word by word: transparent parts on white, white bars, bicubic, blue first, 0 to 255."""
    ground = Image.new("RGBA", image.size, (255, 255, 255))
    ground.alpha_composite(image.convert("RGBA"))
    longest = max(image.size)
    square = Image.new("RGB", (longest, longest), (255, 255, 255))
    square.paste(ground.convert("RGB"), ((longest - image.width) // 2, (longest - image.height) // 2))
    if longest != side:
        square = square.resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(square, dtype=np.float32)[:, :, ::-1]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
@pytest.mark.parametrize(
    "size", [(448, 448), (900, 601), (601, 900), (300, 171), (200, 333), (448, 97), (1, 300), (1024, 768), (700, 700)]
)
def test_pictures_are_made_ready_to_the_pixel_as_published(mode: str, size: tuple[int, int], tmp_path: Path) -> None:
    channels = {"RGB": 3, "RGBA": 4, "L": 1}[mode]
    dice = np.random.default_rng(size)
    values = dice.integers(0, 256, (size[1], size[0], channels), np.uint8)
    image = Image.fromarray(values.squeeze(-1) if channels == 1 else values)
    image.save(tmp_path / "a.png", compress_level=1)
    draw_tagger(tmp_path / "tagger", side=448)
    ready = Wd14Captioner(Wd14(folder=str(tmp_path), model=(str(tmp_path / "tagger"),)), quiet)
    made = ready.prepare(tmp_path / "a.png")[448]
    assert made.dtype == np.float32 and made.shape == (448, 448, 3)
    np.testing.assert_array_equal(made, the_long_way(image, 448))


def test_fast_decoding_shrinks_large_jpegs_and_nothing_else(tagger: Path, tmp_path: Path) -> None:
    rows, columns = np.mgrid[0 : 16 * SIDE, 0 : 12 * SIDE]
    image = Image.fromarray(np.stack([rows % 256, columns % 256, (rows + columns) // 9 % 256], -1).astype(np.uint8))
    soft = image.resize((3 * SIDE, 4 * SIDE), Image.Resampling.BOX).resize(image.size, Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned
    soft.save(tmp_path / "a.jpg", quality=95, exif=exif)
    soft.save(tmp_path / "a.png", exif=exif)
    soft.resize((SIDE, SIDE)).save(tmp_path / "small.jpg")
    exact, fast = (
        Wd14Captioner(Wd14(folder=str(tmp_path), model=(str(tagger),), fast_decoding=fast), quiet)
        for fast in (False, True)
    )
    for name, apart in (("a.jpg", True), ("a.png", False), ("small.jpg", False)):
        one, other = (captioner.prepare(tmp_path / name)[SIDE] for captioner in (exact, fast))
        assert np.array_equal(one, other) != apart
        assert np.abs(one - other).mean() < 2
    assert open_picture(tmp_path / "a.jpg", "#ffffff", SIDE).image.size == (2 * SIDE, SIDE * 3 // 2)
    assert exact.by != fast.by


def test_memory_stays_flat_however_many_pictures_there_are() -> None:
    alive, most, lock = 0, 0, threading.Lock()

    class Picture:
        def __init__(self) -> None:
            nonlocal alive, most
            with lock:
                alive += 1
                most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            with lock:
                alive -= 1

    for _, future in ahead(range(5000), lambda number: Picture(), workers=2, depth=10):
        future.result()
        del future
    assert most <= 12


def test_a_caption_says_what_the_model_sees(ask: Callable[..., str], tagger: Path, tmp_path: Path) -> None:
    assert ask() == "red theme, ^_^, (o)_(o), zk9 (hat) (creature), red one"
    options = Wd14(folder=str(tmp_path / "pictures"), model=(str(tagger),))
    red, blue = captions(options, RED, BLUE)
    assert red.startswith("red theme, ") and blue.startswith("blue theme, ")


@pytest.mark.parametrize(
    ("options", "caption"),
    [
        ({"remove_underscore": False}, "red_theme, ^_^, (o)_(o), zk9_(hat)_(creature), red_one"),
        ({"caption_separator": " | "}, "red theme | ^_^ | (o)_(o) | zk9 (hat) (creature) | red one"),
        ({"general_threshold": 0.99}, "zk9 (hat) (creature), red one"),
        ({"character_threshold": 0.99}, "red theme, ^_^, (o)_(o)"),
        ({"character_tags_first": True}, "zk9 (hat) (creature), red one, red theme, ^_^, (o)_(o)"),
        ({"character_tag_expand": True}, "red theme, ^_^, (o)_(o), zk9 (hat), creature, red one"),
        ({"undesired_tags": "red theme, ^_^,red_one"}, "(o)_(o), zk9 (hat) (creature)"),
        ({"rating_tags": "first"}, "sensitive, red theme, ^_^, (o)_(o), zk9 (hat) (creature), red one"),
        ({"rating_tags": "last"}, "red theme, ^_^, (o)_(o), zk9 (hat) (creature), red one, sensitive"),
        ({"rating_tags": "last", "rating_threshold": 0.99}, "red theme, ^_^, (o)_(o), zk9 (hat) (creature), red one"),
        ({"quality_tags": "first"}, "red theme, ^_^, (o)_(o), zk9 (hat) (creature), red one"),
        ({"prefix": "zk9,"}, "zk9, red theme, ^_^, (o)_(o), zk9 (hat) (creature), red one"),
        (
            {"prefix": "red one", "postfix": "^_^, photo"},
            "red one, red theme, (o)_(o), zk9 (hat) (creature), ^_^, photo",
        ),
        (
            {"tag_replacement": r"red theme,crimson;zk9_(hat)_(creature),zk9\, the creature"},
            r"crimson, ^_^, (o)_(o), zk9, the creature, red one",
        ),
        (
            {"tag_replacement": "creature,beast", "character_tag_expand": True, "undesired_tags": "red theme"},
            "^_^, (o)_(o), zk9 (hat), beast, red one",
        ),
        ({"tag_replacement": "red theme,red one"}, "red one, ^_^, (o)_(o), zk9 (hat) (creature)"),
    ],
)
def test_options_shape_the_caption(ask: Callable[..., str], options: dict[str, Any], caption: str) -> None:
    assert ask(**options) == caption


def test_new_tags_go_behind_the_old_ones(ask: Callable[..., str]) -> None:
    new = "red theme, (o)_(o), zk9 (hat) (creature), red one"
    assert ask(before="a photo, ^_^", existing="append") == f"a photo, ^_^, {new}"
    again = ask(before=f"zk9, a photo, ^_^, {new}", existing="append", prefix="zk9")
    assert again == f"zk9, a photo, ^_^, {new}"
    assert "a photo" not in ask(before="a photo, ^_^", existing="overwrite")


def test_a_probability_on_the_threshold_counts(tmp_path: Path) -> None:
    """As float32, in which 0.35 is a little less than 0.35."""
    draw_tagger(tmp_path / "tagger", tags=[("general", 9), ("half", 0)], shift=9.0)  # sigmoid(-9 + 9) is 0.5
    options = Wd14(folder=str(tmp_path), model=(str(tmp_path / "tagger"),), general_threshold=0.5)
    assert captions(options, DARK) == ["half"]
    captioner = Wd14Captioner(options.model_copy(update={"general_threshold": 0.35}), quiet)
    assert captioner.wording.tags(np.array([0, 0.35], np.float32)) == ["half"]


@pytest.mark.parametrize(
    ("together", "caption"),
    [("union", "red theme, never, ^_^"), ("intersection", "never, ^_^"), ("mean", "red theme, never, ^_^")],
)
def test_several_models_are_asked_together(together: str, caption: str, tmp_path: Path) -> None:
    """The second gives red 0.02 and the tag that only it knows 0.12; the first is sure of all it knows."""
    draw_tagger(tmp_path / "a", tags=[*RATINGS, ("red_theme", 0), ("never", 0)], shift=9.0, side=48)
    draw_tagger(tmp_path / "b", tags=[("red_theme", 0), *RATINGS, ("^_^", 0)], shift=-6.0)
    models = (str(tmp_path / "a"), str(tmp_path / "b"))
    options = {"folder": str(tmp_path / "pictures"), "model": models, "together": together, "general_threshold": 0.1}
    assert captions(Wd14.model_validate(options), (200, 0, 0)) == [caption]


def test_the_mean_of_models_is_their_mean(tmp_path: Path) -> None:
    for name, shift in (("a", 0.0), ("b", -4.0)):
        draw_tagger(tmp_path / name, shift=shift)
    options = Wd14(folder=str(tmp_path), model=(str(tmp_path / "a"), str(tmp_path / "b")), together="mean")
    captioner = Wd14Captioner(options, quiet)
    red = np.full((SIDE, SIDE, 3), (0, 0, 255), np.float32)
    chances = captioner.look([{SIDE: red}])[0]
    place = captioner.wording.names.index(("red_theme", "general"))
    assert chances[place] == pytest.approx((1 / (1 + np.exp(-4)) + 0.5) / 2, abs=1e-6)


def test_a_model_of_fixed_batch_gives_the_same(tmp_path: Path) -> None:
    pictures = [np.full((SIDE, SIDE, 3), value, np.float32) for value in (10, 90, 200, 250, 17)]
    found = []
    for batch in ("batch", 1, 2):
        draw_tagger(tmp_path / str(batch), batch=batch)
        captioner = Wd14Captioner(Wd14(folder=str(tmp_path), model=(str(tmp_path / str(batch)),)), quiet)
        found.append(captioner.look([{SIDE: picture} for picture in pictures]))
    assert found[0].shape == (5, len(TAGS))
    np.testing.assert_allclose(found[1], found[0], atol=1e-6)
    np.testing.assert_allclose(found[2], found[0], atol=1e-6)


def test_models_with_quality_tags(tmp_path: Path) -> None:
    """These want channels first and numbers from -1 to 1, give logits, leave numbers free, and sort by confidence."""
    tags = {0: ("sensitive", "Rating"), 2: ("red_theme", "General"), 3: ("blue_theme", "Quality")}
    tags |= {
        4: ("green_theme", "Quality"),
        5: ("^_^", "General"),
        7: ("(o)_(o)", "Copyright"),
        8: ("red_one", "Character"),
    }
    draw_json_tagger(tmp_path / "tagger", tags)
    options = {"folder": str(tmp_path / "pictures"), "model": (str(tmp_path / "tagger"),)}
    violet = (240, 0, 200)
    assert captions(Wd14(**options), violet) == ["^_^, (o)_(o), red theme, red one"]
    first = Wd14(**options, quality_tags="first", rating_tags="first", character_tags_first=True, threshold=0.99)
    assert captions(first, violet) == ["sensitive, blue theme, red one, ^_^, red theme"]
    last = Wd14(**options, quality_tags="last", rating_tags="last", undesired_tags="^_^")
    assert captions(last, violet) == ["(o)_(o), red theme, red one, blue theme, sensitive"]


def test_faces_keep_their_underscores() -> None:
    faces = ["0_0", "(o)_(o)", "+_+", "+_-", "._.", "<o>_<o>", "<|>_<|>", "=_=", ">_<", "3_3"]
    faces += ["6_9", ">_o", "@_@", "^_^", "o_o", "u_u", "x_x", "|_|", "||_||"]
    assert [spaced(face) for face in faces] == faces
    assert spaced("long_hair") == "long hair"


def test_replacements_are_read_or_refused() -> None:
    assert replacements(r"a,b; c d,e\,f\;g ;") == {"a": "b", "c d": "e,f;g"}
    assert replacements("") == {}
    for wrong in ("a", "a,", ",b", "a,b,c", "a,b;c"):
        with pytest.raises(ValidationError, match="old,new"):
            Wd14(folder="x", tag_replacement=wrong)


@pytest.mark.parametrize("ending", [".png", ".JPG", "txt", "./x", ".", ".a/b"])
def test_endings_that_would_harm_are_refused(ending: str) -> None:
    with pytest.raises(ValidationError, match="caption_extension"):
        Wd14(folder="x", caption_extension=ending)


def broken(tmp_path: Path) -> Iterator[tuple[Callable[[Path], object], str]]:
    """Ways in which a tagger's folder can be wrong, and what is said."""
    yield lambda folder: (folder / "selected_tags.csv").unlink(), "lacks model.onnx or selected_tags.csv"
    yield lambda folder: (folder / "model.onnx").unlink(), "lacks model.onnx or selected_tags.csv"
    yield lambda folder: (folder / "model.onnx").write_bytes(b"<html>"), "cannot open it"
    yield lambda folder: (folder / "selected_tags.csv").write_text("<html>"), "selected_tags.csv: is empty"
    yield lambda folder: (folder / "selected_tags.csv").write_text("a,b\n1,2\n"), "no list of tags"
    yield lambda folder: (folder / "selected_tags.csv").write_text("name,category\na,0\n"), "files are of two taggers"
    yield lambda folder: (folder / "selected_tags.csv").write_text("name,category\na,77\n"), "no list of tags"


@pytest.mark.parametrize("number", range(7))
def test_a_broken_model_is_told(number: int, tagger: Path, tmp_path: Path) -> None:
    harm, said = list(broken(tmp_path))[number]
    harm(tagger)
    with pytest.raises(InputError, match=said):
        Wd14Captioner(Wd14(folder=str(tmp_path), model=(str(tagger),)), quiet)


def test_the_device_is_said(tagger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    def said(*providers: str, nvidia: str | None = None) -> str:
        heard: list[str] = []
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(providers))
        monkeypatch.setattr("shutil.which", lambda word: nvidia)
        Wd14Captioner(Wd14(folder=str(tmp_path), model=(str(tagger),)), heard.append)
        return "\n".join(heard)

    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    assert said("AzureExecutionProvider", "CPUExecutionProvider").endswith("on the CPU.")
    assert said("CPUExecutionProvider", nvidia="/usr/bin/nvidia-smi").endswith("pip install onnxruntime-gpu.")
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"):  # onnxruntime's own
        assert "offers CUDAExecutionProvider but cannot start it" in said(
            "CUDAExecutionProvider", "CPUExecutionProvider"
        )


class Hub(Quiet):
    """Serves files as the hub does."""

    files: ClassVar[dict[str, bytes]]
    asked: ClassVar[list[str]]

    def do_GET(self) -> None:
        content = self.files[self.path]
        self.asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def hub(tagger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    """A hub on this machine that knows one tagger, and an empty data folder."""
    monkeypatch.setenv("LIKENESS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    Hub.files = {f"/{file.name}": file.read_bytes() for file in tagger.iterdir()}
    Hub.asked = []
    with serving(Hub) as address:

        def look_up(name: str, file: str) -> Remote:
            content = Hub.files[f"/{file}"]
            return Remote(f"{address}/{file}", len(content), _digest(content))

        monkeypatch.setattr(models, "look_up", look_up)
        yield Hub


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_a_tagger_is_fetched_once_and_again_when_asked(hub: type[Hub], tmp_path: Path) -> None:
    heard: list[str] = []
    options = Wd14(folder=str(tmp_path), model=(TAGGERS[-1],))
    assert Wd14Captioner(options, heard.append).batch == 8
    place = tmp_path / "home" / "models" / "wd14" / "wd-eva02-large-tagger-v3"
    assert {file.name: file.read_bytes() for file in place.iterdir()} == {n[1:]: c for n, c in hub.files.items()}
    assert [line.split(" of")[0] for line in heard[:2]] == ["Fetching selected_tags.csv", "Fetching model.onnx"]
    Wd14Captioner(options.model_copy(update={"download": False}), quiet)
    assert hub.asked == ["/selected_tags.csv", "/model.onnx"]
    Wd14Captioner(options.model_copy(update={"force_download": True}), quiet)
    assert len(hub.asked) == 4
    again = options.model_copy(update={"force_download": True})
    with pytest.raises(Stopped):
        Wd14Captioner(again, quiet, lambda: True)
    Image.new("RGB", (SIDE, SIDE), RED).save(tmp_path / "a.png")
    report = run_captions(again, should_stop=lambda: True, say=quiet)
    assert report.stopped and "run it again" in report.summary() and not (tmp_path / "a.txt").exists()


def test_without_a_network_it_says_what_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKENESS_HOME", str(tmp_path))

    def look_up(name: str, file: str) -> Remote:
        raise OSError("no network")

    monkeypatch.setattr(models, "look_up", look_up)
    place = tmp_path / "models" / "wd14" / "wd-vit-tagger-v3"
    for download, said in ((True, "cannot be found on the hub"), (False, "download is off")):
        options = Wd14(folder=str(tmp_path), model=("SmilingWolf/wd-vit-tagger-v3",), download=download)
        with pytest.raises(InputError, match=said) as error:
            Wd14Captioner(options, quiet)
        assert (
            "model.onnx" in str(error.value)
            and "selected_tags.csv" in str(error.value)
            and str(place) in str(error.value)
        )
    draw_tagger(place)
    assert Wd14Captioner(options, quiet).taggers[0].side == SIDE
    for name in ("../../nowhere", "nothing", "/no/such/folder", "C:\\taggers"):
        with pytest.raises(InputError, match="no folder here"):
            Wd14Captioner(Wd14(folder=str(tmp_path), model=(name,)), quiet)


def test_lists_of_tags_know_all_categories(tmp_path: Path) -> None:
    draw_tagger(tmp_path, tags=[("x", 1), ("y", 3), ("z", 5)])
    tags = read_vocabulary(tmp_path / "selected_tags.csv").tags
    assert [tag and tag[1] for tag in tags] == ["artist", "copyright", "meta"]
    assert len(COLOURS) == 6
