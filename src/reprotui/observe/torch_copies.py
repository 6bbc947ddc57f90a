"""Networks beside the one that is trained, whose parameters are state too: averages of it, targets, teachers.

ema = copy.deepcopy(model)                  extra/ema/0/weight
with torch.no_grad(): target(next_state)    extra/target/0/weight, from the second step on that asks it
"""

import weakref
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

from reprotui.observe.names import path_of
from reprotui.observe.torch_names import paths_of, places_of
from reprotui.observe.torch_state import Named
from reprotui.record.host import picker


class Held:
    """The parameters and buffers of a module, and the dictionaries that hold them."""

    def __init__(self, name: str, module: Any) -> None:
        self.module = module
        inner = list(module.named_modules())
        self._dicts = [found for _, part in inner for found in (part._parameters, part._buffers)]
        keys = [(part, key) for part, module in inner for found in (module._parameters, module._buffers) for key in found]
        there = [index for index, value in enumerate(self._values()) if value is not None]
        self._pick, self._count = picker(there), len(keys)
        self.paths = tuple(f"extra/{name}/{path_of('.'.join(filter(None, keys[index])))}" for index in there)

    def read(self) -> Named:
        """Return what is there now; nothing where it is kept otherwise than before."""
        values = self._values()
        found = self._pick(values) if len(values) == self._count else ()
        return Named(self.paths, found) if found and None not in map(type, found) else Named((), [])

    def _values(self) -> list[Any]:
        return list(chain.from_iterable(map(dict.values, self._dicts)))


class Copies:
    """Networks that no optimizer trains: copies that were made before the first step, and those that are asked time and again."""

    def __init__(self) -> None:
        self._made: list[weakref.ref[Any]] = []
        self._asked: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._fresh: list[Any] = []
        self._held: list[Held] = []
        self.begun = False

    def made(self, module: Any) -> None:
        """Note a copy; one of a part comes before that of the whole."""
        if not self.begun:
            self._made.append(weakref.ref(module))

    def asked(self, module: Any, step: int) -> None:
        """Note a network that is asked before a step, without gradients."""
        first = self._asked.setdefault(module, step)
        if 0 <= first < step:
            self._asked[module] = -1
            self._fresh.append(module)

    def hold(self, trained: Callable[[], Iterable[Any]]) -> None:
        """Keep what was noted, at the end of a step; `trained` gives the parameters that optimizers train."""
        if not self.begun:
            self.begun = True
            alive = (found for found in (reference() for reference in self._made) if found is not None)
            self._fresh, self._made = [*_wholes(alive), *self._fresh], []
        if self._fresh:
            self._hold(set(map(id, trained())))

    def read(self) -> Named:
        """Return the parameters and buffers of all, as they are now."""
        found = [held.read() for held in self._held]
        return Named(tuple(chain.from_iterable(one.paths for one in found)), [*chain.from_iterable(one.tensors for one in found)])

    def _hold(self, trained: set[int]) -> None:
        inner = {id(part) for held in self._held for part in held.module.modules()}
        fresh = [module for module in self._fresh if id(module) not in inner]
        fresh = [module for module in fresh if trained.isdisjoint(map(id, module.parameters()))]
        self._fresh = []
        places, _ = places_of(fresh)
        for module in fresh:
            (name,) = paths_of([places.get(id(module))])
            self._held.append(Held(name if id(module) in places else f"copy_{len(self._held) + 1}", module))


def _wholes(modules: Iterable[Any]) -> Iterator[Any]:
    """Yield modules with parameters that are part of no other one of them."""
    modules = list(modules)
    parts = {id(part) for module in modules for part in module.modules() if part is not module}
    yield from (module for module in modules if id(module) not in parts and next(module.parameters(), None) is not None)
