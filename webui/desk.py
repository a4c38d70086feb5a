"""What is done with the form of a training: looking at it, filling, keeping, starting it. Knows nothing of Gradio."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from trainer.config import Config
from trainer.durable import DiskError, read_json, write_json
from trainer.errors import InputError
from trainer.kohya.learning import NO_SCHEDULE
from trainer.tree import absolute, check
from webui import form
from webui.configs import keep, open_file, open_preset, save, style_of
from webui.fields import FIELDS, variant_of
from webui.folders import prepare
from webui.form import at_fields
from webui.jobs import Jobs
from webui.layout import PICKS
from webui.methods import LORA, METHODS, method_of, types_of
from webui.planline import marks, notes_html, plan_html
from webui.planning import Outlook, Planner
from webui.settings import Settings
from webui.sweeps import begin, look

AGAIN = 700  # milliseconds after which the page asks again while pictures are opened
PATIENCE = 10.0  # seconds that Start waits for the pictures
DEFAULTS = "Defaults"
OWNERS = tuple(dict.fromkeys(shown.owner for shown in FIELDS.values() if shown.owner))


@dataclass
class Sheet:
    """What stands on the page, and what is to stand there next."""

    values: dict[str, Any]
    wire: Mapping[str, Any]
    path: str
    style: str
    run: str | None
    wish: Mapping[str, Any]
    tab: str = LORA
    kept: dict[str, Any] = field(default_factory=dict)  # what stands in the other tabs' forms
    outlook: Outlook = field(default_factory=Outlook)
    notes: list[str] = field(default_factory=list)
    mistakes: list[InputError] = field(default_factory=list)
    command: str = ""
    whole: bool = False  # every box is to be told, for what is asked may be older than what stands there
    more: dict[str, Any] = field(default_factory=dict)

    def state(self) -> str:
        """What the page's script is to do, and what it sends along: the tab, and the choices whose fields are seen."""
        variants = {owner: variant_of(owner, self.values) for owner in OWNERS}
        return json.dumps({"tab": self.tab, "variants": variants, **self.more})

    def said(self) -> tuple[str, str, str, str]:
        """The marks at the fields, the plan, the family, and what there is to say."""
        again = AGAIN if self.outlook.looking else 0
        at = marks(self.outlook.mistakes, form.changed(self.values), tab=self.tab, again=again)
        errors = [line for error in self.mistakes for line in str(error).splitlines()]
        said = notes_html(errors, "refused") + notes_html(self.notes) + self.command
        return at, plan_html(self.outlook), _family_html(self.outlook), said


