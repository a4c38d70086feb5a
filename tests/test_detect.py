"""What a file is, told before anything heavy is imported, and what is said of files that are no base model."""

from __future__ import annotations

import json
import os
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.golden.make_base import shapes
from tests.tiny import tiny_file
from trainer.config import Model
from trainer.errors import InputError
from trainer.families.detect import ModelError, classify, detect, detect_base, settle
from trainer.families.files import open_tensors
from trainer.families.header import kind_of, read_header

HERE = Path("some.safetensors")
UNET = "model.diffusion_model."
CONV_IN = f"{UNET}input_blocks.0.0.weight"
SD15, SDXL = shapes("sd15"), shapes("sdxl")


def safetensors(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file as bytes, right or wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(start: Any, stop: Any, shape: Any = (4,), dtype: Any = "U8") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape) if isinstance(shape, tuple) else shape, "data_offsets": [start, stop]}


# Families


@pytest.mark.parametrize(("kind", "family"), [(SD15, "sd15"), (SDXL, "sdxl")])
def test_families_are_told_by_their_tensors(kind: dict[str, tuple[int, ...]], family: str) -> None:
    found = classify(HERE, kind, {})
    assert (found.family, found.layout, found.prediction) == (family, "original", "epsilon")
    assert found.reasons and not found.zero_terminal_snr


@pytest.mark.parametrize(
    ("names", "metadata", "prediction", "zero_snr"),
    [
        (("v_pred", "ztsnr"), {}, "v", True),
        (("v_pred",), {}, "v", False),
        ((), {"modelspec.prediction_type": "v"}, "v", False),
        ((), {"modelspec.prediction_type": "epsilon"}, "epsilon", False),
        ((), {"ss_base_model_version": "sd_v1_v", "ss_zero_terminal_snr": "True"}, "v", True),
        ((), {"ss_v_parameterization": "True", "ss_zero_terminal_snr": "False"}, "v", False),
    ],
)
def test_the_way_a_model_was_trained_is_read(
    names: tuple[str, ...], metadata: dict[str, str], prediction: str, zero_snr: bool
) -> None:
    found = classify(HERE, {**SDXL, **dict.fromkeys(names, ())}, metadata)
    assert (found.prediction, found.zero_terminal_snr) == (prediction, zero_snr)
    assert (prediction == "epsilon") == (len(found.reasons) == 1)
    assert ("v-prediction" in found.title) == (prediction == "v")


def test_the_config_has_the_last_word() -> None:
    found = classify(HERE, SDXL, {})
    told = settle(found, Model(prediction="v", zero_terminal_snr=True))
    assert (told.prediction, told.zero_terminal_snr) == ("v", True)
    assert "config" in told.reasons[-1]
    assert settle(found, Model()) == found
    assert "teaches nothing" in settle(found, Model(zero_terminal_snr=True)).reasons[-1]
    with pytest.raises(InputError, match=r"model\.family: sd15, but .* SDXL"):
        settle(found, Model(family="sd15"))


def renamed(old: str, new: str, state: dict[str, tuple[int, ...]] = SD15) -> dict[str, tuple[int, ...]]:
    return {key.replace(old, new): shape for key, shape in state.items()}


def only(*prefixes: str, state: dict[str, tuple[int, ...]] = SD15) -> dict[str, tuple[int, ...]]:
    return {key: shape for key, shape in state.items() if key.startswith(prefixes)}


