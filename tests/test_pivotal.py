"""Pivotal tuning: a LoRA and new words that learn together, their files, and who reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.conftest import Train, Tree
from tests.lora_files import make_lora
from tests.test_embedding import apart, fresh, read
from tests.tiny import build
from trainer import kohya
from trainer.compare.options import Generate
from trainer.compare.painter import Painter
from trainer.compare.shelf import checkpoints_of, words_beside
from trainer.compare.shot import Shot, Stage
from trainer.config import Config, Pivotal
from trainer.config.embedding import BUNDLE
from trainer.early import check_bundle, check_early
from trainer.errors import InputError
from trainer.families.detect import detect_base
from trainer.families.text import END
from trainer.memory import estimate_memory
from trainer.networks import attach
from trainer.networks.embedding_file import bundled, read_bundled
from trainer.networks.pivotal import PivotalNetwork
from trainer.runfolder import RunFolder
from trainer.tools import average, convert, merge, resize, verify
from trainer.tools.options import Average, Convert, Merge, Resize, Verify
from trainer.train import run
from trainer.tree import overlay, validate
from webui.methods import METHODS

WORDS: Tree = {"token": "zk9, hat9", "init_word": "woman, red hat", "vectors": 2, "rate": 1e-2}
CHANGES: Tree = {
    "pivotal": WORDS,
    "captions": {"prefix": "hat9"},
    "optimizer": {"type": "adamw", "lr": 1e-2, "weight_decay": 0.5},
}
KEYS = {"sd15": ("emb_params",), "sdxl": ("clip_l", "clip_g")}
PROMPT = "a Zk9 thing, Hat9"
Seen = list[tuple[Any, PivotalNetwork, dict[str, dict[str, Tensor]]]]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Families and networks of trainings, and all weights of the models before."""
    found: Seen = []
    own = PivotalNetwork.attach

    def look(family: Any, *rest: Any) -> PivotalNetwork:
        before = {name: {k: v.clone() for k, v in part.state_dict().items()} for name, part in family.modules.items()}
        found.append((family, own(family, *rest), before))
        return found[-1][1]

    monkeypatch.setattr(PivotalNetwork, "attach", look)
    return found


def of(pivotal: Tree | None = None, **changes: Any) -> Config:
    """A config of a small LoRA of the UNet with new words."""
    alone = {"unet": "same", "text_encoder": None, "text_encoder_2": None}
    tree = {"network": {"rank": 1}, "rates": alone, "pivotal": {**WORDS, **(pivotal or {})}}
    return Config.model_validate(overlay(tree, changes))


# Whole trainings


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_both_learn_and_nothing_else_and_others_read_them(
    name: str, train: Train, seen: Seen, bases: dict[str, Path], tmp_path: Path
) -> None:
    text = {"text_encoder": None, "text_encoder_2": None} if name == "sdxl" else {}  # the words learn all the same
    prompts = {"prompts": [f"{PROMPT} --s 1 --w 64 --h 64"], "first": True}
    folder = train({**CHANGES, "model": {"base": str(bases[name])}, "rates": text, "sample": prompts})
    family, network, before = seen[0]
    for part, module in family.modules.items():
        after = module.state_dict()
        assert all(torch.equal(tensor, before[part][key]) for key, tensor in after.items()), part
    assert all(bool(tensor.any()) for key, tensor in network.lora.tensors().items() if "lora_up" in key)
    for one in network.words.rows.values():
        moved = (one.vectors - one.start).detach().abs()
        assert bool((moved.amax(1) > 1e-3).all()) and float(moved.max()) < 0.1

    file = folder.checkpoints / "zk9.safetensors"
    held = load_file(file)
    mine = network.words.tensors()
    assert {key for key in held if key.startswith(BUNDLE)} == set(mine)
    assert set(mine) == {bundled(word, key) for word in ("zk9", "hat9") for key in KEYS[name]}
    assert all(torch.equal(held[key], tensor) and tensor.shape == (2, 32) for key, tensor in mine.items())
    for word in ("zk9", "hat9"):
        beside = load_file(folder.checkpoints / f"zk9_{word}.safetensors")
        assert {key: tensor.tolist() for key, tensor in beside.items()} == {
            key: mine[bundled(word, key)].tolist() for key in KEYS[name]
        }
    assert checkpoints_of(str(folder.path)) == [file] and {*words_beside(file)} == {"zk9", "hat9"}
    told = {}
    for one in ("zk9", "zk9_zk9"):
        with safe_open(folder.checkpoints / f"{one}.safetensors", "pt") as opened:
            told[one] = opened.metadata()
    assert told["zk9"]["modelspec.trigger_phrase"] == "zk9, hat9" and "ss_network_module" in told["zk9"]
    assert told["zk9"]["modelspec.architecture"].endswith("/lora") and "ss_network_module" not in told["zk9_zk9"]
    assert told["zk9_zk9"]["modelspec.architecture"].endswith("/textual-inversion")

    family.unet.eval()
    network.eval()
    trained = read(family, PROMPT)
    noise, when = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([500])
    with torch.no_grad():
        predicted = family.predict(noise, when, trained)
    assert len(list(folder.samples.glob("*.png"))) == 1
    in_generate(bases[name], file, trained, (noise, when, predicted), tmp_path)
    in_diffusers(fresh(bases[name]), file, trained, (noise, when, predicted))
    with network.aside():
        assert apart(read(family, "zk9")["states"], read(family, "woman woman")["states"]) == 0


