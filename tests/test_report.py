"""Reports: what each form says of each kind of pair, escaping, the schema, and files that are never half written."""

import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from conftest import Cli, edit_manifest
from reprotui.errors import BadInputError
from reprotui.report import collect_report, formats_of, render, write_report
from reprotui.report.loss import BUCKETS, reduce
from reprotui.report.text import markdown_code, markdown_text
from test_compare import history, run

FORMATS = ("markdown", "json", "html")
SAMPLES = {
    "identical": (0, "IDENTICAL through step 80"),
    "bit-flip": (1, "DIVERGED at step 50 · params · 1 leaf"),
    "nan-loss": (0, "IDENTICAL through step 80 · not finite from step 2 on: first forward/loss"),
    "killed": (3, "INCOMPLETE · equal up to step 260; b was killed and left no seal"),
}
HOSTILE = "<script>alert(1)</script>|`x` & *b* \x1b[31m\u202e"
LINK = "[here](https://example.org)"


@pytest.fixture
def cli(tmp_path: Path, bare_environment: dict[str, str]) -> Cli:
    """Return the command line; nothing here trains, so no compilation cache is needed."""
    return Cli(tmp_path, bare_environment)


@pytest.fixture
def race(sample: Callable[[str], Path]) -> Callable[[str], Path]:
    """Return a function that copies a sample race; the killed one's process was on this host."""

    def copy(name: str) -> Path:
        path = sample(name)
        if name == "killed":
            edit_manifest(path / "b", process=lambda process: process | {"host": socket.gethostname()})
            (path / "b" / "worker.log").write_text("step 260\nlast words\n")
        return path

    return copy


def refuse_constant(name: str) -> None:
    raise AssertionError(f"bare {name} in JSON")


def load(text: str) -> dict[str, Any]:
    """Parse JSON, and refuse the tokens that only Python's parser takes."""
    return json.loads(text, parse_constant=refuse_constant)


def schema(strict: bool) -> dict[str, Any]:
    """Return the shipped schema; strict, it refuses every field that it does not describe."""
    text = resources.files("reprotui.report").joinpath("schema/report-v2.json").read_text(encoding="utf-8")

    def close(node: Any) -> Any:
        if isinstance(node, list):
            return [close(item) for item in node]
        if not isinstance(node, dict):
            return node
        node = {key: close(value) for key, value in node.items()}
        return node | {"additionalProperties": False} if isinstance(node.get("required"), list) else node

    whole = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(whole)
    return close(whole) if strict else whole


class Page(HTMLParser):
    """Read a page: its tags balanced, its text, and everything it would load."""

    VOID = ("meta", "link", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str, kind: str | None = None) -> int:
        return sum(name == tag and (kind is None or kind in (attrs.get("class") or "").split()) for name, attrs in self.seen)


# What each form says


@pytest.mark.parametrize("name", SAMPLES)
def test_markdown_says_the_verdict_and_what_it_rests_on(cli: Cli, race: Any, name: str) -> None:
    code, headline = SAMPLES[name]
    text = cli("report", race(name), exit_code=code).stdout
    assert re.search(rf"^## {'!' if name == 'nan-loss' else '[=≠?]'} {re.escape(headline)}$", text, re.MULTILINE)
    diverged, killed = name == "bit-flip", name == "killed"
    assert ("## First difference" in text) is diverged
    assert ("**Cause:** a bit was flipped on purpose" in text) is diverged
    assert ("≠ `580d4e7d / 57614bca`" in text) is diverged
    assert ("| `params/dense_1/kernel` |" in text) is diverged
    assert ("↑ ≠ step 50" in text) is diverged
    assert ("The configs are equal." in text) is not diverged
    assert ("×××" in text) is (name == "nan-loss")
    assert ("all 81 records agree to the bit, and the final states" in text) is (code == 0)
    assert ("last words" in text) is killed
    assert "reprotui race digits-mlp width=32" in text
    assert f"reprotui compare {cli.directory / name}" in text


