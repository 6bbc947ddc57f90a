"""rfp1-64: its published vectors, its three forms equal to the bit, and the paths of leaves."""

import collections
import itertools
import json
import os
import struct
import subprocess
import sys
from dataclasses import dataclass
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
import torch
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from plain_numpy import plain_checksum as reference
from reprotui.checksum import LeafSpec, jax_form, lanes_to_checksum, numpy_form, torch_form
from reprotui.checksum import paths as checksum_paths
from reprotui.checksum.leaves import spec_of
from reprotui.errors import BadInputError

MASK = 0xFFFFFFFF
NARROW_BITS = {"int2": 2, "uint2": 2, "int4": 4, "uint4": 4, "float4_e2m1fn": 4}
FLOAT8 = [
    "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2",
    "float8_e5m2fnuz", "float8_e8m0fnu",
]  # fmt: skip
PLAIN = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "float16", "bfloat16", "float32", "complex64"]
WIDE = ["int64", "uint64", "float64", "complex128"]
DTYPES = [*NARROW_BITS, *FLOAT8, *PLAIN, *WIDE]
SHAPES = [(7, 3), (), (0, 4), (2, 3, 43)]

VECTORS = [
    (np.zeros(0, np.float32), 0x0000000000000000),
    (np.array(0, np.uint8), 0xE46CEDEE212CA684),
    (np.float32(1.0), 0x56153995C33B741A),
    (np.float32(-0.0), 0xE185B6251F82B3DB),
    (np.array([True, False, True]), 0x3951D2A0B5E8E37F),
    (np.arange(6, dtype=np.int8).reshape(2, 3) - 3, 0x137D53CE25095433),
    (np.arange(5, dtype=np.uint16), 0xA7D0180FA085CF02),
    (np.array([1.5, -2.0, np.inf], np.float16), 0x0F060FF03E7FC63A),
    (np.array([1.5, -2.0, np.inf], ml_dtypes.bfloat16), 0xB1A7E2247B11F7AC),
    (np.array([-8, -1, 0, 7], ml_dtypes.int4), 0xF198D09829822ADB),
    (np.array([0.5, -6.0], ml_dtypes.float4_e2m1fn), 0xDE5C2E48FAA7251B),
    (np.array([1.0, -448.0], ml_dtypes.float8_e4m3fn), 0x923905854A476096),
    (np.arange(4, dtype=np.float32), 0x2347709874487EDA),
    (np.array([1, -1, 2**40], np.int64), 0x0A2CAA66F3D537E6),
    (np.array([np.pi, np.nan], np.float64), 0x56C63BBA146FE0EA),
    (np.array([1 + 2j, -3 - 0j], np.complex64), 0xC78B996103C45779),
    (np.array([1j], np.complex128), 0x5F88FFFA73101305),
    (np.arange(100_000, dtype=np.uint32), 0xEF79079681B778D9),
]
"""Published test vectors: another implementation of the definition must give these."""


def reference_words(array):
    raw, size = array.tobytes(), array.dtype.itemsize
    if size == 1:
        mask = (1 << NARROW_BITS.get(array.dtype.name, 8)) - 1
        return [byte & mask for byte in raw]
    return [word for (word,) in struct.iter_unpack("<H" if size == 2 else "<I", raw)]


def sample(dtype, shape, seed=0):
    """Return an array of random bits: NaN payloads, infinities, subnormal numbers and both zeros among them."""
    dtype = np.dtype(dtype)
    count = int(np.prod(shape))
    raw = np.random.default_rng(seed).integers(0, 256, count * dtype.itemsize, np.uint8)
    if dtype.name == "bool":
        return (raw % 2 == 1).reshape(shape)
    if dtype.name.startswith(("int2", "int4")):
        half = 1 << (NARROW_BITS[dtype.name] - 1)
        return (raw.astype(np.int8) % (2 * half) - half).astype(dtype).reshape(shape)
    if dtype.name in NARROW_BITS:
        raw &= (1 << NARROW_BITS[dtype.name]) - 1
    return raw.view(dtype).reshape(shape)


