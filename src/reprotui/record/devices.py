"""Checksums of jax's arrays where they lie: one compiled call a device, of what that device holds. No call spans devices.

What a script dispatches may contain collectives, which wait until all devices take part. A call of ours that did the same would
run among them, in another order on another device or in one process alone, and both would wait for ever.
"""

import itertools
import operator
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from reprotui.checksum.jax_form import apart_from_meshes, key_words
from reprotui.checksum.leaves import is_key
from reprotui.checksum.shards import Part, placement, shard_arrays, slice_text
from reprotui.record import at_once, compiled

_like = operator.attrgetter("__class__", "dtype", "shape")
_sharding = operator.attrgetter("sharding")


FIRST = 8
"""How often arrays of the same shapes are read at once before a call for them is compiled: while the step is not chosen yet,
all that a script calls is read, and that ends after a few calls."""


class Torn(NamedTuple):
    """Copies of one value that are not equal.

    Attributes:
        leaf: its number.
        part: the slice of it that the copies are of; empty for all of it.
        devices: those that differ from most others, or all of them where no value is on more than half of them.
        most: there is such a value.
    """

    leaf: int
    part: str
    devices: tuple[int, ...]
    most: bool

    def text(self, step: int, path: str) -> str:
        """Say it in words."""
        numbers = [str(device) for device in self.devices]
        who = f"device {numbers[0]}" if len(numbers) == 1 else f"devices {', '.join(numbers[:-1])} and {numbers[-1]}"
        differ = f"differ{'s' if len(numbers) == 1 else ''} from the others" if self.most else "differ from one another"
        return f"TORN at step {step} · {path}{self.part} · {who} {differ}"


class OnDevices(NamedTuple):
    """What was taken of jax's arrays; as in `record.lanes.Taken`, with `torn` for those whose copies are not equal.

    `shared`: those that span processes; each process that holds the same of one holds it alike.
    """

    lanes: np.ndarray
    not_finite: np.ndarray
    numbers: dict[int, Any]
    norms: np.ndarray | None
    roots: np.ndarray | None
    torn: list[Torn]
    shared: tuple[int, ...] = ()


class DeviceLeaves:
    """Arrays of jax of certain dtypes and shapes. Where they lie is looked up anew each time: the next ones may lie elsewhere.

    Args:
        leaves: those that are there now.
        numbers: the positions of those whose value is wanted too, if they are single numbers.
        runs: how many leaves each phase has, to take their roots along; empty for none.
    """

    def __init__(self, leaves: Sequence[Any], numbers: Collection[int], runs: tuple[int, ...]) -> None:
        self.runs, self.types = runs, list(map(_like, leaves))
        self.keys = [index for index, leaf in enumerate(leaves) if is_key(leaf)]
        self.numbers = {
            index: np.dtype(leaf.dtype)
            for index, leaf in enumerate(leaves)
            if index in numbers and leaf.shape == () and index not in self.keys
        }
        self._newest: tuple[list[Any], bool, _Layout] | None = None
        self._layouts: dict[Any, _Layout] = {}

    def fits(self, leaves: Sequence[Any]) -> bool:
        """Say whether other arrays are of the same dtypes and shapes."""
        return list(map(_like, leaves)) == self.types

    def take(self, leaves: Sequence[Any], statistics: bool, copies: bool) -> "Dispatched | Known":
        """Dispatch the checksums of arrays that fit; with all copies of what lies on several devices, or the first alone.

        The first ones are read at once where they lie in the host's memory: mostly few follow, and nothing need be compiled.
        """
        words = self._words(leaves)
        shardings = list(map(_sharding, words))
        newest = self._newest
        if newest is None or newest[1] != copies or newest[0] != shardings:
            key = tuple(shardings), copies
            if key not in self._layouts:
                with apart_from_meshes():
                    self._layouts[key] = _Layout(self, words, copies)
            newest = self._newest = shardings, copies, self._layouts[key]
        return newest[2].take(leaves, words, statistics)

    def _words(self, leaves: Sequence[Any]) -> Sequence[Any]:
        """Return the arrays, of keys their words: they know at once where they lie, which takes an array of keys 20 µs."""
        if not self.keys:
            return leaves
        found = list(leaves)
        for index in self.keys:
            found[index] = key_words(found[index])
        return found