@pytest.mark.parametrize("name", SAMPLES)
def test_html_is_one_page_that_loads_nothing(race: Any, name: str) -> None:
    text = render(collect_report([race(name)]), "html")
    page = Page(text)
    assert SAMPLES[name][1] in page.text
    # Runs that agree in being broken have not the colour of those that are well.
    assert page.count("section", "incomplete" if name == "nan-loss" else SAMPLES[name][1].split()[0].lower()) == 1
    assert page.count("polyline") == {"nan-loss": 0, "killed": 2}.get(name, 2)
    assert page.count("g", "divergence") == (1 if name == "bit-flip" else 0)
    assert page.count("tr", "strong") == (1 if name == "bit-flip" else 0)
    assert page.count("rect") == (2 if name == "nan-loss" else 0)
    assert not {"script", "link", "img", "iframe", "a"} & {tag for tag, _ in page.seen}
    assert not any(key in ("src", "href") or key.startswith("on") for _, attrs in page.seen for key in attrs)
    assert re.findall(r"https?://[^\"]*", text) == ["http://www.w3.org/2000/svg"]
    assert "url(" not in text and "@import" not in text
    assert "prefers-color-scheme: dark" in text and "@media print" in text


@pytest.mark.parametrize("name", SAMPLES)
def test_json_keeps_to_its_schema_and_the_schema_leaves_nothing_out(cli: Cli, race: Any, name: str) -> None:
    code, headline = SAMPLES[name]
    report = load(cli("report", race(name), "--json", exit_code=code).stdout)
    jsonschema.validate(report, schema(strict=False))
    for part in ("comparisons", "runs"):
        jsonschema.validate(report[part], {"items": {"$ref": f"#/$defs/{part[:-1]}"}, "$defs": schema(strict=True)["$defs"]})
    assert (report["exit_code"], report["comparisons"][0]["verdict"]["headline"]) == (code, headline)
    losses = report["runs"][1]["loss"]["losses"]
    assert ("nan" in losses) is (name == "nan-loss")
    steps = [line["step"] for line in report["comparisons"][0]["steps"]]
    assert steps == ([47, 48, 49, 50, 51, 52, 53, 54, 55] if name == "bit-flip" else [])


def test_the_schema_notices_what_is_missing_or_wrong(race: Any) -> None:
    report = load(render(collect_report([race("bit-flip")]), "json"))
    validator = jsonschema.Draft202012Validator(schema(strict=False))
    assert validator.is_valid(report)
    for change in (
        lambda it: it["runs"].pop(),
        lambda it: it["comparisons"][0]["verdict"].pop("cause"),
        lambda it: it.update(schema_version=1),
        lambda it: it["comparisons"][0]["steps"][0]["a"].update(loss="NaN"),
        lambda it: it["comparisons"][0]["verdict"]["leaves"][0]["a"].update(checksum=7),
    ):
        broken = json.loads(json.dumps(report))
        change(broken)
        assert not validator.is_valid(broken)


def test_the_step_table_says_which_phases_differ_and_only_from_there_on(race: Any) -> None:
    lines = collect_report([race("bit-flip")]).comparisons[0].steps
    assert [line.differs for line in lines] == [()] * 3 + [("params",)] + [("forward", "grads", "optimizer", "params")] * 5
    assert lines[3].a.loss_bits == lines[3].b.loss_bits
    assert lines[4].a.loss_bits != lines[4].b.loss_bits


def test_a_first_difference_at_the_beginning_has_no_steps_before(race: Any) -> None:
    path = race("two-seeds")
    comparison = collect_report([path]).comparisons[0]
    assert [line.step for line in comparison.steps] == [0, 1, 2, 3, 4, 5]
    assert (comparison.steps[0].a.loss, comparison.leaves[0].norm_a is None) == (None, False)
    assert "| `none` |" not in render(collect_report([path]), "markdown").split("## Config")[0]


def test_norms_are_told_where_they_were_taken(race: Any) -> None:
    # Statistics are taken at every twentieth record: at step 0 they are there, at step 50 they are not.
    seeds, flip = (render(collect_report([race(name)]), "markdown") for name in ("two-seeds", "bit-flip"))
    assert "| L2 norm a | L2 norm b |" in seeds and "were not taken" not in seeds
    assert "L2 norm" not in flip and "Norms and maxima were not taken at this step." in flip


def test_steps_that_one_run_did_not_record_are_shown_as_such(race: Any) -> None:
    path = race("bit-flip")
    with sqlite3.connect(path / "b" / "trace.db") as connection:
        connection.execute("DELETE FROM steps WHERE step IN (49, 52)")
    lines = {line.step: line for line in collect_report([path]).comparisons[0].steps}
    assert lines[49].b is None and lines[49].a is not None and lines[49].differs == ()
    assert "| 49 | `0.490507632` | `not recorded` | ? |" in render(collect_report([path]), "markdown")


