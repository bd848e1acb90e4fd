"""A run as a file: the image, the machine's configuration, and what came from outside; ``docs/recordings.md``.

On any machine it gives the same run again, and needs no file of the one on which it was made.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from construct import Const, ConstructError, Int16ul, Int32ul, Int64ul, Struct

from sandbox.engine import mends, system
from sandbox.image.files import read_file
from sandbox.image.manifest import Manifest
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.base.tape import Tape
from sandbox.records import asdict, dataclass, field, fields
from sandbox.runner.result import Result
from sandbox.runner.rom import RomConfig
from sandbox.runner.target import RECORDING, ModuleFile, Target
from sandbox.x86.errors import SandboxError

VERSION = 1
LARGEST = 1 << 30
"""Bytes of a recording when it is unpacked."""
HEADER = Struct(
    "magic" / Const(RECORDING),
    "version" / Int16ul,
    "reserved" / Const(bytes(2)),
    "crc" / Int32ul,  # of what follows the header, packed
    "packed" / Int64ul,  # bytes
    "unpacked" / Int64ul,
    "description" / Int64ul,  # bytes of JSON at its start; pieces follow, as long as "pieces" there says
)
_PIECES = ("image", "answers", "times", "typed")
_KINDS = ("program", "module", "rom")
LIMIT = "limit reached"


class RecordingError(SandboxError):
    """A file that is no recording, is damaged, or was made by a newer sandbox."""

    exit_status = 2


class OtherRun(SandboxError):
    """A recording did not come to the end that it came to when it was made."""

    exit_status = 3


@dataclass(slots=True)
class Ending:
    """What a run came to.  ``cut``: somebody or something of the host's ended it after so many blocks."""

    blocks: int = 0
    status: int = 0
    signal: int = 0
    error: str = ""
    cut: bool = False

    @classmethod
    def of(cls, result: Result) -> Ending:
        """The end of a run that was recorded."""
        cut = result.interrupted or (LIMIT in result.error and "host time" in result.error)
        return cls(result.summary.blocks, result.status, result.signal, result.error, cut)


@dataclass(slots=True)
class Recording:
    """One run.

    ``terminal`` is settings and size of the terminal that it had, or None; ``waits`` says that its input is a pipe.
    """

    target: Target
    config: KernelConfig | RomConfig
    tape: Tape = field(default_factory=Tape)
    waits: bool = False
    terminal: dict[str, Any] | None = None
    ending: Ending | None = None
    engine: str = field(default_factory=mends.chosen)
    mends: str | None = None
    """``system.version()`` of the process that made it."""

    def otherwise(self) -> str | None:
        """How this process's engine is not the one that the run was recorded with; asked for once it is chosen."""
        here, there = _engine(mends.chosen(), system.version()), _engine(self.engine, self.mends or "")
        if here == there or self.mends is None:
            return None
        return f"recorded with {there}, run with {here}: floating point and faults may differ"

    def pack(self) -> bytes:
        """As a file."""
        blobs = [self.target.data, self.tape.data(), self.tape.times.data(), self.tape.typed.data()]
        blobs += [each.data for each in self.target.modules]
        config, given = _plain(self.config)
        blobs += given.values()
        description = {
            "engine": self.engine, "mends": system.version() if self.mends is None else self.mends,
            "kind": self.target.kind, "name": self.target.name,
            "arguments": self.target.arguments, "place": _place(self.target),
            "modules": [{"name": each.name, "options": list(each.options)} for each in self.target.modules],
            "files": list(given), "config": config, "waits": self.waits, "terminal": self.terminal,
            "ending": None if self.ending is None else asdict(self.ending),
            "pieces": [len(each) for each in blobs],
        }  # fmt: skip
        text = json.dumps(description).encode()
        body = text + b"".join(blobs)
        packed = zlib.compress(body, 6)
        head = {"version": VERSION, "crc": zlib.crc32(packed), "packed": len(packed)}
        return bytes(HEADER.build({**head, "unpacked": len(body), "description": len(text)})) + packed

    def check(self, result: Result) -> None:
        """Raises OtherRun when the end is another one than it was."""
        was = self.ending
        if was is None or was.cut:
            return
        now = Ending.of(result)
        if now != was:
            told = f"{was.error or was.signal or was.status} after {was.blocks} blocks"
            came = f"{now.error or now.signal or now.status} after {now.blocks}"
            raise OtherRun(f"the recording ended with {told}, this run with {came}", "another sandbox has made it?")


def load(path: str | Path) -> Recording:
    """The recording in a file.  Raises RecordingError, UnusableFile, ConfigurationError."""
    try:
        return unpack(read_file(path))
    except RecordingError as error:
        raise RecordingError(f"{path}: {error.summary}") from error


def unpack(data: bytes) -> Recording:
    """The recording that ``pack`` has made.  Raises RecordingError, and ConfigurationError for its machine."""
    if not data.startswith(RECORDING):
        raise RecordingError("not a recording")
    try:
        head = HEADER.parse(data)
    except ConstructError as error:
        raise RecordingError("a recording that is cut off or damaged in its header") from error
    if head.version != VERSION:
        raise RecordingError(f"a recording of version {head.version}: this sandbox reads version {VERSION}")
    body = _body(data[HEADER.sizeof() :], head)
    try:
        told = json.loads(body[: head.description])
        return _from_description(told, _cut(body[head.description :], told["pieces"]))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise RecordingError(f"a recording whose description is damaged: {error}") from error


