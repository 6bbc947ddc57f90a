"""The one table of actions: bindings, footer, help, palette, key settings and the documentation are made from it."""

from dataclasses import dataclass

EVERYWHERE = "everywhere"


@dataclass(frozen=True)
class Action:
    """Something a person can do.

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
    Action("everywhere.command_palette", "ctrl+p", "palette", "find any action by name; go to step N", footer=True),
    Action("everywhere.theme", "f2", "theme", "next theme: dark, light, contrast"),
    Action("everywhere.back", "escape", "back", "leave what is open, one layer at a time"),
    Action("everywhere.quit", "q,ctrl+q", "quit", "leave the dashboard; runs go on", footer=True),
    Action("home.open", "enter,o", "open", "open the run or race, or all that are marked as one comparison", footer=True),
    Action("home.mark", "space", "mark", "mark for comparison", footer=True),
    Action("home.new", "n", "new race", "set up a race: experiment, configs, start", footer=True),
    Action("home.first", "f", "first race", "start the default experiment against itself"),
    Action("home.filter", "slash", "filter", "show only what contains a text", footer=True),
    Action("home.delete", "d,delete", "delete", "delete from disk, after asking", footer=True),
    Action("home.tab", "tab", "next list", "go on to runs, ready-made races, samples"),
    Action("home.refresh", "r", "refresh", "read the runs directory again"),
    Action("new.edit", "enter", "edit", "edit the cell, or take its next choice; a number is typed at once", footer=True),
    Action("new.choice", "space", "next choice", "next choice of the cell, or next built-in experiment"),
    Action("new.default", "backspace,delete,x", "default", "put the default back into the cell"),
    Action("new.start", "ctrl+s,f5", "start", "start the race and watch it", footer=True),
    Action("new.add", "ctrl+n", "add run", "another column, a copy of the last one", footer=True),
    Action("new.remove", "ctrl+d", "remove run", "take the last column away", footer=True),
    Action("new.copy", "ctrl+y", "copy command", "copy the equivalent command line", footer=True),
    Action("new.only_differing", "ctrl+o", "only differing", "show only fields that differ or were changed", footer=True),
    Action("race.open_step", "enter", "open step", "the differences of this step, leaf by leaf", footer=True),
    Action("race.first_difference", "d", "first ≠", "go to the first diverging step", footer=True),
    Action("race.next_difference", "n", "next ≠", "next step that differs", footer=True),
    Action("race.previous_difference", "N", "previous ≠", "previous step that differs"),
    Action("race.follow", "f", "follow", "follow the newest step; any scrolling suspends it", footer=True),
    Action("race.pause", "space", "pause", "pause or resume the chosen runs after their step", footer=True),
    Action("race.advance", "full_stop", "one step", "let the chosen paused runs do one step"),
    Action("race.stop", "s", "stop", "stop the chosen runs: they finish their step and seal the trace"),
    Action("race.versus", "v", "versus", "hold another run against A, in a race of more than two"),
    Action("race.target", "t", "target", "choose what pause, one step and stop mean: all runs, or one"),
    Action("race.stop_at_divergence", "x", "stop at ≠", "stop all runs when the first difference is seen"),
    Action("race.export", "e", "report", "write a verification report: Markdown, JSON, HTML", footer=True),
    Action("race.copy", "y", "copy", "copy the command that repeats this race"),
    Action("race.copy_value", "Y", "copy value", "copy what the cursor is on: step, checksums, difference"),
    Action("race.log_scale", "l", "log scale", "loss axis logarithmic or linear"),
    Action("race.zoom_in", "plus,equals_sign", "zoom in", "fewer steps on the chart, around the cursor"),
    Action("race.zoom_out", "minus", "zoom out", "more steps on the chart"),
    Action("race.zoom_all", "0", "whole run", "all steps on the chart"),
    Action("race.pan_left", "left,h", "pan left", "earlier steps on the chart"),
    Action("race.pan_right", "right", "pan right", "later steps on the chart"),
    Action("race.pane_chart", "1", "chart", "go to the loss chart", call="pane('chart')"),
    Action("race.pane_strip", "2", "strip", "go to the divergence strip", call="pane('strip')"),
    Action("race.pane_steps", "3", "steps", "go to the step table", call="pane('steps')"),
    Action("race.pane_events", "4", "events", "go to the events", call="pane('events')"),
    Action("race.pane_log", "5", "log", "go to the workers' logs", call="pane('log')"),
    Action("race.zoom", "z", "zoom pane", "give the pane all the room, or give it back"),
    Action("race.checkpoints", "c", "checkpoints", "checkpoints of the runs: save now, verify, compare", footer=True),
    Action("checkpoints.verify", "v,enter", "verify", "verify the checkpoint under the cursor: files and content", footer=True),
    Action("checkpoints.verify_all", "V", "verify all", "verify every checkpoint that is listed", footer=True),
    Action("checkpoints.save", "s", "save now", "ask the run under the cursor to save after its step", footer=True),
    Action("checkpoints.restore", "R", "restore", "verify it, and go on from it in a new run", footer=True),
    Action("checkpoints.diff", "d", "A against B", "compare this checkpoint with the other run's at the same step", footer=True),
    Action("checkpoints.sign", "S", "sign", "verify the checkpoint under the cursor, and sign it with a private key"),
    Action("checkpoints.key", "K", "public key", "public key or certificates: whose signatures count"),
    Action("checkpoints.cancel", "x", "cancel", "stop what is being verified or compared"),
    Action("checkpoints.copy_value", "y", "copy", "copy path, status and digests"),
    Action("checkpoints.refresh", "r", "refresh", "list the checkpoints again"),
    Action("step.next_difference", "n", "next ≠", "next step that differs", footer=True),
    Action("step.previous_difference", "N", "previous ≠", "previous step that differs", footer=True),
    Action("step.first_difference", "d", "first ≠", "first diverging step", footer=True),
    Action("step.next_step", "right_square_bracket", "step +1", "next recorded step", footer=True),
    Action("step.previous_step", "left_square_bracket", "step −1", "previous recorded step", footer=True),
    Action("step.exact", "x", "exact", "replay both runs to this step: differences by element; again cancels", footer=True),
    Action("step.only_different", "o", "only ≠", "show only leaves that differ", footer=True),
    Action("step.filter", "slash", "filter", "show only leaves whose path contains a text or matches a pattern", footer=True),
    Action("step.toggle", "space", "fold", "open or close a phase or a branch"),
    Action("step.expand_all", "asterisk", "expand all", "open everything"),
    Action("step.export", "e", "report", "write a verification report"),
    Action("step.copy_value", "y", "copy", "copy path and checksums of the leaf"),
)  # fmt: skip

BY_ID = {item.id: item for item in ACTIONS}
PANES = ("chart", "strip", "steps", "events", "log")


def of_screen(screen: str) -> tuple[Action, ...]:
    """Return the actions of a screen, its own first, then those that hold everywhere."""
    return tuple(item for item in ACTIONS if item.screen == screen) + tuple(item for item in ACTIONS if item.screen == EVERYWHERE)
