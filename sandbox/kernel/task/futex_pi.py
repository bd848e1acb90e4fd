"""Mutexes with priority inheritance: the kernel knows who owns one, and hands it over itself.

The word says the same to both sides: the owner's number, FUTEX_WAITERS when the owner has to call us, and
FUTEX_OWNER_DIED.  After kernel/futex/pi.c, kernel/futex/requeue.c and kernel/locking/rtmutex.c (6.1).  The next owner
is the waiter of the highest real-time priority, what it inherits from its own waiters included; among equals the first.
"""

from __future__ import annotations

from typing import NamedTuple

from sandbox.kernel.abi.errno import (
    EAGAIN,
    EDEADLK,
    EINVAL,
    EPERM,
    ERESTARTNOINTR,
    ESRCH,
    ETIMEDOUT,
    KernelError,
)
from sandbox.kernel.base.time import Clock
from sandbox.kernel.base.wait import WaitQueue
from sandbox.kernel.mm.uaccess import UserAccess
from sandbox.kernel.task.futex import (
    FUTEX_OWNER_DIED,
    FUTEX_TID_MASK,
    FUTEX_WAITERS,
    Futexes,
    Key,
    Waiter,
    rank_of,
)
from sandbox.kernel.task.sched import Scheduler
from sandbox.kernel.task.task import State, Task, TaskTable
from sandbox.records import dataclass, field


@dataclass(slots=True, eq=False)
class PiState:
    """A mutex that somebody waits for.  ``owner`` is None from the end of the last one to the next one's first step."""

    owner: Task | None
    waiters: list[Waiter] = field(default_factory=list)


class Claim(NamedTuple):
    """What came of taking a mutex: ``state`` is what to wait on, or of a taken one what others will wait on."""

    taken: bool
    state: PiState


class _OwnerExits(Exception):
    """The owner is on its way out: whoever wants the mutex looks again when that is over."""


class _Bucket:
    """``with``: one flow at a time looks at a word and at who waits for it (the hash bucket's lock of Linux)."""

    __slots__ = ("_queue", "_sched", "_taken")

    def __init__(self, sched: Scheduler) -> None:
        self._sched, self._taken = sched, False
        self._queue = WaitQueue("the state of a mutex")

    def __enter__(self) -> None:
        while self._taken:
            self._sched.schedule((self._queue,), self._queue.what)
        self._taken = True

    def __exit__(self, *_: object) -> None:
        self._taken = False
        if self._queue.tasks:
            self._sched.wake_up(self._queue)


