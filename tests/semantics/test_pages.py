"""Vectors whose pages a kernel brings: under this host's kernel and under the sandbox's they end alike."""

from __future__ import annotations

import pytest

from sandbox.cli import main
from sandbox.engine import mends, stubs
from sandbox.records import replace
from sandbox.semantics import campaign, generate, pages
from sandbox.semantics.campaign import Plan, State, Tally
from sandbox.semantics.compare import compare
from sandbox.semantics.corpus import Corpus, pack, unpack
from sandbox.semantics.host import NoHost, RunnerDied
from sandbox.semantics.processor import Processor
from sandbox.semantics.program import PAGING, HostProgram, KernelProgram, with_fetch
from sandbox.semantics.serial import result_from_dict, result_to_dict, vector_from_dict, vector_to_dict
from sandbox.semantics.vector import (
    CODE,
    DATA,
    ECX,
    EDI,
    FILED,
    FRESH,
    IN_CHILD,
    IN_PARENT,
    NOTHING,
    READ_ONLY,
    READING,
    STACK,
    Fault,
    Oracle,
    Result,
    Vector,
)
from sandbox.x86.paging import PAGE_SIZE

pytestmark = pytest.mark.skipif(not stubs.native_host(), reason="the mends are x86-64 Linux code")
BORDER = DATA + PAGE_SIZE
CODE_BORDER = CODE + PAGE_SIZE
REGISTERS = (0x11223344, 6, 3, 4, STACK + 0x1000, 5, DATA, BORDER - 2)
ZEROS = ((BORDER - 4, bytes(4)), (BORDER, bytes(4)))
SUM = ((BORDER - 4, 0x33440000), (BORDER, 0x1122))
"""What ADD [EDI], EAX makes of them."""
BOTH = (DATA, BORDER)


@pytest.fixture(scope="module", params=["host", *PAGING])
def oracle(request: pytest.FixtureRequest) -> Oracle:
    try:
        return HostProgram() if request.param == "host" else KernelProgram((request.param,))
    except NoHost as error:
        pytest.skip(error.summary)


def vector(code: str, **fields: object) -> Vector:
    made = {"registers": REGISTERS, "eflags": 0x202, "eip": CODE + 24, "memory": ZEROS, **fields}
    return Vector("test", bytes.fromhex(code), **made)  # type: ignore[arg-type]


def test_an_addition_across_pages_that_the_kernel_brings(oracle: Oracle) -> None:
    """Whatever there was of them, the program sees its sum once, and the other process of a fork nothing of it."""
    ways: list[dict[str, object]] = [
        {"memory": (), "absent": tuple((page, FRESH) for page in BOTH)},
        {"absent": tuple((page, FILED) for page in BOTH)},
        {"absent": ((DATA, FILED), (BORDER, FRESH)), "memory": ZEROS[:1]},
        {"forked": IN_CHILD},
        {"forked": IN_PARENT},
        {"forked": IN_CHILD, "absent": ((BORDER, FILED),)},
        {"forked": IN_PARENT, "absent": ((DATA, FILED), (BORDER, FRESH)), "memory": ZEROS[:1]},
    ]
    for way, result in zip(ways, oracle.run([vector("0107", **way) for way in ways]), strict=True):
        assert (result.fault, result.written, result.other, result.restarts) == (None, SUM, (), ()), way
        assert (result.registers, result.eip) == (REGISTERS, CODE + 26), way


def test_a_handler_that_gives_the_page_back_sees_nothing_done(oracle: Oracle) -> None:
    """mprotect(2): error codes of SDM 3A, 4.7; the child of a fork has its own pages."""
    absent = ((DATA, READING), (BORDER, NOTHING))
    for result in oracle.run([vector("0107", absent=absent, forked=how) for how in (0, IN_CHILD, IN_PARENT)]):
        assert [each.fault for each in result.restarts][-1] == Fault(14, 6, BORDER)
        assert all(each.written == () and each.registers == REGISTERS for each in result.restarts)
        assert (result.written, result.other) == (SUM, ())


def test_a_repeated_move_goes_over_pages_that_are_copied(oracle: Oracle) -> None:
    """REP MOVSB from one page into two: a child's copies are its own, and a fault in the midst is not seen."""
    memory = ((DATA, b"abcdef"), *ZEROS)
    for result in oracle.run([vector("f3a4", memory=memory, forked=how) for how in (0, IN_CHILD, IN_PARENT)]):
        assert (result.registers[ECX], result.registers[EDI], result.other) == (0, BORDER + 4, ())
        assert dict(result.written) == {
            BORDER - 4: int.from_bytes(b"\0\0ab", "little"),
            BORDER: int.from_bytes(b"cdef", "little"),
        }


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_code_in_two_pages_of_a_file_is_fetched_on_demand(oracle: Oracle, length: int) -> None:
    code = vector("0501000000", eip=CODE_BORDER - length, absent=((CODE_BORDER, FILED),), memory=())
    (result,) = oracle.run([code])
    assert (result.registers[0], result.eip, result.fault) == (REGISTERS[0] + 1, CODE_BORDER - length + 5, None)


