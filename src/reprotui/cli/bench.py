"""`reprotui bench`: the project's benchmarks."""

import argparse
from typing import Any

from reprotui.cli import common

BENCHMARKS = {
    "recording": "cost of recording a step: bare, recorded, host SHA-256",
    "racing": "what a race costs PyTorch and JAX scripts, against two bare ones at once",
    "checksum": "checksum throughput against a plain sum and SHA-256",
    "trace": "writing and reading traces",
    "divergence": "first divergence among two traces of a million steps",
    "startup": "worker start-up against a bare script, and the command line's own",
    "ui": "the dashboard in a pseudo-terminal: start, keys, scrolling, memory, idling, and whom it slows down",
    "flips": "random single-bit flips: are step and leaf exact, are controls silent",
    "kills": "workers killed at random moments: is every acknowledged step there",
    "faults": "harmed checkpoints of four formats: is every fault found, is no whole one suspected",
    "trace_faults": "harmed traces: does compare --verify notice, does everything that reads them answer in a sentence",
    "saving": "what a checkpoint costs the training beside it",
    "verifying": "how fast a large checkpoint is verified, against SHA-256 alone",
    "save_kills": "workers killed while they save and prune: is anything VALID that is not, does it go on equal",
    "replays": "random steps of the built-in experiments replayed: are all equal to the record",
}


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = common.command(
        subparsers,
        "bench",
        "measure this machine: ratios within one run, against the alternative",
        """reprotui bench recording
        reprotui bench checksum divergence --json
        reprotui bench flips --count 500 --seed 1""",
        description="Benchmarks:\n" + "\n".join(f"  {name:<13}{text}" for name, text in BENCHMARKS.items()),
    )
    parser.add_argument("benchmark", nargs="+", choices=BENCHMARKS, metavar="BENCHMARK", help="which to run, see above")
    parser.add_argument(
        "--count", type=common.positive, metavar="N", help="how many flips, kills, faults of each format or kind, or repetitions"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the campaigns (default 0)")
    common.add_json(parser)
    parser.set_defaults(call=call)


def call(parsed: argparse.Namespace) -> int:
    """Run the benchmarks one after the other and print a table each."""
    from reprotui.bench import run_benchmark

    results = {}
    for name in parsed.benchmark:
        results[name] = run_benchmark(name, count=parsed.count, seed=parsed.seed)
        if not parsed.json:
            _print(name, results[name])
    if parsed.json:
        common.print_json(results)
    return 0


def _print(name: str, result: dict[str, Any]) -> None:
    from rich.table import Table

    console = common.console()
    console.print(f"{name}: {BENCHMARKS[name]}", style="bold")
    table = Table(box=None, pad_edge=False, header_style="dim")
    rows = result["rows"]
    for index, column in enumerate(rows[0] if rows else []):
        table.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    console.print(table)
    for note in result.get("notes", []):
        console.print(f"  {note}", style="dim")
    console.print()


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)
