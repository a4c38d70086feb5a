"""Broken and odd pictures and captions: each is named with what is done, and none crashes the doctor."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.broken import KINDS, encoded, good
from trainer.data.folders import Folder, Listing
from trainer.doctor.cures import cure
from trainer.doctor.options import Doctor
from trainer.doctor.report import Report, report
from trainer.doctor.seeing import Refused, Seen, see


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report on all of them at once."""
    place = tmp_path_factory.mktemp("broken")
    folder = place / "set" / "10_zk9"
    folder.mkdir(parents=True)
    for _, write in KINDS.values():
        write(folder)
    return report(Doctor(folder=str(place / "set")))


@pytest.fixture(scope="module")
def told(broken: Report) -> dict[str, str]:
    """All that the report says of each file, by its name alone."""
    found: dict[str, str] = defaultdict(str)
    for finding in broken.findings:
        for name in {*finding.pictures, *finding.details}:
            found[Path(name).name] += f"{finding.title} {finding.why} {finding.details.get(name, '')}\n"
    return found


def test_there_are_kinds_enough() -> None:
    assert len(KINDS) >= 50 and sum(bool(says) for says, _ in KINDS.values()) >= 40


@pytest.mark.parametrize("name", KINDS, ids=ascii)
def test_each_is_listed_with_what_is_done(name: str, broken: Report, told: dict[str, str]) -> None:
    says = KINDS[name][0]
    if says:
        assert re.search(says, told[name]), (name, told[name])
    else:
        assert f"10_zk9/{name}" in broken.measured
    assert not re.search("password|Traceback", told[name])


def test_every_picture_is_measured_or_refused(broken: Report) -> None:
    refused = next(finding for finding in broken.findings if finding.kind == "broken")
    assert len(broken.measured) + len(refused.pictures) == broken.pictures
    assert all(refused.details[name] for name in refused.pictures)
    assert all(line.isprintable() for line in broken.text().splitlines())
    assert json.loads(json.dumps(broken.to_json()))["pictures"] == broken.pictures


def test_a_set_of_nothing_but_broken_pictures_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no")
    (tmp_path / "b.jpg").write_bytes(b"")
    found = report(Doctor(folder=str(tmp_path)))
    assert found.amount is None and found.measured == {} and found.to_json()["advice"] is None
    assert found.findings[0].kind == "broken" and len(found.findings[0].pictures) == 2
    assert "a.png" in found.text() and "b.jpg" in found.text()


def test_broken_files_are_set_aside_and_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "set" / "10_zk9"
    folder.mkdir(parents=True)
    for name in ("empty.jpg", "truncated.png", "is_a_folder.png", "pipe.png", "link_out.png", "LOUD.JPG"):
        KINDS[name][1](folder)
    finding = next(one for one in report(Doctor(folder=str(folder))).findings if one.kind == "broken")
    assert len(finding.pictures) == 5 and set(finding.cures[0].pictures) == {"empty.jpg", "truncated.png"}
    told = finding.cures[0].to_json()
    done = cure(str(folder), told["do"], told["pictures"], told)
    assert not (folder / "empty.jpg").exists() and not (folder / "truncated.txt").exists()
    cure(str(folder), done["undo"]["do"], done["undo"]["pictures"], done["undo"])
    assert (folder / "empty.jpg").read_bytes() == b"" and (folder / "truncated.txt").is_file()


PICTURES = [encoded(kind, good(size=(64, 64))) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")]


@given(
    content=st.sampled_from(PICTURES),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=8),
    end=st.integers(0, 10_000),
)
def test_no_damage_crashes(
    content: bytes, changes: list[tuple[int, int]], end: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    damaged = bytearray(content)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    folder = tmp_path_factory.getbasetemp()
    path = folder / "damaged.png"
    path.write_bytes(damaged[: max(1, end % (2 * len(damaged)))])
    listing = Listing(Folder("10_zk9", folder, 10, "zk9"), folder, [path], {}, {})
    assert isinstance(see("damaged.png", path, listing), Seen | Refused)
