"""Explanations: the instruction, its operands, the walk before and after, and the answer."""

from __future__ import annotations

import pytest

from sandbox.debug.explain import RESOLUTIONS, NoSuchFault, explain
from sandbox.kernel.base.events import PageFault
from tests.conftest import MakeSession, Run

TEXT = """
_start: mov ebx, offset page
        mov esi, 2
store:  mov [ebx + esi*4 + 8], esi
        mov eax, [0x20]
        pass
        .bss
        .balign 4096
page:   .skip 4096
"""


def numbers(run: Run, paging: str, resolution: str) -> int:
    faults = run(TEXT, paging=paging).faults
    return [fault.resolution for fault in faults].index(resolution) + 1


def test_demand_zero(session: MakeSession, run: Run, paging: str) -> None:
    found = explain(session(TEXT, paging=paging), numbers(run, paging, "demand-zero"))
    assert found.resolution == "demand-zero"
    assert "mov" in found.instruction
    assert found.place == " <store>"
    assert found.cpl == 3
    assert found.error_code == 6
    (operand,) = found.operands
    assert f"{found.address:08x}" in operand
    assert "4 bytes written" in operand
    assert "<- faults" in operand
    assert found.before is not None
    assert found.after is not None
    assert "not present" in found.before.lines()[-2]
    assert found.after.lines()[-1].startswith("physical")
    assert len(found.after.lines()) == {"pae": 4, "legacy": 3}[paging]
    assert "\n".join(found.lines())


def test_death(session: MakeSession, run: Run, paging: str) -> None:
    found = explain(session(TEXT, paging=paging), numbers(run, paging, "sigsegv"))
    assert (found.address, found.after) == (0x20, None)
    assert "in no area" in found.area


def test_kernel_fault_names_the_routine(session: MakeSession) -> None:
    text = "_start: sys write, 1, 0x10, 4\n neg eax\n sys exit, eax"
    for number in range(1, 20):
        found = explain(session(text), number)
        if found.cpl == 0:
            assert "copy_user" in found.place
            assert found.resolution == "fixup"
            return
    pytest.fail("no fault in kernel code")


@pytest.mark.parametrize("number", [-1, 0, 50])
def test_no_such_fault(session: MakeSession, number: int) -> None:
    with pytest.raises(NoSuchFault) as caught:
        explain(session(TEXT), number)
    assert caught.value.exit_status == 2


def test_numbers_are_those_of_the_trace(session: MakeSession, run: Run) -> None:
    for number, fault in enumerate(run(TEXT).faults, 1):
        found = explain(session(TEXT), number)
        assert (found.eip, found.address, found.resolution) == (fault.eip, fault.address, fault.resolution)


def test_explaining_costs_the_guest_nothing(session: MakeSession, run: Run) -> None:
    plain = run(TEXT)
    made = session(TEXT)
    seen: list[PageFault] = []
    made.kernel.bus.subscribe(seen.append, PageFault)
    explain(made, len(plain.faults))
    assert seen == plain.faults


def test_every_resolution_is_explained() -> None:
    words = "demand-zero zero-page cow-copy cow-reuse file-read file-private stack-growth sigsegv sigbus fixup spurious"
    assert set(words.split()) <= RESOLUTIONS.keys()


def test_a_fetch_is_named(session: MakeSession, paging: str) -> None:
    """The first instruction is fetched from the file; the CPU says so only where it has NX (SDM 3A 4.7)."""
    found = explain(session(TEXT, paging=paging), 1)
    assert found.address == found.eip
    assert found.error_code == {"pae": 0x14, "legacy": 0x4}[paging]
    assert found.instruction.startswith("mov ebx, "), "read once the page is there"
    assert found.operands == ["the fetch of the instruction  <- faults"]
    assert any("user fetch not-present" in line for line in found.lines())
