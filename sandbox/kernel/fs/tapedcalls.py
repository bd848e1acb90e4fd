"""The host's file system with a tape: what it said is said again, and what was changed there is not changed twice.

Numbers of inodes are given out in the order in which they are opened, the same in every run; behind each is a
descriptor of the host as soon as the host itself has to be asked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from sandbox.kernel.base.tape import Door, NotRepeatable, Tape
from sandbox.kernel.fs.hostcalls import HostCalls, HostStat
from sandbox.records import dataclass

_ONCE = os.O_CREAT | os.O_EXCL | os.O_TRUNC
_TEXT = "latin-1"
"""How bytes of names are written in JSON."""


@dataclass(slots=True)
class _Opened:
    """How an inode is reached again, its device and number on the host, and the descriptor, -1 for none yet."""

    again: Callable[[], int]
    key: tuple[int, int]
    descriptor: int = -1


class TapedCalls(HostCalls):
    """The host as the tape has it, and as it is where that ends.  All raise NotRepeatable and TapeEnds besides."""

    def __init__(self, tape: Tape) -> None:
        self._tape, self._host = tape, HostCalls()
        self._known: list[_Opened] = []

    def _ask(self, what: str, *about: Any, work: Callable[[], Any]) -> Any:
        """An answer that JSON can hold."""
        key = repr((what, *about)).encode()
        return json.loads(self._tape.ask(Door.FILES, key, lambda: json.dumps(work()).encode()))

    def _open(self, what: str, *about: Any, live: Callable[[], int], again: Callable[[], int]) -> int:
        descriptor = -1

        def work() -> tuple[int, int]:
            nonlocal descriptor
            descriptor = live()
            found = os.fstat(descriptor)
            return found.st_dev, found.st_ino

        device, ino = self._ask(what, *about, work=work)
        self._known.append(_Opened(again, (device, ino), descriptor))
        return len(self._known) - 1

    def _of(self, number: int) -> int:
        """The host's descriptor behind a number.  Raises NotRepeatable when that leads elsewhere by now."""
        opened = self._known[number]
        if opened.descriptor < 0:
            try:
                opened.descriptor = opened.again()
                found = os.fstat(opened.descriptor)
            except OSError as error:
                raise NotRepeatable(f"a file of the host cannot be opened any more: {error.strerror}") from error
            if (found.st_dev, found.st_ino) != opened.key:
                raise NotRepeatable("a file of the host is another one than it was: the run cannot go on from here")
        return opened.descriptor

    def root(self, path: str, flags: int) -> int:
        return self._open(
            "root", flags, live=lambda: self._host.root(path, flags), again=lambda: self._host.root(path, flags)
        )

    def open(self, name: bytes, flags: int, at: int) -> int:
        return self._open(
            "open", name, flags, at,
            live=lambda: self._host.open(name, flags, self._of(at)),
            again=lambda: self._host.open(name, flags & ~_ONCE, self._of(at)),
        )  # fmt: skip

    def reopen(self, number: int, flags: int) -> int:
        return self._open(
            "reopen", number, flags,
            live=lambda: self._host.reopen(self._of(number), flags),
            again=lambda: self._host.reopen(self._of(number), flags),
        )  # fmt: skip

    def close(self, number: int) -> None:
        opened = self._known[number]
        if opened.descriptor >= 0:
            self._host.close(opened.descriptor)
            opened.descriptor = -1

    def stat(self, number: int) -> HostStat:
        return HostStat(*self._ask("stat", number, work=lambda: self._host.stat(self._of(number))))

    def size(self, number: int, reading: int) -> int:
        """As recordings have it: a question for all of stat."""
        return self.stat(number).st_size

    def entries(self, number: int) -> list[tuple[bytes, int, int]]:

        def work() -> list[tuple[str, int, int]]:
            return [(name.decode(_TEXT), ino, kind) for name, ino, kind in self._host.entries(self._of(number))]

        return [(name.encode(_TEXT), ino, kind) for name, ino, kind in self._ask("entries", number, work=work)]

    def space(self, number: int) -> tuple[int, int]:
        total, free = self._ask("space", number, work=lambda: self._host.space(self._of(number)))
        return total, free

    def users(self) -> tuple[int, int]:
        uid, gid = self._ask("users", work=self._host.users)
        return uid, gid

    def device_of_proc(self) -> int:
        return int(self._ask("proc", work=self._host.device_of_proc))

    def read(self, number: int, size: int, at: int) -> bytes:
        key = repr(("read", number, size, at)).encode()
        return self._tape.ask(Door.FILES, key, lambda: self._host.read(self._of(number), size, at))

    def target(self, number: int) -> bytes:
        key = repr(("target", number)).encode()
        return self._tape.ask(Door.FILES, key, lambda: self._host.target(self._of(number)))

    def write(self, number: int, data: bytes, at: int) -> None:
        self._ask("write", number, data, at, work=lambda: self._host.write(self._of(number), data, at))

    def truncate(self, number: int, size: int) -> None:
        self._ask("truncate", number, size, work=lambda: self._host.truncate(self._of(number), size))

    def chmod(self, number: int, mode: int) -> None:
        self._ask("chmod", number, mode, work=lambda: self._host.chmod(self._of(number), mode))

    def utime(self, number: int, atime: int, mtime: int) -> None:
        self._ask("utime", number, atime, mtime, work=lambda: self._host.utime(self._of(number), atime, mtime))

    def mkdir(self, name: bytes, at: int) -> None:
        self._ask("mkdir", name, at, work=lambda: self._host.mkdir(name, self._of(at)))

    def symlink(self, name: bytes, at: int, target: bytes) -> None:
        self._ask("symlink", name, at, target, work=lambda: self._host.symlink(name, self._of(at), target))

    def fifo(self, name: bytes, at: int) -> None:
        self._ask("fifo", name, at, work=lambda: self._host.fifo(name, self._of(at)))

    def socket(self, name: bytes, at: int) -> None:
        self._ask("socket", name, at, work=lambda: self._host.socket(name, self._of(at)))

    def link(self, number: int, name: bytes, at: int) -> None:
        self._ask("link", number, name, at, work=lambda: self._host.link(self._of(number), name, self._of(at)))

    def unlink(self, name: bytes, at: int) -> None:
        self._ask("unlink", name, at, work=lambda: self._host.unlink(name, self._of(at)))

    def rmdir(self, name: bytes, at: int) -> None:
        self._ask("rmdir", name, at, work=lambda: self._host.rmdir(name, self._of(at)))

    def rename(self, name: bytes, at: int, new: bytes, to: int) -> None:
        self._ask("rename", name, at, new, to, work=lambda: self._host.rename(name, self._of(at), new, self._of(to)))
