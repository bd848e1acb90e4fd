"""The compiled modules of this package in one file, so that a short command opens one and not three hundred.

``import`` looks for each module in folders, opens its ``.pyc`` and compares that with the source: two thirds of the
time that a small module takes (``importlib._bootstrap_external``, Python 3.11).  Here a dictionary says where a
module's code is; of the source only time and size are asked.  What is not in the file, or was changed since, is
imported as ever, and put into the file when the command ends.  The file lies in ``__pycache__``, under the rules of
``.pyc`` files: per version of Python, not read under ``-X pycache_prefix``, not written under ``-B``, always safe
to delete.
"""

# pathlib takes longer to import than all that `--help` needs.
# ruff: noqa: PTH105, PTH108, PTH116, PTH118, PTH120, PTH123

from __future__ import annotations

import contextlib
import marshal
import os
import sys
from importlib._bootstrap_external import MAGIC_NUMBER, PathFinder, SourceFileLoader
from importlib.machinery import ModuleSpec
from types import CodeType
from typing import Any

PACKAGE = __name__.partition(".")[0]
FOLDER = os.path.dirname(__file__)

Entry = tuple[str, int, int, int, int]
"""Of a module: its source's path from ``FOLDER``, that file's modification time in ns and size, where among the codes
its own begins and ends, in bytes."""
Module = tuple[str, int, int, bytes | memoryview]
"""The same with the code itself."""
_LENGTH = 8
_FORMAT = b"bundle 1"


def path() -> str | None:
    """Where the file is for this interpreter; None where it keeps no compiled code beside the sources."""
    if sys.implementation.cache_tag is None or sys.pycache_prefix is not None:
        return None
    level = f".opt-{sys.flags.optimize}" if sys.flags.optimize else ""
    return os.path.join(FOLDER, "__pycache__", f"modules.{sys.implementation.cache_tag}{level}.bundle")


class Loader(SourceFileLoader):
    """A source file's loader whose code is there already."""

    def __init__(self, name: str, source: str, code: memoryview) -> None:
        super().__init__(name, source)
        self.marshalled = code

    def get_code(self, name: str) -> CodeType:
        code: CodeType = marshal.loads(self.marshalled)
        return code


class Bundle:
    """A finder of ``sys.meta_path``: for modules whose source is as it was when they were put in."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.entries: dict[str, Entry] | None = None
        """By name; None before the first module of the package is asked for."""
        self._codes = memoryview(b"")

    def find_spec(self, name: str, search: Any = None, target: Any = None) -> ModuleSpec | None:
        if self.entries is None:
            if not name.startswith(f"{PACKAGE}."):
                return None
            self.entries, self._codes = _read(self.file)
        entry = self.entries.get(name)
        if entry is None:
            return None
        source = f"{FOLDER}/{entry[0]}"
        if _stamp(source) != entry[1:3]:
            del self.entries[name]
            return None
        return _spec(name, source, self._codes[entry[3] : entry[4]])

    def keep(self) -> None:
        """Put in what this process had to import otherwise, for the next one."""
        new = {name: made for name in self._lacking() if (made := _made(name)) is not None}
        if new and self.entries is not None:
            old = {name: (*each[:3], self._codes[each[3] : each[4]]) for name, each in self.entries.items()}
            _write(self.file, {**old, **new})

    def _lacking(self) -> list[str]:
        """Modules of the package that are imported and not in the file, if it can be written."""
        if self.entries is None or sys.dont_write_bytecode or not os.access(os.path.dirname(self.file), os.W_OK):
            return []
        ours = [name for name in sys.modules if name.startswith(f"{PACKAGE}.")]
        return [name for name in ours if name not in self.entries and not name.endswith(".__main__")]


def use() -> Bundle | None:
    """Import from the file from now on, where the folders would be looked through; None where there can be none.

    Whoever has put a finder of his own before (a tracer, a test with a changed module) is asked first, as ever.
    """
    file = path()
    if file is None:
        return None
    made = Bundle(file)
    sys.meta_path.insert(sys.meta_path.index(PathFinder), made)
    return made


def _spec(name: str, source: str, code: memoryview) -> ModuleSpec:
    """As ``importlib.util.spec_from_file_location``, which takes longer."""
    is_package = source.endswith("/__init__.py")
    spec = ModuleSpec(name, Loader(name, source, code), origin=source, is_package=is_package)
    spec.has_location = True
    if spec.submodule_search_locations is not None:
        spec.submodule_search_locations.append(os.path.dirname(source))
    return spec


def _stamp(source: str) -> tuple[int, int] | None:
    try:
        found = os.stat(source)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _made(name: str) -> Module | None:
    """Of an imported module; None for one that does not come from a source file of this package."""
    loader = getattr(sys.modules[name].__spec__, "loader", None)
    if type(loader) is not SourceFileLoader or not loader.path.startswith(f"{FOLDER}/"):
        return None
    stamp = _stamp(loader.path)  # before its code is read: whoever changes it in between makes the entry stale
    if stamp is None:
        return None
    try:
        return loader.path[len(FOLDER) + 1 :], *stamp, marshal.dumps(loader.get_code(name))
    except (OSError, SyntaxError, ValueError):
        return None


def _read(file: str) -> tuple[dict[str, Entry], memoryview]:
    """List and codes; none of a file that another interpreter wrote, or for another place: code names its source."""
    nothing: tuple[dict[str, Entry], memoryview] = {}, memoryview(b"")
    try:
        with open(file, "rb") as opened:
            data = memoryview(opened.read())
        head = _head()
        if data[: len(head)] != head:
            return nothing
        codes = len(head) + _LENGTH + int.from_bytes(data[len(head) : len(head) + _LENGTH], "little")
        return marshal.loads(data[len(head) + _LENGTH : codes]), data[codes:]
    except (OSError, ValueError, EOFError, TypeError):
        return nothing


def _write(file: str, modules: dict[str, Module]) -> None:
    """Whole or not at all, whoever else writes."""
    entries, at = {}, 0
    for name, (*stamped, code) in modules.items():
        entries[name] = (*stamped, at, at + len(code))
        at += len(code)
    listed = marshal.dumps(entries)
    parts = _head(), len(listed).to_bytes(_LENGTH, "little"), listed, *(each[3] for each in modules.values())
    beside = f"{file}.{os.getpid()}"
    with contextlib.suppress(OSError):
        try:
            with open(beside, "wb") as opened:
                opened.writelines(parts)
            os.replace(beside, file)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside)


def _head() -> bytes:
    """The interpreter's mark of its compiled code, this format's, and the place."""
    where = os.fsencode(FOLDER)
    return bytes(MAGIC_NUMBER) + _FORMAT + len(where).to_bytes(4, "little") + where
