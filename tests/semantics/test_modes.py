"""Vectors single-stepped, with alignment checked, in code of 16 bits, and such that store into their own code."""

from __future__ import annotations

import pytest

from sandbox.cli import main
from sandbox.engine import stubs
from sandbox.semantics import campaign, generate, modes, selfmod
from sandbox.semantics.campaign import Tally
from sandbox.semantics.corpus import Corpus, pack, unpack
from sandbox.semantics.processor import Processor
from sandbox.semantics.serial import vector_from_dict, vector_to_dict
from sandbox.semantics.vector import (
    CODE,
    CODE16_SELECTOR,
    DATA,
    EBX,
    ECX,
    EDI,
    SELECTORS,
    STACK,
    Fault,
    Oracle,
    Vector,
)
from sandbox.x86.masks import AC, TF
from sandbox.x86.paging import PAGE_SIZE

pytestmark = pytest.mark.skipif(not stubs.native_host(), reason="the mends are x86-64 Linux code")
REGISTERS = (0x11223344, 6, 3, 4, STACK + 0x1000, 5, DATA, DATA + 64)
NARROW = (CODE16_SELECTOR, *SELECTORS[1:])
STEPPED, CHECKED = 0x202 | TF, 0x202 | AC
AT = CODE + 24


def vector(code: str, **fields: object) -> Vector:
    made = {"registers": REGISTERS, "eflags": 0x202, "eip": AT, **fields}
    return Vector("test", bytes.fromhex(code), **made)  # type: ignore[arg-type]


def test_a_step_ends_behind_one_instruction(oracle: Oracle) -> None:
    """SDM 3B, 17.3.1.4: #DB with EIP of the next instruction, between two steps of a repeated one that of itself; a
    fault comes instead (6.9); none behind a load of SS (6.8.3), whose next instruction here is the INT3."""
    step, repeated, fault, stack = oracle.run(
        [vector(code, eflags=STEPPED) for code in ("40", "f3aa", "8b0500000000", "8ed18ed1")]
    )
    assert (step.fault, step.eip, step.registers[0]) == (Fault(1), AT + 1, REGISTERS[0] + 1)
    assert step.eflags & TF
    assert (repeated.fault, repeated.eip) == (Fault(1), AT)
    assert (repeated.registers[ECX], repeated.registers[EDI]) == (5, DATA + 65)
    assert (fault.fault, fault.eip) == (Fault(14, 4), AT)
    assert stack.fault == Fault(13, 4)  # SS from ECX: 6 is no selector of ring 3's


def test_alignment_is_checked(oracle: Oracle) -> None:
    """SDM 3A, 6.15, #AC: error code 0, CR2 left alone; bytes have no alignment, and nothing is checked without AC."""
    registers = (*REGISTERS[:7], DATA + 65)
    word, byte, aligned, unchecked = oracle.run(
        [
            vector("8907", registers=registers, eflags=CHECKED),
            vector("8807", registers=registers, eflags=CHECKED),
            vector("8907", eflags=CHECKED),
            vector("8907", registers=registers),
        ]
    )
    assert (word.fault, word.eip, word.written) == (Fault(17), AT, ())
    assert [each.fault for each in (byte, aligned, unchecked)] == [None] * 3
    assert [bool(each.eflags & AC) for each in (byte, aligned, unchecked)] == [True, True, False]


def test_code_of_16_bits(oracle: Oracle) -> None:
    """SDM 2A, 2.1.1 and table 2-1: B8 has a word, 66h B8 a doubleword; [BX+SI] is of 16 bits, 67h makes it 32."""
    registers = (*REGISTERS[:EBX], 0xFFFF8000, *REGISTERS[4:6], 0x12340010, DATA)
    low = ((0x8010, b"\x78\x56\x34\x12"),)
    codes = (("b83412", ()), ("66b878563412", ()), ("8b00", low), ("67668b07", ((DATA, low[0][1]),)))
    word, double, narrow, wide = oracle.run(
        [vector(code, eip=24, selectors=NARROW, registers=registers, memory=memory) for code, memory in codes]
    )
    assert (word.registers[0], word.eip) == (0x11221234, 27)
    assert (double.registers[0], double.eip) == (0x12345678, 30)
    assert wide.registers[0] == 0x12345678 and wide.selectors[0] == CODE16_SELECTOR
    assert narrow.fault or narrow.registers[0] == 0x11225678


@pytest.mark.parametrize("at", [AT, CODE + PAGE_SIZE - 3, CODE + PAGE_SIZE - 2])
def test_a_store_into_the_next_instruction_is_seen(oracle: Oracle, at: int) -> None:
    """SDM 3A, 8.1.3, and 11.6: on P6 and later the store is seen by the next instruction; INC EAX becomes INC EBX."""
    registers = (*REGISTERS[:7], at + 3)
    one, other = oracle.run([vector("c6074340", eip=at, registers=registers, writes_code=how) for how in (True, False)])
    assert (one.fault, one.registers[0], one.registers[EBX]) == (None, REGISTERS[0], 5)
    assert other.fault == Fault(14, 7, at + 3)


def test_code_is_as_it_was_behind_such_a_vector(oracle: Oracle) -> None:
    plain = vector("40", eip=AT + 64)
    (before,) = oracle.run([plain])
    oracle.run([vector("c6074340", registers=(*REGISTERS[:7], AT + 3), writes_code=True)])
    assert oracle.run([plain]) == [before]


def told(tally: Tally) -> list[str]:
    return [
        f"{form}: {', '.join(parts)}: {tally.kept[form, parts, cause][0].vector}"
        for form, parts, cause in tally.ways
        if not cause
    ]


@pytest.mark.parametrize("family", generate.FAMILIES)
@pytest.mark.parametrize("mode", modes.MODES)
def test_nothing_new_differs(mode: str, family: str) -> None:
    assert told(campaign.run_chunk(11, (family + mode, 0, 2 * len(generate.forms(family))))) == []


def test_nothing_new_differs_in_code_that_stores_into_itself() -> None:
    assert told(campaign.run_chunk(1, (selfmod.FAMILY, 0, 600))) == []


def test_such_vectors_are_kept() -> None:
    made = [next(campaign.drawn(family, 1, 3, 1)) for family in ("integer-code16", "integer-step", selfmod.FAMILY)]
    assert [vector_from_dict(vector_to_dict(each)) for each in made] == made
    results = campaign.oracles()[1].run(made)
    assert unpack(pack(Corpus(Processor("a", "b", "c"), 1, made, results))).vectors == made


def test_the_command_line_takes_such_families(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["semantics", "mmx-code16", selfmod.FAMILY, "--count", "40", "--jobs", "1"]) == 0
    assert capsys.readouterr().out.startswith("80 vectors")
