"""What machine, packages, flags and code a run had: captured without importing any framework, and compared.

What only a running framework knows (backend, devices) is added by the worker under `devices`.
"""

import ast
import functools
import hashlib
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGES = ("reprotui", "jax", "jaxlib", "flax", "optax", "numpy", "ml_dtypes", "orbax-checkpoint", "torch")
"""Packages whose version can change the numbers. Plugins for accelerators are found by `_accelerator_packages`."""

_VARIABLES = re.compile(
    r"^(XLA_|JAX_|NPROC$|OMP_|MKL_|OPENBLAS_|KMP_|CUDA_|CUBLAS_|CUDNN_|NCCL_|NVIDIA_|TF_|TORCH_|PYTORCH_|HIP_|ROCR_|TPU_|"
    r"LIBTPU_|ENABLE_PJRT|PYTHONHASHSEED$|MALLOC_|LD_PRELOAD$|TZ$|LANG$|LC_ALL$)"
)
_NEUTRAL_VARIABLES = (
    "JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES",
    "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES",
)  # fmt: skip
"""Recorded, but where the cache lies is not a difference between two runs."""

LATER_ENTRIES = ("os", "gpus", "builds")
"""Entries that manifests of earlier versions lack: absent in one of two, they are no difference but unknown."""

GIT_SECONDS = 5
"""How long git may take to answer: a repository on a slow file system must not hold up a run."""

NVIDIA_SECONDS = 10
"""How long nvidia-smi may take: it wakes every GPU that is asleep."""


@dataclass(frozen=True)
class Difference:
    """One entry that differs between two runs: `name` such as `packages.jaxlib`, and both values as text."""

    name: str
    a: str
    b: str

    def __str__(self) -> str:
        return f"{self.name}: {self.a} → {self.b}"


