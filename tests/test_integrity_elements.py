"""Element-wise differences: bits, ulp, histograms and heat maps, with the cases in which they must stay silent."""

import math
import struct
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from reprotui.integrity import elements
from reprotui.integrity.elements import compare_arrays, heat_map, show, ulp_distance

FLOATS = [np.float16, np.float32, np.float64, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2]


def bits(array: np.ndarray) -> np.ndarray:
    return array.view({1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}[array.dtype.itemsize])


@pytest.mark.parametrize("dtype", [*FLOATS, np.int8, np.int64, np.uint32, np.bool_, np.complex64, ml_dtypes.int4])
@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 5)])
def test_equal_arrays_do_not_differ(dtype: Any, shape: tuple[int, ...]) -> None:
    array = np.ones(shape).astype(dtype)
    found = compare_arrays(array, array.copy())
    assert (found.different, found.first_index, found.max_abs, found.max_relative) == (0, None, None, None)
    assert found.equal and sum(count for _, count in (*found.ulp_histogram, *found.log_histogram)) == 0


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("value", [0.5, -1.0, 0.0])
def test_one_ulp_is_one_ulp_at_its_index(dtype: Any, value: float) -> None:
    a = np.full((4, 6), value).astype(dtype)
    b = a.copy()
    bits(b)[2, 3] += 1
    found = compare_arrays(a, b)
    assert (found.different, found.first_index, found.max_ulp) == (1, (2, 3), 1)
    assert dict(found.ulp_histogram)["1"] == 1
    assert found.first_values is not None and found.first_values[0] != found.first_values[1]
    assert found.max_abs_index == (2, 3)
    assert found.max_abs == abs(float(a[2, 3]) - float(b[2, 3]))


def test_bits_decide_equality_and_ulp_measures_values() -> None:
    nan, other = (np.frombuffer(struct.pack("<I", word), "<f4")[0] for word in (0x7FC00000, 0x7FC00001))
    a = np.array([0.0, 1.0, nan, nan, np.inf, 3.0], np.float32)
    b = np.array([-0.0, 1.0, nan, other, 1.0, np.nan], np.float32)
    found = compare_arrays(a, b)
    assert (found.different, found.not_finite, found.max_ulp, found.max_abs) == (4, 3, 0, 0.0)
    assert dict(found.ulp_histogram)["0"] == 1
    assert "0x7fc00000" in show(nan) and "0x7fc00001" in show(other)


def test_ulp_counts_through_zero_and_exponents() -> None:
    tiny = np.float32(1e-45)
    assert ulp_distance(np.array([-tiny]), np.array([tiny]))[0] == 2
    assert ulp_distance(np.float32([1]), np.float32([2]))[0] == 1 << 23
    assert ulp_distance(np.float64([-1]), np.float64([1]))[0] == 2 * int(np.float64(1).view(np.uint64))
    top = np.finfo(np.float16).max
    assert ulp_distance(np.float16([top]), np.float16([np.inf]))[0] == 1
    random = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    assert (ulp_distance(random, np.nextafter(random, np.float32(np.inf))) == 1).all()


def test_figures_are_those_of_plain_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    a = generator.standard_normal((50, 21)).astype(np.float32)
    b = np.where(generator.random(a.shape) < 0.3, a * np.float32(1.001), a)
    whole = compare_arrays(a, b)
    monkeypatch.setattr(elements, "CHUNK_ELEMENTS", 64)
    assert compare_arrays(a, b) == whole
    delta = np.abs(a.astype(np.float64) - b)
    assert whole.different == (a != b).sum() == sum(count for _, count in whole.ulp_histogram)
    assert whole.max_abs == delta.max()
    assert whole.max_abs_index == np.unravel_index(delta.argmax(), a.shape)
    assert whole.max_relative == (delta / np.maximum(np.abs(a.astype(np.float64)), np.abs(b.astype(np.float64)))).max()
    assert whole.first_index == tuple(np.argwhere(a != b)[0])
    logs = dict(whole.log_histogram)
    assert logs["-4…"] == ((delta >= 1e-4) & (delta < 1e-2)).sum()


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.int64, np.bool_])
def test_integers_have_differences_and_no_ulp(dtype: Any) -> None:
    found = compare_arrays(np.array([0, 1, 1]).astype(dtype), np.array([0, 1, 0]).astype(dtype))
    assert (found.different, found.max_abs, found.max_ulp, found.ulp_histogram, found.first_index) == (1, 1.0, None, (), (2,))


def test_complex_numbers_are_compared_part_by_part() -> None:
    found = compare_arrays(np.array([1 + 2j, 3j]), np.array([1 + 2j, 3.5j]))
    assert (found.elements, found.different, found.first_index, found.max_abs) == (4, 1, (1, 1), 0.5)


@pytest.mark.parametrize("other", [np.zeros(4, np.float64), np.zeros((2, 2), np.float32)])
def test_other_types_and_shapes_have_no_partners(other: np.ndarray) -> None:
    for compare in (compare_arrays, lambda a, b: heat_map(a, b, 2, 2)):
        with pytest.raises(ValueError, match="cannot be compared"):
            compare(np.zeros(4, np.float32), other)


def test_json_of_a_difference_is_plain() -> None:
    import json

    a = np.array([1.0, 2.0], np.float32)
    value = json.loads(json.dumps(compare_arrays(a, a * 2).to_json(), allow_nan=False))
    assert value["different"] == 2 and value["first_index"] == [0]


def test_a_heat_map_shows_where(monkeypatch: pytest.MonkeyPatch) -> None:
    a = np.zeros((100, 70), np.float32)
    b = a.copy()
    b[99, 69], b[0, 0], b[50, 35] = 3, -1, -0.0
    monkeypatch.setattr(elements, "CHUNK_ELEMENTS", 700)
    grid = heat_map(a, b, 10, 7)
    assert grid.shape == (10, 7)
    assert (grid[9, 6], grid[0, 0]) == (3.0, 1.0)
    # Other bits with the same value are seen, and nothing else is.
    assert 0 < grid[5, 3] < 1e-300
    assert (grid > 0).sum() == 3
    b[3, 3] = np.nan
    assert math.isinf(heat_map(a, b, 10, 7)[0, 0])
    assert not heat_map(a, a.copy(), 10, 7).any()


@pytest.mark.parametrize(
    ("shape", "grid"), [((), (1, 1)), ((5,), (1, 5)), ((3, 4), (3, 4)), ((2, 3, 4), (4, 4)), ((0, 4), (0, 0))]
)
def test_a_heat_map_is_never_larger_than_the_matrix(shape: tuple[int, ...], grid: tuple[int, int]) -> None:
    assert heat_map(np.zeros(shape), np.ones(shape), 4, 5).shape == grid


def test_every_cell_of_a_heat_map_is_the_maximum_of_its_elements() -> None:
    generator = np.random.default_rng(2)
    a, b = generator.random((37, 23)), generator.random((37, 23))
    grid = heat_map(a, b, 5, 4)
    expected = np.zeros((5, 4))
    for row in range(37):
        for column in range(23):
            cell = row * 5 // 37, max(c for c in range(4) if c * 23 // 4 <= column)
            expected[cell] = max(expected[cell], abs(a[row, column] - b[row, column]))
    assert (grid == expected).all()
