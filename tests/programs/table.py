"""``tests/programs.toml``: packages, the files that programs find, and what each program must answer."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
TABLE = PROJECT / "tests" / "programs.toml"
ROOT = PROJECT / "build" / "programs"
"""The root directory of the programs, natively and in the sandbox."""
ENVIRONMENT = {"PATH": "/bin:/usr/bin:/sbin", "HOME": "/", "TZ": "UTC", "LANG": "C"}


@dataclass(frozen=True)
class Package:
    """A Debian package and what it must be, byte for byte."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class Program:
    """One row: a command line and what comes of it.

    ``status`` is as a shell shows it, 128 + signal.  ``files`` are texts by path for this row alone, below /tmp;
    ``cpus`` asks for one more run, on so many.
    """

    name: str
    packages: tuple[str, ...]
    argv: tuple[str, ...]
    status: int
    stdout: str
    stdin: str = ""
    stderr: str = ""
    files: dict[str, str] = field(default_factory=dict)
    cpus: int = 1

    @property
    def missing(self) -> list[str]:
        """Packages that are not in the root."""
        there = unpacked()
        return [name for name in self.packages if name not in there]


@dataclass(frozen=True)
class Table:
    """All of it.  ``links`` are names of busybox in /bin; ``files`` are texts by path."""

    packages: tuple[Package, ...]
    programs: tuple[Program, ...]
    links: tuple[str, ...]
    files: dict[str, str]


def read(path: Path = TABLE) -> Table:
    """The table as it is committed."""
    raw = tomllib.loads(path.read_text())
    return Table(
        tuple(Package(**each) for each in raw["package"]),
        tuple(
            Program(**{**each, "packages": tuple(each["packages"]), "argv": tuple(each["argv"])})
            for each in raw["program"]
        ),
        tuple(raw["busybox"]),
        raw["files"],
    )


def unpacked() -> set[str]:
    """The packages that ``make programs`` has brought."""
    try:
        return set((ROOT / ".unpacked").read_text().split())
    except OSError:
        return set()
