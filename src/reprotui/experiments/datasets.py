"""Data sets and batch order of the built-in experiments. A batch is a pure function of the step."""

from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from reprotui.checksum import LeafSpec
from reprotui.errors import BadInputError
from reprotui.experiments.config import DigitsConfig, ExperimentConfig
from reprotui.experiments.random import purpose_key, root_key
from reprotui.integrity import content_digest
from reprotui.regular import read_regular

TRAIN_DIGITS = 1437
"""The first 80 % of the digits train, the rest test: a fixed split, in the order of the published file."""
SYNTHETIC_NOISE = 6.0
"""Standard deviation of the noise around a synthetic class's centre, in grey levels: learnable, not trivial."""


class Examples(NamedTuple):
    """Inputs and labels: float32[n, 8, 8] in 0..1 and int32[n]."""

    x: np.ndarray
    y: np.ndarray


def load_digits_or_synthetic(config: DigitsConfig) -> tuple[Examples, Examples]:
    """Return training and test examples: the UCI digits, or ten noisy classes drawn from the seed."""
    if config.data == "synthetic":
        x, y = _synthetic(config)
    else:
        with resources.files("reprotui.experiments.data").joinpath("digits.npz").open("rb") as file:
            archive = np.load(file)
            x, y = archive["images"].astype(np.float32), archive["labels"].astype(np.int32)
    x = x / np.float32(16)
    return Examples(x[:TRAIN_DIGITS], y[:TRAIN_DIGITS]), Examples(x[TRAIN_DIGITS:], y[TRAIN_DIGITS:])


def _synthetic(config: DigitsConfig) -> tuple[np.ndarray, np.ndarray]:
    centre_key, label_key, noise_key = jax.random.split(purpose_key(root_key(config.seed, config.prng), "data"), 3)
    count = 1797
    centres = jax.random.randint(centre_key, (10, 8, 8), 0, 17).astype(jnp.float32)
    y = jax.random.randint(label_key, (count,), 0, 10)
    # Rounded to whole grey levels: integers are the same on every backend.
    noise = jnp.round(SYNTHETIC_NOISE * jax.random.normal(noise_key, (count, 8, 8)))
    return np.asarray(jnp.clip(centres[y] + noise, 0, 16)), np.asarray(y, np.int32)


def load_text(path: str) -> tuple[np.ndarray, str]:
    """Return a text as int32 character indices, and its sorted alphabet.

    Raises:
        BadInputError: the file is missing, unreadable, empty or not UTF-8.
    """
    file = Path(path).expanduser()
    try:
        text = read_regular(file).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInputError(f"text={path} is not UTF-8: byte {error.start} cannot be decoded; convert it first") from None
    except OSError as error:
        raise BadInputError(f"text={path} cannot be read: {error.strerror}") from None
    if not text:
        raise BadInputError(f"text={path} is empty: training on characters needs some")
    alphabet = "".join(sorted(set(text)))
    index = {character: number for number, character in enumerate(alphabet)}
    return np.fromiter((index[character] for character in text), np.int32, len(text)), alphabet


def arrays_digest(*arrays: np.ndarray) -> str:
    """Return the SHA-256 of arrays' bits: tells other data from another order of the same data."""
    return content_digest(
        (LeafSpec(str(index), array.dtype.name, array.shape), np.ascontiguousarray(array).data.cast("B"))
        for index, array in enumerate(arrays)
    )


class BatchOrder:
    """Which examples a step sees, as a compiled function of the step.

    `sequential` walks through the examples in file order and starts again; `seeded` draws a batch by seed and step,
    with replacement: a permutation of the data at every step would cost more than the step (55 ms for 100,000
    examples). From `shuffle_from` on, batches are drawn by another key.

    Raises:
        BadInputError: the batch is larger than the data.
    """

    def __init__(self, config: ExperimentConfig, count: int, what: str) -> None:
        if config.batch_size > count:
            raise BadInputError(f"batch_size={config.batch_size} is larger than the data: {count} {what}")
        root = root_key(config.seed, config.prng)
        self._keys = purpose_key(root, "shuffle"), purpose_key(root, "shuffle_from")
        self._take = jax.jit(
            partial(_take, size=config.batch_size, count=count, seeded=config.shuffle == "seeded", start=config.shuffle_from)
        )

    def take(self, step: int, arrays: Any) -> Any:
        """Return the rows of a step's batch from a pytree of device arrays with the examples first."""
        return self._take(self._keys, np.uint32(step), arrays)


def _take(keys: Any, step: Any, arrays: Any, *, size: int, count: int, seeded: bool, start: int | None) -> Any:
    shuffle_key, other_key = keys

    def drawn(key: Any) -> jax.Array:
        return jax.random.randint(jax.random.fold_in(key, step), (size,), 0, count)

    if seeded:
        rows = drawn(shuffle_key)
    else:
        # (step - 1) * size can pass 2**32: reduce first, `count` is small.
        first = ((step - 1) % count * (size % count)) % count
        rows = (first + jnp.arange(size, dtype=jnp.uint32)) % count
    if start is not None:
        rows = jnp.where(step >= start, drawn(other_key).astype(rows.dtype), rows)
    return jax.tree.map(lambda array: array[rows], arrays)
