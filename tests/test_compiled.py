"""jax arrays on the CPU are read by the host's machine code, which XLA calls: equal to the definition, in the device's order."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from reprotui.checksum import host_form, machine_code, numpy_form
from reprotui.record import compiled, lanes
from test_checksum import NARROW_BITS, sample

SHAPES = [(), (0, 3), (7, 3), (2, 3, 43), (1000,)]
PLAIN = ["bool", "int8", "uint8", "int16", "float16", "int32", "float32", "complex64", "bfloat16", "float8_e5m2"]
WIDE = ["int64", "float64", "complex128"]


def taken(leaves: list[jax.Array]) -> list[list[int]]:
    return lanes.take(leaves).result()[0].tolist()


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("form", ["machine code", "XLA's own"])
def test_arrays_of_every_kind_in_one_call(wide: bool, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if form == "XLA's own":
        monkeypatch.setattr(compiled, "_target_works", lambda: False)
    with jax.enable_x64(wide):
        arrays = [sample(name, shape) for name in PLAIN + WIDE * wide for shape in SHAPES]
        keys = [jax.random.key(3), jax.random.split(jax.random.key(3), 5)]
        leaves = [*map(jnp.asarray, arrays), *keys, jnp.asarray(sample("float32", (8, 6))).T]
        arrays += [np.asarray(jax.random.key_data(key)) for key in keys] + [np.asarray(leaves[-1])]
        lanes_, scalars, _ = lanes.take(leaves).result()
        assert lanes_.tolist() == [list(numpy_form.lanes(array)) for array in arrays]
        assert {place: value.tobytes() for place, value in scalars.items()} == {
            place: array.tobytes() for place, array in enumerate(arrays) if array.shape == () and place < len(arrays) - 3
        }


def test_the_machine_code_is_taken_where_arrays_lie_on_the_cpu_one_element_behind_the_other() -> None:
    assert compiled.DeviceLeaves([jnp.zeros(3)], ())._table is not None
    for name in NARROW_BITS:
        leaf = jnp.asarray(sample(name, (5,)))
        assert compiled.DeviceLeaves([leaf], ())._table is None
        assert taken([leaf]) == [list(numpy_form.lanes(np.asarray(leaf)))]
    assert jnp.zeros(3, ml_dtypes.int4).dtype == "int4"


def test_memory_is_read_before_it_is_given_away_and_stays_donatable() -> None:
    step = jax.jit(lambda x: x + 1, donate_argnums=0)
    x = jnp.zeros((300, 300))
    address = x.unsafe_buffer_pointer()
    for number in range(20):
        pending = lanes.take([x])
        x = step(x)
        assert pending.result()[0].tolist() == [list(numpy_form.lanes(np.full((300, 300), number, np.float32)))]
        assert x.unsafe_buffer_pointer() == address


def test_where_xla_does_not_take_it_xla_compiles_the_checksum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_code, "xla_target", lambda: 1 / 0)
    compiled._target_works.cache_clear()
    try:
        assert not compiled._target_works()
        assert taken([jnp.arange(5.0)]) == [list(host_form.lanes(np.arange(5, dtype=np.float32)))]
    finally:
        compiled._target_works.cache_clear()


SHARED = """
import jax, jax.numpy as jnp, numpy as np
from reprotui.checksum import numpy_form
from reprotui.record import compiled, lanes
leaves = [jnp.arange(1000.0), jnp.arange(7, dtype=jnp.int8)]
found = lanes.take(leaves).result()[0].tolist()
assert compiled._target_works()
assert found == [list(numpy_form.lanes(np.asarray(leaf))) for leaf in leaves]
devices = jax.devices()
mesh = jax.sharding.NamedSharding(jax.make_mesh((2,), ("x",)), jax.sharding.PartitionSpec("x"))
split = jax.device_put(np.arange(1000, dtype=np.float32), mesh)
assert compiled.DeviceLeaves([split], ())._table is None
assert lanes.take([split]).result()[0].tolist() == found[:1]
print("equal")
"""


def test_a_program_that_is_kept_on_disk_serves_other_processes_and_sharded_arrays_are_left_to_xla(tmp_path: Path) -> None:
    environment = {
        **os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }  # fmt: skip
    kept = []
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", SHARED], env=environment, capture_output=True, text=True, check=False)
        assert done.stdout.strip() == "equal", done.stderr
        kept.append(sorted(path.name for path in tmp_path.iterdir() if path.name.endswith("-cache")))
    assert kept[0] == kept[1] != []
