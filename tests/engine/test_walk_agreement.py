"""The pure walk and the engine's MMU agree: verdict, error code, physical address, accessed and dirty bits."""

from __future__ import annotations

from collections import Counter

import pytest

from sandbox.engine.cpu import Cpu
from sandbox.engine.exits import Trap
from sandbox.machine.memory import PhysicalMemory
from sandbox.machine.memory import Reason as Why
from sandbox.x86.paging import RW, US, A, D, P
from sandbox.x86.walk import CR0_PG, CR0_WP, CR4_PAE, CR4_PSE, EFER_NXE, ENGINE, MANUAL, Access, Reason, walk

from .walk_cases import DIRECTORY, FIRST_TARGET, ROOT, TABLE, TARGETS, Case, cases, cells, impossible

CHUNKS, CASES = 8, 66_000
CODE_FRAME, CODE_TABLE, CODE_DIRECTORY = 0x110, 0x111, 0x112
CODE = 0xC0000000
READ, WRITE, FETCH = CODE, CODE + 16, CODE + 32
DONE = 0x80
MARK = b"\xb8"
FULL = P | RW | US | A | D


class Bench:
    """A CPU whose tables are rewritten for every case, with code in both rings at a linear address of its own."""

    def __init__(self) -> None:
        self.memory = PhysicalMemory(64 << 20)
        self.cpu = Cpu()
        self.memory.map_into(self.cpu)
        self.words = self.memory.mutable_words(Why.TABLE)
        self.quads = self.memory.mutable_quads(Why.TABLE)
        for frame in range(FIRST_TARGET, TARGETS):
            self.memory.host_write(frame << 12, MARK + frame.to_bytes(4, "little") + b"\xcd\x80", Why.IMAGE)
        code = bytearray(64)
        code[0:5] = b"\x8b\x46\x01\xcd\x80"
        code[16:21] = b"\x89\x56\x08\xcd\x80"
        code[32:34] = b"\xff\xe6"
        self.memory.host_write(CODE_FRAME << 12, bytes(code), Why.IMAGE)
        self.contexts = {}
        for ring in (0, 3):
            context = self.cpu.new_context()
            context.cr3 = ROOT << 12
            dpl = ring << 13
            for name in ("es", "ds", "fs", "gs", "ss"):
                context.set_segment(name, 0x18 | ring, 0, 0xFFFFFFFF, 0xC09300 | dpl | 0xF0000)
            context.set_segment("cs", 0x10 | ring, 0, 0xFFFFFFFF, 0xC09B00 | dpl | 0xF0000)
            self.contexts[ring] = context
        self.fmt = ""

    def use(self, fmt: str) -> None:
        """Lay out the tables of a format, empty but for the code's page."""
        self.fmt = fmt
        for frame in (ROOT, DIRECTORY, TABLE, CODE_TABLE, CODE_DIRECTORY):
            self.memory.host_fill(frame << 12, 4096, 0, Why.TABLE)
        if fmt == "legacy":
            self.words[(ROOT << 10) + (CODE >> 22)] = CODE_TABLE << 12 | FULL
            self.words[CODE_TABLE << 10] = CODE_FRAME << 12 | FULL
        else:
            self.quads[(ROOT << 9) + (CODE >> 30)] = CODE_DIRECTORY << 12 | P
            self.quads[CODE_DIRECTORY << 9] = CODE_TABLE << 12 | FULL
            self.quads[CODE_TABLE << 9] = CODE_FRAME << 12 | FULL

    def places(self, case: Case) -> list[int]:
        """The index, in entries, of each level's entry."""
        if self.fmt == "legacy":
            return [(ROOT << 10) + (case.linear >> 22), (TABLE << 10) + (case.linear >> 12 & 1023)]
        return [
            (ROOT << 9) + (case.linear >> 30),
            (DIRECTORY << 9) + (case.linear >> 21 & 511),
            (TABLE << 9) + (case.linear >> 12 & 511),
        ]

    def check(self, case: Case) -> None:
        """Run one case on the engine and compare it with the walk."""
        cell = case.cell
        view = self.words if cell.fmt == "legacy" else self.quads
        width = 4 if cell.fmt == "legacy" else 8
        places = self.places(case)
        for place, entry in zip(places, case.entries, strict=False):
            view[place] = entry
        cr0 = 0x33 | CR0_PG | (CR0_WP if cell.wp else 0)
        cr4 = CR4_PSE | (CR4_PAE if cell.fmt == "pae" else 0)
        efer = EFER_NXE if cell.nxe else 0
        access = Access(cell.access == "write", cell.ring == 3, cell.access == "fetch")

        def read(physical: int, size: int) -> int:
            return view[physical // width]

        arguments = {"cr0": cr0, "cr4": cr4, "efer": efer}
        expected = walk(read, ROOT << 12, case.linear, access, **arguments, profile=ENGINE)
        manual = walk(read, ROOT << 12, case.linear, access, **arguments, profile=MANUAL)
        assert expected.reason is cell.reason, (case, expected)
        assert len(expected.levels) == cell.level + 1, (case, expected)
        assert (manual.error_code, manual.physical) == (expected.error_code, expected.physical), case
        context = self.cpu.context = self.contexts[cell.ring]
        context.cr0, context.cr4, context.efer = cr0, cr4, efer
        context.esi = case.linear
        context.edx = 0x5EED
        context.eip = READ if cell.access == "read" else WRITE if cell.access == "write" else FETCH
        self.cpu.flush_tlb()
        exit_ = self.cpu.run(100)
        assert type(exit_) is Trap, (case, exit_)
        for place, entry in zip(places, case.entries, strict=False):
            want = dict(expected.updates).get(place * width, entry)
            assert view[place] == want, (case, hex(view[place]), hex(want), expected)
            view[place] = 0
        if expected.error_code is not None:
            got = (exit_.vector, exit_.error_code, exit_.address, exit_.software)
            assert got == (14, expected.error_code, case.linear + OFFSETS[cell.access], False), (case, exit_, expected)
            return
        assert exit_.vector == DONE and exit_.software, (case, exit_)
        assert expected.physical is not None
        frame = expected.physical >> 12
        if cell.access == "write":
            at = (frame << 12) + 8
            assert self.memory.read_word(at) == 0x5EED, case
            self.words[at >> 2] = 0
        else:
            assert context.eax == frame, (case, hex(context.eax))
            context.eax = 0


OFFSETS = {"read": 1, "write": 8, "fetch": 0}


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_engine_agrees_with_the_walk(chunk: int) -> None:
    """528,000 cases in all; each possible cell is hit at least 100 times over the chunks."""
    bench = Bench()
    hits: Counter[object] = Counter()
    for fmt in ("legacy", "pae"):
        bench.use(fmt)
        for case in cases(chunk, CASES):
            if case.cell.fmt == fmt:
                bench.check(case)
                hits[case.cell] += 1
    assert sum(hits.values()) == CASES
    for cell in cells():
        if not impossible(cell):
            assert hits[cell] * CHUNKS >= 100, cell
        else:
            assert not hits[cell], cell


def test_every_reason_is_possible_somewhere() -> None:
    """The list of impossible cells leaves every reason, ring and access in each format."""
    left = [cell for cell in cells() if not impossible(cell)]
    assert {cell.reason for cell in left if cell.fmt == "legacy"} == set(Reason) - {Reason.NO_EXECUTE}
    assert {cell.reason for cell in left if cell.fmt == "pae"} == set(Reason)
    assert {(cell.ring, cell.access) for cell in left} == {(r, a) for r in (0, 3) for a in OFFSETS}
