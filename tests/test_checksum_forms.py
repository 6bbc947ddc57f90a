"""Every form of `rfp1-64` is one definition: whole, in parts, of many, by segments; in numpy, jax and torch; and their roots."""

import random

import jax
import ml_dtypes
import numpy as np
import pytest

from plain_numpy import MASK, check, plain_checksum, plain_root
from reprotui.checksum import LeafSpec, jax_form, torch_form
from reprotui.checksum.numpy_form import root_sums
from reprotui.trace import LeafTable
from reprotui.trace.former import former_roots
from reprotui.trace.phases import PHASE_INDEX
from reprotui.trace.verify import roots_of
from test_checksum import reference, reference_words, sample, to_torch

DTYPES = ["bool", "int8", "uint16", "float16", "bfloat16", "float32", "int64", "complex64", "float64"]


@pytest.mark.parametrize("seed", range(100))
def test_every_numpy_form_is_the_definition(seed: int) -> None:
    check(random.Random(seed))


@pytest.mark.parametrize("seed", range(12))
def test_jax_and_torch_give_the_definition_for_many_leaves_at_once(seed: int) -> None:
    draw = random.Random(seed)
    with jax.enable_x64(True):
        arrays = [
            sample(getattr(ml_dtypes, name, name), (draw.choice([0, 1, 2, 31]), draw.choice([1, 3, 64])), draw.getrandbits(32))
            for name in draw.choices(DTYPES, k=6)
        ]
        expected = [reference(reference_words(array)) for array in arrays]
        lanes = [tuple(map(int, lane)) for lane in jax.jit(lambda leaves: [jax_form.lanes(leaf) for leaf in leaves])(arrays)]
        assert [lane1 << 32 | lane0 for lane0, lane1 in lanes] == expected
    tensors = [to_torch(array) for array in arrays]
    assert [torch_form.checksum(tensor) for tensor in tensors] == expected
    sums = torch_form.sums_of_many(tensors)
    assert [(int(lane1) & MASK) << 32 | int(lane0) & MASK for lane0, lane1, _ in sums] == expected


@pytest.mark.parametrize("seed", range(20))
def test_the_roots_of_a_record_are_those_of_its_phases(seed: int) -> None:
    draw = random.Random(seed)
    phases = sorted(draw.choices(list(PHASE_INDEX), k=draw.randint(1, 30)), key=PHASE_INDEX.__getitem__)
    table = LeafTable(tuple(phases), tuple(LeafSpec(str(number), "float32", ()) for number in range(len(phases))))
    checksums = [draw.getrandbits(64) for _ in phases]
    found = np.frombuffer(roots_of(np.array(checksums, "<u8").tobytes(), table), "<u8").tolist()
    own = {phase: [sum_ for sum_, of in zip(checksums, phases, strict=True) if of == phase] for phase in PHASE_INDEX}
    assert found == [plain_root(own[phase]) if own[phase] else 0 for phase in PHASE_INDEX]


def test_the_roots_of_former_traces_are_known_and_are_others() -> None:
    # What reprotui computed when lane 0 did not wrap: numpy sums uint32 in uint64 unless it is told otherwise.
    draw = np.random.default_rng(0)
    table = LeafTable(("grads",) * 40, tuple(LeafSpec(str(number), "float32", ()) for number in range(40)))
    checksums = draw.integers(0, 1 << 64, (50, 40), np.uint64)
    lane0, lane1 = (numbers.tolist() for numbers in root_sums(checksums))
    former = former_roots(checksums, table)[:, PHASE_INDEX["grads"]].tolist()
    assert former == [(b << 32 | a) & (1 << 64) - 1 for a, b in zip(lane0, lane1, strict=True)]
    right = [plain_checksum(half for sum_ in row for half in (sum_ & MASK, sum_ >> 32)) for row in checksums.tolist()]
    assert sum(a != b for a, b in zip(former, right, strict=True)) > 30
    assert all(a & MASK == b & MASK for a, b in zip(former, right, strict=True))
