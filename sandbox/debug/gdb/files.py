"""gdb's host I/O (``vFile``): the guest's files and ours, read only.

Numbers of errors are those of gdb's File-I/O (its manual, E.13.8.1), which Linux's are up to 34.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from sandbox.debug.debugger import Debugger
from sandbox.debug.gdb.link import EMPTY, hexadecimal, numbers, unhex
from sandbox.debug.gdb.modules import OURS, our_file
from sandbox.debug.gdb.packets import PACKET_SIZE, escape
from sandbox.debug.kernel_target import KernelTarget
from sandbox.debug.worker import Remote
from sandbox.kernel.abi.errno import EBADF, EISDIR, EMFILE, ENAMETOOLONG, ENOENT, EROFS, KernelError
from sandbox.kernel.abi.flags import S_IFDIR
from sandbox.kernel.fs.namespace import read_all
from sandbox.kernel.procfs.nodes import Text
from sandbox.kernel.vfs import namei

_ACCESS_MODES = 3
MOST_FILES = 64
MOST_TEXT = 1 << 24
"""Bytes of a file below /proc, whose text is made when it is read."""
_FILEIO = {ENAMETOOLONG: 91}
_UNKNOWN = 9999
_KNOWN = 34
"""The last number up to which both have the same."""


def file_bytes(debugger: Debugger, path: str) -> bytes | int:
    """A file of the guest's tree or one of ours; the error's number where there is none."""
    target = debugger.target
    if path.startswith(OURS):
        found = our_file(target, path)
        return ENOENT if found is None else found
    if not isinstance(target, KernelTarget):
        return ENOENT
    root = target.kernel.files.root
    try:
        inode = namei.lookup(root, root, os.fsencode(path)).inode
        if inode.kind == S_IFDIR:
            return EISDIR
        return inode.read_at(0, MOST_TEXT) if isinstance(inode, Text) else read_all(inode)
    except KernelError as error:
        return error.errno


def link_target(debugger: Debugger, path: str) -> bytes | int:
    """Where a symbolic link leads."""
    target = debugger.target
    if not isinstance(target, KernelTarget):
        return ENOENT
    root = target.kernel.files.root
    try:
        return namei.readlink(root, root, os.fsencode(path))
    except KernelError as error:
        return error.errno


class HostFiles:
    """The files that one gdb has open."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._files: dict[int, bytes] = {}
        self._verbs: dict[bytes, Callable[[list[bytes]], bytes]] = {
            b"setfs": lambda _: b"F0", b"open": self._open, b"close": self._close, b"pread": self._read,
            b"fstat": self._stat, b"readlink": self._link, b"pwrite": _refuse, b"unlink": _refuse,
        }  # fmt: skip

    def answer(self, rest: bytes) -> bytes:
        """``F``, a number, and data.  Raises ValueError, IndexError for what is no request."""
        name, _, argument = rest.partition(b":")
        verb = self._verbs.get(name)
        return EMPTY if verb is None else verb(argument.split(b","))

    def _open(self, words: list[bytes]) -> bytes:
        if hexadecimal(words[1]) & _ACCESS_MODES:
            return _failed(EROFS)
        if len(self._files) >= MOST_FILES:
            return _failed(EMFILE)
        data = self._remote.call(file_bytes, unhex(words[0]).decode())
        if isinstance(data, int):
            return _failed(data)
        number = max(self._files, default=2) + 1
        self._files[number] = bytes(data)
        return b"F%x" % number

    def _read(self, words: list[bytes]) -> bytes:
        data = self._files.get(hexadecimal(words[0]))
        if data is None:
            return _failed(EBADF)
        size, offset = numbers(b",".join(words[1:3]))
        piece = data[offset : offset + size]
        told = escape(piece[: PACKET_SIZE - 16])
        while len(told) > PACKET_SIZE - 16:
            piece = piece[: len(piece) * (PACKET_SIZE - 16) // len(told)]
            told = escape(piece)
        return b"F%x;" % min(len(piece), PACKET_SIZE - 16) + told

    def _stat(self, words: list[bytes]) -> bytes:
        data = self._files.get(hexadecimal(words[0]))
        return _failed(EBADF) if data is None else b"F40;" + escape(_stat(len(data)))

    def _close(self, words: list[bytes]) -> bytes:
        return _failed(EBADF) if self._files.pop(hexadecimal(words[0]), None) is None else b"F0"

    def _link(self, words: list[bytes]) -> bytes:
        found = self._remote.call(link_target, unhex(words[0]).decode())
        return _failed(found) if isinstance(found, int) else b"F%x;" % len(found) + escape(found)


def _refuse(words: list[bytes]) -> bytes:
    return _failed(EROFS)


def _failed(number: int) -> bytes:
    return b"F-1,%x" % (number if number <= _KNOWN else _FILEIO.get(number, _UNKNOWN))


def _stat(size: int) -> bytes:
    """``struct stat`` of gdb's File-I/O: big-endian, 64 bytes."""
    fields = ((0, 4), (0, 4), (0o100555, 4), (1, 4), (0, 4), (0, 4), (0, 4), (size, 8), (4096, 8), (size // 512, 8))
    return b"".join(value.to_bytes(width, "big") for value, width in fields) + bytes(12)
