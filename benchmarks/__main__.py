"""`python -m benchmarks NAME …`, from a checkout: measure this machine, or put the project to the test."""

import argparse
import sys
from typing import Any

from benchmarks import BENCHMARKS, run_benchmark
from reprotui.cli import common, main

_EPILOG = """\
examples:
  python -m benchmarks recording
  python -m benchmarks checksum divergence --json
  python -m benchmarks flips --count 500 --seed 1
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = common.Parser(
        prog="python -m benchmarks",
        description="Benchmarks:\n" + "\n".join(f"  {name:<13}{text}" for name, text in BENCHMARKS.items()),
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("benchmark", nargs="+", choices=BENCHMARKS, metavar="BENCHMARK", help="which to run, see above")
    parser.add_argument(
        "--count", type=common.positive, metavar="N", help="how many flips, kills, faults of each format or kind, or repetitions"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the campaigns (default 0)")
    common.add_json(parser)
    parser.set_defaults(call=call)
    return parser


def call(parsed: argparse.Namespace) -> int:
    """Run the benchmarks one after the other and print a table each."""
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], build_parser))
