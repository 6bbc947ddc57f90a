"""Save a training state while the training goes on.

The order, in which a crash at any moment leaves an unregistered directory or a whole checkpoint: copy on the device, digest
from memory, trace committed, Orbax writes and renames, fsync of tree and parents, manifest beside it, registry entry.
"""

import os
import queue
import shutil
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from reprotui.checkpoints.prune import clear_unregistered, remove
from reprotui.checkpoints.register import register, registered_steps
from reprotui.checkpoints.verify import verify_checkpoint
from reprotui.checksum.leaves import is_key, spec_of, to_numpy
from reprotui.disk import with_disk
from reprotui.errors import BadInputError, WorkerFailedError
from reprotui.integrity import IntegrityError, content_to_json, digest_state, identity_of_run
from reprotui.integrity.formats.orbax import INTEGRITY_ITEM, TEMPORARY
from reprotui.integrity.status import Status
from reprotui.manifest import MARK, RunManifest
from reprotui.run_directory import RunDirectory
from reprotui.schedule import surplus

META_ITEM = "meta"
"""The JSON item that says whose state it is, so that a checkpoint that was moved can still be resumed."""
META_ENTRIES = (
    "manifest_version",
    "kind",
    "name",
    "created_ns",
    "experiment",
    "config",
    "config_phases",
    "recording",
    "checkpointing",
    "working_directory",
    MARK,
)
"""Entries of run.json that stand in it."""


NICENESS = 10
"""Of the thread that saves, and of the pools that it starts: where cores are short, the training goes first."""


class Position(NamedTuple):
    """Where a run stands: updates made, batches taken, the root key and how many keys were drawn from it."""

    step: int
    batches: int
    key: Any
    draws: int

    def next(self) -> "Position":
        """Return where the run stands one update further on."""
        return self._replace(step=self.step + 1, batches=self.batches + 1, draws=self.draws + 1)

    def leaves(self) -> list[tuple[str, Any]]:
        """Return it as leaves of the stored state."""
        return [
            ("step", np.asarray(self.step, np.int64)), ("data/position", np.asarray(self.batches, np.int64)),
            ("rng/key", self.key), ("rng/position", np.asarray(self.draws, np.int64)),
        ]  # fmt: skip


