"""Readable metrics are held against the checksums of their leaves."""

import json
import sqlite3
from typing import Any

import ml_dtypes  # noqa: F401 - names bfloat16 to numpy
import numpy as np
import pytest

from conftest import Cli
from reprotui.checksum import numpy_form
from reprotui.trace import verify_trace
from reprotui.trace.metrics import WORDS


@pytest.mark.parametrize("number", ["0.5", '"inf"', "1e300"])
def test_a_metric_that_was_edited_is_named(reprotui: Cli, sample: Any, number: str) -> None:
    path = sample("identical")
    assert reprotui.compare(path, "--verify")["verdicts"][0]["kind"] == "identical"
    with sqlite3.connect(path / "b" / "trace.db") as connection:
        connection.execute("UPDATE steps SET metrics = json_set(metrics, '$.accuracy', json(?)) WHERE step = 9", (number,))
    connection.close()
    found = reprotui.compare(path, "--verify", exit_code=3)["verdicts"][0]
    assert f"the metric accuracy of step 9 is {float(json.loads(number))}, and its checksum says otherwise" in found["reason"]


def test_a_metric_that_is_nan_accuses_nobody(sample: Any) -> None:
    path = sample("nan-loss") / "a" / "trace.db"
    with sqlite3.connect(path) as connection:
        connection.execute("""UPDATE steps SET metrics = json_set(metrics, '$.accuracy', 'nan') WHERE step = 9""")
    connection.close()
    assert verify_trace(path).problem is None


@pytest.mark.parametrize("dtype", WORDS)
def test_the_words_of_a_number_are_those_that_its_checksum_is_taken_of(dtype: str) -> None:
    generator = np.random.default_rng(0)
    values = np.array([0.0, -0.0, np.inf, -np.inf, 1.0, *generator.normal(size=200) * 10.0 ** generator.integers(-4, 4, 200)])
    for value in values.astype(dtype):
        words = WORDS[dtype](np.array([float(value)]))
        lanes = numpy_form.lanes_of_runs(words, (len(words),))[0].tolist()
        assert lanes == list(numpy_form.lanes(np.asarray(value))), value
