"""Flags of an instruction that begins again are those with which it began (SDM 3A, 6.5): vectors against this host.

The engine computes flags when somebody asks, and SETcc, RCL and RCR ask before they reach memory: a fault there once
found the operands of the instruction before taken for flags, and what was restarted gave another result.
"""

from __future__ import annotations

import pytest

from sandbox.engine import mends, stubs
from sandbox.semantics import campaign
from sandbox.semantics.compare import compare
from sandbox.semantics.host import NoHost
from sandbox.semantics.vector import DATA, EDI, NOTHING, READING, STACK, Oracle, Vector, slot_address
from sandbox.x86.masks import AC
from sandbox.x86.paging import PAGE_SIZE

pytestmark = pytest.mark.skipif(not stubs.native_host(), reason="the mends are x86-64 Linux code")
BORDER = DATA + PAGE_SIZE
REGISTERS = (0x81223344, 0xC5, 0x3344, 0x99887766, STACK + 0x800, 5, DATA, BORDER - 2)
BEFORE = {
    "add": "01d8", "sub": "29d8", "test": "85c0", "inc": "40", "adc": "11d8", "sbb": "19d8", "neg": "f7d8",
    "add, in another block": "01d8eb00", "sub, in another block": "29d8eb00", "stc": "f9", "xor of itself": "31c0",
}  # fmt: skip
ROTATIONS = ["d117", "d11f", "d217", "c01f03", "66d117"]
SETS = [f"0f{0x90 + condition:02x}07" for condition in range(16)]


@pytest.fixture(scope="module")
def both() -> tuple[Oracle, Oracle]:
    assert mends.chosen() == mends.MENDED
    try:
        return campaign.oracles()
    except NoHost as error:
        pytest.skip(error.summary)


def alike(both: tuple[Oracle, Oracle], code: str, **fields: object) -> tuple[str, ...]:
    """In what the two differ, where the host has met its exception, if any."""
    form = "set" if code.find("0f9") >= 0 else "rcl Ev,1"
    given = {"registers": REGISTERS, "eflags": 0x202, "memory": ((BORDER - 4, bytes(range(8))),), **fields}
    vector = Vector(form, bytes.fromhex(code), slot_address(1), **given)  # type: ignore[arg-type]
    (theirs,), (ours,) = both[0].run([vector]), both[1].run([vector])
    assert theirs.restarts or theirs.fault or not vector.absent
    found = compare(vector, theirs, ours)
    return found.parts if found else ()


@pytest.mark.parametrize("left", [NOTHING, READING], ids=["absent", "read-only"])
@pytest.mark.parametrize("before", BEFORE.values(), ids=list(BEFORE))
def test_behind_a_page_fault(both: tuple[Oracle, Oracle], before: str, left: int) -> None:
    """As behind demand paging, or a copy on write."""
    absent = ((DATA, left), (BORDER, left))
    assert {code: alike(both, before + code, absent=absent) for code in ROTATIONS + SETS} == dict.fromkeys(
        ROTATIONS + SETS, ()
    )


@pytest.mark.parametrize("before", BEFORE.values(), ids=list(BEFORE))
def test_at_an_alignment_check(both: tuple[Oracle, Oracle], before: str) -> None:
    registers = (*REGISTERS[:EDI], DATA + 1)
    assert alike(both, before + "d117", registers=registers, eflags=0x202 | AC) == ()


@pytest.mark.parametrize("before", BEFORE.values(), ids=list(BEFORE))
@pytest.mark.parametrize("code", ["d11f", "d117", "0f9207", "0f9c07"])
def test_a_store_into_the_own_block(both: tuple[Oracle, Oracle], code: str, before: str) -> None:
    """INC and DEC, behind, which it turns into others; the engine begins such an instruction again."""
    made = before + code
    tail = "81868a8c" if code.startswith("d11f") else "20222426" if code.startswith("d117") else "9090cccc"
    at = slot_address(1) + len(made) // 2
    registers = (*REGISTERS[:EDI], at)
    assert alike(both, made + tail + "90" * 4, registers=registers, memory=(), writes_code=True) == ()


def test_lock_neg_leaves_the_flags_of_its_result(both: tuple[Oracle, Oracle]) -> None:
    """SDM 2B, NEG: CF is 0 for 0, the others according to the result; 80000000h overflows."""
    for value in (0, 1, 0x80000000, 0xFFFF8001):
        memory = ((DATA, value.to_bytes(4, "little")),)
        vector = Vector(
            "neg Ev", bytes.fromhex("f0f71f"), slot_address(1), (0, 1, 2, 3, STACK, 5, 6, DATA), 0x202, memory
        )
        (theirs,), (ours,) = both[0].run([vector]), both[1].run([vector])
        assert (theirs.fault, compare(vector, theirs, ours)) == (None, None)
        assert bool(theirs.eflags & 1) == bool(value)
