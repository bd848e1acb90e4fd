"""Arguments of calls that take names and flags."""

from __future__ import annotations

from sandbox.kernel.abi.errno import EINVAL, KernelError


def signed(value: int) -> int:
    """A register's 32 bits as a signed number."""
    return value - (1 << 32) if value >> 31 else value


def refuse_other(flags: int, known: int) -> None:
    """Raises KernelError(EINVAL) if there are flags besides the known ones."""
    if flags & ~known:
        raise KernelError(EINVAL)
