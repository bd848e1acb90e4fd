"""Delivery through the IDT, case by case as the manual's pseudo-code has it (SDM 2A, INT n; 3A, chapter 6)."""

from __future__ import annotations

import pytest

from sandbox.machine.delivery import NotModelled, Shutdown
from sandbox.machine.memory import Reason
from sandbox.x86.descriptors import GateKind, SegmentDescriptor
from tests.machine.world import (
    CODE0,
    CODE1,
    CODE3,
    CONFORMING,
    DATA0,
    DATA1,
    DATA3,
    ESP0,
    ESP1,
    GDT,
    HANDLER,
    IDT,
    LDT,
    SPARE,
    TSS,
    TSS_SELECTOR,
    World,
)

IF, TF, NT, RF, VM = 1 << 9, 1 << 8, 1 << 14, 1 << 16, 1 << 17
EIP = 0x00100010
DF, TS, NP, SS, GP, PF = 8, 10, 11, 12, 13, 14


# -- frames


def test_same_ring_pushes_three_words(world: World) -> None:
    state = world.context
    esp = state.esp
    world.exception(6)
    assert state.esp == esp - 12
    assert world.stack(3) == [EIP, CODE0, 0x202 | RF]
    assert (state.eip, state.segment("cs").selector, state.cpl) == (HANDLER, CODE0, 0)
    assert state.segment("ss").selector == DATA0


def test_error_code_is_pushed_last(world: World) -> None:
    world.exception(GP, 0x1234)
    assert world.stack(4) == [0x1234, EIP, CODE0, 0x202 | RF]


def test_from_ring_3_the_stack_comes_from_the_tss(world: World) -> None:
    world.ring(3)
    state, esp = world.context, world.context.esp
    done = world.exception(PF, 7, 0xDEADBEEF)
    assert state.esp == ESP0 - 24
    assert world.stack(6) == [7, EIP, CODE3, 0x202 | RF, esp, DATA3]
    assert (state.segment("ss").selector, state.segment("cs").selector, state.cpl) == (DATA0, CODE0, 0)
    assert state.cr2 == 0xDEADBEEF
    assert (done.from_cs, done.from_cpl, done.to_cpl) == (CODE3, 3, 0)


def test_from_ring_3_to_ring_1(world: World) -> None:
    world.ring(3)
    world.gate(0x40, CODE1, dpl=3)
    world.software(0x40)
    state = world.context
    assert (state.esp, state.cpl) == (ESP1 - 20, 1)
    assert (state.segment("ss").selector, state.segment("cs").selector) == (DATA1, CODE1)


def test_ring_3_handler_stays_on_its_stack(world: World) -> None:
    world.ring(3)
    state, esp = world.context, world.context.esp
    world.gate(0x40, CODE3, dpl=3)
    world.software(0x40)
    assert (state.esp, state.cpl) == (esp - 12, 3)
    assert world.stack(3) == [EIP + 2, CODE3, 0x202]


def test_conforming_handler_keeps_the_ring(world: World) -> None:
    """Its DPL is 0, the CPL stays 3, and CS's RPL with it: no change of stack."""
    world.ring(3)
    state, esp = world.context, world.context.esp
    world.gate(0x40, CONFORMING, dpl=3)
    world.software(0x40)
    assert (state.esp, state.cpl, state.segment("cs").selector) == (esp - 12, 3, CONFORMING | 3)


@pytest.mark.parametrize(("kind", "left"), [(GateKind.INTERRUPT, 0), (GateKind.TRAP, IF)])
def test_flags_in_the_handler(world: World, kind: GateKind, left: int) -> None:
    """TF, NT, RF and VM are cleared; IF by interrupt gates only; all of them are in the pushed image."""
    world.context.eflags = 0x2 | IF | TF | NT | 0x8C1
    world.gate(0x40, kind=kind)
    world.external(0x40)
    assert world.context.eflags == 0x2 | left | 0x8C1
    assert world.stack(3)[2] == 0x2 | IF | TF | NT | 0x8C1


@pytest.mark.parametrize(
    ("vector", "code", "pushed"),
    [(0, None, RF), (6, None, RF), (GP, 0, RF), (PF, 0, RF), (1, None, 0), (3, None, 0), (DF, 0, 0)],
)
def test_rf_in_the_pushed_image(world: World, vector: int, code: int | None, pushed: int) -> None:
    """Set for faults, clear for traps and aborts (SDM 3A, 17.3.1.1)."""
    world.exception(vector, code)
    flags = world.stack(4)[2 if code is None else 3]
    assert flags & RF == pushed