def test_three_runs_say_who_agrees_with_whom_and_two_do_not(cli: Cli, race: Any) -> None:
    path = race("bit-flip")
    third = shutil.copytree(path / "b", cli.directory / "third")
    report = load(cli("report", path, third, "--json", exit_code=1).stdout)
    assert report["groups"] == [["a"], ["b", "third"]]
    assert [item["verdict"]["b"] for item in report["comparisons"]] == report["groups"][1]
    assert report["name"] == "a-vs-2-runs"
    text = render(collect_report([path, third]), "html")
    assert "Agreement" in Page(text).text and text.count('class="divergence"') == 1
    assert "Agreement" not in render(collect_report([path]), "html")


def test_checkpoints_are_listed_where_there_are_some(race: Any) -> None:
    path = race("identical")
    assert "## Checkpoints" not in render(collect_report([path]), "markdown")
    for name in ("40", "9", ".writing"):
        (path / "b" / "checkpoints" / name).mkdir(parents=True)
    (path / "b" / "checkpoints" / "40.manifest.json").write_text("{}")
    report = collect_report([path])
    statuses = [(item["name"], item["status"]) for item in report.runs[1].checkpoints]
    assert statuses == [("9", "INCOMPLETE"), ("40", "INCOMPLETE")], "empty directories are no checkpoints"
    known = {path / "b": [{"name": "40", "status": "valid", "digest": "ab"}]}
    text = render(collect_report([path], checkpoints=known), "markdown")
    assert "| b | `40` | valid | digest: ab |" in text and "unchecked" not in text


# Damage


@pytest.mark.parametrize("format_", FORMATS)
def test_a_damaged_trace_still_gives_a_report_that_says_why(cli: Cli, race: Any, format_: str) -> None:
    path = race("bit-flip")
    trace = path / "b" / "trace.db"
    os.truncate(trace, trace.stat().st_size // 2)
    text = cli("report", path, "--format", format_, exit_code=3).stdout
    assert "INCOMPARABLE" in text and "is damaged" in text
    assert "First difference" not in text
    if format_ == "json":
        report = load(text)
        jsonschema.validate(report, schema(strict=False))
        assert report["runs"][1]["problem"] and not report["runs"][0]["problem"]


@pytest.mark.slow
def test_an_edited_row_is_told_where_the_chain_is_verified(cli: Cli, race: Any) -> None:
    path = race("identical")
    whole = cli("report", path, "--verify").stdout
    assert whole.count("= 81 records verified") == 2 and "verified" not in cli("report", path).stdout
    with sqlite3.connect(path / "b" / "trace.db") as connection:
        connection.execute("UPDATE steps SET roots = (SELECT roots FROM steps WHERE step = 8) WHERE step = 9")
    report = load(cli("report", path, "--verify", "--json", exit_code=3).stdout)
    assert "does not verify: the chain breaks at step 9" in report["comparisons"][0]["verdict"]["reason"]
    assert [run["verification"]["problem"] is None for run in report["runs"]] == [True, False]
    # The leaf checksums are as they were: without the chain it is noticed too.
    unverified = load(cli("report", path, "--json", exit_code=3).stdout)
    assert unverified["runs"][1]["verification"] is None
    assert "was edited" in unverified["comparisons"][0]["verdict"]["reason"]


def test_a_root_that_was_edited_is_noticed_without_the_chain_but_not_whose_it_is(cli: Cli, tmp_path: Path) -> None:
    paths = [run(tmp_path / name, history(9)).run.path for name in "ab"]
    with sqlite3.connect(paths[1] / "trace.db") as connection:
        connection.execute("UPDATE steps SET roots = (SELECT roots FROM steps WHERE step = 4) WHERE step = 5")
    report = load(cli("report", *paths, "--json", exit_code=3).stdout)
    assert "one of the traces was edited" in report["comparisons"][0]["verdict"]["reason"]


def test_damage_behind_the_first_difference_takes_nothing_from_the_verdict(race: Any) -> None:
    path = race("two-seeds")
    assert "Not all of it can be read" not in render(collect_report([path]), "markdown")
    with sqlite3.connect(path / "b" / "trace.db") as connection:
        connection.execute("UPDATE leaf_stats SET blob = x'00' WHERE step = 0")
        connection.execute("UPDATE steps SET roots = x'00' WHERE step = 3")
    report = collect_report([path, path / "b"])
    assert report.comparisons[0].verdict.headline == "DIVERGED at step 0 · init · 3 leaves"
    assert len(report.comparisons[0].leaves) == 3
    jsonschema.validate(load(render(report, "json")), schema(strict=False))
    for format_ in ("markdown", "html"):
        assert "Not all of it can be read" in render(report, format_)


def test_a_run_that_never_began_is_reported_as_incomplete(race: Any) -> None:
    path = race("killed")
    (path / "b" / "trace.db").unlink()
    report = collect_report([path], verify=True)
    assert report.comparisons[0].verdict.kind == "incomplete"
    for format_ in FORMATS:
        assert "before its first record" in render(report, format_)


# Hostile text


def test_text_of_the_runs_stays_text(race: Any) -> None:
    path = race("killed")
    edit_manifest(path / "b", config=lambda config: config | {HOSTILE: HOSTILE + LINK, "lr": float("nan")})
    (path / "b" / "worker.log").write_text(f"```\n{HOSTILE}\n</pre><script>\n")
    evil = path.rename(path.with_name("<script>|evil"))
    report = collect_report([evil])
    page = Page(render(report, "html"))
    assert page.count("script") == 0 and page.count("a") == 0
    assert "<script>alert(1)</script>|`x` & *b*" in page.text and "\x1b" not in page.text and "\u202e" not in page.text
    text = render(report, "markdown")
    prose = re.sub(r"^(`{3,})text\n.*?\n\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    assert "<script" not in re.sub(r"`[^`\n]*`", "", prose) and "\x1b" not in text
    assert not re.search(r"(?<!\\)\]\(http", prose) and "````text\n```\n" in text
    for table in re.findall(r"(?:^\|.*\n)+", prose, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    # The JSON form holds the text as it is.
    parsed = load(render(report, "json"))
    assert parsed["runs"][1]["config"][HOSTILE] == HOSTILE + LINK
    assert parsed["runs"][1]["config"]["lr"] == "nan"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("shuffle_from: none → 37", "shuffle_from: none → 37"),
        ("a|b", r"a\|b"),
        ("<b> & _x_", r"&lt;b&gt; &amp; \_x\_"),
        ("# no\ntitle", r"\# no title"),
        ("1. no list", r"\1. no list"),
    ],
)
def test_markdown_escapes_what_it_must_and_no_more(raw: str, text: str) -> None:
    assert markdown_text(raw) == text


