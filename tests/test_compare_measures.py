"""The measures of the comparison against their formulas written the long way, and the base model's own eyes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.lora_files import trained
from tests.tiny import tiny_family
from trainer.families.base import Family
from trainer.verdict import measures
from trainer.verdict.eyes import SIDE, TIMESTEPS, BaseEye
from trainer.verdict.measures import Likeness, Whole
from trainer.verdict.questions import Question
from trainer.verdict.scale import BaseWitness, Exhibit

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers")

CHANNELS = 12
PROMPTS = ["a", "a", "b", "b", "c", "c"]


def parts(seed: int, pictures: int = 6, places: int = 9) -> Tensor:
    """Pictures that have nothing in common."""
    return torch.randn(pictures, places, CHANNELS, generator=torch.Generator().manual_seed(seed))


def subject(seed: int, pictures: int = 5, common: Tensor | None = None) -> Tensor:
    """Pictures with the same three parts in each, at other places, and six of their own; all a little off."""
    own, noise = parts(100 + seed, pictures, 6), 0.02 * parts(200 + seed, pictures)
    same = parts(7, 1, 3) if common is None else common
    whole = torch.cat([same.expand(pictures, -1, -1), own], dim=1)
    turned = [picture.roll(place, 0) for place, picture in enumerate(whole)]
    return torch.stack(turned) + noise


def one(vector: Tensor) -> np.ndarray:
    numbers = vector.double().numpy()
    return numbers / np.linalg.norm(numbers)


def found(data: Tensor, pictures: Tensor, centre: Tensor) -> np.ndarray:
    """For each picture and each part of the data set the cosine of the nearest part there, by loops."""
    wanted = [one(part - centre) for picture in data for part in picture]
    shown = [[one(part - centre) for part in picture] for picture in pictures]
    return np.array([[max(part @ other for other in picture) for part in wanted] for picture in shown])


def likeness(data: Tensor, base: Tensor, drawn: Tensor) -> np.ndarray:
    """The likeness by loops over parts."""
    centre, places = base.flatten(0, 1).mean(0), data.shape[1]
    inside, without, shown = (found(data, pictures, centre) for pictures in (data, base, drawn))
    others = []
    for part in range(inside.shape[1]):
        elsewhere = [inside[n, part] for n in range(len(data)) if n != part // places]
        others.append(np.mean(elsewhere))
    weights = np.maximum(np.array(others) - without.mean(0), 0)
    weights /= weights.sum()
    zero, top = without @ weights, np.array(others) @ weights
    return (shown @ weights - zero) / (top - zero.mean())


def cosine(one: Tensor, other: Tensor, centre: Tensor) -> float:
    """How near two pictures are as wholes."""
    first, second = ((picture - centre).flatten().double().numpy() for picture in (one, other))
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


def apart(pictures: Tensor, centre: Tensor) -> list[float]:
    """The distance between the two pictures of each prompt of PROMPTS."""
    pairs = range(0, len(PROMPTS), 2)
    return [1 - cosine(pictures[place], pictures[place + 1], centre) for place in pairs]


# Likeness


def test_likeness_is_what_the_loops_say() -> None:
    data, base, drawn = subject(1), parts(2), parts(3)
    drawn[2, :3] = parts(7, 1, 3)[0]
    seen = Likeness(data, base).of(drawn).numpy()
    assert np.allclose(seen, likeness(data, base, drawn), atol=1e-5)
    assert seen[2] > 0.9 > 0.5 > np.delete(seen, 2).max()  # the one that shows the subject


def test_the_base_s_pictures_are_0_and_others_of_the_subject_are_1() -> None:
    data, base = subject(1), parts(2)
    ruler = Likeness(data, base)
    assert torch.equal(ruler.of(base), torch.zeros(6))
    assert float(ruler.of(subject(9, 6)).mean()) == pytest.approx(1, abs=0.1)


def test_what_the_base_draws_too_counts_for_nothing() -> None:
    sky, rest = parts(7, 1, 3), parts(2)
    base = torch.cat([sky.expand(6, -1, -1), rest[:, 3:]], dim=1)
    both = torch.cat([sky, parts(8, 1, 3)], dim=1)  # [1, 6, channels]: the sky, and the subject
    data = torch.cat([both.expand(5, -1, -1), parts(1, 5, 3)], dim=1)
    ruler = Likeness(data, base)
    weights = ruler.weights.reshape(5, 9)
    assert float(weights[:, :3].sum()) < 1e-4 and float(weights[:, 3:6].sum()) > 0.8
    hidden = base.clone()
    hidden[:, :3] = parts(4, 6, 3)
    assert float((ruler.of(hidden) - ruler.of(base)).abs().max()) < 0.15  # no sky is no loss
    hidden[:, :3] = parts(8, 1, 3)
    assert float(ruler.of(hidden).mean()) > 0.9


def test_a_data_set_of_one_picture_and_one_that_is_the_base_s() -> None:
    data, base = subject(1, 1), parts(2)
    assert float(Likeness(data, base).of(data.expand(6, -1, -1)).mean()) == pytest.approx(1, abs=0.01)
    assert torch.equal(Likeness(base[:1], base).of(base), torch.zeros(6))
    assert measures.copying(Whole(base), data, data).tolist() == [pytest.approx(1, abs=1e-5)]


# Copying, content, variety, obedience


def test_copying_is_1_for_a_copy_and_0_for_what_is_no_nearer_than_usual() -> None:
    data, base, drawn = parts(1), parts(2), parts(3)
    drawn[1], drawn[2] = data[4], data[4] + 0.5 * parts(5)[0]
    seen = measures.copying(Whole(base), drawn, data)
    centre = base.flatten(0, 1).mean(0)
    pairs = [[cosine(one, other, centre) for b, other in enumerate(data) if a != b] for a, one in enumerate(data)]
    usual = np.mean([max(pair) for pair in pairs])
    nearest = np.array([max(cosine(picture, other, centre) for other in data) for picture in drawn])
    assert np.allclose(seen.numpy(), np.clip((nearest - usual) / (1 - usual), 0, 1), atol=1e-5)
    assert seen[1] == pytest.approx(1, abs=1e-5) and 0.5 < seen[2] < 1 and seen[0] < 0.3


def test_content_is_what_the_base_draws_for_a_prompt_and_nothing_else_has() -> None:
    data, base, drawn = parts(1), parts(2), parts(3)
    for place in range(0, 6, 2):
        base[[place, place + 1], :3] = parts(20 + place, 1, 3)  # what each prompt asks for
    drawn[2, 4:7] = base[2, :3]
    seen = measures.Content(base, data, PROMPTS).of(drawn).numpy()
    for place, picture in enumerate(drawn):
        mine = [place // 2 * 2, place // 2 * 2 + 1]
        rest = torch.cat([data, base[[n for n in range(6) if n not in mine]]])
        centre = rest.flatten(0, 1).mean(0)
        inside, without = found(base[mine], base[mine], centre), found(base[mine], rest, centre)
        other = np.concatenate([inside[1, :9], inside[0, 9:]])
        weights = np.maximum(other - without.mean(0), 0) / np.maximum(other - without.mean(0), 0).sum()
        zero, top = (without @ weights).mean(), other @ weights
        share = float((found(base[mine], picture[None], centre) @ weights)[0] - zero) / (top - zero)
        assert seen[place] == pytest.approx(share, abs=1e-5)
    assert seen[2] > 0.85 > 0.5 > np.delete(seen, 2).max()


def test_the_base_s_own_pictures_have_all_of_it_and_the_data_set_has_nothing() -> None:
    data, base = parts(1), subject(1, 6)
    content = measures.Content(base, data, PROMPTS[:2] * 3)
    assert 1 < float(content.of(base).min()) < 1.3  # each is in the ruler itself
    assert abs(float(content.of(data).mean())) < 0.1
    assert measures.Content(base[:1], data, ["a"]).of(base[:1]).tolist() == pytest.approx([1], abs=1e-5)


def test_variety_is_1_for_the_base_s_own_and_0_for_all_alike() -> None:
    base, drawn = parts(2), parts(3)
    drawn[3] = drawn[2] + 0.3 * parts(4)[0]
    whole, centre = Whole(base), base.flatten(0, 1).mean(0)
    seen = measures.variety(whole, drawn, base, PROMPTS).numpy()
    wanted = np.minimum(np.array(apart(drawn, centre)) / np.mean(apart(base, centre)), 1)
    assert seen.shape == (3,) and np.allclose(seen, wanted, atol=1e-5) and seen[1] < 0.2
    alike = drawn[:1].expand(6, -1, -1)
    assert measures.variety(whole, alike, base, PROMPTS).abs().max() < 1e-5
    assert len(measures.variety(whole, drawn, base, list("abcdef"))) == 0  # one seed of each says nothing


def test_obedience_is_1_where_what_is_asked_is_as_clear_as_in_the_base_s_pictures() -> None:
    usual = torch.tensor([0.02, 0.04, -0.01, 0.05])
    margin = torch.tensor([0.0275, 0.0, -0.0275, 0.3])
    scale = np.mean([max(each, 0) for each in usual.tolist()])
    wanted = [min(max(0.5 + each / (2 * scale), 0), 1) for each in margin.tolist()]
    assert measures.obedience(margin, usual).tolist() == pytest.approx(wanted, abs=1e-6)
    assert wanted == pytest.approx([1, 0.5, 0, 1], abs=1e-6)
    even = torch.full((4,), 0.03)
    assert measures.obedience(even, even).tolist() == pytest.approx([1] * 4, abs=1e-6)


# Burn


def coloured(seed: int, low: int = 80, high: int = 160, side: int = 64) -> Image.Image:
    """A coarse pattern of tame colours."""
    coarse = np.random.default_rng(seed).integers(low, high, (6, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def test_pixels_are_what_the_loops_say() -> None:
    picture = coloured(1, 0, 255, 9)
    rgb = np.asarray(picture) / 255
    light = [[0.299 * r + 0.587 * g + 0.114 * b for r, g, b in row] for row in rgb]
    saturation = np.mean([(max(p) - min(p)) / max(*p, 1e-3) for row in rgb.tolist() for p in row])
    down = np.mean([abs(light[y + 1][x] - light[y][x]) for y in range(8) for x in range(9)])
    right = np.mean([abs(light[y][x + 1] - light[y][x]) for y in range(9) for x in range(8)])
    assert measures.pixels(picture) == pytest.approx((saturation, np.std(light), down + right), abs=1e-5)
    assert measures.pixels(Image.new("RGB", (64, 64))) == (0, 0, 0)


def test_burn_is_0_inside_what_is_known_and_1_far_outside() -> None:
    usual = [measures.pixels(coloured(seed)) for seed in range(8)]
    assert measures.burn(usual, usual) == [0] * 8
    harsh = np.asarray(coloured(1)) > 120
    drawn = [measures.pixels(Image.fromarray((255 * harsh).astype(np.uint8))), measures.pixels(coloured(9))]
    seen = measures.burn(drawn, usual)
    known = np.array(usual)
    wanted = []
    for figures in drawn:
        out = [
            max(known[:, n].min() - figure, figure - known[:, n].max(), 0) / (known[:, n].std() + 1e-3)
            for n, figure in enumerate(figures)
        ]
        wanted.append(min(max(out) / 3, 1))
    assert seen == pytest.approx(wanted, abs=1e-5) and seen[0] == 1 and seen[1] < 0.7


def test_strangeness_begins_where_what_is_known_ends() -> None:
    errors = torch.tensor([0.05, 0.1, 0.2, 0.3, 0.9])
    assert measures.strangeness(errors, 0.1).tolist() == pytest.approx([0, 0, 0.5, 1, 1])


# The base model's own eyes


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    return tiny_family(request.param, tmp_path_factory.mktemp("eyes"))


SIZES = [(64, 64), (40, 90), (131, 57), (300, 200), (64, 64)]


def pictures() -> list[Image.Image]:
    """Of any size."""
    return [coloured(seed, 0, 255).resize(size) for seed, size in enumerate(SIZES)]


def test_batches_change_nothing(family: Family) -> None:
    shown = pictures()
    alone, together = (BaseEye(lambda: family, (64, 64), batch) for batch in (1, 3))
    seen = alone.parts(shown)
    channels = family.unet.config.block_out_channels[0]
    assert seen.shape == (5, SIDE * SIDE, channels) and seen.isfinite().all()
    assert torch.allclose(seen, together.parts(shown), atol=1e-5)
    errors = alone.errors(shown)
    assert errors.shape == (5,) and torch.allclose(errors, together.errors(shown), atol=1e-5)


def test_an_error_is_that_of_the_noise_that_was_added(family: Family) -> None:
    eye, picture = BaseEye(lambda: family, (64, 64)), coloured(3)
    pixels = torch.from_numpy(np.asarray(picture).astype(np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
    latents, cond = family.encode_images(pixels), family.encode_text([""])
    wanted = []
    for timestep in TIMESTEPS:
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(timestep))
        when = torch.tensor([timestep])
        with torch.no_grad():
            answer = family.predict(family.noisy(latents, noise, when), when, cond)
        wanted.append(float(((answer - family.target(latents, noise, when)) ** 2).mean()))
    assert float(eye.errors([picture])) == pytest.approx(np.mean(wanted), rel=1e-5)


def test_looking_leaves_the_model_as_it_was(family: Family) -> None:
    eye, latents = BaseEye(lambda: family, (64, 64)), torch.ones(1, 4, 8, 8)
    cond = family.encode_text(["a"])

    def answer() -> Tensor:
        with torch.no_grad():
            return family.predict(latents, torch.tensor([500]), cond)

    before, weights = answer(), [weight.clone() for weight in family.unet.parameters()]
    seen = eye.parts(pictures()[:1])
    eye.errors(pictures()[:1])
    assert not any(module._forward_hooks for module in family.unet.modules())
    assert torch.equal(answer(), before)
    assert all(torch.equal(now, old) for now, old in zip(family.unet.parameters(), weights, strict=True))
    network = trained(family, rank=2, alpha=2)
    try:
        assert not torch.allclose(eye.parts(pictures()[:1]), seen, atol=1e-3)  # a LoRA would be seen with
    finally:
        network.detach()
    assert torch.equal(eye.parts(pictures()[:1]), seen)


def test_every_picture_is_seen_at_as_many_places_and_a_wish_to_stop_is_heard(family: Family) -> None:
    ticks: list[int] = []
    for size in ((64, 64), (8 * 2 * SIDE, 64), (8 * 2 * SIDE, 8 * 2 * SIDE)):
        assert BaseEye(lambda: family, size, tick=lambda: ticks.append(1)).parts([coloured(1)]).shape[1] == SIDE * SIDE
    assert ticks


def test_a_hook_goes_when_looking_is_stopped(family: Family) -> None:
    def stop() -> None:
        if calls.append(1) or len(calls) > 1:
            raise InterruptedError

    calls: list[int] = []
    with pytest.raises(InterruptedError):
        BaseEye(lambda: family, (64, 64), tick=stop).parts([coloured(1)])
    assert not any(module._forward_hooks for module in family.unet.modules())


def test_evened_parts_vary_alike_in_all_directions() -> None:
    given = torch.randn(5, 40, 6, generator=torch.Generator().manual_seed(1)) * torch.tensor([9.0, 3, 1, 1, 1, 0])
    turned = measures.Evened(given)(given).flatten(0, 1)
    before, after = (torch.linalg.eigvalsh(parts.T.cov()) for parts in (given.flatten(0, 1), turned))
    wanted = before / (before + measures.SMALL * before.mean())  # what varies is near 1, what does not stays 0
    assert torch.allclose(after, wanted, atol=0.02) and after[0] < 1e-5


# The witness


def exhibit() -> Exhibit:
    kinds = [("subject", "zk9 a"), ("contradicting", "zk9 in the sea"), ("plain", "a star")]
    asked = [
        (Question(kind, prompt, prompt.removeprefix("zk9 "), "in the sea"), seed)  # type: ignore[arg-type]
        for kind, prompt in kinds
        for seed in (1, 2)
    ]
    base = [coloured(seed) for seed in range(6)]
    return Exhibit(asked, base, [coloured(seed, 0, 120) for seed in range(20, 24)], ["a", "b"])


def test_the_witness_finds_the_base_s_own_pictures_unchanged(tmp_path: Path) -> None:
    shown, family = exhibit(), tiny_family("sd15", tmp_path)
    witness = BaseWitness(BaseEye(lambda: family, (64, 64)), shown)
    own = witness.values(shown.base)
    assert {name: len(values) for name, values in own.items()} == {
        "likeness": 4, "copying": 4, "variety": 2, "burn": 4, "spill": 2, "obedience": 2,
    }  # fmt: skip
    assert own["likeness"] == pytest.approx([0] * 4, abs=1e-5) and max(own["spill"]) <= 0
    assert own["burn"] == (0, 0, 0, 0) and np.mean(own["variety"]) > 0.8
    learnt = witness.values([*shown.data, *shown.base[4:]])
    assert np.mean(learnt["likeness"]) > 0.8 and learnt["copying"] == pytest.approx([1] * 4, abs=1e-4)
    assert learnt["burn"] == (0, 0, 0, 0)
    alike = witness.values([shown.base[0]] * 6)
    assert alike["variety"] == pytest.approx([0, 0], abs=1e-4)  # float32 over 256 places


def test_without_such_prompts_a_measure_is_left_out(tmp_path: Path) -> None:
    shown, family = exhibit(), tiny_family("sd15", tmp_path)
    few = Exhibit(shown.asked[:1], shown.base[:1], shown.data, shown.bare)
    values = BaseWitness(BaseEye(lambda: family, (64, 64)), few).values(few.base)
    assert {*values} == {"likeness", "copying", "burn"}
