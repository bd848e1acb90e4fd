"""The base of every error that a user can meet."""

from __future__ import annotations

import errno


class SandboxError(Exception):
    """One line that says what and where, then the explanation.

    ``exit_status`` is what a command ends with: 1 the guest failed, 2 usage or bad input, 3 our own fault.
    """

    exit_status = 3

    def __init__(self, summary: str, detail: str = "") -> None:
        super().__init__(summary)
        self.summary = summary
        self.detail = detail


class ConfigurationError(SandboxError):
    """A machine or kernel that cannot be built as asked."""

    exit_status = 2


class OurBug(SandboxError):
    """Any other exception that came as far as a user, in one line: what, and the file and line that raised it."""

    def __init__(self, error: Exception) -> None:
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place is not None else "?"
        super().__init__(
            f"this is our bug: {type(error).__name__}: {error} ({where})",
            "set SANDBOX_TRACEBACK=1 to see where it comes from",
        )


class HostRefuses(SandboxError):
    """This host gives no more of something: memory, descriptors, processes, room in a file or for one."""

    exit_status = 2


_SHORTAGES = frozenset(
    (errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
)
_NO_PLACE = "No usable temporary directory"
"""How what ``tempfile`` raises begins, a FileNotFoundError, when it can write nowhere."""


def error_of(error: Exception) -> SandboxError:
    """What a user is told of an exception that nobody has expected: the host's doing, or ours."""
    if isinstance(error, MemoryError):
        return HostRefuses("this host has no more memory for the command")
    if isinstance(error, OSError) and (error.errno in _SHORTAGES or str(error.strerror).startswith(_NO_PLACE)):
        place = f"{error.filename}: " if error.filename else ""
        return HostRefuses(f"this host refuses: {place}{error.strerror}")
    return OurBug(error)
