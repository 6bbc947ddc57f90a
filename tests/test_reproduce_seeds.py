"""Seeds: what they set, what is restored, and state that round-trips bit for bit through JSON."""

import json
import random
import subprocess
import sys

import jax
import numpy as np
import pytest
import torch

from reprotui.errors import BadInputError
from reprotui.reproduce import (
    SeedContext,
    create_reproducible_generator,
    create_reproducible_rng,
    derive_key,
    generate_deterministic_seeds,
    get_seed_state,
    load_seed_state,
    process_key,
    purpose_key,
    restore_seed_state,
    save_seed_state,
    set_global_seed,
    set_seed,
    split_keys,
    step_key,
)


def draw():
    """Draw from every global generator; gauss and normal keep half a pair in their state."""
    return [
        random.random(), random.gauss(0, 1), np.random.random(), np.random.standard_normal(), torch.rand(3).tolist(),
        torch.randn(1).item(),
    ]  # fmt: skip


@pytest.fixture(autouse=True)
def unchanged():
    state = get_seed_state()
    yield
    restore_seed_state(state)


def test_a_seed_gives_the_same_numbers_in_every_library_and_another_seed_others():
    info = set_global_seed(42, deterministic=False)
    first = draw()
    again = set_seed(42, deterministic=False)
    assert draw() == first
    assert info == again
    assert info.seeded == ("python", "numpy", "torch", "jax")
    assert (jax.random.key_data(info.jax_key) == jax.random.key_data(jax.random.key(42))).all()
    assert info.generator.random() == np.random.default_rng(42).random()
    assert json.loads(json.dumps(info.to_json()))["seed"] == 42
    set_seed(43, deterministic=False)
    assert all(a != b for a, b in zip(draw(), first, strict=True))


def test_only_the_named_frameworks_are_seeded():
    set_seed(1, deterministic=False)
    before = torch.get_rng_state()
    state = random.getstate()
    info = set_seed(2, deterministic=False, frameworks=["numpy"])
    assert info.seeded == ("numpy",)
    assert torch.equal(torch.get_rng_state(), before)
    assert random.getstate() == state


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, "1", True, None])
def test_a_seed_that_not_every_library_takes_is_refused(seed):
    before = random.getstate()
    with pytest.raises(BadInputError, match="whole number"):
        set_global_seed(seed)
    assert random.getstate() == before


@pytest.mark.parametrize("seed", [0, 2**32 - 1, np.int64(5)])
def test_the_seeds_at_the_edges_are_taken(seed):
    assert set_global_seed(seed, deterministic=False).seed == int(seed)


def test_benchmark_and_deterministic_exclude_each_other():
    with pytest.raises(BadInputError, match="benchmark"):
        set_global_seed(1, benchmark=True)
    before = torch.backends.cudnn.benchmark
    try:
        set_global_seed(1, deterministic=False, benchmark=True)
        assert torch.backends.cudnn.benchmark
    finally:
        torch.backends.cudnn.benchmark = before


def test_unknown_frameworks_are_named():
    with pytest.raises(BadInputError, match="tensorflow"):
        set_global_seed(1, frameworks=["tensorflow"])


def test_the_context_restores_exactly_what_was_there_also_after_an_error():
    set_seed(3, deterministic=False)
    draw()
    before = get_seed_state()
    expected = draw()
    restore_seed_state(before)
    with SeedContext(9) as info:
        inside = draw()
        assert info.seed == 9
    assert get_seed_state() == before
    with pytest.raises(ZeroDivisionError), SeedContext(9):
        assert draw() == inside
        raise ZeroDivisionError
    assert draw() == expected


def test_contexts_nest():
    with SeedContext(1):
        outer = draw()
    with SeedContext(1):
        with SeedContext(2):
            draw()
        assert draw() == outer


GENERATORS = {
    "PCG64": lambda: np.random.Generator(np.random.PCG64(1)),
    "PCG64DXSM": lambda: np.random.Generator(np.random.PCG64DXSM(1)),
    "MT19937": lambda: np.random.Generator(np.random.MT19937(1)),
    "Philox": lambda: np.random.Generator(np.random.Philox(1)),
    "SFC64": lambda: np.random.Generator(np.random.SFC64(1)),
    "torch": lambda: torch.Generator().manual_seed(1),
    "python": lambda: random.Random(1),
}


