"""A program that makes a list of system calls and hands their results back."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

from sandbox.kernel.abi.numbers import NUMBERS
from tests.conftest import Program, Run

REGISTERS = ("ebx", "ecx", "edx", "esi", "edi", "ebp")
BUFFER_BYTES = 4096
Call = tuple[str | int, ...]


def results(run: Run, calls: Sequence[Call], data: str = "", **config: object) -> tuple[list[int], bytes]:
    """The results (negative for an errno) of the calls, in order, and what is in ``buf`` (4096 bytes) at the end.

    Arguments are numbers, ``offset name``, or ``r0``, ``r1``, … for an earlier call's result.
    """
    result = run(listing(calls, data), **config)
    assert (result.signal, result.error) == (0, ""), result.headline()
    return _answers(result.stdout, len(calls))


def native_results(program: Program, folder: Path, calls: Sequence[Call], data: str = "") -> list[int]:
    """The same on this machine's own kernel."""
    path = folder / "calls"
    path.write_bytes(program(listing(calls, data)))
    path.chmod(0o755)
    found = subprocess.run([path], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=60, check=True)
    return _answers(found.stdout, len(calls))[0]


def is_native_root() -> bool:
    """Tests may change their ids here."""
    return os.geteuid() == 0


def _answers(stdout: bytes, count: int) -> tuple[list[int], bytes]:
    out = stdout[-4 * count - BUFFER_BYTES :]
    return list(struct.unpack_from(f"<{count}i", out)), out[4 * count :]


def listing(calls: Sequence[Call], data: str = "") -> str:
    """The source of the program that makes the calls and writes what came of them."""
    lines = ["_start:"]
    for index, (name, *arguments) in enumerate(calls):
        for register, value in zip(REGISTERS, arguments, strict=False):
            text = f"[outcomes + {4 * int(value[1:])}]" if isinstance(value, str) and value[0] == "r" else value
            lines.append(f"        mov {register}, {text}")
        lines += [
            f"        mov eax, {NUMBERS[str(name)]}",
            "        int 0x80",
            f"        mov [outcomes + {4 * index}], eax",
        ]
    lines += [
        f'        sys write, 1, "offset outcomes", {4 * len(calls)}',
        f'        sys write, 1, "offset buf", {BUFFER_BYTES}',
        "        pass",
        "        .data",
        data,
        "        .bss",
        "        .balign 4096",
        f"buf:    .skip {BUFFER_BYTES}",
        f"outcomes: .skip {4 * len(calls)}",
    ]
    return "\n".join(lines)
