"""What this host's compiler and assembler make of a source; a skipped test where they are not there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def needs_gcc() -> Iterator[None]:
    """What is built inside is built by ``gcc -m32 -static``, or the test is skipped."""
    try:
        yield
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("gcc -m32 -static is not there")


def compiled(*command: str | Path) -> None:
    """Run ``gcc -m32 -static …``."""
    with needs_gcc():
        subprocess.run(command, check=True, capture_output=True, timeout=60)


def native_lines(program: Path, *arguments: str) -> list[str]:
    """What an i386 program says on this host's CPU and kernel."""
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.splitlines()


def host_code(source: Path, folder: Path) -> tuple[bytes, dict[str, int]]:
    """The bytes of host code, .text alone, and the offsets of its labels.  It may include files beside it."""
    made, code = folder / f"{source.stem}.o", folder / f"{source.stem}.bin"
    subprocess.run(["as", "--64", "-o", made, source.name], cwd=source.parent, check=True)
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", made, code], check=True)
    table = subprocess.run(["nm", made], check=True, capture_output=True, text=True).stdout
    labels = {name: int(value, 16) for value, kind, name in map(str.split, table.splitlines()) if kind == "t"}
    return code.read_bytes(), labels
