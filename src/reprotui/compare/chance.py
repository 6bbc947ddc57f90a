"""Which place let the difference in: what two runs say of their seeds, draws and files, compared like their traces."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reprotui.chance import TORCH, Chance


@dataclass(frozen=True)
class Entry:
    """A place by which two runs can come to differ.

    Attributes:
        certain: what entered there is known to differ.
        drawn: a generator that nothing seeded, which is where most chance enters; hashes and names may be asked for otherwise.
        values: of a seed that differs, both as text.
    """

    text: str
    certain: bool
    advice: str
    drawn: bool = False
    values: tuple[str, str] | None = None


def entries(a: Sequence[Chance], b: Sequence[Chance], step: int) -> list[Entry]:
    """Return the places by which two runs can come to differ before a step is over: what differs first, then what nobody seeded.

    Args:
        a, b: what the runs noted.
        step: the first step at which they differ; what was reached later cannot be behind it.
    """
    before = max(step, 1)
    both = [pair for pair in paired(a, b) if pair[0].step < before and pair[1].step < before]
    differing = [entry for pair in both for entry in _differing(*pair)]
    unseeded: dict[str, Entry] = {}
    for item, _ in both:
        if item.unseeded:  # of several on one line, what the line calls comes before what that asks for
            unseeded.setdefault(item.place, _unseeded(item))
    return [*differing, *sorted(unseeded.values(), key=lambda entry: not entry.drawn)]


def paired(a: Sequence[Chance], b: Sequence[Chance]) -> list[tuple[Chance, Chance]]:
    """Return the places that both runs reached, in A's order: the same call on the same line of the same file.

    Of several such calls on one line, the first belongs to the first. Where one run reached fewer of them, nobody knows which,
    and only what nobody seeded is a pair all the same.
    """
    of_a, of_b = numbered(a), numbered(b)
    count_a, count_b = (Counter(key[:-1] for key in found) for found in (of_a, of_b))
    return [
        (item, of_b[key])
        for key, item in of_a.items()
        if key in of_b and (count_a[key[:-1]] == count_b[key[:-1]] or (item.unseeded and of_b[key].unseeded))
    ]


def numbered(ledger: Sequence[Chance]) -> dict[tuple[str, str, int, int], Chance]:
    """Return the entries of a ledger by source, file, line, and their number among those that have all of these."""
    seen: Counter[tuple[str, str, int]] = Counter()
    found = {}
    for item in ledger:
        key = item.source, item.path, item.line
        seen[key] += 1
        found[*key, seen[key]] = item
    return found


def _differing(a: Chance, b: Chance) -> Iterator[Entry]:
    if a.value == b.value or a.unseeded or b.unseeded:
        return
    match a.kind:
        case "seed":
            values = str(a.value), str(b.value)
            seeds = f"{a.source} at {a.place} was given another seed (A {values[0]}, B {values[1]})"
            advice = f"give it a seed that is written down: {a.text}"
            yield Entry(seeds, certain=True, advice=advice, values=values)
        case "file" if a.value is not None and b.value is not None:
            text = f"{a.file}, read at {a.place}, differs (A {a.value}, B {b.value})"
            yield Entry(text, certain=True, advice="keep what is read as it is, or give both runs a copy of their own")
        case "folder" if a.value is not None and b.value is not None:
            advice = "sort what a listing of a folder gives: its order is the file system's"
            yield Entry(f"{a.source} at {a.place} gave other names, or another order", certain=True, advice=advice)


def _unseeded(item: Chance) -> Entry:
    match item.kind:
        case "draw" if item.source == TORCH:
            text = f"something drew from torch's generator before {item.place}, and nothing seeded it"
            return Entry(text, certain=False, advice="call torch.manual_seed(0) before everything", drawn=True)
        case "draw":
            generator = "Python's generator" if item.source.startswith("random.") else "NumPy's generator"
            seed = "random.seed(0)" if item.source.startswith("random.") else "numpy.random.seed(0)"
            text = f"{item.source} at {item.place} draws from {generator}, which nothing seeded"
            return Entry(text, certain=False, advice=f"call {seed} before it", drawn=True)
        case "seed":
            text = f"{item.source} at {item.place} was given no seed"
            return Entry(text, certain=False, advice=f"give it a seed: {item.text}", drawn=True)
        case "hash":
            text = f"{item.source} at {item.place} is another number in each process (PYTHONHASHSEED is not set)"
            return Entry(text, certain=False, advice="use hashlib, or set PYTHONHASHSEED=0")
        case _:
            text = f"{item.source} at {item.place} gives what the operating system draws"
            return Entry(text, certain=False, advice=f"draw from a generator with a seed instead: {item.text}")
