"""The replay of a step of both runs, as a screen follows it: in a thread, cancelled by a person, its result kept for the step."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event
from typing import TYPE_CHECKING

from textual.message import Message

from reprotui.errors import UntrustedError
from reprotui.run_directory import RunDirectory
from reprotui.tui.leaf_tree import Exact

if TYPE_CHECKING:
    from reprotui.replay import StateDifference
    from reprotui.tui.screens.base import ActionScreen


class PairReplay:
    """What is known of the exact difference at a step.

    Args:
        screen: gets `News`, which it hands to `take`.
        pair: (label, run) of A and of the other.
    """

    class News(Message):
        """A replay goes on, in words, or ended: with a difference, or with words that say why there is none."""

        def __init__(self, found: StateDifference | UntrustedError | str, ended: bool = False) -> None:
            super().__init__()
            self.found, self.ended = found, ended

    def __init__(self, screen: ActionScreen, pair: Sequence[tuple[str, RunDirectory]]) -> None:
        self._screen, self._pair, self._cancel = screen, pair, Event()
        self.busy = False
        self.said = ""
        """How it goes, or what came of it."""
        self.found: StateDifference | None = None
        """The difference at the step that is looked at."""

    @property
    def leaves(self) -> Exact | None:
        """Return the leaves that differ, None where nothing was replayed."""
        return None if self.found is None else {(delta.phase, delta.path): delta for delta in self.found.leaves}

    def begin(self, step: int, trusted: bool = False) -> None:
        """Replay a step; one that is under way is cancelled instead. `trusted`: a person allowed what was not recorded here."""
        if self.busy:
            self.cancel()
            return
        self.busy = True
        self._cancel.clear()
        self._screen.run_worker(
            lambda: self._run(step, trusted), thread=True, exclusive=True, group="replay", exit_on_error=False
        )  # fmt: skip

    def _run(self, step: int, trusted: bool) -> None:
        from reprotui.tui.exact import replay_pair

        screen = self._screen
        found = replay_pair(self._pair, step, lambda text: screen.post_message(self.News(text)), self._cancel, trusted)
        screen.post_message(self.News(found, ended=True))

    def cancel(self) -> None:
        """Ask for the end of what is under way."""
        self._cancel.set()

    def look_at(self, step: int) -> None:
        """Forget what was found of another step."""
        if self.found is not None and self.found.a.step != step:
            self.found, self.said = None, ""

    def take(self, news: News, step: int) -> bool:
        """Take what is new while a step is looked at; say whether its difference is known now."""
        if news.ended:
            self.busy = False
        found = news.found
        if isinstance(found, UntrustedError):
            self.said = "not replayed: the run was not recorded here"
            self._screen.ask_trust(found, lambda: self.begin(step, trusted=True))
        elif isinstance(found, str):
            self.said = found
        elif found.a.step == step:
            self.found, count = found, len(found.leaves)
            self.said = (
                f"exact: {count} of {count + found.equal} leaves differ" if count else "exact: every leaf is equal to the bit"
            )
            return True
        return False
