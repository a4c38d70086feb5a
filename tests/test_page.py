"""The page itself, `python -m webui`, used as a person does: in a browser, by what can be read on it."""

from __future__ import annotations

import json
import shutil
from typing import Any

from tests.browser import needs_browser
from tests.pictures import draw_folder
from tests.waiting import until
from tests.walk import Open, Site, board_shows, box, choose, expect, fill, is_in, job, press, tab
from trainer import configio

pytestmark = needs_browser
RANK = "Network Rank (Dimension)"


# The LoRA tab


def test_recipe_a_of_the_tutorials_by_label_alone_and_two_tabs_make_one_job(site: Site, page: Open) -> None:
    """A person's likeness on SD1.5: two folders of faces and bodies, ten epochs, rank 32."""
    view = page()
    before = len(site.runs())
    tab(view, "LoRA")
    choose(view, "Model Quick Pick", site.base.name)
    expect(box(view, "Pretrained model name or path")).to_have_value(str(site.base))
    model = site.data / "3mm4w4ts0n" / "model"
    fill(view, {
        "Image folder": site.images,
        "Output folder": model,
        "Model output name": "3mm4w4ts0n",
        "Train batch size": 1,
        "Epoch": 10,
        "Save every N epochs": 1,
        "Caption Extension": ".txt",
        RANK: 32,
        "Network Alpha": 32,
        "Max Resolution": "512,512",
    })  # fmt: skip
    for label, word in {
        "LoRA type": "Standard", "Mixed precision": "no", "Save precision": "fp16", "Optimizer": "AdamW",
    }.items():  # fmt: skip
        choose(view, label, word)
    box(view, "Enable buckets").uncheck()
    expect(view.locator("#plan")).to_contain_text("640 steps")  # (2 x 24 + 1 x 16) x 10
    until(lambda: site.draft().get("data", {}).get("buckets", 0) is None)

    other = page()
    tab(other, "LoRA")
    expect(box(other, RANK)).to_have_value("32")  # the settings that were left
    for each in (view, other):
        press(each, "Start training")
    for each in (view, other):
        is_in(each, "Training")
    assert len(site.runs()) == before + 1
    run = site.run(site.runs()[0]["id"])
    config = run.config()
    assert (config.network.rank, config.train.epochs, config.data.resolution) == (32, 10, (512, 512))
    until(lambda: site.runs()[0]["progress"]["step"])

    other.reload()  # mid-run
    tab(other, "LoRA")
    is_in(other, "Training")
    press(view, "Stop training")
    for each in (view, other):
        is_in(each, "Stopped")
    assert run.state() == "stopped" and list(model.glob("3mm4w4ts0n*.safetensors"))


def test_recipe_b_of_the_tutorials_by_label_alone(site: Site, page: Open) -> None:
    """A character on SDXL: one repeat, 64 epochs, Adafactor, rank 128, kept under a typed path, on an Apple."""
    place = site.data / "mira"
    images = draw_folder(place / "img", {"1_mira": 3}, (256, 256))
    view = page()
    tab(view, "LoRA")
    choose(view, "Presets", "Defaults")
    expect(view.locator("#said")).to_contain_text("defaults")
    choose(view, "Model Quick Pick", site.sdxl.name)
    expect(view.locator("#family")).to_contain_text("SDXL")
    fill(view, {
        "Image folder": images,
        "Output folder": place / "model",
        "Logging folder": place / "log",
        "Model output name": "mira",
        "Train batch size": 1,
        "Epoch": 64,
        "Caption Extension": ".txt",
        RANK: 128,
        "Network Alpha": 32,
        "Max Resolution": "1024,1024",
    })  # fmt: skip
    for label, word in {
        "Mixed precision": "no", "Save precision": "bf16", "Optimizer": "Adafactor", "LR Scheduler": "adafactor",
    }.items():  # fmt: skip
        choose(view, label, word)
    tab(view, "Advanced")
    for part in ("Speed and memory", "Pictures and buckets"):
        view.get_by_role("button", name=part).click()
    choose(view, "CrossAttention", "none")
    expect(box(view, "Cache latents")).to_be_checked()
    box(view, "Don't upscale bucket resolution").check()
    fill(view, {"Minimum bucket resolution": 256, "Maximum bucket resolution": 2048})
    expect(view.locator("#plan")).to_contain_text("192 steps")
    file = place / "mira.json"
    box(view, "Configuration file path").fill(str(file))
    press(view, "Save")
    expect(view.locator("#said")).to_contain_text("Saved to")

    press(view, "Start training")
    is_in(view, "Training")
    run = site.run(site.runs()[0]["id"])
    config = run.config()
    assert config == configio.load(str(file), [])
    assert (config.optimizer.type, config.schedule.type, config.train.attention) == ("adafactor", "adafactor", "none")
    until(lambda: site.runs()[0]["progress"]["step"])
    press(view, "Stop training")
    is_in(view, "Stopped")
    assert list((place / "model").glob("mira*.safetensors")) and list((place / "log").iterdir())
    press(view, "Start TensorBoard")
    board_shows(view, run)