FOREIGN = {
    "SD2": (renamed("cond_stage_model.transformer.text_model.", "cond_stage_model.model."), "Stable Diffusion 2"),
    "refiner": (
        {**only(UNET, state=SDXL), "conditioner.embedders.0.model.ln_final.weight": (1280,)},
        "SDXL refiner",
    ),
    "SD3": ({f"{UNET}joint_blocks.0.x_block.attn.qkv.weight": (4608, 1536)}, "Stable Diffusion 3"),
    "Flux": ({"double_blocks.0.img_attn.qkv.weight": (9216, 3072)}, "Flux"),
    "Flux whole": ({f"{UNET}double_blocks.0.img_attn.qkv.weight": (9216, 3072)}, "Flux"),
    "inpainting": ({**SD15, CONV_IN: (320, 9, 3, 3)}, "inpainting.* 9 channels"),
    "InstructPix2Pix": ({**SD15, CONV_IN: (320, 8, 3, 3)}, "InstructPix2Pix"),
    "a LoRA": ({"lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": (8, 1280)}, "LoRA.*\n?.*base model"),
    "a peft LoRA": ({"unet.mid_block.attentions.0.proj_in.lora_A.weight": (8, 1280)}, "LoRA"),
    "a LoHa": ({"lora_unet_mid_block_attentions_0_proj_in.hada_w1_a": (8, 1280)}, "LoRA"),
    "a VAE": (only("first_stage_model."), "VAE.*separate VAE"),
    "a bare VAE": ({"encoder.conv_in.weight": (128, 3, 3, 3)}, "VAE"),
    "a diffusers VAE": ({"encoder.down_blocks.0.resnets.0.conv1.weight": (128, 128, 3, 3)}, "VAE"),
    "a U-Net alone": (only(UNET), "without a text encoder"),
    "a diffusers U-Net": ({"down_blocks.0.resnets.0.conv1.weight": (320, 320, 3, 3)}, "diffusers folder"),
    "a text encoder": ({"text_model.encoder.layers.0.mlp.fc1.weight": (3072, 768)}, "text encoder"),
    "an embedding": ({"emb_params": (4, 768)}, "textual inversion"),
    "a ControlNet": ({"control_model.zero_convs.0.0.weight": (320, 320, 1, 1)}, "ControlNet"),
    "Playground": ({**SDXL, "edm_mean": (4,)}, "EDM"),
    "another width": (shapes("sd15tiny"), "width 64, not 768.*likeness_model"),
    "nothing": ({}, "it is empty"),
    "something else": ({"layers.0.weight": (1,)}, "holds no model that is known"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_cannot_be_trained_is_named(name: str) -> None:
    state, message = FOREIGN[name]
    with pytest.raises(ModelError, match=message) as caught:
        classify(HERE, state, {})
    assert caught.value.remedy and str(caught.value).startswith(str(HERE))


def test_names_in_messages_are_shown_as_text() -> None:
    with pytest.raises(ModelError) as caught:
        classify(HERE, {"../../x\n<img>\x1b[2J" + 500 * "y": (1,)}, {})
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value) and len(str(caught.value)) < 300


# Formats


def test_a_format_is_told_by_content(tmp_path: Path) -> None:
    tiny = tiny_file("sd15", tmp_path)
    called_ckpt = tiny.rename(tmp_path / "model.CKPT")
    assert detect(called_ckpt).family == "sd15"
    state = dict(open_tensors(called_ckpt))
    for zipped in (True, False):
        pickled = tmp_path / "model.safetensors"
        torch.save({"state_dict": state}, pickled, _use_new_zipfile_serialization=zipped)
        assert kind_of(pickled) == "pickle"
        assert detect(pickled).family == "sd15"  # from the names alone; shapes are looked at when it is loaded
        again = open_tensors(pickled)
        assert again.keys() == state.keys() and all(torch.equal(again[name], state[name]) for name in state)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"<html>Please log in</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 4\n", "git-lfs pointer"),
        (b'{"error": "Access to this model is restricted"}', "JSON text"),
        (b"GGUF\x03\x00\x00\x00", "GGUF"),
        (257 * b"\0" + b"ustar\x0000" + 300 * b"\0", "tar archive"),
        (b"\x89PNG\r\n\x1a\n" + 100 * b"\0", "not a model file"),
        (600 * b"\0", "not a model file"),
    ],
)
def test_what_is_no_model_file_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message):
        detect(path)


def test_a_path_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        detect(tmp_path / "gone.safetensors")


