"""Segments that a program asks for, the alternate stack, and selectors in a frame: as on Linux 6.18 (x86-64, i386)."""

from __future__ import annotations

import struct

import pytest

from tests.conftest import Run

NAMES = """
        .set SYS_set_thread_area, 243
        .set SYS_modify_ldt, 123
        .set SYS_rt_sigaction, 174
        .set SYS_sigaltstack, 186
        .set SYS_kill, 37
"""
SEG_32BIT, CODE, CONFORMING, EXPAND_DOWN, READ_ONLY, PAGES, ABSENT, USEABLE = 1, 4, 6, 2, 8, 0x10, 0x20, 0x40
EINVAL = 22

AREA = (
    NAMES
    + """
_start: sys set_thread_area, "offset desc"
        neg eax
        sys exit, eax
        .data
desc:   .long -1, {base}, {limit}, {bits}
"""
)
LDT = (
    NAMES
    + """
_start: sys modify_ldt, 0x11, "offset desc", 16
        neg eax
        jnz 1f
        sys modify_ldt, 0, "offset table", 8
        sys write, 1, "offset table", 8
        xor eax, eax
1:      sys exit, eax
        .data
desc:   .long 0, {base}, {limit}, {bits}
        .bss
table:  .skip 8
"""
)


@pytest.mark.parametrize(
    ("bits", "base", "errno"),
    [
        (SEG_32BIT | PAGES | USEABLE, 0x1000, 0),
        (PAGES | USEABLE, 0x1000, EINVAL),
        (SEG_32BIT | PAGES | ABSENT | USEABLE, 0x1000, EINVAL),
        (SEG_32BIT | PAGES | CODE | USEABLE, 0, EINVAL),
        (SEG_32BIT | PAGES | CONFORMING | USEABLE, 0, EINVAL),
        (SEG_32BIT | PAGES | EXPAND_DOWN | USEABLE, 0, 0),
        (SEG_32BIT | PAGES | READ_ONLY | USEABLE, 0, 0),
    ],
)
def test_set_thread_area(run: Run, bits: int, base: int, errno: int) -> None:
    assert run(AREA.format(bits=bits, base=base, limit=0xFFFFF)).status == errno


@pytest.mark.parametrize("bits", [0, READ_ONLY | ABSENT])
def test_set_thread_area_empties(run: Run, bits: int) -> None:
    assert run(AREA.format(bits=bits, base=0, limit=0)).status == 0


@pytest.mark.parametrize(
    ("bits", "base", "limit", "descriptor"),
    [
        (PAGES | USEABLE, 0x1000, 0xFFFFF, 0x009FF3001000FFFF),
        (SEG_32BIT | PAGES | ABSENT | USEABLE, 0x1000, 0xFFFFF, 0x00DF73001000FFFF),
        (SEG_32BIT | PAGES | CODE | USEABLE, 0, 0xFFFFF, 0x00DFFB000000FFFF),
        (SEG_32BIT | PAGES | CONFORMING | ABSENT | USEABLE, 0, 0xFFFFF, 0x00DF7F000000FFFF),
        (0, 0, 0, 0x0000F30000000000),
        (READ_ONLY | ABSENT, 0, 0, 0),
    ],
)
def test_modify_ldt(run: Run, bits: int, base: int, limit: int, descriptor: int) -> None:
    """All zero is a segment here, unlike in set_thread_area.  (Bit 40, accessed, is set from the start.)"""
    found = run(LDT.format(bits=bits, base=base, limit=limit))
    assert (found.status, int.from_bytes(found.stdout, "little")) == (0, descriptor)


def test_a_register_follows_its_entry(run: Run) -> None:
    text = (
        NAMES
        + """
_start: sys set_thread_area, "offset desc"
        mov eax, [desc]
        lea eax, [eax * 8 + 3]
        mov gs, ax
        mov dword ptr [desc + 4], offset second
        sys set_thread_area, "offset desc"
        mov ebx, gs:[0]
        sys exit, ebx
        .data
desc:   .long -1, first, 0xfffff, 0x51
first:  .long 1
second: .long 2
"""
    )
    assert run(text).status == 2


FRAME = (
    NAMES
    + """
_start: sys rt_sigaction, 10, "offset change", 0, 8
        sys rt_sigaction, 11, "offset broken", 0, 8
        sys getpid
        sys kill, eax, 10
        sys exit, 99
        # sigcontext in the old frame, 8 bytes up: CS at +60, SS at +72, trapno at +48, err at +52.
edit:   mov dword ptr [esp + 8 + {place}], {selector}
        ret
tell:   cmp dword ptr [esp + 8 + 48], 13
        jne 1f
        cmp dword ptr [esp + 8 + 52], {error}
        jne 2f
        pass
1:      sys exit, 1
2:      sys exit, 2
        .data
change: .long edit, 0, 0, 0, 0
broken: .long tell, 0, 0, 0, 0
"""
)


@pytest.mark.parametrize("place", [60, 72], ids=["cs", "ss"])
@pytest.mark.parametrize(("selector", "error"), [(0, 0), (3, 0), (8, 8), (0x50, 0x50), (0x1000, 0x1000)])
def test_sigreturn_with_bad_selectors(run: Run, place: int, selector: int, error: int) -> None:
    """Handlers without SA_RESTORER: the frame begins with the return address and the number."""
    assert run(FRAME.format(place=place, selector=selector, error=error)).status == 0


ALTERNATE = (
    NAMES
    + """
_start: sys sigaltstack, "offset new", 0
        sys rt_sigaction, 10, "offset action", 0, 8
        sys getpid
        sys kill, eax, 10
        sys sigaltstack, 0, "offset old"
        cmp dword ptr [old + 4], {after:#x}
        jne fail2
        pass
fail2:  sys exit, 2
handle: sys sigaltstack, 0, "offset old"
        cmp dword ptr [old + 4], 2
        jne fail3
        ret
fail3:  sys exit, 3
        .data
new:    .long stack, 0x80000000, 16384
action: .long handle, {flags:#x}, 0, 0, 0
        .bss
old:    .skip 12
stack:  .skip 16384
"""
)


@pytest.mark.parametrize(
    ("flags", "after"),
    [(0x08000004, 0x80000000), (0x00000004, 0x80000000), (0x08000000, 2)],
    ids=["rt frame", "rt frame elsewhere", "old frame"],
)
def test_autodisarm(run: Run, flags: int, after: int) -> None:
    """The stack is off in every handler, and back only with an rt frame, which has it."""
    assert run(ALTERNATE.format(flags=flags, after=after)).status == 0


@pytest.mark.parametrize("bits", [0x51, 0x11, 0x41, 0x59, 0x01, 0x53, 0x5B])
def test_what_was_set_is_shown(run: Run, bits: int) -> None:
    """get_thread_area(2), as a Linux 6.18 answers for its own entries; an empty one shows what empties it."""
    result = run(
        NAMES
        + f"""
        .set SYS_get_thread_area, 244
_start: sys set_thread_area, "offset wanted"
        sys get_thread_area, "offset found"
        mov [found + 32], eax
        sys get_thread_area, "offset found + 16"
        mov [found + 36], eax
        sys get_thread_area, "offset none"
        mov [found + 40], eax
        sys write, 1, "offset found", 44
        pass
        .data
wanted: .long 7, 0x12345678, 0xABCDE, {bits}
found:  .long 7, 0, 0, 0, 8, 1, 1, 1, 0, 0, 0
none:   .long -1
"""
    )
    assert struct.unpack("<11i", result.stdout) == (7, 0x12345678, 0xABCDE, bits, 8, 0, 0, 0x28, 0, 0, -EINVAL)
