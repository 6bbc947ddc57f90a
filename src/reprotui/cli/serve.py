"""`reprotui serve`: the dashboard in a browser, for people who cannot share a terminal."""

import argparse
import importlib.util
import os
from pathlib import Path
from typing import Any

from reprotui.cli import common
from reprotui.errors import SAME, BadInputError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PORT = 8000


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = common.command(
        subparsers,
        "serve",
        "the dashboard in a browser, through a web server that only this machine reaches",
        """reprotui serve                                (prints the address; open it in a browser)
        reprotui serve runs/x --port 8123             (opens a race or runs at once)
        ssh -L 8000:127.0.0.1:8000 HOST               (on your own machine: the tunnel to a server on HOST)""",
        description="The dashboard in a browser. Every page is a dashboard of its own on the same runs. The address holds a "
        "token: whoever has it can start programs as you. Ctrl-C ends the server; runs go on.",
    )
    parser.add_argument("run", nargs="*", metavar="RUN", help="open these runs or this race; none: Home")
    parser.add_argument("--port", type=_port, default=PORT, metavar="N", help="port (default %(default)s; 0: any free one)")
    parser.add_argument("--host", default=LOOPBACK[0], metavar="ADDRESS", help="address to listen on (default %(default)s)")
    common.add_symbols(parser)
    common.add_runs_directory(parser)
    parser.set_defaults(call=call)


def call(parsed: argparse.Namespace) -> int:
    """Listen, say where, and serve until interrupted."""
    from reprotui.race.monitor import members

    runs = common.runs_directory(parsed)
    paths = [common.find_run(name, runs) for name in parsed.run]
    members(paths)
    if importlib.util.find_spec("textual_serve") is None:
        raise BadInputError('a browser needs the package textual-serve: pip install "reprotui[web]"')
    from reprotui.tui.web import WebServer, command_of, listen

    try:
        listener = listen(parsed.host, parsed.port)
    except OSError as error:
        why = str(error.strerror or error).partition(" (while")[0]
        raise BadInputError(
            f"--host {parsed.host} --port {parsed.port} cannot be listened on: {why}; --port 0 takes any free port"
        ) from None
    options = ["--runs-dir", str(runs.absolute()), "--symbols", parsed.symbols or "unicode"]
    opened = ["open", *(os.fspath(path.absolute()) for path in paths)] if paths else []
    server = WebServer(command_of([*options, *opened]), listener, parsed.host)
    print(server.address, flush=True)  # whoever reads it through a pipe waits for it
    common.say(f"  serves {common.short(Path(runs))}; ctrl-c ends the server, runs go on", stderr=True)
    if parsed.host not in LOOPBACK:
        common.say(
            "  others reach this address too, and it is not encrypted: whoever reads the token can act as you", stderr=True
        )
    server.run()
    return SAME


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value < 1 << 16:
        raise argparse.ArgumentTypeError(f"{value} is no port: 0 to 65535")
    return value
