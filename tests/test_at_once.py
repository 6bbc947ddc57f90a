"""Host arrays read where they lie: the same checksum as numpy's form, wherever an array begins and however it is compiled."""

import ml_dtypes
import numpy as np
import pytest

from reprotui.checksum import numpy_form
from reprotui.record import at_once, host

DTYPES = ["uint8", "bool", "float16", ml_dtypes.bfloat16, "float32", "int64", "float64", "complex64"]
SPLIT = at_once.SPLIT_WORDS


def array_at(dtype: object, size: int, offset: int) -> np.ndarray:
    """Return an array of random bits that begins `offset` elements behind a multiple of 64 bytes."""
    dtype = np.dtype(dtype)
    raw = np.empty((size + offset) * dtype.itemsize + 64, np.uint8)
    start = -raw.ctypes.data % 64
    raw[:] = np.random.default_rng(size + offset).integers(0, 2 if dtype.kind == "b" else 256, raw.size)
    return raw[start : start + (size + offset) * dtype.itemsize].view(dtype)[offset:]


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_lanes_are_those_of_numpy_wherever_an_array_begins(dtype: object) -> None:
    sizes = (1, SPLIT - 1, SPLIT, SPLIT + 1, SPLIT + 63, 2 * SPLIT + 17)
    arrays = [array_at(dtype, size, offset) for size, offset in zip(sizes, (3, 1, 0, 5, 15, 9), strict=True)]
    expected = [numpy_form.lanes(array) for array in arrays]
    assert at_once.lanes([numpy_form.words(array) for array in arrays]).tolist() == [list(lanes) for lanes in expected]


@pytest.mark.parametrize("offset", range(16))
def test_a_flipped_bit_shows_at_every_end(offset: int) -> None:
    array = array_at("uint32", SPLIT + 100, offset)
    before = at_once.lanes([array]).tolist()
    assert before == [list(numpy_form.lanes(array))]
    for index in (0, 15, 16, SPLIT, array.size - 32, array.size - 1):
        array[index] ^= 1
        changed = at_once.lanes([array]).tolist()
        assert changed != before and changed == [list(numpy_form.lanes(array))]
        array[index] ^= 1
    assert at_once.lanes([array]).tolist() == before


def test_a_nan_shows_in_both_statistics_and_is_no_warning() -> None:
    one = np.ones(SPLIT, np.float32)
    one[777] = np.nan
    arrays = [
        one,
        np.full(SPLIT, 0x7F800001, np.uint32).view(np.float32),
        np.full(SPLIT, 0x7FF0000000000001, np.uint64).view(np.float64),
    ]
    with np.errstate(all="raise"):
        _, statistics = host.read(arrays, statistics=True)
    assert statistics is not None and np.isnan(statistics).all()


def test_calls_do_not_wait_for_the_device_of_the_script() -> None:
    assert not at_once.waits()


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_without_a_client_of_our_own_the_lanes_and_statistics_are_the_same(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = [array_at(dtype, SPLIT + 7, 1) for dtype in ("uint8", "int64")]
    arrays.append(np.random.default_rng(0).normal(size=SPLIT).astype(np.float32))
    lanes, statistics = host.read(arrays, statistics=True)
    monkeypatch.setattr(at_once, "_own_calls", lambda: None)
    monkeypatch.setattr("jax.default_backend", lambda: backend)
    assert at_once.waits()
    others, norms = host.read(arrays, statistics=True)
    assert others.tolist() == lanes.tolist()
    np.testing.assert_allclose(norms, statistics, rtol=1e-5)
