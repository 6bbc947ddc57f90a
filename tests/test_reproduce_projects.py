"""The checks of projects: every planted fault is found where it is, its mended twin is not reported, templates are clean."""

import json
import subprocess
import sys

import pytest

from conftest import Cli
from reproduce_faults import CLEAN, FAULTS
from reprotui.errors import BadInputError
from reprotui.reproduce import RULES, TemplateConfig, create_reproducible_template, lint_project, validate_template_structure


@pytest.fixture
def command(tmp_path, bare_environment):
    return Cli(tmp_path, bare_environment)


@pytest.fixture(scope="module")
def templates(tmp_path_factory):
    root = tmp_path_factory.mktemp("templates")
    for framework in ("jax", "pytorch", "both"):
        create_reproducible_template(root / framework, TemplateConfig(f"my-{framework}", framework, seed=7))
    return root


def write(directory, files):
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


@pytest.mark.parametrize("number", range(len(FAULTS)), ids=[f"{rule}-{n}" for n, (rule, _) in enumerate(FAULTS)])
def test_a_planted_fault_is_found_on_its_line_and_nothing_else_is(number, tmp_path):
    rule, files = FAULTS[number]
    files = files if isinstance(files, dict) else {"train.py": files}
    planted = {
        (name, line) for name, text in files.items() for line, code in enumerate(text.splitlines(), 1) if "# FAULT" in code
    }
    findings, _ = lint_project(write(tmp_path, files))
    assert {(finding.file, finding.line) for finding in findings} == planted, "\n".join(map(str, findings))
    assert {finding.rule for finding in findings} == {rule}
    assert all(finding.remedy == RULES[rule] for finding in findings)


@pytest.mark.parametrize("number", range(len(CLEAN)))
def test_code_that_is_fine_is_not_reported(number, tmp_path):
    files = CLEAN[number]
    files = files if isinstance(files, dict) else {"train.py": files}
    findings, _ = lint_project(write(tmp_path, files))
    assert not findings, "\n".join(map(str, findings))


def test_every_rule_has_two_faults():
    rules = [rule for rule, _ in FAULTS]
    assert all(rules.count(rule) >= 2 for rule in RULES), {rule: rules.count(rule) for rule in RULES}


@pytest.mark.parametrize("number", range(len(FAULTS)), ids=[f"{rule}-{n}" for n, (rule, _) in enumerate(FAULTS)])
def test_a_comment_silences_its_rule_and_no_other(number, tmp_path):
    rule, files = FAULTS[number]
    if rule in ("syntax-error", "unknown-suppression"):
        pytest.skip("not a finding that a comment on its line could silence")
    files = files if isinstance(files, dict) else {"train.py": files}
    other = "time-seed" if rule != "time-seed" else "set-order"
    silenced = {name: text.replace("# FAULT", f"# reprotui: ignore[{rule}]") for name, text in files.items()}
    assert not lint_project(write(tmp_path / "silenced", silenced))[0]
    wrong = {name: text.replace("# FAULT", f"# reprotui: ignore[{other}]") for name, text in files.items()}
    assert lint_project(write(tmp_path / "wrong", wrong))[0]


@pytest.mark.parametrize("number", range(len(FAULTS)), ids=[f"{rule}-{n}" for n, (rule, _) in enumerate(FAULTS)])
def test_a_fault_in_a_clean_project_makes_it_invalid(number, templates, tmp_path):
    rule, files = FAULTS[number]
    files = files if isinstance(files, dict) else {"train.py": files}
    clean = {path.relative_to(templates / "jax"): path for path in (templates / "jax").rglob("*") if path.is_file()}
    write(tmp_path, {str(name): path.read_text() for name, path in clean.items() if "__pycache__" not in name.parts})
    write(tmp_path, {f"extra/{name}": text for name, text in files.items()})
    found = validate_template_structure(tmp_path)
    assert not found["valid"]
    assert any(f": {rule}: " in error for error in found["errors"])
    assert all(finding["file"].startswith("extra/") for finding in found["findings"])


@pytest.mark.parametrize("framework", ["jax", "pytorch", "both"])
def test_a_template_is_valid_with_full_score(templates, framework):
    found = validate_template_structure(templates / framework)
    assert found == {**found, "valid": True, "score": 100, "errors": [], "warnings": [], "findings": []}
    names = [item["name"] for item in found["checklist"]]
    assert names == [
        "files", "code version", "environment", "config", "data split", "seeds", "keys", "determinism", "order",
        "tests of reproducibility",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["jax", "pytorch"])