def to_torch(array):
    dtype = getattr(torch, array.dtype.name)
    if array.size == 0:
        return torch.empty(array.shape, dtype=dtype)
    return torch.frombuffer(bytearray(array.tobytes()), dtype=dtype).reshape(array.shape)


@pytest.mark.parametrize(("array", "expected"), VECTORS, ids=lambda value: getattr(value, "dtype", None) and value.dtype.name)
def test_published_vectors(array, expected):
    assert reference(reference_words(array)) == expected
    assert numpy_form.checksum(array) == expected
    with jax.enable_x64(True):
        assert jax_form.checksum(jnp.asarray(array)) == expected
    if hasattr(torch, array.dtype.name):
        assert torch_form.checksum(to_torch(array)) == expected


@pytest.mark.parametrize("name", DTYPES)
def test_all_forms_agree_for_every_dtype_and_shape(name):
    for shape in SHAPES:
        array = sample(name, shape)
        expected = reference(reference_words(array))
        assert numpy_form.checksum(array) == expected
        with jax.enable_x64(name in WIDE):
            leaf = jnp.asarray(array)
            assert leaf.dtype == array.dtype
            assert jax_form.checksum(leaf) == expected
            assert spec_of("a", leaf) == LeafSpec("a", name, shape)
        if hasattr(torch, name):
            assert torch_form.checksum(to_torch(array)) == expected
            assert spec_of("a", to_torch(array)) == LeafSpec("a", name, shape)
        if 0 in shape:
            assert expected == 0


def test_most_dtypes_have_a_torch_form():
    missing = {name for name in DTYPES if not hasattr(torch, name)}
    assert missing <= {*NARROW_BITS, "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz"}


@pytest.mark.slow
def test_x64_in_a_fresh_process_agrees():
    script = """
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
from reprotui.checksum import jax_form, numpy_form
for dtype in (np.int64, np.uint64, np.float64, np.complex128):
    array = np.random.default_rng(0).bytes(480)
    array = np.frombuffer(array, dtype).reshape(2, 3, -1)
    assert jnp.asarray(array).dtype == dtype
    assert jax_form.checksum(jnp.asarray(array)) == numpy_form.checksum(array), dtype
print("agrees")
"""
    assert run_script(script) == "agrees"


# ml_dtypes has the native byte order only.
@pytest.mark.parametrize("name", [name for name in PLAIN + WIDE if np.dtype(name).itemsize > 1 and name != "bfloat16"])
def test_big_endian_numpy_equals_little_endian(name):
    array = sample(name, (5, 3))
    swapped = array.astype(array.dtype.newbyteorder(">"))
    assert swapped.tobytes() != array.tobytes()
    assert numpy_form.checksum(swapped) == numpy_form.checksum(array)


def test_layout_in_memory_does_not_count():
    array = sample("float32", (6, 8))
    for view in (array.T, array[::2, ::-1], np.asfortranarray(array), np.broadcast_to(array[0], (6, 8))):
        expected = reference(reference_words(np.ascontiguousarray(view)))
        assert numpy_form.checksum(view) == expected
        assert jax_form.checksum(jnp.asarray(view)) == expected
    tensor = to_torch(array)
    for tensor_view in (tensor.T, tensor[::2], tensor[0].expand(6, 8)):
        assert torch_form.checksum(tensor_view) == torch_form.checksum(tensor_view.clone(memory_format=torch.contiguous_format))
    assert torch_form.checksum(tensor.T) == numpy_form.checksum(array.T)


def test_lazily_conjugated_and_negated_tensors_are_resolved():
    array = sample("complex64", (4,))
    array = np.nan_to_num(array)
    tensor = to_torch(array)
    assert tensor.conj().is_conj()
    assert torch_form.checksum(tensor.conj()) == numpy_form.checksum(array.conj())
    assert tensor.conj().imag.is_neg()
    assert torch_form.checksum(tensor.conj().imag) == numpy_form.checksum(array.conj().imag)


