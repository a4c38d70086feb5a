"""Sentences: by tiny models of the real classes with random weights, and by a server made here."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image
from pydantic import ValidationError

from trainer.__main__ import main
from trainer.captioners.base import with_sentence
from trainer.captioners.options import Endpoint, Sentences
from trainer.captioners.sentences import SentenceCaptioner
from trainer.data.pictures import PictureError
from trainer.errors import InputError

WORDS = ["a", "photo", "of", "zk9", "woman", "red", "house", "tree", "smiling", "describe", "this", "picture"]
TURN = "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}<MARK>{% else %} {{ c['text'] }}"
CHAT = TURN + "{% endif %}{% endfor %}{% endfor %} answer"


def tokenizer() -> Any:
    """Whole words as tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "<unk>", "<s>", "</s>", "<image>", *WORDS, "answer"]
    made = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens={"image_token": "<image>"},
    )


def wordy(model: Any) -> Any:
    """A model that writes words and no signs."""
    model.generation_config.suppress_tokens, model.generation_config.forced_eos_token_id = list(range(5)), None
    return model


def draw_blip(folder: Path) -> None:
    from transformers import (
        BertTokenizerFast,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
    )

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**size, "vocab_size": len(names), "encoder_hidden_size": 16, "pad_token_id": 0, "bos_token_id": 2}
    text |= {"eos_token_id": 3, "sep_token_id": 3, "max_position_embeddings": 64}
    config = BlipConfig(text_config=text, vision_config={**size, "image_size": 32, "patch_size": 16}, projection_dim=16)
    model = BlipForConditionalGeneration(config)
    bias = model.text_decoder.cls.predictions.bias
    bias.data[:5] = -99.0  # words and no signs
    model.save_pretrained(folder)
    images = BlipImageProcessor(size={"height": 32, "width": 32})
    BlipProcessor(images, BertTokenizerFast(vocab={name: i for i, name in enumerate(names)})).save_pretrained(folder)


def draw_llava(folder: Path) -> None:
    from transformers import CLIPImageProcessor, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

    words = tokenizer()
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {
        **size,
        "model_type": "llama",
        "vocab_size": len(words),
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
    }
    vision = {**size, "model_type": "clip_vision_model", "image_size": 32, "patch_size": 16, "num_hidden_layers": 2}
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=words.convert_tokens_to_ids("<image>")
    )
    wordy(LlavaForConditionalGeneration(config)).save_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    LlavaProcessor(
        images, words, patch_size=16, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=CHAT.replace("<MARK>", "<image>"),
    ).save_pretrained(folder)  # fmt: skip


def draw_florence(folder: Path) -> None:
    from transformers import CLIPImageProcessor, Florence2Config, Florence2ForConditionalGeneration, Florence2Processor

    words = tokenizer()
    text = {
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
    }
    text |= {
        "decoder_attention_heads": 2,
        "decoder_ffn_dim": 32,
        "vocab_size": len(words),
        "max_position_embeddings": 128,
    }
    text |= {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "decoder_start_token_id": 3, "model_type": "bart"}
    vision = {"embed_dim": [8, 8, 8, 16], "num_heads": [2, 2, 2, 2], "num_groups": [2, 2, 2, 2], "depths": [1, 1, 1, 1]}
    vision |= {"projection_dim": 16, "image_size": 64}
    config = Florence2Config(
        text_config=text, vision_config=vision, image_token_id=words.convert_tokens_to_ids("<image>")
    )
    wordy(Florence2ForConditionalGeneration(config)).save_pretrained(folder)
    images = CLIPImageProcessor(size={"height": 64, "width": 64}, do_center_crop=False)
    images.image_seq_length = 5
    Florence2Processor(images, words).save_pretrained(folder)


MAKERS = {"blip": draw_blip, "llava": draw_llava, "florence": draw_florence}


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
        prompt="describe {tags}" if kind == "llava" else "",
    )  # fmt: skip
    captioner = SentenceCaptioner(options, lambda text: None)
    ready = [captioner.prepare(folder / name) for name in ("a.png", "b.png")]
    together = captioner.look(ready)
    alone = [captioner.look([one])[0] for one in ready]
    assert together == alone
    if kind == "llava":
        assert "describe zk9, red answer" in ready[0][0] and not any("answer answer" in text for text in together)
    flags = ["--max-length", "4", "--min-length", "4", "--no-download", "--prefix", "photo of", "--existing", "append"]
    assert main(["caption", str(folder), "--captioner", "sentences", "--model", str(tmp_path / "model"), *flags]) == 0
    assert (folder / "a.txt").read_text().startswith("photo of zk9, red, ")
    assert (folder / "b.txt").read_text().startswith("photo of ")


def test_what_is_no_such_model_is_told(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = Sentences(folder=str(folder), model=str(tmp_path), download=False)
    with pytest.raises(InputError, match="cannot be loaded"):
        SentenceCaptioner(options)

    def needs_more(name: str, **more: object) -> None:
        raise ImportError("it requires torchvision")

    monkeypatch.setattr("transformers.AutoProcessor.from_pretrained", needs_more)
    with pytest.raises(InputError, match=r"torchvision.*pip install"):
        SentenceCaptioner(options)


def test_a_sentence_becomes_one_line() -> None:
    options = Sentences(folder="x", prefix="zk9,", postfix="film grain", existing="append")
    assert with_sentence(options, " A woman.\n\nShe smiles. ", "red") == "zk9, red, A woman. She smiles. film grain"
    again = "zk9, red, A woman. film grain"
    assert with_sentence(options, "A woman.", again) == again


def test_a_model_that_writes_nothing_spoils_no_caption() -> None:
    with pytest.raises(PictureError, match="wrote nothing"):
        with_sentence(Sentences(folder="x", prefix="zk9"), " \n", "red")


class Server(BaseHTTPRequestHandler):
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

    def log_message(self, *words: object) -> None:
        """Nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server on this machine."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    Server.asked, Server.keys, Server.status = [], [], 200
    Server.answer = {"choices": [{"message": {"content": "A red wall.\n"}}]}
    made = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}/v1"
    made.shutdown()
    thread.join()
    made.server_close()


def ask(folder: Path, server: str, *flags: str) -> int:
    return main(["caption", str(folder), "--captioner", "endpoint", "--url", server, *flags])


def test_a_server_is_asked_with_picture_and_tags(
    folder: Path, server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_KEY", "secret")
    flags = [
        "--prompt",
        "describe: {tags}",
        "--model",
        "seer",
        "--key-variable",
        "MY_KEY",
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
    assert "--url: Field required" in capsys.readouterr().err
    assert ask(folder, "http://127.0.0.1:9/v1") == 2
    assert "cannot be reached" in capsys.readouterr().err
    assert ask(folder, "http://127.0.0.1:9/v1", "--key-variable", "NO_SUCH_VARIABLE") == 2
    assert "is not set" in capsys.readouterr().err
    with pytest.raises(ValidationError):
        Endpoint(folder="x", url="file:///etc/passwd")
