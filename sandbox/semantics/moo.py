"""MOO files: single instructions as a 286 or a 386 executed them, in real mode.

The format is that of the SingleStepTests projects (MOO File Format Specification, version 1.1): chunks of an identifier
of four letters, a length in bytes and so many bytes, little-endian; ``MOO `` first, then ``META``, masks and a ``TEST``
for each instruction, which holds chunks itself.  Who does not know a chunk skips it.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sandbox.records import dataclass, field
from sandbox.x86.errors import SandboxError

NAMES_16 = ("ax", "bx", "cx", "dx", "cs", "ss", "ds", "es", "sp", "bp", "si", "di", "ip", "flags")
NAMES_32 = (
    "cr0", "cr3", "eax", "ebx", "ecx", "edx", "esi", "edi", "ebp", "esp", "cs", "ds", "es", "fs", "gs", "ss", "eip",
    "eflags", "dr6", "dr7",
)  # fmt: skip
"""Registers in the order of the bits that say which are there: REGS and RMSK, RG32 and RM32."""
SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs")
_WIDE = tuple(name if name in SEGMENTS else f"e{name}" for name in NAMES_16)
PROCESSORS = {"C286": "Harris 80C286", "386E": "Intel 80386EX"}
"""Those that are executed; the files have others' too (8088, 8086, V20, V30, 186)."""
MOST_BYTES = 256 << 20
"""Of a file, unpacked: the largest of the published ones has 30 MB."""
REACH = 0x111000
"""Bytes that real mode can touch, FFFF0h + FFFFh and what hangs over, in whole pages."""
_GZIP = b"\x1f\x8b"
_RAM_ENTRY = struct.Struct("<IB")
_CHUNK = struct.Struct("<4sI")
"""Identifier, bytes."""


class BadMoo(SandboxError):
    """A file that is no MOO file, or of a processor that is not executed."""

    exit_status = 2


@dataclass(frozen=True, slots=True)
class State:
    """``registers`` by their names of 32 bits (those that a chunk has), ``ram``: physical address and byte."""

    registers: dict[str, int]
    ram: tuple[tuple[int, int], ...]
    masks: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MooTest:
    """One instruction.  ``after`` has what has changed; ``exception`` is its number and the physical address of the
    flags that it pushed, ``mark`` the test's hash in hexadecimal, by which revocations name it."""

    index: int
    name: str
    code: bytes
    before: State
    after: State
    exception: tuple[int, int] | None = None
    mark: str = ""


@dataclass(frozen=True, slots=True)
class MooFile:
    """``masks`` are of registers, for all tests: bits that are not set are undefined."""

    processor: str
    mnemonic: str
    masks: dict[str, int]
    tests: tuple[MooTest, ...]


@dataclass(frozen=True, slots=True)
class Head:
    """What a file says of itself, and the SHA-256 of it as it lies there, in hexadecimal."""

    processor: str
    count: int
    digest: str


@functools.cache
def _layouts() -> dict[str, Any]:
    """What each chunk holds, by name; the payloads of others are left alone."""
    import construct as c

    chunk = c.Struct("id" / c.Bytes(4), "data" / c.Prefixed(c.Int32ul, c.GreedyBytes))
    chunks = c.Struct("chunks" / c.GreedyRange(chunk), c.Terminated)
    words, longs = (
        c.Struct("present" / width, "values" / c.Array(lambda at: at.present.bit_count(), width))
        for width in (c.Int16ul, c.Int32ul)
    )
    counted = c.Prefixed(c.Int32ul, c.GreedyBytes)
    return {
        "MOO ": c.Struct("major" / c.Int8ul, "minor" / c.Int8ul, c.Padding(2), "count" / c.Int32ul, "cpu" / c.Bytes(4)),
        "META": c.Struct(c.Padding(3), "opcode" / c.Int32ul, "mnemonic" / c.Bytes(8)),
        "TEST": c.Struct("index" / c.Int32ul, *chunks.subcons),
        "NAME": counted,
        "BYTS": counted,
        "INIT": chunks,
        "FINA": chunks,
        "REGS": words,
        "RMSK": words,
        "RG32": longs,
        "RM32": longs,
        "RAM ": c.FocusedSeq("entries", "count" / c.Int32ul, "entries" / c.Bytes(c.this.count * _RAM_ENTRY.size)),
        "EXCP": c.Struct("number" / c.Int8ul, "flags" / c.Int32ul),
        "HASH": c.Bytes(20),
    }


def read(path: Path, part: slice = slice(None)) -> MooFile:
    """A file, or one packed by gzip as they are published; of its tests those of ``part``.  Raises BadMoo."""
    return unpack(_bytes(path), str(path), part)


def head(path: Path) -> Head:
    """Without looking at the tests.  Raises BadMoo."""
    data = _bytes(path)
    with _told_of(str(path)):
        start = next(_split(_plain(data)), ("", b""))
        about = _head(*start)
        return Head(_processor(about), about.count, hashlib.sha256(data).hexdigest())


