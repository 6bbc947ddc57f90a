"""Where the recorded races are that come with reprotui."""

from pathlib import Path


def samples_directory() -> Path | None:
    """Return the directory of the sample runs: inside the installed package, else of the checkout; None where neither is."""
    package = Path(__file__).resolve().parents[1]
    return next((path for path in (package / "samples", package.parents[1] / "sample_runs") if path.is_dir()), None)
