"""Sequence numbers: MM 12's rules (post 001), against a model that remembers what each CPU walked."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sandbox.kernel.mm.kva_seq import FlushSequence, Mapped


def test_a_flush_counts_from_its_beginning() -> None:
    """What changes while a CPU flushes may have been walked again: the sample is older than the change."""
    numbers, slot = FlushSequence(1), Mapped()
    began = numbers.sample()
    numbers.change(slot)
    numbers.flushed(0, began)
    assert not numbers.current(0, slot)
    numbers.flushed(0, numbers.sample())
    assert numbers.current(0, slot)


def test_an_address_without_a_past_is_current_everywhere() -> None:
    numbers = FlushSequence(2)
    numbers.change(Mapped())
    assert numbers.current(0, Mapped()) and numbers.current(1, Mapped())


def test_a_flush_under_way_at_the_wrap_counts_for_nothing() -> None:
    """Its sample is of the old numbers, larger than any of the new."""
    numbers, slot = FlushSequence(1, bits=2), Mapped()
    numbers.mapped = [slot]
    for _ in range(3):
        numbers.change(slot)
    began = numbers.sample()
    numbers.change(slot)
    numbers.flushed(0, began)
    assert numbers.wraps == 1 and not numbers.current(0, slot)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("change"), st.integers(0, 2), st.just(0)),
        st.tuples(st.just("flush"), st.just(0), st.integers(0, 2)),
        st.tuples(st.just("invlpg"), st.integers(0, 2), st.integers(0, 2)),
    ),
    max_size=60,
)


def stale_and_current(history: list[tuple[str, int, int]], broken: bool) -> bool:
    """A CPU walked before the last change, has not flushed since, and is called current; three CPUs, three addresses.

    Every CPU walks every entry again after each step, as hardware may.
    """
    numbers = FlushSequence(3, bits=3, broken_wrap=broken)
    addresses = [Mapped() for _ in range(3)]
    numbers.mapped = addresses
    stale: set[tuple[int, int]] = set()
    for what, address, cpu in history:
        if what == "change":
            numbers.change(addresses[address])
            stale |= {(cpu, address) for cpu in range(3)}
        elif what == "flush":
            numbers.flushed(cpu, numbers.sample())
            stale -= {(cpu, address) for address in range(3)}
        else:
            addresses[address].cpus |= 1 << cpu
            stale.discard((cpu, address))
        if any(numbers.current(cpu, addresses[address]) for cpu, address in stale):
            return True
    return False


@given(steps)
def test_who_is_stale_is_never_current(history: list[tuple[str, int, int]]) -> None:
    """Also when the numbers of 3 bits begin again."""
    assert not stale_and_current(history, broken=False)


def test_without_the_care_at_the_wrap_who_is_stale_is_current() -> None:
    history = [("change", 0, 0)] * 7 + [("flush", 0, 0), ("change", 0, 0)]
    assert stale_and_current(history, broken=True)
    assert not stale_and_current(history, broken=False)
