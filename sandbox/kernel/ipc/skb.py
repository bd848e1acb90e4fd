"""Messages on their way: bytes in page frames of the guest, and what goes beside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sandbox.kernel.abi.errno import EFAULT, ENOBUFS, KernelError
from sandbox.kernel.abi.socket import UCred
from sandbox.kernel.fs.pipe import Move
from sandbox.kernel.mm.gfp import GFP_HIGHUSER
from sandbox.kernel.mm.page_alloc import PageAllocator
from sandbox.kernel.mm.vma import page_align
from sandbox.kernel.vfs.file import File
from sandbox.records import dataclass, field
from sandbox.x86.paging import PAGE_SIZE

LINE, SHARED_INFO, HEAD = 64, 320, 256
"""Bytes of a cache line, and of ``skb_shared_info`` and ``sk_buff``, rounded up to lines, on x86-64."""
KMALLOC_MAX = 4 << 20
"""Bytes that a head has at most."""
SMALLEST_HEAD = 512
"""Bytes; larger ones are powers of two, as kmalloc's."""
SKB_MAX_HEAD = PAGE_SIZE - SHARED_INFO
SKB_MAX_ALLOC = 4 * PAGE_SIZE - SHARED_INFO
MAX_FRAGMENTS = 17


def truesize(size: int, paged: int) -> int:
    """Bytes that a message of ``size`` bytes is charged with, ``paged`` of them outside its head (__alloc_skb).

    Raises KernelError(ENOBUFS) for one that is too large.
    """
    head = -(-(size - paged) // LINE) * LINE + SHARED_INFO
    if head > KMALLOC_MAX:
        raise KernelError(ENOBUFS)
    return max(SMALLEST_HEAD, 1 << (head - 1).bit_length()) + HEAD + page_align(paged)


class Named(Protocol):
    """A socket, as far as a message knows it."""

    address: bytes | None


@dataclass(slots=True, eq=False)
class SkBuff:
    """One message, or a part of a stream: ``size`` bytes in frames, the first ``consumed`` of them received."""

    size: int
    truesize: int
    frames: list[int] = field(default_factory=list)
    consumed: int = 0
    files: tuple[File, ...] = ()
    """Open files that are passed on; each is held while it is here."""
    owner: int = 0
    """The uid of who passes them."""
    holder: object = None
    """The socket in whose queue it is."""
    creds: UCred | None = None
    sender: Named | None = None
    """Whose name is told to who receives it: the one that the sender has by then."""
    uncharge: Callable[[int], None] | None = None
    """Gives ``truesize`` back to the sender."""
    readers: int = 0
    """Who copies from it now: as long as there are any its frames stay."""
    gone: bool = False

    @property
    def left(self) -> int:
        return self.size - self.consumed


class Buffers:
    """Fills, empties and frees messages; the bytes are moved by the CPU."""

    def __init__(self, page_alloc: PageAllocator) -> None:
        self._page_alloc = page_alloc

    def fill(self, skb: SkBuff, done: int, move: Move) -> None:
        """Bring its bytes, ``done`` bytes after the first that the program sends.  Raises KernelError(EFAULT)."""
        for at in range(0, skb.size, PAGE_SIZE):
            frame = self._page_alloc.alloc_page(GFP_HIGHUSER)
            skb.frames.append(frame)
            if move(frame, 0, min(PAGE_SIZE, skb.size - at), done + at):
                raise KernelError(EFAULT)

    def empty(self, skb: SkBuff, size: int, done: int, move: Move, skip: int = 0) -> bool:
        """Hand on ``size`` of the bytes that are left, behind ``skip``; False where the program's memory ends."""
        skb.readers += 1
        try:
            return self._copy(skb, skb.consumed + skip, size, done, move)
        finally:
            skb.readers -= 1
            if skb.gone and not skb.readers:
                self._release(skb)

    def _copy(self, skb: SkBuff, at: int, size: int, done: int, move: Move) -> bool:
        end = at + size
        while at < end:
            offset = at % PAGE_SIZE
            length = min(PAGE_SIZE - offset, end - at)
            if move(skb.frames[at // PAGE_SIZE], offset, length, done):
                return False
            at += length
            done += length
        return True

    def free(self, skb: SkBuff) -> None:
        """Its frames, and what its sender was charged; its files are somebody else's business."""
        skb.gone = True
        if not skb.readers:
            self._release(skb)

    def _release(self, skb: SkBuff) -> None:
        while skb.frames:
            self._page_alloc.put_page(skb.frames.pop())
        if skb.uncharge is not None:
            skb.uncharge(skb.truesize)
            skb.uncharge = None
