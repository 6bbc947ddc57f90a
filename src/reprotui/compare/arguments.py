"""Which arguments of a script only name what it writes, or the run: no computation reads them.

A script does not say so; it is guessed from what people call such arguments. So they are listed as what does not explain a
difference, and told as something to look at where there is nothing else.
"""

import re

from reprotui.compare.around import ConfigDifference
from reprotui.trace.phases import PHASES

_NAMES = {
    "out", "output", "outputs", "outdir", "log", "logs", "logdir", "logfile", "results", "save", "savedir", "workdir", "work_dir",
    "name", "run", "run_name", "runname", "run_id", "exp", "exp_name", "expname", "exp_id", "experiment", "experiment_name",
    "experiment_id", "job_name", "project", "entity", "tag", "tags", "note", "notes", "title", "description",
    "checkpoint_dir", "checkpoints_dir", "ckpt_dir", "default_root_dir",
}  # fmt: skip
_WRITES = {
    "save", "log", "logging", "output", "out", "results", "result", "export", "dump", "plot", "figure", "profile", "report",
    "artifact", "artifacts", "wandb", "tensorboard", "tb", "mlflow",
}  # fmt: skip
_PLACES = {
    "dir", "directory", "folder", "path", "file", "filename", "root", "prefix", "suffix", "to", "name", "id", "project", "group",
    "entity", "tag", "run",
}  # fmt: skip
_READS = {"load", "resume", "from", "input", "init", "pretrained"}


def only_names(item: ConfigDifference) -> bool:
    """Say whether a setting only names what is written, or the run: `--out`, `--log-dir`, `--run-name`, of a script alone.

    A number may be an interval, which decides when something is done.
    """
    if item.phases != PHASES or not all(value is None or isinstance(value, str) for value in (item.a, item.b)):
        return False
    snake = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", item.name).lower()
    words = re.findall(r"[a-z0-9]+", snake)
    if not words or _READS.intersection(words):
        return False
    return "_".join(words) in _NAMES or (bool(_WRITES.intersection(words)) and words[-1] in _PLACES)