class _Program(NamedTuple):
    """The call for one device: of which leaf, and which shard of it, each of its rows is; and where in the whole that lies."""

    rows: list[tuple[int, int]]
    parts: tuple[Part, ...] | None
    checksums: Any
    numbers: list[int]


class _Layout:
    """Where the arrays lie on the devices; worked out once for all that lie so."""

    def __init__(self, leaves: DeviceLeaves, words: Sequence[Any], copies: bool) -> None:
        self.leaves = leaves
        shardings = list(map(_sharding, words))
        here = all(sharding.is_fully_addressable for sharding in shardings)
        self.together = here and len({device for sharding in shardings for device in sharding.device_set}) < 2
        self._taken = 0
        if self.together:
            everything = [(place, 0) for place in range(len(words))]
            numbers = list(leaves.numbers)
            self.programs = [_Program(everything, None, compiled.checksums(leaves.runs, tuple(numbers)), numbers)]
            return
        groups: dict[tuple[Any, ...], list[tuple[int, int]]] = defaultdict(list)
        rows: dict[int, list[tuple[int, int, Part, bool]]] = defaultdict(list)
        for place, array in enumerate(words):
            found = placement(array.sharding, array.shape)
            for piece in found.pieces:
                # Summands of one value are no copies: each of them counts.
                group = groups[place, slice_text(piece.box, array.shape), piece.device if found.sums else None]
                if copies or not group:
                    first = not group
                    group.append((piece.device, len(rows[piece.device])))
                    rows[piece.device].append((place, piece.shard, piece.part, first))
        self.programs = []
        offsets: dict[int, int] = {}
        for device, found in rows.items():
            offsets[device] = sum(len(program.rows) for program in self.programs)
            numbers = [at for at, (place, _, _, first) in enumerate(found) if first and place in leaves.numbers]
            parts = tuple(part for _, _, part, _ in found)
            call = compiled.checksums((), tuple(numbers), parts)
            self.programs.append(_Program([(place, shard) for place, shard, _, _ in found], parts, call, numbers))
        self._leaf = np.array([place for program in self.programs for place, _ in program.rows], np.intp)
        at = {group: [(device, offsets[device] + row) for device, row in found] for group, found in groups.items()}
        self._first = np.array([found[0][1] for found in at.values()], np.intp)
        self._copied = [(group[0], group[1], found) for group, found in at.items() if len(found) > 1]
        self.shared = tuple(
            place
            for place, array in enumerate(words)
            if not array.sharding.is_fully_addressable and not placement(array.sharding, array.shape).sums
        )
        self._leaders = np.array([found[0][1] for _, _, found in self._copied for _ in found[1:]], np.intp)
        self._copies = np.array([row for _, _, found in self._copied for _, row in found[1:]], np.intp)

    def take(self, leaves: Sequence[Any], words: Sequence[Any], statistics: bool) -> "Dispatched | Known":
        """Dispatch a call to each device, of arrays and of the words of those that are keys."""
        with apart_from_meshes():
            given = [leaves]
            if not self.together:
                shards = list(map(shard_arrays, words))
                given = [[shards[place][shard] for place, shard in program.rows] for program in self.programs]
            if self._taken < FIRST:
                self._taken += 1
                if (found := self._at_once([words] if self.together else given, statistics)) is not None:
                    return found
            packed = [program.checksums(arrays) for program, arrays in zip(self.programs, given, strict=True)]
            norms = [compiled.statistics()(arrays) for arrays in given] if statistics else None
        return Dispatched(self, packed, norms)

    def _at_once(self, given: Sequence[Any], statistics: bool) -> "Known | None":
        """Return what the arrays hold, read where they lie in the host's memory; None where they do not."""
        arrays = list(itertools.chain.from_iterable(given))
        parts = list(itertools.chain.from_iterable(program.parts or () for program in self.programs))
        read = at_once.read(arrays, parts, statistics)
        if read is None:
            return None
        numbers = {}
        for program, held in zip(self.programs, given, strict=True):
            for row in program.numbers:
                place = program.rows[row][0]
                numbers[place] = at_once.number(held[row], self.leaves.numbers[place])
        return Known(self.found(read.lanes, read.not_finite, numbers, read.statistics, None))

    def found(self, rows: np.ndarray, not_finite: np.ndarray, numbers: dict[int, Any], norms: Any, roots: Any) -> OnDevices:
        """Return what was taken of the leaves, from what was taken of the rows of all programs."""
        if self.together:
            if norms is not None:
                norms[self.leaves.keys] = 0
            return OnDevices(rows, not_finite != 0, numbers, norms, roots, [])
        norms = None if norms is None else self.norms(norms)
        return OnDevices(self.lanes(rows), self.not_finite(not_finite), numbers, norms, None, self.torn(rows), self.shared)

    def numbers(self, program: _Program, words: np.ndarray) -> dict[int, Any]:
        """Return the single numbers whose words a call gave."""
        raw, at, found = words.tobytes(), 0, {}
        for row in program.numbers:
            place = program.rows[row][0]
            dtype = self.leaves.numbers[place]
            found[place] = np.frombuffer(raw, dtype, 1, at)[0]
            at += max(4, dtype.itemsize)
        return found

    def lanes(self, rows: np.ndarray) -> np.ndarray:
        """Return the lanes of the leaves, the sums of those of their parts."""
        lanes = np.zeros((len(self.leaves.types), 2), np.uint32)
        np.add.at(lanes, self._leaf[self._first], rows[self._first])
        return lanes

    def not_finite(self, rows: np.ndarray) -> np.ndarray:
        """Return which leaves hold a number that is not finite, on any device."""
        found = np.zeros(len(self.leaves.types), np.bool_)
        np.logical_or.at(found, self._leaf, rows != 0)
        return found

    def norms(self, rows: np.ndarray) -> np.ndarray:
        """Return L2 norms and maxima of the leaves, from those of their parts."""
        found = np.zeros((len(self.leaves.types), 2))
        rows, leaf = rows[self._first].astype(np.float64), self._leaf[self._first]
        np.add.at(found[:, 0], leaf, np.square(rows[:, 0]))
        np.maximum.at(found[:, 1], leaf, rows[:, 1])
        found[:, 0] = np.sqrt(found[:, 0])
        found[self.leaves.keys] = 0
        return found.astype(np.float32)

    def torn(self, rows: np.ndarray) -> list[Torn]:
        """Return the copies that are not equal."""
        if not (rows[self._copies] != rows[self._leaders]).any():
            return []
        torn = []
        for place, part, found in self._copied:
            values = {device: tuple(rows[row].tolist()) for device, row in found}
            value, count = Counter(values.values()).most_common(1)[0]
            if count < len(found):
                most = count > len(found) / 2
                devices = tuple(sorted(device for device in values if not most or values[device] != value))
                torn.append(Torn(place, part, devices, most))
        return torn