DEEP = 200_000
BROKEN = {
    "length 2^63": safetensors({}, length=2**63),
    "length past the end": safetensors({"a": entry(0, 4)}, b"1234", length=4000),
    "no header": struct.pack("<Q", 0),
    "cut in the length": b"\x10\x00",
    "cut in the header": safetensors({"a": entry(0, 4)}, b"")[:-10],
    "not JSON": safetensors(b"{not json}"),
    "not an object": safetensors(b"[1, 2]    "),
    "bad UTF-8": safetensors(b'{"\xff\xfe": 1}'),
    "deep": safetensors(b'{"a":' + DEEP * b"[" + DEEP * b"]" + b"}"),
    "a name twice": safetensors(b'{"a": %s, "a": %s}' % (2 * (json.dumps(entry(0, 4)).encode(),)), b"1234"),
    "overlap": safetensors({"a": entry(0, 4), "b": entry(2, 6)}, b"123456"),
    "hole": safetensors({"a": entry(0, 4), "b": entry(5, 9)}, b"123456789"),
    "past the end": safetensors({"a": entry(0, 4)}, b"12"),
    "a rest": safetensors({"a": entry(0, 4)}, b"12345678"),
    "backwards": safetensors({"a": entry(4, 0)}, b"1234"),
    "negative": safetensors({"a": entry(-4, 0)}, b"1234"),
    "negative shape": safetensors({"a": entry(0, 4, (-2, -2))}, b"1234"),
    "overflow": safetensors({"a": entry(0, 4, (2**63, 2**63))}, b"1234"),
    "fraction": safetensors({"a": entry(0.0, 4.0)}, b"1234"),
    "true": safetensors({"a": entry(0, True, (True,))}, b"1"),
    "infinite": safetensors(b'{"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 1e400]}}', b"1234"),
    "NaN": safetensors(b'{"a": {"dtype": "U8", "shape": [NaN], "data_offsets": [0, 4]}}', b"1234"),
    "5000 digits": safetensors(
        b'{"a": {"dtype": "U8", "shape": [' + 5000 * b"1" + b'], "data_offsets": [0, 4]}}', b"1"
    ),
    "unknown dtype": safetensors({"a": entry(0, 4, dtype="Q9")}, b"1234"),
    "dtype no text": safetensors({"a": entry(0, 4, dtype=["U8"])}, b"1234"),
    "wrong size": safetensors({"a": entry(0, 4, (3,))}, b"1234"),
    "shape no list": safetensors({"a": entry(0, 4, "4")}, b"1234"),
    "entry no object": safetensors({"a": 1}),
    "three offsets": safetensors({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4, 4]}}, b"1234"),
    "metadata no text": safetensors({"__metadata__": {"a": 1}}),
    "metadata no object": safetensors({"__metadata__": "x"}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_damaged_header_is_a_clean_error(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(BROKEN[name])
    tracemalloc.start()
    try:
        with pytest.raises(ModelError):
            read_header(path)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
    with pytest.raises(ModelError):
        detect(path)


def test_a_header_of_200_mb_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 200_000_000) + b"{")
        file.truncate(250_000_000)  # sparse
    with pytest.raises(ModelError):
        read_header(path)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_change_of_a_header_ends_in_anything_but_our_error(data: st.DataObject) -> None:
    good = safetensors({"__metadata__": {"format": "pt"}, "a": entry(0, 4), "b": entry(4, 8, (2,), "F16")}, b"12345678")
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"fuzz-{os.getpid()}.safetensors"
    path.write_bytes(bad[: data.draw(st.integers(0, len(bad)))] if data.draw(st.booleans()) else bad)
    try:
        detect(path)
    except ModelError:
        pass
    finally:
        path.unlink()


def test_a_damaged_configuration_in_a_header_is_a_clean_error() -> None:
    for text in ("{", "[]", '{"family": "sdxl"}', "[" * DEEP):
        with pytest.raises(ModelError, match="likeness_model"):
            classify(HERE, SD15, {"likeness_model": text})


# Pickles


