"""The one table of actions: bindings, footer, help, palette, key settings and the documentation are made from it."""

from dataclasses import dataclass

EVERYWHERE = "everywhere"


@dataclass(frozen=True)
class Action:
    """Something a person can do.

    A letter means the same on every screen where it means anything; what ends a training or deletes something needs a capital.
    `id` is `<screen>.<name>`: what settings remap. A method of that screen does it (of the app for `everywhere`), with an
    argument where `call` gives one. `keys` are Textual's names, comma-separated; `text` stands in the footer, `help` in
    help and palette.
    """

    id: str
    keys: str
    text: str
    help: str
    footer: bool = False
    call: str = ""

    @property
    def screen(self) -> str:
        return self.id.partition(".")[0]

    @property
    def method(self) -> str:
        """Return the name of the method that does it: `do_<name>` of the screen, `action_<name>` of the app."""
        return (self.call or self.id.partition(".")[2]).partition("(")[0]

    @property
    def argument(self) -> str | None:
        """Return the one argument of the method, None where it takes none."""
        return self.call.partition("('")[2].removesuffix("')") or None

    @property
    def binding(self) -> str:
        """Return what a key is bound to: every action of a screen goes through one door, which says why one is refused."""
        return f"app.{self.method}" if self.screen == EVERYWHERE else f"screen.do('{self.id}')"