class Known(NamedTuple):
    """What was read at once."""

    found: OnDevices

    def result(self) -> OnDevices:
        """Return it."""
        return self.found


class Dispatched(NamedTuple):
    """What the devices may still be computing."""

    layout: _Layout
    packed: list[jax.Array]
    statistics: list[jax.Array] | None

    def result(self) -> OnDevices:
        """Wait; return what was taken."""
        layout = self.layout
        words = [np.asarray(packed).astype("<u4", copy=False) for packed in self.packed]
        sizes = [2 * len(program.rows) for program in layout.programs]
        nothing = np.zeros(0, "<u4")  # of what lies in other processes alone
        rows = np.concatenate([nothing, *(found[:size] for found, size in zip(words, sizes, strict=True))]).reshape(-1, 2)
        norms = None
        if self.statistics is not None:
            norms = np.concatenate([np.zeros((0, 2), np.float32), *map(np.asarray, self.statistics)])
        runs, numbers = layout.leaves.runs if layout.together else (), {}
        broken = [np.zeros(0, "<u4")]
        for program, found, size in zip(layout.programs, words, sizes, strict=True):
            behind = size + 2 * len(runs)
            broken.append(found[behind : behind + size // 2])
            numbers |= layout.numbers(program, found[behind + size // 2 :])
        roots = words[0][sizes[0] : sizes[0] + 2 * len(runs)].reshape(-1, 2) if runs else None
        return layout.found(rows, np.concatenate(broken), numbers, norms, roots)
