"""Error code and address of page faults, form by form and across page borders, against captures from hardware."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox.engine import stubs
from sandbox.engine.exits import Exit, Trap
from sandbox.x86.paging import PAGE_SIZE, RW, US, A, D, P
from sandbox.x86.walk import Reason

from .captured_faults import FORMS
from .walk_bench import Bench
from .walk_cases import CODE_FRAMES, LEGACY_ROOT, LOW_TABLES, PAGES, TABLES, Case, Cell

CODE = CODE_FRAMES[0] + 0x100
TABLE = LOW_TABLES[0] + TABLES[0] * PAGE_SIZE
BASE = 0x10000000
PF, DONE = 14, 0x80
PREPARE = "db e3 d9 e8 d9 e8 66 0f 76 c0"
"""``fninit; fld1; fld1; pcmpeqd xmm0, xmm0``."""


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.cpu.close()


def run(bench: Bench, code: bytes, linear: int, pages: tuple[int, ...]) -> Exit:
    """Run an instruction in ring 3 with EDI at ``linear``, over these entries from BASE on."""
    at = bench.frames[CODE // PAGE_SIZE] + CODE % PAGE_SIZE
    bench.bytes[at : at + len(code) + 2] = code + b"\xcd\x80"
    bench.cpu.drop_all_code()
    entries = [(LOW_TABLES[0] + LEGACY_ROOT + (BASE >> 22) * 4, TABLE | P | RW | US)]
    entries += [(TABLE + number * 4, entry) for number, entry in enumerate(pages)]
    cell = Cell("legacy", PAGE_SIZE, "PTE", Reason.MAPPED, 3, True, False, "read")
    case = Case(cell, linear, entries, 0x80010031, LOW_TABLES[0] + LEGACY_ROOT, 0x200, 0, 0)
    bench.set_entries(case)
    context = bench.cpu.context = bench.contexts[3]
    context.cr0, context.cr3, context.cr4, context.efer = case.cr0, case.cr3, case.cr4, 0
    context.eax = context.ecx = context.edx = 0
    context.edi = context.ebx = linear
    context.esp = CODE + 0x800
    context.eip = CODE
    bench.cpu.flush_tlb()
    exit_ = bench.cpu.run(1000)
    bench.clear_entries(case)
    return exit_


@pytest.mark.parametrize(("text", "code", "absent", "read_only"), FORMS)
def test_error_code_of_a_form(bench: Bench, text: str, code: str, absent: int, read_only: int | None) -> None:
    """As on hardware: what reads and writes its operand faults as a write."""
    exit_ = run(bench, bytes.fromhex(code), BASE, (0,))
    assert type(exit_) is Trap and (exit_.vector, exit_.error_code, exit_.address) == (PF, absent, BASE)
    exit_ = run(bench, bytes.fromhex(code), BASE, (PAGES[0] | P | US,))
    assert type(exit_) is Trap
    if text.startswith("arpl"):
        read_only = 7  # the engine writes the selector back though nothing was adjusted
    assert (exit_.vector, exit_.error_code) == ((DONE, 0) if read_only is None else (PF, read_only))


@pytest.mark.parametrize(
    ("text", "code", "width"),
    [
        ("mov ax, [edi]", "66 8b 07", 2),
        ("mov eax, [edi]", "8b 07", 4),
        ("mov [edi], ax", "66 89 07", 2),
        ("mov [edi], eax", "89 07", 4),
        ("add [edi], eax", "01 07", 4),
        ("lock add [edi], eax", "f0 01 07", 4),
        ("xchg [edi], eax", "87 07", 4),
        ("cmpxchg8b [edi]", "0f c7 0f", 8),
        ("fld qword ptr [edi]", "dd 07", 8),
        ("fstp qword ptr [edi]", "dd 1f", 8),
        ("fld tbyte ptr [edi]", "db 2f", 10),
        ("fstp tbyte ptr [edi]", "db 3f", 10),
        ("movups xmm1, [edi]", "0f 10 0f", 16),
        ("movups [edi], xmm0", "0f 11 07", 16),
        ("movq [edi], xmm0", "66 0f d6 07", 8),
    ],
)
@pytest.mark.parametrize("offset", [0xFFF, 0xFF9])
def test_an_access_across_a_page_border(bench: Bench, text: str, code: str, width: int, offset: int) -> None:
    """Hardware: CR2 is the first byte that cannot be reached, and nothing was stored before it."""
    machine_code = bytes.fromhex(PREPARE) + bytes.fromhex(code)
    mapped = PAGES[0] | P | RW | US | A | D
    before = bytes(bench.bytes[bench.slot(PAGES[0]) * 4 :][:PAGE_SIZE])
    exit_ = run(bench, machine_code, BASE + offset, (0, mapped, 0))
    assert type(exit_) is Trap and (exit_.vector, exit_.address) == (PF, BASE + offset)
    exit_ = run(bench, machine_code, BASE + PAGE_SIZE + offset, (0, mapped, 0))
    assert type(exit_) is Trap
    if offset + width > PAGE_SIZE:
        assert (exit_.vector, exit_.address) == (PF, BASE + 2 * PAGE_SIZE)
        assert bench.bytes[bench.slot(PAGES[0]) * 4 :][:PAGE_SIZE] == before
    else:
        assert exit_.vector == DONE


@pytest.mark.skipif(not stubs.native_host(), reason="the engine's own helpers store piece by piece")
@pytest.mark.parametrize(("text", "code", "size"), [("fnstenv", "d9 37", 28), ("fnsave", "dd 37", 108)])
def test_fnstenv_and_fnsave_across_a_page_border(bench: Bench, text: str, code: str, size: int) -> None:
    """The AMD host probes the last word first: CR2 is in the structure's end, and nothing is stored."""
    at = bench.slot(PAGES[0]) * 4 + 0xFF8
    bench.bytes[at : at + 8] = bytes(8)
    mapped = PAGES[0] | P | RW | US | A | D
    exit_ = run(bench, bytes.fromhex(PREPARE + code), BASE + PAGE_SIZE + 0xFF9, (0, mapped, 0))
    assert type(exit_) is Trap and (exit_.vector, exit_.error_code) == (PF, 6)
    assert exit_.address == BASE + PAGE_SIZE + 0xFF9 + size - 1 & ~3
    assert bytes(bench.bytes[at : at + 8]) == bytes(8)
