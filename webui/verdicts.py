"""The routes of the verdict: what can be compared, the form, the count before the start, and what came of it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from itertools import islice, pairwise
from pathlib import Path
from statistics import median
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from trainer.compare.shelf import words_beside
from trainer.durable import read_json
from trainer.errors import InputError
from trainer.runfolder import Event
from trainer.tree import validate
from trainer.verdict.options import Compare
from trainer.verdict.questions import questions_of
from trainer.verdict.scores import MEASURES
from trainer.verdict.setting import setting_of
from trainer.verdict.wording import TITLES
from webui import modelshelf
from webui.browse import inside
from webui.jobs import Jobs
from webui.routing import Tree, route
from webui.runs import Facts, Missing
from webui.settings import Settings
from webui.tasks import config_of
from webui.toolform import form_of, keep, options_of

JOB, USE, FILE = "compare.verdict", "lora.use", "verdict.json"
OF_RUN = ("folder", "data", "base", "trigger", "prompts", "contradicting", "plain")
"""What belongs to one run, and is not kept for the next."""
OF_FILE = ("file", "strength", "name", "trigger", "preview", "negative", "description", "notes", "overwrite")
"""What belongs to one LoRA; the folders of the programs are kept."""
LOSSES = {
    "train_loss": "the mean loss of the last steps on the pictures that were trained on",
    "held_out_loss": "the loss on pictures that were kept out of the training",
    "gap": "how far the held-out loss is above the training loss, as a share of it",
}
WAITS = ("queued", "running")
MOST_LEARNT = 5  # comparisons whose pace is looked at, the newest first
_counting = threading.Lock()  # so that a data set is not read once for each key that is pressed


def routes(settings: Settings, jobs: Jobs) -> list[Route]:
    """`/api/verdicts` and what is below it; folders are those that the page may use."""
    api = _Api(settings, jobs)
    return [
        route("/api/verdicts", GET=lambda request, body: runs_of(jobs), POST=api.start),
        route("/api/verdicts/form", GET=lambda request, body: form(settings)),
        route("/api/verdicts/use", GET=api.use),
        route("/api/verdicts/count", POST=api.count),
        route("/api/verdicts/one", GET=api.one),
    ]


class _Api:
    """The routes that need more than a line."""

    def __init__(self, settings: Settings, jobs: Jobs) -> None:
        self.settings, self.jobs = settings, jobs

    def start(self, request: Request, body: Tree) -> Tree:
        """{"values": what stands in the form} -> {"id"} of the job; what it would draw is checked before."""
        values = _values(body)
        options = self._options(values)
        count(options, self.jobs)
        run = self.jobs.do(JOB, options.model_dump(mode="json"))
        keep(self.settings, JOB, {name: value for name, value in values.items() if name not in OF_RUN})
        return {"id": run}

    def count(self, request: Request, body: Tree) -> Tree:
        """{"values"} -> webui.verdicts.count."""
        return count(self._options(_values(body)), self.jobs)

    def one(self, request: Request, body: Tree) -> Tree:
        """?folder=&stamp=: what is known of a folder; `told` only when the stamp is another than the asker's."""
        folder = inside(request.query_params.get("folder", ""), self.settings.roots, "folder")
        return one(self.jobs, folder, request.query_params.get("stamp", ""))

    def use(self, request: Request, body: Tree) -> Tree:
        """?file=: webui.verdicts.use_form, with "words": the new words that lie beside this LoRA."""
        file = inside(request.query_params.get("file", ""), self.settings.roots, "file")
        return {**use_form(self.settings), "words": [*words_beside(file)]}

    def _options(self, values: Mapping[str, Any]) -> Compare:
        return validate(Compare, config_of(JOB, options_of(JOB, values), self.settings)["options"])