def shot_of(base: Path, lora: Path, **options: Any) -> Shot:
    tree = {"base": str(base), "prompt": PROMPT, "loras": [str(lora)], "size": 64, "steps": 1, **options}
    stage = Stage(validate(Generate, tree))
    return stage.shot(stage.chosen())


def in_generate(base: Path, file: Path, trained: Any, sight: Any, tmp_path: Path) -> None:
    """The painter of Generate, grids and comparisons wears the words with the LoRA, and takes them off with it."""
    noise, when, predicted = sight
    painter = Painter(Generate(base=str(base), device="cpu", precision="fp32"), say=lambda text: None)
    shot = shot_of(base, file)
    assert {(one.word, one.bundled) for one in shot.words} == {("zk9", True), ("hat9", True)}
    picture = painter.paint(shot)
    family, _, words = painter.load(shot.base)
    with torch.no_grad():
        cond = words.read([PROMPT])
        assert all(apart(cond[key], tensor) < 1e-5 for key, tensor in trained.items())
        assert apart(family.predict(noise, when, cond), predicted) < 1e-5
    layers = tmp_path / "layers.safetensors"
    save_file({key: tensor for key, tensor in load_file(file).items() if not key.startswith(BUNDLE)}, layers)
    without = shot_of(base, layers)
    assert not without.words and without.key("fp32") != shot.key("fp32")
    assert painter.paint(without).tobytes() != picture.tobytes()
    other = {key: tensor.new_zeros(1, tensor.shape[1]) for key, tensor in read_bundled(file, "Hat9").items()}
    save_file(other, tmp_path / "hat9.safetensors")
    again = shot_of(base, file, folders=[str(tmp_path)])
    assert len(again.embeddings) == 1 and painter.paint(again).tobytes() == picture.tobytes()  # the LoRA's goes first


def in_diffusers(family: Any, file: Path, trained: dict[str, Tensor], sight: Any) -> None:
    """diffusers' own loaders, without a network: the same features of the text, and the same prediction."""
    noise, when, predicted = sight
    pipeline = family.pipeline(DDIMScheduler())
    with pytest.raises(ValueError, match="Invalid LoRA"):  # or docs/networks.md may say less
        pipeline.load_lora_weights(str(file))
    pipeline.load_lora_weights({key: one for key, one in load_file(file).items() if not key.startswith(BUNDLE)})
    for word in ("zk9", "hat9"):
        own = load_file(file.with_name(f"zk9_{word}.safetensors"))
        if family.name == "sd15":
            pipeline.load_textual_inversion(own, token=word)
            continue
        family.text_encoders[1].text_model.eos_token_id = END  # or transformers pools at the highest number
        for key, encoder, tokenizer in zip(KEYS["sdxl"], family.text_encoders, family.tokenizers, strict=True):
            pipeline.load_textual_inversion(own[key], token=word, text_encoder=encoder, tokenizer=tokenizer)
    prompt = PROMPT.lower()  # which it reads in lower case alone
    if family.name == "sd15":
        cond = {"states": pipeline.encode_prompt(prompt, "cpu", 1, False)[0]}
    else:
        states, _, pooled, _ = pipeline.encode_prompt(prompt, device="cpu", do_classifier_free_guidance=False)
        cond = {"states": states, "pooled": pooled}
    assert all(apart(cond[key], tensor) < 1e-5 for key, tensor in trained.items())
    with torch.no_grad():
        assert apart(family.predict(noise, when, cond), predicted) < 1e-5