KOHYA = {
    "LoRA_type": "Standard",
    "output_name": "from_kohya",
    "network_dim": 24,
    "network_alpha": 12,
    "epoch": 7,
    "optimizer": "AdamW",
    "learning_rate": 0.0002,
    "unet_lr": 0.0002,
    "text_encoder_lr": 0.00005,
    "lr_scheduler": "constant",
    "max_resolution": "448,448",
    "enable_bucket": False,
    "caption_extension": ".txt",
}


def test_a_kohya_file_opened_changed_saved_and_loaded_again_holds_the_same(site: Site, page: Open) -> None:
    file = site.data / "kohya.json"
    places = {"pretrained_model_name_or_path": str(site.base), "train_data_dir": str(site.images)}
    file.write_text(json.dumps({**KOHYA, **places}))
    view = page()
    tab(view, "LoRA")
    box(view, "Configuration file path").fill(str(file))
    choose(view, "Presets", "demo")
    press(view, "Load")  # while the preset is on its way: what was asked for last stays
    expect(view.locator("#said")).to_contain_text("kohya.json is loaded")
    expect(box(view, "Model output name")).to_have_value("from_kohya")
    expect(box(view, RANK)).to_have_value("24")
    expect(box(view, "Max Resolution")).to_have_value("448,448")

    box(view, RANK).fill("20")
    until(lambda: site.draft()["network"]["rank"] == 20)
    kept, draft = values(view), site.draft()
    assert kept[RANK] == "20" and kept["Pretrained model name or path"] == str(site.base)
    expect(view.get_by_role("radio", name="Kohya GUI")).to_be_checked()
    press(view, "Save")
    expect(view.locator("#said")).to_contain_text("Saved to")
    assert json.loads(file.read_text())["network_dim"] == 20

    choose(view, "Presets", "Defaults")
    expect(box(view, "Model output name")).not_to_have_value("from_kohya")
    press(view, "Load")
    expect(box(view, "Model output name")).to_have_value("from_kohya")
    expect(box(view, RANK)).to_have_value("20")
    assert values(view) == kept
    until(lambda: site.draft() == draft)  # the fields that are hidden too


# The queue, and a page behind a proxy


def test_a_queue_of_three_goes_on_when_one_fails(site: Site, page: Open) -> None:
    folders = {name: draw_folder(site.data / name, {"1_zk9": 2}) for name in ("one", "two", "three")}
    before = len(site.runs())
    view = page()
    tab(view, "Runs")
    press(view, "Pause the queue")
    press(view, "Go on with the queue")  # it is paused, and the button says what it does now
    press(view, "Pause the queue")
    tab(view, "LoRA")
    choose(view, "Presets", "Defaults")
    expect(view.locator("#said")).to_contain_text("defaults")
    fill(view, {"Pretrained model name or path": site.base, "Epoch": 1, "Max Resolution": "64,64"})
    for count, (name, folder) in enumerate(folders.items(), 1):
        fill(view, {"Image folder": folder, "Model output name": name})
        until(lambda name=name: site.draft()["output"]["name"] == name)
        press(view, "Start training")
        until(lambda count=count: len(site.runs()) == before + count)

    tab(view, "Runs")
    rows = view.locator("likeness-queue li")
    expect(rows).to_have_count(3)
    press(view, "Earlier: three")
    expect(rows.locator(".lk-link")).to_have_text(["one", "three", "two"])
    shutil.rmtree(folders["three"])
    press(view, "Go on with the queue")
    ended = {"one": "done", "three": "error", "two": "done"}
    until(lambda: {line["name"]: line["state"] for line in site.runs()[:3]} == ended)
    view.get_by_text("Nothing waits.").wait_for()
    ends = {name: site.run(line["id"]).events()[-1]["time"] for line in site.runs()[:3] for name in [line["name"]]}
    assert sorted(ends, key=ends.__getitem__) == ["one", "three", "two"]
    view.get_by_role("button", name="three", exact=True).click()
    is_in(view, "Failed")
    expect(job(view).get_by_text(str(folders["three"])).first).to_be_visible()  # it says what is missing