def form(settings: Settings) -> Tree:
    """The form of a comparison as webui.toolform tells it, with "measures" for the table that comes of it:
    {name: {"title", "about", "good", "loss"}}."""
    made = form_of(settings, JOB)
    fields = {field["name"]: field for group in made["groups"] for field in group["fields"]}
    made["values"] |= {name: fields[name]["default"] for name in OF_RUN}
    fields["base"]["offers"] = [("The run's own", ""), *modelshelf.bases(settings)]
    measures = {
        name: {"title": one.title, "about": one.about, "good": one.good, "loss": False}
        for name, one in MEASURES.items()
    }
    for name, about in LOSSES.items():
        measures[name] = {"title": TITLES[name], "about": about, "good": False, "loss": True}
    return {**made, "measures": measures}


def use_form(settings: Settings) -> Tree:
    """The form of "Use this one", with the folders of the programs as they were given last."""
    made = form_of(settings, USE)
    fields = {field["name"]: field for group in made["groups"] for field in group["fields"]}
    fields["save_to"]["path"] = "folder"  # of other tools it is a file
    made["values"] |= {name: fields[name]["default"] for name in OF_FILE}
    return made


def runs_of(jobs: Jobs) -> list[Facts]:
    """What can be compared, the newest first: trainings that have files, then other folders that were compared.

    Each {"folder", "name", "base", "files": how many, "created", "state", "verdict": when there was one, or None,
    "busy": whether a comparison of it waits or works}.
    """
    tasks = [line for line in jobs.tasks() if line["job"] == JOB]
    busy = {line["about"]["folder"] for line in tasks if line["state"] in WAITS}
    found: list[Facts] = []
    for line in jobs.lines():
        if line["files"]:
            folder = jobs.runs.folder(line["id"]).path
            facts = {"id": line["id"], "name": line["name"], "base": line["about"]["base"], "state": line["state"]}
            found.append({**facts, "files": len(line["files"]), "created": line["created"], "folder": str(folder)})
    known = {line["folder"] for line in found}
    others = dict.fromkeys(line["about"]["folder"] for line in tasks if line["about"]["folder"] not in known)
    for folder in filter(None, others):
        if (path := Path(folder)).is_dir():
            facts = {"id": None, "name": path.name, "base": None, "state": "done", "files": None}
            found.append({**facts, "created": path.stat().st_mtime, "folder": folder})
    return [{**line, "verdict": _when(Path(line["folder"])), "busy": line["folder"] in busy} for line in found]


def one(jobs: Jobs, folder: Path, known: str = "") -> Facts:
    """The comparison of a folder: {"folder", "name", "output": what the run calls its LoRA, "job": the newest job on it
    or None, "stamp", "told": verdict.json, or {"rows", "asked", "reference", "live": true} of what the job has told so
    far, or the training itself (trainer.verdict.live), or None}.

    `told` is left out when the asker knows it: `known` is the stamp that came with it.
    """
    if not folder.is_dir():
        raise Missing(f"folder: {folder} is not there; it may have been moved to the trash")
    job = next((line for line in jobs.tasks() if line["job"] == JOB and line["about"]["folder"] == str(folder)), None)
    when = _when(folder)
    newer = job is not None and (job["state"] in WAITS or when is None or job["created"] > when)
    teller = job["id"] if job and newer else ""
    news = _news(jobs, teller)
    if not news and when is None and _is_run(jobs, folder):
        news = _news(jobs, teller := folder.name)
    told: Facts = {"folder": str(folder), "job": job, **_run_of(jobs, folder)}
    told["stamp"] = f"{teller} {len(news)}" if news else f"{when}" if when else ""
    if told["stamp"] == known:
        return told
    return {**told, "told": live(news) if news else _read(folder)}


def live(events: list[Event]) -> Facts:
    """What a comparison that is under way has told: the newest row of each candidate, in the order of coming."""
    rows: dict[Any, Facts] = {}
    found: Facts = {"asked": [], "reference": {"pictures": []}, "verdict": None, "notes": [], "live": True}
    for event in events:
        if event["kind"] == "score":
            row = event["row"]
            rows[row["file"], row["strength"]] = row
        elif event["kind"] == "asked":
            found["asked"] = event["asked"]
        else:
            found["reference"] = {"label": "no LoRA", "pictures": event["pictures"]}
    return {**found, "rows": list(rows.values())}


