"""The gate: N fresh processes, identical results or a place where they differ; through the command line."""

import json
import sys

import pytest

from conftest import Cli

COUNTER = """
import json, pathlib, sys
count = pathlib.Path("count")
n = int(count.read_text()) if count.exists() else 0
count.write_text(str(n + 1))
"""
"""Gives the number of the run, which is how a program differs on purpose."""


@pytest.fixture
def gate(tmp_path, bare_environment):
    cli = Cli(tmp_path, bare_environment)

    def run(script, *arguments, exit_code=0):
        cli.write("program.py", COUNTER + script)
        return cli("gate", *arguments, "--", sys.executable, "program.py", exit_code=exit_code)

    return run


def found(done):
    return json.loads(done.stdout)


def test_equal_stdout_passes_and_another_fails(gate):
    assert gate("print('loss 0.5')").stdout == "identical in 3 runs: stdout\n"
    done = gate("print('a'); print('loss', 1 if n == 5 else 0)", "-n", 4, exit_code=1)
    assert "stdout: run 3 differs from run 1 at line 2 (byte 7)\n  run 1: loss 0\n  run 3: loss 1\n" in done.stdout
    assert "run 2" not in done.stdout and "run 4" not in done.stdout
    assert "DIFFERENT in 4 runs: stdout" in done.stdout


def test_named_files_alone_are_compared_and_by_content(gate):
    script = (
        "print(n); pathlib.Path('out.txt').write_text('same'); pathlib.Path('b.bin').write_bytes(b'\\0' * 2000000 + bytes([n]))"
    )
    assert found(gate(script, "--file", "out.txt", "--json"))["compared"] == ["out.txt"]
    done = gate(script, "--file", "out.txt", "--file", "b.bin", "--json", exit_code=1)
    differences = found(done)["differences"]
    assert {(item["output"], item["where"]) for item in differences} == {("b.bin", "byte 2000000")}
    assert [item["run"] for item in differences] == [2, 3]


def test_a_file_that_ends_early_and_a_long_line_are_told(gate):
    done = gate("pathlib.Path('o').write_text('line\\n' * (3 - min(n, 1)))", "-n", 2, "--file", "o", exit_code=1)
    assert "line 3 (byte 10)" in done.stdout and "(the file ends)" in done.stdout
    done = gate("print('x' * 5000 + str(n) + 'y' * 5000)", "-n", 2, exit_code=1)
    assert "byte 5000" in done.stdout
    assert max(map(len, done.stdout.splitlines())) < 130


def test_directories_are_compared_file_by_file(gate):
    script = "d = pathlib.Path('d'); d.mkdir(exist_ok=True); (d / 'a').write_text('a'); (d / 'b').write_text(str(n))"
    done = gate(script, "-n", 2, "--file", "d", "--json", exit_code=1)
    assert [item["output"] for item in found(done)["differences"]] == ["d/b"]
    script = "import shutil; d = pathlib.Path('e'); shutil.rmtree(d, True); d.mkdir(); (d / f'step{n}').write_text('a')"
    done = gate(script, "-n", 2, "--file", "e", "--json", exit_code=1)
    assert [item["where"] for item in found(done)["differences"]] == ["its presence"] * 2


def test_json_keys_alone_are_compared(gate):
    script = "print(json.dumps({'time': n, 'final': {'losses': [1.5, -0.0]}}))"
    assert found(gate(script, "--json-key", "final.losses.1", "--json"))["compared"] == ["final.losses.1"]
    done = gate(script, "--json-key", "time", "--json-key", "final", "-n", 2, "--json", exit_code=1)
    assert [item["output"] for item in found(done)["differences"]] == ["time"]
    script = "pathlib.Path('r.json').write_text(json.dumps({'digest': 'x' * 10, 'seconds': n})); print(n)"
    assert gate(script, "--json-key", "r.json:digest").stdout == "identical in 3 runs: r.json:digest\n"
    gate(script, "--json-key", "r.json:seconds", exit_code=1)


def test_signs_of_zero_and_nan_are_values(gate):
    gate("print(json.dumps({'x': [0.0, -0.0][n % 2]}))", "-n", 2, "--json-key", "x", exit_code=1)
    gate("print('{\"x\": NaN}')", "-n", 2, "--json-key", "x")


@pytest.mark.parametrize(
    ("script", "arguments", "said"),
    [
        ("", ("--file", "never.txt"), "never.txt was not written by the command"),
        ("print('text')", ("--json-key", "loss"), "stdout is not JSON"),
        ('print(\'{"a": {"b": 1}}\')', ("--json-key", "a.c"), "has no key a.c"),
        ("", ("-n", "1"), "1 run shows nothing"),
        ("", ("--json-key", "file.json:"), "names no key"),
    ],
)
def test_wrong_usage_is_named(gate, script, arguments, said):
    assert said in gate(script, *arguments, exit_code=2).stderr


def test_a_file_left_from_earlier_is_not_compared_with_itself(gate, tmp_path):
    (tmp_path / "old.txt").write_text("old")
    assert "did not write it" in gate("", "--file", "old.txt", exit_code=2).stderr
    once = "pathlib.Path('old.txt').write_text('new') if n == 1 else None"
    assert "did not write it" in gate(once, "--file", "old.txt", exit_code=2).stderr


def test_a_failing_command_is_exit_code_4_with_its_own_words(gate):
    done = gate("sys.exit('out of data')", exit_code=4)
    assert "out of data" in done.stderr and "exit code 1" in done.stderr
    gate("sys.exit(3 if n == 1 else 0)", exit_code=4)
    assert "signal 9" in gate("import os; os.kill(os.getpid(), 9)", exit_code=4).stderr


def test_runs_get_the_same_environment_and_fresh_hash_seeds(gate):
    gate("import os; print(sorted((k, v) for k, v in os.environ.items()))")
    gate("print(list({'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'}))", "-n", 5, exit_code=1)


def test_commands_that_are_missing_or_unknown(tmp_path, bare_environment):
    cli = Cli(tmp_path, bare_environment)
    assert "name the command" in cli("gate", exit_code=2).stderr
    assert "cannot be run" in cli("gate", "--", "no-such-program", exit_code=2).stderr
    assert cli("gate", "-n", 2, "true").stdout == "identical in 2 runs: stdout\n"


def test_nothing_of_the_users_is_touched(gate, tmp_path):
    gate("pathlib.Path('out').write_text('x')", "--file", "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["count", "out", "program.py"]