def test_a_tensor_that_requires_grad_has_the_same_checksum():
    tensor = to_torch(sample("float32", (3, 2)))
    assert torch_form.checksum(torch.nn.Parameter(tensor)) == torch_form.checksum(tensor)


def test_booleans_are_normalised():
    assert numpy_form.checksum(np.array([2, 0, 255], np.uint8).view(bool)) == numpy_form.checksum(np.array([True, False, True]))


@pytest.mark.parametrize(
    ("name", "bits", "a", "b"),
    [
        ("float16", "uint16", 0x7E00, 0x7E01), ("bfloat16", "uint16", 0x7FC0, 0x7FC1),
        ("float32", "uint32", 0x7FC00000, 0x7FC00001),
        ("float64", "uint64", 0x7FF8000000000000, 0x7FF8000000000001), ("float8_e5m2", "uint8", 0x7D, 0x7E),
        ("float32", "uint32", 0x7F800001, 0x7FC00001), ("float16", "uint16", 0, 0x8000), ("bfloat16", "uint16", 0, 0x8000),
        ("float32", "uint32", 0, 1 << 31), ("float64", "uint64", 0, 1 << 63), ("float8_e4m3fn", "uint8", 0, 0x80),
        ("float4_e2m1fn", "uint8", 0, 0x8), ("float32", "uint32", 1, 0),
    ],
)  # fmt: skip
def test_nan_payloads_and_signs_of_zero_and_subnormal_numbers_count(name, bits, a, b):
    first, second = (np.array([0, value, 5], bits).view(name) for value in (a, b))
    with jax.enable_x64(name in WIDE):
        for form in (numpy_form.checksum, lambda x: jax_form.checksum(jnp.asarray(x))):
            assert form(first) == reference(reference_words(first))
            assert form(second) == reference(reference_words(second))
            assert form(first) != form(second)
    if hasattr(torch, name):
        assert torch_form.checksum(to_torch(first)) == numpy_form.checksum(first)
        assert torch_form.checksum(to_torch(second)) == numpy_form.checksum(second)


def test_position_counts():
    array = np.arange(100, dtype=np.float32)
    swapped = array.copy()
    swapped[[3, 70]] = swapped[[70, 3]]
    assert numpy_form.checksum(array) != numpy_form.checksum(swapped)
    assert numpy_form.checksum(np.zeros(3, np.float32)) != numpy_form.checksum(np.zeros(4, np.float32))


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_typed_keys_give_their_key_data_and_name_their_implementation(impl):
    for keys in (jax.random.key(7, impl=impl), jax.random.split(jax.random.key(7, impl=impl), (2, 3))):
        data = np.asarray(jax.random.key_data(keys))
        assert jax_form.checksum(keys) == numpy_form.checksum(data) == reference(reference_words(data))
        spec = spec_of("rng", keys)
        assert spec.shape == keys.shape
        assert spec.dtype == str(keys.dtype)
        assert spec.dtype.startswith("key<")
    assert jax_form.checksum(jax.random.split(jax.random.key(0, impl=impl), 0)) == 0


def test_implementations_of_keys_have_different_dtypes():
    names = {spec_of("rng", jax.random.key(0, impl=impl)).dtype for impl in ("threefry2x32", "rbg", "unsafe_rbg")}
    assert len(names) == 3


