"""The host's memory read where it lies, by machine code or by numpy: what the definition says of every dtype, size and layout."""

import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprotui.checksum import host_form, lanes_to_checksum, numpy_form
from reprotui.errors import BadInputError
from test_checksum import DTYPES, VECTORS, reference, reference_words

SIZES = (0, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 100)


@pytest.fixture(scope="module", autouse=True)
def machine_code() -> None:
    """Have it made, so that it reads small arrays too."""
    assert host_form.shortfall() is None


def array_at(name: str, size: int, offset: int = 0, seed: int = 0) -> np.ndarray:
    """Return an array of random bits that begins `offset` bytes behind a multiple of 64."""
    dtype = np.dtype(name)
    raw = np.empty(size * dtype.itemsize + offset + 64, np.uint8)
    start = -raw.ctypes.data % 64 + offset
    raw[:] = np.random.default_rng(seed).integers(0, 256, raw.size)
    return raw[start : start + size * dtype.itemsize].view(dtype)


def words_by_definition(array: np.ndarray) -> list[int]:
    """Return the words of an array that may hold other bytes than 0 and 1 as booleans."""
    return [int(byte != 0) for byte in array.tobytes()] if array.dtype.kind == "b" else reference_words(array)


def table_of(arrays: list[np.ndarray], bases: list[int] | None = None) -> host_form.Table:
    return host_form.Table([array.dtype for array in arrays], [array.size for array in arrays], bases)


@pytest.mark.parametrize(("array", "expected"), VECTORS, ids=lambda value: getattr(value, "dtype", None) and value.dtype.name)
def test_published_vectors(array: np.ndarray, expected: int) -> None:
    assert host_form.checksum(array) == expected


