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

from tests.patience import running

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"```console\n(.*?)```", re.S)
SANDBOX, GDB = "(sandbox) ", "(gdb) "
LIMIT = 120.0
"""Seconds for a session."""
_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}


@dataclass(frozen=True, slots=True)
class Session:
    """Blocks of a page in a row: the second and later ones begin with a prompt, and go on with what the first began."""

    blocks: tuple[str, ...]

    @property
    def lines(self) -> list[str]:
        return "".join(self.blocks).splitlines()

    @property
    def prompt(self) -> str:
        return next(prompt for prompt in (SANDBOX, GDB) if any(line.startswith(prompt) for line in self.lines))

    @property
    def shell(self) -> list[str]:
        """What the shell is told, the debugger last."""
        return [line.removeprefix("$ ") for line in self.lines if line.startswith("$ ")]

    @property
    def commands(self) -> list[str]:
        """What stands behind the prompts."""
        return [line.removeprefix(self.prompt) for line in self.lines if line.startswith(self.prompt)]


def sessions(page: str) -> list[Session]:
    """Those of one page, a path from the root of the repository."""
    found: list[Session] = []
    for text in BLOCK.findall((ROOT / page).read_text()):
        if text.startswith((SANDBOX, GDB)):
            found[-1] = Session((*found[-1].blocks, text))
        elif f"\n{SANDBOX}" in text or f"\n{GDB}" in text:
            found.append(Session((text,)))
    return found


def replay(session: Session) -> tuple[str, ...]:
    """The text of each block as it comes out now.  Raises ValueError where an answer is missing."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("asm", "images"):
            (Path(folder) / name).symlink_to(ROOT / name)
        told = list(_gdb(session, folder) if session.prompt == GDB else _sandbox(session, folder))
    return tuple(_blocks(session, told))


def _blocks(session: Session, told: list[str]) -> Iterator[str]:
    """The lines are cut where the page's blocks are: before the same commands."""
    cuts = [block.count(f"\n{session.prompt}") + block.startswith(session.prompt) for block in session.blocks]
    lines: list[str] = []
    for line in told:
        if line.startswith(session.prompt):
            if not cuts[0]:
                yield "".join(lines)
                cuts.pop(0)
                lines = []
            cuts[0] -= 1
        lines.append(line.rstrip() + "\n")
    yield "".join(lines)


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
    with running(words, cwd=folder, stdout=subprocess.PIPE, text=True, env=_ENVIRONMENT) as process:
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
        for old, new in zip(session.blocks, replay(session), strict=True):
            text = text.replace(f"```console\n{old}```", f"```console\n{new}```", 1)
    path.write_text(text)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        refresh(name)
