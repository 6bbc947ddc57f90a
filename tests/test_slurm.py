"""Races on a real Slurm of several hosts: the verdicts of here, and the right state whatever happens to a job."""

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import slurm_cluster
from conftest import Cli, events_of, eventually, last_step, rows_of
from reprotui.errors import BadInputError
from reprotui.manifest import Kind, Restore, RunManifest
from reprotui.race.slurm import SlurmLauncher
from reprotui.run_directory import RunDirectory
from reprotui.schedule import Recording
from reprotui.settings import load_settings
from reprotui.worker import requeue
from slurm_cluster import SlurmCluster

SMALL = ("digits-mlp", "width=32", "depth=1", "steps=40")
LONG = ("digits-mlp", "width=32", "depth=1", "steps=1000000")

real = pytest.mark.skipif(bool(slurm_cluster.missing()), reason=f"no Slurm: {slurm_cluster.missing()}")


@pytest.fixture(scope="module")
def cluster() -> Iterator[SlurmCluster]:
    """Return a Slurm of three hosts."""
    with slurm_cluster.running(3) as found:
        yield found


@pytest.fixture
def here(tmp_path: Path, environment: dict[str, str], cluster: SlurmCluster) -> Iterator[Cli]:
    """Return the command line on a login node; no job is left behind by any test."""
    with slurm_cluster.login_node(cluster, tmp_path, environment) as cli:
        yield cli


def manifest(run: Path) -> dict[str, Any]:
    return json.loads((run / "run.json").read_text())


def started(cli: Cli, *arguments: object) -> Any:
    """Start a long race, and return its process once both runs have some steps."""
    process = cli.start("race", *LONG, "--on", "slurm", "--headless", "--name", "race", *arguments)
    eventually("steps of both", lambda: min(last_step(cli.runs / "race" / label) for label in "ab") > 20)
    return process


def job_of(run: Path) -> str:
    return str(manifest(run)["job"]).partition(".")[0]


@real
@pytest.mark.slow
def test_a_race_on_the_cluster_has_the_verdict_and_the_bits_of_here(here: Cli, environment: dict[str, str]) -> None:
    found = here.race(*SMALL, "--b", "seed=1", "--on", "slurm", exit_code=1)
    local = Cli(here.directory / "local", environment)
    local.directory.mkdir()
    same = local.race(*SMALL, "--b", "seed=1", exit_code=1)
    assert found["verdicts"][0]["headline"] == same["verdicts"][0]["headline"]
    for label in "ab":
        on, off = manifest(here.runs / "race" / label), manifest(local.runs / "race" / label)
        assert on["result"]["digests"] == off["result"]["digests"]
        assert on["process"]["host"] in ("n1", "n2", "n3") and on["job"] and off["process"]["host"] == socket.gethostname()
    assert (here.runs / "race/a/worker.log").exists()


@real
@pytest.mark.slow
def test_a_script_on_two_hosts_is_one_run_of_two_ranks(here: Cli) -> None:
    here.write(
        "train.py",
        """
        import os, time, numpy as np
        from reprotui import Recorder
        rank = int(os.environ["SLURM_PROCID"])
        generator = np.random.default_rng(rank)
        weights = np.ones(4, np.float32)
        with Recorder() as recorder:
            for step in range(1, 6):
                weights = weights * np.float32(0.9)
                recorder.step(step, batch=generator.random(3), params=weights, loss=float(weights.sum()))
        """.replace("\n        ", "\n"),
    )
    spread = ("--on", "slurm", "--nodes", "2", "--slurm", "ntasks-per-node=1")
    done = here("race", *spread, "--repeat", "2", "--name", "race", "--json", "--", "python", "train.py")
    found = json.loads(done.stdout)
    assert found["verdicts"][0]["kind"] == "identical"
    runs = [here.runs / "race/a", here.runs / "race/a/ranks/0001"]
    assert [manifest(run)["rank"] for run in runs] == [0, 1] and len({manifest(run)["host"] for run in runs}) == 2


@real
@pytest.mark.slow
def test_interrupting_ends_both_jobs_in_good_order(here: Cli, cluster: SlurmCluster) -> None:
    process = started(here)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "equal up to step" in out, out
    assert [RunDirectory(here.runs / "race" / label).state() for label in "ab"] == ["stopped", "stopped"]
    assert not cluster.ask("squeue", "--noheader")


