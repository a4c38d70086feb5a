"""The house rules, held by tests: which way imports point, how large things grow, and that docs tell the truth."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from trainer import options
from trainer.config import Config
from trainer.families import FAMILIES
from trainer.tree import leaves

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted([*(ROOT / "trainer").rglob("*.py"), *(ROOT / "webui").rglob("*.py"), ROOT / "launch.py"])
HEAVY = {"torch", "diffusers", "transformers", "peft", "accelerate", "bitsandbytes"}
TORCH_FREE = (
    *("trainer.config", "trainer.configio", "trainer.runfolder", "trainer.durable", "trainer.plan", "trainer.early"),
    *("trainer.data.folders", "trainer.data.captions", "trainer.data.buckets", "trainer.data.order"),
    *("trainer.data.pictures", "trainer.families.detect", "trainer.places", "trainer.draws", "trainer.errors"),
    *("trainer.ladder", "trainer.optimizer_kinds", "trainer.packed", "trainer.spill"),
    *("trainer.options", "trainer.__main__", "trainer.kohya", "trainer.dataset_toml", "trainer.advice", "trainer.tree"),
    *(f"trainer.compare.{name}" for name in ("options", "prompts", "samplers", "shelf", "plan", "sheet", "command")),
    *("trainer.tools.options", "trainer.tools.command", "trainer.tools.report"),
    *(
        f"trainer.verdict.{name}"
        for name in ("command", "diagnosis", "facial", "models", "noise", "options", "patience")
    ),
    *(f"trainer.verdict.{name}" for name in ("programs", "questions", "scores", "setting", "tagging", "use")),
    *("trainer.verdict.use_options", "trainer.verdict.verdict", "trainer.verdict.wording"),
    *("trainer.aside", "trainer.downloads", "trainer.flags", "trainer.jobs", "trainer.snapshots", "trainer.undo"),
    *(
        f"trainer.{room}.{path.stem}"
        for room in ("captioners", "doctor", "folders", "images", "sweep", "tags")
        for path in sorted((ROOT / "trainer" / room).glob("[!_]*.py"))
    ),
    *(f"webui.{path.stem}" for path in sorted((ROOT / "webui").glob("[!_]*.py"))),
    *(f"webui.tabs.{path.stem}" for path in sorted((ROOT / "webui" / "tabs").glob("[!_]*.py"))),
)
ROOMS = {
    "trainer.families": {"trainer.networks", "trainer.train"},
    "trainer.networks": {"trainer.train", "trainer.data", "trainer.families"},
    "trainer.data": {"trainer.networks", "trainer.train"},
    "trainer.config": {"trainer.families", "trainer.networks", "trainer.data", "trainer.train"},
    "trainer.objectives": {"trainer.families", "trainer.networks", "trainer.data", "trainer.train"},
}
"""Rooms, and the rooms that they must not import."""


def imports(path: Path) -> set[str]:
    """Names of all modules that a file imports, at the top or inside."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("path", SOURCES, ids=module)
def test_no_file_function_or_signature_outgrows_its_budget(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            assert length <= 80, f"{node.name} has {length} lines"
            assert len([p for p in parameters if p.arg not in ("self", "cls")]) <= 8, node.name


@pytest.mark.parametrize("path", SOURCES, ids=module)
def test_imports_point_one_way(path: Path) -> None:
    name, used = module(path), imports(path)
    if name.startswith("trainer"):
        assert not {use for use in used if use.split(".")[0] in ("gradio", "webui")}
    if name.startswith("webui"):
        assert not {use for use in used if use.split(".")[0] in HEAVY}
    for room, closed in ROOMS.items():
        if name.startswith(room):
            assert not {use for use in used for wall in closed if use == wall or use.startswith(f"{wall}.")}


def test_the_page_s_modules_bring_no_torch() -> None:
    """One process for all: a module that brings torch is named by bisecting only when the test fails."""
    code = f"""import importlib, sys
for name in {TORCH_FREE}:
    importlib.import_module(name)
    heavy = {HEAVY} & sys.modules.keys()
    assert not heavy, (name, heavy)"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_every_public_thing_says_what_it_gives() -> None:
    silent = []
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        for node in (tree, *(n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef))):
            name = getattr(node, "name", "")
            if not name.startswith("_") and not ast.get_docstring(node):
                silent.append(f"{module(path)}.{name}")
    assert not silent


def test_no_dangerous_call() -> None:
    """Nothing runs a shell, evaluates text, or unpickles more than tensors (threats of this field, by name)."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            assert name not in ("eval", "exec", "os.system", "os.popen", "pickle.load", "pickle.loads", "yaml.load"), (
                path
            )
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert keywords.get("shell") != "True", path
            if name == "torch.load":
                assert keywords.get("weights_only") == "True", path


def test_the_registry_of_families_is_the_schema_s() -> None:
    choices = Config.model_json_schema()["$defs"]["Model"]["properties"]["family"]["enum"]
    assert {"auto", *FAMILIES} == set(choices)


def test_the_page_of_options_is_up_to_date() -> None:
    told = (ROOT / "docs" / "options.md").read_text()
    assert told == options.document(), "run: python -m trainer.options > docs/options.md"
    torn = [line for line in told.splitlines() if line.startswith("|") and not line.endswith("|")]
    assert not torn, "a row of a table is one line"
    assert not [name for name, text in leaves() if "\n" in text], "and so is a help, in errors and on the page"
