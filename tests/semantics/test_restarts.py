"""Vectors that fault on the way and go on: the host does what the manual says, and the sandbox what the host does."""

from __future__ import annotations

import pytest

from sandbox.campaign.items import do
from sandbox.campaign.kinds import vector_items
from sandbox.cli import main
from sandbox.engine import mends, stubs
from sandbox.semantics import campaign, generate, modes, restarts, selfmod
from sandbox.semantics.campaign import Plan, State, Tally
from sandbox.semantics.serial import result_from_dict, result_to_dict, vector_from_dict, vector_to_dict
from sandbox.semantics.vector import CODE, DATA, ECX, EDI, ESI, NOTHING, READING, STACK, Fault, Oracle, Vector
from sandbox.x86.paging import PAGE_SIZE

pytestmark = pytest.mark.skipif(not stubs.native_host(), reason="the mends are x86-64 Linux code")
BORDER = DATA + PAGE_SIZE
CODE_BORDER = CODE + PAGE_SIZE
REGISTERS = (0x11223344, 6, 3, 4, STACK + 0x1000, 5, DATA, BORDER - 2)
BOTH = ((DATA, NOTHING), (BORDER, NOTHING))


def vector(code: str, **fields: object) -> Vector:
    made = {"registers": REGISTERS, "eflags": 0x202, "eip": CODE + 24, "memory": ((BORDER - 4, bytes(8)),), **fields}
    return Vector("test", bytes.fromhex(code), **made)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("absent", "faults"),
    [
        (BOTH[:1], [Fault(14, 6, BORDER - 2)]),
        (BOTH[1:], [Fault(14, 6, BORDER)]),
        (((DATA, READING),), [Fault(14, 7, BORDER - 2)]),
        (((BORDER, READING),), [Fault(14, 7, BORDER)]),
    ],
)
def test_an_addition_to_memory_begins_again(
    oracle: Oracle, absent: tuple[tuple[int, int], ...], faults: list[Fault]
) -> None:
    """ADD [EDI], EAX across a border: error codes of a read-modify-write (SDM 3A, 4.7), nothing done at the fault."""
    (result,) = oracle.run([vector("0107", absent=absent)])
    assert [each.fault for each in result.restarts] == faults
    for each in result.restarts:
        assert (each.registers, each.eip, each.written) == (REGISTERS, CODE + 24, ())
    assert (result.fault, result.written) == (None, ((BORDER - 4, 0x33440000), (BORDER, 0x1122)))


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_an_instruction_in_two_pages_is_fetched_again(oracle: Oracle, length: int) -> None:
    """ADD EAX, imm32: the fetch's fault has I/D (SDM 3A, 4.7), at the page's first byte."""
    (result,) = oracle.run([vector("0501000000", eip=CODE_BORDER - length, absent=((CODE_BORDER, NOTHING),))])
    assert [each.fault for each in result.restarts] == [Fault(14, 0x14, CODE_BORDER)]
    assert (result.registers[0], result.eip) == (REGISTERS[0] + 1, CODE_BORDER - length + 5)


def test_a_repeated_move_goes_on_where_it_was(oracle: Oracle) -> None:
    """SDM 2B, REP: what a fault leaves in ECX, ESI and EDI is as far as it came."""
    (result,) = oracle.run([vector("f3a4", absent=BOTH[1:], memory=((DATA, b"abcdef"), (BORDER - 4, bytes(8))))])
    (at,) = result.restarts
    assert at.fault == Fault(14, 6, BORDER)
    assert (at.registers[ECX], at.registers[ESI] - DATA, at.registers[EDI]) == (4, 2, BORDER)
    assert at.written == ((BORDER - 4, int.from_bytes(b"\0\0ab", "little")),)
    assert (result.registers[ECX], result.registers[EDI]) == (0, BORDER + 4)
    assert result.written[-1] == (BORDER, int.from_bytes(b"cdef", "little"))


def test_pages_that_nobody_needs_stay_away(oracle: Oracle) -> None:
    one, other = oracle.run([vector("40", absent=BOTH), vector("0107")])
    assert (one.restarts, one.registers[0]) == ((), REGISTERS[0] + 1)
    assert (other.restarts, other.fault) == ((), None)


@pytest.mark.parametrize("family", generate.FAMILIES)
def test_every_byte_of_every_memory_form_is_at_a_border(family: str) -> None:
    """Operands and code, in each way."""
    table = restarts.forms(family)
    widest = 1 + max(each.width(each.memory) for each in table if each.memory and each.memory[1:] not in ("512", "108"))
    met: dict[str, set[int]] = {}
    codes: dict[str, set[int]] = {}
    for each in restarts.vectors(family, 1, 0, widest * len(restarts.WAYS) * len(table)):
        if each.operand:
            met.setdefault(each.form, set()).add(BORDER - each.operand)
        codes.setdefault(each.form, set()).add(-each.eip % PAGE_SIZE)
    for form in table:
        if form.memory and form.width(form.memory) < widest and form.mnemonic not in ("bt", "bts", "btr", "btc"):
            assert met[form.name] >= set(range(form.width(form.memory) + 1)), form.name
        assert codes[form.name] >= {1}, form.name


@pytest.mark.parametrize("family", generate.FAMILIES)
def test_nothing_new_differs_behind_a_fault(family: str) -> None:
    count = 6 * len(restarts.forms(family))
    tally = campaign.run_chunk(11, (family + restarts.SUFFIX, 0, count))
    assert told(tally) == []


def told(tally: Tally) -> list[str]:
    return [
        f"{form}: {', '.join(parts)}: {tally.kept[form, parts, cause][0].vector}"
        for form, parts, cause in tally.ways
        if not cause
    ]


def test_restarts_are_kept_as_json() -> None:
    (made,) = restarts.vectors("integer", 1, 0, 1)
    assert vector_from_dict(vector_to_dict(made)) == made
    (result,) = campaign.oracles()[1].run([made])
    assert result_from_dict(result_to_dict(result)) == result


def test_the_command_line_takes_such_families(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["semantics", "sse-restarts", "--count", "40", "--jobs", "1"]) == 0
    assert capsys.readouterr().out.startswith("40 vectors")
    assert main(["semantics", "restarts"]) == 2


def test_chunks_are_work_for_a_campaign() -> None:
    plan = Plan(("sse", "sse" + restarts.SUFFIX), 1, 30, mends.chosen())
    outcomes = [do(item) for item in vector_items(plan)]
    assert [sum(each["value"]["vectors"].values()) for each in outcomes] == [30, 30]
    assert outcomes == [do(item) for item in vector_items(plan)]


@pytest.mark.campaign
def test_all_that_is_listed_is_still_there() -> None:
    """And nothing else, in 920,000 vectors of all families: a divergence that is not seen any more leaves the list."""
    total = Tally()
    for families, count in (
        (generate.FAMILIES, 100_000),
        (tuple(f + restarts.SUFFIX for f in generate.FAMILIES), 20_000),
        (tuple(f + mode for mode in modes.MODES for f in generate.FAMILIES), 20_000),
        ((selfmod.FAMILY,), 20_000),
    ):
        plan = Plan(families, 20261129, count, mends.chosen())
        state = State(None, plan)
        assert sum(campaign.run(plan, state, 2)) == count * len(families)
        total.add(state.total())
    assert told(total) == []
    assert total.unseen(mends.chosen()) == []
