"""Textual inversion: what learns and what does not, the files, and who reads them."""

from __future__ import annotations

import pickle
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.conftest import Train, Tree
from tests.test_train import losses
from tests.tiny import build
from trainer import kohya
from trainer.compare.shelf import Embedding as Found
from trainer.compare.words import Words
from trainer.config import Captions, Config, Embedding, Model, Rates
from trainer.data.templates import OBJECT, STYLE, text_of
from trainer.early import check_early
from trainer.errors import InputError
from trainer.families import load_family
from trainer.families.detect import detect_base
from trainer.families.text import END
from trainer.kohya import inversion
from trainer.memory import estimate_memory
from trainer.networks.embedding import EmbeddingNetwork
from trainer.networks.embedding_file import called, files_of, read_embedding
from trainer.networks.lora_file import NetworkError
from trainer.runfolder import RunFolder
from trainer.sample import read_words
from trainer.train import run
from trainer.tree import ConfigError, check, overlay
from webui import layout
from webui.methods import METHODS, types_of

WORD = {"type": "embedding", "init_word": "woman", "vectors": 2}
GOLDEN = {"sd15": [1.072619, 1.008397], "sdxl": [1.082539, 1.003191]}
"""Losses of the two steps; processors round apart."""
Seen = list[tuple[Any, EmbeddingNetwork, dict[str, dict[str, Tensor]]]]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Families and networks of trainings, and all weights of the models before."""
    found: Seen = []
    attach = EmbeddingNetwork.attach

    def look(family: Any, *rest: Any) -> EmbeddingNetwork:
        before = {name: {k: v.clone() for k, v in part.state_dict().items()} for name, part in family.modules.items()}
        found.append((family, attach(family, *rest), before))
        return found[-1][1]

    monkeypatch.setattr(EmbeddingNetwork, "attach", look)
    return found


def fresh(base: Path) -> Any:
    return load_family(Model(base=str(base)), torch.device("cpu"), torch.float32, Captions(), str)


def read(family: Any, text: str) -> dict[str, Tensor]:
    with torch.no_grad():
        return family.encode_text([text])


def apart(one: Tensor, two: Tensor) -> float:
    return float((one - two).detach().abs().max() / two.detach().abs().max())


# Whole trainings


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_the_new_vectors_learn_and_nothing_else_and_others_read_them(
    name: str, train: Train, seen: Seen, bases: dict[str, Path]
) -> None:
    folder = train(
        {
            "model": {"base": str(bases[name])},
            "network": WORD,
            "optimizer": {"type": "adamw", "lr": 1e-2, "weight_decay": 0.5},
            "sample": {"prompts": ["a zk9 --s 1 --w 64 --h 64"], "first": True},
        }
    )
    file = folder.checkpoints / "zk9.safetensors"
    family, network, before = seen[0]
    for part, module in family.modules.items():
        after = module.state_dict()
        assert after.keys() == before[part].keys()
        assert all(torch.equal(tensor, before[part][key]) for key, tensor in after.items())
    assert losses(folder) == pytest.approx(GOLDEN[name], rel=1e-4)
    assert len(list(folder.samples.glob("*.png"))) == 1

    tensors = load_file(file)
    keys = {"sd15": {"emb_params": 32}, "sdxl": {"clip_l": 32, "clip_g": 32}}[name]
    assert {key: [*tensor.shape] for key, tensor in tensors.items()} == {key: [2, w] for key, w in keys.items()}
    [woman] = family.numbers("woman")
    for (key, tensor), (part, one) in zip(sorted(tensors.items(), reverse=True), network.rows.items(), strict=True):
        start = next(t for name, t in before[part].items() if name.endswith("token_embedding.weight"))[woman]
        assert torch.equal(tensor, one.vectors.detach()) and torch.equal(one.start, start.expand(2, -1)), key
        assert 1e-3 < (tensor - start).abs().max() < 0.1 and not torch.equal(tensor[0], tensor[1])
    with safe_open(file, "pt") as opened:
        told = opened.metadata()
    assert told["modelspec.architecture"].endswith("/textual-inversion") and told["modelspec.trigger_phrase"] == "zk9"
    assert (told["ss_token_string"], told["ss_init_word"], told["ss_num_vectors_per_token"]) == ("zk9", "woman", "2")
    assert "ss_network_module" not in told

    trained = read(family, "a ZK9 thing")
    with network.aside():
        assert all(torch.equal(read(family, "a zk9")[key], t) for key, t in read(family, "a woman woman").items())
    assert apart(read_words(family, ["a zk9 thing"])["states"], trained["states"]) < 1e-6
    words = Words(fresh(bases[name]))
    words.learn([Found("zk9", file)])
    with torch.no_grad():
        assert all(apart(tensor, trained[key]) < 1e-6 for key, tensor in words.read(["a zk9 thing"]).items())
    in_diffusers(fresh(bases[name]), file, trained)


def in_diffusers(family: Any, file: Path, trained: dict[str, Tensor]) -> None:
    """The same text features from diffusers' own loader, without a network."""
    pipeline = family.pipeline(DDIMScheduler())
    if family.name == "sd15":
        pipeline.load_textual_inversion(str(file.parent), weight_name=file.name, token="zk9", local_files_only=True)
        states = pipeline.encode_prompt("a zk9 thing", "cpu", 1, False)[0]
    else:
        tensors = load_file(file)
        # SDXL's configuration says 2, and transformers then takes the highest number, a new word's, for the end.
        family.text_encoders[1].text_model.eos_token_id = END
        for key, encoder, tokenizer in zip(("clip_l", "clip_g"), family.text_encoders, family.tokenizers, strict=True):
            pipeline.load_textual_inversion(tensors[key], token="zk9", text_encoder=encoder, tokenizer=tokenizer)
        states, _, pooled, _ = pipeline.encode_prompt("a zk9 thing", device="cpu", do_classifier_free_guidance=False)
        assert apart(pooled, trained["pooled"]) < 1e-6
    assert apart(states, trained["states"]) < 1e-6