ACTIONS = (
    Action("everywhere.help", "question_mark,f1", "help", "keys and what they do, for this screen", footer=True),
    Action("everywhere.legend", "i,f3", "signs", "what the signs and words mean: phase, leaf, root, seal, marks", footer=True),
    Action("everywhere.command_palette", "ctrl+p", "palette", "find any action by name; go to step N", footer=True),
    Action("everywhere.theme", "f2", "theme", "next theme: dark, light, contrast"),
    Action("everywhere.back", "escape", "back", "leave what is open, one layer at a time", footer=True),
    Action("everywhere.quit", "q,ctrl+q", "quit", "leave the dashboard; runs go on", footer=True),
    Action("home.open", "enter", "open", "open the run or race, or all that are marked as one comparison", footer=True),
    Action("home.mark", "space", "mark", "mark for comparison, or to delete several", footer=True),
    Action("home.mark_all", "ctrl+a", "mark all", "mark all that the list shows, or none of them"),
    Action("home.new", "a", "new race", "set up a race: experiment, configs, start", footer=True),
    Action("home.first", "F", "first race", "start the default experiment against itself"),
    Action("home.resume_check", "U", "resume check", "hold a script's resumed run against its uninterrupted one"),
    Action("home.filter", "slash", "filter", "show only what contains a text", footer=True),
    Action("home.preview", "p", "preview", "more of the preview, or the whole width for the list", footer=True),
    Action("home.sort", "greater_than_sign", "sort", "sort by the next column; a click on a heading does too", call="sort('1')"),
    Action("home.sort_back", "less_than_sign", "sort back", "sort by the column before", call="sort('-1')"),
    Action("home.reverse", "exclamation_mark", "reverse", "the other way round", call="sort('0')"),
    Action("home.rename", "ctrl+r", "rename", "give the run or race another name (another directory)", call="tend('rename')"),
    Action("home.note", "W", "note", "write a note at the run or race", call="tend('note')"),
    Action("home.delete", "D,delete", "delete", "delete from disk, after asking", footer=True, call="tend('delete')"),
    Action("home.next_list", "tab,right,l", "next list", "runs, ready-made races, samples, lessons, fleet", call="turn('1')"),
    Action("home.previous_list", "shift+tab,left,h", "previous list", "go back to the list before", call="turn('-1')"),
    Action("home.lessons", "T", "lessons", "the tutorial: fourteen lessons, each a race with a fault"),
    Action("home.fleet", "Z", "fleet", "the fleet: hundreds of runs and races, the worst first; hosts against pairs"),
    Action("home.refresh", "r", "refresh", "read the runs directory again"),
    Action("fleet.open", "enter", "open", "open the run or race", footer=True),
    Action("fleet.group", "u", "group by", "group by host, by experiment, by config", footer=True),
    Action("fleet.next_group", "right_square_bracket", "next group", "list the next group alone", footer=True, call="turn('1')"),
    Action("fleet.previous_group", "left_square_bracket", "previous group", "the one before", footer=True, call="turn('-1')"),
    Action("fleet.filter", "slash", "filter", "show only what contains a text", footer=True),
    Action("fleet.next_list", "tab,right,l", "next list", "go on to the runs on Home", call="leave('1')"),
    Action("fleet.previous_list", "shift+tab,left,h", "previous list", "go back to the lessons on Home", call="leave('-1')"),
    Action("fleet.refresh", "r", "refresh", "read the directories again"),
    Action("lesson.run", "enter", "run", "race the lesson's file, as it is planted or mended now", footer=True),
    Action("lesson.plant", "x", "plant / mend", "plant the next fault, or mend it", footer=True),
    Action("lesson.predict_1", "1", "predict", "predict the verdict: the first choice", footer=True, call="predict('1')"),
    Action("lesson.predict_2", "2", "predict 2", "predict the verdict: the second choice", call="predict('2')"),
    Action("lesson.predict_3", "3", "predict 3", "predict the verdict: the third choice", call="predict('3')"),
    Action("lesson.predict_4", "4", "predict 4", "predict the verdict: the fourth choice", call="predict('4')"),
    Action("lesson.predict_5", "5", "predict 5", "predict the verdict: the fifth choice", call="predict('5')"),
    Action("lesson.predict_6", "6", "predict 6", "predict the verdict: the sixth choice", call="predict('6')"),
    Action("lesson.pane", "tab", "text / code", "go to the code, or back to the text", footer=True),
    Action("lesson.open", "O", "open race", "open the race on the screen for races: chart, steps, leaves", footer=True),
    Action("lesson.next", "right_square_bracket", "next", "next lesson", footer=True),
    Action("lesson.previous", "left_square_bracket", "previous", "lesson before"),
    Action("lesson.copy", "y", "copy", "copy the path of the lesson's file: copy it, and change it"),
    Action("new.edit", "enter", "edit", "edit the cell, or take its next choice; a number is typed at once", footer=True),
    Action("new.choice", "space", "next choice", "next choice of the cell, or next built-in experiment"),
    Action("new.default", "backspace,delete", "default", "put the default back into the cell"),
    Action("new.start", "ctrl+s,f5", "start", "start the race and watch it", footer=True),
    Action("new.add", "ctrl+n", "add run", "another column, a copy of the last one", footer=True),
    Action("new.remove", "ctrl+d", "remove run", "take the last column away", footer=True),
    Action("new.copy", "ctrl+y", "copy command", "copy the equivalent command line", footer=True),
    Action("new.only_differing", "ctrl+o", "only differing", "show only fields that differ or were changed", footer=True),
    Action("race.open_step", "enter", "step", "the differences of this step, leaf by leaf", footer=True),
    Action("race.first_difference", "d", "first ≠", "go to the first diverging step", footer=True),
    Action("race.next_difference", "n", "next ≠", "next step that differs", footer=True, call="difference('behind')"),
    Action("race.previous_difference", "N", "previous ≠", "previous step that differs", call="difference('before')"),
    Action("race.follow", "f", "follow", "follow the newest step; any scrolling suspends it", footer=True),
    Action("race.pause", "space", "pause", "pause, all after the same step; or let them go on", footer=True, call="ask('pause')"),
    Action("race.advance", "full_stop", "one step", "the paused runs go on to the step after the slowest", call="ask('advance')"),
    Action("race.stop", "S", "stop", "stop the chosen runs: they finish their step and seal the trace", call="ask('stop')"),
    Action("race.versus", "v", "versus", "hold another run against A, in a race of more than two"),
    Action("race.target", "t", "target", "choose what pause, one step and stop mean: all runs, or one"),
    Action("race.hold", "b", "hold at ≠", "go on side by side to the first difference, and hold there", call="ask('hold')"),
    Action("race.stop_at_divergence", "B", "stop at ≠", "stop all runs when the first difference is seen", call="ask('stop_at')"),
    Action("race.asked", "I", "asked", "what was asked of the runs: recording, checkpoints, tolerance, configs, commands"),
    Action("race.chance", "C", "chance", "where chance and data entered the scripts: seeds, draws, files, line by line"),
    Action("race.ranks", "H", "ranks", "the processes of each run: host, state, step, and which hold other copies than the rest"),
    Action("race.diagnose", "J", "diagnose", "prove the cause: race again with one change at a time"),
    Action("race.export", "e", "report", "write a verification report: Markdown, JSON, HTML", footer=True),
    Action("race.verify", "V", "verify traces", "hold every row of the traces against chain, bits and seal (compare --verify)"),
    Action("race.copy_value", "y", "copy", "copy what the cursor is on: step, checksums, difference"),
    Action("race.copy", "Y", "copy command", "copy the command that repeats this race"),
    Action("race.metric", "m", "metric", "what the chart shows: loss, recorded metrics, norms, pace", call="chart('metric')"),
    Action("race.apart", "vertical_line", "apart", "the chart shows how far each run is from A: |Δ|", call="chart('apart')"),
    Action("race.smooth", "M", "mean", "the chart shows means of 10, 100, 1,000 records, or each", call="chart('smooth')"),
    Action("race.clock", "w", "wall clock", "time or steps below the chart", call="chart('clock')"),
    Action("race.log_scale", "L", "log scale", "axis of the chart logarithmic or linear", call="chart('log_scale')"),
    Action("race.zoom_in", "plus,equals_sign", "zoom in", "fewer steps on chart and strip", call="chart('zoom_in')"),
    Action("race.zoom_out", "minus", "zoom out", "more steps on chart and strip", call="chart('zoom_out')"),
    Action("race.zoom_all", "0", "whole run", "all steps on chart and strip", call="chart('zoom_all')"),
    Action("race.pan_left", "left,h", "pan left", "earlier steps on chart and strip", call="chart('pan_left')"),
    Action("race.pan_right", "right,l", "pan right", "later steps on chart and strip", call="chart('pan_right')"),
    Action("race.pane_chart", "1", "chart", "go to the loss chart", call="pane('chart')"),
    Action("race.pane_strip", "2", "strip", "go to the divergence strip", call="pane('strip')"),
    Action("race.pane_steps", "3", "steps", "go to the step table", call="pane('steps')"),
    Action("race.pane_events", "4", "events", "go to the events", call="pane('events')"),
    Action("race.pane_log", "5", "log", "go to the workers' logs", call="pane('log')"),
    Action("race.filter", "slash", "filter", "show only events and log lines that contain a text"),
    Action("race.save_chart", "E", "chart to file", "write the chart as SVG, and all numbers as CSV", call="chart('save')"),
    Action("race.zoom", "z", "zoom pane", "give the pane all the room, or give it back"),
    Action("race.checkpoints", "c", "checkpoints", "checkpoints of the runs: save now, verify, compare", footer=True),
    Action("diagnosis.start", "enter", "search", "search the cause, or go on with a search that ended early", footer=True),
    Action("diagnosis.stop", "S", "stop", "end the search with what is known; it can go on later", footer=True),
    Action("diagnosis.copy_value", "y", "copy", "copy what was found", footer=True),
    Action("checkpoints.verify", "enter", "verify", "verify the checkpoint under the cursor: files and content", footer=True),
    Action("checkpoints.verify_all", "A", "verify all", "verify every checkpoint that is listed", footer=True),
    Action("checkpoints.save", "s", "save now", "ask the run under the cursor to save after its step", footer=True),
    Action("checkpoints.restore", "R", "restore", "verify it, and go on from it in a new run", footer=True),
    Action("checkpoints.diff", "v", "A against B", "compare this checkpoint with the other run's at the same step", footer=True),
    Action("checkpoints.sign", "P", "sign", "verify the checkpoint under the cursor, and sign it with a private key"),
    Action("checkpoints.key", "K", "public key", "public key or certificates: whose signatures count"),
    Action("checkpoints.copy_value", "y", "copy", "copy path, status and digests"),
    Action("checkpoints.refresh", "r", "refresh", "list the checkpoints again"),
    Action("step.next_difference", "n", "next ≠", "next step that differs", footer=True),
    Action("step.previous_difference", "N", "previous ≠", "previous step that differs", footer=True),
    Action("step.first_difference", "d", "first ≠", "first diverging step", footer=True),
    Action("step.next_step", "right_square_bracket", "step +1", "next recorded step", footer=True),
    Action("step.previous_step", "left_square_bracket", "step −1", "previous recorded step", footer=True),
    Action("step.open_leaf", "enter", "open leaf", "one leaf with all the room: elements and bits, where, history", footer=True),
    Action("step.detail", "tab", "detail", "go to the detail of the leaf, to scroll it, or back to the leaves", footer=True),
    Action("step.exact", "x", "exact", "replay both runs to this step: differences by element; again cancels", footer=True),
    Action("step.explain", "X", "explain", "take the step again in both runs: what began to differ, and its line"),
    Action("step.sort", "greater_than_sign", "sort", "by what differs most: elements, max |Δ|, max ulp; or causal", footer=True),
    Action("step.only_different", "o", "only ≠", "show only leaves that differ", footer=True),
    Action("step.filter", "slash", "filter", "show only leaves whose path contains a text or matches a pattern", footer=True),
    Action("step.fold", "space", "fold", "open or close a phase or a branch"),
    Action("step.close", "left,h", "close", "close the branch", call="fold('close')"),
    Action("step.open", "right,l", "open", "open the branch", call="fold('open')"),
    Action("step.expand_all", "asterisk", "expand all", "open everything"),
    Action("step.zoom", "z", "zoom pane", "give the leaves, or the detail, all the room, or give it back", footer=True),
    Action("step.export", "e", "report", "write a verification report", footer=True),
    Action("step.copy_value", "y", "copy", "copy path and checksums of the leaf", footer=True),
)  # fmt: skip

