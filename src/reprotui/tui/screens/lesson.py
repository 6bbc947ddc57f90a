"""A lesson: its text, its file, a prediction, and the race of that file, live."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textual import events, getters, work
from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.reactive import var
from textual.widgets import Markdown, Static

from reprotui.lessons.catalog import CLEAN, Lesson, LessonRace, all_lessons, matches
from reprotui.lessons.progress import KEY, done, read_progress, with_race
from reprotui.settings import remember, remembered
from reprotui.tui.screens.base import bindings
from reprotui.tui.screens.starting import StartingScreen
from reprotui.tui.symbols import plain
from reprotui.tui.widgets.lesson_code import LessonCode

if TYPE_CHECKING:
    from reprotui.race.start import Started
    from reprotui.race.status import RaceStatus

TEXT, CODE = "text", "code"


class LessonScreen(StartingScreen):
    """One lesson.

    Args:
        runs: the runs directory, where its races are kept.
        lesson: which lesson.
    """

    NAME = "lesson"
    BINDINGS = bindings("lesson")
    CSS_PATH = "lesson.tcss"
    AUTO_FOCUS = f"#{TEXT}"

    planted: var[int] = var(0, init=False)
    """Which of the lesson's races is played; 0 is the clean one."""
    prediction: var[str | None] = var(None, init=False)
    verdict: var[str | None] = var(None, init=False)
    """The headline of the race that ended last, None where none did since something was planted or mended."""

    code = getters.query_one(LessonCode)

    def __init__(self, runs: Path, lesson: Lesson) -> None:
        super().__init__()
        self.runs_directory, self.lesson = runs, lesson
        self.raced: Path | None = None
        self._racing = False

    def compose(self) -> ComposeResult:
        yield Static(id="heading")
        with Horizontal(id="body"):
            with VerticalScroll(id=TEXT):
                _, _, text = self.lesson.text.partition("\n")  # the title stands above
                yield Markdown(text.strip(), open_links=False)
            with VerticalScroll(id=CODE):
                yield LessonCode(self.symbols, self.lesson.code)
        yield Static(id="question")
        yield Horizontal(id="race")
        yield self.key_bar()

    def on_mount(self) -> None:
        self.show_all()

    @property
    def race(self) -> LessonRace:
        """Return the race that is played as the file is planted now."""
        return self.lesson.races[self.planted]

    def on_resize(self, event: events.Resize) -> None:
        super().on_resize(event)
        self.show_all()

    def show_all(self) -> None:
        """Show what is planted, the question, the prediction and what came of it."""
        symbols, lesson, race = self.symbols, self.lesson, self.race
        kept = read_progress(remembered())
        name = f"Lesson {lesson.number} of {len(all_lessons())} {symbols.dot} {lesson.title}"
        far = f"raced {done(kept, lesson)} of {len(lesson.races)}"
        state = ("clean", "$equal") if race.name == CLEAN else (f"planted: {race.name}", "$differs")
        parts = [Content.styled(plain(name, symbols), "bold"), Content.styled(plain(state[0], symbols), f"bold {state[1]}")]
        self.query_one("#heading", Static).update(Content("   ").join([*parts, Content.styled(far, "$muted")]))
        self.code.pointed = lesson.line_number(race)
        lines = [Content.styled(plain(race.about or lesson.question, symbols), "bold"), self._choices()]
        if race.about:
            lines[0] = Content.assemble((plain(race.about, symbols), "bold"), " Where does it show first?")
        if (outcome := self._outcome()) is not None:
            lines.append(outcome)
        self.query_one("#question", Static).update(Content("\n").join(lines))
        self.refresh_keys()

    watch_planted = watch_prediction = watch_verdict = show_all

    def _choices(self) -> Content:
        parts: list[Content] = []
        lines, room = [], self.size.width - 2
        for number, choice in enumerate(self.lesson.choices, 1):
            text = plain(choice.replace("through step", "to").replace("DIVERGED at step", "DIVERGED at"), self.symbols)
            style = "bold $on-verdict on $run-a" if choice == self.prediction else "$foreground"
            markup = f"[@click=screen.do('lesson.predict_{number}')][bold $run-a]{number}[/] [{style}]$text[/][/]"
            part = Content.from_markup(markup, text=text)
            if parts and sum(other.cell_length + 3 for other in parts) + part.cell_length > room:
                lines.append(Content("   ").join(parts))  # a number never stands on another line than its choice
                parts = []
            parts.append(part)
        return Content("\n").join([*lines, Content("   ").join(parts)])

    def _outcome(self) -> Content | None:
        if self.verdict is None:
            return None
        if self.prediction is None:
            return Content.styled("no prediction was made: choose before you run", "$muted")
        right = matches(self.verdict, self.prediction)
        sign, colour = (self.symbols.equal, "$equal") if right else (self.symbols.differs, "$differs")
        return Content.styled(f"{sign} your prediction was {'right' if right else 'wrong'}", f"bold {colour}")

    def why_not(self, action: str) -> str | None:
        if action == "lesson.run" and (self.starting or self._racing):
            return "the race is on: wait for its verdict"
        if action in ("lesson.plant", "lesson.next", "lesson.previous") and (self.starting or self._racing):
            return "the race is on: wait for its verdict, or leave (esc)"
        if action.startswith("lesson.predict"):
            if self.starting or self._racing or self.verdict is not None:
                return "predict before you run: x plants or mends the fault"
            if int(action[-1]) > len(self.lesson.choices):
                return f"there are {len(self.lesson.choices)} choices"
        if action == "lesson.open" and self.raced is None:
            return "nothing was raced yet: enter runs it"
        if action == "lesson.next" and self.lesson.number == len(all_lessons()):
            return "this is the last lesson"
        if action == "lesson.previous" and self.lesson.number == 1:
            return "this is the first lesson"
        return None

    def do_predict(self, number: str) -> None:
        self.prediction = self.lesson.choices[int(number) - 1]

    def do_plant(self) -> None:
        """Take the lesson's next race: its faults one by one, then the clean one again."""
        self.query_one("#race").remove_children()
        self.prediction, self.verdict = None, None
        self.planted = (self.planted + 1) % len(self.lesson.races)
        if (line := self.code.pointed) is not None:
            code = self.query_one(f"#{CODE}", VerticalScroll)
            code.scroll_to(y=max(0, line - code.size.height // 2), animate=False)

    def do_run(self) -> None:
        from reprotui.lessons.play import start_lesson

        if self.verdict is not None:
            self.verdict = None  # the same race once more: the prediction stands
        self.start_race(f"lesson {self.lesson.number}", partial(start_lesson, self.lesson, self.race, self.runs_directory))

    def opened(self, started: Started) -> None:
        """Show the race below the lesson."""
        self.raced, self._racing = started.path, True
        self._show_race(started)

    @work(exclusive=True, group="race")
    async def _show_race(self, started: Started) -> None:
        from reprotui.race.monitor import members
        from reprotui.tui.widgets.lesson_run import LessonRun

        place = self.query_one("#race")
        await place.remove_children()
        await place.mount(LessonRun(self.symbols, members([started.path]), started.processes, self._ended))

    def _ended(self, status: RaceStatus) -> None:
        verdict = status.verdict
        if not self._racing or verdict is None:
            return
        self._racing = False
        if matches(verdict.headline, self.race.verdict):
            right = None if self.prediction is None else matches(verdict.headline, self.prediction)
            remember(KEY, with_race(read_progress(remembered()), self.lesson, self.race, right))
        self.verdict = verdict.headline

    def do_open(self) -> None:
        assert self.raced is not None
        self.dashboard.open_runs([self.raced])

    def do_pane(self) -> None:
        """Go to the code, or back to the text; in a narrow terminal one of them is shown."""
        to_code = self.focused is None or self.focused.id != CODE
        self.set_class(to_code, "-code")
        self.query_one(f"#{CODE if to_code else TEXT}").focus()

    def do_copy(self) -> None:
        self.dashboard.copy(str(self.lesson.path), "path of the lesson's file")

    def do_next(self) -> None:
        self._go(1)

    def do_previous(self) -> None:
        self._go(-1)

    def _go(self, by: int) -> None:
        self.app.switch_screen(LessonScreen(self.runs_directory, all_lessons()[self.lesson.number - 1 + by]))