def count(options: Compare, jobs: Jobs) -> Facts:
    """What would be drawn: {"files", "pictures", "seconds": about, or None, "trigger"}.

    InputError for what does not fit, with its field first.
    """
    with _counting:
        setting = setting_of(options)
        asked = Counter(str(one.kind) for one in questions_of(setting.topic, setting.captions, options.questions))
    given = {"subject": options.prompts, "contradicting": options.contradicting, "plain": options.plain}
    each = options.seeds * sum(len(own) or asked[kind] for kind, own in given.items())
    files, strengths = len(setting.files), len(setting.strengths(options.strengths))
    finals = min(files, options.finalists) * (strengths - 1)
    averages = strengths * setting.averages(options.average, files)
    pictures, rate = each * (1 + files + finals + averages), pace(jobs, options)  # the base model alone draws them too
    seconds = rate * pictures if rate else None
    return {"files": files, "pictures": pictures, "seconds": seconds, "trigger": setting.topic.trigger}


def pace(jobs: Jobs, options: Compare) -> float | None:
    """Seconds for a picture, by the newest comparisons on the same base model in the same size; None without one."""
    base = _base_of(jobs, options.folder, options.base)
    for line in islice((line for line in jobs.tasks() if line["job"] == JOB), MOST_LEARNT):
        try:
            before = validate(Compare, jobs.runs.config(line["id"]).get("options"))
        except InputError:  # of another version
            continue
        if _base_of(jobs, before.folder, before.base) != base or before.size != options.size:
            continue
        events = [event for event in jobs.runs.story(line["id"]).events if event["kind"] in ("reference", "score")]
        took = [
            (later["time"] - earlier["time"]) / max(1, len(later["row"]["pictures"]))
            for earlier, later in pairwise(events)
            if later["kind"] == "score"
        ]
        if took:
            return median(took) * _work(options) / _work(before)
    return None


def _work(options: Compare) -> float:
    """How much there is to do for a picture; guidance reads it twice."""
    return options.steps * (2 if options.cfg > 1 else 1)


def _base_of(jobs: Jobs, folder: str, given: str | None) -> str:
    """The base model that is drawn with."""
    if given:
        return given
    path = Path(folder)
    model = jobs.runs.config(path.name).get("model") if jobs.runs.root == path.parent else None
    return str((model or {}).get("base") or "")


def _run_of(jobs: Jobs, folder: Path) -> Facts:
    """What a folder is called, and its LoRA."""
    if not _is_run(jobs, folder):
        return {"name": folder.name, "output": ""}
    line = jobs.runs.line(folder.name)
    return {"name": line["name"], "output": line["name"] if not line["job"] else ""}


def _is_run(jobs: Jobs, folder: Path) -> bool:
    return folder.parent == jobs.runs.root and (folder / "config.json").is_file()


def _news(jobs: Jobs, run: str) -> list[Event]:
    """What a run has told of a comparison; nothing for no run."""
    events = jobs.runs.story(run).events if run else []
    return [event for event in events if event.get("kind") in ("asked", "reference", "score")]


def _when(folder: Path) -> float | None:
    """When a folder got its verdict, in unix seconds."""
    try:
        return (folder / FILE).stat().st_mtime
    except OSError:
        return None


def _read(folder: Path) -> Facts | None:
    """verdict.json; None when there is none; InputError when it is broken."""
    try:
        told = read_json(folder / FILE)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / FILE}: cannot be read ({error}); compare the files once more") from None
    if not isinstance(told, dict) or not isinstance(told.get("rows"), list):
        raise InputError(f"{folder / FILE}: holds no comparison; compare the files once more")
    return told


def _values(body: Tree) -> Mapping[str, Any]:
    if not isinstance(values := body.get("values"), dict):
        raise InputError("values: give what stands in the form, as an object")
    return values
