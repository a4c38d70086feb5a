"""Use this one: where a file is put, under which name, with what beside it, and that nothing else is lost."""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.numpy import save_file

from trainer.durable import DiskError
from trainer.errors import InputError
from trainer.tools.report import Report
from trainer.tree import validate
from trainer.verdict import command
from trainer.verdict.programs import folder_for
from trainer.verdict.scores import What
from trainer.verdict.use import run
from trainer.verdict.use_options import Use

INFO = "zk9 on grass <lora:zk9-000007:0.8>\nSteps: 20, Sampler: Euler, Seed: 7"
META = {"ss_output_name": "zk9", "ss_base_model_version": "sd_v1", "modelspec.description": "a star"}


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    return write_lora(tmp_path / "runs" / "one" / "checkpoints" / "zk9-000007.safetensors")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A PNG that says how it was made."""
    told = PngInfo()
    told.add_text("parameters", INFO)
    path = tmp_path / "picture.png"
    Image.new("RGB", (32, 48), "red").save(path, pnginfo=told)
    return path


@pytest.fixture
def a1111(tmp_path: Path) -> Path:
    return made(tmp_path / "a1111", "models/Lora", "models/Stable-diffusion")


def write_lora(path: Path, seed: int = 0, width: int = 24, **metadata: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight"
    numbers = np.random.default_rng(seed).normal(size=(4, width)).astype("float32")
    save_file({name: numbers}, path, {**META, **metadata})
    return path


def write_word(path: Path, seed: int = 0, **metadata: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = np.random.default_rng(seed).normal(size=(2, 24)).astype("float32")
    save_file({"emb_params": numbers}, path, {**META, **metadata})
    return path


def write_model(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"model.diffusion_model.out.weight": np.zeros(4, "float32")}, path, META)
    return path


def made(root: Path, *folders: str) -> Path:
    for folder in folders:
        (root / folder).mkdir(parents=True)
    return root


def used(**options: Any) -> Report:
    return run(
        validate(Use, {name: str(value) if isinstance(value, Path) else value for name, value in options.items()})
    )


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# What is written


def test_a1111_gets_the_lora_its_preview_and_its_side_file(lora: Path, picture: Path, a1111: Path) -> None:
    report = used(
        file=lora, strength=0.8, trigger="zk9", preview=picture, negative="blurry", notes="Clear.", a1111=a1111
    )
    files = tree(a1111 / "models/Lora")
    assert set(files) == {"zk9.safetensors", "zk9.json", "zk9.png"}
    assert files["zk9.safetensors"] == lora.read_bytes()
    assert files["zk9.png"] == picture.read_bytes()
    assert json.loads(files["zk9.json"]) == {
        "description": "a star",
        "sd version": "SD1",
        "activation text": "zk9",
        "preferred weight": 0.8,
        "negative text": "blurry",
        "notes": "Clear.\nzk9-000007 at strength 0.8",
    }
    assert report.said.startswith("zk9 is ready in A1111: 3 files written")
    assert report.said.endswith("In a prompt: <lora:zk9:0.8> zk9")
    assert [Path(name).name for name in report.files] == ["zk9.safetensors", "zk9.json", "zk9.png"]
    assert json.loads(json.dumps(report.to_json()))["names"] == {"A1111": "zk9"}


def test_every_program_at_once_and_a_second_time_nothing(
    tmp_path: Path, lora: Path, picture: Path, a1111: Path
) -> None:
    options: dict[str, Any] = {
        "file": lora, "preview": picture, "trigger": "zk9", "a1111": a1111,
        "forge": made(tmp_path / "forge", "webui/models/Lora"),
        "comfyui": made(tmp_path / "comfy", "ComfyUI/models/loras"),
        "invokeai": made(tmp_path / "invoke", "autoimport/lora", "models/sd-1/lora"),
        "save_to": tmp_path / "mine",
    }  # fmt: skip
    assert used(**options).said.startswith("zk9 is ready in A1111, Forge, ComfyUI, InvokeAI, Folder: 13 files written")
    assert set(tree(tmp_path / "comfy")) == {
        f"ComfyUI/models/loras/zk9.{end}" for end in ("safetensors", "json", "png")
    }
    assert set(tree(tmp_path / "invoke")) == {"autoimport/lora/zk9.safetensors"}
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    report = used(**options)
    assert report.files == []
    assert "all of it was there already" in report.said
    assert {line.rsplit(": ", 1)[1] for line in report.lines} == {"already there"}
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


def test_with_no_program_it_goes_to_chosen_in_the_run_folder(lora: Path) -> None:
    report = used(file=lora, name="my star")
    assert set(tree(lora.parents[1] / "chosen")) == {"my star.safetensors", "my star.json"}
    assert report.said.endswith("In a prompt: <lora:my star:1>")
    assert any("No trigger was given" in line for line in report.lines)


@pytest.mark.parametrize(
    ("written", "name"), [({}, "zk9"), ({"ss_output_name": ""}, "best"), ({"ss_output_name": "a/b"}, "best")]
)
def test_its_name_is_the_run_s_or_the_file_s(tmp_path: Path, written: dict[str, str], name: str) -> None:
    file = write_lora(tmp_path / "best-step00000120.safetensors", **written)
    used(file=file, save_to=tmp_path / "out")
    assert (tmp_path / "out" / f"{name}.safetensors").exists()


@pytest.mark.parametrize(
    ("width", "told", "version"),
    [
        (768, "", "SD1"),
        (1024, "sd_v1", "SD2"),
        (2048, "", "SDXL"),
        (24, "sdxl_base_v1-0", "SDXL"),
        (24, "x", "Unknown"),
    ],
)
def test_the_version_is_that_of_its_shapes(tmp_path: Path, width: int, told: str, version: str) -> None:
    file = write_lora(tmp_path / "x.safetensors", width=width, ss_base_model_version=told)
    used(file=file, save_to=tmp_path / "out")
    assert json.loads((tmp_path / "out" / "zk9.json").read_text("utf-8"))["sd version"] == version


def test_a_preview_of_another_format_becomes_a_png(tmp_path: Path, lora: Path) -> None:
    Image.new("RGBA", (32, 32), "blue").save(tmp_path / "p.webp")
    used(file=lora, preview=tmp_path / "p.webp", save_to=tmp_path / "out")
    with Image.open(io.BytesIO((tmp_path / "out" / "zk9.png").read_bytes())) as image:
        assert (image.format, image.size) == ("PNG", (32, 32))


# Embeddings, models, and a LoRA's words


def test_an_embedding_goes_among_embeddings_and_its_name_is_its_word(tmp_path: Path, picture: Path) -> None:
    file = write_word(tmp_path / "runs/one/checkpoints/hat-000003.safetensors", ss_output_name="other")
    places = {
        "a1111": made(tmp_path / "a", "webui/models/Lora"),
        "comfyui": made(tmp_path / "c", "models/checkpoints"),
        "invokeai": made(tmp_path / "i", "autoimport"),
    }
    report = used(file=file, preview=picture, negative="blurry", notes="Clear.", **places)
    folder = tmp_path / "a/webui/embeddings"
    assert set(tree(tmp_path / "a/webui")) == {
        f"embeddings/hat.{end}" for end in ("safetensors", "json", "preview.png")
    }
    assert (folder / "hat.safetensors").read_bytes() == file.read_bytes()
    assert json.loads((folder / "hat.json").read_text()) == {"description": "a star", "notes": "Clear.\nhat-000003"}
    assert "models/embeddings/hat.safetensors" in tree(tmp_path / "c")
    assert set(tree(tmp_path / "i")) == {"autoimport/embedding/hat.safetensors"}
    assert report.said.endswith("In a prompt: hat")
    assert report.lines[-2:] == ["ComfyUI: in a prompt: embedding:hat", "InvokeAI: in a prompt: <hat>"]


def test_another_word_of_that_name_stays(tmp_path: Path, a1111: Path) -> None:
    file, old = write_word(tmp_path / "hat.safetensors"), made(a1111, "embeddings") / "embeddings/hat.pt"
    old.write_bytes(b"mine")
    report = used(file=file, a1111=a1111, trigger="a man with hat", name="hat")
    assert set(tree(old.parent)) == {"hat.pt", "hat-2.safetensors", "hat-2.json"}
    assert report.to_json()["prompt"] == "a man with hat-2"


def test_a_model_goes_among_checkpoints(tmp_path: Path, a1111: Path, picture: Path) -> None:
    file = write_model(tmp_path / "runs/one/checkpoints/zk9-000007.safetensors")
    comfy = made(tmp_path / "comfy", "models/loras")
    report = used(file=file, preview=picture, a1111=a1111, comfyui=comfy / "models" / "loras")
    assert set(tree(a1111)) == {f"models/Stable-diffusion/zk9.{end}" for end in ("safetensors", "json", "png")}
    assert json.loads((a1111 / "models/Stable-diffusion/zk9.json").read_text()).keys() == {"description", "notes"}
    assert "models/checkpoints/zk9.safetensors" in tree(comfy)
    assert "prompt" not in report.said
    assert report.to_json()["prompt"] == ""


def test_a_lora_takes_its_words_along(tmp_path: Path, lora: Path, a1111: Path) -> None:
    named = {"hat": 1, "zk9": 2}
    words = {word: write_word(lora.with_name(f"zk9_{word}-000007.safetensors"), seed) for word, seed in named.items()}
    write_word(lora.with_name("zk9_hat.safetensors"), 3)  # of another epoch
    write_word(lora.with_name("zk9_cap-000007.safetensors"), 4, ss_session_id="other")  # of another training
    write_lora(lora.with_name("zk9_coat-000007.safetensors"))
    other = write_word(made(a1111, "embeddings") / "embeddings/hat.safetensors", 5).read_bytes()
    report = used(file=lora, trigger="photo of <zk9>", a1111=a1111, save_to=tmp_path / "out")
    files = tree(a1111)
    assert set(files) == {
        *("models/Lora/zk9.safetensors", "models/Lora/zk9.json", "embeddings/zk9.safetensors"),
        *("embeddings/hat.safetensors", "embeddings/hat-2.safetensors"),
    }
    assert files["embeddings/hat.safetensors"] == other
    assert files["embeddings/hat-2.safetensors"] == words["hat"].read_bytes()
    assert json.loads(files["models/Lora/zk9.json"])["activation text"] == "photo of zk9, hat-2"
    assert report.to_json()["prompt"] == "<lora:zk9:1> photo of zk9, hat-2"
    assert set(tree(tmp_path / "out")) == {
        *("zk9.safetensors", "zk9.json", "embeddings/zk9.safetensors", "embeddings/hat.safetensors"),
    }
    assert "Folder: in a prompt: <lora:zk9:1> photo of zk9, hat" in report.lines
    assert used(file=lora, trigger="photo of <zk9>", a1111=a1111, save_to=tmp_path / "out").files == []
    used(file=lora, trigger="photo of <zk9>", a1111=a1111, overwrite=True)
    files = tree(a1111 / "embeddings")
    assert files["hat.safetensors"] == words["hat"].read_bytes()
    assert [content for name, content in files.items() if name.endswith(".bak")] == [other]


# What is there already


def test_another_lora_of_that_name_is_not_touched(lora: Path, a1111: Path) -> None:
    other = write_lora(a1111 / "models/Lora/zk9.safetensors", seed=1).read_bytes()
    (a1111 / "models/Lora/zk9-2.json").write_text("{}")
    report = used(file=lora, a1111=a1111)
    files = tree(a1111 / "models/Lora")
    assert files["zk9.safetensors"] == other
    assert files["zk9-2.json"] == b"{}"
    assert files["zk9-3.safetensors"] == lora.read_bytes()
    assert report.said.startswith("zk9-3 is ready in A1111")
    assert any("called zk9-3, since another file there has its name" in line for line in report.lines)
    assert used(file=lora, a1111=a1111).files == []


def test_overwrite_keeps_copies_that_no_program_lists(lora: Path, a1111: Path) -> None:
    folder = a1111 / "models/Lora"
    other = write_lora(folder / "zk9.safetensors", seed=1).read_bytes()
    (folder / "zk9.json").write_text('{"notes": "mine"}')
    used(file=lora, a1111=a1111, overwrite=True)
    files = tree(folder)
    assert files["zk9.safetensors"] == lora.read_bytes()
    copies = {name: content for name, content in files.items() if name.endswith(".bak")}
    assert sorted(copies.values()) == sorted([other, b'{"notes": "mine"}'])
    assert used(file=lora, a1111=a1111, overwrite=True).files == []
    assert tree(folder) == files


def test_what_a_person_wrote_into_the_side_file_stays(lora: Path, a1111: Path) -> None:
    used(file=lora, a1111=a1111)
    side = a1111 / "models/Lora/zk9.json"
    side.write_text('{"notes": "mine"}')
    report = used(file=lora, a1111=a1111, strength=0.7)
    assert side.read_text() == '{"notes": "mine"}'
    assert any("kept as it is; overwrite writes it anew" in line for line in report.lines)


@pytest.mark.parametrize("fault", ["write:1:ENOSPC", "fsync:1:EIO", "rename:1:EIO"])
def test_a_disk_that_fails_leaves_what_was_there(
    lora: Path, a1111: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lora(a1111 / "models/Lora/zk9.safetensors", seed=1)
    before = tree(a1111)
    monkeypatch.setattr("trainer.durable._calls", type(before)(write=0, fsync=0, rename=0, any=0))
    monkeypatch.setenv("LIKENESS_FAULT", fault)
    with pytest.raises(DiskError):
        used(file=lora, a1111=a1111, overwrite=True)
    monkeypatch.delenv("LIKENESS_FAULT")
    assert tree(a1111) == before
    assert used(file=lora, a1111=a1111, overwrite=True).files


def test_a_disk_without_room_is_told_before_it_is_written(
    lora: Path, a1111: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("Usage", (), {"free": 10}))
    with pytest.raises(DiskError, match=r"0\.0 MB free"):
        used(file=lora, a1111=a1111)
    assert tree(a1111) == {}


def test_a_stop_leaves_whole_places(tmp_path: Path, lora: Path, a1111: Path) -> None:
    options = Use(file=str(lora), a1111=str(a1111), save_to=str(tmp_path / "out"))
    told: list[tuple[int, int]] = []
    report = run(options, lambda done, total: told.append((done, total)), lambda: True)
    assert report.stopped
    assert report.said.startswith("Stopped. zk9 is ready in A1111")
    assert told == [(1, 2)]
    assert not (tmp_path / "out").exists()


# Folders of programs


@pytest.mark.parametrize("given", ["", "models", "models/Lora", "models/Lora/people"])
def test_any_folder_of_a_program_leads_to_all_of_its_folders(tmp_path: Path, given: str) -> None:
    root = made(tmp_path / "sd", "models/Lora/people", "models/Stable-diffusion", "Embeddings")
    assert folder_for("a1111", str(root / given), "model") == root / "models/Stable-diffusion"
    assert folder_for("forge", str(root / given), "embedding") == root / "Embeddings"
    assert folder_for("comfyui", str(root / given), "embedding") == root / "models/embeddings"
    found = folder_for("a1111", str(root / given), "lora")
    assert found == root / (given if given.endswith("people") else "models/Lora")


@pytest.mark.parametrize(
    ("option", "there", "found"),
    [
        ("comfyui", "ComfyUI/models/loras", "ComfyUI/models/loras"),
        ("comfyui", "models/Lora", "models/Lora"),
        ("forge", "webui/models/Lora", "webui/models/Lora"),
        ("a1111", "Models/lora", "Models/lora"),
        ("a1111", "models/Stable-diffusion", "models/Lora"),
        ("comfyui", "models/checkpoints", "models/loras"),
    ],
)
def test_packages_other_spellings_and_fresh_installs(tmp_path: Path, option: str, there: str, found: str) -> None:
    assert folder_for(option, str(made(tmp_path / "sd", there)), "lora") == tmp_path / "sd" / found


def test_a_folder_of_ones_own_holds_loras_and_none_of_a_program_s_other_models(tmp_path: Path) -> None:
    own = write_lora(tmp_path / "mine" / "x.safetensors").parent
    assert folder_for("a1111", str(own), "lora") == own
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "loras").symlink_to(made(tmp_path / "empty", "elsewhere") / "elsewhere")
    assert folder_for("comfyui", str(tmp_path / "link" / "loras"), "lora") == tmp_path / "empty" / "elsewhere"
    models = write_lora(tmp_path / "sd" / "models" / "Stable-diffusion" / "x.safetensors").parent
    for folder in (models, tmp_path / "empty"):
        with pytest.raises(InputError, match=r"a1111: .* holds no models/Lora; choose the folder that A1111"):
            folder_for("a1111", str(folder), "lora")
    kinds: list[tuple[What, str]] = [("model", "models/Stable-diffusion"), ("embedding", "embeddings")]
    for what, usual in kinds:
        with pytest.raises(InputError, match=rf"a1111: .*mine holds no {usual}; choose the folder that A1111 is"):
            folder_for("a1111", str(own), what)
    alone = made(tmp_path / "shared", "models/Lora") / "models"
    with pytest.raises(InputError, match=r"a1111: .*models holds no embeddings; .* or give any folder as save_to"):
        folder_for("a1111", str(alone), "embedding")
    with pytest.raises(InputError, match=r"comfyui: .* does not exist"):
        folder_for("comfyui", str(tmp_path / "none"), "lora")


@pytest.mark.parametrize("given", ["", "autoimport", "autoimport/lora"])
def test_invokeai_with_an_import_folder(tmp_path: Path, given: str) -> None:
    root = made(tmp_path / "invoke", "autoimport/lora")
    assert folder_for("invokeai", str(root / given), "lora") == root / "autoimport/lora"


def test_invokeai_without_one_is_told_where_the_file_is(tmp_path: Path, lora: Path) -> None:
    root = made(tmp_path / "invoke", "models/sd-1/lora")
    report = used(file=lora, invokeai=root)
    assert tree(root) == {}
    home = lora.parents[1] / "chosen"
    assert (home / "zk9.safetensors").exists()
    assert report.lines[-1].endswith(f"Model Manager: choose Add Models there, and give it those in {home}")


# What is refused


def test_what_cannot_be_used_is_refused_before_anything_is_written(tmp_path: Path, lora: Path, a1111: Path) -> None:
    vae = tmp_path / "vae.safetensors"
    save_file({"decoder.conv_in.weight": np.zeros(4, "float32")}, vae)
    (made(tmp_path, "folder") / "folder/model_index.json").write_text("{}")
    (tmp_path / "text.png").write_text("no picture")
    for options, words in (
        ({"file": vae}, "is no LoRA, embedding or model, it holds 'decoder.conv_in.weight'"),
        (
            {"file": tmp_path / "folder"},
            "is a folder of diffusers.*Utilities > Convert model, or `model convert .*folder --f",
        ),
        ({"file": tmp_path / "none"}, "is no file here"),
        ({"file": lora, "preview": tmp_path / "text.png"}, "preview: .* cannot be read as a picture"),
        ({"file": lora, "preview": tmp_path / "none.png"}, "preview: .* cannot be read as a picture"),
        ({"file": lora, "comfyui": tmp_path}, "comfyui: .* holds no models/loras"),
        ({"file": lora, "name": "a/b"}, "cannot name a file"),
        ({"file": lora, "name": "a, b"}, "or comma"),
        ({"file": lora, "strength": 0}, "strength"),
    ):
        with pytest.raises(InputError, match=words):
            used(a1111=a1111, **options)
    assert tree(a1111) == {}


def test_the_command_line(lora: Path, a1111: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    command.add(parser.add_subparsers())
    given = parser.parse_args(["use", str(lora), "--strength", "0.8", "--a1111", str(a1111), "--json"])
    assert given.do(given) == 0
    assert json.loads(capsys.readouterr().out)["prompt"] == "<lora:zk9:0.8>"
    assert (a1111 / "models/Lora/zk9.safetensors").exists()