def draw_from(generator):
    if isinstance(generator, torch.Generator):
        return torch.randn(5, generator=generator).tolist()
    if isinstance(generator, np.random.Generator):
        # 32-bit integers leave half a word behind, which is part of the state.
        return [*generator.standard_normal(3).tolist(), int(generator.integers(7, dtype=np.uint32))]
    return [generator.random(), generator.gauss(0, 1)]


@pytest.mark.parametrize("name", GENERATORS)
def test_generators_round_trip_through_a_file(name, tmp_path):
    generator = GENERATORS[name]()
    draw_from(generator)
    save_seed_state(tmp_path / "state.json", generators=generator)
    expected = [draw_from(generator) for _ in range(3)]
    state = load_seed_state(tmp_path / "state.json", generators=generator)
    assert [draw_from(generator) for _ in range(3)] == expected
    rebuilt = state.generator()
    assert [draw_from(rebuilt) for _ in range(3)] == expected
    assert type(rebuilt) is type(generator)


KEYS = {
    "typed": lambda: jax.random.key(7),
    "rbg": lambda: jax.random.key(7, impl="rbg"),
    "array of keys": lambda: jax.random.split(jax.random.key(7), (2, 3)),
    "raw": lambda: jax.random.PRNGKey(7),
}


@pytest.mark.parametrize("name", KEYS)
def test_jax_keys_round_trip_through_a_file(name, tmp_path):
    key = KEYS[name]()
    save_seed_state(tmp_path / "state.json", jax_keys={"dropout": key})
    restored = load_seed_state(tmp_path / "state.json").jax_key("dropout")
    assert restored.dtype == key.dtype
    assert restored.shape == key.shape
    data = [k if name == "raw" else jax.random.key_data(k) for k in (key, restored)]
    assert (np.asarray(data[0]) == np.asarray(data[1])).all()
    with pytest.raises(BadInputError, match="holds no JAX key 'params'"):
        load_seed_state(tmp_path / "state.json").jax_key("params")


