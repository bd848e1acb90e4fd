"""What is told without reading the feed, or by taking records in together, against reading them one by one."""

from __future__ import annotations

import re
import struct
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.engine import stubs
from sandbox.engine.tlbfeed import ENTRY, FILL, MISS, PAGE, Batch
from sandbox.engine.tlbpeek import RECORD_WORDS
from sandbox.runner.run import run_target
from sandbox.runner.target import resolve
from sandbox.sanitize import stream
from sandbox.sanitize.shadow import Pages, ShadowTlb
from sandbox.sanitize.stream import Stream
from sandbox.x86.paging import RW, A, D, G, P
from tests.sanitize.machine import DATA_LINEAR, FRAMES, Bench

pytestmark = pytest.mark.skipif(not stubs.native_host(), reason="the feed is x86-64 Linux code")
BITS = (0, P | A, P | RW | A | D, P | RW | G | A | D)
STEPS = ("set", "load", "store", "invlpg", "cr3", "look")
CODE = {
    "load": "mov eax, dword ptr [{at:#x}]",
    "store": "mov dword ptr [{at:#x}], eax",
    "invlpg": "invlpg [{at:#x}]",
    "cr3": "mov eax, cr3\nmov cr3, eax",
}


@settings(deadline=None, max_examples=60)
@given(pae=st.booleans(), cpus=st.integers(1, 2), seed=st.integers(0, 2**32 - 1))
def test_a_look_never_hides_what_is_stale(pae: bool, cpus: int, seed: int) -> None:
    """When nothing is said to be left, nothing is: what the shadows have, all records read, is compared."""
    random, bench = Random(seed), Bench(pae, cpus)
    try:
        for what in random.choices(STEPS, (3, 4, 4, 6, 1, 4), k=120):
            page, cpu = random.randrange(3), random.randrange(cpus)
            if what == "set":
                bench.set_entry(page, random.choice(FRAMES) | random.choice(BITS))
            elif what != "look":
                bench.run(CODE[what].format(at=DATA_LINEAR + page * 4096), cpu, settle=False)
            elif bench.tlb.forgotten(bench.places):
                assert not bench.tlb.settle()
            elif random.random() < 0.5:
                bench.tlb.settle()
    finally:
        bench.close()


def test_a_look_tells_that_a_flush_was_enough() -> None:
    bench = Bench()
    try:
        bench.set_entry(0, FRAMES[0] | P | A)
        bench.load(0)
        bench.set_entry(0, FRAMES[1] | P | RW | A | D)
        assert not bench.tlb.forgotten(bench.places)
        bench.run(CODE["invlpg"].format(at=DATA_LINEAR), settle=False)
        assert bench.tlb.forgotten(bench.places)
    finally:
        bench.close()


def _state(shadow: ShadowTlb) -> tuple[object, ...]:
    kept = [(pages.by_page, _by_leaf(pages)) for pages in (shadow.local, shadow.globals, shadow.large)]
    return kept, shadow.walked, shadow.cr3, shadow.cr4, shadow.pdptes


def _by_leaf(pages: Pages) -> dict[int, int]:
    """Those whose page is held by that leaf still."""
    held = pages.by_page
    return {leaf: page for leaf, page in pages.by_leaf.items() if page in held and held[page].path[-2] == leaf}


@pytest.fixture(scope="module", params=["pae", "legacy"])
def batches(request: pytest.FixtureRequest) -> list[tuple[bytes, bytes]]:
    """First bytes and words of the records of an image that copies."""
    found: list[tuple[bytes, bytes]] = []
    read = Stream.read

    def keep(self: Stream, batch: Batch) -> None:
        found.append((batch.heads, bytes(batch.words[: len(batch.heads) * RECORD_WORDS])))
        read(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stream, "read", keep)
        target = resolve("images/cow-fork")
        assert run_target(target, target.config(sanitize=frozenset({"tlb"}), paging=request.param)).passed
    return found


@pytest.mark.parametrize("kind", ["_COPIED", "_CLEARED"])
def test_records_taken_in_together(
    batches: list[tuple[bytes, bytes]], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The same as one by one, whatever is left out, done often, of another page, changed, or out of its turn."""
    together = _pieces(batches)
    faults = [piece for piece in together if getattr(stream, kind).fullmatch(piece[0])]
    movable = [at for at, (heads, _) in enumerate(together) if heads[-1] & 15 in (FILL, PAGE)]
    assert faults
    for seed in range(40):
        random = Random(seed)
        pieces = list(together)
        for _ in range(seed * 10):
            at, other = random.choices(movable, k=2)
            pieces[at] = random.choice((pieces[other], _run(random, random.choice(faults)), (b"", b"")))
        heads = b"".join(piece[0] for piece in pieces)
        words = memoryview(b"".join(piece[1] for piece in pieces)).cast("Q")
        fast, plain = Stream([ShadowTlb(0)]), Stream([ShadowTlb(0)])
        fast.read(Batch(heads, words))
        with monkeypatch.context() as patch:
            patch.setattr(stream, "_RUNS", re.compile(b"(%s)" % stream._ONE_BY_ONE.pattern))
            plain.read(Batch(heads, words))
        assert _state(fast.shadows[0]) == _state(plain.shadows[0])


def _run(random: Random, piece: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """One piece several times: each of another page, or with a bit of one word changed, or as it is."""
    heads, words = piece
    times = []
    for _ in range(random.randrange(1, 8)):
        values = list(memoryview(words).cast("Q"))
        change = random.choice(("none", "page", "page", "bit"))
        if change == "page":
            _move(heads, values, random.randrange(16))
        elif change == "bit":
            at = random.randrange(1, len(heads))
            words_of = {MISS: (1,), ENTRY: (2,)}  # registers change by records of their own, and tables do not move
            word = random.choice(words_of.get(heads[at] & 15, (1, 2, 3)))
            values[at * RECORD_WORDS + word] ^= 1 << random.randrange(32)
        times.append(struct.pack(f"<{len(values)}Q", *values))
    return heads * len(times), b"".join(times)


def _move(heads: bytes, values: list[int], by: int) -> None:
    """The walks of the last one's page go to another page of its table: entry, address and frame."""
    page = values[(len(heads) - 1) * RECORD_WORDS + 1] >> 12
    size = 8 if any(values[at * RECORD_WORDS + 4] & 0x20 for at, head in enumerate(heads) if head & 15 == MISS) else 4
    leaf = 0
    for at, head in enumerate(heads):
        first = at * RECORD_WORDS
        if head & 15 == ENTRY:
            leaf = first
        elif head & 15 in (MISS, FILL, PAGE) and values[first + 1] >> 12 == page:
            values[first + 1] ^= by << 12
            if head & 15 == FILL:
                values[leaf + 1], values[leaf + 2] = values[leaf + 1] ^ by * size, values[leaf + 2] ^ by << 12
                values[first + 2] ^= by << 12


def _pieces(batches: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    size = RECORD_WORDS * 8
    heads, words = (b"".join(parts) for parts in zip(*batches, strict=True))
    spans = [match.span() for match in stream._UNITS.finditer(heads)]
    return [(heads[first:end], words[first * size : end * size]) for first, end in spans]