def test_several_words_have_files_of_their_own_and_go_on_exactly(train: Train, small: Tree, tmp_path: Path) -> None:
    """Each is named behind the output's name, and the old ones of each go."""
    network = {**WORD, "token": "zk9, hat9", "init_word": "woman, red hat", "template": "object"}
    save = {"every_steps": 1, "keep_last": 1, "precision": "fp16"}
    changes = {"network": network, "captions": {"prefix": "hat9"}, "train": {"steps": 3}, "save": save}
    output = tmp_path / "out"
    straight = train({**changes, "output": {"folder": str(output)}})
    names = {f"zk9_{word}{count}.safetensors" for word in ("zk9", "hat9") for count in ("", "-step00000002")}
    assert {path.name for path in straight.checkpoints.iterdir()} == names == {path.name for path in output.iterdir()}
    assert load_file(output / "zk9_hat9.safetensors")["emb_params"].dtype == torch.float16

    stopped = RunFolder.create(tmp_path / "stopped", Config.model_validate(overlay(small, changes)))
    stopped.send("stop")
    assert run(stopped) == 0 and stopped.events()[-1]["kind"] == "stopped"
    assert run(stopped) == 0 and stopped.state() == "done"
    for name in names:
        one, two = (load_file(folder.checkpoints / name) for folder in (straight, stopped))
        assert torch.equal(one["emb_params"], two["emb_params"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"network": {"token": "woman"}}, "a word of its own already"),
        ({"network": {"start_from": "/nowhere.pt"}}, "is no file"),
        ({"network": {"token": "hat9"}}, "no caption holds hat9"),
        ({"data": {"cache_text": True}}, "set it to false"),
        ({"rates": {"text_encoder": None}}, "give one of them a rate"),
    ],
)
def test_what_cannot_be_is_told_before_the_model_is_loaded(change: Tree, said: str, train: Train, seen: Seen) -> None:
    folder = train(overlay({"network": WORD}, change), expect=2)
    assert said in folder.events()[-1]["text"] and not seen


# Parts


