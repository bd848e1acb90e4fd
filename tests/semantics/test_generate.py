"""Vectors: reproducible, and their encodings are what they claim (by capstone)."""

from __future__ import annotations

import pytest

from sandbox.image.disassemble import engine
from sandbox.semantics import generate
from sandbox.semantics.vector import DATA, LOW, SLOT

LOCK = 0xF0
SIXTEEN_BITS = {
    "cwde": "cbw",
    "cdq": "cwd",
    "iretd": "iret",
    "pushfd": "pushf",
    "popfd": "popf",
    "pushal": "pushaw",
    "popal": "popaw",
    **{f"{each}d": f"{each}w" for each in ("stos", "scas", "lods", "ins", "movs", "cmps", "outs")},
}
"""What capstone calls an instruction behind 66h."""
UNKNOWN_TO_CAPSTONE = ("mov Ew,Sw", "mov Sw,Ew")
"""With a segment register that is not one: the CPU raises #UD."""


def accepted(mnemonic: str, text: str) -> bool:
    if mnemonic == "xchg" and text in ("nop", "pause", "repne nop"):
        return True
    name = text.split()[-1]
    if name in (mnemonic, SIXTEEN_BITS.get(mnemonic), f"l{mnemonic}"):
        return True
    return mnemonic.startswith("cmp") and name.startswith("cmp") and name[-2:] == mnemonic[-2:]


@pytest.mark.parametrize("family", generate.FAMILIES)
def test_encodings_are_what_they_claim(family: str) -> None:
    for vector in generate.vectors(family, 3, 0, 8 * len(generate.forms(family))):
        decoded = list(engine(False).disasm_lite(vector.code, vector.eip, 1))
        if not decoded and (LOCK in vector.code or vector.form in UNKNOWN_TO_CAPSTONE):
            continue
        assert decoded, (vector.form, vector.code.hex(" "))
        _, size, text, _ = decoded[0]
        assert size == len(vector.code), (vector.form, vector.code.hex(" "), text)
        assert accepted(vector.form.split()[0], text), (vector.form, vector.code.hex(" "), text)


@pytest.mark.parametrize("family", generate.FAMILIES)
def test_a_vector_depends_on_its_number_alone(family: str) -> None:
    whole = list(generate.vectors(family, 7, 0, 300))
    assert list(generate.vectors(family, 7, 120, 60)) == whole[120:180]
    assert list(generate.vectors(family, 8, 0, 300)) != whole


def test_each_form_is_there_once() -> None:
    names = [
        (form.prefix, form.opcode, form.extension, form.name)
        for name in generate.FAMILIES
        for form in generate.forms(name)
    ]
    assert len(names) == len(set(names))


def test_every_count_of_a_shift() -> None:
    table = generate.forms("integer")
    place = next(at for at, form in enumerate(table) if form.name == "rcl Ev,CL")
    vectors = [next(generate.vectors("integer", 1, place + at * len(table), 1)) for at in range(256)]
    assert all(vector.form == "rcl Ev,CL" for vector in vectors)
    counts = {vector.registers[1] & 31 for vector in vectors}
    assert counts == set(range(32))


def test_code_and_operands_lie_in_the_arena() -> None:
    for vector in generate.vectors("integer", 5, 0, 3000):
        assert vector.eip % SLOT + len(vector.code) <= 40
        for address, data in vector.memory:
            assert address >= LOW and (address < LOW + 0x2000 or address >= DATA) and data
