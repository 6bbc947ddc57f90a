"""The dashboard in a browser: a real server, real requests, and who is kept out."""

import asyncio
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from conftest import PATIENCE, SAMPLES


@pytest.fixture
def server(tmp_path: Path, bare_environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Yield a server on any free port, with the address that it printed; it is gone in the end."""
    shutil.copytree(SAMPLES / "bit-flip", tmp_path / "runs" / "bit-flip")
    environment = {**bare_environment, "REPROTUI_SETTINGS": str(tmp_path / "settings.toml")}
    process = subprocess.Popen(
        [sys.executable, "-m", "reprotui", "serve", "--port", "0"], cwd=tmp_path, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout
    yield process, process.stdout.readline().strip()
    if process.poll() is None:
        process.terminate()
    process.communicate(timeout=PATIENCE)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def read_until(page: Any, text: bytes) -> bytes:
    """Read what a page is sent until a text is in it."""
    seen = b""
    while text not in seen:
        message = await page.receive(timeout=PATIENCE)
        assert message.type == aiohttp.WSMsgType.BINARY, message
        seen += message.data
    return seen


@pytest.mark.slow
def test_a_page_is_a_dashboard_that_takes_keys_and_ends_with_its_server(server: tuple[subprocess.Popen[str], str]) -> None:
    process, address = server
    assert address.startswith("http://127.0.0.1:") and "/?token=" in address

    async def story() -> None:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
            async with browser.get(address) as answer:
                page = await answer.text()
                assert answer.status == 200 and "reprotui" in page
                assert "default-src 'self'" in answer.headers["Content-Security-Policy"]  # nothing of the internet is loaded
            root = address.partition("?")[0]
            assert f"{root.replace('http', 'ws')}ws" in page
            async with browser.get(f"{root}static/js/textual.js") as script:
                assert script.status == 200
            async with browser.ws_connect(f"{root}ws?width=100&height=30", headers={"Origin": root.rstrip("/")}) as terminal:
                await read_until(terminal, b"bit-flip")
                assert len(children(process.pid)) == 1
                await terminal.send_str(json.dumps(["stdin", "\r"]))
                await read_until(terminal, b"DIVERGED at step 50")
                process.send_signal(signal.SIGINT)
                while not terminal.closed:
                    await terminal.receive(timeout=PATIENCE)

    asyncio.run(story())
    assert process.wait(PATIENCE) == 0


def test_nobody_without_the_token_and_no_page_of_another_site_gets_in(server: tuple[subprocess.Popen[str], str]) -> None:
    process, address = server
    root = address.partition("?")[0]

    async def story() -> None:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as stranger:
            for place in ("", "?token=guess", "static/js/textual.js", "ws"):
                async with stranger.get(root + place) as answer:
                    assert answer.status == 403 and "token" in await answer.text()
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
            async with browser.get(address) as answer:
                assert answer.status == 200
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await browser.ws_connect(f"{root}ws", headers={"Origin": "http://elsewhere.example"})
            assert refused.value.status == 403

    asyncio.run(story())
    assert children(process.pid) == []  # no dashboard was started for any of them


@pytest.mark.slow
def test_what_cannot_be_served_is_said(server: tuple[subprocess.Popen[str], str], reprotui: Any) -> None:
    port = server[1].partition("127.0.0.1:")[2].partition("/")[0]
    assert "already in use; --port 0 takes any free port" in reprotui("serve", "--port", port, exit_code=2).stderr
    assert "no port: 0 to 65535" in reprotui("serve", "--port", "70000", exit_code=2).stderr
    assert "nowhere does not exist" in reprotui("serve", "nowhere", exit_code=2).stderr
    without = "import sys; sys.modules['textual_serve'] = None; from reprotui.cli import main; sys.exit(main(['serve']))"
    told = subprocess.run(
        [sys.executable, "-c", without], cwd=reprotui.directory, env=reprotui.environment, capture_output=True, text=True
    )
    assert told.returncode == 2 and 'pip install "reprotui[web]"' in told.stderr, told.stderr
