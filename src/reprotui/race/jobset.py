"""Two runs as a JobSet of Kubernetes: each is an indexed job whose pods write into one shared folder. No launcher."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reprotui.commands import target
from reprotui.errors import BadInputError
from reprotui.race.scripts import Command
from reprotui.run_directory import RUNS_VARIABLE

PORT = 29500
GRACE_SECONDS = 60
"""How long a pod that is told to end may take to finish its step and seal."""
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
"""Names of services in the cluster's DNS: with the job and the number of the pod behind it, 63 characters at most."""
_INDEX = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
"""Where a pod of an indexed job finds its number, in every version."""


@dataclass(frozen=True)
class Pods:
    """What each run gets.

    Attributes:
        image: with Python, reprotui and what trains.
        claim: the persistent volume claim that all pods mount.
        mount: where; it is the runs directory.
        processes: pods of each run.
        gpus: of each pod.
        queue: of Kueue; empty for none.
        directory: in which the command starts; empty for that of the image.
    """

    image: str
    claim: str
    mount: str = "/runs"
    processes: int = 1
    gpus: int = 0
    queue: str = ""
    directory: str = ""


def check_name(name: str) -> str:
    """Return a name if pods can be found by it; raise BadInputError otherwise."""
    if not _NAME.fullmatch(name):
        raise BadInputError(
            f"{name!r} cannot be the name of a JobSet: use small letters, digits and -, at most 40, "
            "a letter first and no - at the end"
        )
    return name


def of_script(command: Command, run: str, options: Sequence[str] = ()) -> Command:
    """Return the command of a pod that trains a script, observed.

    Raises:
        BadInputError: it is no Python command.
    """
    words = list(command.words)
    at = target(words)
    if at is None:
        raise BadInputError(f"{command}: expected `python train.py` or `python -m module`: each pod starts one process, observed")
    return Command((*words[:at], "-m", "reprotui.observe", "--name", run, *options, *words[at:]), command.variables)


def of_experiment(tokens: Sequence[str], run: str) -> Command:
    """Return the command of a pod that trains an experiment."""
    return Command(("python", "-m", "reprotui", "run", *tokens, "--name", run))


def job_set(name: str, commands: Mapping[str, Command], pods: Pods) -> dict[str, Any]:
    """Return the JobSet.

    Args:
        name: of it; the runs are `NAME-a` and so on.
        commands: of each run, by its label.
        pods: what each run gets.
    """
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": name, **({"labels": {"kueue.x-k8s.io/queue-name": pods.queue}} if pods.queue else {})},
        "spec": {
            # A run that begins again would find its directory taken; what was recorded until then is there.
            "failurePolicy": {"maxRestarts": 0},
            "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True, "subdomain": name},
            "replicatedJobs": [
                {"name": label, "replicas": 1, "template": {"spec": _job(f"{name}-{label}-0-0.{name}", command, pods)}}
                for label, command in commands.items()
            ],
        },
    }


def _job(coordinator: str, command: Command, pods: Pods) -> dict[str, Any]:
    container = {
        "name": "train",
        "image": pods.image,
        "command": list(command.words),
        "env": _variables(coordinator, command, pods),
        **({"workingDir": pods.directory} if pods.directory else {}),
        **({"resources": {"limits": {"nvidia.com/gpu": str(pods.gpus)}}} if pods.gpus else {}),
        "volumeMounts": [{"name": "runs", "mountPath": pods.mount}],
    }
    return {
        "completionMode": "Indexed",
        "completions": pods.processes,
        "parallelism": pods.processes,
        "backoffLimit": 0,
        "template": {
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": GRACE_SECONDS,
                "containers": [container],
                "volumes": [{"name": "runs", "persistentVolumeClaim": {"claimName": pods.claim}}],
            }
        },
    }


def _variables(coordinator: str, command: Command, pods: Pods) -> list[dict[str, Any]]:
    given = {RUNS_VARIABLE: pods.mount, "PYTHONHASHSEED": "0", **command.variables}
    found: list[dict[str, Any]] = [{"name": name, "value": str(value)} for name, value in given.items()]
    if pods.processes == 1:
        return found
    # Names of torchrun, which torch and reprotui read; jax reads its own for the address.
    rank = {"name": "RANK", "valueFrom": {"fieldRef": {"fieldPath": _INDEX}}}
    world = {
        "LOCAL_RANK": "0", "WORLD_SIZE": str(pods.processes), "MASTER_ADDR": coordinator, "MASTER_PORT": str(PORT),
        "JAX_COORDINATOR_ADDRESS": f"{coordinator}:{PORT}",
    }  # fmt: skip
    return [*found, rank, *({"name": name, "value": value} for name, value in world.items())]
