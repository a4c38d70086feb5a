"""Sentences: by tiny models of the real classes with random weights, and by a server made here."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image
from pydantic import ValidationError

from tests.describers import CHATTY, GO_ON, MAKERS, draw_blip, draw_git
from tests.serving import Quiet, serving
from trainer.__main__ import main
from trainer.captioners.base import with_sentence
from trainer.captioners.options import Blip2, Endpoint, Git, Sentences
from trainer.captioners.sentences import SentenceCaptioner
from trainer.data.pictures import PictureError
from trainer.errors import InputError

LENGTHS = ("max_new_tokens", "min_new_tokens")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures, one with tags."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.new("RGB", (60, 40), "red").save(pictures / "a.png")
    Image.new("RGB", (40, 60), "blue").save(pictures / "b.png")
    (pictures / "a.txt").write_text("zk9, red\n")
    return pictures


@pytest.mark.parametrize("kind", MAKERS)
def test_models_of_the_real_classes_write_captions(kind: str, folder: Path, tmp_path: Path) -> None:
    import torch

    torch.manual_seed(0)
    MAKERS[kind](tmp_path / "model")
    options = Sentences(
        folder=str(folder), model=str(tmp_path / "model"), download=False, max_length=4, min_length=4, batch=2,
        prompt="describe {tags}" if kind in CHATTY else "",
    )  # fmt: skip
    captioner = SentenceCaptioner(options, lambda text: None)
    ready = [captioner.prepare(folder / name) for name in ("a.png", "b.png")]
    together = captioner.look(ready)
    alone = [captioner.look([one])[0] for one in ready]
    assert together == alone
    if kind in CHATTY:
        assert "describe zk9, red answer" in ready[0][0] and {len(text.split()) for text in together} == {4}
    flags = ["--max-length", "4", "--min-length", "4", "--no-download", "--prefix", "photo of", "--existing", "append"]
    assert main(["caption", str(folder), "--captioner", "sentences", "--model", str(tmp_path / "model"), *flags]) == 0
    assert (folder / "a.txt").read_text().startswith("photo of zk9, red, ")
    assert (folder / "b.txt").read_text().startswith("photo of ")


@pytest.mark.parametrize("kind", GO_ON)
def test_these_go_on_from_the_prompt(kind: str, folder: Path, tmp_path: Path) -> None:
    MAKERS[kind](tmp_path / "model")
    options = Sentences(
        folder=str(folder), model=str(tmp_path / "model"), max_length=4, min_length=4, prompt="a photo of"
    )
    captioner = SentenceCaptioner(options, lambda text: None)
    (told,) = captioner.look([captioner.prepare(folder / "a.png")])
    assert told.strip().startswith("a photo of ") and len(told.split()) == 3 + 4


def test_ways_of_writing_reach_the_model(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_git(tmp_path / "model")
    heard: dict[str, Any] = {}

    def told(kind: type[Sentences] = Git, **options: Any) -> str:
        made = kind(folder=str(folder), model=str(tmp_path / "model"), max_length=8, min_length=8, **options)
        captioner = SentenceCaptioner(made, lambda text: None)
        generate = captioner.model.generate

        def listen(**how: Any) -> Any:
            heard.clear()
            heard.update({name: value for name, value in how.items() if isinstance(value, int | float)})
            return generate(**how)

        monkeypatch.setattr(captioner.model, "generate", listen)
        return captioner.look([captioner.prepare(folder / "a.png")])[0]

    plain = told()
    assert heard == {"num_beams": 1, "repetition_penalty": 1.0, "do_sample": False, **dict.fromkeys(LENGTHS, 8)}
    assert told(beam_search=False, top_p=1e-6) == plain  # only the likeliest word may be drawn
    assert (heard["do_sample"], heard["top_p"], heard["num_beams"]) == (True, 1e-6, 1)
    assert told(beam_search=False, top_p=1.0, temperature=1e-4) == plain and heard["temperature"] == 1e-4
    words = told(repetition_penalty=5.0).split()
    assert len(set(words)) > len(set(plain.split()))
    told(num_beams=3, length_penalty=-2.0)
    assert (heard["num_beams"], heard["length_penalty"]) == (3, -2.0)
    told(Blip2)
    assert (heard["num_beams"], heard["repetition_penalty"]) == (16, 1.5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"top_p": 0.5}, "top_p counts for nothing with beam_search: turn it off"),
        ({"temperature": 0.7}, "temperature counts for nothing with beam_search"),
        ({"beam_search": False, "num_beams": 4}, "num_beams counts for nothing without beam_search: turn it on"),
        ({"length_penalty": 2.0}, "set num_beams to 2 or more"),
        ({"min_length": 9, "max_length": 8}, "min_length 9 is more than max_length 8"),
    ],
)
def test_options_that_would_change_nothing_are_told(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Sentences(folder="x", **options)
    assert not Blip2(folder="x", beam_search=False, top_p=0.5).beam_search  # its 16 beams are a default, no wish


def test_tabs_of_the_kohya_gui_begin_with_its_values() -> None:
    blip, blip2, git = (kind(folder="x") for kind in (Sentences, Blip2, Git))
    assert (blip.num_beams, blip.top_p, blip.max_length, blip.min_length) == (1, 0.9, 75, 5)
    assert (blip2.num_beams, blip2.repetition_penalty, blip2.length_penalty) == (16, 1.5, 1.0)
    assert (blip2.min_length, blip2.max_length, blip2.temperature, blip2.top_p) == (20, 40, 1.0, 0.9)
    assert (git.max_length, git.batch, git.workers, git.model) == (75, 1, 2, "microsoft/git-large-textcaps")
    titles = {name: field["title"] for name, field in Blip2.model_json_schema()["properties"].items()}
    assert {"Min new tokens", "Max new tokens", "Number of beams", "Length Penalty", "Repeat Penalty"} < {
        *titles.values()
    }
    assert all(field.description for kind in (Sentences, Blip2, Git) for field in kind.model_fields.values())


def test_what_is_no_such_model_is_told(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = Sentences(folder=str(folder), model=str(tmp_path), download=False)
    with pytest.raises(InputError, match="cannot be loaded"):
        SentenceCaptioner(options)

    def needs_more(name: str, **more: object) -> None:
        raise ImportError("it requires torchvision")

    draw_blip(tmp_path)
    monkeypatch.setattr("transformers.AutoProcessor.from_pretrained", needs_more)
    with pytest.raises(InputError, match=r"torchvision.*pip install"):
        SentenceCaptioner(options)


def test_a_sentence_becomes_one_line() -> None:
    options = Sentences(folder="x", prefix="zk9,", postfix="film grain", existing="append")
    assert with_sentence(options, " A woman.\n\nShe smiles. ", "red") == "zk9, red, A woman. She smiles. film grain"
    again = "zk9, red, A woman. film grain"
    assert with_sentence(options, "A woman.", again) == again
    assert with_sentence(options, "She smiles", "zk9, A woman.") == "zk9, A woman. She smiles film grain"


def test_a_sentence_before_the_tags() -> None:
    options = Sentences(folder="x", prefix="zk9,", existing="prepend")
    first = with_sentence(options, "A woman.", "red, hat")
    assert first == "zk9, A woman. red, hat" == with_sentence(options, "A woman.", first)
    assert with_sentence(options, "She smiles", first) == "zk9, She smiles, A woman. red, hat"


def test_a_model_that_writes_nothing_spoils_no_caption() -> None:
    with pytest.raises(PictureError, match="wrote nothing"):
        with_sentence(Sentences(folder="x", prefix="zk9"), " \n", "red")


class Server(Quiet):
    """Answers as OpenAI's servers do."""

    asked: ClassVar[list[dict[str, Any]]]
    keys: ClassVar[list[str | None]]
    answer: ClassVar[Any]
    status: ClassVar[int]

    def do_POST(self) -> None:
        self.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.keys.append(self.headers.get("Authorization"))
        content = json.dumps(self.answer).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server on this machine."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    Server.asked, Server.keys, Server.status = [], [], 200
    Server.answer = {"choices": [{"message": {"content": "A red wall.\n"}}]}
    with serving(Server) as address:
        yield f"{address}/v1"


