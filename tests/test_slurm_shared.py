"""Races whose runs share one job of a real Slurm: one after the other on the same hosts, and with hosts exchanged."""

import json
import shutil
import signal
from collections.abc import Iterator
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

import slurm_cluster
from conftest import SAMPLES, Cli, edit_manifest, eventually, last_step
from pilots import dashboard, drive
from reprotui.compare.swap import IN_TURN, MEANT, SWAP, judge
from reprotui.run_directory import RunDirectory, this_process
from slurm_cluster import SlurmCluster

SMALL = ("digits-mlp", "width=32", "depth=1", "steps=40")
LONG = ("digits-mlp", "width=32", "depth=1", "steps=1000000")
TRAIN = """
import os, sys
import numpy as np
from reprotui import Recorder
weights = np.ones(4, np.float32)
with Recorder() as recorder:
    for step in range(1, 6):
        weights = weights * np.float32(0.9)
        if step == 3 and ("other" in sys.argv or os.environ["SLURMD_NODENAME"] == os.environ.get("BROKEN")):
            weights[1] += np.float32(1e-3)
        recorder.step(step, batch=np.ones(3, np.float32), params=weights, loss=float(weights.sum()))
"""

real = [
    pytest.mark.skipif(bool(slurm_cluster.missing()), reason=f"no Slurm: {slurm_cluster.missing()}"),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[SlurmCluster]:
    """Return a Slurm of two hosts."""
    with slurm_cluster.running(2) as found:
        yield found


@pytest.fixture
def here(tmp_path: Path, environment: dict[str, str], cluster: SlurmCluster) -> Iterator[Cli]:
    """Return the command line on a login node; no job is left behind by any test."""
    there = ("PENDING", "RUNNING", "SUSPENDED")  # one that is over may still be cleaned up
    with slurm_cluster.login_node(cluster, tmp_path, environment, *there) as cli:
        cli.write("train.py", TRAIN)
        yield cli


def manifest(run: Path) -> dict[str, Any]:
    return json.loads((run / "run.json").read_text())


def state(cli: Cli, label: str) -> str:
    return RunDirectory(cli.runs / "race" / label).state()


def started(cli: Cli, *arguments: object) -> Any:
    """Start a long race in one job, and return its process once A has some steps."""
    process = cli.start("race", *LONG, "--on", "slurm", "--same-nodes", "--headless", "--name", "race", *arguments)
    eventually("steps of A", lambda: last_step(cli.runs / "race/a") > 20)
    return process


class TestSameNodes:
    pytestmark = real

    def test_runs_take_turns_on_the_same_hosts_with_variables_of_their_own(self, here: Cli) -> None:
        found = here.race(*SMALL, "--b", "threads=1", "--on", "slurm", "--same-nodes")
        assert found["verdicts"][0]["kind"] == "identical"
        a, b = (manifest(here.runs / "race" / label) for label in "ab")
        assert a["process"]["host"] == b["process"]["host"] and a["job"].partition(".")[0] == b["job"].partition(".")[0]
        assert b["environment"]["variables"]["NPROC"] == "1" and a["environment"]["variables"].get("NPROC") is None
        assert (here.runs / "race/steps.txt").read_text().split("\n")[:4] == ["began a", "ended a 0", "began b", "ended b 0"]
        assert (here.runs / "race/a/worker.log").is_file() and (here.runs / "race/b/worker.log").is_file()

    def test_a_run_says_what_it_waits_for_and_interrupting_lets_it_never_begin(self, here: Cli, cluster: SlurmCluster) -> None:
        log = here.directory / "said"
        with log.open("w") as said:
            process = here.start(
                "race", *LONG, "--on", "slurm", "--same-nodes", "--headless", "--name", "race", stderr=said
            )  # fmt: skip
            eventually("steps of A", lambda: last_step(here.runs / "race/a") > 20)
            eventually("the reason", lambda: "waits for A" in log.read_text())
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 130 and [state(here, label) for label in "ab"] == ["stopped", "killed"], out
        assert "taken out before its turn" in out and not cluster.ask("squeue", "--noheader", "--states=PENDING,RUNNING")

    def test_a_stop_ends_the_run_that_trains_and_the_next_one_begins(self, here: Cli) -> None:
        process = started(here)
        RunDirectory(here.runs / "race/a").send("stop")
        eventually("steps of B", lambda: last_step(here.runs / "race/b") > 5)
        here("control", "race", "stop")
        out, _ = process.communicate(timeout=60)
        assert [state(here, label) for label in "ab"] == ["stopped", "stopped"] and "equal up to step" in out, out

    def test_a_cancelled_job_seals_what_trains_and_begins_nothing_more(self, here: Cli, cluster: SlurmCluster) -> None:
        process = started(here)
        cluster.ask("scancel", str(manifest(here.runs / "race/a")["job"]).partition(".")[0])
        out, _ = process.communicate(timeout=60)
        assert [state(here, label) for label in "ab"] == ["stopped", "killed"], out
        assert not (here.runs / "race/b/trace.db").exists()

    def test_a_host_that_fails_is_named_for_both(self, here: Cli, cluster: SlurmCluster) -> None:
        process = started(here, "--local-trace", "1")
        host = manifest(here.runs / "race/a")["process"]["host"]
        cluster.kill_node(host)
        try:
            out, _ = process.communicate(timeout=120)
        finally:
            cluster.begin_node(host)
            eventually("the host again", lambda: host in cluster.ask("sinfo", "--noheader", "--Node", "--states=idle"))
        assert process.returncode == 4 and out.count(f"NODE_FAIL on {host}") >= 2, out
        assert "its trace ends with the last copy, and one is made every 1 s" in out and last_step(here.runs / "race/a") > 20
        assert here("compare", "race", "--verify", exit_code=None).stdout.count("damaged") == 0
        assert [state(here, label) for label in "ab"] == ["killed", "killed"]

    def test_a_job_that_waits_is_taken_out_of_the_queue_and_detached_ones_are_judged_later(
        self, here: Cli, cluster: SlurmCluster
    ) -> None:
        blocking = ("sbatch", "--parsable", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 300")
        number = cluster.ask(*blocking).strip()
        eventually("a full cluster", lambda: "R" in cluster.ask("squeue", "--noheader", "--format=%t"))
        log = here.directory / "said"
        with log.open("w") as said:
            process = here.start("race", *SMALL, "--on", "slurm", "--same-nodes", "--headless", "--name", "x", stderr=said)
            eventually("the reason", lambda: log.read_text().count("waits: ") >= 2)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode == 130 and cluster.ask(
            "squeue", "--noheader", "--states=PENDING,RUNNING", "--format=%i"
        ).split() == [number]
        cluster.ask("scancel", number)
        told = json.loads(here("race", *SMALL, "--on", "slurm", "--same-nodes", "--detach", "--name", "race", "--json").stdout)
        assert told["jobs"]["A"] == told["jobs"]["B"]
        eventually("both ends", lambda: all(state(here, label) == "finished" for label in "ab"))
        assert "IDENTICAL through step 40" in here("open", "race", "--once").stdout
        eventually("an empty queue", lambda: not cluster.ask("squeue", "--noheader"))


@pytest.mark.parametrize(
    ("b", "variables", "kind", "said"),
    [
        ("python train.py other", "", "program", "what differs follows the program: A = C, B = D"),
        ("python train.py", "BROKEN=n2 ", "hosts", "what differs follows the hosts: A = D on n1, B = C on n2"),
        ("python train.py", "", "identical", "all four identical: neither program nor hosts make a difference"),
        ("python train.py other", "BROKEN=n1 ", "neither", "what differs follows neither program nor hosts alone: A = B, A ≠ C"),
    ],
)
class TestSwap:
    pytestmark = real

    def test_says_what_a_difference_follows(self, here: Cli, b: str, variables: str, kind: str, said: str) -> None:
        found = here.race(
            "--on", "slurm", "--swap", "--a", f"{variables}python train.py", "--b", f"{variables}{b}", exit_code=None
        )  # fmt: skip
        assert found["follows"]["kind"] == kind and found["follows"]["said"].startswith(said), found
        assert found["exit_code"] == (kind != "identical")
        hosts = [manifest(here.runs / "race" / label)["process"]["host"] for label in "abcd"]
        assert hosts == ["n1", "n2", "n2", "n1"]
        again = here("compare", "race", exit_code=None)
        assert said in again.stdout and said in here("open", "race", "--once", exit_code=None).stdout
        assert said in here("report", "race", "--format", "markdown", exit_code=None).stdout


@pytest.mark.skipif(bool(slurm_cluster.missing()), reason="no Slurm")
@pytest.mark.slow
def test_a_swap_that_was_interrupted_cannot_tell(here: Cli, cluster: SlurmCluster) -> None:
    process = here.start("race", *LONG, "--on", "slurm", "--swap", "--headless", "--name", "race")
    eventually("steps of both", lambda: min(last_step(here.runs / "race" / label) for label in "ab") > 20)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "cannot tell whether it follows the program or the hosts: A stopped" in out, out
    assert [state(here, label) for label in "abcd"] == ["stopped", "stopped", "killed", "killed"]
    assert not cluster.ask("squeue", "--noheader", "--states=PENDING,RUNNING")


@pytest.mark.skipif(bool(slurm_cluster.missing()), reason="no Slurm")
@pytest.mark.slow
def test_a_swap_whose_job_is_cancelled_seals_what_trains(here: Cli, cluster: SlurmCluster) -> None:
    process = here.start("race", *LONG, "--on", "slurm", "--swap", "--headless", "--name", "race", "--json")
    eventually("steps of both", lambda: min(last_step(here.runs / "race" / label) for label in "ab") > 20)
    cluster.ask("scancel", str(manifest(here.runs / "race/a")["job"]).partition(".")[0])
    out, _ = process.communicate(timeout=60)
    assert json.loads(out)["follows"]["kind"] == "unknown"
    assert [state(here, label) for label in "abcd"] == ["stopped", "stopped", "killed", "killed"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--same-nodes"], "--same-nodes is for runs on a cluster: give --on slurm too"),
        (["--swap"], "--swap is for runs on a cluster"),
        (["--on", "slurm", "--swap", "--same-nodes"], "two ways to share hosts"),
        (
            ["--on", "slurm", "--swap", "--requeue"],
            "--requeue and --swap: a job that goes back into the queue may get other hosts",
        ),
        (["--on", "slurm", "--swap", "--stop-at-divergence"], "would end C and D before they begin"),
        (["--on", "slurm", "--swap", "--repeat", "3"], "--swap exchanges the hosts of A and B: this race has the runs A, B, C"),
        (["--on", "slurm", "--swap", "--nodes", "1-2"], "nodes 1-2: expected a whole number of at least 1"),
        (["--on", "slurm", "--same-nodes"], "there is no sbatch here"),
    ],
)
def test_ways_to_share_hosts_that_cannot_be(reprotui: Cli, arguments: list[str], said: str) -> None:
    nowhere = {**reprotui.environment, "PATH": str(reprotui.directory)}
    assert said in reprotui("race", *arguments, exit_code=2, env=nowhere).stderr
    assert not any(reprotui.runs.glob("*/run.json")) and not any(reprotui.runs.glob("*/race.json"))


def test_every_outcome_of_a_swap_is_told() -> None:
    pairs = list(combinations("ABCD", 2))
    hosts = {"A": "n1", "B": "n2", "C": "n2", "D": "n1"}
    kinds = {}
    for groups in (["ABCD"], ["AC", "BD"], ["AD", "BC"], ["AB", "CD"], ["ABC", "D"], ["ABD", "C"], ["AC", "B", "D"], [*"ABCD"]):
        equal = {pair for pair in pairs if any(set(pair) <= set(group) for group in groups)}
        kinds["|".join(groups)] = judge(equal, hosts).kind
    assert kinds == {
        "ABCD": "identical", "AC|BD": "program", "AD|BC": "hosts", "AB|CD": "neither", "ABC|D": "neither", "ABD|C": "neither",
        "AC|B|D": "neither", "A|B|C|D": "neither",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("odd", "said"), [("bd", "what differs follows the program: A = C, B = D"), ("bc", "A = D on n1, B = C on n2")]
)
@pytest.mark.parametrize("size", [(80, 24), (120, 36)])
def test_the_dashboard_and_the_report_say_what_a_difference_follows(
    reprotui: Cli, own_settings: Path, odd: str, said: str, size: tuple[int, int]
) -> None:
    race = reprotui.runs / "swapped"
    for label, host in zip("abcd", ("n1", "n2", "n2", "n1"), strict=True):
        shutil.copytree(SAMPLES / "bit-flip" / ("b" if label in odd else "a"), race / label)
        edit_manifest(race / label, process=lambda old, host=host: {**old, "host": host})
    (race / "race.json").write_text(
        json.dumps({"name": "swapped", "members": [*"abcd"], "command": [], "created_ns": 1, SWAP: MEANT})
    )

    async def scene() -> None:
        async with dashboard(race, size=size) as driven:
            await driven.until("what it follows", lambda: said in " ".join(driven.text().split()))

    drive(scene())
    report = json.loads(reprotui("report", race, "--json", exit_code=1).stdout)
    assert said in report["agreement"]


def test_the_dashboard_says_whose_turn_has_not_come(reprotui: Cli, own_settings: Path) -> None:
    race = Path(shutil.copytree(SAMPLES / "identical", reprotui.runs / "turns"))
    edit_manifest(race / "a", process=asdict(this_process()), result=None)
    edit_manifest(race / "b", process=None, result=None)
    for file in (race / "b").glob("trace.db*"):
        file.unlink()
    story = json.loads((race / "race.json").read_text())
    story.pop("verdicts", None)
    (race / "race.json").write_text(json.dumps({**story, IN_TURN: True}))

    async def scene() -> None:
        async with dashboard(race, size=(80, 24)) as driven:
            await driven.until("who waits", lambda: "its turn has not come" in driven.text())
            assert "B created" in driven.text() or "B starting" in driven.text()
            edit_manifest(race / "a", result={"state": "finished", "last_step": 80})
            shutil.copy(race / "a" / "trace.db", race / "b" / "trace.db")
            edit_manifest(race / "b", process=asdict(this_process()), result={"state": "finished", "last_step": 80})
            await driven.until("the verdict", lambda: "IDENTICAL through step 80" in driven.text())
            assert "its turn" not in driven.text()

    drive(scene())