def test_16_bit_gate_pushes_halves_and_has_a_16_bit_offset(world: World) -> None:
    world.gate(0x40, bits=16, offset=0x7ABC)
    esp = world.context.esp
    world.external(0x40)
    assert world.context.eip == 0x7ABC
    assert world.context.esp == esp - 6
    assert world.stack(3, 2) == [EIP & 0xFFFF, CODE0, 0x202]


def test_16_bit_stack_moves_sp_only(world: World) -> None:
    state = world.context
    state.set_segment("ss", DATA0, 0, 0xFFFF, 0x00009300)
    state.esp = 0xABCD0004
    world.external(0x20)
    assert state.esp == 0xABCDFFF8
    assert [world.get(0, 4), world.get(0xFFFC, 4), world.get(0xFFF8, 4)] == [0x202, CODE0, EIP]


def test_16_bit_tss(world: World) -> None:
    """SP0 and SS0 are at offsets 2 and 4 (SDM 3A, figure 7-10)."""
    world.ring(3)
    world.context.set_segment("tr", TSS_SELECTOR, TSS, 43, 0x8100)
    world.put(TSS + 2, 2, 0x7F00)
    world.put(TSS + 4, 2, DATA0)
    world.external(0x20)
    assert world.context.esp == 0x7F00 - 20


def test_descriptors_become_accessed(world: World) -> None:
    world.ring(3)
    world.external(0x20)
    assert world.get(GDT + CODE0 + 5, 1) == 0x9B
    assert world.get(GDT + DATA0 + 5, 1) == 0x93
    assert world.get(GDT + (CODE3 & ~3) + 5, 1) == 0xFA


def test_selector_in_the_ldt(world: World) -> None:
    world.context.set_segment("ldtr", SPARE, LDT, 0xF, 0x8200)
    world.descriptor(0x0C, SegmentDescriptor(0x100000, 0xFFFFF, 0x00409A00))
    world.gate(0x20, 0x0C, offset=0x500)
    world.external(0x20)
    code = world.context.segment("cs")
    assert (code.selector, code.base, world.context.eip) == (0x0C, 0x100000, 0x500)


def test_bytes_pushed_are_the_processor_s(world: World) -> None:
    world.exception(6)
    counted = world.memory.host_bytes()
    assert counted["processor"] == 12 + 1


# -- the gate


def test_int_n_needs_the_gate_s_privilege(world: World) -> None:
    """#GP(vector * 8 + IDT), EXT clear, at the INT itself."""
    world.ring(3)
    done = world.software(0x40)
    assert [each.vector for each in done.chain] == [0x40, GP]
    assert world.stack(2) == [0x40 * 8 + 2, EIP]


def test_external_interrupts_and_exceptions_do_not(world: World) -> None:
    world.ring(3)
    world.gate(0x40)
    assert len(world.external(0x40).chain) == 1
    world.ring(3)
    assert len(world.exception(6).chain) == 1


@pytest.mark.parametrize(
    ("source", "code"), [("software", 0x100 * 4 + 2), ("external", 0x100 * 4 + 3), ("exception", 0x100 * 4 + 3)]
)
def test_beyond_the_idt(world: World, source: str, code: int) -> None:
    """#GP with the vector's index; EXT only when the program did not ask for it."""
    world.context.set_segment("idtr", 0, IDT, 0x80 * 8 - 2, 0)
    vector = 0x80
    world.gate(vector, dpl=3)
    {"software": world.software, "external": world.external, "exception": world.exception}[source](vector)
    assert world.stack(1) == [code]


@pytest.mark.parametrize(("source", "ext"), [("software", 0), ("external", 1)])
def test_absent_gate(world: World, source: str, ext: int) -> None:
    world.gate(0x40, present=False)
    done = getattr(world, source)(0x40)
    assert done.chain[-1].vector == NP
    assert world.stack(2) == [0x40 * 8 + 2 + ext, EIP]


def test_privilege_is_checked_before_presence(world: World) -> None:
    world.ring(3)
    world.gate(0x40, present=False)
    assert world.software(0x40).chain[-1].vector == GP


@pytest.mark.parametrize("high", [0x0000_8200, 0x0000_8900, 0x0000_8C00, 0x00CF_9A00, 0x0000_8800])
def test_what_is_no_interrupt_gate(world: World, high: int) -> None:
    """LDT, TSS, call gate, code segment, a reserved type."""
    world.put(IDT + 0x40 * 8, 8, high << 32 | CODE0 << 16)
    assert world.external(0x40).chain[-1].vector == GP
    assert world.stack(1) == [0x40 * 8 + 3]