@pytest.mark.parametrize("form", ["machine code", "numpy"])
@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_and_size_is_read_in_one_call(name: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if form == "numpy":
        monkeypatch.setattr(host_form, "shortfall", lambda: "it is not to be used")
    arrays = [
        array_at(name, size, offset, seed) for seed, (size, offset) in enumerate(zip(SIZES, range(len(SIZES)), strict=True))
    ]
    bases = [3 * size**5 for size in SIZES]
    table = table_of(arrays, bases)
    expected = [reference(words_by_definition(array), base) for array, base in zip(arrays, bases, strict=True)]
    for _ in range(2):  # what a call left behind is no part of the next one
        alone = table.read([array.ctypes.data for array in arrays])
        assert [lanes_to_checksum(*pair) for pair in alone.lanes.tolist()] == expected and alone.statistics is None
        both = table.read([array.ctypes.data for array in arrays], statistics=True)
        assert both.lanes.tolist() == alone.lanes.tolist()
    assert [lanes_to_checksum(*host_form.lanes(array, base)) for array, base in zip(arrays, bases, strict=True)] == expected


@pytest.mark.slow
@settings(deadline=None, derandomize=True, max_examples=300)
@given(
    st.sampled_from(DTYPES), st.lists(st.integers(0, 40), max_size=3), st.lists(st.sampled_from([1, 2, 3, -1, -2]), max_size=3),
    st.booleans(), st.integers(0, 2**40), st.integers(0, 2**32 - 1), st.integers(0, 7),
)  # fmt: skip
def test_any_strides_and_bases(
    name: str, shape: list[int], steps: list[int], transposed: bool, base: int, seed: int, offset: int
) -> None:
    array = array_at(name, int(np.prod(shape, dtype=int)), offset, seed).reshape(shape)
    view = array[tuple(slice(None, None, step) for step in steps[: len(shape)])]
    view = view.T if transposed else view
    expected = reference(words_by_definition(np.ascontiguousarray(view)), base)
    assert lanes_to_checksum(*host_form.lanes(view, base)) == lanes_to_checksum(*numpy_form.lanes(view, base)) == expected


@pytest.mark.parametrize("name", ["float16", "float32", "int64", "complex128"])
def test_big_endian_and_overlapping_views(name: str) -> None:
    array = array_at(name, 60)
    swapped = array.astype(array.dtype.newbyteorder(">"))
    windows = np.lib.stride_tricks.sliding_window_view(array, 7)
    for view in (swapped, windows, np.broadcast_to(array[0], (3, 4)), array[::-1]):
        native = np.ascontiguousarray(view.astype(array.dtype))
        assert host_form.checksum(view) == reference(reference_words(native))


@pytest.mark.parametrize("name", ["uint8", "uint16", "uint32"])
def test_a_flipped_bit_shows_at_every_place(name: str) -> None:
    array = array_at(name, 83, 1)
    seen = {host_form.checksum(array)}
    for index in range(array.size):
        array[index] ^= 1
        seen.add(host_form.checksum(array))
        assert host_form.checksum(array) == numpy_form.checksum(array)
        array[index] ^= 1
    assert len(seen) == array.size + 1


def test_leaves_larger_than_a_call_that_keeps_the_lock() -> None:
    array = array_at("uint32", host_form.LOCKED_BYTES // 4 + 5)
    assert table_of([array]).read([array.ctypes.data]).lanes.tolist() == [list(numpy_form.lanes(array))]


def test_an_empty_table_and_types_without_fixed_bits() -> None:
    assert table_of([]).read([]).lanes.shape == (0, 2)
    for array in (np.array([{}]), np.array(["a"]), np.zeros(2, "datetime64[s]"), np.zeros(2, np.longdouble)):
        with pytest.raises(BadInputError, match="has no checksum"):
            host_form.checksum(array)


# Statistics of the same pass.

HARD = [0.0, -0.0, 1.5, -2.25, 65504.0, 6e-8, -6e-5, 448.0]


@pytest.mark.parametrize("form", ["machine code", "numpy"])
@pytest.mark.parametrize("name", [name for name in DTYPES if name != "float8_e8m0fnu"])
def test_norms_maxima_and_what_is_not_finite(name: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if form == "numpy":
        monkeypatch.setattr(host_form, "shortfall", lambda: "it is not to be used")
    with np.errstate(all="ignore"):
        arrays = [np.resize(np.array(HARD), size).astype(name) for size in SIZES] + [array_at(name, 65)]
    found = table_of(arrays).read([array.ctypes.data for array in arrays], statistics=True)
    assert found.statistics is not None
    for array, values, odd in zip(arrays, found.statistics.tolist(), found.not_finite.tolist(), strict=True):
        with np.errstate(all="ignore"):
            magnitude = np.abs(array.astype(np.complex128 if array.dtype.kind == "c" else np.float64))
            norm, largest = np.sqrt((magnitude**2).sum()), magnitude.max(initial=0)
            np.testing.assert_allclose(values, np.array([norm, largest]).astype(np.float32), rtol=1e-6)
            parts = [array.real, array.imag] if array.dtype.kind == "c" else [array.astype(np.float64)]
        assert odd is not all(bool(np.isfinite(part).all()) for part in parts)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64", "complex64", "float8_e5m2"])
@pytest.mark.parametrize("place", [0, 20, 32])
def test_a_nan_shows_in_both_statistics_and_an_infinity_in_itself(name: str, place: int) -> None:
    array = np.ones(33, name)
    array[place] = np.nan
    other = np.ones(33, name)
    other[place] = -np.inf
    with np.errstate(all="raise"):
        found = table_of([array, other]).read([array.ctypes.data, other.ctypes.data], statistics=True)
    assert np.isnan(found.statistics[0]).all() and found.statistics[1].tolist() == [np.inf, np.inf]
    assert found.not_finite.tolist() == [True, True]


def test_signalling_nans_and_overflow_are_no_warnings() -> None:
    arrays = [
        np.full(40, 0x7F800001, np.uint32).view(np.float32), np.full(40, 0x7FF0000000000001, np.uint64).view(np.float64),
        np.full(40, 3e38, np.float32), np.full(40, 1e300),
    ]  # fmt: skip
    with np.errstate(all="raise"):
        found = table_of(arrays).read([array.ctypes.data for array in arrays], statistics=True)
    assert np.isnan(found.statistics[:2]).all() and np.isinf(found.statistics[2:, 0]).all()
    assert found.statistics[2, 1] == np.float32(3e38)


def test_magnitudes_of_half_precision_are_exact() -> None:
    every = np.arange(0x7C00, dtype=np.uint16)
    for name in ("float16", ml_dtypes.bfloat16):
        arrays = [np.array([bits], np.uint16).view(name) for bits in every[::37]]
        found = table_of(arrays).read([array.ctypes.data for array in arrays], statistics=True)
        assert found.statistics[:, 1].tolist() == [float(array[0]) for array in arrays]


@pytest.mark.parametrize("leaves", [1, 2, 17])
def test_roots_of_many_records_at_once(leaves: int) -> None:
    checksums = np.random.default_rng(0).integers(0, 2**64, (5, leaves + 3), np.uint64)
    for rows in (checksums[:, 1 : leaves + 1], checksums[::2, :leaves], checksums[:0, :leaves], checksums[:, :0]):
        assert host_form.roots(rows).tolist() == numpy_form.roots(rows).tolist() == [numpy_form.root(row) for row in rows]


SWITCH = """
import sys
import numpy as np
from reprotui.checksum import host_form, numpy_form
array = np.arange(1000.0)
expected = numpy_form.checksum(array)
assert host_form.checksum(array) == expected
assert "llvmlite" not in sys.modules
host_form.checksum(np.zeros(host_form.STARTING_BYTES, np.uint8))
assert "llvmlite" in sys.modules
assert host_form.checksum(array) == expected
"""


def test_who_reads_little_does_not_wait_for_llvm_and_who_reads_much_gets_it() -> None:
    subprocess.run([sys.executable, "-c", SWITCH], check=True)