class Saver:
    """Save states of one run on a thread of its own; the training loop pays for the copy alone.

    An error there is raised by the next call of `check`, `save` or `close`: a run whose checkpoints fail has failed.

    Args:
        run: the run.
        manifest: its `run.json`.
        flush: commits the trace, so that no checkpoint is ahead of it.
        announce: called with kind and text of an event.
    """

    def __init__(
        self, run: RunDirectory, manifest: RunManifest, flush: Callable[[], None], announce: Callable[[str, str], None]
    ) -> None:
        self.policy = manifest.checkpointing
        self._run, self._manifest, self._flush, self._announce = run, manifest, flush, announce
        # One waits while one is written: memory holds three states at most, and a schedule too dense slows the loop down.
        self._queue: queue.Queue[tuple[int, list[tuple[str, Any]]] | None] = queue.Queue(1)
        self._thread: threading.Thread | None = None
        self._error: tuple[int, BaseException] | None = None
        self._taken: set[int] = set()
        self._written: int | None = None

    def save(self, position: Position, state: Sequence[tuple[str, Any]]) -> None:
        """Copy a state and have it saved; returns before it is.

        Args:
            position: where the run stands.
            state: path and jax array of every leaf; the arrays may be donated as soon as this returns.
        """
        self.check()
        if position.step in self._taken:
            self._announce("saved", f"step {position.step} (it was there already)")
            return
        self._taken.add(position.step)
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_all, name="checkpoints", daemon=True)
            self._thread.start()
        self._queue.put((position.step, [(path, _copy(leaf)) for path, leaf in [*state, *position.leaves()]]))

    def check(self) -> None:
        """Raise what went wrong on the thread.

        Raises:
            WorkerFailedError: a checkpoint could not be saved.
        """
        if self._error is not None:
            step, error = self._error
            self._error = None
            what = (
                str(error)
                if isinstance(error, BadInputError | IntegrityError)
                else f"{type(error).__name__}: {with_disk(error, self._place)}"
            )
            raise WorkerFailedError(f"the checkpoint of step {step} was not saved into {self._place}: {what}") from error

    def close(self) -> None:
        """Wait until everything is saved; raises as `check` does."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None
        self.check()

    def read_back(self) -> None:
        """Verify the checkpoint that was saved last by reading all of it: what is left of a run is known to be good.

        Raises:
            WorkerFailedError: what is on disk is not what was in memory.
        """
        if self._written is None:
            return
        result = verify_checkpoint(self._place / str(self._written), "content", run=self._run)
        if result.status is not Status.VALID:
            raise WorkerFailedError(
                f"the checkpoint of step {self._written} in {self._place} is {result.status} when read back: "
                f"{result.findings[0].message}; earlier ones may be good: reprotui checkpoint verify {self._run.path}"
            )
        self._announce("verified", f"checkpoint of step {self._written}, read back")

    @property
    def _place(self) -> Path:
        return self.policy.place(self._run.path)

    def _write_all(self) -> None:
        if sys.platform == "linux":  # where a priority is a thread's own, and that of the threads it starts
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while (item := self._queue.get()) is not None:
            if self._error is not None:
                continue
            step, leaves = item
            try:
                self._write(step, leaves)
                self._prune()
            except BaseException as error:
                for left in self._place.glob(f"{step}{TEMPORARY}*"):
                    shutil.rmtree(left, ignore_errors=True)  # on a full disk it is in the way
                self._error = step, error

    def _write(self, step: int, leaves: list[tuple[str, Any]]) -> None:
        from reprotui.checkpoints.orbax_v0 import write  # imports Orbax, 0.3 s: on this thread, and only where it is used

        directory = self._place
        directory.mkdir(parents=True, exist_ok=True)
        clear_unregistered(directory / str(step))
        specs = [spec_of(path, leaf) for path, leaf in leaves]
        host = [to_numpy(leaf) for _, leaf in leaves]
        content = digest_state((spec, array) for spec, array in zip(specs, host, strict=True) if array.size)
        stored = {
            spec.path: leaf if spec.dtype.startswith("key<") else array
            for spec, (_, leaf), array in zip(specs, leaves, host, strict=True)
            if array.size
        }
        # Orbax refuses arrays without elements; they hold no bits, and are made anew.
        empty = [[spec.path, spec.dtype, list(spec.shape)] for spec, array in zip(specs, host, strict=True) if not array.size]
        meta = {
            "step": step, "empty": empty, "run_directory": str(self._run.path.absolute()),
            "run": {name: self._manifest.document.get(name) for name in META_ENTRIES},
        }  # fmt: skip
        self._flush()
        path = directory / str(step)
        write(path, nested(stored), {INTEGRITY_ITEM: content_to_json(content), META_ITEM: meta})
        register(path, identity_of_run(self._manifest, step), content)
        self._written = step
        self._announce("saved", f"step {step}")

    def _prune(self) -> None:
        directory = self._place
        # What a crash left unregistered takes the place of none that can be restored.
        for step in surplus(registered_steps(directory), self.policy):
            try:
                remove(directory / str(step))
            except IntegrityError as error:
                # Evidence of damage is kept, and no reason to stop training.
                self._announce("not removed", f"checkpoint of step {step}: {error}")


def nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Return leaves as nested dicts along the `/` of their paths.

    Raises:
        BadInputError: two leaves would get one name in the checkpoint.
    """
    names = {path.replace("/", ".") for path in leaves}
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                break
        if len(names) != len(leaves) or not isinstance(node, dict) or name in node:
            raise BadInputError(
                f"leaf {path!r} and another would get one name: keys of the state must not differ by / or . alone"
            )
        node[name] = leaf
    return tree


def _copy(leaf: Any) -> Any:
    """Return a copy that the next step cannot donate.

    On the CPU it is dispatched like the steps themselves. On accelerators it goes to the host at once: a second state may
    not fit beside the first.
    """
    if not isinstance(leaf, jax.Array):
        return leaf
    if jax.default_backend() == "cpu" or is_key(leaf):
        return jnp.copy(leaf)
    return np.array(leaf)
