"""What a task keeps about signals: dispositions, masks, the queue, the alternate stack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from sandbox.kernel.abi.siginfo import SigInfo
from sandbox.kernel.abi.signals import NSIG, SI_USER, SIG_DFL, SIG_IGN, SIGKILL, SIGRTMIN, SS_DISABLE, SYNCHRONOUS
from sandbox.kernel.abi.structs import SigAction
from sandbox.kernel.task.cred import User
from sandbox.records import dataclass, field

Restart = Callable[[Any], int]
"""How restart_syscall(0) goes on with a call of a task that a stop has interrupted."""
_KILL = 1 << SIGKILL - 1


def bit_of(number: int) -> int:
    """The bit of a signal in a mask."""
    return 1 << number - 1


_DEFAULT, _IGNORED = SigAction(SIG_DFL), SigAction(SIG_IGN)


class SigHand:
    """The dispositions of signals 1 to 64; tasks made with CLONE_SIGHAND share one."""

    __slots__ = ("actions",)

    def __init__(self, actions: list[SigAction] | None = None) -> None:
        self.actions = [_DEFAULT] * (NSIG + 1) if actions is None else list(actions)

    def exec(self) -> SigHand:
        """What is left after exec: what was ignored is ignored."""
        return SigHand([_IGNORED if each.handler == SIG_IGN else _DEFAULT for each in self.actions])


@dataclass(slots=True)
class AltStack:
    """sigaltstack(2)'s; ``base`` is its lowest linear address."""

    base: int = 0
    size: int = 0
    flags: int = SS_DISABLE

    @property
    def words(self) -> tuple[int, int, int]:
        """``stack_t``."""
        return self.base, self.flags, self.size

    def holds(self, esp: int) -> bool:
        """The stack pointer lies on it."""
        return self.base < esp <= self.base + self.size


class Queued(NamedTuple):
    """A signal in a queue (``struct sigqueue``)."""

    info: SigInfo
    user: User | None
    """In whose count of queued signals it is, None for in nobody's."""

    def leave(self) -> None:
        """It is in the queue no more."""
        if self.user is not None:
            self.user.sigpending -= 1


class Pending:
    """Signals that wait: for one thread, or for whichever thread of a process takes them (``struct sigpending``)."""

    __slots__ = ("queue", "waiting")

    def __init__(self) -> None:
        self.queue: list[Queued] = []
        self.waiting = 0
        """The signals in the queue, as a mask."""

    def enqueue(self, info: SigInfo, room: bool = True, user: User | None = None) -> bool:
        """Let a signal wait, a standard signal once, but for those of timers, which have each a place of their own.

        Without ``room`` in the queue (RLIMIT_SIGPENDING) what was sent with kill(2) is still known to wait, without
        its siginfo; anything else does not: False (Linux's __send_signal).  What has a place is counted for ``user``.
        """
        bit = bit_of(info.signo)
        if self.waiting & bit and info.signo < SIGRTMIN and info.taken is None:
            return True
        if not room:
            if info.signo >= SIGRTMIN and info.code != SI_USER:
                return False
            if self.waiting & bit:
                return True
            info, user = SigInfo.sent(info.signo, SI_USER, 0), None
        if user is not None:
            user.sigpending += 1
        self.queue.append(Queued(info, user))
        self.waiting |= bit
        return True

    def dequeue(self, mask: int) -> SigInfo | None:
        """The next of the signals in ``mask`` that is still meant, as ``_next`` has them."""
        while True:
            info = self._next(mask)
            if info is None or info.taken is None:
                return info
            info = info.taken(info)
            if info is not None:
                return info

    def _next(self, mask: int) -> SigInfo | None:
        """The next of the signals in ``mask``: SIGKILL, then what an instruction caused, then the lowest number."""
        found = self.waiting & mask
        if not found:
            return None
        if found & _KILL:
            found = _KILL
        elif found & SYNCHRONOUS:
            found &= SYNCHRONOUS
        number = (found & -found).bit_length()
        at = next(at for at, each in enumerate(self.queue) if each.info.signo == number)
        entry = self.queue.pop(at)
        entry.leave()
        if all(each.info.signo != number for each in self.queue):
            self.waiting &= ~bit_of(number)
        return entry.info

    def discard(self, mask: int) -> None:
        """Forget waiting signals; what they came from learns that they are gone."""
        if self.waiting & mask:
            gone = [each for each in self.queue if mask & bit_of(each.info.signo)]
            self.queue = [each for each in self.queue if not mask & bit_of(each.info.signo)]
            self.waiting &= ~mask
            for each in gone:
                each.leave()
                if each.info.taken is not None:
                    each.info.taken(each.info)

    def flush(self) -> None:
        """Whose signals they were is gone, and they with it (``flush_sigqueue``)."""
        for each in self.queue:
            each.leave()
        self.queue, self.waiting = [], 0


@dataclass(slots=True)
class SigState:
    """Signals of one thread.  Masks have bit n-1 for signal n."""

    hand: SigHand = field(default_factory=SigHand)
    blocked: int = 0
    saved_mask: int | None = None
    """The mask to go back to after a call that waits with another (sigsuspend, ppoll)."""
    private: Pending = field(default_factory=Pending)
    """For this thread alone: tkill(2), and what its own instructions cause."""
    shared: Pending = field(default_factory=Pending)
    """For any thread of the process: kill(2), timers, children.  The process's own."""
    awaited: int = 0
    """Blocked signals that sigtimedwait waits for."""
    altstack: AltStack = field(default_factory=AltStack)
    trapno: int = 0
    err: int = 0
    cr2: int = 0
    """Of the last fault that became a signal."""
    interrupted: int = -1
    """Number of the system call that a signal has interrupted and that may be restarted, else -1."""
    restart: Restart | None = None

    def fork(self, *, share_hand: bool, keep_stack: bool) -> SigState:
        """A child's: dispositions (the same, or a copy) and mask as here, nothing pending."""
        hand = self.hand if share_hand else SigHand(self.hand.actions)
        stack = AltStack(self.altstack.base, self.altstack.size, self.altstack.flags) if keep_stack else AltStack()
        return SigState(hand, self.blocked, altstack=stack, trapno=self.trapno, err=self.err, cr2=self.cr2)

    @property
    def waiting(self) -> int:
        """Signals that wait for the thread or for its process."""
        return self.private.waiting | self.shared.waiting

    @property
    def deliverable(self) -> int:
        """Waiting signals that are not blocked."""
        return (self.private.waiting | self.shared.waiting) & ~self.blocked

    def dequeue(self, mask: int) -> SigInfo | None:
        """The next of the signals in ``mask``: SIGKILL, the thread's own, those of the process."""
        if mask & _KILL & self.shared.waiting:
            mask = _KILL
        return self.private.dequeue(mask) or self.shared.dequeue(mask)
