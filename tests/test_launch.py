"""launch.py: when .venv is good, what is installed, what is run. Nothing uses the network."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import launch
from trainer.launcher import LaunchError
from trainer.launcher.install import Steps, brief, check_room, ensure, failure, install
from trainer.launcher.venv import Venv

FILES = [launch.ROOT / "launch.py", *(launch.ROOT / "trainer" / "launcher").glob("*.py")]

# The state of .venv


class FakeSteps(Steps):
    """Notes commands in place of running them; ends with `error` at the step whose title begins with `breaks`."""

    def __init__(self, venv: Venv, index: bool = True, breaks: str = "none") -> None:
        super().__init__(venv, lock=0, total=5)
        self.index, self.breaks, self.titles, self.commands = index, breaks, [], []

    def ask(self, command: list[str], **env: str) -> tuple[int, str]:
        assert "--dry-run" in command and env["UV_HTTP_RETRIES"] == "0"
        return (0, "") if self.index else (2, "error: Failed to fetch\n  cause: Name or service not known\n")

    def do(self, title: str, command: list[str], own_bars: bool = False) -> str:
        self.titles.append(title)
        self.commands.append(command)
        if title == "Making .venv":
            self.venv.python.parent.mkdir(parents=True)
            self.venv.python.symlink_to(sys.executable)
        if title.startswith(self.breaks):
            raise KeyboardInterrupt
        return "PyTorch 2.13.0+cpu runs on cpu"


@pytest.fixture
def venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Venv:
    """A project on a machine without GPU, before its first start."""
    (tmp_path / "pyproject.toml").write_bytes((launch.ROOT / "pyproject.toml").read_bytes())
    monkeypatch.setenv("LIKENESS_TORCH", "cpu")
    return Venv(tmp_path)


@pytest.fixture
def ready(venv: Venv) -> Venv:
    install(venv, "make", FakeSteps(venv))
    assert venv.look() == ("use", "")
    return venv


def test_first_start(venv: Venv) -> None:
    assert venv.look()[0] == "make"
    steps = FakeSteps(venv)
    install(venv, "make", steps)
    assert len(steps.titles) == 5
    uv, libraries = steps.commands[2:4]
    assert uv[:6] == [str(venv.python), "-m", "uv", "pip", "install", "--python"]
    assert uv[uv.index("--torch-backend") + 1] == "cpu" and "torch==2.13.0" in uv
    assert libraries[-2:] == ["--editable", ".[test]"]


def test_the_last_torch_with_cuda_12_8(venv: Venv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKENESS_TORCH", "cu128")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1e12))
    steps = FakeSteps(venv)
    install(venv, "make", steps)
    assert "torch==2.11.0" in steps.commands[2]


def test_without_the_index_of_builds_pip_takes_over_aloud(venv: Venv, capsys: pytest.CaptureFixture[str]) -> None:
    steps = FakeSteps(venv, index=False)
    install(venv, "make", steps)
    assert steps.commands[2] == [str(venv.python), "-m", "pip", "install", "--progress-bar", "raw", "torch==2.13.0"]
    said = capsys.readouterr().err
    assert "cpu builds cannot be used (cause: Name or service not known)" in said and "usual package index" in said


def test_a_build_that_uv_does_not_know_is_refused(venv: Venv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeSteps, "ask", lambda *_, **__: (2, "error: invalid value 'cu999' for '--torch-backend'"))
    with pytest.raises(LaunchError, match="cu999"):
        install(venv, "make", FakeSteps(venv))


@pytest.mark.parametrize("breaks", ["Making", "Fetching", "Installing torch", "Installing Likeness", "Trying"])
def test_an_install_stopped_at_any_step_is_noticed_and_mended(venv: Venv, breaks: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        install(venv, "make", FakeSteps(venv, breaks=breaks))
    (venv.folder / "half-a-package").touch()
    action, why = venv.look()
    assert action == "rebuild" and "did not finish" in why
    install(venv, action, FakeSteps(venv))
    assert venv.look()[0] == "use" and not (venv.folder / "half-a-package").exists()


def test_new_dependencies_are_installed_into_the_old_venv(ready: Venv, monkeypatch: pytest.MonkeyPatch) -> None:
    pyproject = ready.root / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace("[tool.ruff]", "[tool.ruff]\n# not a dependency"))
    assert ready.look()[0] == "use"
    pyproject.write_text(pyproject.read_text().replace("tqdm>=", "tqdm!=1,>="))
    assert ready.look()[0] == "update"
    monkeypatch.delenv("LIKENESS_TORCH")
    monkeypatch.setattr("trainer.launcher.install.choose", lambda: pytest.fail("the build that is there stays"))
    steps = FakeSteps(ready)
    install(ready, "update", steps)
    assert "Making .venv" not in steps.titles and ready.look()[0] == "use" and ready.backend() == "cpu"


def test_a_moved_project_is_installed_again(ready: Venv, tmp_path_factory: pytest.TempPathFactory) -> None:
    moved = ready.root.rename(tmp_path_factory.mktemp("elsewhere") / "likeness")
    assert Venv(moved).look()[0] == "update"


def test_a_python_that_is_gone_or_another_is_noticed(ready: Venv) -> None:
    ready.python.unlink()
    assert ready.look() == ("rebuild", "The Python in .venv no longer runs")
    ready.python.symlink_to("/nowhere/python3")
    assert ready.look()[0] == "rebuild"
    ready.python.unlink()
    ready.python.write_text("#!/bin/sh\necho 3.99.0\n")
    ready.python.chmod(0o755)
    assert ready.look() == ("rebuild", "The Python in .venv has become 3.99.0")


@pytest.mark.parametrize("stamp", ["", '{"state": "rea', "[]", '{"state": "installing"}', '{"state": "ready"}'])
def test_a_stamp_that_says_nothing_is_no_stamp(ready: Venv, stamp: str) -> None:
    ready.stamp.write_text(stamp)
    assert ready.look()[0] == "rebuild"


def test_another_build_can_be_asked_for(ready: Venv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKENESS_TORCH", "cu126")
    assert ready.look()[0] == "rebuild"
    monkeypatch.delenv("LIKENESS_TORCH")
    assert ready.look()[0] == "use"  # the next start need not name it again


def test_a_venv_of_someone_else_is_moved_away_not_deleted(venv: Venv) -> None:
    venv.folder.mkdir()
    (venv.folder / "theirs").touch()
    action, _ = venv.look()
    assert action == "aside"
    install(venv, action, FakeSteps(venv))
    assert venv.look()[0] == "use" and len(list(venv.root.glob(".venv-old-*/theirs"))) == 1


def test_a_later_start_runs_nothing(ready: Venv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.launcher.install.install", lambda *_: pytest.fail("installed again"))
    ensure(ready)
    assert not (ready.root / ".venv.lock").exists()


@pytest.mark.skipif(os.name == "nt", reason="only POSIX hands the lock down to the running step")
def test_two_starts_do_not_install_at_once(venv: Venv, capsys: pytest.CaptureFixture[str]) -> None:
    """The lock of a start that is killed goes over to the next one, but not before its running step has ended."""
    venv.folder.mkdir()
    done = venv.folder / "done"
    step = f"import pathlib, time; time.sleep(1); pathlib.Path({str(done)!r}).touch()"
    code = f"""
