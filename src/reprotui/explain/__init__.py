"""The first kernel of a step whose inputs agree and whose output differs, and the line of source that it came from.

The caller's side loads no framework: for each run a process of its own takes the step again, in the recorded environment, and
reads what every kernel of the compiled program gave, without changing a bit of the program's own outputs.
"""

from reprotui.explain.answer import Explanation
from reprotui.explain.explain import NotExplained, explain_repeats, explain_step
from reprotui.explain.repeats import Repeated

__all__ = ["Explanation", "NotExplained", "Repeated", "explain_repeats", "explain_step"]