def test_a_code_span_fits_into_a_table() -> None:
    assert markdown_code("a|b\nc") == r"`a\|b c`"
    assert markdown_code("a`b") == r"a\`b"
    assert markdown_code("") == ""


# Losses


def test_no_spike_is_lost_however_long_the_run() -> None:
    losses = np.linspace(1, 0.5, 200_000, dtype=np.float32)
    losses[77_777], losses[120_001], losses[150_003] = 9, 0.01, np.nan
    kept = reduce(losses, BUCKETS)
    assert {0, 77_777, 120_001, 150_003, 199_999} <= set(kept)
    assert len(kept) <= 600 and kept == sorted(kept)
    assert reduce(losses[:500], BUCKETS) == list(range(500))
    assert reduce(np.full(10_000, np.nan, np.float32), 4) == [0, 2499, 4999, 7499, 9999]


def test_a_step_without_a_loss_is_no_gap_and_a_nan_is(race: Any) -> None:
    curves = [collect_report([race(name)]).runs[0].loss for name in ("identical", "nan-loss")]
    for curve in curves:
        assert curve.records == 81 and curve.points[0][0] == 1
    assert all(np.isfinite(loss) for _, loss in curves[0].points)
    assert [np.isfinite(loss) for _, loss in curves[1].points] == [True] + [False] * 79


# Files


@pytest.mark.slow
def test_all_forms_are_written_and_none_over_another(cli: Cli, race: Any) -> None:
    path = race("bit-flip")
    done = cli("report", path, "--format", "markdown,json,html", exit_code=1)
    names = ["report-bit-flip.md", "report-bit-flip.json", "report-bit-flip.html"]
    assert done.stdout.split() == names and "DIVERGED at step 50" in done.stderr
    load((cli.directory / names[1]).read_text())
    (cli.directory / names[0]).unlink()
    (cli.directory / names[2]).write_text("mine")
    done = cli("report", path, "--format", "markdown,html", exit_code=2)
    assert f"{names[2]} exists already" in done.stderr and "--force" in done.stderr
    assert not (cli.directory / names[0]).exists() and (cli.directory / names[2]).read_text() == "mine"
    cli("report", path, "--format", "markdown,html", "--force", exit_code=1)
    assert (cli.directory / names[2]).read_text().startswith("<!doctype html>")
    assert not list(cli.directory.glob(".*tmp"))


