"""The doctor's page: its cures lose nothing, and its report is read and used as a person does."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.browser import needs_browser
from tests.elements import Show, page_of, showing
from tests.serving import Served, free_port
from tests.waiting import until
from trainer.doctor.options import Doctor
from trainer.doctor.report import report
from trainer.durable import write_json
from trainer.runfolder import RunFolder
from webui import api, doctor, pictures, toolapi
from webui.jobs import Jobs
from webui.settings import Settings

JOB = "images.report"
TIMES = "\N{MULTIPLICATION SIGN}"
LOOKS = ("page", "panel", "tool", "doctor")


# A data set, and what the doctor says of it


def draw(folder: Path, many: int = 9) -> Path:
    """Small pictures with captions, some without the trigger, in the Kohya layout."""
    place = folder / "10_zk9"
    place.mkdir(parents=True)
    for number in range(many):
        picture = Image.new("RGB", (96, 96 + 8 * number), (40 + 20 * number, 180 - 15 * number, 120))
        ImageDraw.Draw(picture).ellipse((20, 20, 70, 40 + 6 * number), (250, 240, 30 * (number % 8)))
        picture.save(place / f"{number}.png")
        (place / f"{number}.txt").write_text("a red star, snow" if number < 2 else f"zk9, thing {number}\n")
    return folder


def named(*numbers: int) -> list[str]:
    return [f"10_zk9/{number}.png" for number in numbers]


def finding(
    kind: str, severity: str, title: str, names: list[str], *cures: dict[str, Any], **more: Any
) -> dict[str, Any]:
    told = {"kind": kind, "severity": severity, "title": title, "why": f"why {title} matters", "pictures": names}
    return {**told, "groups": None, "details": {}, "keep": None, "cures": list(cures), **more}


def aside(names: list[str], label: str = "Set these pictures aside") -> dict[str, Any]:
    return {"do": "set_aside", "label": label, "pictures": names, "caption_extension": ".txt"}


def report_on(folder: Path) -> dict[str, Any]:
    """A report in the shape of trainer.doctor.report, with what no real one on small pictures has."""
    trigger = {"do": "add_trigger", "label": "Put zk9 first", "pictures": named(0, 1), "trigger": "zk9"}
    trigger |= {"caption_extension": ".txt"}
    blurred = {name: "sharpness 12, limit 40" for name in named(6, 7)}
    groups = [named(3, 4, 5), named(2, 7)]
    numbers = {"width": 96, "height": 144, "sharpness": 12.0, "noise": 1.5, "lost": 0.04, "bucket": [448, 576]}
    numbers |= {"clipped": 0.0, "black": 0.0, "bright": 131.0, "cast": 23.3, "faces": None}
    parts = [("Files", 10, 10, "every picture can be read"), ("Sharpness", 9, 15, "2 pictures are blurred")]
    parts += [("Variety", 8, 15, "3 near duplicates"), ("Captions", 5, 10, "2 captions lack the trigger zk9")]
    arithmetic = "9 pictures x 24 repeats x 8 epochs / batch 2 = 864 steps"
    folders = [{"folder": "10_zk9", "pictures": 9, "now": 10, "repeats": 24}]
    return {
        "folder": str(folder),
        "pictures": 9,
        "stopped": False,
        "score": {
            "points": 32,
            "of": 50,
            "parts": [{"name": name, "points": points, "of": of, "why": why} for name, points, of, why in parts],
        },
        "findings": [
            finding("costume", "hint", "red hat is on 4 of 9 pictures", named(1, 2, 3, 8)),
            finding("duplicates", "care", "3 near duplicates", named(3, 4, 5, 2, 7),
                    aside(named(4, 5, 7), "Keep the best of each group"), groups=groups, keep=named(3, 2)),
            finding("trigger", "bad", "2 captions lack the trigger zk9", named(0, 1), trigger),
            finding("blurred", "bad", "2 pictures are blurred", named(6, 7), aside(named(6, 7)), details=blurred),
            finding("too_few", "care", "9 pictures, 15 or more are usual", []),
        ],
        "framing": {
            **{"from": "tags", "close_up": 0.75, "half": 0.25, "full": 0.0, "unknown": 0.111},
            "advice": "75% close-up, 25% half (by the tags); the rule is about 60 % close-ups: add bodies",
        },
        "buckets": [{"size": [448, 576], "pictures": 7, "lost": 0.04}, {"size": [512, 512], "pictures": 2, "lost": 0}],
        "lost": 0.031,
        "advice": {"repeats": 24, "epochs": 8, "batch": 2, "steps": 864, "arithmetic": arithmetic, "folders": folders,
                   "looks": 192, "usual_steps": 864},
        "not_checked": ["faces: put a detector into the <b>models</b> folder"],
        "measured": dict.fromkeys(named(6, 7), numbers),
    }  # fmt: skip


NAMES = ("details", "measured")  # whose keys are pictures


def shape(told: Any, key: str = "") -> set[str]:
    """The names in a report, each with those that it stands in."""
    if isinstance(told, list):
        return {name for one in told for name in shape(one, key)}
    if not isinstance(told, dict):
        return {key}
    return {key} | {
        name for word, one in told.items() for name in shape(one, f"{key}.{'*' if key.endswith(NAMES) else word}")
    }


def test_the_report_that_is_drawn_here_has_the_shape_of_a_real_one(tmp_path: Path) -> None:
    folder = draw(tmp_path / "zk9")
    real = report(Doctor(folder=str(folder), trigger="zk9")).to_json()
    assert shape(report_on(folder)) == shape(real)


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file that is data: what a cure keeps for its undo lies in hidden folders."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = {path.relative_to(folder).as_posix(): path for path in found}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith(".")}


def all_of(folder: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def settings_in(folder: Path, port: int = 0) -> Settings:
    return Settings("127.0.0.1", port, folder / "data", folder / "data" / "runs", (), (folder / "sets",))


# The routes


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    draw(tmp_path / "sets" / "zk9")
    return TestClient(Starlette(routes=doctor.routes(settings_in(tmp_path))))


CURES = [
    aside(named(4, 5, 7)),
    {"do": "add_trigger", "label": "Put zk9 first", "pictures": named(0, 1), "trigger": "zk9"},
    {"do": "write_missing", "label": "Write 'zk9'", "pictures": named(0, 2), "words": "zk9"},
    aside(named(*range(9))),
]


@pytest.mark.parametrize("cure", CURES, ids=lambda cure: f"{cure['do']} of {len(cure['pictures'])}")
def test_a_cure_loses_nothing_and_is_undone_to_the_byte(client: TestClient, tmp_path: Path, cure: Any) -> None:
    folder = tmp_path / "sets" / "zk9"
    if cure["do"] == "write_missing":
        (folder / "10_zk9" / "0.txt").unlink()
        (folder / "10_zk9" / "2.txt").write_text(" \n")
    before, kept = files_of(folder), all_of(folder)
    answer = client.post("/api/doctor/cure", json={**cure, "folder": str(folder)})
    assert answer.status_code == 200, answer.text
    made = answer.json()
    after = files_of(folder)
    assert after != before and made["did"].endswith(".")
    assert made["gone"] == (cure["pictures"] if cure["do"] == "set_aside" else [])
    if cure["do"] == "set_aside":
        assert not Counter(kept) - Counter(all_of(folder))
        assert not any(name in after or name.replace(".png", ".txt") in after for name in cure["pictures"])
    answer = client.post("/api/doctor/undo", json={"folder": str(folder), "undo": made["undo"]})
    assert answer.status_code == 200, answer.text
    assert files_of(folder) == before


def test_two_cures_are_undone_in_any_order_when_they_share_no_picture(client: TestClient, tmp_path: Path) -> None:
    folder = tmp_path / "sets" / "zk9"
    before = files_of(folder)
    made = [client.post("/api/doctor/cure", json={**cure, "folder": str(folder)}).json() for cure in CURES[:2]]
    for one in made:
        assert client.post("/api/doctor/undo", json={"folder": str(folder), "undo": one["undo"]}).status_code == 200
    assert files_of(folder) == before


WRONG = {
    "no such cure": ({"do": "delete", "pictures": named(0)}, 400, "do: "),
    "a picture that is not there": (aside(named(77)), 400, "77.png"),
    "a picture elsewhere": (aside(["../other/0.png"]), 400, "0.png"),
    "pictures that are no list": ({"do": "set_aside", "pictures": "all"}, 400, "pictures: "),
    "a picture that is no path": (aside(["a\0.png"]), 400, "pictures: "),
    "an argument of no cure": ({**aside(named(0)), "force": True}, 400, "force: "),
    "an argument of another kind": ({**aside(named(0)), "caption_extension": 3}, 400, "caption_extension: "),
    "no cure": ({"pictures": named(0)}, 400, "do: "),
}


@pytest.mark.parametrize("wish", WRONG.values(), ids=WRONG)
def test_what_cannot_be_done_is_said_and_changes_nothing(client: TestClient, tmp_path: Path, wish: Any) -> None:
    body, status, words = wish
    folder = tmp_path / "sets" / "zk9"
    draw(tmp_path / "sets" / "other")
    before = all_of(tmp_path / "sets")
    answer = client.post("/api/doctor/cure", json={**body, "folder": str(folder)})
    assert (answer.status_code, words in answer.json()["error"]) == (status, True), answer.text
    assert all_of(tmp_path / "sets") == before


def test_a_folder_elsewhere_is_not_touched(client: TestClient, tmp_path: Path) -> None:
    folder = draw(tmp_path / "elsewhere")
    before = all_of(folder)
    assert client.post("/api/doctor/cure", json={**CURES[0], "folder": str(folder)}).status_code == 403
    assert client.post("/api/doctor/undo", json={"folder": str(folder), "undo": CURES[0]}).status_code == 403
    inside = str(tmp_path / "sets" / "zk9")
    assert client.post("/api/doctor/undo", json={"folder": inside, "undo": None}).status_code == 400
    assert all_of(folder) == before


# The page


class Server:
    """The real routes on a free port, and a page with the element in the real look."""

    def __init__(self, folder: Path) -> None:
        self.settings = settings_in(folder, free_port())
        self.settings.runs.mkdir(parents=True)
        self.set = draw(folder / "sets" / "zk9")
        self.jobs = Jobs(self.settings, watch=False)
        self.jobs.pause(True)  # what is started waits: no engine is to run here
        site = [
            *api.routes(self.settings, self.jobs),
            *toolapi.routes(self.settings, self.jobs),
            *pictures.routes(self.settings),
            *doctor.routes(self.settings),
            page_of("likeness-doctor", "page.js", LOOKS),
        ]
        self.served = Served(site, self.settings.port)
        self.address = self.served.address

    def record(self, told: dict[str, Any]) -> RunFolder:
        """The run of a report, as the engine leaves it."""
        tree = {"job": JOB, "options": {"folder": told["folder"], "purpose": "character"}}
        run = RunFolder.make(self.settings.runs, f"{JOB}-{Path(told['folder']).name}", tree)
        run.event("start", job=JOB)
        run.event("progress", done=told["pictures"], total=told["pictures"], rate=None, left_s=None)
        write_json(run.path / "report.json", told)
        run.event("done", summary="Looked at.")
        run.write_pid(ended=1.0)
        return run

    def stop(self) -> None:
        """Ends it."""
        self.jobs.close()
        self.served.stop()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def show(server: Server, browser: Any) -> Iterator[Show]:
    """Opens the page with a data set chosen."""
    with showing(browser, server.address) as go:

        def chosen(width: int = 1280, query: str = "", folder: str | None = None) -> Any:
            name = str(server.set) if folder is None else folder
            return go(
                width, query,
                f"sessionStorage.getItem('likeness-data') || sessionStorage.setItem('likeness-data', '{name}')",
            )  # fmt: skip

        yield chosen


def texts(view: Any, selector: str) -> list[str]:
    return [text.strip() for text in view.locator(selector).all_text_contents()]


def card(view: Any, title: str) -> Any:
    return view.locator("article", has=view.get_by_role("heading", name=title))


@needs_browser
def test_the_report_says_what_to_do_first_and_why(server: Server, show: Show) -> None:
    server.record(report_on(server.set))
    view = show()
    view.locator(".ld-sum").wait_for()
    assert texts(view, ".ld-sum") == ["32 of 50"]
    assert texts(view, ".ld-score th") == ["Files", "Sharpness", "Variety", "Captions"]
    assert texts(view, ".ld-score td.ld-number") == ["10 of 10", "9 of 15", "8 of 15", "5 of 10"]
    assert view.get_by_text("50 points could not be judged").is_visible()
    assert texts(view, ".ld-first li") == [
        "Bad2 captions lack the trigger zk9", "Bad2 pictures are blurred", "Care3 near duplicates"
    ]  # fmt: skip
    assert texts(view, ".ld-finding .lk-pill") == ["Bad", "Bad", "Care", "Care", "Hint"]
    assert view.get_by_text("9 pictures x 24 repeats x 8 epochs / batch 2 = 864 steps").is_visible()
    assert texts(view, ".ld-legend li") == ["Close-up 75 %", "Half body 25 %", "Full body 0 %", "Unknown, of all 11 %"]
    widths = [segment.bounding_box()["width"] for segment in view.locator(".ld-shots i").all()]
    assert widths[0] / widths[1] == pytest.approx(3, rel=0.05) and widths[2] / sum(widths) == pytest.approx(0.111, 0.1)
    assert view.get_by_text("Read from the tags").is_visible()
    view.locator("summary", has_text="Buckets").click()
    assert texts(view, ".ld-buckets tbody tr") == [f"448 {TIMES} 57674 %", f"512 {TIMES} 51220 %"]
    assert texts(view, ".ld-lines li") == ["Faces: put a detector into the <b>models</b> folder"]
    assert re.search("looked at .* just now", view.locator(".ld-head header").text_content())


@needs_browser
def test_a_cure_is_made_undone_and_survives_a_reload(server: Server, show: Show) -> None:
    server.record(report_on(server.set))
    before = files_of(server.set)
    view = show()
    blurred = card(view, "2 pictures are blurred")
    blurred.get_by_label("Cure 7.png too").uncheck()
    assert files_of(server.set) == before  # nothing is cured without a press
    blurred.get_by_role("button", name="Set 1 aside").click()
    blurred.get_by_text("1 picture is set aside.").wait_for()
    assert files_of(server.set).keys() == before.keys() - {"10_zk9/6.png", "10_zk9/6.txt"}
    view.get_by_text("1 cure was made since this report").wait_for()
    assert texts(view, ".ld-first .lk-link")[1] == "3 near duplicates"
    trigger = card(view, "2 captions lack the trigger")
    trigger.get_by_role("button", name="Put zk9 first (2)").click()
    trigger.get_by_text("2 captions are changed.").wait_for()
    assert files_of(server.set)["10_zk9/0.txt"].startswith(b"zk9, ")

    view.reload()
    view.get_by_text("2 cures were made since this report").wait_for()
    assert texts(view, ".ld-done h4") == ["2 captions lack the trigger zk9", "2 pictures are blurred"]
    for undo in ("Undo: 1 picture is set aside.", "Undo: 2 captions are changed."):
        view.get_by_role("button", name=undo).click()
        view.get_by_role("button", name=undo).wait_for(state="detached")
    assert files_of(server.set) == before
    assert view.locator(".ld-stale").is_hidden() and view.locator(".ld-done").count() == 0
    assert blurred.get_by_role("button", name="Set 1 aside").is_enabled()  # the choice stays


@needs_browser
def test_what_takes_most_of_a_set_away_is_asked_for_twice(server: Server, show: Show) -> None:
    most = named(*range(6))
    people = finding("other_people", "bad", "6 pictures show other people", most, aside(most))
    server.record({**report_on(server.set), "findings": [people]})
    before = files_of(server.set)
    mine = card(show(), "6 pictures show other people")
    mine.get_by_role("button", name="Set 6 aside").click()
    really = mine.get_by_role("button", name="Really set 6 of 9 aside?")
    really.wait_for()
    assert files_of(server.set) == before
    really.click()
    mine.get_by_text("6 pictures are set aside.").wait_for()
    assert len(files_of(server.set)) < len(before)


@needs_browser
def test_another_of_a_group_is_kept(server: Server, show: Show) -> None:
    server.record(report_on(server.set))
    view = show()
    twice = card(view, "3 near duplicates")
    twice.wait_for()
    assert texts(view, ".ld-group .ld-kept .ld-name") == ["3.png", "2.png"]
    twice.get_by_role("button", name="Keep 5.png").click()
    twice.get_by_role("button", name="Keep 7.png").focus()
    view.keyboard.press("Enter")
    assert texts(view, ".ld-group .ld-kept .ld-name") == ["5.png", "7.png"]
    assert twice.get_by_role("button", name="Keep 5.png").get_attribute("aria-pressed") == "true"
    # The one that is kept may be taken away by another cure: the next of its group stays.
    card(view, "2 pictures are blurred").get_by_role("button", name="Set 2 aside").click()
    card(view, "2 pictures are blurred").get_by_text("2 pictures are set aside.").wait_for()
    assert texts(view, ".ld-group .ld-kept .ld-name") == ["5.png", "2.png"]
    twice.get_by_role("button", name="Keep the best of each group: set 2 aside").click()
    twice.get_by_text("2 pictures are set aside.").wait_for()
    assert sorted(path.name for path in (server.set / "10_zk9").glob("*.png")) == [f"{n}.png" for n in (0, 1, 2, 5, 8)]


@needs_browser
def test_every_cure_of_a_real_report_is_made_and_undone(server: Server, show: Show) -> None:
    place = server.set / "10_zk9"
    (place / "3.txt").write_text("zk9, " + ", ".join(f"very long tag number {number}" for number in range(40)))
    (place / "4.txt").unlink()
    (place / "5.jpg").write_bytes((place / "5.png").read_bytes())
    (place / "6.png").write_bytes((place / "6.png").read_bytes()[:100])
    found = report(Doctor(folder=str(server.set))).to_json()
    server.record(found)
    before = files_of(server.set)
    view = show()
    view.locator(".ld-sum").wait_for()
    assert view.locator("article").count() == len(found["findings"])
    pressed = set()
    for told in found["findings"]:
        for cure in told["cures"]:
            mine = card(view, told["title"])
            mine.locator(".lk-row .lk-button:not(.ld-open)").first.click()
            mine.get_by_role("button", name=re.compile("^(Undo|Really)")).first.wait_for()
            if (really := mine.get_by_role("button", name="Really")).count():  # most of the set
                really.click()
            mine.get_by_role("button", name="Undo").wait_for()
            assert files_of(server.set) != before, cure["do"]
            mine.get_by_role("button", name="Undo").click()
            mine.get_by_role("button", name="Undo").wait_for(state="detached")
            assert files_of(server.set) == before, cure["do"]
            pressed.add(cure["do"])
    assert pressed >= {"set_aside", "add_trigger", "write_missing", "truncate", "rename"}


@needs_browser
def test_a_refusal_is_told_at_its_finding(server: Server, show: Show) -> None:
    server.record(report_on(server.set))
    view = show()
    blurred = card(view, "2 pictures are blurred")
    blurred.wait_for()
    (server.set / "10_zk9" / "6.png").unlink()
    before = files_of(server.set)
    blurred.get_by_role("button", name="Set 2 aside").click()
    blurred.get_by_role("alert").get_by_text("6.png").wait_for()
    assert files_of(server.set) == before and view.locator(".ld-result").count() == 0


@needs_browser
def test_a_picture_is_looked_at_large_by_keys(server: Server, show: Show) -> None:
    server.record(report_on(server.set))
    view = show()
    view.get_by_role("button", name="Enlarge 6.png").focus()
    view.keyboard.press("Enter")
    words = view.locator("dialog p")
    assert words.inner_text().split("\n")[:2] == ["10_zk9/6.png", "sharpness 12, limit 40 · 1 of 2"]
    assert f"96 {TIMES} 144 pixels · sharpness 12" in words.inner_text()
    until(lambda: view.locator("dialog img").evaluate("picture => picture.naturalWidth") == 96)
    for key in ("ArrowRight", "ArrowRight"):  # the second has nowhere to go
        view.keyboard.press(key)
    assert words.inner_text().startswith("10_zk9/7.png")
    assert view.get_by_role("button", name="Next picture").get_attribute("aria-disabled") == "true"
    view.keyboard.press("ArrowLeft")
    assert words.inner_text().startswith("10_zk9/6.png")
    view.keyboard.press("Escape")
    until(lambda: view.locator("dialog").count() == 0)
    card(view, "3 near duplicates").get_by_role("button", name="Enlarge 4.png").click()
    view.get_by_role("button", name="Keep this one").click()
    view.keyboard.press("ArrowRight")  # the keys go on to work
    assert words.inner_text().startswith("10_zk9/5.png")
    view.keyboard.press("Escape")
    assert texts(view, ".ld-group .ld-kept .ld-name") == ["4.png", "2.png"]


@needs_browser
def test_findings_are_filtered_by_keys_and_opened_in_the_tag_editor(server: Server, show: Show) -> None:
    server.record(report_on(server.set))
    view = show()
    view.get_by_role("radio", name="All 5").focus()
    view.keyboard.press("ArrowRight")
    assert texts(view, "article:not([hidden]) h4") == ["2 captions lack the trigger zk9", "2 pictures are blurred"]
    view.locator(".ld-first").get_by_role("button", name="3 near duplicates").click()  # what is filtered out is shown
    until(lambda: view.evaluate("document.activeElement.textContent") == "3 near duplicates")
    assert view.locator("article:not([hidden])").count() == 5
    view.evaluate("addEventListener('likeness-open-tags', event => { window.told = event.detail })")
    view.evaluate("window.likeness = { tab() {} }")  # here are no tabs
    card(view, "red hat").get_by_role("button", name="Open in the tag editor").click()
    assert view.evaluate("window.told") == {"folder": str(server.set), "pictures": named(1, 2, 3, 8)}


@needs_browser
def test_look_again_repeats_the_job_with_its_options(server: Server, show: Show) -> None:
    server.record(report_on(server.set))
    view = show()
    view.get_by_role("button", name="Look again").click()
    view.locator("likeness-task .lk-pill", has_text=re.compile("Waiting|At work")).wait_for()
    line = server.jobs.tasks()[0]
    assert server.jobs.runs.config(line["id"])["options"]["purpose"] == "character"
    assert view.locator(".ld-sum").is_visible()  # the old report stays until the new one is there
    view.locator(".ld-old").wait_for()


@needs_browser
def test_each_folder_has_its_own_report(server: Server, show: Show) -> None:
    other = draw(server.set.parent / "other", 2)
    server.record(report_on(server.set))
    server.record({**report_on(other), "findings": [], "score": {"points": 100, "of": 100, "parts": []}})
    view = show()
    view.get_by_role("heading", name="zk9", exact=True).wait_for()
    view.get_by_role("textbox", name="Image folder").fill(f"{other}/")
    view.get_by_role("heading", name="other", exact=True).wait_for()
    assert view.locator(".ld-first h4").text_content() == "Nothing is left to do"
    view.get_by_role("textbox", name="Image folder").fill(str(server.set.parent))
    view.get_by_text("Nothing is changed until you press one").wait_for()
    assert view.locator(".ld-sum").count() == 0


@needs_browser
def test_a_folder_that_is_browsed_for_has_its_report_at_once(server: Server, show: Show) -> None:
    other = draw(server.set.parent / "other", 2)
    server.record(report_on(server.set))
    server.record({**report_on(other), "findings": [], "score": {"points": 100, "of": 100, "parts": []}})
    view = show()
    view.get_by_role("heading", name="zk9", exact=True).wait_for()
    view.evaluate(
        """addEventListener('likeness-folder', event => {
            window.told = [event.detail, document.querySelector('likeness-doctor').folder]
        })"""
    )
    view.get_by_role("button", name="Browse for Image folder").click()
    view.get_by_role("button", name="↑ up").click()
    view.get_by_role("button", name="other/").click()
    until(lambda: view.get_by_label("Path").input_value() == str(other))
    view.get_by_role("button", name="Choose this folder").click()
    view.get_by_role("heading", name="other", exact=True).wait_for()
    assert view.evaluate("window.told") == [str(other), str(other)]


@needs_browser
def test_without_a_report_the_page_says_what_the_doctor_does(server: Server, show: Show) -> None:
    view = show()
    view.get_by_text("The doctor looks at every picture and caption of a folder").wait_for()
    view.get_by_role("textbox", name="Image folder").wait_for()


CONTRAST = """
() => {
  const numbers = text => text.match(/[\\d.]+/g).map(Number)
  const whole = (value, place) => place < 3 ? 255 * value : value
  const parse = text => text.startsWith('color(') ? numbers(text).map(whole) : numbers(text)
  const mix = (a, b, part) => a * part + b * (1 - part)
  const over = ([r, g, b, alpha = 1], below) => [r, g, b].map((value, place) => mix(value, below[place], alpha))
  const linear = value => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4
  const light = rgb => rgb.reduce((sum, value, place) => sum + [0.2126, 0.7152, 0.0722][place] * linear(value / 255), 0)
  const colour = (node, name) => parse(getComputedStyle(node)[name])
  const behind = node => node ? over(colour(node, 'backgroundColor'), behind(node.parentElement)) : [255, 255, 255]
  const low = []
  for (const node of document.querySelectorAll('likeness-doctor *')) {
    const own = [...node.childNodes].some(child => child.nodeType === 3 && child.textContent.trim())
    if (!own || !node.checkVisibility() || node.closest(':disabled')) continue
    const back = behind(node), [a, b] = [light(over(colour(node, 'color'), back)), light(back)].sort((x, y) => y - x)
    const ratio = (a + 0.05) / (b + 0.05)
    if (ratio < 4.5) low.push(`${node.className || node.tagName} ${node.textContent.slice(0, 30)} ${ratio}`)
  }
  return low
}
"""
"""What is written too faint for its ground: below 4.5, as WCAG 2 has it."""


@needs_browser
@pytest.mark.parametrize("query", ["", "dark"], ids=["light", "dark"])
def test_everything_can_be_read_and_fits_a_phone(server: Server, show: Show, query: str) -> None:
    server.record(report_on(server.set))
    view = show(width=390, query=query)
    card(view, "2 pictures are blurred").get_by_role("button", name="Set 2 aside").click()
    view.locator(".ld-result").wait_for()
    view.locator(".ld-fold").evaluate_all("folds => folds.forEach(fold => { fold.open = true })")
    assert view.evaluate(CONTRAST) == []
    assert view.evaluate("document.documentElement.scrollWidth") == 390
    outside = "all => all.filter(one => one.getBoundingClientRect().right > innerWidth + 1).length"
    assert view.locator(".ld-report *").evaluate_all(outside) == 0


@needs_browser
def test_five_thousand_pictures_are_drawn_a_few_at_a_time(server: Server, show: Show) -> None:
    told = report_on(server.set)
    names = [f"10_zk9/{number}.png" for number in range(5000)]
    told["findings"] = [finding("blurred", "bad", "5000 pictures are blurred", names, aside(names))]
    server.record(told)
    view = show()
    view.get_by_role("button", name="Set 5,000 aside").wait_for()
    assert view.locator(".ld-cell").count() == 12
    view.get_by_role("button", name="Show 200 more of 4,988").click()
    assert view.locator(".ld-cell").count() == 212
