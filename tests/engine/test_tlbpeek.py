"""What a look at a few of the feed's records tells: SDM 3A, 4.10.4.1 says what an INVLPG ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox.engine import stubs, tlbpeek
from sandbox.x86.paging import P
from tests.engine.test_tlbfeed import CODE, DATA, LOAD, PGD, TABLE, Bench

pytestmark = pytest.mark.skipif(not stubs.native_host(), reason="the feed is x86-64 Linux code")
ENTRY = TABLE + 4
INVLPG = bytes.fromhex("0f013d00104000")
"""invlpg [0x401000]"""
HLT = b"\xf4"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench()
    drain = made.feed.drain
    made.feed.switch(True)
    made.run(HLT)
    monkeypatch.setattr(made.feed, "drain", lambda: None)
    yield made
    monkeypatch.setattr(made.feed, "drain", drain)
    made.cpu.close()


def test_what_no_walk_has_read(bench: Bench) -> None:
    assert bench.feed.unread.forgotten(ENTRY)


def test_a_translation_lives_until_an_invlpg(bench: Bench) -> None:
    unread = bench.feed.unread
    bench.run(LOAD)
    assert not unread.forgotten(ENTRY)
    bench.run(INVLPG + HLT)
    assert unread.forgotten(ENTRY)
    bench.run(LOAD)
    assert not unread.forgotten(ENTRY)


def test_an_invlpg_of_another_page_ends_nothing(bench: Bench) -> None:
    bench.run(LOAD)
    bench.run(bytes.fromhex("0f013d00204000") + HLT)  # invlpg [0x402000]
    assert not bench.feed.unread.forgotten(ENTRY)
    assert bench.feed.unread.invalidated(0, DATA + 0x1000)
    assert not bench.feed.unread.invalidated(0, DATA)
    assert not bench.feed.unread.invalidated(1, DATA + 0x1000)


def test_an_invlpg_of_a_page_in_the_same_slot_ends_nothing(bench: Bench) -> None:
    bench.run(LOAD)
    bench.run(bytes.fromhex("0f013d00104010") + HLT)  # invlpg [0x10401000]
    bench.run(bytes.fromhex("0f013d00204000") + HLT)
    assert bench.feed.unread.invalidated(0, DATA + tlbpeek.SLOTS * 0x1000)
    assert not bench.feed.unread.invalidated(0, DATA)
    assert not bench.feed.unread.forgotten(ENTRY)


def test_a_walk_that_faults_leaves_nothing(bench: Bench) -> None:
    bench.write(ENTRY, CODE & ~P)
    bench.run(bytes.fromhex("a108104000") + HLT)  # not the page's first byte: that is looked at once more
    assert bench.feed.unread.forgotten(ENTRY)


def test_an_entry_above_the_leaf_is_not_for_a_look(bench: Bench) -> None:
    bench.run(LOAD)
    bench.run(INVLPG + HLT)
    assert not bench.feed.unread.forgotten(PGD + 4)


def test_a_long_chain_is_not_followed(bench: Bench) -> None:
    bench.run(LOAD[:-1] + INVLPG + HLT)
    assert bench.feed.unread.forgotten(ENTRY)
    for _ in range(tlbpeek.LONGEST):
        bench.run(LOAD[:-1] + INVLPG + HLT)
    assert not bench.feed.unread.forgotten(ENTRY)


def test_what_was_read_is_not_looked_at_again(bench: Bench) -> None:
    bench.run(LOAD)
    bench.feed._read()
    assert bench.feed.unread.forgotten(ENTRY)