def ask(folder: Path, server: str, *flags: str) -> int:
    return main(["caption", str(folder), "--captioner", "endpoint", "--url", server, *flags])


def test_a_server_is_asked_with_picture_and_tags(
    folder: Path, server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_API_KEY", "secret")
    flags = [
        "--prompt",
        "describe: {tags}",
        "--model",
        "seer",
        "--key-variable",
        "MY_API_KEY",
        "--side",
        "64",
        "--batch",
        "2",
    ]
    assert ask(folder, server, *flags, "--existing", "append", "--prefix", "zk9") == 0
    assert (folder / "a.txt").read_text() == "zk9, red, A red wall.\n"
    assert (folder / "b.txt").read_text() == "zk9 A red wall.\n"
    assert Server.keys == ["Bearer secret"] * 2 and {asked["model"] for asked in Server.asked} == {"seer"}
    text, picture = sorted(Server.asked, key=lambda asked: -len(json.dumps(asked)))[0]["messages"][0]["content"]
    sent = Image.open(io.BytesIO(base64.b64decode(picture["image_url"]["url"].split(",")[1])))
    assert text["text"].startswith("describe: ") and (sent.format, sent.size[0] <= 64) == ("JPEG", True)
    assert {asked["messages"][0]["content"][0]["text"] for asked in Server.asked} == {
        "describe: zk9, red",
        "describe: ",
    }
    assert "sent to 127.0.0.1" in capsys.readouterr().err
    assert not any("secret" in file.read_text() for file in folder.rglob("*.jsonl"))


@pytest.mark.parametrize(
    ("status", "answer", "said"),
    [
        (401, {"error": "no key"}, "answers 401"),
        (200, {"hello": 1}, "does not answer as OpenAI's servers do"),
        (200, {"choices": [{"message": {"content": None}}]}, "answers without words"),
    ],
)
def test_a_server_that_fails_is_told(
    status: int, answer: Any, said: str, folder: Path, server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Server.status, Server.answer = status, answer
    assert ask(folder, server) == 2
    assert said in capsys.readouterr().err
    assert (folder / "a.txt").read_text() == "zk9, red\n" and not (folder / "b.txt").exists()


def test_nothing_is_sent_without_an_address(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["caption", str(folder), "--captioner", "endpoint"]) == 2
    assert "url: it is empty; give one" in capsys.readouterr().err
    assert ask(folder, "http://127.0.0.1:9/v1") == 2
    assert "cannot be reached" in capsys.readouterr().err
    assert ask(folder, "http://127.0.0.1:9/v1", "--key-variable", "NO_SUCH_API_KEY") == 2
    assert "is not set" in capsys.readouterr().err
    with pytest.raises(ValidationError):
        Endpoint(folder="x", url="file:///etc/passwd")


def test_no_variable_is_sent_but_a_key(folder: Path, server: str, monkeypatch: Any, capsys: Any) -> None:
    for name in ("SECRET_TOKEN", "PATH", "_API_KEY", "MY_API_KEY_ID"):
        monkeypatch.setenv(name, "private")
        Server.keys.clear()
        assert ask(folder, server, "--key-variable", name) == 2
        assert "Its name must end in `_API_KEY`" in capsys.readouterr().err and not Server.keys
