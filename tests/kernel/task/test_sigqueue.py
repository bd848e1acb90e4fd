"""What waits for a task, and in which order it goes: against signal(7)."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sandbox.kernel.abi.siginfo import SIGINFO_BYTES, SigInfo
from sandbox.kernel.abi.signals import NSIG, SI_QUEUE, SIGKILL, SIGRTMIN, SIGSEGV, SIGUSR1
from sandbox.kernel.task.sigqueue import AltStack, Pending, SigHand, SigState, bit_of

NUMBERS = st.integers(1, NSIG)
SYNCHRONOUS = {4, 5, 7, 8, 11, 31}


def sent(number: int, value: int = 0) -> SigInfo:
    return SigInfo.sent(number, SI_QUEUE, 1, 0, value)


@given(st.lists(NUMBERS, max_size=60), st.integers(0, (1 << NSIG) - 1))
def test_everything_comes_once_in_order(numbers: list[int], mask: int) -> None:
    state = Pending()
    for value, number in enumerate(numbers):
        assert state.enqueue(sent(number, value))
    wanted = Counter(number for number in numbers if number >= SIGRTMIN and mask >> number - 1 & 1)
    wanted.update({number for number in numbers if number < SIGRTMIN and mask >> number - 1 & 1})
    taken = []
    while (info := state.dequeue(mask)) is not None:
        taken.append(info)
    assert Counter(info.signo for info in taken) == wanted
    rank = [(info.signo != SIGKILL, info.signo not in SYNCHRONOUS, info.signo) for info in taken]
    assert rank == sorted(rank)
    for number in set(numbers):
        values = [int.from_bytes(info.union[8:12], "little") for info in taken if info.signo == number]
        assert values == sorted(values)
    left = {each.info.signo for each in state.queue}
    assert state.waiting == sum(bit_of(number) for number in left)
    assert not state.waiting & mask


def test_a_standard_signal_waits_once_and_a_queue_ends() -> None:
    state = Pending()
    assert state.enqueue(sent(SIGUSR1))
    assert state.enqueue(sent(SIGUSR1))
    assert len(state.queue) == 1
    assert all(state.enqueue(sent(SIGRTMIN)) for _ in range(1000))
    assert not state.enqueue(sent(SIGRTMIN), room=False)
    assert state.enqueue(sent(SIGSEGV))


def test_a_child_inherits_dispositions_and_mask_and_nothing_pending() -> None:
    state = SigState(blocked=5)
    state.private.enqueue(sent(SIGUSR1))
    state.altstack = AltStack(0x1000, 8192, 0)
    child = state.fork(share_hand=False, keep_stack=True)
    assert (child.blocked, child.private.queue, child.waiting) == (5, [], 0)
    assert child.altstack == state.altstack
    assert child.hand.actions == state.hand.actions
    assert child.hand is not state.hand


def test_a_thread_shares_dispositions_and_has_no_alternate_stack() -> None:
    """clone(2), CLONE_SIGHAND; sigaltstack(2), "Notes": not with CLONE_VM but without CLONE_VFORK."""
    state = SigState()
    state.altstack = AltStack(0x1000, 8192, 0)
    child = state.fork(share_hand=True, keep_stack=False)
    assert child.hand is state.hand
    assert child.altstack == AltStack()


@given(st.lists(st.tuples(NUMBERS, st.booleans()), max_size=40), st.integers(0, (1 << NSIG) - 1))
def test_a_thread_takes_its_own_before_those_of_the_process(sent_to: list[tuple[int, bool]], mask: int) -> None:
    """dequeue_signal: the private queue first; SIGKILL before all."""
    state = SigState()
    for number, own in sent_to:
        (state.private if own else state.shared).enqueue(sent(number))
    shared_seen = False
    while (before := state.private.waiting & mask, info := state.dequeue(mask))[1] is not None:
        if info.signo != SIGKILL:
            shared_seen |= not before
            assert bool(before) != shared_seen
    assert not state.waiting & mask


def test_exec_keeps_what_was_ignored() -> None:
    hand = SigHand()
    hand.actions[1] = type(hand.actions[1])(handler=1)
    hand.actions[2] = type(hand.actions[2])(handler=0x8048000, flags=4, mask=7)
    fresh = hand.exec()
    assert [fresh.actions[number].handler for number in (1, 2, 3)] == [1, 0, 0]
    assert (fresh.actions[2].flags, fresh.actions[2].mask) == (0, 0)


@given(st.binary(min_size=SIGINFO_BYTES, max_size=SIGINFO_BYTES))
def test_siginfo_round_trip(data: bytes) -> None:
    assert SigInfo.unpack(data).pack() == data