@real
@pytest.mark.slow
def test_a_job_that_is_cancelled_or_preempted_seals_what_it_has(here: Cli, cluster: SlurmCluster) -> None:
    process = started(here)
    cluster.ask("scancel", job_of(here.runs / "race/b"))
    eventually("the end of B", lambda: RunDirectory(here.runs / "race/b").state() == "stopped")
    urgent = ("sbatch", "--partition=urgent", "--nodes=3", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
    cluster.ask(*urgent)
    out, _ = process.communicate(timeout=60)
    assert process.returncode in (0, 3) and RunDirectory(here.runs / "race/a").state() == "stopped", out
    eventually("the end of the urgent one", lambda: not cluster.ask("squeue", "--noheader"))


@real
@pytest.mark.slow
@pytest.mark.parametrize("where", [[], ["--local-trace", "1"]], ids=["at-once", "local"])
def test_preempted_runs_save_go_back_into_the_queue_and_go_on_in_the_same_run(
    here: Cli, cluster: SlurmCluster, where: list[str]
) -> None:
    process = here.start(
        "race",
        *SMALL[:3],
        "steps=40000",
        "--every",
        "20",
        "--on",
        "slurm",
        "--requeue",
        "--headless",
        "--name",
        "race",
        *where,
    )
    eventually("steps of both", lambda: min(last_step(here.runs / "race" / label) for label in "ab") > 20)
    cluster.ask("sbatch", "--partition=urgent", "--nodes=3", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
    jobs = [job_of(here.runs / "race" / label) for label in "ab"]
    eventually("both in the queue again", lambda: all("PENDING" in cluster.ask("scontrol", "show", "job", job) for job in jobs))
    for job in jobs:  # Slurm lets two minutes pass
        cluster.ask("scontrol", "update", f"JobId={job}", "StartTime=now")
    out, said = process.communicate(timeout=200)
    assert process.returncode == 0 and "through step 40000" in out and "IDENTICAL" in out, (out, said)
    for label in "ab":
        run = here.runs / "race" / label
        kinds = [kind for kind, _ in events_of(run)]
        assert "restored" in kinds and manifest(run)["restore"]["step"] > 20 and (run / "trace.before-1.db").exists()
        before = RunDirectory(run)
        assert [row.step for row in rows_of(run)] == list(range(0, 40001, 20)), "each step once"
        assert before.state() == "finished"
    here.compare("race/a", "race/b", "--verify")
    eventually("an empty queue", lambda: not cluster.ask("squeue", "--noheader"))


@real
@pytest.mark.slow
def test_interrupting_ends_runs_that_would_go_back_into_the_queue(here: Cli, cluster: SlurmCluster) -> None:
    process = started(here, "--requeue")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130 and not cluster.ask("squeue", "--noheader")
    assert [RunDirectory(here.runs / "race" / label).state() for label in "ab"] == ["stopped", "stopped"]


@real
@pytest.mark.slow
def test_a_cancelled_run_does_not_go_back_into_the_queue(here: Cli, cluster: SlurmCluster) -> None:
    process = started(here, "--requeue")
    for label in "ab":
        cluster.ask("scancel", job_of(here.runs / "race" / label))
    process.communicate(timeout=60)
    assert [RunDirectory(here.runs / "race" / label).state() for label in "ab"] == ["stopped", "stopped"]
    assert not cluster.ask("squeue", "--noheader")


@real
@pytest.mark.slow
def test_a_host_that_loses_its_power_is_named_and_nothing_acknowledged_is_lost(here: Cli, cluster: SlurmCluster) -> None:
    process = started(here, "--slurm", "exclusive")  # a host for each
    host, before = manifest(here.runs / "race/b")["process"]["host"], last_step(here.runs / "race/b")
    cluster.kill_node(host)
    try:
        eventually("the end of B", lambda: RunDirectory(here.runs / "race/b").state() == "killed")
        here("control", "race", "stop")
        out, _ = process.communicate(timeout=60)
    finally:
        cluster.begin_node(host)
        eventually("the host again", lambda: host in cluster.ask("sinfo", "--noheader", "--Node", "--states=idle"))
    assert process.returncode == 4 and f"NODE_FAIL on {host}" in out and "INCOMPLETE" in out, out
    assert last_step(here.runs / "race/b") >= before
    assert here("compare", "race", "--verify", exit_code=None).stdout.count("damaged") == 0
    assert "NODE_FAIL" in here("runs").stdout


@real
@pytest.mark.slow
def test_a_job_that_waits_says_why_and_is_taken_out_of_the_queue(here: Cli, cluster: SlurmCluster) -> None:
    blocking = cluster.ask("sbatch", "--parsable", "--nodes=3", "--exclusive", "--output=/dev/null", "--wrap=sleep 300").strip()
    eventually("a full cluster", lambda: "R" in cluster.ask("squeue", "--noheader", "--format=%t"))
    log = here.directory / "said"
    with log.open("w") as said:
        process = here.start("race", *SMALL, "--on", "slurm", "--headless", "--name", "race", stderr=said)
        eventually("the reason", lambda: "waits: " in log.read_text())
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "CANCELLED" in out, out
    assert cluster.ask("squeue", "--noheader", "--format=%i").split() == [blocking]
    assert [RunDirectory(here.runs / "race" / label).state() for label in "ab"] == ["killed", "killed"]
    cluster.ask("scancel", blocking)
    eventually("an empty queue", lambda: not cluster.ask("squeue", "--noheader"))


@real
@pytest.mark.slow
def test_detached_jobs_are_judged_by_whoever_opens_them_later(here: Cli, cluster: SlurmCluster) -> None:
    told = json.loads(here("race", *SMALL, "--on", "slurm", "--detach", "--name", "race", "--json").stdout)
    assert set(told["jobs"]) == {"A", "B"} and all(number.isdigit() for number in told["jobs"].values())
    eventually("both ends", lambda: all(RunDirectory(here.runs / "race" / label).state() == "finished" for label in "ab"))
    assert "IDENTICAL through step 40" in here("open", "race", "--once").stdout
    eventually("an empty queue", lambda: not cluster.ask("squeue", "--noheader"))


@real
@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "said"), [(["--partition", "nope"], "invalid partition"), (["--time", "soon"], "Invalid --time")]
)
def test_what_slurm_refuses_is_said_and_leaves_nothing(here: Cli, options: list[str], said: str) -> None:
    done = here("race", *SMALL, "--on", "slurm", "--name", "race", *options, exit_code=2)
    assert "Slurm refuses the job" in done.stderr and said in done.stderr
    assert not (here.runs / "race").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--nodes", "2"], "--nodes is for runs on a cluster: give --on slurm too"),
        (["--detach"], "--detach is for runs on a cluster"),
        (["--requeue"], "--requeue is for runs on a cluster"),
        (["--on", "slurm", "--requeue", "--", "python", "train.py"], "--requeue is for experiments"),
        (["--slurm", "qos=high"], "--slurm qos=high is for runs on a cluster"),
        (["--on", "slurm", "--slurm", "output=x"], "reprotui sets this one itself"),
        (["--on", "slurm", "--slurm=--qos=x"], "expected a long option of sbatch without its dashes"),
        (["--on", "slurm", "--a-rev", "main", "--", "python", "train.py"], "the hosts of a cluster do not see"),
        (["--on", "slurm"], "there is no sbatch here"),
    ],
)
def test_options_of_a_cluster_that_cannot_be(reprotui: Cli, arguments: list[str], said: str) -> None:
    nowhere = {**reprotui.environment, "PATH": str(reprotui.directory)}
    assert said in reprotui("race", *arguments, exit_code=2, env=nowhere).stderr
    assert not any(reprotui.runs.glob("*/run.json")) and not any(reprotui.runs.glob("*/race.json"))