BY_ID = {item.id: item for item in ACTIONS}
SHORT = {
    "everywhere.command_palette": "", "everywhere.back": "", "home.new": "new", "fleet.previous_group": "group",
    "lesson.plant": "plant", "lesson.pane": "code", "lesson.open": "open", "new.edit": "edit", "new.add": "add",
    "new.remove": "remove", "new.copy": "copy", "new.only_differing": "differing", "race.first_difference": "to ≠",
    "race.checkpoints": "saved", "checkpoints.verify_all": "all", "checkpoints.save": "save", "checkpoints.diff": "A/B",
    "step.next_difference": "next≠", "step.first_difference": "1st≠", "step.previous_step": "step",
    "step.open_leaf": "leaf", "step.only_different": "only≠", "step.zoom": "zoom",
}  # fmt: skip
"""Texts of the footer where the whole ones have no room."""
PAIRS = {
    "everywhere.help": "everywhere.legend", "race.first_difference": "race.next_difference",
    "step.previous_step": "step.next_step", "fleet.previous_group": "fleet.next_group",
    "step.next_difference": "step.previous_difference",
}  # fmt: skip
"""Actions that are one entry with two keys there, in this order; the first gives the text."""
PANES = ("chart", "strip", "steps", "events", "log")


_NAMES = {
    "question_mark": "?", "slash": "/", "escape": "esc", "full_stop": ".", "plus": "+", "minus": "-", "space": "space",
    "greater_than_sign": ">", "less_than_sign": "<", "exclamation_mark": "!",
    "left_square_bracket": "[", "right_square_bracket": "]", "asterisk": "*", "equals_sign": "=", "delete": "del",
    "vertical_line": "|", "pageup": "pgup", "pagedown": "pgdn", "left": "←", "right": "→", "up": "↑", "down": "↓",
}  # fmt: skip


def key_name(key: str, ascii_only: bool = False, short: bool = False) -> str:
    """Return a key as it is printed on a keyboard; by its word where the terminal shows no arrows, by a sign where `short`."""
    key = key.strip()
    if short and not ascii_only and key == "enter":
        return "⏎"
    name = key.replace("ctrl+", "^") if key.startswith("ctrl+") else _NAMES.get(key, key)
    return key if ascii_only and not name.isascii() else name


def keys_of(action: Action, keymap: dict[str, str]) -> list[str]:
    """Return the keys of an action, those of the settings first."""
    return [key.strip() for key in keymap.get(action.id, action.keys).split(",")]


def of_screen(screen: str) -> tuple[Action, ...]:
    """Return the actions of a screen, its own first, then those that hold everywhere."""
    return tuple(item for item in ACTIONS if item.screen == screen) + tuple(item for item in ACTIONS if item.screen == EVERYWHERE)
