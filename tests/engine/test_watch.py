"""Watchpoints: the host code against its source, and stops against what SDM volume 2 says that instructions access."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.engine import feedtest, stubs, tlbfeed, watchcode, watchtest
from sandbox.engine.exits import Halt, Stepped, Trap, Watched
from sandbox.engine.library import UnknownEngine
from sandbox.engine.watch import ACCESS, CR3, READ, WALK, WRITE, NoWatch, Watches
from sandbox.x86.paging import A, D
from sandbox.x86.walk import Access, walk
from tests.engine.board import CODE, DATA, DIRECTORY, Board, assembled
from tests.hosttools import host_code

SOURCE = Path(stubs.__file__).parent / "native" / "watch.S"
PAGE = DATA + 0x1000
pytestmark = pytest.mark.skipif(not stubs.native_host(), reason="watchpoints are x86-64 Linux code")


@pytest.fixture(params=[False, True], ids=["two-level", "PAE"])
def board(request: pytest.FixtureRequest) -> Iterator[Board]:
    made = Board(pae=request.param)
    yield made
    made.cpu.close()


@pytest.mark.skipif(not shutil.which("as"), reason="no GNU as")
def test_bytes_are_the_sources(tmp_path: Path) -> None:
    code, labels = host_code(SOURCE, tmp_path)
    assert code[: labels["end_of_code"]] == watchcode.CODE
    assert {name: labels[name] for name in watchcode.OFFSETS} == watchcode.OFFSETS
    fields = {name: 4096 + getattr(watchcode.Data, name).offset for name, *_ in watchcode.Data._fields_}
    assert fields == {name: labels[name] for name in fields}
    assert 4096 + ctypes.sizeof(watchcode.Data) == len(code)


CASES = [
    ("mov eax, [{0}+0x10]", (0x10, 0x14, READ), [(0x10, 4, False, 0x13121110, 0x13121110)]),
    ("mov dword ptr [{0}+0x10], 7", (0x13, 0x14, WRITE), [(0x10, 4, True, 0x13121110, 7)]),
    ("mov dword ptr [{0}+0x10], 7", (0x14, 0x15, WRITE), []),
    ("mov dword ptr [{0}+0x10], 7", (0x10, 0x14, READ), []),
    ("add dword ptr [{0}+0x10], 7", (0x10, 0x11, WRITE), [(0x10, 4, True, 0x13121110, 0x13121117)]),
    (
        "add dword ptr [{0}+0x10], 7",
        (0x10, 0x11, READ | WRITE),
        [(0x10, 4, False, 0x13121110, 0x13121110), (0x10, 4, True, 0x13121110, 0x13121117)],
    ),
    # unaligned, in one page
    ("mov eax, [{0}+0x11]", (0x10, 0x11, READ), []),
    ("mov eax, [{0}+0x11]", (0x11, 0x12, READ), [(0x11, 4, False, 0x14131211, 0x14131211)]),
    ("mov eax, [{0}+0x11]", (0x14, 0x15, READ), [(0x11, 4, False, 0x14131211, 0x14131211)]),
    ("mov eax, [{0}+0x11]", (0x15, 0x18, READ), []),
    ("mov ax, [{0}+0x13]", (0x12, 0x13, READ), []),
    ("mov ax, [{0}+0x13]", (0x14, 0x15, READ), [(0x13, 2, False, 0x1413, 0x1413)]),
    ("fld qword ptr [{0}+3]", (0xA, 0xB, READ), [(3, 8, False, 0x0A09080706050403, 0x0A09080706050403)]),
    ("fld qword ptr [{0}+3]", (0xB, 0x10, READ), []),
    ("fld qword ptr [{0}+3]", (0, 3, READ), []),
    ("mov dword ptr [{0}+0x11], 7", (0x14, 0x15, WRITE), [(0x11, 4, True, 0x14131211, 7)]),
    ("mov dword ptr [{0}+0x11], 7", (0x0, 0x11, WRITE), []),
    ("mov dword ptr [{0}+0x11], 7", (0x15, 0x18, WRITE), []),
    # at the end of a page, and over its edge: bytes 0xfe and 0xff before it are 0xee
    ("mov eax, [{0}+0xffc]", (0xFFF, 0x1000, READ), [(0xFFC, 4, False, 0, 0)]),
    ("mov dword ptr [{0}-2], 0x11223344", (-1, 0, WRITE), [(-2, 4, True, 0x0100EEEE, 0x11223344)]),
    ("mov dword ptr [{0}-2], 0x11223344", (0, 1, WRITE), [(-2, 4, True, 0x0100EEEE, 0x11223344)]),
    ("mov dword ptr [{0}-2], 0x11223344", (2, 3, WRITE), []),
    ("mov dword ptr [{0}-2], 0x11223344", (-3, -2, WRITE), []),
    ("mov word ptr [{0}-1], 0x1122", (0, 1, WRITE), [(-1, 2, True, 0x00EE, 0x1122)]),
    ("mov eax, [{0}-2]", (-1, 0, READ), [(-2, 4, False, 0x0100EEEE, 0x0100EEEE)]),
    ("mov eax, [{0}-2]", (1, 2, READ), [(-2, 4, False, 0x0100EEEE, 0x0100EEEE)]),
    ("mov eax, [{0}-2]", (2, 3, READ), []),
    ("movq qword ptr [{0}-3], mm0", (4, 5, WRITE), [(-3, 8, True, 0x0403020100EEEEEE, 0)]),
    ("push dword ptr [{0}+0x20]", (0x20, 0x21, READ | WRITE), [(0x20, 4, False, 0x23222120, 0x23222120)]),
]


def _stops(board: Board, watches: Watches) -> list[tuple[int, int, bool]]:
    """Run to HLT: where each stop was, as an offset in CODE."""
    stops = []
    while isinstance(exit_ := board.cpu.run(1000), Watched):
        hit = watches.stopped_by(board.cpu)
        assert (hit.eip, hit.new, hit.cpu) == (exit_.eip, None, 0)
        stops.append((hit.linear - PAGE, exit_.eip - CODE, hit.write))
        assert len(stops) < 100
    assert isinstance(exit_, Halt)
    return stops


@pytest.mark.parametrize("physical", [False, True], ids=["linear", "physical"])
@pytest.mark.parametrize(("text", "range_", "wanted"), CASES)
def test_an_access_is_seen_exactly(
    board: Board,
    text: str,
    range_: tuple[int, int, int],
    wanted: list[tuple[int, int, bool, int, int]],
    physical: bool,
) -> None:
    """What SDM volume 2 says that the instruction accesses, whether or not its neighbours are watched."""
    board.load(f"nop\n{text.format(PAGE)}\nhlt", ring=0)
    board.poke(PAGE - 4, b"\xee" * 4 + bytes(range(0x40)))
    first, end, flags = range_
    watches = Watches([board.cpu])
    base = board.physical(PAGE + first) - first if physical else PAGE
    watches.add(base + first, base + end, flags, physical=physical)
    assert _stops(board, watches) == [(at, 1, write) for at, _, write, *_ in wanted[:1]]
    hits = watches.hits()
    assert [(hit.linear - PAGE, hit.size, hit.write, hit.old, hit.new) for hit in hits] == wanted
    assert all(hit.physical == board.physical(hit.linear) and hit.eip == CODE + 1 for hit in hits)


def test_a_stop_is_before_the_access(board: Board) -> None:
    board.load(f"nop\nmov dword ptr [{PAGE}], 7\nhlt", ring=0)
    watches = Watches([board.cpu])
    watches.add(PAGE, PAGE + 4, WRITE)
    assert isinstance(board.cpu.run(1000), Watched)
    assert board.peek(PAGE) == 0
    assert isinstance(board.cpu.run(1000, 1), Stepped)
    assert board.peek(PAGE) == 7


def test_a_physical_watch_sees_every_alias_and_a_linear_one_follows_its_mapping(board: Board) -> None:
    frame, other = board.physical(PAGE), board.physical(PAGE + 0x1000)
    board.set_entry(DATA, board.entry(PAGE))
    board.load(f"mov eax, [{DATA}]\nmov eax, [{PAGE + 0x1000}]\nmov eax, [{PAGE}]\nhlt", ring=0)
    watches = Watches([board.cpu])
    number = watches.add(frame, frame + 4, READ, physical=True)
    assert [at for at, *_ in _stops(board, watches)] == [DATA - PAGE, 0]
    assert {hit.physical for hit in watches.hits()} == {frame}
    watches.remove(number)
    watches.add(PAGE, PAGE + 4, READ)
    board.set_entry(PAGE, board.entry(PAGE + 0x1000))
    board.start(ring=0)
    assert [at for at, *_ in _stops(board, watches)] == [0]
    assert [hit.physical for hit in watches.hits()] == [other]


def test_arming_drops_no_translation(board: Board) -> None:
    """A CPU that was not told of a new entry goes on with the old one, watched or not (SDM 3A, 4.10.4)."""
    board.load(f"mov eax, [{PAGE}]\nnop\nmov ebx, [{PAGE}]\nhlt", ring=0)
    board.poke(PAGE, b"old!")
    board.poke(PAGE + 0x1000, b"new!")
    old = board.physical(PAGE)
    assert isinstance(board.cpu.run(100, 2), Stepped)
    board.set_entry(PAGE, board.entry(PAGE + 0x1000))
    watches = Watches([board.cpu])
    watches.add(old, old + 4, READ, physical=True)
    watches.add(PAGE, PAGE + 4, WRITE)
    assert isinstance(board.cpu.run(100), Watched)
    assert watches.stopped_by(board.cpu).old == int.from_bytes(b"old!", "little")
    assert isinstance(board.cpu.run(100), Halt)
    watches.clear()
    board.start(ring=0)
    assert isinstance(board.cpu.run(100), Halt)
    assert board.cpu.context.ebx == int.from_bytes(b"new!", "little")


@pytest.mark.parametrize(("text", "bits"), [("mov eax, [{0}]", A), ("mov [{0}], eax", A | D)])
def test_a_walk_that_marks_an_entry_is_seen(board: Board, text: str, bits: int) -> None:
    """SDM 3A, 4.8: the processor sets the accessed bit of each entry it uses, and the dirty bit of the leaf."""
    board.load(f"nop\n{text.format(PAGE)}\nhlt", ring=0)
    entry = board.entry(PAGE)
    place = board.place(PAGE)
    watches = Watches([board.cpu])
    watches.add(place, place + 4, WRITE, physical=True)
    assert isinstance(exit_ := board.cpu.run(1000), Watched)
    hit = watches.stopped_by(board.cpu)
    assert (hit.kind, hit.physical, exit_.eip, board.entry(PAGE)) == (WALK, place, CODE + 1, entry)
    assert isinstance(board.cpu.run(1000), Halt)
    (hit,) = watches.hits()
    assert (hit.kind, hit.linear, hit.old, hit.new) == (WALK, PAGE, entry & 0xFFFFFFFF, (entry | bits) & 0xFFFFFFFF)
    assert board.entry(PAGE) == entry | bits


def test_a_store_to_a_table_is_seen(board: Board) -> None:
    """The first MB is mapped one to one: the tables are data there."""
    place = board.place(PAGE)
    board.load(f"mov dword ptr [{place}], 0\nhlt", ring=0)
    entry = board.entry(PAGE)
    watches = Watches([board.cpu])
    watches.add(place, place + 4, WRITE, physical=True)
    assert isinstance(board.cpu.run(1000), Watched)
    assert isinstance(board.cpu.run(1000), Halt)
    (hit,) = watches.hits()
    assert (hit.kind, hit.linear, hit.physical, hit.old, hit.new) == (ACCESS, place, place, entry & 0xFFFFFFFF, 0)


def test_loads_of_cr3_are_seen(board: Board) -> None:
    board.load("nop\nmov eax, cr3\nor eax, 8\nmov cr3, eax\ninc ecx\nhlt", ring=0)
    watches = Watches([board.cpu])
    watches.watch_cr3(True)
    assert isinstance(exit_ := board.cpu.run(1000), Watched)
    hit = watches.stopped_by(board.cpu)
    assert (hit.kind, hit.old, hit.new) == (CR3, DIRECTORY, DIRECTORY | 8)
    assert (exit_.eip, board.cpu.context.cr3) == (CODE + 10, DIRECTORY | 8)
    assert isinstance(board.cpu.run(1000), Halt)
    watches.watch_cr3(False)
    board.start(ring=0)
    assert isinstance(board.cpu.run(1000), Halt)


def test_loads_of_cr3_on_another_machine_are_its_own_matter(board: Board) -> None:
    other = Board(pae=False)
    other.load("mov eax, cr3\nmov cr3, eax\ninc ecx\nhlt", ring=0)
    watches, others = Watches([board.cpu]), Watches([other.cpu])
    watches.watch_cr3(True)
    assert isinstance(other.cpu.run(1000), Halt)
    others.watch_cr3(True)
    watches.watch_cr3(False)
    other.start(ring=0)
    assert isinstance(other.cpu.run(1000), Watched)
    other.cpu.close()


@pytest.mark.parametrize("feed_first", [False, True])
def test_a_feed_of_the_tlb_and_a_watch_do_not_know_of_each_other(board: Board, feed_first: bool) -> None:
    seen: list[int] = []
    watches = Watches([board.cpu])
    place = board.place(PAGE)
    if not feed_first:
        watches.add(place, place + 4, WRITE, physical=True)
    feed = feedtest.watch([board.cpu], lambda batch: seen.extend(head & 15 for head in batch.heads))
    feed.switch(True)
    if feed_first:
        watches.add(place, place + 4, WRITE, physical=True)
    board.load(f"mov eax, [{PAGE}]\nhlt", ring=0)
    assert isinstance(board.cpu.run(1000), Watched)
    feed.switch(False)
    assert {tlbfeed.MISS, tlbfeed.FILL} <= set(seen)
    assert isinstance(board.cpu.run(1000), Halt)
    board.set_entry(PAGE, board.entry(PAGE) & ~A)
    board.start(ring=0)
    assert isinstance(board.cpu.run(1000), Watched)


def test_two_machines_are_watched_apart(board: Board) -> None:
    twin = Board(board.pae)
    ours, theirs = Watches([board.cpu]), Watches([twin.cpu])
    ours.add(PAGE, PAGE + 4, READ)
    theirs.add(PAGE + 8, PAGE + 12, READ)
    for each, wanted in ((board, Watched), (twin, Halt)):
        each.load(f"mov eax, [{PAGE}]\nhlt", ring=0)
        assert isinstance(each.cpu.run(1000), wanted)
    twin.cpu.close()
    assert isinstance(board.cpu.run(1000), Halt)
    assert len(ours.hits()) == 1


def test_wrong_ranges(board: Board) -> None:
    for first, end, flags in ((1, 1, READ), (-1, 2, READ), (0, 1 << 33, WRITE), (0, 4, 0)):
        with pytest.raises(NoWatch):
            Watches([board.cpu]).add(first, end, flags)
    watches = Watches([board.cpu])
    with pytest.raises(NoWatch):
        for at in range(watchcode.MOST + 1):
            watches.add(at, at + 1, READ)
    watches.clear()


MIXED = f"""mov esi, {DATA}
mov edi, {PAGE - 8}
mov ecx, 20
cld
rep movsb
mov esp, {PAGE + 0x40}
pusha
mov dword ptr [{PAGE - 2}], 0x55667788
lock xadd [{PAGE + 8}], eax
lock cmpxchg8b [{PAGE + 8}]
fxsave [{PAGE + 0x200}]
hlt"""


def _finish(board: Board, watches: Watches | None) -> tuple[int, int, bytes, dict[str, int]]:
    """Stops, clock, memory and registers at HLT."""
    board.load(MIXED, ring=0)
    for at in range(0x1000):
        board.memory[board.physical(DATA) + at] = at * 7 + 3 & 255
    cpu, stops, began = board.cpu, 0, board.cpu.clock
    if watches is not None:
        watches.add(PAGE, PAGE + 0x210, READ | WRITE)
    while not isinstance(exit_ := cpu.run(10_000), Halt):
        assert isinstance(exit_, Watched) and watches is not None
        stops += 1
    return stops, cpu.clock - began, bytes(board.memory), cpu.context.general()


def test_a_watched_run_ends_as_one_without(board: Board) -> None:
    plain, twin = _finish(board, None), Board(pae=board.pae)
    watched = _finish(twin, Watches([twin.cpu]))
    assert watched[1:] == plain[1:]
    # 12 of the 20 bytes moved lie in the page; then PUSHA, the store over the edge, XADD, CMPXCHG8B, FXSAVE
    assert watched[0] == 12 + 5
    twin.cpu.close()


def test_a_watch_of_one_cpu_does_not_stop_another(board: Board) -> None:
    other = Board(board.pae, index=1, memory=board.memory)
    watches = Watches([board.cpu, other.cpu])
    watches.add(PAGE, PAGE + 4, READ, cpu=other.cpu)
    for each, wanted in ((board, Halt), (other, Watched)):
        each.load(f"mov eax, [{PAGE}]\nhlt", ring=0)
        assert isinstance(each.cpu.run(100), wanted)
    watches.clear()
    other.cpu.close()


# -- DR0 to DR3 of the guest's own (SDM 3B, 17.2.4 and 17.3.1.2) ------------------------------------------------------

STORES, BOTH = 1, 3
LENGTHS = {1: 0, 2: 1, 4: 3, 8: 2}


def dr7(number: int, kind: int, size: int, how: int = 1) -> int:
    """Of a local breakpoint."""
    return how << 2 * number | (kind | LENGTHS[size] << 2) << 16 + 4 * number


@pytest.mark.parametrize(
    ("text", "number", "kind", "size", "at", "traps"),
    [
        ("mov dword ptr [{0}], 7", 0, STORES, 4, 0, True),
        ("mov dword ptr [{0}], 7", 3, STORES, 1, 3, True),
        ("mov dword ptr [{0}], 7", 1, STORES, 1, 4, False),
        ("mov eax, [{0}]", 0, STORES, 4, 0, False),
        ("mov eax, [{0}]", 2, BOTH, 2, 2, True),
        ("mov eax, [{0}+1]", 0, BOTH, 1, 0, False),
        ("mov eax, [{0}+1]", 0, BOTH, 1, 4, True),
        ("mov eax, [{0}-2]", 0, BOTH, 2, 0, True),
        ("mov dword ptr [{0}+6], 7", 0, STORES, 4, 4, True),
        ("inc dword ptr [{0}]", 0, STORES, 4, 2, True),
        ("push dword ptr [{0}]", 0, BOTH, 4, 0, True),
    ],
)
@pytest.mark.parametrize("steps", [None, 1, 100])
def test_a_data_breakpoint_traps_behind_its_instruction(
    board: Board, text: str, number: int, kind: int, size: int, at: int, traps: bool, steps: int | None
) -> None:
    board.load(f"{text.format(PAGE)}\nnop\nhlt", ring=0)
    state, length = board.cpu.context, len(assembled(text.format(PAGE)))
    state.set_debug_register(number, PAGE + at)
    state.set_debug_register(7, dr7(number, kind, size))
    exit_ = board.cpu.run(100, steps)
    if not traps:
        assert isinstance(exit_, Stepped if steps == 1 else Halt)
        return
    assert exit_ == Trap(CODE + length, 1, 0, 0, 0, False)
    assert state.debug_register(6) & 15 == 1 << number
    assert isinstance(board.cpu.run(100), Halt)


def test_the_guest_arms_it_itself_and_repeated_instructions_trap_after_each(board: Board) -> None:
    arm = f"mov eax, {PAGE + 4}\nmov dr1, eax\nmov eax, {dr7(1, STORES, 2)}\nmov dr7, eax\n"
    board.load(f"mov eax, [{PAGE}]\n{arm}cld\nmov edi, {PAGE}\nmov ecx, 8\nrep stosb\nhlt", ring=0)
    seen = []
    while isinstance(exit_ := board.cpu.run(1000), Trap):
        assert exit_.vector == 1
        seen.append((board.cpu.context.edi - PAGE, board.cpu.context.ecx))
    assert seen == [(5, 3), (6, 2)]
    assert isinstance(exit_, Halt)


def test_a_breakpoint_that_faults_first_is_no_trap(board: Board) -> None:
    board.unmap(PAGE)
    board.load(f"mov dword ptr [{PAGE}], 7\nhlt", ring=0)
    board.cpu.context.set_debug_register(0, PAGE)
    board.cpu.context.set_debug_register(7, dr7(0, STORES, 4))
    exit_ = board.cpu.run(100)
    assert isinstance(exit_, Trap) and (exit_.vector, exit_.address) == (14, PAGE)


def test_the_self_test_passes_and_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever knows the wrong caller takes a piece of an unaligned load for the load."""
    watchtest.verify()
    monkeypatch.setattr(watchcode.install(), "again", 0)
    with pytest.raises(UnknownEngine, match="an access by"):
        watchtest.verify()


