"""Campaign: differences that are planted in one line of a program; does `explain` name it, and is it ever wrong?"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.common import Progress, at_least, at_most
from reprotui.errors import WorkerFailedError

SCRIPTS = Path(__file__).parent / "scripts" / "explained"
RIGHT_SHARE = 28 / 30
"""Of the planted differences so many must have the right line."""


class Plant(NamedTuple):
    """A difference: what is changed in B, and the line that is to be named.

    Attributes:
        script: which program.
        old, new: a text of it, or of `helper.py`, and what stands in B instead.
        line: part of the line that is to be named; the changed one where it is empty.
    """

    script: str
    old: str
    new: str
    line: str = ""


PLANTS = (
    Plant("jax_mlp", "approximate=True", "approximate=False"),
    Plant("jax_mlp", "+ 1e-6", "+ 2e-6"),
    Plant("jax_mlp", "fold_in(key, 1)", "fold_in(key, 2)"),
    Plant("jax_mlp", '(scaled(h) + params["bias"]) + 0.1 * h', 'scaled(h) + (params["bias"] + 0.1 * h)'),
    Plant("jax_mlp", "momentum=0.9)", "momentum=0.9, nesterov=True)", "optimizer.update"),
    Plant("jax_mlp", "x * 0.5 + x * 0.25", "x * 0.3 + x * 0.45"),
    Plant("jax_mlp", 'out = h @ params["out"]', 'out = h.astype(jnp.bfloat16).astype(jnp.float32) @ params["out"]'),
    Plant("jax_cnn", "mean, variance = h.mean((0, 1, 2)), h.var((0, 1, 2))", "mean, variance = running, h.var((0, 1, 2))"),
    Plant("jax_cnn", "variance + 1e-5", "variance + 1e-4"),
    Plant("jax_cnn", "jax.nn.relu(h)", "jax.nn.leaky_relu(h)"),
    Plant("jax_cnn", "lambda p, u: p + u", "lambda p, u: p + 0.999 * u"),
    Plant("jax_transformer", "jax.nn.softmax(scores, axis=-1)", "jnp.exp(scores) / jnp.exp(scores).sum(-1, keepdims=True)"),
    Plant("jax_transformer", "-0.5, 0.5)", "-0.001, 0.001)"),
    Plant("jax_transformer", "jax.nn.silu", "jax.nn.gelu"),
    Plant("jax_transformer", "optax.adamw(3e-3)", "optax.adamw(3e-3, weight_decay=0.01)", "optimizer.update"),
    Plant("jax_rnn", "jnp.tanh(now @", "jnp.sin(now @"),
    Plant("jax_rnn", "RATE = 0.05", "RATE = 0.051", "p - RATE * g"),
    Plant("jax_rnn", "0.01 * means.sum()", "0.01 * means[1:].sum()"),
    Plant("torch_mlp", 'approximate="tanh"', 'approximate="none"'),
    Plant("torch_mlp", "+ 1e-6", "+ 2e-6"),
    Plant("torch_mlp", "dropout(h, 0.2)", "dropout(h, 0.25)"),
    Plant("torch_mlp", "(scaled(h) + 0.03) + 0.1 * h", "scaled(h) + (0.03 + 0.1 * h)"),
    Plant("torch_mlp", "momentum=0.9)", "momentum=0.9, nesterov=True)", "optimizer.step()"),
    Plant("torch_mlp", "x * 0.5 + x * 0.25", "x * 0.3 + x * 0.45"),
    Plant("torch_cnn", "norm.train()", "norm.eval()", "h = norm(h)"),
    Plant("torch_cnn", "torch.relu(h)", "nn.functional.leaky_relu(h)"),
    Plant("torch_cnn", "parameters, 1.0", "parameters, 0.5", "clip_grad_norm_"),
    Plant("torch_transformer", "torch.softmax(scores, -1)", "scores.exp() / scores.exp().sum(-1, keepdim=True)"),
    Plant("torch_transformer", "model.parameters(), 3e-3)", "model.parameters(), 3e-3, eps=1e-6)", "optimizer.step()"),
    Plant("torch_transformer", "h + self.down(wide)", "h + self.down(wide.bfloat16().float())"),
    Plant("torch_rnn", "torch.tanh(enter", "torch.sin(enter"),
    Plant("torch_rnn", "torch.stack(means).sum()", "torch.stack(means)[1:].sum()"),
)  # fmt: skip


def run(count: int | None = None, seed: int = 0) -> dict[str, Any]:
    """Race each program against itself with a difference, and explain the first step that differs.

    Args:
        count: how many of the plants, from the first on; all where it is None.
        seed: the first plant, so that a part of them can be run.

    Returns:
        A row a kind of program: plants, those whose line was right, and those that were wrong without being called likely. A note
        each for what was not right.
    """
    plants = PLANTS[seed:][:count]
    progress = Progress("explaining", len(plants))
    rows: dict[str, dict[str, Any]] = {}
    notes = []
    with tempfile.TemporaryDirectory(prefix="reprotui-bench-") as folder:
        for number, plant in enumerate(plants):
            kind = plant.script.split("_")[0]
            row = rows.setdefault(
                kind, {"programs": kind, "plants": 0, "line right": 0, "of it likely": 0, "wrong, not likely": 0}
            )
            row["plants"] += 1
            found, wanted = explained(plant, Path(folder) / f"plant-{number}")
            place = found.get("place") or {}
            right = (Path(place.get("file", "")).name, place.get("line")) in wanted
            row["line right"] += right
            row["of it likely"] += right and found.get("likely", False)
            row["wrong, not likely"] += bool(place) and not right and not found.get("likely", False)
            if not right:
                notes.append(f"{plant.script}, {plant.new}: {found.get('headline', found)}")
            progress.advance()
    total = {name: sum(row[name] for row in rows.values()) for name in ("plants", "line right", "wrong, not likely")}
    notes.append(at_least("lines that were right", total["line right"] / max(1, total["plants"]), RIGHT_SHARE))
    notes.append(at_most("wrong lines that were not called likely", total["wrong, not likely"], 0))
    return {"rows": list(rows.values()), "notes": notes}


def explained(plant: Plant, folder: Path) -> tuple[dict[str, Any], set[tuple[str, int]]]:
    """Race a program against itself with a difference; return what `explain --json` says, and the lines that are right."""
    for label in "ab":
        (folder / label).mkdir(parents=True)
        for name in (plant.script, "helper"):
            text = (SCRIPTS / f"{name}.py").read_text()
            if label == "b":
                text = text.replace(plant.old, plant.new)
            (folder / label / f"{'train' if name == plant.script else name}.py").write_text(text)
    race = ["--a", "python a/train.py", "--b", "python b/train.py", "--runs-dir", "runs", "--name", "race", "--headless"]
    reprotui(folder, "race", *race)
    said = reprotui(folder, "explain", "runs/race/a", "runs/race/b", "--json")
    wanted = {
        (path.name, number)
        for path in (folder / "a").glob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (plant.line or plant.old) in line
    }
    shutil.rmtree(folder)
    try:
        return json.loads(said.stdout), wanted
    except ValueError:
        return {"headline": f"{said.stdout.strip()} {said.stderr.strip()}"}, wanted


def reprotui(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of reprotui's; exit codes that say what was found are no failure."""
    command = [sys.executable, "-m", "reprotui", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1, 2, 3):
        raise WorkerFailedError(f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr[-500:]}")
    return done