import sys
from pathlib import Path
from trainer.launcher.install import Steps
from trainer.launcher.venv import Venv

venv = Venv(Path({str(venv.root)!r}))
with venv.alone() as lock:
    Steps(venv, lock, total=1).do("Sleeping", [sys.executable, "-c", {step!r}])
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=launch.ROOT, stderr=subprocess.PIPE, text=True) as other:
        assert other.stderr and other.stderr.readline() == "[1/1] Sleeping\n"
        time.sleep(0.2)
        other.kill()
    with venv.alone():
        assert done.exists()
    assert f"Another start (process {other.pid}) is installing" in capsys.readouterr().err


# The steps of an install


def test_a_step_is_logged_shown_and_gives_its_last_line(venv: Venv, capsys: pytest.CaptureFixture[str]) -> None:
    venv.folder.mkdir()
    with venv.alone() as lock:
        steps = Steps(venv, lock, total=1)
        talk = "print('one'); print('Progress 1 of 2'); print('two')"
        assert steps.do("Talking", [sys.executable, "-c", talk]) == "two"
    assert venv.log.read_text() == "one\ntwo\n"
    assert re.fullmatch(r"\[1/1\] Talking\n      done in \d+ s\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("output", "code", "said"),
    [
        ("Retrying after connection broken by NewConnectionError", 2, "network"),
        ("OSError: [Errno 28] No space left on device", 2, "disk is full"),
        ("ensurepip is not available", 2, "python3-venv"),
        ("ERROR: No matching distribution found for torch==2.13.0", 2, "64-bit Python"),
        ("something else", 1, "something else"),
    ],
)
def test_a_failed_step_says_what_to_do(venv: Venv, output: str, code: int, said: str) -> None:
    venv.folder.mkdir()
    with venv.alone() as lock, pytest.raises(LaunchError, match=said) as error:
        Steps(venv, lock, total=1).do("Failing", [sys.executable, "-c", f"print({output!r}); raise SystemExit(3)"])
    assert error.value.code == code and str(venv.log) in str(error.value)


def test_a_full_disk_is_seen_before_anything_is_removed(ready: Venv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=5e9))
    check_room(ready.root, "cpu")
    monkeypatch.setenv("LIKENESS_TORCH", "cu130")
    with pytest.raises(LaunchError, match=r"10 GB.*5\.0 GB"):
        install(ready, "rebuild", FakeSteps(ready))
    assert ready.python.exists()