class Bomb:
    """Runs a program when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.canary}",)


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt", "model.safetensors", "MODEL.SAFETENSORS"])
@pytest.mark.parametrize("form", ["zip", "legacy", "plain"])
def test_a_pickle_that_runs_a_program_is_refused(name: str, form: str, tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / name
    state = {"state_dict": {CONV_IN: torch.zeros(320, 4, 3, 3), "bomb": Bomb(canary)}}
    if form == "plain":
        path.write_bytes(pickle.dumps(state))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(ModelError):
        detect(path)
    with pytest.raises(ModelError, match=r"more than tensors.*\.safetensors"):
        open_tensors(path)
    assert not canary.exists()


@pytest.mark.parametrize(
    "content", [b"\x80\x02", b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f", b"PK\x03\x04" + 99 * b"x"]
)
def test_a_broken_pickle_is_a_clean_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    path.write_bytes(content)
    for read in (detect, open_tensors):
        with pytest.raises(ModelError):
            read(path)


def test_other_archives_and_bombs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no model")
    with pytest.raises(ModelError, match="zip archive without a model"):
        detect(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", bytes(20_000_000))
    with pytest.raises(ModelError, match="20000000 bytes"):
        detect(path)


# Folders


def folder(path: Path, pipeline: str, unet: dict[str, Any], scheduler: dict[str, Any] | None = None) -> Path:
    (path / "unet").mkdir()
    (path / "scheduler").mkdir()
    (path / "model_index.json").write_text(json.dumps({"_class_name": pipeline, "unet": ["diffusers", "..."]}))
    (path / "unet" / "config.json").write_text(json.dumps({"in_channels": 4, **unet}))
    (path / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler or {}))
    return path


def test_a_diffusers_folder_is_read(tmp_path: Path) -> None:
    noobai = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    found = detect(folder(tmp_path, "StableDiffusionXLPipeline", {"cross_attention_dim": 2048}, noobai))
    assert (found.family, found.layout, found.prediction, found.zero_terminal_snr) == ("sdxl", "diffusers", "v", True)
    assert "scheduler prediction_type v_prediction" in found.reasons


@pytest.mark.parametrize(
    ("pipeline", "unet", "message"),
    [
        ("StableDiffusionPipeline", {"cross_attention_dim": 1024}, "Stable Diffusion 2"),
        ("StableDiffusionXLImg2ImgPipeline", {"cross_attention_dim": 1280}, "SDXL refiner"),
        ("StableDiffusionPipeline", {"cross_attention_dim": 768, "in_channels": 9}, "9 input channels"),
        ("StableDiffusionInpaintPipeline", {"cross_attention_dim": 768}, "StableDiffusionInpaintPipeline"),
        ("StableDiffusion3Pipeline", {}, "StableDiffusion3Pipeline"),
        ("FluxPipeline", {}, "FluxPipeline"),
    ],
)
def test_folders_of_other_models_are_named(pipeline: str, unet: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        detect(folder(tmp_path, pipeline, unet))


def test_folders_that_are_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"without model_index\.json"):
        detect(tmp_path)
    for text in ("{", "[]", "[" * DEEP):
        (tmp_path / "model_index.json").write_text(text)
        with pytest.raises(ModelError, match=r"model_index\.json that"):
            detect(tmp_path)


# Finding


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.mark.usefixtures("offline")
def test_a_hub_model_without_the_hub_is_a_clean_error() -> None:
    with pytest.raises(ModelError, match=r"nobody/nothing .*cannot be fetched.* give its path"):
        detect_base(Model(base="nobody/nothing"))
    with pytest.raises(ModelError, match="stable-diffusion-v1-5/stable-diffusion-v1-5"):
        detect_base(Model(base="runwayml/stable-diffusion-v1-5"))


@pytest.mark.parametrize(
    "base", ["../../etc", "http://169.254.169.254/x", "a/b/c", "models/gone.safetensors", "gone", "/x/y"]
)
def test_what_is_neither_file_nor_hub_id_touches_no_network(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    with pytest.raises(ModelError):
        detect_base(Model(base=base))