class PiFutexes:
    """The operations of futex(2) whose names end in _PI, and what the end of a thread does for its mutexes."""

    def __init__(self, futexes: Futexes, uaccess: UserAccess, sched: Scheduler, clock: Clock, tasks: TaskTable) -> None:
        self._futexes, self._uaccess, self._sched, self._clock, self._tasks = futexes, uaccess, sched, clock, tasks
        self._bucket = _Bucket(sched)
        self._blocked: dict[Task, Waiter] = {}
        """Who waits for a mutex, and as what."""

    # -- lock and unlock -----------------------------------------------------------------------------------------

    def lock(self, task: Task, key: Key, address: int, until: int | None = None, wait: bool = True) -> int:
        """FUTEX_LOCK_PI, or without ``wait`` FUTEX_TRYLOCK_PI; at most until a time in blocks.

        Raises KernelError: EDEADLK, ESRCH (nobody has the owner's number), EPERM (a kernel thread has), EINVAL (the
        word and we disagree), EAGAIN (not to be waited for), ETIMEDOUT, EFAULT.  A signal restarts it always.
        """
        while True:
            try:
                with self._bucket:
                    waiter = self._begin(task, key, address, wait)
                break
            except _OwnerExits:
                self._sched.cond_resched()
        return 0 if waiter is None else self._wait(waiter, address, until, ERESTARTNOINTR)

    def _begin(self, task: Task, key: Key, address: int, wait: bool) -> Waiter | None:
        claim = self._claim(task, key, address, task, False)
        if claim.taken:
            return None
        if not wait:
            raise KernelError(EAGAIN)
        waiter = Waiter(task, key, 0)
        self._block(waiter, claim.state)
        self._futexes.add(waiter)
        return waiter

    def unlock(self, task: Task, address: int, private: bool) -> int:
        """FUTEX_UNLOCK_PI: the next owner's number goes into the word, or 0 where nobody waits.

        Raises KernelError: EPERM (the word names another owner), EINVAL (somebody waits in another way), EFAULT.
        """
        while True:
            value = self._futexes.load(task, address)
            if value & FUTEX_TID_MASK != task.pid:
                raise KernelError(EPERM)
            key = self._futexes.key(task, address, private)
            with self._bucket:
                if self._release(task, key, address, value):
                    return 0

    def _release(self, task: Task, key: Key, address: int, value: int) -> bool:
        """False where the word has changed meanwhile, and is to be looked at again."""
        first = self._futexes.first(key)
        if first is None:
            return self._uaccess.cmpxchg_user(task, address, value, 0) == value
        state = first.state
        if not isinstance(state, PiState) or state.owner is not task:
            raise KernelError(EINVAL)
        if not state.waiters:  # who waited has given up
            return self._uaccess.cmpxchg_user(task, address, value, 0) == value
        heir = self._top(state)
        seen = self._uaccess.cmpxchg_user(task, address, value, FUTEX_WAITERS | heir.task.pid)
        if seen != value:
            if seen & FUTEX_TID_MASK != value:
                raise KernelError(EINVAL)
            return False
        self._hand_over(state, heir, heir.task)
        return True

    # -- waiting elsewhere and being moved to a mutex ------------------------------------------------------------

    def wait_requeue(
        self, task: Task, key: Key, address: int, value: int, target: Key, second: int, until: int | None
    ) -> int:
        """FUTEX_WAIT_REQUEUE_PI: sleep on one word until moved to a mutex, the word at ``second``, and given that.

        Raises KernelError: EAGAIN (the word is not ``value``, or woken without the mutex), ETIMEDOUT, EFAULT.
        """
        waiter = Waiter(task, key, 0, target=target)
        self._futexes.add(waiter)
        try:
            if self._uaccess.get_word(task, address) != value and not waiter.woken and waiter.state is None:
                raise KernelError(EAGAIN)
        except KernelError:
            self._give_up(waiter)
            if not waiter.woken:
                raise
        return self._wait(waiter, second, until, EAGAIN)

    def requeue(self, task: Task, source: Key, first: int, value: int, target: Key, second: int, moves: int) -> int:
        """FUTEX_CMP_REQUEUE_PI: the first waiter gets the mutex at ``second`` if it is free; the others wait for it.

        How many were woken or moved.  Raises KernelError: EAGAIN (the word at ``first`` is not ``value``), EINVAL
        (somebody waits there in another way, or for another mutex), and what ``lock`` raises of the mutex.
        """
        while True:
            try:
                with self._bucket:
                    if self._uaccess.get_word(task, first) != value:
                        raise KernelError(EAGAIN)
                    return self._move(task, self._futexes.waiters(source), target, second, moves)
            except _OwnerExits:
                self._sched.cond_resched()

    def _move(self, task: Task, waiters: list[Waiter], target: Key, second: int, moves: int) -> int:
        if not waiters:
            return 0
        self._check_target(waiters[0], target)
        claim, count = self._claim(task, target, second, waiters[0].task, moves > 0), 0
        if claim.taken:
            waiter = waiters.pop(0)
            self._requeue(waiter, target)
            waiter.state = claim.state
            self._wake(waiter)
            count = 1
        for waiter in waiters:
            if count - 1 >= moves:
                break
            self._check_target(waiter, target)
            self._block(waiter, claim.state)
            self._requeue(waiter, target)
            count += 1
        return count

    def _check_target(self, waiter: Waiter, target: Key) -> None:
        if waiter.target != target or waiter.state is not None:
            raise KernelError(EINVAL)

    def _requeue(self, waiter: Waiter, target: Key) -> None:
        self._futexes.remove(waiter)
        waiter.key = target
        self._futexes.add(waiter)

    # -- who has it ----------------------------------------------------------------------------------------------

    def _claim(self, task: Task, key: Key, address: int, claimant: Task, waiters: bool) -> Claim:
        """futex_lock_pi_atomic: take a free mutex for a task, with FUTEX_WAITERS if more will come; or find its owner.

        The word is in the address space of ``task``.
        """
        value = self._futexes.load(task, address)
        while True:
            if value & FUTEX_TID_MASK == claimant.pid:
                raise KernelError(EDEADLK)
            first = self._futexes.first(key)
            if first is not None:
                return Claim(False, _attach(first, value))
            owner = value & FUTEX_TID_MASK
            new = value | FUTEX_WAITERS
            if not owner:
                new = value & FUTEX_OWNER_DIED | claimant.pid | (FUTEX_WAITERS if waiters else 0)
            seen = self._uaccess.cmpxchg_user(task, address, value, new)
            if seen == value:
                return Claim(not owner, PiState(self._owner(owner) if owner else claimant))
            value = seen

    def _owner(self, pid: int) -> Task:
        """attach_to_pi_owner.  Raises KernelError: ESRCH, EPERM."""
        owner = self._tasks.get(pid)
        if owner is None or owner.state in (State.ZOMBIE, State.DEAD) or (owner.exiting and owner.futexes_left):
            raise KernelError(ESRCH)
        if owner.kthread:
            raise KernelError(EPERM)
        if owner.exiting:
            raise _OwnerExits
        return owner

    def _block(self, waiter: Waiter, state: PiState) -> None:
        """A task waits for a mutex from now on.  Raises KernelError(EDEADLK) where its owner waits for the task."""
        owner: Task | None = state.owner
        while owner is not None:
            if owner is waiter.task:
                raise KernelError(EDEADLK)
            held_up = self._blocked.get(owner)
            owner = held_up.state.owner if held_up is not None and isinstance(held_up.state, PiState) else None
        waiter.state = state
        state.waiters.append(waiter)
        self._blocked[waiter.task] = waiter

    def _hand_over(self, state: PiState, heir: Waiter, owner: Task | None) -> None:
        state.owner = owner
        state.waiters.remove(heir)
        del self._blocked[heir.task]
        self._wake(heir)

    def _wake(self, waiter: Waiter) -> None:
        waiter.woken = True
        self._sched.wake(waiter.task)

    # -- sleeping ------------------------------------------------------------------------------------------------

    def _wait(self, waiter: Waiter, address: int, until: int | None, interrupted: int) -> int:
        """Until the mutex at an address is the task's.  ``interrupted`` is what a waiter answers to a signal."""
        task, error = waiter.task, 0
        while not waiter.woken and not error:
            if until is not None and self._clock.now >= until:
                error = ETIMEDOUT
            elif task.pending:
                error = interrupted if waiter.state is not None else ERESTARTNOINTR
            else:
                self._sched.sleep(task, "a mutex", -1 if until is None else until)
        self._give_up(waiter)
        if not waiter.woken:
            raise KernelError(error)
        state = waiter.state
        if isinstance(state, PiState) and state.owner is None:
            self._take_after_death(task, state, address)
        return 0

    def _give_up(self, waiter: Waiter) -> None:
        """It is in no queue any more; it may have been given the mutex at the last moment."""
        with self._bucket:
            self._futexes.remove(waiter)
            if not waiter.woken and isinstance(waiter.state, PiState):
                waiter.state.waiters.remove(waiter)
                del self._blocked[waiter.task]

    # -- the end of an owner -------------------------------------------------------------------------------------

    def exit_pi_state_list(self, task: Task) -> None:
        """A thread ends: each mutex that it has, and that somebody waits for, goes to the first of those."""
        with self._bucket:
            for state in {id(each): each for each in self._states() if each.owner is task}.values():
                state.owner = None
                if state.waiters:
                    self._hand_over(state, self._top(state), None)

    def _states(self) -> list[PiState]:
        return [each.state for each in self._blocked.values() if isinstance(each.state, PiState)]

    def _take_after_death(self, task: Task, state: PiState, address: int) -> None:
        """fixup_pi_state_owner: the word learns of its new owner, and keeps that the last one died."""
        waiters = FUTEX_WAITERS | FUTEX_OWNER_DIED | task.pid
        self._futexes.change(task, address, lambda old: waiters)
        state.owner = task

    # -- priorities ----------------------------------------------------------------------------------------------

    def rank(self, task: Task) -> int:
        """A task's priority with what it inherits from those that wait for its mutexes: 0 is no real-time one."""
        heirs = (self.rank(each.task) for state in self._states() if state.owner is task for each in state.waiters)
        return max(rank_of(task), max(heirs, default=0))

    def _top(self, state: PiState) -> Waiter:
        return max(state.waiters, key=lambda each: self.rank(each.task))


def _attach(first: Waiter, value: int) -> PiState:
    """attach_to_pi_state: what the word says must fit what we know.  Raises KernelError(EINVAL)."""
    state, owner = first.state, value & FUTEX_TID_MASK
    if not isinstance(state, PiState):
        raise KernelError(EINVAL)
    if state.owner is None:
        if not value & FUTEX_OWNER_DIED or owner:
            raise KernelError(EINVAL)
    elif owner != state.owner.pid and not (value & FUTEX_OWNER_DIED and not owner):
        raise KernelError(EINVAL)
    return state