def test_what_no_handler_gives_back_ends_the_vector(oracle: Oracle) -> None:
    registers = (*REGISTERS[:7], READ_ONLY - 2)
    store, good = vector("0107", registers=registers, memory=(), forked=IN_CHILD), vector("40", forked=IN_PARENT)
    one, other = oracle.run([store, good])
    assert (one.fault, one.written, one.other) == (Fault(14, 7, READ_ONLY), (), ())
    assert other.registers[0] == REGISTERS[0] + 1


def test_a_vector_that_takes_the_program_down_is_found(oracle: Oracle) -> None:
    """exit(9) in the midst of others, also by the child of a fork."""
    good = vector("40")
    for how in (0, IN_CHILD):
        bad = vector("cd80", registers=(1, 2, 3, 9, *REGISTERS[4:]), forked=how)
        with pytest.raises(RunnerDied) as caught:
            oracle.run([good, good, bad, good])
        assert caught.value.vector == bad


@pytest.mark.parametrize(
    ("switch", "way"),
    [
        ("no-cow", {"forked": IN_CHILD}),
        ("no-file-private", {"absent": ((DATA, FILED), (BORDER, FILED))}),
        ("no-zero", {"memory": (), "absent": ((DATA, FRESH), (BORDER, FRESH))}),
    ],
)
def test_a_broken_kernel_is_noticed(switch: str, way: dict[str, object]) -> None:
    """By a difference, or because the program, which shares its pages too, does not survive."""
    try:
        host, broken = HostProgram(), KernelProgram(("pae",), frozenset({switch}))
    except NoHost as error:
        pytest.skip(error.summary)
    made, tally = [vector("0107", **way), vector("0107", **way)], Tally()
    try:
        campaign.judge(made, host.run(made), broken.run(made), tally)
    except RunnerDied:
        return
    assert tally.new


def test_what_the_other_process_sees_is_compared() -> None:
    (result,) = HostProgram().run([vector("0107", forked=IN_CHILD)])
    found = compare(vector("0107"), result, replace(result, other=SUM))
    assert found is not None and found.parts == ("memory of the other process",)


def test_fetches_are_told_of_only_with_nxe() -> None:
    """SDM 3A, 4.7: I/D is 0 where neither NXE with PAE nor SMEP is on; a read of one's own code is none."""
    fetch, read = (Result(REGISTERS, CODE, 2, (0,) * 6, (), Fault(14, 4, at)) for at in (CODE + 4, DATA))
    assert with_fetch(fetch).fault == Fault(14, 0x14, CODE + 4)
    assert with_fetch(read) == read


@pytest.mark.parametrize("family", generate.FAMILIES)
def test_every_byte_of_every_memory_form_is_at_a_border_in_each_way(family: str) -> None:
    table = pages.forms(family)
    width = 1 + max(each.width(each.memory) for each in table if each.memory and each.memory[1:] not in ("512", "108"))
    met: dict[str, set[int]] = {}
    ways: dict[str, set[object]] = {}
    for each in pages.vectors(family, 1, 0, width * len(pages.WAYS) * len(table)):
        if each.operand:
            met.setdefault(each.form, set()).add(BORDER - each.operand)
        ways.setdefault(each.form, set()).add((each.absent[:2], each.forked))
    for form in table:
        assert len(ways[form.name]) >= len(pages.WAYS) - 1, form.name
        if form.memory and form.width(form.memory) < width and not form.mnemonic.startswith("bt"):
            assert met[form.name] >= set(range(form.width(form.memory) + 1)), form.name


def told(tally: Tally) -> list[str]:
    return [
        f"{form}: {', '.join(parts)}: {tally.kept[form, parts, cause][0].vector}"
        for form, parts, cause in tally.ways
        if not cause
    ]


@pytest.mark.parametrize("family", ["integer", "sse2"])
def test_nothing_new_differs_under_the_kernel(family: str) -> None:
    tally = campaign.run_chunk(5, (family + pages.SUFFIX, 0, 300))
    assert tally.vectors.total() == 300 and told(tally) == []


def test_such_vectors_and_results_are_kept(oracle: Oracle) -> None:
    """As JSON and, with the faults on the way, in a corpus."""
    (made,) = pages.vectors("integer", 1, 800, 1)
    assert made.forked and vector_from_dict(vector_to_dict(made)) == made
    made = vector("0107", absent=((DATA, READING), (BORDER, NOTHING)))
    (result,) = oracle.run([made])
    assert result.restarts and result_from_dict(result_to_dict(result)) == result
    again = unpack(pack(Corpus(Processor("a", "b", "c"), 1, [made], [result])))
    assert (again.vectors, again.results) == ([made], [result])


def test_the_command_line_takes_such_families(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["semantics", "x87-pages", "--count", "40", "--jobs", "1"]) == 0
    assert capsys.readouterr().out.startswith("40 vectors")
    assert main(["semantics", "x87-pages", "--record", "nowhere"]) == 2
    assert "not recorded" in capsys.readouterr().err


@pytest.mark.campaign
@pytest.mark.parametrize("family", generate.FAMILIES)
def test_ten_thousand_vectors_under_the_kernel(family: str) -> None:
    plan = Plan((family + pages.SUFFIX,), 20261129, 10_000, mends.chosen())
    state = State(None, plan)
    assert sum(campaign.run(plan, state, 2)) == plan.count
    assert told(state.total()) == []
