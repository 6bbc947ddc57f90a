"""The Recorder: three lines in anybody's training loop, in jax, numpy or PyTorch."""

from pathlib import Path
from types import TracebackType
from typing import Any

from reprotui.errors import BadInputError
from reprotui.record.frameworks import describe
from reprotui.record.session import Session, StopTraining
from reprotui.run_directory import RunDirectory
from reprotui.schedule import Recording, Replicas


class Recorder:
    """Record a training loop into a run directory: `with Recorder(config=...) as rec:` and `rec.step(step, ...)`.

    Started by `reprotui race`, the run goes where the race wants it; started by hand, it makes a directory of its own.
    What is handed in is only read, by calls of its own. A loop that ends leaves a finished run, one that raises a failed
    one with the error, a process that dies a killed one; the trace can be read in all of them.

    Call `step` once an update, before the next update is dispatched: that one may take the buffers (donation).

    Args:
        config: what the run was configured with (mapping, dataclass or namespace); differences of it explain a divergence.
        name: the name of the run when started by hand; default: the script's name, date and time.
        steps: how many steps there will be, if known: for progress and time left.
        every: record every that many steps.
        leaves_every: store leaf rows every that many records; roots are always stored.
        statistics_every: take L2 norms and maxima every that many records.
        runs: the runs directory when started by hand; default `$REPROTUI_RUNS`, else `./runs`.
        replicas: of what lies on several devices of jax's read `all` copies, which must agree, or the `first`.

    Raises:
        BadInputError: the name is taken, the directory cannot be written, or another Recorder is open.
    """

    def __init__(
        self, config: Any = None, *, name: str | None = None, steps: int | None = None, every: int = Recording.every,
        leaves_every: int = Recording.leaves_every, statistics_every: int = Recording.statistics_every,
        runs: str | Path | None = None, replicas: str = Recording.replicas,
    ) -> None:  # fmt: skip
        if min(every, leaves_every, statistics_every) < 1:
            raise BadInputError("every, leaves_every and statistics_every count steps and records: each is at least 1")
        if replicas not in list(Replicas):
            raise BadInputError(f"replicas={replicas!r}: expected {' or '.join(Replicas)}")
        recording = Recording(
            every=every, leaves_every=leaves_every, statistics_every=statistics_every, replicas=Replicas(replicas)
        )
        observed = Session.current
        if observed is not None and not observed.ended:
            self._session = observed
            Session.current = None  # whoever observed the script leaves it to its own Recorder
            observed.adopt(config, recording)
        else:
            self._session = Session(config, name, Path(runs) if runs else None, recording)
        if steps is not None:
            self._session.adopt({"steps": steps})
        self._every = self._session.recording.every
        self._steps = steps
        self._trees: Any = None

    @property
    def run(self) -> RunDirectory:
        """Return the directory of the run."""
        return self._session.run

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        self._session.finish(error)
        # A stop was asked for: what stands behind the loop (saving, evaluation) still runs.
        return isinstance(error, StopTraining)

    def close(self) -> None:
        """End the run as finished, where it is not used in a `with`."""
        self._session.finish()

    def init(
        self, *, params: Any = None, opt_state: Any = None, extra: Any = None, model: Any = None, optimizer: Any = None
    ) -> None:
        """Record the state before the first update, as record 0; arguments as of `step`. Leave it out, and none is there."""
        trees, engine = self._ready()
        engine.init(**trees.init(params=params, opt_state=opt_state, extra=extra, model=model, optimizer=optimizer))

    def step(
        self, step: int, *, loss: Any = None, params: Any = None, grads: Any = None, opt_state: Any = None, batch: Any = None,
        rng: Any = None, metrics: Any = None, extra: Any = None, model: Any = None, optimizer: Any = None,
    ) -> None:  # fmt: skip
        """Record an update, then stand still while the run is paused.

        Every argument but the step may be left out; give the same ones at every step. Leaves are arrays, tensors and
        numbers; whatever else a tree holds (functions, strings) is passed over.

        Args:
            step: the number of the update, from 1 on, growing.
            batch, rng: what the update was given: data; keys, typed or raw, or generator states.
            loss, metrics, extra: what its forward pass gave; `extra` is other state, such as batch statistics.
            grads, opt_state, params: gradients, and the state after the update: pytrees, flax modules, equinox modules.
            model: a torch module: its parameters, gradients and buffers are read. Call after `optimizer.step()` and
                before `zero_grad()`.
            optimizer: a torch optimizer: its state is read.

        Raises:
            BadInputError: the step does not come after the one before it.
            StopTraining: a stop was asked for; `with Recorder(...)` takes it and the script goes on behind the block.
        """
        if step <= self._session.step:
            raise BadInputError(
                f"rec.step({step}) comes after rec.step({self._session.step}): steps are numbered from 1 and grow"
            )
        if self._session.ended:
            raise BadInputError(f"rec.step({step}): this Recorder is closed")
        if self._session.alien:
            return
        self._session.step = step
        if step % self._every == 0 or step == self._steps:
            trees, engine = self._ready()
            given = trees.step(
                loss=loss, params=params, grads=grads, opt_state=opt_state, batch=batch, rng=rng, metrics=metrics, extra=extra,
                model=model, optimizer=optimizer,
            )  # fmt: skip
            engine.step(step, force=True, **given)
            self._session.recorded(step)
        self._session.wait(step)

    def event(self, kind: str, text: str) -> None:
        """Write a remark of your own into the trace, such as `restored`, `epoch 3`."""
        self._session.event(kind, text)

    def _ready(self) -> tuple[Any, Any]:
        if self._trees is None:
            from reprotui.record import engine, trees

            self._trees = trees, engine.Engine(self._session.writer, self._session.recording)
            self._session.begin(describe(), "first record")
        return self._trees