def test_words_are_read_as_words_of_their_own() -> None:
    family = build("sdxl")
    plain = family.numbers("azk9 zk99 woman")
    options = Embedding(token="zk9, <hat>", init_word="woman, a red hat", vectors=2)
    network = EmbeddingNetwork.attach(family, options, Rates(text_encoder=None), 0)
    assert family.numbers("azk9 zk99 woman") == plain
    assert family.numbers("(Zk9),") == [*family.numbers("("), 49408, 49409, *family.numbers("),")]
    assert family.numbers("<hat>") == [49410, 49411] and family.count_tokens("zk9 zk9") == 4
    first, second = network.rows.values()
    assert not first.vectors.requires_grad and second.vectors.requires_grad
    assert [(group["name"], group["lr"]) for group in network.groups(Rates(), 0.5)] == [("text_encoder_2", 0.5)]
    table = family.text_encoders[1].get_input_embeddings().weight
    assert torch.equal(second.start, table[family.numbers("woman woman a red")])
    family.encode_text(["a <hat>"])["pooled"].square().sum().backward()
    gradient = second.vectors.grad
    assert gradient is not None and not gradient[:2].any() and bool(gradient[2:].any(dim=1).all())
    assert table.grad is None and first.vectors.grad is None

    again = {key: tensor + 1 for key, tensor in network.tensors().items()}
    network.load(again)
    assert all(torch.equal(tensor, again[key]) for key, tensor in network.tensors().items())
    with pytest.raises(NetworkError, match="1 words are missing"):
        network.load({key: again[key] for key in list(again)[1:]})
    with pytest.raises(InputError, match="in the vocabulary already"):
        EmbeddingNetwork.attach(family, options, Rates(), 0)


def test_files_of_any_tool_are_gone_on_from_when_they_fit(tmp_path: Path) -> None:
    vectors = torch.randn(2, 32)
    web_ui = {"string_to_token": {"*": 265}, "string_to_param": {"*": vectors}, "name": "zk9", "step": 5}
    torch.save(web_ui, tmp_path / "a.pt")
    save_file({"<zk9>": vectors}, tmp_path / "b.safetensors")
    save_file({"emb_params": vectors[0]}, tmp_path / "c.safetensors")
    (tmp_path / "d.pt").write_bytes(b"nothing")
    family = build("sd15")
    family.text_encoders[0].half()
    options = Embedding(vectors=2, start_from=str(tmp_path / "a.pt"))
    network = EmbeddingNetwork.attach(family, options, Rates(), 0)
    rows = network.rows["text_encoder"]
    assert torch.equal(rows.vectors, vectors) and rows.vectors.dtype == torch.float32  # masters
    assert family.text_encoders[0].get_input_embeddings()(torch.tensor([[320, 49408]])).dtype == torch.float16
    with torch.no_grad():
        rows.vectors.zero_()
    network.take(tmp_path / "b.safetensors")
    assert torch.equal(rows.vectors, vectors)
    for name, said in (("c.safetensors", "1 vectors of 32"), ("d.pt", "damaged or unsafe")):
        with pytest.raises(InputError, match=said):
            network.take(tmp_path / name)


def test_names_of_files() -> None:
    row = torch.zeros(1, 4)
    lora = {"lora_te_x.alpha": row, "bundle_emb.zk9.string_to_param.*": row, "bundle_emb.hat.string_to_param.*": row}
    files = files_of("a-000003.safetensors", lora)
    assert {name: set(inside) for name, inside in files.items()} == {
        "a-000003.safetensors": set(lora),
        "a_zk9-000003.safetensors": {"emb_params"},
        "a_hat-000003.safetensors": {"emb_params"},
    }
    assert files_of("a.safetensors", {"bundle_emb.b.clip_g": row}) == {"a.safetensors": {"clip_g": row}}
    assert files_of("a.safetensors", {"x.alpha": row}) == {"a.safetensors": {"x.alpha": row}}
    assert called("a-step00000012.safetensors", "<b>") == "a_b-step00000012.safetensors"