class Desk:
    """Does what the page asks for."""

    def __init__(self, settings: Settings, jobs: Jobs) -> None:
        self.settings, self.jobs = settings, jobs
        self.planner = Planner(jobs)
        self._data = settings.data_dir

    def sheet(self, values: dict[str, Any], **more: Any) -> Sheet:
        """What stands on the page."""
        return Sheet(values, **more)

    # Looking

    def look(self, sheet: Sheet) -> None:
        """Finds what is wrong, and plans what is not."""
        config = self._read(sheet)
        if config:
            sheet.outlook = self.planner.outlook(config)
            self._keep(config, sheet.tab)

    def _read(self, sheet: Sheet) -> Config | None:
        """The config on the page with whole paths; None with the mistakes told."""
        try:
            tree = form.read(sheet.values).model_dump(mode="json")
            return check(absolute(tree, self.settings.data_dir), "form")
        except InputError as error:
            sheet.outlook = Outlook(mistakes=at_fields(error))
            return None

    def _draft(self, tab: str) -> Path:
        return self._data / ("form.json" if tab == LORA else f"form.{tab}.json")

    def _keep(self, config: Config, tab: str) -> None:
        """Keeps the settings for the next visit; they are worth no error when the disk is full."""
        try:
            write_json(self._draft(tab), config.model_dump(mode="json"))
        except DiskError:
            return

    def remember(self, sheet: Sheet) -> None:
        """The settings of the last visit, and the job that runs now."""
        sheet.values = self._last(sheet.tab)
        running = self.jobs.waiting()["running"]
        sheet.run = running[0] if running else None
        self.look(sheet)

    def _last(self, tab: str) -> dict[str, Any]:
        """What stood in a tab's form at the last visit; what it begins with when there was none."""
        draft = self._draft(tab)
        if draft.is_file():
            try:
                return form.write(check(read_json(draft), str(draft)))
            except (InputError, ValueError):
                draft.unlink()
        return fresh(tab)

    # Filling

    def turn(self, sheet: Sheet, tab: str) -> None:
        """Another tab was opened: the form shows what stood there, and keeps what stood here."""
        if tab in METHODS and tab != sheet.tab:
            _lay_aside(sheet, tab)
            sheet.values = sheet.kept.pop(tab, None) or self._last(tab)
        self.look(sheet)

    def choose(self, sheet: Sheet, name: str) -> None:
        """A variant of a union was chosen: its own values come with it."""
        owner = name.removesuffix(".type")
        before = dict(sheet.wire.get("variants") or {}).get(owner)
        if name.endswith(".type") and before and before != variant_of(owner, sheet.values):
            sheet.values = {**sheet.values, **form.switch(sheet.values, owner, before)}
            self._pair(sheet, owner)
        self.look(sheet)

    def _pair(self, sheet: Sheet, owner: str) -> None:
        """Adafactor without a rate and the schedule of its own go together."""
        optimizer, schedule = (variant_of(part, sheet.values) for part in ("optimizer", "schedule"))
        if owner == "optimizer" and optimizer in NO_SCHEDULE:
            return self._set_with(sheet, {"schedule.type": "constant", "schedule.warmup": 0})
        partner = "schedule" if owner == "optimizer" else "optimizer"
        if "adafactor" not in (optimizer, schedule) or optimizer == schedule:
            return
        if partner == "optimizer" and schedule != "adafactor":
            return  # a rate may be given to Adafactor, and then any schedule does
        word = "adafactor" if optimizer == "adafactor" or owner == "schedule" else "cosine"
        return self._set_with(sheet, {f"{partner}.type": word})

    def _set_with(self, sheet: Sheet, changes: dict[str, Any]) -> None:
        """Sets what belongs to a choice, and says so."""
        sheet.values = form.apply(sheet.values, changes)
        told = ((FIELDS[name], value) for name, value in changes.items())
        sheet.notes += [f"{shown.label} is set to {value} too: the two belong together." for shown, value in told]

    def fill(self, sheet: Sheet, config: Config, notes: list[str]) -> None:
        """Puts a config into the form, of the tab that trains its kind of network."""
        tab = method_of(config.network.type, sheet.tab)
        if tab != sheet.tab:
            _lay_aside(sheet, tab)
            sheet.kept.pop(tab, None)
            sheet.more["turn"] = True
        sheet.values, sheet.whole = form.write(config), True
        sheet.notes += notes
        self.look(sheet)

    def preset(self, sheet: Sheet, name: str | None) -> None:
        """A preset was chosen."""
        try:
            if name == DEFAULTS:
                sheet.values, sheet.whole = fresh(sheet.tab), True
                sheet.notes.append("All fields are at their defaults.")
                return self.look(sheet)
            loaded = open_preset(self.settings, str(name))
            self.fill(sheet, loaded.config, [f"{name} is loaded.", *loaded.changes])
        except InputError as error:
            sheet.mistakes.append(error)
            self.look(sheet)

    def pick(self, sheet: Sheet, name: str | None) -> None:
        """A base model was picked."""
        sheet.values = {**sheet.values, "model.base": name or ""}
        for shown, taken in PICKS:
            if taken == name and "/" in shown and shown != taken:
                sheet.notes.append(f"{shown} has moved: its present name {taken} is taken.")
        self.look(sheet)

    def load(self, sheet: Sheet) -> None:
        """Reads the configuration file that the path names."""
        try:
            file, loaded = open_file(self.settings, sheet.path)
            sheet.style = style_of(file)
        except InputError as error:
            sheet.mistakes.append(error)
            return self.look(sheet)
        sheet.path = str(file)
        self.fill(sheet, loaded.config, [f"{file.name} is loaded.", *loaded.changes])

    def save(self, sheet: Sheet) -> None:
        """Writes the configuration file; without a path the page's script asks for one."""
        config = self._read(sheet)
        if not sheet.path.strip():
            sheet.more["dialog"] = "save"
        elif config:
            try:
                found = self.planner.outlook(config).base
                file, lost = save(self.settings, sheet.path, config, sheet.style, found)
                sheet.path = str(file)
                sheet.notes += [f"Saved to {file}.", *lost]
            except InputError as error:
                sheet.mistakes.append(error)
        self.look(sheet)

    def prepare(self, sheet: Sheet) -> None:
        """Builds the folders of the Kohya GUI, and fills the fields with them."""
        try:
            made = prepare(dict(sheet.wish), self.settings)
        except InputError as error:
            sheet.mistakes.append(error)
            return self.look(sheet)
        names = {"data.images": "images", "data.reg": "reg", "output.folder": "output", "output.logging": "logging"}
        sheet.values = form.apply(sheet.values, {name: made[key] for name, key in names.items()})
        sheet.notes.append(f"{made['copied']} pictures are in {made['images']}.")
        self.look(sheet)

    def asked(self, sheet: Sheet, ask: Mapping[str, Any]) -> None:
        """What the page's script asks for: {"do": "set" | "reset" | "turn" | "look" | "open" | ...}."""
        match ask.get("do"):
            case "set":
                known = {name: value for name, value in ask["changes"].items() if name in FIELDS}
                sheet.values = form.apply(sheet.values, known)
            case "turn":
                return self.turn(sheet, str(ask["to"]))
            case "reset" if ask.get("name") in FIELDS:
                meaning = FIELDS[ask["name"]].meaning(sheet.values)
                if meaning:
                    sheet.values = form.apply(sheet.values, {ask["name"]: meaning.default})
            case "open":
                try:
                    file, secrets = keep(self.settings, str(ask["name"]), str(ask["text"]))
                except InputError as error:
                    sheet.mistakes.append(error)
                    return self.look(sheet)
                sheet.path = str(file)
                self.load(sheet)
                sheet.notes += [f"{name} is left behind: secrets are never kept." for name in secrets]
                return
            case "load" | "save":
                sheet.path = str(ask["file"])
                return self.load(sheet) if ask["do"] == "load" else self.save(sheet)
        self.look(sheet)

    # Jobs

    def start(self, sheet: Sheet) -> None:
        """Starts the training, unless something is known to be wrong."""
        config = self._read(sheet)
        if config is None:
            return
        sheet.outlook = self.planner.outlook(config, PATIENCE)
        if sheet.outlook.mistakes:
            return
        try:
            sheet.run = self.jobs.start(config)
        except InputError as error:
            sheet.mistakes.append(error)
        else:
            sheet.more["start"] = sheet.run

    def sweep(self, sheet: Sheet, start: bool = False) -> None:
        """Counts the runs of the sweep that is described, or puts them into the queue."""
        self.look(sheet)
        config = self._read(sheet)
        if config is None:
            return
        try:
            sheet.notes += look(config, sheet.wish, self.planner)
            if start:
                sheet.notes = [begin(config, sheet.wish, self.jobs)]
        except InputError as error:
            sheet.mistakes.append(error)

    def stop(self, sheet: Sheet) -> None:
        """Stops the job that is shown: it saves and ends; a second time terminates, a third kills."""
        waiting = self.jobs.waiting()
        running = waiting["running"]
        run = sheet.run or next(iter(running), "")
        if run in waiting["order"]:
            sheet.notes.append(f"{run} waits in the queue and does not train yet; Cancel is in Runs.")
        elif run in running:
            sheet.run = run
            try:
                sheet.notes.append(f"{run}: {self.jobs.command(run, 'stop')}.")
            except InputError as error:
                sheet.mistakes.append(error)
        elif running:
            sheet.notes.append(f"{run} does not train now. What trains is {', '.join(running)}; stop it in Runs.")
        else:
            sheet.notes.append("No training runs.")
        self.look(sheet)

    def print_command(self, sheet: Sheet) -> None:
        """The command that trains the same, with a file of what differs from the defaults."""
        self.look(sheet)
        config = self._read(sheet)
        if config is None:
            return
        name = f"{config.output.name}.json"
        text = json.dumps(_differing(config), indent=2, ensure_ascii=False)
        sheet.command = (
            '<div class="command"><p>In the folder of launch.py, with the settings below saved as '
            f"<code>{escape(name)}</code>:</p>{_block(f'python launch.py train {_quoted(name)}')}{_block(text)}</div>"
        )