def test_the_entries_of_a_walk_are_watched(board: Board) -> None:
    """By the CPU's own marks, the upper entry's first, and by stores through another mapping (SDM 3A, 4.8)."""
    place, size = board.place(PAGE), 8 if board.pae else 4
    board.load(f"mov eax, [{PAGE}]\nor dword ptr [{place}], 0x200\nmov ebx, [{PAGE + 0x1000}]\nhlt", ring=0)
    before, state = board.entry(PAGE), board.cpu.context

    def read(physical: int, size: int) -> int:
        return int.from_bytes(board.memory[physical : physical + size], "little")

    levels = walk(read, state.cr3, PAGE, Access(), cr0=state.cr0, cr4=state.cr4, efer=state.efer).levels
    assert [each.physical for each in levels][-1] == place
    assert len(levels) == (3 if board.pae else 2)
    watches = Watches([board.cpu])
    numbers = [watches.add(each.physical, each.physical + size, WRITE, physical=True) for each in levels]
    kinds = []
    while isinstance(board.cpu.run(100), Watched):
        hit = watches.stopped_by(board.cpu)
        assert hit.physical is not None
        kinds.append((hit.kind, hit.physical & ~7 == place & ~7))
    assert kinds[0] == (WALK, False) and (ACCESS, True) in kinds, "the upper entry is marked first"
    leaf = [hit for hit in watches.hits() if hit.physical == place]
    assert [(hit.old, hit.new) for hit in leaf if hit.kind == WALK] == [(before & 0xFFFFFFFF, before & 0xFFFFFFFF | A)]
    assert leaf[-1].new == before & 0xFFFFFFFF | A | 0x200
    for number in numbers:
        watches.remove(number)
    board.start(ring=0)
    assert isinstance(board.cpu.run(100), Halt)


def test_a_host_without_the_code_says_so(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stubs, "native_host", lambda: False)
    with pytest.raises(NoWatch, match="cannot be watched on this host"):
        Watches([board.cpu])
