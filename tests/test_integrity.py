"""Digests of files and of content: what they cover, and that they equal what other tools print."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from reprotui.checksum import LeafSpec
from reprotui.integrity import content_digest, file_digest, leaf_digest

KERNEL = (LeafSpec("params/dense/kernel", "float32", (2, 2)), np.array([[0.0, 1.0], [2.0, 3.0]], "<f4").tobytes())
BIAS = (LeafSpec("params/dense/bias", "float32", (2,)), np.array([0.5, -0.5], "<f4").tobytes())
KEY = (LeafSpec("rng", "key<fry>", ()), np.array([0, 7], "<u4").tobytes())
STATE = [KERNEL, BIAS, KEY]
GOLDEN = "81167d6c82eafb414892127fa909efe2343297d4d41640fbf26542a2dcdf158e"


def changed(**fields):
    """Return the state with its kernel described otherwise."""
    return [(KERNEL[0]._replace(**fields), KERNEL[1]), BIAS, KEY]


def test_content_digest_is_the_published_one():
    headers = ['["params/dense/bias","float32",[2]]', '["params/dense/kernel","float32",[2,2]]', '["rng","key<fry>",[]]']
    leaves = [
        hashlib.sha256(h.encode() + b"\n" + data).digest() for h, (_, data) in zip(headers, [BIAS, KERNEL, KEY], strict=True)
    ]
    assert content_digest(STATE) == hashlib.sha256(b"".join(leaves)).hexdigest() == GOLDEN
    assert leaf_digest(*BIAS) == leaves[0]


def test_order_of_leaves_and_kind_of_buffer_do_not_count():
    assert content_digest(reversed(STATE)) == GOLDEN
    assert content_digest(iter([(spec, memoryview(data)) for spec, data in STATE])) == GOLDEN
    assert content_digest((spec, bytearray(data)) for spec, data in STATE) == GOLDEN


def test_digest_of_no_leaves_is_that_of_nothing():
    assert content_digest([]) == hashlib.sha256().hexdigest()


@pytest.mark.parametrize(
    "other",
    [
        changed(path="params/dense/Kernel"), changed(path="params/dense/kernel#2"), changed(dtype="int32"), changed(shape=(4,)),
        changed(shape=(4, 1)), STATE[:2], [*STATE, (LeafSpec("empty", "float32", (0,)), b"")],
        [KERNEL, BIAS, (KEY[0]._replace(dtype="key<rbg>"), KEY[1])],
        [(KERNEL[0], BIAS[1]), (BIAS[0], KERNEL[1]), KEY],
    ],
)  # fmt: skip
def test_path_dtype_shape_and_set_of_leaves_count(other):
    assert content_digest(other) != GOLDEN


@pytest.mark.parametrize(
    ("dtype", "a", "b"),
    [("<u4", 0x7FC00000, 0x7FC00001), ("<u4", 0, 1 << 31), ("<u2", 0x7FC0, 0xFFC0), ("<u4", 0x3F800000, 0x3F800001)],
)
def test_nan_payload_sign_of_zero_and_one_ulp_count(dtype, a, b):
    spec = LeafSpec("x", "float32", (1,))
    first, second = (np.array([bits], dtype).tobytes() for bits in (a, b))
    assert content_digest([(spec, first)]) != content_digest([(spec, second)])
    assert content_digest([(spec, first)]) == content_digest([(spec, bytes(first))])


def test_paths_beyond_ascii_are_hashed_as_utf8():
    spec = LeafSpec("Gewicht/größe", "float32", (0,))
    assert leaf_digest(spec, b"") == hashlib.sha256('["Gewicht/größe","float32",[0]]\n'.encode()).digest()


@pytest.mark.parametrize("content", [b"", b"abc\n", bytes(range(256)) * 10_000])
def test_file_digest_is_what_sha256sum_prints(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    printed = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]
    assert file_digest(path) == printed == hashlib.sha256(content).hexdigest()


def test_no_framework_is_loaded():
    script = "import sys, reprotui.integrity; print(sorted({'jax', 'torch', 'flax', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip() == "[]"