@pytest.mark.parametrize(
    ("kind", "files", "names"),
    [("lora", "bundled", ["zk9"]), ("locon", "apart", ["zk9", "zk9_hat9", "zk9_zk9"])],
)
def test_words_stand_still_from_their_stop_on_and_it_goes_on_exactly(
    kind: str, files: str, names: list[str], train: Train, small: Tree, seen: Seen, tmp_path: Path
) -> None:
    network = {"type": kind, **({"scalar": True, "preset": "attn-mlp"} if kind == "locon" else {})}
    changes: Tree = {
        **CHANGES,
        "network": network,
        "pivotal": {**WORDS, "stop": "50%", "files": files},
        "save": {"every_steps": 1},
    }
    straight = train(changes)
    now = [path.stem for path in sorted(straight.checkpoints.iterdir()) if "-step" not in path.stem]
    assert now == names and len(list(straight.checkpoints.iterdir())) == 2 * len(names)
    last = {name: load_file(straight.checkpoints / f"{name}.safetensors") for name in names}
    assert any(key.startswith(BUNDLE) for key in last["zk9"]) == (files == "bundled")
    word = "zk9" if files == "bundled" else "zk9_hat9"
    key = bundled("hat9", "emb_params") if files == "bundled" else "emb_params"
    layer = next(key for key in last["zk9"] if key.startswith("lora_unet") and key.endswith("lora_down.weight"))

    def before(name: str, key: str) -> Tensor:
        return load_file(straight.checkpoints / f"{name}-step00000001.safetensors")[key]

    words = seen[0][1].words
    assert not torch.equal(before(word, key), words.rows["text_encoder"].start[words.words["hat9"]])
    assert torch.equal(before(word, key), last[word][key])
    assert not torch.equal(before("zk9", layer), last["zk9"][layer])

    stopped = RunFolder.create(tmp_path / "stopped", Config.model_validate(overlay(small, changes)))
    stopped.send("stop")
    assert run(stopped) == 0 and stopped.events()[-1]["kind"] == "stopped"
    assert run(stopped) == 0 and stopped.state() == "done"
    for name in names:
        again = load_file(stopped.checkpoints / f"{name}.safetensors")
        assert again.keys() == last[name].keys() and all(torch.equal(again[k], t) for k, t in last[name].items())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pivotal": {"token": "woman"}}, "pivotal.token: 'woman' is a word of its own already"),
        ({"pivotal": {"token": "nowhere9", "init_word": "hat"}}, "pivotal.token: no caption holds nowhere9"),
        ({"optimizer": {"type": "prodigy"}}, "finds one rate for everything, but the rates differ"),
    ],
)
def test_what_cannot_be_is_told_before_the_model_is_loaded(change: Tree, said: str, train: Train, seen: Seen) -> None:
    folder = train(overlay({**CHANGES, "network": {"type": "lora"}}, change), expect=2)
    assert said in folder.events()[-1]["text"] and not seen


