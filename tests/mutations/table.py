"""The list of mutations: for each image, ways to break what it shows, and how one is applied with no file touched."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SPARED: dict[str, str] = {}
"""Images without mechanism of their own, and why."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """One change of the sandbox's own source that the image, or else the named test, must notice."""

    image: str
    number: int
    file: str
    """Path under ``sandbox/``."""
    old: str
    """Text that occurs once in the file."""
    new: str
    says: str
    test: str = ""
    """A pytest id, where the image itself cannot tell."""
    sanitize: bool = False
    """The image runs with ``--sanitize tlb``: a report is a failure."""
    flush: str = ""
    """The flush that is left out, where it is one (``docs/flushes.md``)."""
    reports: list[str] = field(default_factory=list)
    """Kinds of reports of the sanitizer that must come in every paging mode; others may."""
    machine: dict[str, Any] = field(default_factory=dict)
    """What of its manifest's machine is otherwise: ``cpus``, ``ram`` in bytes, ``boot``, ``policies``."""

    @property
    def name(self) -> str:
        return f"{self.image}-{self.number}"

    @property
    def path(self) -> Path:
        return ROOT / "sandbox" / self.file

    @property
    def module(self) -> str:
        return "sandbox." + self.file.removesuffix(".py").replace("/", ".")

    def source(self) -> str:
        """The mutated text of the file.  Raises ValueError when the mutation no longer applies."""
        text = self.path.read_text()
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: {text.count(self.old)} places in {self.file} read {self.old!r}")
        return text.replace(self.old, self.new)


def mutations() -> list[Mutation]:
    """All of them, by image."""
    found: list[Mutation] = []
    numbers: Counter[str] = Counter()
    for path in sorted(HERE.glob("*.toml")):
        for image, entries in tomllib.loads(path.read_text()).items():
            for entry in entries:
                numbers[image] += 1
                found.append(Mutation(image, numbers[image], **entry))
    return found


class Mutant(importlib.abc.MetaPathFinder):
    """Loads one module of the package from mutated text; everything else comes from where it always comes."""

    def __init__(self, mutation: Mutation) -> None:
        self.mutation = mutation
        self.code = compile(mutation.source(), str(mutation.path), "exec")

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self.mutation.module:
            return None
        where = str(self.mutation.path)
        return importlib.util.spec_from_file_location(name, where, loader=_Loader(name, where, self.code))

    @pytest.hookimpl(tryfirst=True)
    def pytest_load_initial_conftests(self) -> None:
        """pytest has put a finder before this one: it rewrites assertions in packages that bring a plugin, as ours."""
        sys.meta_path.remove(self)
        sys.meta_path.insert(0, self)


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, code: CodeType) -> None:
        super().__init__(name, path)
        self._mutated = code

    def get_code(self, fullname: str) -> CodeType:
        return self._mutated


def install(mutation: Mutation) -> Mutant:
    """From here on imports see the mutation.  Raises ValueError or SyntaxError when it is none."""
    assert mutation.module not in sys.modules, f"{mutation.module} is loaded already"
    made = Mutant(mutation)
    sys.meta_path.insert(0, made)
    return made