def test_templates_are_those_of_the_paper() -> None:
    """As many as there and in sd-scripts, each once but the two that both have twice."""
    assert (len(OBJECT), len(set(OBJECT)), len(STYLE), len(set(STYLE))) == (27, 27, 19, 17)
    assert all(text.count("{}") == 1 for text in (*OBJECT, *STYLE))


def test_a_template_stands_in_for_the_caption_of_what_is_learned() -> None:
    def said(template: str, reg: bool) -> str:
        picture: Any = SimpleNamespace(caption="zk9 thing", folder=SimpleNamespace(reg=reg))
        config = Config.model_validate({"network": {**WORD, "token": "zk9, hat9", "template": template}})
        return text_of(picture, config, Random(3))

    assert {said("caption", False), said("object", True), said("style", True)} == {"zk9 thing"}
    assert said("object", False) in [text.format("zk9 hat9") for text in OBJECT]
    assert said("style", False) in [text.format("zk9 hat9") for text in STYLE]


@pytest.mark.parametrize(
    "wrong",
    [
        {"token": "two words"}, {"token": "a.b"}, {"token": "zk9, ZK9"}, {"token": ""}, {"init_word": " "},
        {"token": "a1, b1, c1", "init_word": "x, y"}, {"token": "a1, b1", "start_from": "x.pt"}, {"vectors": 76},
    ],
    ids=str,
)  # fmt: skip
def test_words_that_cannot_be(wrong: Tree) -> None:
    with pytest.raises(ValueError, match=r"token|init_word|start_from|vectors|word"):
        Embedding.model_validate({"type": "embedding", **wrong})


# The page and the Kohya GUI


def test_it_has_its_tab() -> None:
    assert METHODS["embedding"].tab == "Textual Inversion" and types_of("embedding") == ["embedding"]
    assert "embedding" not in types_of("lora")


def test_a_file_to_go_on_from_is_read_whatever_its_ending_and_no_code_in_it_is_run(tmp_path: Path) -> None:
    vectors, ran = torch.randn(2, 32), tmp_path / "ran"
    for ending in layout.ENDINGS["network.start_from"]:
        file = tmp_path / f"a{ending}"
        save_file({"<a>": vectors}, file) if ending == ".safetensors" else torch.save({"<a>": vectors}, file)
        assert torch.equal(read_embedding(file)["<a>"], vectors)
        file.write_bytes(pickle.dumps(Hostile(ran)))
        with pytest.raises(InputError, match="damaged or unsafe"):
            read_embedding(file)
    assert {".pt", ".bin"} < {*layout.ENDINGS["network.start_from"]} and not ran.exists()


class Hostile:
    """Makes a file when its pickle is loaded."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


def test_a_file_of_the_kohya_gui_reads_and_is_written_back() -> None:
    given = {"token_string": "zk9", "init_word": "woman", "num_vectors_per_token": 4, "template": "style template"}
    tree = {**inversion.FRESH, **given, "train_data_dir": "/img", "learning_rate": 5e-3, "weights": "/a.pt"}
    said = kohya.read(tree, "ti.json")
    config = check(overlay(Config().model_dump(mode="json"), said.config_tree), "ti.json")
    assert config.network == Embedding(token="zk9", init_word="woman", vectors=4, template="style", start_from="/a.pt")
    assert config.optimizer.lr == 5e-3
    assert not [note for note in said.notes if note.outcome in ("unknown", "unsupported")]
    back = kohya.write(config)
    assert back.keys() == inversion.FRESH.keys() and {key: back[key] for key in given} == given
    assert not kohya.lost(config) and kohya.tab_of(back) == "Textual Inversion"
    with pytest.raises(ConfigError, match="token_string"):
        kohya.read({**tree, "token_string": ""}, "ti.json")


def test_what_it_takes(bases: dict[str, Path]) -> None:
    config = Config.model_validate({"model": {"base": str(bases["sdxl"])}, "network": {**WORD, "token": "a1, b1"}})
    assert estimate_memory(config, "sdxl", 1024 * 1024)["new words"] == 2 * 2 * (768 + 1280) * 8
    assert not check_early(config, detect_base(config.model))