# Parts


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"network": {"type": "embedding"}}, "trains none: choose a LoRA's type"),
        ({"network": {"type": "full_model"}}, "trains none: choose a LoRA's type"),
        ({"data": {"cache_text": True}}, "set it to false"),
        ({"pivotal": {"files": "apart"}, "compare": {"afterwards": True}}, "pivotal.files to both"),
        ({"pivotal": {"rate": 0}}, "greater than 0"),
    ],
)
def test_options_that_do_not_go_together(changes: Tree, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Config.model_validate(overlay({"pivotal": {}}, changes))


def test_each_option_of_the_words_counts() -> None:
    network: Any = attach(build("sdxl"), of())
    assert network.places.keys() > {BUNDLE, "clip_l", "clip_g"}
    parts = ("unet", "text_encoder words", "text_encoder_2 words")
    for rate, own in (("same", 1e-4), (1e-2, 1e-2)):
        network.options = Pivotal(rate=rate)
        groups = {group["name"]: group["lr"] for group in network.groups(of().rates, 1e-4)}
        assert groups == dict(zip(parts, (1e-4, own, own), strict=True))
    for stop, learns in ((None, [True, True]), ("50%", [True, False]), (0, [False, False])):
        network.options = Pivotal(stop=stop)
        seen = []
        for step in (0, 1):
            network.at(step, 2)
            seen.append(all(weight.requires_grad for weight in network.words.parameters()))
        assert seen == learns and all(weight.requires_grad for weight in network.lora.parameters())

    family = build("sd15")
    other = attach(family, of({"token": "a1, b1", "init_word": "a man, a dog", "vectors": 3}))
    table = family.text_encoders[0].get_input_embeddings().weight
    held = {key: tensor for key, tensor in other.tensors().items() if key.startswith(BUNDLE)}
    begun = {bundled(word, "emb_params"): text for word, text in (("a1", "a man a"), ("b1", "a dog a"))}
    assert held.keys() == begun.keys()
    assert all(torch.equal(held[key], table[family.numbers(text)]) for key, text in begun.items())


def test_gone_on_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "old.safetensors"
    network = attach(build("sd15"), of())
    held = {key: tensor + key.startswith(BUNDLE) for key, tensor in network.tensors().items()}
    save_file(held, file)
    for kind in ("lora", "locon"):
        start = {"type": kind, "rank": 1, "start_from": str(file), **({"preset": "kohya"} if kind == "locon" else {})}
        family = build("sd15")
        again = attach(family, of({"token": "zk9, new9"}, network=start))
        assert again.loaded and not again.loaded.unused
        now, table = again.tensors(), family.text_encoders[0].get_input_embeddings().weight
        key, new = (bundled(word, "emb_params") for word in ("zk9", "new9"))
        assert torch.equal(now[key], held[key])
        assert torch.equal(now[new], table[family.numbers("red hat")])
    start = {"start_from": str(file)}
    assert check_bundle(of({"token": "zk9"}, network=start)) == [
        f"{file} brings vectors for hat9, which are not gone on with: name them in pivotal.token"
    ]
    [plain] = check_bundle(Config.model_validate({"network": start}))
    [new] = check_bundle(of({"token": "zk9, hat9, new9", "init_word": "hat"}, network=start))
    assert "brings vectors for hat9, zk9" in plain and "brings no vectors for new9" in new
    with pytest.raises(
        InputError, match=r"pivotal.vectors: .* has 2 vectors for zk9, and 5 are asked for: set it to 2"
    ):
        check_bundle(of({"vectors": 5}, network=start))


def test_tools_take_the_words_along(tmp_path: Path) -> None:
    name = bundled("zk9", "emb_params")
    files = [make_lora(tmp_path / f"a-00000{i}.safetensors", "sd15", seed=i, rank=2, conv_rank=None) for i in (1, 2)]
    for number, file in enumerate(files):
        save_file({**load_file(file), name: torch.full((1, 32), 2.0 + 2 * number)}, file, {"ss_steps": str(number)})
        save_file({"emb_params": torch.zeros(1, 32)}, file.with_name(f"a_zk9-{number}.safetensors"))
    first, second = map(str, files)
    goal = str(tmp_path / "out" / "b.safetensors")
    assert verify.run(Verify(model=first)).found["unknown"] == []
    resize.run(Resize(model=first, save_to=goal, new_rank=1))
    assert torch.equal(load_file(goal)[name], load_file(first)[name])
    convert.run(Convert(model=first, save_to=goal, form="kohya", overwrite=True))
    assert torch.equal(load_file(goal)[name], load_file(first)[name])
    said = convert.run(Convert(model=first, save_to=goal, form="diffusers", overwrite=True))
    assert name not in load_file(goal) and any("zk9" in line and "left out" in line for line in said.lines)
    said = merge.run(Merge(models=(second, first), save_to=goal, overwrite=True))
    assert torch.equal(load_file(goal)[name], load_file(second)[name])
    assert any("first one's" in line for line in said.lines)
    average.run(Average(models=(str(tmp_path),), save_to=goal, profile="mean", overwrite=True))
    assert torch.equal(load_file(goal)[name], torch.full((1, 32), 3.0))


def test_what_it_takes(bases: dict[str, Path]) -> None:
    config = of(model={"base": str(bases["sdxl"])})
    plain = config.model_copy(update={"pivotal": None})
    one, other = (estimate_memory(each, "sdxl", 1024 * 1024) for each in (config, plain))
    assert one["LoRA"] - other["LoRA"] == 2 * 2 * (768 + 1280) * 8
    assert one["activations"] > other["activations"]
    assert not check_early(config, detect_base(config.model))


# The page and the Kohya GUI


def test_it_is_on_the_page_of_loras_alone() -> None:
    hidden = {name: set(method.hidden) for name, method in METHODS.items()}
    mine = {"pivotal", *(f"pivotal.{name}" for name in Pivotal.model_fields)}
    assert not mine & hidden.pop("lora")
    assert all(mine <= names for names in hidden.values())


def test_a_file_of_the_kohya_gui_leaves_it_off() -> None:
    config = of()
    told = kohya.write(config)
    assert told == kohya.write(config.model_copy(update={"pivotal": None}))
    assert {f"pivotal.{name}" for name in Pivotal.model_fields} >= {line.split()[0] for line in kohya.lost(config)}
    assert any(line.startswith("pivotal.token") for line in kohya.lost(config))