VALUES = """() => Object.fromEntries(
    [...document.querySelectorAll('.field')].filter(box => box.offsetParent).map(box => {
        const input = box.querySelector('input, textarea')
        const value = input.type === 'checkbox' ? input.checked : input.value
        return [input.ariaLabel || box.textContent.trim(), value]
    }))"""


def values(view: Any) -> dict[str, Any]:
    """What stands in each field that is seen, by its label."""
    return dict(view.evaluate(VALUES))


def test_the_tabs_that_train_share_a_form_and_keep_their_own_settings(site: Site, page: Open) -> None:
    """Each shows its own fields; a file goes to the tab that trains its kind."""
    file = site.data / "lora.json"
    file.write_text(json.dumps({"version": 1, "network": {"type": "lora", "rank": 9}}))
    view = page()
    tab(view, "Dreambooth")
    expect(box(view, "Stop text encoder training")).to_be_visible()
    expect(box(view, RANK)).to_be_hidden()
    expect(box(view, "Learning rate")).to_have_value("1e-05")
    fill(view, {"Train batch size": 3})
    tab(view, "Advanced")
    expect(view.get_by_role("button", name="Noise and loss")).to_be_visible()
    expect(view.get_by_role("button", name="Pivotal tuning")).to_be_hidden()  # it would open on nothing
    tab(view, "Basic")
    tab(view, "LoRA")
    expect(box(view, RANK)).to_be_visible()
    expect(box(view, "Train batch size")).to_have_value("1")
    tab(view, "Finetuning")
    expect(box(view, RANK)).to_be_hidden()
    box(view, "Configuration file path").fill(str(file))
    press(view, "Load")
    expect(box(view, RANK)).to_have_value("9")
    expect(view.get_by_role("tab", name="LoRA", exact=True)).to_have_attribute("aria-selected", "true")
    tab(view, "Dreambooth")
    expect(box(view, "Train batch size")).to_have_value("3")
    tab(view, "LoRA")
    choose(view, "LoRA type", "LyCORIS/LoHa")  # a choice brings its own fields
    expect(view.locator('[id="field-network.tucker"]')).to_be_visible()
    tab(view, "Advanced")
    view.get_by_role("button", name="Pivotal tuning").filter(visible=True).first.click()
    box(view, "Pivotal tuning").check()
    expect(view.locator('[id="field-pivotal.token"]')).to_be_visible()
    expect(box(view, "Pivotal tuning")).to_be_checked()  # it is called by its own label, not by that of a field below


LATE = "addEventListener('likeness-marks', () => { window.late ||= likenessMarks.tab === 'dreambooth' })"


def test_a_look_that_is_answered_late_does_not_mix_two_tabs_settings(site: Site, page: Open) -> None:
    """What was written on one tab is looked at after another was opened, as over a slow line."""
    held: list[Any] = []

    def hold(route: Any) -> None:
        looks = '"do":"look"' in (route.request.post_data or "")
        held.append(route) if looks and not held else route.continue_()

    view = page()
    tab(view, "Dreambooth")
    expect(box(view, "Learning rate")).to_have_value("1e-05")
    view.route("**/queue/join*", hold)
    with view.expect_request("**/queue/join*"):
        fill(view, {"Train batch size": 3})
    tab(view, "LoRA")
    expect(box(view, "Train batch size")).to_have_value("1")
    view.evaluate(LATE)
    held[0].continue_()
    view.wait_for_function("window.late")
    view.wait_for_function("likenessMarks.tab === 'lora'")  # it looks again, at the tab that is open
    tab(view, "Dreambooth")
    expect(box(view, "Train batch size")).to_have_value("3")
