"""Where the records of a training of several processes lie: the run directory is that of rank 0, and holds those of others.

runs/race/a/run.json, trace.db               rank 0, whose records stand for the run wherever one trace is looked at
runs/race/a/ranks/0001/run.json, trace.db    rank 1, a run directory of its own
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from reprotui.errors import ReprotuiError
from reprotui.manifest import RunManifest
from reprotui.run_directory import RunDirectory

DIRECTORY = "ranks"
RANKS = 1 << 16
"""No training is read as one of more processes: a damaged number shall not be counted up to."""


class Rank(NamedTuple):
    """Which of how many processes of a training one is; `job` is what the launcher calls it, None where nobody says."""

    number: int = 0
    of: int = 1
    job: str | None = None


def rank_path(run: Path, number: int) -> Path:
    """Return the run directory of a rank of a run."""
    return run / DIRECTORY / f"{number:04d}" if number else run


def world_of(manifest: RunManifest) -> int:
    """Return of how many processes a run is, 1 where it is of one, or of those of before, which recorded one of them."""
    size = manifest.world_size
    return size if manifest.rank == 0 and size is not None and 1 < size <= RANKS else 1


def ranks_of(run: Path, manifest: RunManifest) -> dict[int, RunDirectory]:
    """Return the run directories of the ranks that left one, by their numbers; of a run of one process its own alone."""
    found = {0: RunDirectory(run)}
    if (size := world_of(manifest)) > 1:
        others = ((number, RunDirectory(rank_path(run, number))) for number in range(1, size))
        found |= {number: directory for number, directory in others if directory.manifest_path.is_file()}
    return found


def named(numbers: Sequence[int], size: int, hosts: Mapping[int, str] = {}) -> str:
    """Say which ranks of a training: `rank 3 (host n2)`, `ranks 4-7 (host n2)`, `ranks 0 and 2`, `all 8 ranks`.

    Args:
        numbers: the ranks, in order.
        size: how many there are.
        hosts: where each runs; told where it is one host, and the ranks are not all.
    """
    if len(numbers) == size > 1:
        return f"all {size} ranks"
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][-1] + 1:
            spans[-1].append(number)
        else:
            spans.append([number])
    parts = [text for span in spans for text in ([f"{span[0]}-{span[-1]}"] if len(span) > 2 else map(str, span))]
    text = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    places = {hosts.get(number, "") for number in numbers}
    host = f" (host {places.pop()})" if len(places) == 1 and "" not in places else ""
    return f"{'rank' if len(numbers) == 1 else 'ranks'} {text}{host}"


def hosts_of(run: RunDirectory, manifest: RunManifest) -> tuple[str, ...]:
    """Return the hosts that the processes of a run were on, each once, in the order of their ranks; none where nobody said so."""
    manifests = [manifest]
    if world_of(manifest) > 1:
        for number, rank in ranks_of(run.path, manifest).items():
            with suppress(ReprotuiError, OSError):  # of a rank that cannot be read, its status tells
                manifests += [rank.manifest()] if number else []
    hosts = (found.host or (found.process.host if found.process else None) for found in manifests)
    return tuple(dict.fromkeys(host for host in hosts if host))
