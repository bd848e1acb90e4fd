"""Manifests: what an image is, the machine it wants, what must be seen, and the switch that must break it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sandbox.home import HOME
from sandbox.image.files import UnusableFile, read_text
from sandbox.records import dataclass, field
from sandbox.x86.errors import SandboxError

IMAGES = HOME / "images"
"""The collection of this checkout, or of this package."""
KINDS = ("program", "module", "rom")
LIBCS = ("musl", "klibc")
RESOLUTIONS = (
    "demand-zero", "zero-page", "cow-copy", "cow-reuse", "file-read", "file-private", "shared-write", "stack-growth",
    "sigsegv", "sigbus", "fixup", "spurious", "oom-kill", "vmalloc-sync",
)  # fmt: skip
_BOUND = re.compile(r"[<>]=[0-9]{1,12}")
_SUFFIXES = {"": 0, "k": 10, "m": 20, "g": 30}


class ManifestError(SandboxError):
    """A manifest with an unknown key, a wrong type or an impossible value."""

    exit_status = 2

    def __init__(self, path: Path, key: str, what: str) -> None:
        super().__init__(f"{path}: {key}: {what}" if key else f"{path}: {what}")


@dataclass(slots=True)
class ExpectedFault:
    """One page fault that must be seen, in order among the expected; empty fields match anything."""

    address: str = ""
    error: str = ""
    resolution: str = ""
    paging: str = ""


@dataclass(slots=True)
class Manifest:
    """One image.  Paths are absolute; sizes in bytes."""

    path: Path
    kind: str = "program"
    title: str = ""
    source: str = ""
    libc: str = ""
    """The C library that a C program is linked with; empty for none."""
    file: str = ""
    arguments: list[str] = field(default_factory=list)
    stdin: str = ""
    files: list[str] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)
    """Names of other images, of modules, that are loaded first."""
    helper: bool = False
    """A module for other images: built, and not run by itself."""
    native: bool = True
    tool: str = ""
    sha256: str = ""
    load: int = 0x100000
    entry: int | None = None
    ram: int = 64 << 20
    highmem: str = ""
    """``off``, ``4G`` or ``64G``; empty for what the paging mode reaches."""
    direct_map: int | None = None
    """Bytes; 0 for a share of RAM, None for the usual 800 MB."""
    cpus: int = 1
    paging: list[str] = field(default_factory=lambda: ["pae", "legacy"])
    boot: str = ""
    policies: dict[str, str] = field(default_factory=dict)
    devices: list[str] = field(default_factory=list)
    fail_allocation: int = 0
    seed: int = 0
    races: list[str] = field(default_factory=list)
    """Race points, ``POINT:K``, at which other CPUs go on."""
    quantum: int = 100_000
    time_limit: float = 60.0
    status: int = 0
    signal: str = ""
    error: str = ""
    """The run is to end with an error that has this in it."""
    stdout: str | None = None
    faults: list[ExpectedFault] = field(default_factory=list)
    counters: dict[str, int | str] = field(default_factory=dict)
    """Numbers of the summary: a value, or a bound: ``>=90``, ``<=90``."""
    switch: str = ""

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.parent.name

    @property
    def image(self) -> Path:
        """The built file."""
        return self.path.parent / self.file


_SECTIONS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "image": {
        "kind": str, "title": str, "source": str, "libc": str, "file": str, "arguments": list, "stdin": str,
        "files": list, "modules": list, "helper": bool, "native": bool, "tool": str, "sha256": str,
        "load": int, "entry": int,
    },
    "machine": {
        "ram": (str, int), "highmem": str, "direct_map": (str, int),
        "cpus": int, "paging": (list, str), "boot": str, "seed": int, "races": list, "quantum": int,
        "time_limit": (int, float), "policies": dict, "devices": list, "fail_allocation": int,
    },
    "expect": {"status": int, "signal": str, "error": str, "stdout": str, "faults": list, "counters": dict},
    "broken": {"switch": str},
}  # fmt: skip


def parse_size(text: str | int) -> int:
    """Bytes from ``64M``, ``4g``, ``4096``.  Raises ValueError."""
    if isinstance(text, int):
        return text
    digits, suffix = (text[:-1], text[-1].lower()) if text[-1:].isalpha() else (text, "")
    if suffix not in _SUFFIXES or not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,6})?", digits, re.ASCII):
        raise ValueError(f"{text!r} is not a size (a number with k, M or G)")
    return int(float(digits) * (1 << _SUFFIXES[suffix]))


def parse_direct_map(text: str | int) -> int:
    """Bytes, 0 for ``scaled``.  Raises ValueError."""
    return 0 if text == "scaled" else parse_size(text)


def load(path: Path) -> Manifest:
    """Read a manifest.  Raises ManifestError with file and key."""
    import tomllib

    try:
        raw = tomllib.loads(read_text(path))
    except UnusableFile as error:
        raise ManifestError(path, "", error.summary.removeprefix(f"{path}: ")) from error
    except (ValueError, RecursionError) as error:  # ValueError alone where a number has thousands of digits
        raise ManifestError(path, "", f"not TOML: {error}") from error
    made = Manifest(path.resolve())
    for section, values in raw.items():
        known = _SECTIONS.get(section)
        if known is None or not isinstance(values, dict):
            raise ManifestError(path, section, f"unknown section; known are {', '.join(_SECTIONS)}")
        for key, value in values.items():
            if key not in known:
                raise ManifestError(path, f"{section}.{key}", f"unknown key; known are {', '.join(known)}")
            kinds = known[key]
            if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
                raise ManifestError(path, f"{section}.{key}", f"wrong type: {value!r}")
            if not _is_in_range(value):
                raise ManifestError(path, f"{section}.{key}", "an integer of more than 64 bits")
            setattr(made, key, _convert(path, f"{section}.{key}", key, value))
    if made.kind not in KINDS:
        raise ManifestError(path, "image.kind", f"{made.kind!r}; known are {', '.join(KINDS)}")
    if made.libc and made.libc not in LIBCS:
        raise ManifestError(path, "image.libc", f"{made.libc!r}; known are {', '.join(LIBCS)}")
    if not made.file:
        raise ManifestError(path, "image.file", "missing")
    return made


def _is_in_range(value: Any) -> bool:
    """Integers have 64 bits (TOML 1.0, "Integer"); the library that reads them takes any."""
    if isinstance(value, dict | list):
        return all(_is_in_range(each) for each in (value.values() if isinstance(value, dict) else value))
    return not isinstance(value, int) or -1 << 63 <= value < 1 << 63


def _convert(path: Path, where: str, key: str, value: Any) -> Any:
    if key in ("ram", "direct_map"):
        try:
            value = parse_direct_map(value) if key == "direct_map" else parse_size(value)
        except ValueError as error:
            raise ManifestError(path, where, str(error)) from error
    if key in ("ram", "cpus", "quantum", "time_limit") and not value > 0:
        raise ManifestError(path, where, f"{value!r}: must be more than 0")
    if key in ("load", "entry") and not 0 <= value <= 0xFFFFFFFF:
        raise ManifestError(path, where, f"{value!r}: not a 32-bit address")
    if key == "counters" and not all(type(each) is int or _BOUND.fullmatch(str(each)) for each in value.values()):
        raise ManifestError(path, where, "every counter is an integer or a bound like '>=90' or '<=90'")
    if key == "paging":
        modes = [value] if isinstance(value, str) else value
        if modes == ["both"]:
            modes = ["pae", "legacy"]
        if not modes or any(mode not in ("pae", "legacy") for mode in modes):
            raise ManifestError(path, where, f"{value!r}: 'pae', 'legacy', or a list of them")
        return modes
    if key == "policies" and not all(isinstance(each, str) for each in value.values()):
        raise ManifestError(path, where, "every policy is a string")
    if key in ("arguments", "files", "modules", "devices", "races"):
        return [str(each) for each in value]
    if key == "faults":
        return [_fault(path, number, each) for number, each in enumerate(value, 1)]
    return value


def _fault(path: Path, number: int, value: Any) -> ExpectedFault:
    where = f"expect.faults[{number}]"
    if not isinstance(value, dict):
        raise ManifestError(path, where, "not a table")
    for key in value:
        if key not in ("address", "error", "resolution", "paging"):
            raise ManifestError(path, f"{where}.{key}", "unknown key")
    made = ExpectedFault(**{key: str(each) for key, each in value.items()})
    if made.resolution and made.resolution not in RESOLUTIONS:
        raise ManifestError(path, f"{where}.resolution", f"{made.resolution!r}; known are {', '.join(RESOLUTIONS)}")
    return made


def source_of(manifest: Manifest, root: Path = HOME) -> Path:
    """An image's source: counted from the repository's root, or else from the manifest's folder."""
    here = root / manifest.source
    return here if here.is_file() else manifest.path.parent / manifest.source


def set_values(path: Path, section: str, values: dict[str, str]) -> None:
    """Change or add keys of one section in the file's text, leaving everything else as it is.

    ``values`` are TOML literals by key.
    """
    lines = read_text(path).splitlines()
    header = f"[{section}]"
    if header not in [line.strip() for line in lines]:
        lines += ["", header]
    first = next(number for number, line in enumerate(lines) if line.strip() == header) + 1
    end = next((n for n in range(first, len(lines)) if lines[n].lstrip().startswith("[")), len(lines))
    while end > first and not lines[end - 1].strip():
        end -= 1
    for key, literal in values.items():
        text = f"{key} = {literal}"
        for number in range(first, end):
            if lines[number].split("=")[0].strip() == key:
                lines[number] = text
                break
        else:
            lines.insert(end, text)
            end += 1
    path.write_text("\n".join(lines) + "\n")