def test_the_suffix_names_the_format_and_json_says_what_was_written(cli: Cli, race: Any) -> None:
    done = cli("report", race("identical"), "--out", "page.html", "--json")
    assert load(done.stdout) == {"exit_code": 0, "verdicts": ["IDENTICAL through step 80"], "files": ["page.html"]}
    Page((cli.directory / "page.html").read_text())


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("missing/r.md", "the directory missing does not exist"),
        ("missing/", "missing/ is not a directory"),
        ("in-the-way/r.md", "in-the-way is not a directory"),
        ("r.txt", "the suffix .txt names no format"),
    ],
)
def test_a_place_that_cannot_be_written_is_bad_input(cli: Cli, race: Any, out: str, said: str) -> None:
    path = race("identical")
    cli.write("in-the-way", "")
    before = sorted(cli.directory.iterdir())
    assert said in cli("report", path, "--out", out, exit_code=2).stderr
    assert sorted(cli.directory.iterdir()) == before


def test_a_device_is_never_replaced(race: Any) -> None:
    with pytest.raises(BadInputError, match="is not a file"):
        write_report(collect_report([race("identical")]), Path(os.devnull), ["markdown"], force=True)
    assert not Path(f"{os.devnull}.md").exists()


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_behind(cli: Cli, race: Any) -> None:
    done = cli("report", race("identical"), "--format", "markdown,html", file_size=8_000, exit_code=2)
    assert "report-identical.html cannot be written: " in done.stderr
    assert not list(cli.directory.glob("*report*"))


@pytest.mark.parametrize(
    ("asked", "out", "formats"),
    [
        (None, None, ["markdown"]),
        (None, "x.JSON", ["json"]),
        (None, "x", ["markdown"]),
        ("html", "x.txt", ["html"]),
        ("json, html,json", "x-0.05", ["json", "html"]),
        ("html", "x.htm", ["html"]),
    ],
)
def test_formats_come_from_flag_or_suffix(asked: str | None, out: str | None, formats: list[str]) -> None:
    assert formats_of(asked, out and Path(out)) == formats


@pytest.mark.parametrize(
    ("asked", "out"), [("pdf", None), ("", None), ("html", "x.md"), ("html,json", "x.html"), (None, "x.pdf")]
)
def test_formats_that_contradict_are_refused(asked: str | None, out: str | None) -> None:
    with pytest.raises(BadInputError):
        formats_of(asked, out and Path(out))


def test_files_are_named_after_what_was_asked(race: Any, tmp_path: Path) -> None:
    path = race("bit-flip")
    report = collect_report([path / "a", path / "b"])
    assert [file.name for file in write_report(report, tmp_path, ["json"])] == ["report-a-vs-b.json"]
    assert write_report(report, tmp_path / "lr-0.05", ["json", "html"]) == [
        tmp_path / "lr-0.05.json", tmp_path / "lr-0.05.html",
    ]  # fmt: skip
    assert write_report(report, tmp_path / "notes.txt", ["markdown"]) == [tmp_path / "notes.txt"]


# Input


@pytest.mark.slow
def test_what_cannot_be_reported_on_is_bad_input(cli: Cli, race: Any) -> None:
    path = race("identical")
    cli.write("result.json", "{}")
    for arguments, said in (
        ([path / "a"], "name two or more runs, or a race"),
        ([path / "a", "result.json"], "result.json is a file"),
        ([path, "nothing"], "nothing does not exist"),
        ([path, "--json", "--format", "html"], "leave --format html away"),
        ([path, "--out", "-", "--format", "html,json"], "--out - prints one format"),
    ):
        done = cli("report", *arguments, exit_code=2)
        assert said in done.stderr and not done.stdout


def test_a_report_prints_as_utf8_in_any_locale(cli: Cli, race: Any) -> None:
    environment = cli.environment | {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    assert "## = IDENTICAL" in cli("report", race("identical"), env=environment, encoding="utf-8").stdout


def test_a_report_needs_no_framework_and_says_nothing_by_itself(race: Any) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom reprotui.report import collect_report, render\n"
        "report = collect_report([Path(sys.argv[1])])\n"
        "[render(report, name) for name in ('markdown', 'json', 'html')]\n"
        "found = [name for name in ('jax', 'flax', 'optax', 'orbax', 'torch', 'textual') if name in sys.modules]\n"
        "assert not found, found"
    )
    done = subprocess.run([sys.executable, "-c", code, race("bit-flip")], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