def test_a_restored_run_without_checkpoints_of_its_own_goes_back_to_what_it_was_restored_from(tmp_path: Path) -> None:
    restore = Restore("/somewhere/checkpoints/40", 40)
    run = RunDirectory(tmp_path)
    found = RunManifest.new(Kind.EXPERIMENT, "x", ["reprotui"], Recording(), restore=restore)
    run.write_manifest(found.document)
    run.trace_path.write_bytes(b"of before")
    assert requeue.put_aside(run, run.manifest()) == restore
    assert (tmp_path / "trace.before-1.db").read_bytes() == b"of before" and not run.trace_path.exists()


def test_defaults_stand_in_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "settings.toml"
    path.write_text('[slurm]\npartition = "gpu"\nnodes = 2\nexclusive = true\n')
    assert load_settings(path).slurm == {"partition": "gpu", "nodes": "2", "exclusive": ""}
    path.write_text("[slurm]\npartition = 1.5\n")
    with pytest.raises(BadInputError, match=r"slurm: partition = 1\.5: expected a text"):
        load_settings(path)
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(BadInputError, match="expected a long option"):
        SlurmLauncher({"Bad": ""})


# A sweep over hosts

ONE_HOST_IS_BROKEN = """
import socket
import jax.numpy as jnp, numpy as np
from reprotui.experiments import State, StepOutput

class Experiment:
    def __init__(self, config):
        pass

    def init(self, key):
        return State({"w": jnp.zeros(3)}, ())

    def batch(self, step):
        broken = socket.gethostname() == "n2" and step == 7
        return np.full(3, step + broken, np.float32)

    def train_step(self, state, batch, key):
        grads = {"w": state.params["w"] - batch}
        return State({"w": state.params["w"] - 0.1 * grads["w"]}, ()), StepOutput(jnp.sum(grads["w"]), grads)
"""


