"""What of a run's recording is not the usual: `--every 10`, `--inside`, `--step-function train`, `--replicas first`."""

from reprotui.manifest import RunManifest
from reprotui.observation import Options, share_text
from reprotui.schedule import Recording, Replicas

_UNLIKE = {"inside": "--inside", "step_function": "--step-function", "loss": "--loss"}


def options_of(manifest: RunManifest) -> Options:
    """Return how a script was observed; of what nobody observed, or said with words of a newer version, the defaults."""
    if manifest.launch is not None:
        text = manifest.launch.options
        try:
            return Options.from_text(text)
        except (TypeError, ValueError):
            return Options()
    kept = manifest.observation
    asked = {name: value for name in ("step_function", "loss") if isinstance(value := kept.get(name), str)}
    return Options(**asked, inside=kept.get("inside") is True)


def asked_for(manifest: RunManifest) -> list[str]:
    """Return what is not the usual of a run's recording, as the command line takes it; norms and maxima are for the eye alone."""
    usual, recording, options = Recording(), manifest.recording, options_of(manifest)
    if not recording.enabled:
        return ["--no-record"]
    counts = (("--every", "every"), ("--leaves-every", "leaves_every"))
    found = [f"{flag} {getattr(recording, name)}" for flag, name in counts if getattr(recording, name) != getattr(usual, name)]
    found += ["--replicas first"] if recording.replicas == Replicas.FIRST else []
    found += ["--stop-at-nan"] if recording.stop_at_nan else []
    found += [f"--check {share_text(options.check)}"] if options.check else []
    given = options.told()
    return [*found, *(_UNLIKE[name] if name == "inside" else f"{_UNLIKE[name]} {value}" for name, value in given.items())]


def asked_otherwise(a: RunManifest, b: RunManifest, labels: tuple[str, str]) -> list[str]:
    """Return a line that says what two runs were asked to record where that is not the same; nothing where it is.

    When a run stops (`--stop-at-nan`), and what is recomputed of it (`--check`), changes no record.
    """
    of_each = [[text for text in asked_for(run) if not text.startswith(("--stop-at-nan", "--check"))] for run in (a, b)]
    if of_each[0] == of_each[1]:
        return []
    told = [f"{label} {' '.join(asked) or 'as usual'}" for label, asked in zip(labels, of_each, strict=True)]
    return [f"recorded in different ways: {', '.join(told)}"]


def other_steps(a: RunManifest, b: RunManifest, labels: tuple[str, str], step: int, leaf: str | None) -> str:
    """Return why a difference at a step is none of the trainings: what is called a step, or its loss, is not the same thing.

    Args:
        a, b: the manifests.
        labels: what the runs are called.
        step: where they first differ; before the first step (0) there is none to be taken for another.
        leaf: the only leaf that differs there, None for several.
    """
    one, other = options_of(a), options_of(b)
    unlike = [name for name in ("inside", "step_function") if getattr(one, name) != getattr(other, name)]
    if "step_function" in unlike and _functions(a) == _functions(b):
        unlike.remove("step_function")  # the one that was named is the one that was found
    unlike = unlike if step else []
    if one.loss != other.loss and leaf == "loss":
        unlike.append("loss")
    if not unlike:
        return ""
    names = ", ".join(_UNLIKE[name] for name in unlike)
    said = " and ".join(f"{label} {_said(options, unlike)}" for label, options in zip(labels, (one, other), strict=True))
    what = "loss" if unlike == ["loss"] else "step"
    return f"what they call a {what} is not the same thing: {said}; record both with the same {names}"


def _functions(manifest: RunManifest) -> set[str]:
    """Return the functions whose calls the records of a run are made of."""
    calls = manifest.result.coverage.get("calls") if manifest.result is not None else None
    return set(calls) if isinstance(calls, dict) else set()


def _said(options: Options, names: list[str]) -> str:
    given = options.told()
    words = [_UNLIKE[name] if name == "inside" else f"{_UNLIKE[name]} {given[name]}" for name in names if name in given]
    return f"was recorded with {' '.join(words)}" if words else f"without {', '.join(_UNLIKE[name] for name in names)}"