def unpack(data: bytes, name: str = "MOO file", part: slice = slice(None)) -> MooFile:
    """Raises BadMoo."""
    with _told_of(name):
        return _file(_plain(data), part)


@contextmanager
def _told_of(name: str) -> Iterator[None]:
    """What is wrong, with the file's name."""
    import construct as c

    try:
        yield
    except BadMoo as error:
        raise BadMoo(f"{name}: {error.summary}", error.detail) from error
    except (c.ConstructError, KeyError, ValueError, OverflowError, EOFError, OSError, zlib.error) as error:
        raise BadMoo(f"{name}: not a MOO file", " ".join(str(error).split())[:200]) from error


def _bytes(path: Path) -> bytes:
    """Raises BadMoo: a device or a pipe has no end, and is not there a second time."""
    try:
        if path.exists() and not path.is_file():
            raise BadMoo(f"{path}: not a regular file")
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise BadMoo(f"{path}: {error.strerror}") from error
    if len(data) > MOST_BYTES:
        raise BadMoo(f"{path}: more than {MOST_BYTES >> 20} MB")
    return data


def _plain(data: bytes) -> bytes:
    if data[:2] != _GZIP:
        return data
    with gzip.open(io.BytesIO(data)) as packed:
        plain = packed.read(MOST_BYTES + 1)
    if len(plain) > MOST_BYTES:
        raise BadMoo(f"more than {MOST_BYTES >> 20} MB when unpacked")
    return plain


def _file(data: bytes, part: slice) -> MooFile:
    (name, first), *chunks = list(_split(data)) or [("", b"")]
    about = _head(name, first)
    processor = _processor(about)
    tests = [each for name, each in chunks if name == "TEST"]
    if len(tests) != about.count:
        raise BadMoo("not a whole MOO file", f"{about.count} tests are announced, and {len(tests)} are there")
    rest = {name: _layouts()[name].parse(each) for name, each in chunks if name != "TEST" and name in _layouts()}
    mnemonic = rest["META"].mnemonic.decode("ascii").strip() if "META" in rest else ""
    made = tuple(_test(_layouts()["TEST"].parse(each)) for each in tests[part])
    return MooFile(processor, mnemonic, _registers(rest, "RMSK", "RM32"), made)


def _split(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The file's own chunks by name, not taken apart.  Raises BadMoo."""
    at = 0
    while at < len(data):
        name, size = _CHUNK.unpack_from(data, at) if at + _CHUNK.size <= len(data) else (b"", len(data))
        if at + _CHUNK.size + size > len(data):
            raise BadMoo("not a MOO file" if not at else "not a whole MOO file", f"it ends in a chunk at {at}")
        yield name.decode("ascii"), data[at + _CHUNK.size : at + _CHUNK.size + size]
        at += _CHUNK.size + size


def _head(name: str, data: bytes) -> Any:
    """Of the first chunk.  Raises BadMoo."""
    if name != "MOO ":
        raise BadMoo("not a MOO file", f"begins with {name or 'nothing'}")
    return _layouts()[name].parse(data)


def _processor(about: Any) -> str:
    """Raises BadMoo for one that is not executed."""
    processor = str(about.cpu.decode("ascii").strip())
    if processor not in PROCESSORS:
        raise BadMoo(f"is of a {processor!r}", f"executed are those of {', '.join(PROCESSORS)}")
    return processor


def _chunks(parsed: Any) -> Iterator[tuple[str, Any]]:
    """Names and what they hold, taken apart where the format is known."""
    for each in parsed.chunks:
        name = each.id.decode("ascii")
        layout = _layouts().get(name)
        if layout is not None:
            yield name, layout.parse(each.data)


def _test(parsed: Any) -> MooTest:
    found = dict(_chunks(parsed))
    fault = found.get("EXCP")
    before, after = _state(found["INIT"]), _state(found["FINA"])
    missing = set(_WIDE) - set(before.registers)
    if missing:
        raise BadMoo("not a whole MOO file", f"test {parsed.index} does not say what {min(missing)} is at first")
    if any(address >= REACH for address, _ in before.ram):
        raise BadMoo("is not of real mode", f"test {parsed.index} has memory that real mode does not reach")
    return MooTest(
        parsed.index,
        found["NAME"].decode("ascii"),
        found["BYTS"],
        before,
        after,
        None if fault is None else (fault.number, fault.flags),
        found.get("HASH", b"").hex(),
    )


def _state(parsed: Any) -> State:
    found = dict(_chunks(parsed))
    ram = tuple(_RAM_ENTRY.iter_unpack(found.get("RAM ", b"")))
    return State(_registers(found, "REGS", "RG32"), ram, _registers(found, "RMSK", "RM32"))


def _registers(found: dict[str, Any], *kinds: str) -> dict[str, int]:
    """By name; empty where there is no such chunk."""
    made: dict[str, int] = {}
    for kind in kinds:
        if kind in found:
            names = _WIDE if kind.startswith(("REGS", "RMSK")) else NAMES_32
            present = [name for bit, name in enumerate(names) if found[kind].present >> bit & 1]
            made |= dict(zip(present, found[kind]["values"], strict=True))
    return made
