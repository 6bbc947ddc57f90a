"""Read a pickle without executing it: what it would import and call becomes inert values, and is listed.

A pickle is a program for a small stack machine. `pickletools.genops` decodes it, and this module walks through the
instructions that data needs. A call stays a record of what would be called with what.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

MAXIMUM_DEPTH = 100
MAXIMUM_PARTS = 250_000
"""A few bytes can name one list inside another a million times over; no state has so many leaves."""


class Refused(ValueError):  # noqa: N818  (it names a state of the file, not a mistake of the program)
    """The pickle needs an instruction or a form that data does not need."""


@dataclass(frozen=True)
class Global:
    """Something that loading would import."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass
class Call:
    """Something that loading would call, or an object that it would build; `state` is what it would be given then."""

    function: Any
    arguments: Any
    state: Any = None
    items: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Persistent:
    """A reference to something that lies outside the pickle."""

    identifier: Any


class _Mark:
    pass


_CONSTANTS = {
    "BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
    "BYTEARRAY8",
}  # fmt: skip
_VALUES: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_DICT": dict, "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple, "EMPTY_SET": list,
}  # fmt: skip
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read(data: bytes) -> tuple[Any, list[Global]]:
    """Return what a pickle holds, and every global that it names, in order.

    Raises:
        Refused: it is damaged, or holds what cannot be read without executing it.
    """
    machine = _Machine()
    try:
        for operation, argument, _ in pickletools.genops(data):
            if operation.name == "STOP":
                return machine.pop(), machine.globals
            machine.step(operation.name, argument)
    except Refused:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise Refused(f"the pickle is damaged: {str(error)[:200] or type(error).__name__}") from None
    raise Refused("the pickle ends before its end")


class _Machine:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.globals: list[Global] = []

    def pop(self) -> Any:
        value = self.stack.pop()
        if isinstance(value, _Mark):
            raise Refused("the pickle is damaged: a mark stands where a value should")
        return value

    def pop_mark(self) -> list[Any]:
        for position in range(len(self.stack) - 1, -1, -1):
            if isinstance(self.stack[position], _Mark):
                values = self.stack[position + 1 :]
                del self.stack[position:]
                return values
        raise Refused("the pickle is damaged: a mark is missing")

    def step(self, name: str, argument: Any) -> None:
        push = self.stack.append
        if name in _CONSTANTS:
            push(argument)
        elif name in _VALUES:
            push(_VALUES[name]())
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[int(argument)] = self.stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            push(self.memo[int(argument)])
        elif name == "MARK":
            push(_Mark())
        elif name in _TUPLES:
            count = _TUPLES[name]
            values = tuple(self.pop() for _ in range(count))[::-1]
            push(values)
        elif name == "TUPLE":
            push(tuple(self.pop_mark()))
        elif name in ("LIST", "FROZENSET"):
            push(self.pop_mark())
        elif name == "DICT":
            push(_pairs(self.pop_mark()))
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            module, attribute = argument.split(" ", 1) if name == "GLOBAL" else (self.pop(), self.pop())[::-1]
            push(self.named(module, attribute))
        elif name == "BINPERSID":
            push(Persistent(self.pop()))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments = self.pop()
            push(self.call(self.pop(), arguments))
        elif name == "NEWOBJ_EX":
            keywords, arguments = self.pop(), self.pop()
            push(self.call(self.pop(), (arguments, keywords)))
        elif name == "INST":
            module, attribute = argument.split(" ", 1)
            push(self.call(self.named(module, attribute), tuple(self.pop_mark())))
        elif name == "OBJ":
            function, *arguments = self.pop_mark()
            push(self.call(function, tuple(arguments)))
        else:
            self.change(name)

    def change(self, name: str) -> None:
        """Do what changes the value on top, or only the stack."""
        if name == "BUILD":
            state = self.pop()
            # OrderedDict and its like are given attributes (`_metadata`) that are no part of the state.
            if isinstance(self.stack[-1], Call):
                self.stack[-1].state = state
        elif name in ("APPEND", "APPENDS", "ADDITEMS"):
            values = [self.pop()] if name == "APPEND" else self.pop_mark()
            target = self.stack[-1]
            (target.items if isinstance(target, Call) else target).extend(values)
        elif name in ("SETITEM", "SETITEMS"):
            values = [self.pop(), self.pop()][::-1] if name == "SETITEM" else self.pop_mark()
            target = self.stack[-1]
            if isinstance(target, Call):
                target.items.extend(_pairs(values).items())
            else:
                target.update(_pairs(values))
        elif name == "POP":
            self.stack.pop()
        elif name == "POP_MARK":
            self.pop_mark()
        elif name == "DUP":
            self.stack.append(self.stack[-1])
        elif name not in ("PROTO", "FRAME"):
            raise Refused(f"the pickle needs {name}, which data does not")

    def named(self, module: str, name: str) -> Global:
        found = Global(str(module), str(name))
        self.globals.append(found)
        return found

    @staticmethod
    def call(function: Any, arguments: Any) -> Any:
        # Ordered dictionaries are data; nearly every state_dict is one.
        if function == Global("collections", "OrderedDict"):
            return dict(arguments[0]) if arguments else {}
        return Call(function, arguments)


def _pairs(values: list[Any]) -> dict[Any, Any]:
    pairs = {}
    for key, value in zip(values[::2], values[1::2], strict=True):
        # What has no hash in Python cannot be a key there either; a record of a call has one by its identity.
        pairs[key if not isinstance(key, Call) else id(key)] = value
    return pairs


def flatten(value: Any, is_leaf: Callable[[Any], bool]) -> list[tuple[str, Any]]:
    """Return the leaves of nested dictionaries, lists and tuples, with paths joined by `/`.

    Raises:
        Refused: it is nested too deeply (or within itself), or has too many parts.
    """
    leaves: list[tuple[str, Any]] = []
    waiting: list[tuple[str, Any, int]] = [("", value, 0)]
    parts = 0
    while waiting:
        path, item, depth = waiting.pop()
        parts += 1
        if depth > MAXIMUM_DEPTH or parts > MAXIMUM_PARTS:
            raise Refused(
                f"the state is nested within itself, more than {MAXIMUM_DEPTH} deep, or of more than {MAXIMUM_PARTS} parts"
            )
        if is_leaf(item) or not isinstance(item, dict | list | tuple):
            leaves.append((path, item))
            continue
        inner = list(item.items() if isinstance(item, dict) else enumerate(item))
        waiting += [(f"{path}/{key}" if path else str(key), below, depth + 1) for key, below in reversed(inner)]
    return leaves