def test_a_template_trains_and_its_own_tests_pass(templates, framework, bare_environment):
    directory = templates / framework
    script = "train_jax.py" if framework == "jax" else "train_torch.py"
    code = (
        "import runpy, sys, pytest\n"
        f"sys.argv = [{script!r}, '--set', 'steps=60']; sys.path.insert(0, '.')\n"
        f"runpy.run_path({script!r}, run_name='__main__')\n"
        "sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', 'tests']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=directory, env=bare_environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout
    result = json.loads((directory / "results" / f"{script[6:-3]}.json").read_text())
    assert result["config"]["seed"] == 7 and result["config"]["steps"] == 60 == len(result["losses"])
    assert result["accuracy"] > 0.6
    assert len(result["digest"]) == 64
    assert "git" in result["environment"]


BROKEN_PROJECTS = {
    "no README": (lambda root: (root / "README.md").unlink(), "files: add README.md"),
    "no tests": (lambda root: [path.unlink() for path in (root / "tests").iterdir()], "tests of reproducibility: "),
    "tests of something else": (
        lambda root: (root / "tests" / "test_reproducibility_jax.py").write_text("def test_add():\n    assert 1 + 1 == 2\n"),
        "tests of reproducibility: ",
    ),
    "no config": (lambda root: (root / "config.json").unlink(), "config: "),
    "loose dependency": (
        lambda root: (root / "requirements.txt").write_text("numpy==2.0\njax>=0.4\n"),
        "requirements.txt:2: jax>=0.4",
    ),
    "no dependencies": (lambda root: (root / "requirements.txt").unlink(), "files: add requirements.txt"),
    "no determinism": (
        lambda root: (root / "train_jax.py").write_text(
            (root / "train_jax.py").read_text().replace("enable_deterministic_mode", "print").replace("set_global_seed", "seed")
        ),
        "determinism: ",
    ),
    "torch without seed": (
        lambda root: (root / "other.py").write_text("import torch\nlayer = torch.nn.Linear(2, 2)\n"),
        "seeds: torch",
    ),
}


@pytest.mark.parametrize("name", BROKEN_PROJECTS)
def test_what_is_missing_is_an_error_with_its_remedy(name, tmp_path):
    create_reproducible_template(tmp_path / "p", TemplateConfig("p"))
    breaking, said = BROKEN_PROJECTS[name]
    breaking(tmp_path / "p")
    found = validate_template_structure(tmp_path / "p")
    assert not found["valid"]
    assert found["score"] < 100
    assert any(said in error for error in found["errors"]), found["errors"]


def test_a_seed_anywhere_above_a_module_counts_and_one_beside_it_does_not(tmp_path):
    data = "import numpy as np\ndef shuffle(n):\n    return np.random.permutation(n)\n"
    seeding = "import numpy as np\nfrom data import shuffle\nnp.random.seed(0)\nprint(shuffle(3))\n"
    beside = "import numpy as np\nnp.random.seed(0)\n"
    helper = "import numpy as np\ndef fix(seed):\n    np.random.seed(seed)\n"
    through = "from helper import fix\nfrom data import shuffle\nfix(1)\nprint(shuffle(3))\n"
    for number, (files, rules) in enumerate(
        [
            ({"data.py": data, "train.py": seeding}, []),
            ({"data.py": data, "other.py": beside}, ["unseeded-numpy-random"]),
            ({"data.py": data, "helper.py": helper, "train.py": through}, []),
            ({"data.py": data, "helper.py": helper, "train.py": through.replace("fix(1)", "")}, ["unseeded-numpy-random"]),
            (
                {
                    "data.py": data,
                    "helper.py": helper,
                    "more.py": "import helper\ndef go(): helper.fix(1)\n",
                    "train.py": "import more, data\nmore.go()\ndata.shuffle(3)\n",
                },
                [],
            ),
            ({"pkg/__init__.py": "", "pkg/data.py": data, "train.py": seeding.replace("from data", "from pkg.data")}, []),
        ]
    ):
        findings, _ = lint_project(write(tmp_path / str(number), files))
        assert [finding.rule for finding in findings] == rules


def test_other_peoples_code_is_skipped(tmp_path):
    fault = "import random\nprint(random.random())\n"
    findings, modules = lint_project(
        write(tmp_path, dict.fromkeys((".venv/a.py", "build/b.py", "x/site-packages/c.py", "train.py"), fault))
    )
    assert [finding.file for finding in findings] == ["train.py"]
    assert len(modules) == 1


def test_tests_are_warned_about_only(tmp_path):
    findings, _ = lint_project(write(tmp_path, {"tests/test_a.py": "import random\nprint(random.random(), hash('a'))\n"}))
    assert [(finding.rule, finding.severity) for finding in findings] == [("unseeded-python-random", "warning")]


@pytest.mark.slow
def test_check_prints_and_exits(command):
    created = command("new", "proj", "--framework", "jax", "--seed", 3)
    assert "proj/train_jax.py" in created.stdout
    assert json.loads((command.directory / "proj" / "config.json").read_text())["seed"] == 3
    assert command("check", "proj").stdout.startswith("valid, score 100 of 100")
    command.write("proj/late.py", "import random\nprint(random.random())\n")
    said = command("check", "proj", exit_code=1).stdout
    assert said.startswith("not valid")
    assert "late.py:2: unseeded-python-random: random.random draws from" in said
    found = json.loads(command("check", "proj", "--json", exit_code=1).stdout)
    assert found["findings"][0]["line"] == 2 and not found["valid"] and found["score"] < 100
    assert "set-order" in command("check", "--rules").stdout
    command("check", "absent", exit_code=2)
    command("check", exit_code=2)
    assert "not empty" in command("new", "proj", exit_code=2).stderr
    command("new", "other", "--framework", "caffe", exit_code=2)
    command("new", "1 2", exit_code=2)


@pytest.mark.parametrize(
    "config", [TemplateConfig("a", "tf"), TemplateConfig(""), TemplateConfig("a", seed=-1), TemplateConfig("a", steps=0)]
)
def test_impossible_templates_are_refused_and_nothing_is_written(config, tmp_path):
    with pytest.raises(BadInputError):
        create_reproducible_template(tmp_path / "p", config)
    assert not (tmp_path / "p").exists()


def test_a_directory_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(BadInputError, match="is no directory"):
        validate_template_structure(tmp_path / "absent")
