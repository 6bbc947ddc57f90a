"""Kinds of the events of a trace that others act on: who writes them must not load numpy for it, and who reads them may."""

TORN = "torn"
"""A leaf's copies on several devices are not equal."""
CORRUPT = "corrupt"
"""A step came out otherwise than when it was recomputed, or state changed by itself."""
WRONG = (TORN, CORRUPT)
"""A run holds values that are not right, whatever another run holds."""
RECOMPUTED = "recomputed"
"""A part of a step was computed once more and came out equal."""
LOSS_SPIKE, GRADIENT_SPIKE = "loss-spike", "gradient-spike"
"""A loss, or the norm of the gradients, lies far above those before it."""


def word_of(text: str) -> str:
    """Return the word for what an event of `WRONG` says: TORN or CORRUPT; a label may stand before it."""
    return "CORRUPT" if "CORRUPT at step" in text else "TORN"


def wrong_in(texts: tuple[str, ...]) -> str:
    """Return which runs hold values that are not right, from texts with the run's label before them: `TORN in a and b`."""
    labels: dict[str, dict[str, None]] = {}
    for text in texts:
        labels.setdefault(word_of(text), {})[text.split(": ", 1)[0]] = None
    return " · ".join(f"{word} in {' and '.join(found)}" for word, found in labels.items())
