"""MOO files to order, by the format's description (MOO File Format Specification, version 1.1)."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from sandbox.semantics.moo import NAMES_16, NAMES_32


def chunk(name: str, data: bytes) -> bytes:
    return name.encode().ljust(4) + struct.pack("<I", len(data)) + data


def counted(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


def registers(name: str, values: Mapping[str, int]) -> bytes:
    """REGS, RMSK, RG32 or RM32."""
    names, letter = (NAMES_32, "I") if "32" in name else (NAMES_16, "H")
    there = [each for each in names if each in values]
    present = sum(1 << names.index(each) for each in there)
    return chunk(name, struct.pack(f"<{1 + len(there)}{letter}", present, *(values[each] for each in there)))


def ram(cells: Mapping[int, int]) -> bytes:
    return chunk("RAM", struct.pack("<I", len(cells)) + b"".join(struct.pack("<IB", *each) for each in cells.items()))


def case(
    code: bytes,
    before: Mapping[str, int],
    memory: Mapping[int, int],
    after: Mapping[str, int],
    changed: Mapping[int, int],
    *,
    exception: tuple[int, int] | None = None,
    name: str = "add",
    masks: bytes = b"",
) -> bytes:
    """A TEST chunk; a 386's when ``before`` has EAX."""
    kind = "RG32" if "eax" in before else "REGS"
    parts = [
        chunk("NAME", counted(name.encode())),
        chunk("BYTS", counted(code)),
        chunk("INIT", registers(kind, before) + ram(memory) + chunk("QUEU", counted(b""))),
        chunk("FINA", registers(kind, after) + masks + ram(changed)),
        chunk("CYCL", counted(bytes(15))),
    ]
    if exception is not None:
        parts.append(chunk("EXCP", struct.pack("<BI", *exception)))
    return chunk("TEST", struct.pack("<I", 0) + b"".join(parts) + chunk("HASH", bytes(20)))


def file(*tests: bytes, processor: str = "C286", mnemonic: str = "add", masks: bytes = b"") -> bytes:
    head = struct.pack("<BBHI4s", 1, 1, 0, len(tests), processor.encode().ljust(4))
    meta = struct.pack("<3BI8sIQ4x", 1, 0, 6, 0, mnemonic.encode().ljust(8), len(tests), 0)
    return chunk("MOO", head) + chunk("META", meta) + masks + b"".join(tests)