@pytest.mark.slow
def test_global_states_round_trip_into_another_process(tmp_path):
    set_seed(5, deterministic=False)
    draw()  # leaves a half pair in random and numpy
    save_seed_state(tmp_path / "state.json")
    expected = draw()
    script = (
        "import random, numpy as np, torch, json\n"
        "from reprotui.reproduce import load_seed_state\n"
        f"load_seed_state({str(tmp_path / 'state.json')!r})\n"
        "print(json.dumps([random.random(), random.gauss(0, 1), np.random.random(), np.random.standard_normal(),"
        " torch.rand(3).tolist(), torch.randn(1).item()]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == expected
    state = load_seed_state(tmp_path / "state.json", restore=False)
    assert state != get_seed_state(), "reading alone restores nothing"


def test_a_state_file_is_json_without_pickles_and_damage_is_refused(tmp_path):
    path = tmp_path / "state.json"
    save_seed_state(path, generators=np.random.default_rng(1))
    value = json.loads(path.read_text())
    assert value["format"] == "reprotui-seed-state"
    for change, said in (
        ({"format": "other"}, "is not a seed state"),
        ({"version": 2}, "version 2"),
        ({"python": {"version": 3}}, "damaged"),
        ({"generators": 3}, "damaged"),
    ):
        path.write_text(json.dumps(value | change))
        with pytest.raises(BadInputError, match=said):
            load_seed_state(path)
    path.write_text("not json")
    with pytest.raises(BadInputError):
        load_seed_state(path)


def test_a_generator_of_another_type_or_name_is_refused():
    state = get_seed_state(generators={"data": np.random.default_rng(1)})
    with pytest.raises(BadInputError, match=r"numpy\.Philox.*numpy\.PCG64"):
        restore_seed_state(state, generators={"data": np.random.Generator(np.random.Philox(1))})
    with pytest.raises(BadInputError, match="no generator 'other'"):
        restore_seed_state(state, generators={"other": np.random.default_rng(1)})
    with pytest.raises(BadInputError, match="SystemRandom"):
        get_seed_state(generators=random.SystemRandom())


def test_a_refused_restore_changes_nothing():
    state = get_seed_state(generators={"data": np.random.default_rng(1)})
    draw()
    before = get_seed_state()
    with pytest.raises(BadInputError):
        restore_seed_state(state, generators={"data": random.Random(1)})
    assert get_seed_state() == before


def test_streams_are_distinct_stable_and_do_not_depend_on_their_number():
    seeds = generate_deterministic_seeds(1, 1000)
    assert len(set(seeds)) == 1000
    assert generate_deterministic_seeds(1, 10) == seeds[:10]
    assert not set(seeds) & set(generate_deterministic_seeds(2, 1000))
    assert generate_deterministic_seeds(1, 0) == []
    assert seeds[0] == int(np.random.SeedSequence(1, spawn_key=(0,)).generate_state(1)[0])
    for seed in seeds[:3]:
        torch.Generator().manual_seed(seed)
        set_seed(seed, deterministic=False)
    with pytest.raises(BadInputError):
        generate_deterministic_seeds(1, -1)


LOADER = """
import json, random, numpy as np, torch
from reprotui.reproduce import create_reproducible_generator, seed_worker

class Noise(torch.utils.data.Dataset):
    def __len__(self):
        return 6
    def __getitem__(self, index):
        return torch.tensor([random.random(), np.random.random(), torch.rand(1, dtype=torch.float64).item()])

def loaded(seed, **options):
    loader = torch.utils.data.DataLoader(
        Noise(), num_workers=2, shuffle=True, generator=create_reproducible_generator(seed), **options
    )
    return [batch.tolist()[0] for epoch in range(2) for batch in loader]

print(json.dumps([loaded(3, worker_init_fn=seed_worker), loaded(3, worker_init_fn=seed_worker), loaded(4)]))
"""


@pytest.mark.slow
def test_loader_workers_give_the_same_numbers_again_and_differ_from_each_other():
    # In a process of its own, without jax: the workers are forked.
    done = subprocess.run([sys.executable, "-c", LOADER], capture_output=True, text=True, check=True)
    first, again, other = json.loads(done.stdout)
    assert first == again
    numbers = [number for example in first for number in example]
    assert len(set(numbers)) == len(numbers) == 36
    assert not set(numbers) & {number for example in other for number in example}


def test_a_split_is_that_of_its_generator():
    def split(seed):
        parts = torch.utils.data.random_split(range(20), [15, 5], generator=create_reproducible_generator(seed))
        return [list(part) for part in parts]

    assert split(1) == split(1)
    assert split(1) != split(2)


def bits(key):
    return np.asarray(jax.random.key_data(key)).tolist()


def test_keys_differ_by_seed_purpose_step_and_process_and_nothing_else():
    root = create_reproducible_rng(1)
    assert bits(root) == bits(jax.random.key(1))
    keys = [
        root, create_reproducible_rng(2), purpose_key(root, "init"), purpose_key(root, "data"), step_key(root, 0),
        step_key(root, 1), process_key(root, 1), derive_key(root, "init", 1), derive_key(root, "init", 2),
        derive_key(root, "init", 1, 0), derive_key(root, "init", 1, 1),
    ]  # fmt: skip
    assert len({tuple(bits(key)) for key in keys}) == len(keys)
    assert bits(derive_key(root, "init", 1, 1)) == bits(process_key(step_key(purpose_key(root, "init"), 1), 1))
    assert bits(process_key(root)) == bits(process_key(root, 0))
    assert bits(split_keys(root, "a", "b")["b"]) == bits(split_keys(root, "b", "c", "a")["b"])
    assert bits(jax.jit(step_key)(root, 3)) == bits(step_key(root, 3))
    with pytest.raises(BadInputError):
        split_keys(root, "a", "a")
    with pytest.raises(BadInputError):
        purpose_key(root, "")


def test_root_keys_do_not_follow_jaxs_configuration():
    before = jax.config.jax_default_prng_impl
    try:
        jax.config.update("jax_default_prng_impl", "rbg")
        assert str(jax.random.key_impl(create_reproducible_rng(1))) == "threefry2x32"
    finally:
        jax.config.update("jax_default_prng_impl", before)
