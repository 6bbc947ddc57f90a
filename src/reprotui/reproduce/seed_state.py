"""The state of every random generator as JSON: taken, put back, saved and loaded bit for bit; never a pickle.

Covers `random`, NumPy's global state and Generators, torch on the CPU and all CUDA devices, `torch.Generator`s, and JAX
keys. What has no global state (Generators, keys) is covered where it is passed.
"""

import random
import struct
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from reprotui.errors import BadInputError
from reprotui.reproduce.frameworks import loaded, require
from reprotui.reproduce.state_json import array, plain, python_state, python_tuple, tensor_text, text_tensor, unplain
from reprotui.run_directory import read_json, write_json

FORMAT = "reprotui-seed-state"
VERSION = 1

_GLOBAL = ("python", "numpy", "torch")
"""The libraries with a global state, by the names of their fields."""
_BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
"""NumPy's own; a state file names one, and no other name is looked up."""

_SEEDED: set[str] = set()
"""The libraries whose global state follows from a seed that this library set, and not from the system's chance."""


@dataclass(frozen=True)
class SeedState:
    """The state of random generators, as JSON values.

    `python`, `numpy` and `torch` are None where the library was not covered. `generators` are those that were passed, by
    name; so are `jax_keys`. `seeded` are the libraries whose state follows from a seed, so far as that is known.
    """

    python: dict[str, Any] | None = None
    numpy: dict[str, Any] | None = None
    torch: dict[str, Any] | None = None
    generators: dict[str, dict[str, Any]] = field(default_factory=dict)
    jax_keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    seeded: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the state as a JSON object."""
        return {"format": FORMAT, "version": VERSION, **asdict(self), "seeded": list(self.seeded)}

    def of_seeded(self) -> "SeedState":
        """Return the global states that follow from a seed, and nothing else."""
        return SeedState(**{name: getattr(self, name) for name in _GLOBAL if name in self.seeded}, seeded=self.seeded)

    def generator(self, name: str = "generator") -> Any:
        """Return a new generator with the state of one that was passed.

        Raises:
            BadInputError: no generator of that name was passed.
        """
        return _new_generator(_entry(self.generators, name, "generator"), name)

    def jax_key(self, name: str = "key") -> Any:
        """Return a JAX key that was passed: typed or raw as it was, with its implementation, shape and bits.

        Raises:
            BadInputError: no key of that name was passed.
            FrameworkMissingError: jax is not installed.
        """
        entry = _entry(self.jax_keys, name, "JAX key")
        jax = require("jax", "a JAX key of a seed state")
        data = jax.numpy.asarray(array(entry["data"]))
        return data if entry["implementation"] is None else jax.random.wrap_key_data(data, impl=entry["implementation"])


def get_seed_state(generators: Any = None, jax_keys: Any = None) -> SeedState:
    """Return the state of all random generators.

    Global states are covered where the library has been imported: one that has not has no state yet.

    Args:
        generators: one, or a mapping by name, of `numpy.random.Generator`, `torch.Generator` and `random.Random`.
        jax_keys: one, or a mapping by name, of JAX keys, typed or raw, of any shape.

    Raises:
        BadInputError: for a generator or a key of an unknown type.
    """
    return SeedState(
        python=python_state(random.getstate()),
        numpy=None if (numpy := loaded("numpy")) is None else plain(numpy.random.get_state(legacy=False)),
        torch=None if (torch := loaded("torch")) is None else _torch_state(torch),
        generators={name: _generator_state(item, name) for name, item in _named(generators, "generator").items()},
        jax_keys={name: _key_state(item, name) for name, item in _named(jax_keys, "key").items()},
        seeded=tuple(sorted(_SEEDED)),
    )


def mark_seeded(libraries: Iterable[str]) -> None:
    """Note that the global state of libraries follows from a seed now."""
    _SEEDED.update(set(libraries) & set(_GLOBAL))


def restore_seed_state(state: SeedState | Mapping[str, Any], generators: Any = None) -> None:
    """Put the state of all random generators back.

    JAX keys are values: take them with `state.jax_key(name)`.

    Args:
        state: from `get_seed_state` or `load_seed_state`, or the JSON object of one: `checkpoint["rng_state"]`.
        generators: one, or a mapping by name; each is set to the state that was taken under its name.

    Raises:
        BadInputError: it is damaged or no seed state, a generator has another type than the one the state was taken from, or
            its name is unknown.
        FrameworkMissingError: the state covers a library that is not installed.
    """
    if not isinstance(state, SeedState):
        state = seed_state_from_json(state)
    targets = _named(generators, "generator")
    for name, target in targets.items():
        entry = _entry(state.generators, name, "generator")
        if (kind := _kind(target, name)) != entry["kind"]:
            raise BadInputError(f"generator {name!r} is a {kind}, but its state was taken from a {entry['kind']}")
    if state.numpy is not None:
        require("numpy", "restoring NumPy's seed state").random.set_state(unplain(state.numpy))
    if state.torch is not None:
        _restore_torch(require("torch", "restoring torch's seed state"), state.torch)
    if state.python is not None:
        random.setstate(python_tuple(state.python))
    for name, target in targets.items():
        _restore_generator(target, state.generators[name])
    _SEEDED.difference_update(name for name in _GLOBAL if getattr(state, name) is not None)
    mark_seeded(state.seeded)


def save_seed_state(
    path: Path | str, state: SeedState | None = None, *, generators: Any = None, jax_keys: Any = None
) -> SeedState:
    """Write a seed state as JSON, atomically; the present state where none is given. Return what was written."""
    state = state or get_seed_state(generators, jax_keys)
    write_json(Path(path), state.to_json())
    return state


def load_seed_state(path: Path | str, *, restore: bool = True, generators: Any = None) -> SeedState:
    """Read a seed state and, unless `restore` is False, put it back.

    Raises:
        BadInputError: the file is not a seed state, or one of a newer version.
    """
    state = seed_state_from_json(read_json(Path(path)), str(path))
    if restore:
        restore_seed_state(state, generators)
    return state


def seed_state_from_json(value: Any, source: str = "the value") -> SeedState:
    """Return the state of a JSON object.

    Raises:
        BadInputError: it is something else, or has another version.
    """
    if not isinstance(value, Mapping) or value.get("format") != FORMAT:
        raise BadInputError(f"{source} is not a seed state: it has no entry format={FORMAT!r}")
    if value.get("version") != VERSION:
        raise BadInputError(f"{source} is a seed state of version {value.get('version')}; this reprotui reads {VERSION}")
    names = [item.name for item in fields(SeedState) if item.name != "seeded"]
    try:
        # Former states do not say what was seeded.
        state = SeedState(**{name: value[name] for name in names}, seeded=tuple(map(str, value.get("seeded", ()))))
        for entry in (state.numpy, *state.generators.values(), *state.jax_keys.values()):
            unplain(entry)
        if state.python is not None:
            python_tuple(state.python)
    except (KeyError, TypeError, ValueError, AttributeError, struct.error) as error:
        raise BadInputError(f"{source} is a damaged seed state: {type(error).__name__}: {error}") from error
    return state


def _torch_state(torch: Any) -> dict[str, Any]:
    # Asking for the state of CUDA generators would start CUDA. Before that, all there is is the seed they will start from.
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    return {
        "cpu": tensor_text(torch.get_rng_state()),
        "cuda": None if devices is None else [tensor_text(device) for device in devices],
        "initial_seed": torch.initial_seed(),
    }


def _restore_torch(torch: Any, state: Mapping[str, Any]) -> None:
    devices = state["cuda"]
    if devices is None:
        # Queued by torch until CUDA starts; where it has started since, its generators go back to where they would begin.
        torch.cuda.manual_seed_all(state["initial_seed"])
    elif not torch.cuda.is_available() or torch.cuda.device_count() != len(devices):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        raise BadInputError(f"the seed state holds {len(devices)} CUDA generators, but this machine has {count} devices")
    else:
        torch.cuda.set_rng_state_all([text_tensor(torch, device) for device in devices])
    torch.set_rng_state(text_tensor(torch, state["cpu"]))


def _kind(generator: Any, name: str) -> str:
    numpy, torch = loaded("numpy"), loaded("torch")
    if numpy is not None and isinstance(generator, numpy.random.Generator):
        bits = type(generator.bit_generator).__name__
        if bits not in _BIT_GENERATORS:
            raise BadInputError(f"generator {name!r} uses the bit generator {bits}; known are {', '.join(_BIT_GENERATORS)}")
        return f"numpy.{bits}"
    if torch is not None and isinstance(generator, torch.Generator):
        return f"torch.{generator.device.type}"
    if isinstance(generator, random.Random) and not isinstance(generator, random.SystemRandom):
        return "random.Random"
    raise BadInputError(
        f"generator {name!r} is a {type(generator).__name__}; known are numpy.random.Generator, torch.Generator and random.Random"
    )


def _generator_state(generator: Any, name: str) -> dict[str, Any]:
    kind = _kind(generator, name)
    if kind.startswith("numpy."):
        return {"kind": kind, "state": plain(generator.bit_generator.state)}
    if kind.startswith("torch."):
        return {"kind": kind, "device": str(generator.device), "state": tensor_text(generator.get_state())}
    return {"kind": kind, "state": python_state(generator.getstate())}


def _restore_generator(generator: Any, entry: Mapping[str, Any]) -> None:
    if entry["kind"].startswith("numpy."):
        generator.bit_generator.state = unplain(entry["state"])
    elif entry["kind"].startswith("torch."):
        generator.set_state(text_tensor(loaded("torch"), entry["state"]))
    else:
        generator.setstate(python_tuple(entry["state"]))


def _new_generator(entry: Mapping[str, Any], name: str) -> Any:
    library, _, kind = entry["kind"].partition(".")
    if library == "numpy" and kind in _BIT_GENERATORS:
        numpy = require("numpy", "a NumPy generator of a seed state")
        generator = numpy.random.Generator(getattr(numpy.random, kind)(0))
    elif library == "torch":
        generator = require("torch", "a torch generator of a seed state").Generator(device=entry["device"])
    elif library == "random":
        generator = random.Random(0)
    else:
        raise BadInputError(f"generator {name!r} has the unknown kind {entry['kind']!r}")
    _restore_generator(generator, entry)
    return generator


def _key_state(key: Any, name: str) -> dict[str, Any]:
    jax = require("jax", "the state of a JAX key")
    numpy = require("numpy", "the state of a JAX key")
    if isinstance(key, jax.Array) and jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key):
        return {"implementation": str(jax.random.key_impl(key)), "data": plain(numpy.asarray(jax.random.key_data(key)))}
    if getattr(key, "dtype", None) == numpy.uint32 and key.ndim >= 1:
        return {"implementation": None, "data": plain(numpy.asarray(key))}
    raise BadInputError(f"JAX key {name!r} is neither a typed key nor a uint32 array: {type(key).__name__}")


def _named(items: Any, name: str) -> dict[str, Any]:
    if items is None:
        return {}
    return dict(items) if isinstance(items, Mapping) else {name: items}


def _entry(entries: Mapping[str, Any], name: str, what: str) -> Any:
    if name not in entries:
        raise BadInputError(f"the seed state holds no {what} {name!r}; it holds {', '.join(entries) or 'none'}")
    return entries[name]