def capture_environment(directory: Path | None = None, variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Describe this process: Python, packages and their builds, OS, CPU, GPUs and driver, relevant variables, git state.

    Args:
        directory: where the code lives whose git commit is recorded; the working directory by default.
        variables: its environment variables; those of now by default.

    Returns:
        A JSON object. Takes a few milliseconds and one call of git, and of nvidia-smi where there is one; imports no
        framework.
    """
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "executable": sys.executable,
        "platform": platform.platform(),
        "os": os_name(),
        "packages": package_versions(),
        "cpu": {
            "model": cpu_model(),
            "count": os.cpu_count(),
            "affinity": cores(),
        },
        "builds": package_builds(),
        "gpus": [dict(gpu) for gpu in gpus()],
        "host": platform.node(),
        "variables": {
            name: value
            for name, value in sorted((os.environ if variables is None else variables).items())
            if is_captured_variable(name)
        },
        "git": git_state(directory or Path.cwd()),
    }


def first_variables() -> dict[str, str]:
    """Return the environment variables that this process was started with, whatever it has imported since: jax sets some itself.

    Where the platform does not tell, or the process wrote its title over them, those of now.
    """
    try:
        entries = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return dict(os.environ)
    named = [os.fsdecode(entry).partition("=") for entry in entries if entry]
    if not all(name and equals for name, equals, _ in named):
        return dict(os.environ)
    return {name: value for name, _, value in named}


def is_captured_variable(name: str) -> bool:
    """Say whether an environment variable is part of a captured environment."""
    return _VARIABLES.match(name) is not None


def package_versions() -> dict[str, str]:
    """Return the installed versions of the packages that can change the numbers; absent ones are left out."""
    import importlib.metadata  # 12 ms, with the whole of `email`: whoever only compares environments does without

    versions = {}
    for name in (*PACKAGES, *_accelerator_packages()):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def package_builds() -> dict[str, dict[str, str | None]]:
    """Return what jaxlib and torch were built for and from, read from their `version.py` without importing them."""
    import importlib.metadata

    builds = {}
    for name, wanted in (("jaxlib", ("_git_hash",)), ("torch", ("cuda", "hip", "git_version"))):
        try:
            source = Path(str(importlib.metadata.distribution(name).locate_file(f"{name}/version.py")))
            tree = ast.parse(source.read_text(encoding="utf-8"))
        except (importlib.metadata.PackageNotFoundError, OSError, SyntaxError, ValueError):
            continue
        found: dict[str, str | None] = {}
        for node in tree.body:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target if isinstance(node, ast.AnnAssign) else None
            value = getattr(node, "value", None)
            if isinstance(target, ast.Name) and target.id in wanted and isinstance(value, ast.Constant):
                found[target.id.strip("_")] = None if value.value is None else str(value.value)
        if found:
            builds[name] = found
    return builds


@functools.cache
def gpus() -> tuple[Mapping[str, str], ...]:
    """Return name, memory and driver of each NVIDIA GPU, from nvidia-smi or else the kernel driver; none elsewhere."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=NVIDIA_SECONDS, check=True, stdin=subprocess.DEVNULL)
        rows = [[part.strip() for part in line.split(",")] for line in done.stdout.decode(errors="replace").splitlines()]
        return tuple(dict(zip(("name", "memory", "driver"), row, strict=True)) for row in rows if len(row) == 3)
    except (OSError, subprocess.SubprocessError):
        return _gpus_of_the_driver(Path("/proc/driver/nvidia"))


def _gpus_of_the_driver(directory: Path) -> tuple[Mapping[str, str], ...]:
    try:
        version = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", (directory / "version").read_text(encoding="utf-8"))
        cards = sorted((directory / "gpus").glob("*/information"))
        models = [re.search(r"^Model:\s*(.+)$", card.read_text(encoding="utf-8"), re.MULTILINE) for card in cards]
    except OSError:
        return ()
    driver = version.group(1) if version else "unknown"
    return tuple({"name": model.group(1).strip() if model else "unknown", "driver": driver} for model in models)


@functools.cache
def os_name() -> str:
    """Return the name of the operating system's distribution, such as `Debian GNU/Linux 12 (bookworm)`."""
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {platform.release()}"


def git_state(directory: Path) -> dict[str, Any] | None:
    """Return commit, dirty flag and the SHA-256 of the uncommitted difference, or None outside a repository."""

    def git(*arguments: str) -> bytes:
        # Settings of a repository can name programs that git runs: what is only described must start none.
        command = ["git", "-c", "core.fsmonitor=false", "-C", str(directory), *arguments]
        environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
        result = subprocess.run(
            command, capture_output=True, timeout=GIT_SECONDS, check=True, stdin=subprocess.DEVNULL, env=environment
        )
        return result.stdout

    try:
        commit = git("rev-parse", "HEAD").decode().strip()
        status = git("status", "--porcelain", "--untracked-files=normal")
        difference = git("diff", "--no-ext-diff", "--no-textconv", "HEAD") if status else b""
    except (OSError, subprocess.SubprocessError):
        return None
    digest = hashlib.sha256(status + difference).hexdigest() if status else None
    return {"commit": commit, "dirty": bool(status), "diff_digest": digest}


def compare_environments(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Difference]:
    """Return every entry in which two captured environments differ, named by its path, in a stable order.

    What an earlier version did not capture (`LATER_ENTRIES`) is compared only where both have it.
    """
    unknown = {name for name in LATER_ENTRIES if (name in a) != (name in b)}
    a, b = ({name: value for name, value in item.items() if name not in unknown} for item in (a, b))
    return [
        Difference(name, _text(flat_a.get(name)), _text(flat_b.get(name)))
        for flat_a, flat_b in [(dict(_flatten(a)), dict(_flatten(b)))]
        for name in dict.fromkeys([*flat_a, *flat_b])
        if flat_a.get(name) != flat_b.get(name) and name.removeprefix("variables.") not in _NEUTRAL_VARIABLES
    ]


def _flatten(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    items: list[tuple[str, Any]] = []
    for key, entry in value.items():
        if isinstance(entry, Mapping):
            items += _flatten(entry, f"{prefix}{key}.")
        elif key == "gpus" and isinstance(entry, list):
            items.append(("gpus", len(entry)))
            items += _flatten({str(number): gpu for number, gpu in enumerate(entry)}, "gpus.")
        else:
            items.append((f"{prefix}{key}", entry))
    return items


def _text(value: Any) -> str:
    return "unset" if value is None else str(value)


def cores() -> int | None:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@functools.cache
def cpu_model() -> str:
    """Return the processor's model name, or the machine type where the platform does not tell."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _accelerator_packages() -> list[str]:
    prefixes = ("jax-cuda", "jax_cuda", "nvidia-cudnn", "nvidia-cublas", "jax-rocm", "jax_rocm", "libtpu")
    import importlib.metadata

    names = {dist.metadata["Name"] for dist in importlib.metadata.distributions() if dist.metadata["Name"]}
    return sorted(name for name in names if name.lower().startswith(prefixes))