def _body(packed: bytes, head: Any) -> bytes:
    if len(packed) < head.packed:
        raise RecordingError(f"a recording that is cut off: {len(packed)} of {head.packed} bytes")
    if len(packed) > head.packed:
        raise RecordingError(f"{len(packed) - head.packed} bytes too many behind a recording")
    if zlib.crc32(packed) != head.crc:
        raise RecordingError("a recording that is damaged: its check sum is wrong")
    if head.unpacked > LARGEST:
        raise RecordingError(f"a recording of {head.unpacked} bytes: at most {LARGEST} are read")
    try:
        unpacker = zlib.decompressobj()
        body = unpacker.decompress(packed, head.unpacked)
    except zlib.error as error:
        raise RecordingError("a recording that is damaged: it cannot be unpacked") from error
    if len(body) != head.unpacked or head.description > len(body) or unpacker.unconsumed_tail:
        raise RecordingError("a recording that is damaged: its lengths do not agree")
    return body


def _cut(data: bytes, lengths: list[int]) -> list[bytes]:
    """Pieces of these lengths.  Raises ValueError when that is not all of it."""
    found, at = [], 0
    for length in lengths:
        if not isinstance(length, int) or length < 0:
            raise ValueError("a length that is none")
        found.append(data[at : at + length])
        at += length
    if at != len(data) or len(found) < len(_PIECES):
        raise ValueError("the lengths of its pieces do not agree")
    return found


def _from_description(told: dict[str, Any], pieces: list[bytes]) -> Recording:
    image, answers, times, typed, *rest = pieces
    modules, files = told["modules"], told["files"]
    if told["kind"] not in _KINDS or len(rest) != len(modules) + len(files):
        raise ValueError("it does not tell what it is of")
    target = Target(_text(told["name"]), told["kind"], image, [_text(each) for each in told["arguments"]])
    target.modules = [
        ModuleFile(_text(each["name"]), data, tuple(_text(one) for one in each["options"]))
        for each, data in zip(modules, rest, strict=False)
    ]
    if told["kind"] == "rom":
        load_at, entry = told["place"]
        target.manifest = Manifest(Path(target.name) / "manifest.toml", kind="rom", load=int(load_at), entry=entry)
    given = dict(zip((_text(each) for each in files), rest[len(modules) :], strict=True))
    config = _config(told["kind"], told["config"], given)
    ending = None if told["ending"] is None else Ending(**told["ending"])
    if ending is not None and ending.cut:
        config.block_limit = max(1, ending.blocks)
    tape = Tape(answers, times, typed, final=True)
    if told["engine"] not in mends.CHOICES:
        raise ValueError(f"an engine that is {told['engine']!r}")
    waits, terminal = bool(told["waits"]), _terminal(told["terminal"])
    return Recording(target, config, tape, waits, terminal, ending, told["engine"], told.get("mends"))


def _engine(chosen: str, version: str) -> str:
    """``the mended engine (mends 1a2b3c4d)``."""
    if chosen == mends.STOCK:
        return "the stock engine"
    return f"the mended engine ({'nothing of which is mended' if not version else f'mends {version}'})"


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a name that is no text")
    return value


def _terminal(told: Any) -> dict[str, Any] | None:
    if told is None:
        return None
    rows, columns, width, height = (int(each) for each in told["size"])
    settings = [int(each) for each in told["settings"][:6]] + [[int(each) for each in told["settings"][6]]]
    return {"size": (rows, columns, width, height), "settings": settings}


def _place(target: Target) -> list[int | None] | None:
    return None if target.manifest is None else [target.manifest.load, target.manifest.entry]


def _plain(config: KernelConfig | RomConfig) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The fields of a configuration for JSON, and the contents of the files that it gives."""
    found: dict[str, Any] = {}
    given: dict[str, bytes] = {}
    for each in fields(config):
        value = getattr(config, each.name)
        if each.name == "files":
            given = {path: data for path, data in value.items() if isinstance(data, bytes)}
            value = [path for path, data in value.items() if isinstance(data, Path)]
        elif each.name == "root":
            value = value is not None
        elif each.name == "boot_drivers":
            continue
        elif isinstance(value, frozenset):
            value = sorted(value)
        found[each.name] = value
    return found, given


_TUPLES: dict[str, Callable[[Any], Any]] = {
    "holes": lambda value: tuple((int(start), int(size)) for start, size in value),
    "races": lambda value: None if value is None else tuple((_text(name), int(times)) for name, times in value),
    "switches": frozenset, "sanitize": frozenset, "devices": tuple, "environment": tuple,
    "policies": lambda value: {_text(name): _text(choice) for name, choice in value.items()},
}  # fmt: skip


def _config(kind: str, told: dict[str, Any], given: dict[str, bytes]) -> KernelConfig | RomConfig:
    """Raises ConfigurationError for what no machine can be, TypeError and ValueError for what is no configuration."""
    wanted = RomConfig if kind == "rom" else KernelConfig
    standard = wanted()
    values: dict[str, Any] = {}
    for name, value in told.items():
        if name == "files":
            values[name] = {**given, **{_text(path): Path(path).relative_to("/") for path in value}}
        elif name == "root":
            values[name] = Path("/") if value else None
        elif name in _TUPLES:
            values[name] = _TUPLES[name](value)
        else:
            values[name] = _like(name, value, getattr(standard, name))
    values["time_limit"] = 0.0
    return wanted(**values)


def _like(name: str, value: Any, standard: Any) -> Any:
    """A value of the type that this field has."""
    right = isinstance(value, type(standard)) or (isinstance(standard, float) and isinstance(value, int))
    if not right and not (name == "epoch" and (value is None or isinstance(value, int))):
        raise TypeError(f"{name} is {value!r}")
    return value