def test_task_gates_are_refused_by_name(world: World) -> None:
    world.gate(8, SPARE, kind=GateKind.TASK)
    before = bytes(world.context.data)
    with pytest.raises(NotModelled, match="0x8 goes through a task gate") as caught:
        world.exception(8, 0)
    assert "0x48" in caught.value.detail
    assert bytes(world.context.data) == before


# -- the handler's code segment


@pytest.mark.parametrize(
    ("selector", "vector", "code"),
    [
        (0, GP, 0),
        (3, GP, 0),
        (0x1000, GP, 0x1000),
        (0x0C, GP, 0x0C),
        (DATA0, GP, DATA0),
        (CODE3, GP, CODE3 & ~3),
        (TSS_SELECTOR, GP, TSS_SELECTOR),
    ],
    ids=["null", "null with RPL", "beyond the GDT", "no LDT", "data", "an outer ring", "a TSS"],
)
def test_bad_handler_segments(world: World, selector: int, vector: int, code: int) -> None:
    world.gate(0x40, selector)
    done = world.external(0x40)
    assert done.chain[-1].vector == vector
    assert world.stack(1) == [code | 1]


def test_absent_handler_segment(world: World) -> None:
    world.descriptor(SPARE, SegmentDescriptor(0, 0xFFFFFFFF, 0x00CF1A00))
    world.gate(0x40, SPARE)
    assert world.external(0x40).chain[-1].vector == NP
    assert world.stack(1) == [SPARE | 1]


def test_handler_behind_its_segment_s_limit(world: World) -> None:
    world.descriptor(SPARE, SegmentDescriptor(0, 0xFFF, 0x00409A00))
    world.gate(0x40, SPARE, offset=0x1000)
    assert world.external(0x40).chain[-1].vector == GP
    assert world.stack(1) == [1]


# -- the inner stack


def chain_of(world: World, vector: int) -> list[tuple[int, int | None]]:
    """What is tried when an external interrupt comes in ring 3, error codes included."""
    world.ring(3)
    try:
        done = world.external(vector)
    except Shutdown as shutdown:
        return [(each.vector, each.error_code) for each in shutdown.chain]
    return [(each.vector, each.error_code) for each in done.chain]


def test_tss_too_short(world: World) -> None:
    world.context.set_segment("tr", TSS_SELECTOR, TSS, 8, 0x8900)
    assert chain_of(world, 0x20)[1] == (TS, TSS_SELECTOR | 1)
    world.context.set_segment("tr", TSS_SELECTOR, TSS, 9, 0x8900)
    assert len(chain_of(world, 0x20)) == 1


@pytest.mark.parametrize(
    ("ss0", "expected"),
    [
        (0, (TS, 1)),
        (3, (TS, 1)),
        (0x1000, (TS, 0x1001)),
        (DATA0 | 3, (TS, DATA0 | 1)),
        (DATA3, (TS, DATA3 & ~3 | 1)),
        (DATA3 & ~3, (TS, DATA3 & ~3 | 1)),
        (CODE0, (TS, CODE0 | 1)),
    ],
    ids=["null", "null with RPL", "beyond the GDT", "RPL", "RPL and DPL", "DPL", "code"],
)
def test_bad_stack_segments(world: World, ss0: int, expected: tuple[int, int]) -> None:
    world.put(TSS + 8, 2, ss0)
    assert chain_of(world, 0x20)[1] == expected


def test_read_only_and_absent_stack_segments(world: World) -> None:
    world.put(TSS + 8, 2, SPARE)
    world.descriptor(SPARE, SegmentDescriptor(0, 0xFFFFFFFF, 0x00CF9000))
    assert chain_of(world, 0x20)[1] == (TS, SPARE | 1)
    world.descriptor(SPARE, SegmentDescriptor(0, 0xFFFFFFFF, 0x00CF1200))
    assert chain_of(world, 0x20)[1] == (SS, SPARE | 1)


def test_no_room_on_the_inner_stack(world: World) -> None:
    """Twenty bytes must fit below ESP0 (SDM 2A: 20 without an error code, 24 with one)."""
    world.descriptor(SPARE, SegmentDescriptor(0x7000, 0xFFF, 0x00409200))
    world.put(TSS + 8, 2, SPARE)
    for esp0, fits in ((0x1000, True), (0x1001, False), (20, True), (19, False)):
        world.put(TSS + 4, 4, esp0)
        chain = chain_of(world, 0x20)
        assert (len(chain) == 1) is fits, esp0
        assert fits or chain[1] == (SS, SPARE | 1)