def test_what_is_shown_of_pip() -> None:
    shown = brief("  Downloading https://host/some/peft-0.21.2-py3-none-any.whl (500 kB)\n", "")
    assert shown == "Downloading peft-0.21.2-py3-none-any.whl (500 kB)"
    assert brief("Progress 250 of 1000\n", shown) == f"{shown}: 25 %"
    assert brief("Progress 500 of 1000\n", f"{shown}: 25 %") == f"{shown}: 50 %"
    assert brief("Installing collected packages: a, b, c\n", shown) == "Writing 3 packages"
    assert brief("Collecting torch>=2 (from x->y)\n", shown) == "Collecting torch>=2"
    assert brief("WARNING: anything\n", shown) == shown


def test_the_network_is_blamed_before_the_missing_build(venv: Venv) -> None:
    """Without network pip says both."""
    both = ["after connection broken by ...", "ERROR: No matching distribution found for uv"]
    assert "network" in str(failure("Fetching", 1, both, venv))


# What is run

Run = Callable[..., list[str] | int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """main(), with the command that the process would become in place of its exit code."""
    became: list[list[str]] = []
    monkeypatch.setattr(launch, "ensure", lambda venv: None)
    monkeypatch.setattr(launch, "become", lambda command: became.append(command) or 0)

    def main(*words: str) -> list[str] | int:
        code = launch.main(list(words))
        return became[-1] if became else code

    return main


@pytest.mark.parametrize("word", launch.WORDS)
def test_words_go_to_the_engine(run: Run, word: str) -> None:
    python = str(launch.VENV.python)
    assert run(word, "a b", "--help") == [python, "-P", "-m", "trainer", word, "a b", "--help"]


def test_all_else_goes_to_the_page(run: Run) -> None:
    page = [str(launch.VENV.python), "-P", "-m", "webui"]
    assert run() == page
    assert run("--port", "8000", "--listen") == [*page, "--port", "8000", "--listen"]
    assert run("page", "--help") == [*page, "--help"]


def test_words_that_do_not_exist(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("tain") == 2
    assert "There is no 'tain'" in capsys.readouterr().err


def test_help_and_check_install_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(launch, "ensure", lambda venv: pytest.fail("installed"))
    monkeypatch.setenv("LIKENESS_TORCH", "cpu")
    assert launch.main(["--help"]) == launch.main(["--check"]) == 0
    out, err = capsys.readouterr()
    assert "python launch.py test" in out and "build cpu: LIKENESS_TORCH asks for it" in err


@pytest.mark.parametrize("fails", [None, "format"])
def test_test_runs_the_checks_and_ends_with_pytest(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fails: str | None,
) -> None:
    checks: list[list[str]] = []

    def check(command: list[str], env: dict[str, str]) -> SimpleNamespace:
        checks.append(command[4:])
        return SimpleNamespace(returncode=3 if fails in command else 0)

    monkeypatch.setattr(launch.subprocess, "run", check)
    monkeypatch.chdir(launch.ROOT)
    result = run("test", "-k", "buckets")
    if fails:
        assert result == 3 and len(checks) == 2
        assert "ruff format --check . failed (exit code 3)" in capsys.readouterr().err
    else:
        assert checks == [["check", "."], ["format", "--check", "."], ["check"]]
        assert result == [*launch.MODULE, "pytest", "-k", "buckets"]


def test_errors_are_one_message_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(error: BaseException) -> int:
        monkeypatch.setattr(launch, "ensure", lambda venv: (_ for _ in ()).throw(error))
        return launch.main(["train"])

    assert fail(LaunchError("no")) == 2
    assert fail(LaunchError("no", code=1)) == 1
    assert fail(PermissionError(13, "Permission denied", ".venv")) == 2
    assert fail(KeyboardInterrupt()) == 130
    assert "mended by the next start" in capsys.readouterr().err


def test_the_environment_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep + "/somewhere")  # an empty part means the current folder
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    env = launch.child_env()
    assert "PYTHONPATH" not in env and env["OMP_WAIT_POLICY"] == "active" and env["PYTHONUNBUFFERED"] == "1"


def test_a_module_planted_in_the_current_folder_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('planted')")
    command = [sys.executable, *launch.MODULE[1:], "base64", "-t"]
    assert subprocess.run([*command[:-2], "json.tool", "--help"], cwd=tmp_path, env=launch.child_env()).returncode == 0


def test_an_old_python_is_told_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 13))
    assert launch.main(["train"]) == 2
    assert "Python 3.11 or newer" in capsys.readouterr().err


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_standard_library_only_and_readable_by_python_3_8(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 8))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names | {"trainer"}
