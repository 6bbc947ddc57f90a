"""The seed inside a checkpoint: put there as plain values, which `torch.load(weights_only=True)` reads, and checked."""

import warnings
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

from reprotui.errors import BadInputError, CannotTellError
from reprotui.reproduce.config import json_value
from reprotui.reproduce.frameworks import require
from reprotui.reproduce.seed_state import SeedState, get_seed_state, restore_seed_state, seed_state_from_json
from reprotui.reproduce.seeds import SeedInfo, check_seed

SEED_ENTRY = "seed_info"
STATE_ENTRY = "rng_state"
FORMER_STATE_ENTRY = "seed_state"
"""Where checkpoints of the first versions have it."""


def add_seed_to_checkpoint(
    checkpoint: MutableMapping[str, Any], seed_info: SeedInfo | Mapping[str, Any] | int, state: SeedState | None = None
) -> MutableMapping[str, Any]:
    """Put the seed (`seed_info`) and the state of all random generators (`rng_state`) into a checkpoint, and return it.

    Both are strings, numbers, lists and dicts: a file that `torch.save` makes of it is read by a plain `torch.load`. There
    `restore_seed_state(checkpoint["rng_state"])` continues the streams bit for bit.

    Args:
        checkpoint: a dict that will be saved; changed in place.
        seed_info: from `set_global_seed`, another mapping of JSON values with the seed in it, or the seed.
        state: of the generators; the present one by default.

    Raises:
        BadInputError: the checkpoint is no dict, holds a seed already, or the seed is out of range or not in `seed_info`.
    """
    if not isinstance(checkpoint, MutableMapping):
        raise BadInputError(f"a seed is added to a dict that will be saved, not to a {type(checkpoint).__name__}")
    if SEED_ENTRY in checkpoint or STATE_ENTRY in checkpoint:
        raise BadInputError(f"the checkpoint has an entry {SEED_ENTRY} or {STATE_ENTRY} already: remove it first")
    info = json_value(seed_info, "seed_info") if isinstance(seed_info, Mapping) else {"seed": seed_info}
    checkpoint[SEED_ENTRY] = {**info, "seed": check_seed(info.get("seed"))}
    checkpoint[STATE_ENTRY] = (state or get_seed_state()).to_json()
    return checkpoint


def validate_checkpoint_seed(checkpoint: Mapping[str, Any] | Path | str, expected_seed: int) -> bool:
    """Say whether a checkpoint was written by a run with this seed.

    One that records no seed gives a warning, and False: nobody knows.

    Args:
        checkpoint: a dict, or a file that `torch.save` wrote; it is loaded with `weights_only=True`.
        expected_seed: the seed.

    Raises:
        CannotTellError: the file holds no dict.
        BadInputError: the file cannot be loaded without executing code from it.
    """
    expected_seed = check_seed(expected_seed)
    info = _entries(checkpoint).get(SEED_ENTRY)
    if not isinstance(info, Mapping) or type(info.get("seed")) is not int:
        said = f"the checkpoint records no seed (it has no entry {SEED_ENTRY} with one), so nobody can tell whether it is of "
        said += f"seed {expected_seed}: it was written without add_seed_to_checkpoint"
        warnings.warn(said, UserWarning, stacklevel=2)
        return False
    return info["seed"] == expected_seed


def restore_seed_from_checkpoint(checkpoint: Mapping[str, Any] | Path | str, generators: Any = None) -> SeedState:
    """Put the generators' state that a checkpoint holds back, and return it.

    Raises:
        CannotTellError: it holds none.
        BadInputError: the state is damaged, or the file cannot be loaded.
    """
    found = _entries(checkpoint)
    name = STATE_ENTRY if STATE_ENTRY in found else FORMER_STATE_ENTRY
    if found.get(name) is None:
        raise CannotTellError(f"the checkpoint holds no state of generators (entry {STATE_ENTRY}), so none can be restored")
    state = seed_state_from_json(found[name], f"the checkpoint's entry {name}")
    restore_seed_state(state, generators)
    return state


def _entries(checkpoint: Mapping[str, Any] | Path | str) -> Mapping[str, Any]:
    if isinstance(checkpoint, Mapping):
        return checkpoint
    path = Path(checkpoint)
    torch = require("torch", "reading a seed from a checkpoint's file")
    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise BadInputError(f"{path} does not exist") from error
    except Exception as error:  # torch raises many kinds for what is no checkpoint
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInputError(f"{path} cannot be loaded with weights_only=True: {reason}") from error
    if not isinstance(value, Mapping):
        raise CannotTellError(f"{path} holds a {type(value).__name__}, not a dict with a seed in it")
    return value