def test_no_room_on_an_expand_down_stack(world: World) -> None:
    """Valid are the offsets above the limit (SDM 3A, 5.3)."""
    state = world.context
    state.set_segment("ss", DATA0, 0, 0x7EFF, 0x0040_9700)
    state.esp = 0x7F0C
    assert len(world.external(0x20).chain) == 1
    state.esp = 0x7F08
    with pytest.raises(Shutdown) as caught:
        world.external(0x20)
    assert (caught.value.chain[1].vector, caught.value.chain[1].error_code) == (SS, 1)


# -- paging


def test_pushes_set_accessed_and_dirty(world: World) -> None:
    world.page()
    world.ring(3)
    world.external(0x20)
    assert world.entry(ESP0 - 4) & 0x60 == 0x60
    assert world.entry(IDT) & 0x60 == 0x20
    assert world.entry(TSS) & 0x60 == 0x20
    assert world.entry(0x9000) & 0x60 == 0
    assert world.get(0x10000) & 0x20


def test_tables_and_inner_stacks_are_reached_as_supervisor(world: World) -> None:
    world.page(supervisor=(GDT, IDT, TSS, 0x7000))
    world.ring(3)
    assert len(world.external(0x20).chain) == 1


def test_a_ring_3_handler_s_pushes_are_the_user_s(world: World) -> None:
    """Write, user, protection: 7."""
    world.page(supervisor=(0x9000,))
    world.ring(3)
    world.gate(0x40, CODE3, dpl=3)
    done = world.software(0x40)
    assert (done.chain[-1].vector, done.chain[-1].error_code) == (PF, 7)
    assert world.context.esp == ESP0 - 24
    assert world.stack(2) == [7, EIP]


def test_read_only_stack_with_wp(world: World) -> None:
    world.page(read_only=(0x7000,))
    world.ring(3)
    with pytest.raises(Shutdown) as caught:
        world.external(0x20)
    assert (caught.value.chain[1].vector, caught.value.chain[1].error_code) == (PF, 3)
    assert world.context.cr2 == ESP0 - 4


def test_a_frame_across_two_pages_faults_where_its_second_page_is_absent(world: World) -> None:
    """The words go down from ESP; CR2 is the first that cannot be written."""
    world.page(0x6000)
    world.put(TSS + 4, 4, 0x7008)
    world.ring(3)
    with pytest.raises(Shutdown):
        world.external(0x20)
    assert world.context.cr2 == 0x6FFC
    assert [world.get(0x7004), world.get(0x7000)] == [DATA3, 0x9F00]


def test_an_absent_idt_is_a_page_fault_in_itself(world: World) -> None:
    """And since #PF's own entry is there too: a double fault, then shutdown; CR2 is the last address."""
    world.page(IDT)
    with pytest.raises(Shutdown) as caught:
        world.external(0x20)
    assert [(each.vector, each.error_code) for each in caught.value.chain] == [(0x20, None), (PF, 0), (DF, 0), (PF, 0)]
    assert world.context.cr2 == IDT + 8 * 8
    assert "IDT entry 0x20 at 0x00002100" in caught.value.chain[1].line()


def test_a_descriptor_across_two_pages(world: World) -> None:
    world.page()
    world.context.set_segment("gdtr", 0, GDT - 12, 0x4F, 0)
    for selector in (CODE0, DATA0):
        world.memory.host_write(GDT - 12 + selector, world.memory.read(GDT + selector, 8), Reason.IMAGE)
    world.external(0x20)
    assert world.context.segment("cs").limit == 0xFFFFFFFF


# -- exceptions in deliveries


def test_benign_then_contributory_are_served_in_turn(world: World) -> None:
    world.gate(6, present=False)
    done = world.exception(6)
    assert [(each.vector, each.error_code) for each in done.chain] == [(6, None), (NP, 6 * 8 + 3)]
    assert world.stack(2) == [6 * 8 + 3, EIP]


@pytest.mark.parametrize("vector", [0, TS, NP, SS, GP])
def test_two_contributory_ones_are_a_double_fault(world: World, vector: int) -> None:
    world.gate(vector, present=False)
    done = world.exception(vector, None if vector == 0 else 0)
    assert [each.vector for each in done.chain] == [vector, DF]
    assert world.stack(2) == [0, EIP]


def test_page_fault_then_contributory_is_a_double_fault(world: World) -> None:
    world.gate(PF, present=False)
    done = world.exception(PF, 2, 0x5000)
    assert [each.vector for each in done.chain] == [PF, DF]
    assert world.context.cr2 == 0x5000


