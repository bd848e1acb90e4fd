"""Kinds of inputs: how one is drawn, how it is run, and what a run must leave as it was."""

from __future__ import annotations

import gc
import resource
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from sandbox.x86.errors import SandboxError
from tests.fuzz import bare, files, machines, moo, parsers, programs, texts

Input = dict[str, Any]
KINDS: dict[str, tuple[Callable[[Random], Input], Callable[[Input, Path], str]]] = {
    "elf": (programs.elf, programs.run),
    "module": (programs.module, programs.run),
    "code": (programs.code, programs.run),
    "calls": (programs.calls, programs.run),
    "bare": (bare.rom, lambda made, root: bare.run(made)),
    "manifest": (texts.manifest, lambda made, root: texts.run(made)),
    "machine": (machines.machine, lambda made, root: machines.run(made)),
    "debug": (machines.session, lambda made, root: machines.debug(made)),
    "recording": (files.changed_recording, lambda made, root: files.read(made)),
    "vector": (files.vector, lambda made, root: files.execute(made)),
    "moo": (moo.drawn, lambda made, root: moo.run(made)),
    "parser": (parsers.guided, lambda made, root: parsers.run(made)),
    "snippet": (files.text, lambda made, root: files.assemble(made)),
}
"""Name, drawing, running; an input is plain data, for JSON."""


def draw(kind: str, seed: int) -> Input:
    """The input of a seed."""
    return KINDS[kind][0](Random(f"{kind} {seed}"))


def outcome(kind: str, made: Input, root: Path) -> tuple[str, str]:
    """How it ended in a word, and what is wrong with us: empty, or the last lines of a traceback."""
    try:
        return KINDS[kind][1](made, root), ""
    except Exception as error:
        name = type(error).__name__
        detail = error.detail if isinstance(error, SandboxError) else ""
        return f"BUG {name}", "".join(traceback.format_exception(error)[-4:]) + detail


def world(folder: Path) -> Path:
    """Two roots with ways out of them, and what lies outside."""
    for name in ("kept", "written"):
        root = folder / name
        for each in (root / "tmp", root / "etc"):
            each.mkdir(parents=True)
        (root / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\n")
        (root / "link-out").symlink_to(folder / "outside")
        (root / "loop").symlink_to("loop")
    (folder / "outside").mkdir()
    (folder / "outside" / "secret").write_text("secret\n")
    return folder


def tree(top: Path) -> dict[str, tuple[int, int, int]]:
    """Mode, size and time of everything but what the writable root holds."""
    return {
        str(path.relative_to(top)): (status.st_mode, status.st_size, status.st_mtime_ns)
        for path in sorted(top.rglob("*"))
        if path.relative_to(top).parts[0] != "written"
        for status in (path.lstat(),)
    }


def held() -> tuple[int, int]:
    """File descriptors, and the kilobytes that the process had at most."""
    gc.collect()
    descriptors = sum(1 for _ in Path("/proc/self/fd").iterdir())
    return descriptors, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def resident() -> int:
    """Kilobytes of this process's memory that are there now."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4
