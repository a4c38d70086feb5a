"""Model files from a server here: whole, checked, gone on with, stopped, and what is said without a network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.serving import Quiet, serving
from trainer import downloads
from trainer.__main__ import main
from trainer.downloads import KNOWN, Downloads, Known, Remote, Stopped, fetch, get_models, known
from trainer.errors import InputError
from trainer.images.matting import KINDS, open_matter
from trainer.verdict.models import PUBLISHED

CONTENT = bytes(range(256)) * 12_000  # three pieces


class Server(Quiet):
    """Serves CONTENT: whole, or from a byte on; breaks off if told so."""

    asked: ClassVar[list[int]]
    content: ClassVar[bytes]
    breaks_after: ClassVar[int | None]
    ranges: ClassVar[bool]

    def do_GET(self) -> None:
        start = int(self.headers.get("Range", "bytes=0-")[6:-1]) if self.ranges else 0
        self.asked.append(start)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(self.content) - start))
        self.end_headers()
        stop, Server.breaks_after = Server.breaks_after or len(self.content), None
        self.wfile.write(self.content[start:stop])


@pytest.fixture
def url(models: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    Server.asked, Server.content, Server.breaks_after, Server.ranges = [], CONTENT, None, True
    with serving(Server) as address:
        yield f"{address}/file.onnx"


def remote(url: str, kind: str = "sha256") -> Remote:
    return Remote(url, len(CONTENT), f"{kind}:{hashlib.new(kind, CONTENT).hexdigest()}")


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_a_file_comes_whole_and_its_progress_is_told(kind: str, url: str, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    target = tmp_path / "models" / "a.onnx"
    for _ in range(2):  # the second time there is nothing to do
        fetch(remote(url, kind), target, "put it there", tell=lambda *figures: told.append(figures))
    assert target.read_bytes() == CONTENT and Server.asked == [0]
    assert told == sorted(set(told)) and told[-1] == (len(CONTENT), len(CONTENT)) and len(told) >= 3
    fetch(remote(url, kind), target, "put it there", again=True)
    assert Server.asked == [0, 0]


@pytest.mark.parametrize("ranges", [True, False])
def test_what_broke_off_goes_on_where_it_stopped(ranges: bool, url: str, tmp_path: Path) -> None:
    Server.breaks_after, Server.ranges, target = 1_500_000, ranges, tmp_path / "a.onnx"
    with pytest.raises(InputError, match=r"a.onnx: the download broke off .* or put it there"):
        fetch(remote(url), target, "put it there")
    assert not target.exists()
    fetch(remote(url), target, "put it there")
    assert target.read_bytes() == CONTENT and (Server.asked[1] > 0) == ranges
    assert list(tmp_path.glob("*.part")) == []


def test_a_stopped_download_goes_on(url: str, tmp_path: Path) -> None:
    answers, target = iter([False, True]), tmp_path / "a.onnx"
    with pytest.raises(Stopped):
        fetch(remote(url), target, "put it there", should_stop=lambda: next(answers))
    fetch(remote(url), target, "put it there")
    assert target.read_bytes() == CONTENT and Server.asked[1] > 0


@pytest.mark.parametrize(
    ("content", "kind", "said"),
    [
        (CONTENT[::-1], "sha256", "another sha256 than is published"),
        (CONTENT[::-1], "md5", "another md5 than is published"),
        (CONTENT + b"x", "sha256", "3,072,001 of 3,072,000 bytes"),
        (CONTENT[:-1], "sha256", "3,071,999 of 3,072,000 bytes"),
    ],
)
def test_wrong_content_never_gets_the_name(content: bytes, kind: str, said: str, url: str, tmp_path: Path) -> None:
    Server.content, target = content, tmp_path / "a.onnx"
    with pytest.raises(InputError, match=said):
        fetch(remote(url, kind), target, "put it there")
    assert not target.exists()
    Server.content = CONTENT
    fetch(remote(url, kind), target, "put it there")
    assert target.read_bytes() == CONTENT


def test_without_a_network_it_says_what_to_put_where(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    nobody = Known("yunet", "finds faces", "faces/a.onnx", "MIT", remote("http://127.0.0.1:9/a.onnx"))
    monkeypatch.setattr(downloads, "KNOWN", (nobody,))
    with pytest.raises(InputError) as error:
        get_models(Downloads(names=("yunet",)))
    assert str(error.value).endswith(
        f"or get http://127.0.0.1:9/a.onnx by another way, and save it as {models / 'faces' / 'a.onnx'}"
    )


def test_a_file_that_is_not_there_is_told(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Server, "do_GET", lambda self: self.send_error(404))
    with pytest.raises(InputError, match="broke off"):
        fetch(remote(url), tmp_path / "a.onnx", "put it there")
    assert list(tmp_path.glob("*.onnx")) == []


def test_the_command_line_lists_and_fetches(
    url: str, models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Known("yunet", "finds faces", "faces/yunet.onnx", "MIT", remote(url))
    other = Known("u2net", "takes backgrounds away", "background/u2net.onnx", "Apache-2.0", remote(url))
    monkeypatch.setattr(downloads, "KNOWN", (one, other))

    def here() -> dict[str, bool]:
        assert main(["models", "--json"]) == 0
        return {told["name"]: told["here"] for told in json.loads(capsys.readouterr().out)}

    assert here() == {"yunet": False, "u2net": False}
    assert main(["models", "get", "u2net", "yunet"]) == 0
    assert capsys.readouterr().out == f"2 fetched; they are in {models}\n"
    assert here() == {"yunet": True, "u2net": True} and one.file == models / "faces" / "yunet.onnx"
    assert main(["models", "get", "u2net"]) == 0
    assert capsys.readouterr().out == f"0 fetched, 1 here before; they are in {models}\n"
    one.file.write_bytes(b"cut off")
    assert here()["yunet"] is False
    assert main(["models", "get", "yunet"]) == 0 and one.file.read_bytes() == CONTENT
    capsys.readouterr()
    assert main(["models"]) == 0
    assert "yunet                  here  finds faces (MIT): faces/yunet.onnx" in capsys.readouterr().out
    assert main(["models", "get", "u2ned"]) == 2
    assert "'u2ned' is none of yunet, u2net; did you mean u2net?" in capsys.readouterr().err


def test_several_files_are_one_progress_and_can_be_stopped(
    url: str, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [Known(name, "", f"{name}.onnx", "MIT", remote(url)) for name in ("a", "b")]
    monkeypatch.setattr(downloads, "KNOWN", both)
    told: list[tuple[int, int]] = []
    report = get_models(
        Downloads(names=("a", "b")), lambda *figures: told.append(figures), lambda: bool(told) and told[-1][0] > 4e6
    )
    assert (report.fetched, report.stopped, both[1].is_here) == (["a"], True, False)
    assert told == sorted(told) and told[-1][1] == 2 * len(CONTENT)
    report = get_models(Downloads(names=("a", "b")), lambda *figures: told.append(figures))
    assert (report.fetched, report.here, report.stopped) == (["b"], ["a"], False)
    assert told[-1] == (2 * len(CONTENT), 2 * len(CONTENT))


@pytest.mark.parametrize("one", KNOWN, ids=lambda one: one.name)
def test_every_known_file_has_what_it_needs(one: Known, models: Path) -> None:
    kind, _, digest = one.remote.digest.partition(":")
    assert (kind, len(digest)) in {("sha256", 64), ("md5", 32)} and int(digest, 16)
    assert one.remote.url.startswith("https://") and one.remote.size > 100_000 and known(one.name) is one
    one.file.parent.mkdir()
    one.file.write_bytes(b"a model of another kind")
    kinds = {"faces": "yunet|sface", "background": "|".join(word for kind in KINDS.values() for word in kind.words)}
    kinds["vision"] = "|".join(f"{name}.safetensors" for name in PUBLISHED)
    place = one.file.parent.name
    assert any(word in one.file.name for word in kinds[place].split("|")), "no tool would find it"
    if place == "background":
        with pytest.raises(InputError, match="onnxruntime cannot open it"):  # it was found, and is read
            open_matter(None, "auto")


def test_checksums_and_places_are_of_one_file_each() -> None:
    told: list[list[Any]] = [[one.name for one in KNOWN], [one.place for one in KNOWN], [one.remote for one in KNOWN]]
    assert all(len({str(each) for each in column}) == len(KNOWN) for column in told)
