"""A program that makes a list of system calls and hands their results back."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from sandbox.kernel.abi.numbers import NUMBERS
from tests.conftest import Run

REGISTERS = ("ebx", "ecx", "edx", "esi", "edi", "ebp")
BUFFER_BYTES = 4096
Call = tuple[str | int, ...]


def results(run: Run, calls: Sequence[Call], data: str = "", **config: object) -> tuple[list[int], bytes]:
    """The results (negative for an errno) of the calls, in order, and what is in ``buf`` (4096 bytes) at the end.

    Arguments are numbers, ``offset name``, or ``r0``, ``r1``, … for an earlier call's result.
    """
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
    result = run("\n".join(lines), **config)
    assert (result.signal, result.error) == (0, ""), result.headline()
    out = result.stdout[-4 * len(calls) - BUFFER_BYTES :]
    return list(struct.unpack_from(f"<{len(calls)}i", out)), out[4 * len(calls) :]
