"""Reading files that a user names: regular ones only, and no more than a limit."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sandbox.x86.errors import SandboxError

IMAGE_LIMIT = 512 << 20
TEXT_LIMIT = 16 << 20
_KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
}  # fmt: skip


class UnusableFile(SandboxError):
    """A file that cannot be read, has no end, or is too large."""

    exit_status = 2


def read_file(path: str | Path, limit: int = IMAGE_LIMIT) -> bytes:
    """The bytes of a regular file of at most ``limit`` bytes.  Raises UnusableFile."""
    try:
        # Opening a FIFO would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with os.fdopen(descriptor, "rb") as file:
            check(path, os.fstat(descriptor), limit)
            data = file.read(limit + 1)
    except (OSError, ValueError) as error:
        raise UnusableFile(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > limit:
        raise _too_large(path, limit)
    return data


def read_text(path: str | Path, limit: int = TEXT_LIMIT) -> str:
    """The text of a regular file in UTF-8, whatever the locale.  Raises UnusableFile."""
    try:
        return read_file(path, limit).decode()
    except UnicodeDecodeError as error:
        raise UnusableFile(f"{path}: not a text: {error.reason} at byte {error.start}") from error


def check(path: str | Path, found: os.stat_result, limit: int) -> None:
    """Raise UnusableFile for what is no regular file or larger than ``limit`` bytes."""
    kind = stat.S_IFMT(found.st_mode)
    if kind != stat.S_IFREG:
        raise UnusableFile(f"{path}: {_KINDS.get(kind, 'something else')}, not a regular file")
    if found.st_size > limit:
        raise _too_large(path, limit)


def _too_large(path: str | Path, limit: int) -> UnusableFile:
    return UnusableFile(f"{path}: larger than {limit >> 20} MB")
