"""Exit code 1 means `differs` and nothing else: an error that nobody foresaw is 4, one line, and a log, in every command."""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import PATIENCE
from reprotui.cli import build_parser

FAILING = """
import sys, threading
import reprotui.cli as cli
from reprotui.cli import {modules}

def fails(*_, **__):
    raise KeyError("a[/b]\\x1b[31m\\nend")

for module in ({modules},):
    names = "call list_ verify diff register sign damage save restore prune _show _rename _note _delete"
    for name in names.split():
        if callable(getattr(module, name, None)):
            setattr(module, name, fails)
sys.exit(cli.main(sys.argv[1:]))
"""
"""The command line with every command's function failing in a way that nobody foresaw."""
DEEP = """
import sys
import {module} as module
from reprotui.cli import main

def fails(*_, **__):
    raise {error}

module.{name} = fails
sys.exit(main(sys.argv[1:]))
"""


def commands() -> dict[str, list[str]]:
    """Return every command with arguments that its parser takes."""
    needed = {
        "open": ["x"], "compare": ["x", "y"], "replay": ["x", "--step", "1"], "report": ["x"], "control": ["x", "stop"],
        "explain": ["x", "y"],
        "resume-check": ["--at", "1"], "certify": ["--", "x.py"], "watch": ["--", "x.py"], "new": ["x"],
        "export": ["x"], "manifest": ["--image", "x", "--claim", "y"],
        "runs show": ["x"], "runs rename": ["x", "y"], "runs note": ["x", "text"], "runs delete": ["x"],
        "checkpoint list": ["x"], "checkpoint save": ["x"], "checkpoint restore": ["x"], "checkpoint verify": ["x"],
        "checkpoint diff": ["x", "y"], "checkpoint prune": ["x", "--keep", "1"], "checkpoint register": ["x"],
        "checkpoint sign": ["x", "--key", "k"], "checkpoint damage": ["x"],
    }  # fmt: skip

    def walk(parser: argparse.ArgumentParser, path: list[str]) -> Any:
        inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        if not inner:
            yield " ".join(path), [*path, *needed.get(" ".join(path), [])]
        for action in inner:
            for name, child in action.choices.items():
                yield from walk(child, [*path, name])

    return dict(walk(build_parser(), []))


def run(directory: Path, source: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "XDG_STATE_HOME": str(directory / "state"), "HOME": str(directory), **variables}
    return subprocess.run(
        [sys.executable, "-c", source, *arguments], cwd=directory, env=environment, capture_output=True, text=True,
        stdin=subprocess.DEVNULL, timeout=PATIENCE, check=False,
    )  # fmt: skip


def the_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line on stderr, having checked that it is one, with a log behind it."""
    assert (done.returncode, done.stdout) == (4, ""), done
    (line,) = done.stderr.splitlines()
    assert line.startswith("reprotui: unexpected error: ") and "no verdict" in line and "please report it" in line
    return line


def log_of(line: str) -> str:
    return Path(line.partition("the traceback is in ")[2].rpartition(", please")[0]).read_text()


MODULES = "certify, check, checkpoint, checkpointing, compare, config, control, diagnose, docs, env, explain, export, fleet, "
MODULES += "gate, learn, manifest, new, open, race, replay, report, resume_check, run, runs, saving, seed_check, serve, signing, "
MODULES += "sweep, watch"


def test_every_command_is_walked_over() -> None:
    assert len(commands()) == 38


@pytest.mark.parametrize("command", commands())
def test_an_unexpected_error_in_a_command_is_no_difference(tmp_path: Path, command: str) -> None:
    line = the_line(run(tmp_path, FAILING.format(modules=MODULES), *commands()[command]))
    assert r"KeyError: 'a[/b]\x1b[31m\nend'" in line.replace("\\\\", "\\") and "state" in line
    log = log_of(line)
    assert "Traceback (most recent call last)" in log and command.split()[0] in log.splitlines()[1]


@pytest.mark.parametrize(
    ("module", "name", "arguments", "error"),
    [
        ("reprotui.compare", "compare_runs", ["compare", "a", "b"], "ValueError"),
        ("reprotui.race.monitor", "members", ["open", "a", "--once"], "AssertionError"),
        ("reprotui.race.listing", "list_runs", ["runs"], "RecursionError"),
        ("reprotui.settings", "effective_settings", ["config"], "MemoryError"),
        ("reprotui.cli", "build_parser", ["runs"], "KeyError"),
    ],
    ids=str,
)
def test_one_that_comes_from_deep_below_is_told_with_its_place(
    tmp_path: Path, module: str, name: str, arguments: list[str], error: str
) -> None:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "run.json").write_text('{"manifest_version": 1}')
    line = the_line(run(tmp_path, DEEP.format(module=module, name=name, error=f"{error}('deep')"), *arguments))
    assert error in line and "deep" in line and "<string>:" in line


def test_where_no_state_can_be_kept_the_log_is_a_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("in the way")
    (tmp_path / "tmp").mkdir()
    source = DEEP.format(module="reprotui.race.listing", name="list_runs", error="ValueError('deep')")
    line = the_line(run(tmp_path, source, "runs", TMPDIR=str(tmp_path / "tmp")))
    assert str(tmp_path / "tmp") in line and "Traceback" in log_of(line)


def test_errors_that_are_known_keep_their_codes(tmp_path: Path) -> None:
    source = "import sys; from reprotui.cli import main; sys.exit(main(sys.argv[1:]))"
    assert run(tmp_path, source, "compare", "x", "y").returncode == 2
    assert run(tmp_path, source, "nothing").returncode == 2
    assert run(tmp_path, source, "runs").returncode == 0


@pytest.mark.parametrize("stream", [">/dev/full", ">&-", "2>&-", ">&- 2>&-"])
def test_output_that_cannot_be_written_is_no_difference(tmp_path: Path, stream: str) -> None:
    for arguments, codes in (("runs", (0, 2)), ("compare x y", (2,))):
        command = f"{sys.executable} -m reprotui {arguments} {stream}"
        done = subprocess.run(
            command,
            shell=True,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode in codes and "Traceback" not in done.stderr, (command, done)


def test_what_stdout_has_no_code_for_is_escaped(tmp_path: Path) -> None:
    source = "import sys; from reprotui.cli import main; sys.exit(main(sys.argv[1:]))"
    done = run(tmp_path, source, "runs", "--runs-dir", "größe-漢", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "") and r"gr\xf6\xdfe-\u6f22" in done.stdout
