"""Sessions with the debugger, and with gdb, as the pages show them: prompts, commands, and what comes back.

``python -m tests.transcripts PAGE ...`` writes what comes back now into the sessions of the pages: read the diff.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"```console\n(.*?)```", re.S)
SANDBOX, GDB = "(sandbox) ", "(gdb) "
LIMIT = 120.0
"""Seconds for a session."""
_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}


@dataclass(frozen=True, slots=True)
class Session:
    """A block of a page: what the shell is told, the debugger last; the commands behind its prompt; the whole text."""

    shell: tuple[str, ...]
    prompt: str
    commands: tuple[str, ...]
    text: str


def sessions(page: str) -> Iterator[Session]:
    """Those of one page, from the root of the repository."""
    for text in BLOCK.findall((ROOT / page).read_text()):
        lines = text.splitlines()
        for prompt in (SANDBOX, GDB):
            given = tuple(line.removeprefix(prompt) for line in lines if line.startswith(prompt))
            if given:
                shell = tuple(line.removeprefix("$ ") for line in lines if line.startswith("$ "))
                yield Session(shell, prompt, given, text)


def replay(session: Session) -> str:
    """The text of the block as it comes out now.  Raises ValueError where an answer is missing."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("asm", "images"):
            (Path(folder) / name).symlink_to(ROOT / name)
        told = list(_gdb(session, folder) if session.prompt == GDB else _sandbox(session, folder))
    return "".join(line.rstrip() + "\n" for line in told)


def _run(words: list[str], folder: str) -> str:
    done = subprocess.run(
        words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL,
        env=_ENVIRONMENT, timeout=LIMIT,
    )  # fmt: skip
    return done.stdout


def _sandbox(session: Session, folder: str) -> Iterator[str]:
    """The guest's own output comes between the answers, which are JSON here so that none is taken for another's."""
    (start,) = session.shell
    words = [sys.executable, "-m", *shlex.split(start), "--json"]
    for command in session.commands:
        words += ["-e", command]
    said = _run(words, folder).splitlines()
    if sum(line.startswith('{"lines"') for line in said) != len(session.commands) + 1:
        raise ValueError(f"{start}: an answer is missing:\n" + "\n".join(said))
    yield f"$ {start}"
    waiting = iter(session.commands)
    for line in said:
        if not line.startswith('{"lines"'):
            yield line
            continue
        answer = json.loads(line)
        yield from answer["lines"]
        if "error" in answer:
            yield f"error: {answer['error']}"
        yield from (SANDBOX + command for command in islice(waiting, 1))


def _gdb(session: Session, folder: str) -> Iterator[str]:
    """What comes before the server is a shell's; the port 1234 of the page is one that is free."""
    *before, server, start = session.shell
    for line in before:
        yield f"$ {line}"
        yield from _run(["sh", "-ec", line], folder).splitlines()
    yield f"$ {server}"
    words = [sys.executable, "-m", *shlex.split(server.removesuffix(" &")), "--port", "0", "--once"]
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, text=True, env=_ENVIRONMENT) as process:
        assert process.stdout is not None
        port = ""
        for told in process.stdout:
            port = told.rstrip().rpartition(":")[2]
            yield told.replace(f":{port}", ":1234") if told.startswith("gdb: ") else told
            if told.startswith("gdb: "):
                break
        yield f"$ {start}"
        said = _run([*shlex.split(start), "-batch", *_commands(session, port)], folder)
        yield from said.replace(f":{port}", ":1234").splitlines()
        process.stdout.read()
        process.wait(LIMIT)


def _commands(session: Session, port: str) -> Iterator[str]:
    for command in session.commands:
        yield from ("-ex", f"echo {GDB}{command}\\n", "-ex", re.sub(r":1234$", f":{port}", command))


def refresh(page: str) -> None:
    """Write what comes back now into the sessions of a page."""
    path = ROOT / page
    text = path.read_text()
    for session in sessions(page):
        text = text.replace(f"```console\n{session.text}```", f"```console\n{replay(session)}```")
    path.write_text(text)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        refresh(name)