def fresh(tab: str) -> dict[str, Any]:
    """What a tab's form begins with."""
    return form.apply(form.write(Config()), {"network.type": types_of(tab)[0], **METHODS[tab].start})


def _lay_aside(sheet: Sheet, tab: str) -> None:
    """Keeps what stands in the form, right or wrong, while another tab has it."""
    sheet.kept = {**sheet.kept, sheet.tab: sheet.values}
    sheet.tab, sheet.whole = tab, True


def _differing(config: Config) -> dict[str, Any]:
    """Only what is not at its default, as a file needs it: a part whose type differs is whole."""
    plain = Config().model_dump(mode="json")

    def walk(tree: Any, below: Any) -> Any:
        told = {}
        for name, value in tree.items():
            old = below.get(name)
            if value == old:
                continue
            if isinstance(value, dict) and isinstance(old, dict) and value.get("type") == old.get("type"):
                told[name] = walk(value, old)
            else:
                told[name] = value
        return told

    return {"version": config.version, **walk(config.model_dump(mode="json"), plain)}


def _quoted(name: str) -> str:
    return f'"{name}"' if " " in name else name


def _block(text: str) -> str:
    return f'<pre tabindex="0"><button type="button" data-copy>Copy</button><code>{escape(text)}</code></pre>'


def _family_html(told: Outlook) -> str:
    """What the base model is, in a line."""
    title = f"<b>{escape(told.base.title)}</b>" if told.base else ""
    said = escape("; ".join(told.base_said))
    return f'<p class="family">{" · ".join(filter(None, (title, said)))}</p>' if title or said else ""
