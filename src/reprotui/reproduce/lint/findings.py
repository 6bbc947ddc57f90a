"""What the linter says: findings, the table of rules, and comments that silence one."""

import io
import re
import tokenize
from dataclasses import asdict, dataclass
from typing import Any

RULES = {
    "unseeded-python-random": "seed it with set_global_seed(seed), or draw from random.Random(seed)",
    "unseeded-numpy-random": "draw from numpy.random.default_rng(seed), or seed with set_global_seed(seed)",
    "unseeded-torch-random": "seed it with set_global_seed(seed), or pass generator=create_reproducible_generator(seed)",
    "unseeded-generator": "give it a seed, and record the seed in the config",
    "unseeded-split": "pass random_state= or generator= with a seed, or the split differs in every run",
    "time-seed": "take the seed from the config; record it with the run",
    "set-order": "iterate over sorted(...): the order of a set of strings differs from process to process",
    "hash-of-str": "use hashlib (stable everywhere): hash() of str and bytes differs from process to process",
    "jax-key-reuse": "split it first: key, subkey = jax.random.split(key), and use each key once",
    "unsorted-listing": "wrap it in sorted(...): the order of directory entries is the file system's",
    "loader-workers": "pass generator=create_reproducible_generator(seed) and worker_init_fn=seed_worker",
    "cudnn-benchmark": "set torch.backends.cudnn.benchmark = False: choosing kernels by timing changes results",
    "determinism-off": "leave deterministic algorithms on, or say in the README which result may vary",
    "unknown-suppression": "name rules that exist; `reprotui check --rules` lists them",
    "syntax-error": "make the file valid Python: it could not be checked",
}
"""Every rule with its remedy."""

_COMMENT = re.compile(r"#\s*reprotui:\s*ignore(?:\[([^\]]*)\])?")


@dataclass(frozen=True, order=True)
class Finding:
    """One place that makes runs differ: file, line and column (from 1), the rule, what was found and what to do."""

    file: str
    line: int
    column: int
    rule: str
    message: str
    remedy: str
    severity: str = "error"

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.rule}: {self.message}; {self.remedy}"

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        return asdict(self)


def suppressions(source: str) -> dict[int, set[str] | None]:
    """Return the rules silenced on each line by `# reprotui: ignore[rule, …]`; None for all of them."""
    found: dict[int, set[str] | None] = {}
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT and (match := _COMMENT.search(token.string)):
                rules = match.group(1)
                found[token.start[0]] = None if rules is None else {rule.strip() for rule in rules.split(",")}
    except (tokenize.TokenError, SyntaxError):
        pass
    return found


def apply_suppressions(findings: list[Finding], source: str, file: str, ends: dict[int, int]) -> list[Finding]:
    """Drop what a comment silences, and add a finding for a comment that names no rule.

    Args:
        ends: for the first line of each simple statement that spans several, its last line: a comment on either counts.
    """
    silenced = suppressions(source)

    def is_silenced(finding: Finding) -> bool:
        for line in {finding.line, ends.get(finding.line, finding.line)}:
            if line in silenced and ((rules := silenced[line]) is None or finding.rule in rules):
                return True
        return False

    kept = [finding for finding in findings if not is_silenced(finding)]
    for line, rules in silenced.items():
        for rule in sorted((rules or set()) - set(RULES)):
            message = f"the comment silences {rule!r}, which is no rule"
            kept.append(Finding(file, line, 1, "unknown-suppression", message, RULES["unknown-suppression"]))
    return sorted(kept)
