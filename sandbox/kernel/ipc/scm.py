"""Open files in flight: those that a message holds, and the end of those that only hold each other.

A socket that was sent into its own queue, or two that are in each other's, would never be closed: no descriptor leads
to them, and each is held by a message that nobody can receive.  As in Linux (net/unix/garbage.c) they are looked for;
here whenever a descriptor of a socket is closed while any is in flight, so at the latest when a process ends.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from sandbox.kernel.abi.errno import ETOOMANYREFS, KernelError
from sandbox.kernel.ipc.af_unix import UnixSocket
from sandbox.kernel.ipc.skb import SkBuff
from sandbox.kernel.vfs.file import File


class InFlight:
    """Which open sockets are held by messages, how often, and how many files each user has on the way."""

    def __init__(self) -> None:
        self._sockets: Counter[File] = Counter()
        self._messages: set[SkBuff] = set()
        """Those that hold sockets."""
        self._by_user: Counter[int] = Counter()
        self._dropped: deque[File] = deque()
        self._dropping = False

    def attach(self, skb: SkBuff, files: tuple[File, ...], uid: int, limit: int | None) -> None:
        """A message holds files from now on.

        Raises KernelError(ETOOMANYREFS) when the user has more than ``limit`` on the way (RLIMIT_NOFILE; None for
        root).
        """
        if files and limit is not None and self._by_user[uid] > limit:
            raise KernelError(ETOOMANYREFS)
        skb.files, skb.owner = tuple(file.get() for file in files), uid
        self._by_user[uid] += len(files)
        sockets = _sockets(files)
        self._sockets.update(sockets)
        if sockets:
            self._messages.add(skb)

    def detach(self, skb: SkBuff) -> list[File]:
        """The files that a message held; who asks holds them now."""
        files, skb.files = list(skb.files), ()
        self._by_user[skb.owner] -= len(files)
        self._messages.discard(skb)
        for file in _sockets(files):
            self._sockets[file] -= 1
            if not self._sockets[file]:
                del self._sockets[file]
        return files

    def drop(self, files: Iterable[File]) -> None:
        """Let files go.  What one held is let go after it, not within: chains are as long as programs make them."""
        self._dropped += files
        if self._dropping:
            return
        self._dropping = True
        try:
            while self._dropped:
                self._dropped.popleft().put()
        finally:
            self._dropping = False

    def garbage(self) -> list[SkBuff]:
        """Messages that nobody can ever receive and that hold sockets; they are in no queue any more."""
        lost = {file.inode for file, count in self._sockets.items() if file.count == count}
        left, found = len(lost) + 1, set(self._messages)
        while lost and len(lost) < left:
            left = len(lost)
            for skb in [skb for skb in found if _holder(skb) not in lost]:
                found.remove(skb)
                lost.difference_update(file.inode for file in skb.files)
        if not lost:
            return []
        for skb in found:
            assert isinstance(skb.holder, UnixSocket)
            skb.holder.queue.remove(skb)
        return sorted(found, key=lambda skb: skb.holder.ino if isinstance(skb.holder, UnixSocket) else 0)


def _sockets(files: Iterable[File]) -> list[File]:
    return [file for file in files if isinstance(file.inode, UnixSocket)]


def _holder(skb: SkBuff) -> object:
    """The socket that somebody must have to receive it: of a connection that is not accepted yet, the listening one."""
    holder = skb.holder
    return holder.listener or holder if isinstance(holder, UnixSocket) else None
