"""Settings: what holds and from where, and what is wrong with a file; through `reprotui config`."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from reprotui.settings import check, example_settings
from reprotui.tui.actions import ACTIONS


@pytest.fixture
def config(tmp_path: Path, bare_environment: dict[str, str], reprotui: Any) -> Any:
    """Return the command with a settings file of the test's own: `config(text, *arguments)`."""
    path = tmp_path / "place" / "settings.toml"

    def run(text: str | None, *arguments: str, exit_code: int = 0) -> Any:
        path.parent.mkdir(exist_ok=True)
        if text is not None:
            path.write_text(text)
        return reprotui("config", *arguments, exit_code=exit_code, env={**bare_environment, "REPROTUI_SETTINGS": str(path)})

    run.path = path  # ty: ignore
    return run


def test_without_a_file_the_defaults_hold(config: Any) -> None:
    found = json.loads(config(None, "--json").stdout)
    assert found["path"] == str(config.path)
    assert not found["exists"]
    assert found["settings"]["theme"] == {"value": "dark", "source": "default"}
    assert config(None, "path").stdout.strip() == str(config.path)
    assert "the defaults hold" in config(None, "check").stdout


def test_each_setting_says_where_it_comes_from(config: Any) -> None:
    text = 'theme = "light"\nsymbols = "ascii"\n[keys]\nrace.pause = "p"\n"race.stop" = "S"\n'
    found = json.loads(config(text, "show", "--json").stdout)["settings"]
    assert found["theme"] == {"value": "light", "source": "settings"}
    assert found["keys.race.pause"] == {"value": "p", "source": "settings"}, "a key without quotes is a table, and means the same"
    assert found["keys.race.stop"] == {"value": "S", "source": "settings"}
    assert found["log_scale"]["source"] == "default"
    (config.path.parent / "layout.json").write_text('{"theme": "contrast", "symbols": 3}')
    found = json.loads(config(text, "--json").stdout)["settings"]
    assert found["theme"] == {"value": "contrast", "source": "remembered"}
    assert found["symbols"] == {"value": "ascii", "source": "settings"}, "what is remembered wrongly does not hold"


def test_all_problems_are_named_at_once(config: Any) -> None:
    text = 'theme = "drk"\nlog_scal = true\nstop_at_divergence = 1\n[keys]\n"race.puse" = "p"\n"race.stop" = 3\n'
    problems = json.loads(config(text, "check", "--json", exit_code=2).stdout)["problems"]
    assert len(problems) == 5
    for expected in (
        "dark, light, contrast",
        "did you mean log_scale?",
        "true or false",
        "did you mean race.pause?",
        "race.stop = 3",
    ):
        assert any(expected in problem for problem in problems)
    assert "5 problems" in config(text, "check", exit_code=2).stdout
    assert "did you mean" in config(text, "show", exit_code=2).stderr


@pytest.mark.parametrize(
    ("keys", "twice"),
    [({"race.pause": "d"}, True), ({"race.pause": "d", "race.first_difference": "D"}, False), ({"race.pause": "q"}, True),
     ({"home.open": "v"}, False), ({"race.pause": "p", "race.stop": "p"}, True)],
)  # fmt: skip
def test_a_key_that_would_mean_two_things_on_one_screen_is_refused(keys: dict[str, str], twice: bool) -> None:
    assert len(check({"keys": keys})) == int(twice)


@pytest.mark.parametrize("text", ["theme = ", "[keys\n", "\x00"])
def test_a_file_that_is_not_toml_is_one_line(config: Any, text: str) -> None:
    assert "is not valid TOML" in config(text, exit_code=2).stderr
    assert "is not valid TOML" in config(text, "check", exit_code=2).stdout


def test_a_place_that_cannot_be_read_is_one_line(config: Any) -> None:
    config.path.mkdir(parents=True)
    assert "cannot be read" in config(None, exit_code=2).stderr


def test_the_example_has_every_setting_and_key_and_changes_nothing(config: Any) -> None:
    example = config(None, "show", "--example").stdout
    assert tomllib.loads(example) == {}
    values = tomllib.loads("\n".join(line.removeprefix("# ") for line in example.splitlines()[1:]))
    assert set(values["keys"]) == {action.id for action in ACTIONS}
    assert check(values) == [], "the defaults are valid, and no key means two things on one screen"
    assert example == example_settings()
    assert "--example" in config(None, "check", "--example", exit_code=2).stderr