def test_contributory_then_page_fault_are_served_in_turn(world: World) -> None:
    """Table 6-5: a page fault while #GP is delivered is handled for itself; its own gate is absent too."""
    world.page(0x5000)
    world.context.set_segment("idtr", 0, 0x5000 - GP * 8, 0x7FF, 0)
    for vector in range(GP):
        world.memory.host_write(0x5000 - GP * 8 + vector * 8, world.memory.read(IDT + vector * 8, 8), Reason.IMAGE)
    assert [each.vector for each in world.exception(GP, 0).chain] == [GP, PF, DF]


def test_a_software_interrupt_s_number_is_no_exception(world: World) -> None:
    """INT 13 whose gate is absent: #NP in turn, not a double fault."""
    world.gate(GP, present=False)
    done = world.software(GP)
    assert [(each.vector, each.error_code) for each in done.chain] == [(GP, None), (NP, GP * 8 + 2)]


def test_triple_fault_tells_its_chain(world: World) -> None:
    world.gate(GP, present=False)
    world.gate(DF, present=False)
    with pytest.raises(Shutdown) as caught:
        world.exception(GP, 0x18)
    chain = caught.value.chain
    assert [(each.vector, each.error_code) for each in chain] == [(GP, 0x18), (DF, 0), (NP, DF * 8 + 3)]
    assert "#GP" in chain[0].line() and "while delivering #GP" in chain[1].line()
    assert "IDT entry 0x8 is not present" in chain[2].line()
    assert world.context.eip == EIP


# -- virtual-8086 and real mode


def enter_vm86(world: World) -> None:
    state = world.context
    world.ring(3)
    state.eflags = 0x3202 | VM
    for number, name in enumerate(("es", "cs", "ss", "ds", "fs", "gs")):
        state.set_segment(name, 0x100 + number, 0x1000 + number * 16, 0xFFFF, 0xF300)
    state.esp, state.eip = 0x200, 0x30


def test_from_virtual_8086_mode(world: World) -> None:
    """GS, FS, DS, ES are pushed first and cleared (SDM 3A, 20.3.1.1)."""
    enter_vm86(world)
    world.exception(GP, 0)
    state = world.context
    assert state.esp == ESP0 - 40
    assert world.stack(10) == [0, 0x30, 0x101, 0x3202 | VM | RF, 0x200, 0x102, 0x100, 0x103, 0x104, 0x105]
    assert [state.segment(name).selector for name in ("ds", "es", "fs", "gs")] == [0, 0, 0, 0]
    assert (state.cpl, state.eflags & VM) == (0, 0)


def test_virtual_8086_mode_is_left_to_ring_0_only(world: World) -> None:
    for selector in (CODE1, CODE3, CONFORMING):
        enter_vm86(world)
        world.gate(0x40, selector, dpl=3)
        done = world.software(0x40)
        assert (done.chain[-1].vector, done.chain[-1].error_code) == (GP, selector & ~3)


def test_real_mode_goes_through_the_vector_table(world: World) -> None:
    """FLAGS, CS, IP of 16 bits, no error code; IF and TF cleared (SDM 3A, 20.1.4)."""
    state = world.context
    state.cr0 = 0x10
    state.set_segment("idtr", 0, 0, 0x3FF, 0)
    state.set_segment("cs", 0x800, 0x8000, 0xFFFF, 0x9B00)
    state.set_segment("ss", 0x900, 0x9000, 0xFFFF, 0x9300)
    state.eip, state.esp, state.eflags = 0x12, 0x100, 0x302
    world.put(0x21 * 4, 4, 0x0700_0345)
    world.software(0x21)
    assert (state.segment("cs").selector, state.segment("cs").base, state.eip) == (0x700, 0x7000, 0x345)
    assert state.esp == 0xFA
    assert world.stack(3, 2) == [0x14, 0x800, 0x302]
    assert state.eflags & 0x300 == 0


# -- breakage


def test_switches_leave_out_their_step(world: World) -> None:
    world.exception(GP, 0x55, 0, "no-error-code")
    assert world.stack(1) == [EIP]
    world.ring(3, esp=0x9800)
    world.external(0x20, "no-stack-switch")
    assert world.context.esp == 0x9800 - 20
    world.ring(3)
    world.gate(0x40)
    assert len(world.software(0x40, "no-gate-check").chain) == 1
    world.ring(0)
    world.external(0x20, "no-if-clear")
    assert world.context.eflags & IF
    world.page()
    world.ring(3)
    world.external(0x20, "no-accessed")
    assert world.entry(ESP0 - 4) & 0x60 == 0