def test_specs_of_python_scalars_and_abstract_values():
    assert spec_of("a", 1.5) == LeafSpec("a", "float64", ())
    assert spec_of("a", jax.ShapeDtypeStruct((2, 3), jnp.bfloat16)) == LeafSpec("a", "bfloat16", (2, 3))


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.binary(max_size=400).map(lambda b: b[: len(b) // 4 * 4]), st.lists(st.integers(0, 100), max_size=4))
def test_lanes_of_parts_add_up_to_the_whole(raw, cuts):
    array = np.frombuffer(raw, np.uint32)
    bounds = sorted({0, array.size, *(min(cut, array.size) for cut in cuts)})
    parts = [(start, array[start:end]) for start, end in itertools.pairwise(bounds)]
    expected = reference(array.tolist())
    for form, convert in ((numpy_form, np.asarray), (torch_form, to_torch)):
        lanes = [form.lanes(convert(part), base) for base, part in parts]
        assert lanes_to_checksum(sum(lane for lane, _ in lanes), sum(lane for _, lane in lanes)) == expected


def test_a_base_beyond_32_bits_wraps():
    array = np.arange(10, dtype=np.float32)
    base = (1 << 33) + 12_345
    expected = reference(reference_words(array), base)
    assert lanes_to_checksum(*numpy_form.lanes(array, base)) == expected
    assert lanes_to_checksum(*torch_form.lanes(to_torch(array), base)) == expected


def test_the_base_of_64_bit_leaves_counts_words():
    array = sample("float64", (10,))
    head, tail = numpy_form.lanes(array[:4]), numpy_form.lanes(array[4:], base=8)
    assert lanes_to_checksum(head[0] + tail[0], head[1] + tail[1]) == numpy_form.checksum(array)


@pytest.mark.parametrize("form", [numpy_form, torch_form])
def test_chunking_does_not_count(form, monkeypatch):
    array = sample("int16", (10, 103))
    leaf = to_torch(array) if form is torch_form else array
    monkeypatch.setattr(form, "CHUNK_WORDS", 64)
    assert form.checksum(leaf) == reference(reference_words(array))


def test_the_two_stage_reduction_gives_the_same(monkeypatch):
    arrays = [sample(name, (6, 5, 4)) for name in ("float32", "bfloat16", "complex64", "int4")]
    reductions = str(jax.make_jaxpr(jax_form.lanes)(arrays[0])).count("reduce[")
    monkeypatch.setattr(jax_form, "TWO_STAGE_SIZE", 16)
    assert str(jax.make_jaxpr(lambda leaf: jax_form.lanes(leaf))(arrays[0])).count("reduce[") == 2 * reductions
    for array in arrays:
        lanes = jax.jit(lambda leaf: jax_form.lanes(leaf))(jnp.asarray(array))
        assert lanes_to_checksum(*map(int, lanes)) == reference(reference_words(array))


def test_a_leaf_above_the_two_stage_size_agrees():
    array = np.random.default_rng(0).integers(0, 256, (3, jax_form.TWO_STAGE_SIZE // 2), np.uint8)
    assert jax_form.checksum(jnp.asarray(array)) == numpy_form.checksum(array) == torch_form.checksum(torch.from_numpy(array))


def test_roots_agree_and_cover_the_order_of_leaves():
    checksums = [value for _, value in VECTORS]
    words = [word for value in checksums for word in (value & MASK, value >> 32)]
    expected = reference(words)
    array = np.array(checksums, np.uint64)
    assert numpy_form.root(array) == numpy_form.root(array.astype(">u8")) == expected
    lanes = jnp.asarray(np.array(words, np.uint32).reshape(-1, 2))
    assert lanes_to_checksum(*map(int, jax_form.root_lanes(lanes))) == expected
    assert numpy_form.root(array[::-1]) != expected
    assert numpy_form.root(array[:0]) == 0


def test_scalar_words_hold_the_bits_of_a_scalar():
    with jax.enable_x64(True):
        for array in (np.float32(-1.25), np.array(1.5, ml_dtypes.bfloat16), np.float64(np.pi), np.int64(-3)):
            assert jax.jit(jax_form.scalar_words)(jnp.asarray(array)).tolist() == reference_words(array)


@pytest.mark.parametrize(
    "array",
    [
        np.array([{}]), np.array(["a"]), np.array([b"a"]), np.zeros(2, "datetime64[s]"), np.zeros(2, "timedelta64[s]"),
        np.zeros(2, np.longdouble), np.zeros(2, np.clongdouble), np.zeros(2, [("a", "i4"), ("b", "i2")]), np.zeros(2, "V8"),
    ],
    ids=lambda array: str(array.dtype),
)  # fmt: skip
def test_numpy_refuses_types_without_fixed_bits(array):
    with pytest.raises(BadInputError, match="has no checksum"):
        numpy_form.checksum(array)


def test_jax_refuses_widths_outside_the_definition():
    with pytest.raises(BadInputError, match="6 bits an element are not supported"):
        jax.eval_shape(jax_form.lanes, jax.ShapeDtypeStruct((2,), ml_dtypes.float6_e2m3fn))


def test_torch_refuses_sparse_tensors():
    with pytest.raises(BadInputError, match="make it dense first"):
        torch_form.checksum(torch.eye(2).to_sparse())


def run_script(script, **environment):
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu", **environment}
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


SHARDED = """
import collections
import itertools
import json
import jax, jax.numpy as jnp, ml_dtypes, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from reprotui.checksum import jax_form, lanes_to_checksum, numpy_form

assert jax.device_count() == 4
array = np.random.default_rng(0).integers(0, 2**32, (8, 12, 4), np.uint32).view(np.float32)
arrays = [array, array[..., :2].view(np.complex64), array.view(np.int16), array.view(ml_dtypes.bfloat16)]
keys = jax.random.split(jax.random.key(0), (8, 4))
specs = [P(), P("x"), P(None, "y"), P("x", "y"), P("y", "x"), P(("x", "y")), P(None, ("y", "x")), P("x", None, "y")]
checked = 0

def check(leaf, expected):
    global checked
    assert jax_form.checksum(leaf) == expected, (leaf.sharding, leaf.dtype)
    checked += 1

for two_stage in (1 << 22, 16):
    jax_form.TWO_STAGE_SIZE = two_stage
    jax.clear_caches()
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((2, 2), ("x", "y"), axis_types=(kind, kind))
        with jax.set_mesh(mesh):
            for spec in specs if two_stage > 16 else specs[3:6]:
                for leaf in arrays if spec == P("x", "y") else arrays[:1]:
                    check(jax.device_put(leaf, NamedSharding(mesh, spec)), numpy_form.checksum(leaf))
            key_data = np.asarray(jax.random.key_data(keys))
            check(jax.device_put(keys, NamedSharding(mesh, P("x", "y"))), numpy_form.checksum(key_data))

sharded = jax.device_put(array, NamedSharding(mesh, P(("x", "y"))))
lanes = [numpy_form.lanes(np.asarray(s.data), s.index[0].indices(8)[0] * 48) for s in sharded.addressable_shards]
assert len(lanes) == 4
assert lanes_to_checksum(sum(a for a, _ in lanes), sum(b for _, b in lanes)) == numpy_form.checksum(array)
print(json.dumps(checked))
"""


@pytest.mark.slow
def test_sharded_arrays_have_the_checksum_of_the_whole():
    printed = run_script(SHARDED, XLA_FLAGS="--xla_force_host_platform_device_count=4")
    assert json.loads(printed) == 2 * (8 + 3 + 1) + 2 * (3 + 3 + 1)


@pytest.mark.slow
@pytest.mark.parametrize(("form", "loaded"), [("numpy_form", "numpy"), ("jax_form", "jax"), ("torch_form", "torch")])
def test_a_form_loads_its_own_framework_only(form, loaded):
    names = run_script(f"import sys, reprotui.checksum.{form}; print(*sorted({{'jax', 'torch', 'flax'}} & set(sys.modules)))")
    assert names.split() == ([] if loaded == "numpy" else [loaded])


# Paths of leaves.


class Moments(NamedTuple):
    mu: object
    nu: object


@jax.tree_util.register_dataclass
@dataclass
class State:
    step: object
    weights: object


def paths(tree, prefix=""):
    return [path for path, _ in jax_form.named_leaves(tree, prefix)]


@pytest.fixture
def linen_params():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(2, name="dense_1")(nn.Dense(3, name="dense_0")(x))

    return Net().init(jax.random.key(0), jnp.ones((1, 2)))


def test_paths_of_dictionaries_sequences_and_named_tuples():
    tree = {"b": [1, (2, None)], "a": Moments({"w": 3}, 4)}
    assert paths(tree) == ["a/mu/w", "a/nu", "b/0", "b/1/0"]
    assert paths(tree, "batch") == ["batch/a/mu/w", "batch/a/nu", "batch/b/0", "batch/b/1/0"]
    assert paths({3: 1, 10: 2}, "t") == ["t/3", "t/10"]


def test_path_of_a_bare_leaf_is_its_prefix():
    assert jax_form.named_leaves(1.5, "loss") == [("loss", 1.5)]
    assert paths(None, "loss") == []


def test_paths_of_registered_dataclasses():
    assert paths(State(1, {"w": 2}), "s") == ["s/step", "s/weights/w"]


LINEN_PATHS = [f"params/dense_{layer}/{name}" for layer in (0, 1) for name in ("bias", "kernel")]


def test_paths_of_linen_parameters_and_adam_state(linen_params):
    assert paths(linen_params) == LINEN_PATHS
    moments = [f"opt_state/0/{moment}/{path}" for moment in ("mu", "nu") for path in LINEN_PATHS]
    assert paths(optax.adam(1e-3).init(linen_params), "opt_state") == ["opt_state/0/count", *moments]


def test_paths_of_linen_boxes_name_no_wrapper():
    kernel = nn.Partitioned(jnp.ones(2), names=("x",))
    assert paths({"dense": {"kernel": kernel}}, "params") == ["params/dense/kernel"]


def test_paths_of_nnx_state_name_no_wrapper():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.dense = nnx.Linear(2, 3, rngs=rngs)
            self.norm = nnx.BatchNorm(3, rngs=rngs)

    model = Net(nnx.Rngs(0))
    params = ["dense/bias", "dense/kernel", "norm/bias", "norm/scale"]
    assert paths(nnx.state(model, nnx.Param)) == params
    assert sorted(paths(nnx.state(model))) == sorted([*params, "norm/mean", "norm/var"])
    optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
    moments = [f"opt_state/0/{moment}/{path}" for moment in ("mu", "nu") for path in params]
    assert paths(nnx.state(optimizer)) == ["opt_state/0/count", *moments, "step"]


def test_a_field_called_value_keeps_its_name_beside_others():
    state = optax.scale_by_backtracking_linesearch(max_backtracking_steps=2).init({"w": jnp.ones(2)})
    assert "opt_state/value" in paths(state, "opt_state")
    assert "opt_state" not in paths(state, "opt_state")


def test_without_jax_trees_of_pythons_own_have_the_same_paths_and_order():
    Single = collections.namedtuple("Single", "value")
    trees = [
        1.5, None, {"b": [1, (2, None)], "a": Moments({"w": 3}, 4)}, {"a": {"b": 1}, "a/b": 2, "a/b#2": 3}, {3: 1, 10: 2},
        collections.OrderedDict(z=1, a=[2]), collections.defaultdict(list, z=[1], a=[2]), collections.deque([1, {"x": 2}]),
        {"one": Single(7), "two": Moments(Single(1), {})}, {"x": (), "y": [None], "z": "text"},
    ]  # fmt: skip
    for tree in trees:
        for prefix in ("", "batch"):
            assert checksum_paths.named(checksum_paths.flattened(tree), prefix) == jax_form.named_leaves(tree, prefix)
        opened = checksum_paths.mapped(tree, lambda leaf: {"in": leaf})
        assert jax_form.named_leaves(opened) == jax_form.named_leaves(jax.tree.map(lambda leaf: {"in": leaf}, tree))


def test_leaves_of_the_same_path_are_told_apart():
    tree = {"a": {"b": 1}, "a/b": 2, "a/b#2": 3}
    assert jax_form.named_leaves(tree) == [("a/b", 1), ("a/b#2", 2), ("a/b#2#2", 3)]


def test_named_leaves_keep_flattening_order(linen_params):
    tree = {"p": linen_params, "o": optax.adam(1e-3).init(linen_params), "rng": jax.random.key(0)}
    named = [leaf for _, leaf in jax_form.named_leaves(tree)]
    assert all(a is b for a, b in zip(named, jax.tree.leaves(tree), strict=True))
