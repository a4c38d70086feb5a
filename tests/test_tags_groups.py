"""Contradictions are found with their reason and a cure that cures; completions come from the set and from lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tagging import tagged
from trainer.errors import InputError
from trainer.tags.complete import Known, Offer, complete, read_list
from trainer.tags.groups import cures, findings
from trainer.tags.history import History


def test_a_contradiction_is_found_and_cured(tmp_path: Path) -> None:
    good = {f"1_zk9/{name}": "zk9, 1girl, blue eyes, long hair, upper body" for name in "abcdef"}
    bad = {
        "1_zk9/g": "zk9, 1boy, blue eyes",
        "1_zk9/h": "zk9, 1girl, (green eyes:1.2), blue eyes",
        "1_zk9/i": "zk9, 1girl, hair, very_long_hair",
        "1_zk9/j": "zk9, 1girl, full body, upper body, solo, 2girls",
    }
    data = tagged(tmp_path, good | bad)
    found = findings(data)
    assert {(finding.picture.path.stem, finding.kind, finding.tags) for finding in found} == {
        ("g", "subject", ("1boy",)),
        ("h", "one of", ("green eyes", "blue eyes")),
        ("i", "parent", ("hair", "very_long_hair")),
        ("j", "one of", ("full body", "upper body")),
        ("j", "one of", ("1girl", "2girls")),
        ("j", "one of", ("solo", "2girls")),
    }
    reasons = {finding.reason for finding in found}
    assert "1boy on a woman's set: 9 pictures say a woman, 1 a man" in reasons
    assert "green eyes and blue eyes: a picture has one eye colour; blue eyes is on 8 pictures" in reasons
    assert "hair is said by very_long_hair already" in reasons
    history = History(data)
    assert history.run("cure", cures(found)) == 4
    assert findings(data) == []
    assert [(tmp_path / "1_zk9" / f"{name}.txt").read_text() for name in "ghi"] == [
        *("zk9, blue eyes", "zk9, 1girl, blue eyes", "zk9, 1girl, very_long_hair")
    ]


@pytest.mark.parametrize(
    "words",
    [
        "zk9, 1girl, blue eyes, green eyes, heterochromia",
        "zk9, 2girls, blue eyes, green eyes, red hair, black hair",
        "zk9, 1girl, red hair, black hair, two-tone hair",
        "zk9, 1girl, closed eyes, closed mouth, hair ribbon, long hair",
        "zk9, 1girl, long hair, hair ornament, hat",
        "",
    ],
)
def test_what_goes_together_is_left_alone(tmp_path: Path, words: str) -> None:
    assert findings(tagged(tmp_path, {"1_zk9/a": words})) == []


def test_a_set_of_both_has_no_other_subject(tmp_path: Path) -> None:
    words = {f"1_zk9/{name}": "1girl" if name < "d" else "1boy" for name in "abcdef"}
    assert findings(tagged(tmp_path, words)) == []


LIST = """1girl,0,5000000,"1girls,sole_female"
long_hair,0,4000000,"/lh,longhair"

^_^,0,900,
hatsune_miku,4,90000
plain
"""


def test_lists_of_tags(tmp_path: Path) -> None:
    file = tmp_path / "danbooru.csv"
    file.write_text(LIST)
    known = read_list(file)
    assert known == [
        Known("1girl", 5_000_000, ("1girls", "sole female"), "0"),
        Known("long hair", 4_000_000, ("/lh", "longhair"), "0"),
        Known("hatsune miku", 90_000, (), "4"),
        Known("^_^", 900, (), "0"),
        Known("plain", 0),
    ]
    assert read_list(file, blanks=False)[1].tag == "long_hair"
    file.write_text("a,0,5\nb,0,many")
    with pytest.raises(InputError, match=r"danbooru.csv, line 2: 'many' is no count: each line is tag,category"):
        read_list(file)
    with pytest.raises(InputError, match="cannot be read"):
        read_list(tmp_path / "gone.csv")


def test_completions() -> None:
    own = {"long hair": 3, "long dress": 7, "zk9": 9}
    known = [Known("long sleeves", 90), Known("long hair", 80), Known("very long hair", 70, ("longer hair",))]
    assert complete("LONG_", own, known) == [
        Offer("long dress", 7, True),
        Offer("long hair", 3, True),
        Offer("long sleeves", 90, False),
    ]
    assert complete("hair", own, known, "contain") == [
        Offer("long hair", 3, True),
        Offer("very long hair", 70, False),
    ]
    assert complete("longer", own, known) == [Offer("very long hair", 70, False, "longer hair")]
    assert complete("long", own, known, most=1) == [Offer("long dress", 7, True)]
    assert complete(" ", own, known) == []
