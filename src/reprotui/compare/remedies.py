"""What to do about something that a checkpoint did not bring back, in the words of the libraries that a script uses."""

import re
from collections.abc import Sequence
from pathlib import Path

from reprotui.errors import ReprotuiError
from reprotui.manifest import RunManifest
from reprotui.regular import read_regular

_IMPORT = re.compile(r"^\s*(?:import|from)\s+([A-Za-z_][A-Za-z0-9_]*)", re.MULTILINE)
_READ = 1 << 20
"""Bytes of a script that are looked at: its imports stand at its beginning."""
_WHOLE = {
    "lightning": "let Lightning restore all: trainer.fit(model, data, ckpt_path=…), not load_from_checkpoint",
    "transformers": "let the Trainer restore all: trainer.train(resume_from_checkpoint=…)",
    "accelerate": "accelerator.prepare everything, register_for_checkpointing the rest, and accelerator.load_state(folder)",
}
"""Libraries that save and restore all that they know of; what is handed to them by hand they do not know."""
_NO_GENERATOR = "Lightning saves no generator: keep its state in on_save_checkpoint, and set it in on_load_checkpoint"
_NOT_SAVED = {"lightning": dict.fromkeys(("rng/torch", "rng/python", "rng/numpy"), _NO_GENERATOR)}
"""What a library does not save, by kind, and what to do."""
_TORCH = {
    "params": 'model.load_state_dict(saved["model"])',
    "optimizer": 'optimizer.load_state_dict(saved["optimizer"]), after the model is on its device',
    "schedule": 'scheduler.load_state_dict(saved["scheduler"])',
    "accumulated gradients": "save right after an optimizer step, or save and restore each parameter's .grad",
    "loss scale": 'scaler.load_state_dict(saved["scaler"])',
    "batch statistics": "save model.state_dict(), which holds the buffers, not the parameters alone",
    "average of the parameters": 'ema.load_state_dict(saved["ema"])',
    "rng/torch": 'torch.set_rng_state(saved["rng"]), right before the loop goes on (torch.cuda.set_rng_state_all on GPUs)',
    "batch": "skip what was trained on in this epoch, or use a loader with a state (torchdata's StatefulDataLoader)",
    "epoch": "call sampler.set_epoch(epoch) with the epoch that goes on, or save the state of the loader's generator",
    "unrecorded": "save what the forward pass reads, and call model.train() after restoring",
}
_JAX = {
    "params": "hand the restored parameters to the step, not those of init",
    "optimizer": "save opt_state with the parameters, and do not call optimizer.init after restoring",
    "schedule": "save the step, or the state that counts it, and hand it to the schedule",
    "accumulated gradients": "save right after an update, or save the accumulator with the state",
    "loss scale": "save the loss scale with the state",
    "batch statistics": "save the mutable collections (batch_stats) beside the parameters",
    "average of the parameters": "save the average beside the parameters",
    "key": "save the key with the state, or make it from the step: jax.random.fold_in(key, step)",
    "batch": "start the loader at the epoch and the place in it that were saved, or save its state (grain's iterators have one)",
    "epoch": "make the permutation from the epoch: np.random.default_rng((seed, epoch)), and go on with the epoch that was saved",
    "unrecorded": "save what the step reads besides its arguments",
}
_ALWAYS = {
    "rng/python": 'random.setstate(saved["python"])',
    "rng/numpy": 'numpy.random.set_state(saved["numpy"])',
    "other state": "save it with the rest of the state, and restore it",
}


def libraries_of(manifest: RunManifest) -> frozenset[str]:
    """Return what a script imports, by the names of packages, and `torch` where it computes with it."""
    found = {"torch"} if str(manifest.devices.get("backend", "")).startswith("torch") else set()
    path = manifest.experiment.path
    if path is not None:
        try:
            text = read_regular(Path(path))[:_READ].decode("utf-8", "replace")
        except (OSError, ReprotuiError):
            text = ""
        found |= set(_IMPORT.findall(text))
    return frozenset("lightning" if name == "pytorch_lightning" else name for name in found)


def remedy(kinds: Sequence[str], libraries: frozenset[str]) -> str:
    """Return what to do about what was not restored.

    Args:
        kinds: as in `reprotui.compare.resuming.ORDER`; `epoch` for the order of the data, `unrecorded` for what nobody saw.
        libraries: what the script uses.
    """
    name = next((name for name in _WHOLE if name in libraries), "")
    missed = _NOT_SAVED.get(name, {})
    own = list(dict.fromkeys(missed.get(kind) or _by_hand(kind, libraries) for kind in kinds))
    if not name or all(kind in missed for kind in kinds):
        return "; ".join(own)
    return f"{_WHOLE[name]}; by hand: {'; '.join(own)}"


def _by_hand(kind: str, libraries: frozenset[str]) -> str:
    return _ALWAYS.get(kind) or (_TORCH if "torch" in libraries else _JAX).get(kind) or _TORCH.get(kind) or _JAX[kind]