@real
@pytest.mark.slow
def test_a_sweep_names_the_host_that_computes_otherwise(here: Cli, cluster: SlurmCluster) -> None:
    here.write("load.py", ONE_HOST_IS_BROKEN)
    told = json.loads(here("sweep", "load.py", "steps=20", "--name", "burn-in", "--json", exit_code=1).stdout)
    assert told["counts"] == {"differ": 1, "identical": 2} and not told["not_tested"]
    hosts = {entry["name"]: entry for entry in told["hosts"]}
    assert hosts["n2"]["hosts"] == ["n1", "n2"] and hosts["n2"]["verdict"].startswith("DIVERGED at step 7 · batch")
    assert hosts["n1"]["hosts"] == ["n1"] and hosts["n3"]["verdict"] == "IDENTICAL through step 20"
    assert "n2" in here("fleet", "runs/burn-in", "--once", exit_code=1).stdout.splitlines()[1]
    eventually("an empty queue", lambda: not cluster.ask("squeue", "--noheader"))


@real
@pytest.mark.slow
def test_a_sweep_lasts_about_as_long_as_was_asked_and_says_which_hosts_it_left_out(here: Cli, cluster: SlurmCluster) -> None:
    cluster.ask("scontrol", "update", "NodeName=n3", "State=DRAIN", "Reason=test")
    try:
        done = here("sweep", *SMALL[:3], "--minutes", "0.02", "--name", "burn-in")
    finally:
        cluster.ask("scontrol", "update", "NodeName=n3", "State=RESUME")
    assert "not tested: n3 (drained)" in done.stdout and done.stdout.count("IDENTICAL through step") == 2, done.stdout
    assert "steps take about 0.02 min there" in done.stderr
    assert not (here.runs / "burn-in/calibration").exists()
    eventually("an empty queue", lambda: not cluster.ask("squeue", "--noheader"))


@real
@pytest.mark.slow
def test_an_interrupted_sweep_leaves_no_job(here: Cli, cluster: SlurmCluster) -> None:
    process = here.start("sweep", *LONG, "--name", "burn-in")
    eventually("steps", lambda: last_step(here.runs / "burn-in/n1/b") > 5)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130 and not cluster.ask("squeue", "--noheader")


@real
@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--hosts", "n1,n9"], "the partition has no host n9"), (["--partition", "nope"], "no partition 'nope'"),
        (["--minutes", "-1"], "expected a time above 0"), (["--reference", "n9"], "the partition has no host n9"),
    ],
)  # fmt: skip
def test_a_sweep_that_cannot_be_leaves_nothing(here: Cli, options: list[str], said: str) -> None:
    assert said in here("sweep", *options, exit_code=2).stderr
    assert not here.runs.exists()
