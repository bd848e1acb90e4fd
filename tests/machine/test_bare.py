"""The bare machine: how runs end, what interrupts it, and that runs repeat.  The ROM images test the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from sandbox.engine import stubs
from sandbox.engine.watch import WRITE, Watches
from sandbox.image.assemble import assemble_text
from sandbox.machine.bare import BareMachine
from sandbox.machine.delivery import NotModelled
from sandbox.machine.events import CpuSwitch, Delivery, Event, TrapTaken
from sandbox.machine.machine import Machine
from sandbox.machine.outcome import AtBreakpoint, AtWatch, Exited, Halted, LimitReached, NobodyAnswers, TripleFault
from sandbox.x86.errors import ConfigurationError

LOAD = 0x100000
TABLES = """
        jmp start
        .balign 8
gdt:    .quad 0, 0x00CF9A000000FFFF, 0x00CF92000000FFFF
gdtr:   .word 23
        .long gdt
idtr:   .word 0x7FF
        .long 0x200000
start:  mov esp, 0x180000
        lgdt [gdtr]
        lidt [idtr]
        ljmp 8, offset 1f
1:      mov eax, 16
        mov ss, eax
        mov ds, eax
        mov es, eax
"""
"""A GDT with flat code 8 and data 16, an empty IDT at 2 MB, a stack."""


def gate(vector: int, label: str, kind: int = 0x8E00) -> str:
    """Instructions that put a handler into the IDT."""
    return f"""
        mov eax, offset {label}
        mov word ptr [0x200000 + {vector}*8], ax
        mov word ptr [0x200000 + {vector}*8 + 2], 8
        mov ax, {kind}
        mov dword ptr [0x200000 + {vector}*8 + 4], eax
    """


Make = Callable[..., BareMachine]


@pytest.fixture
def make() -> Iterator[Make]:
    machines: list[Machine] = []

    def build(text: str, cpus: int = 1, **options: object) -> BareMachine:
        machine = Machine(16 << 20, cpus)
        machines.append(machine)
        return BareMachine(machine, assemble_text(text, LOAD), **options)  # type: ignore[arg-type]

    yield build
    for machine in machines:
        machine.close()


def exits(status: str = "al") -> str:
    move = "" if status == "al" else f"mov al, {status}\n"
    return f"{move} out 0xF4, al\n 9: hlt\n jmp 9b\n"


def test_entry_state(make: Make) -> None:
    """As a Multiboot loader leaves it: the magic in EAX, protected mode, flat, paging and interrupts off."""
    bare = make("pushfd\npop ecx\nmov edx, cr0\n" + exits("0"))
    state = bare.cpus[0].cpu.context
    assert (state.eax, state.ebx, state.eip) == (0x2BADB002, 0, LOAD)
    state.esp = 0x180000
    assert bare.run() == Exited(0)
    assert state.ecx & 0x200 == 0
    assert state.edx & 0x80000001 == 1


def test_entry_may_be_elsewhere(make: Make) -> None:
    bare = make("1: jmp 1b\n" + exits("5"), entry=LOAD + 2)
    assert bare.run(1000) == Exited(5)


def test_serial_output_and_sink(make: Make) -> None:
    text = "mov dx, 0x3F8\nmov al, 'o'\nout dx, al\nmov al, 'k'\nout dx, al\n" + exits("0")
    bare = make(text)
    bare.run()
    assert bare.serial.sent == b"ok"
    got: list[bytes] = []
    make(text, sink=got.append).run()
    assert got == [b"o", b"k"]


def test_halt_with_nothing_to_come(make: Make) -> None:
    outcome = make("nop\nhlt").run()
    assert outcome == Halted((LOAD + 2,))
    assert "0x00100002" in outcome.headline()


def test_halt_with_interrupts_off_and_one_pending(make: Make) -> None:
    bare = make("hlt")
    bare.board.post(0, 0x40)
    assert isinstance(bare.run(), Halted)


def test_limits_and_going_on(make: Make) -> None:
    bare = make("mov ecx, 5000\n1: loop 1b\n" + exits("0"))
    first = bare.run(1000)
    assert isinstance(first, LimitReached)
    assert bare.clock == 1000
    assert bare.run() == Exited(0)
    assert bare.run() == Exited(0)
    endless = make("1: jmp 1b")
    assert "0.05 seconds" in endless.run(seconds=0.05).headline()


def test_nobody_answers(make: Make) -> None:
    outcome = make("nop\nmov [0xB0000000], eax\nhlt").run()
    assert outcome == NobodyAnswers(0, LOAD + 1, 0xB0000000, True, 4)
    assert "4-byte store to physical address 0xb0000000 at 0x00100001" in outcome.headline()


def test_triple_fault_explains_itself(make: Make) -> None:
    outcome = make(TABLES + "bad: ud2").run()
    assert isinstance(outcome, TripleFault)
    assert [each.vector for each in outcome.chain] == [6, 13, 8, 13]
    assert outcome.lines()[0].startswith("1. #UD invalid opcode, at EIP 0x0010")
    assert "IDT entry 0x6 is no gate" in outcome.lines()[1]
    assert "triple fault on CPU 0" in outcome.headline()


def test_task_gate_is_a_clear_refusal(make: Make) -> None:
    bare = make(TABLES + gate(6, "start", 0x8500) + "ud2")
    with pytest.raises(NotModelled, match="task gate"):
        bare.run()


def test_int3_and_into_return_behind_themselves(make: Make) -> None:
    bare = make(
        TABLES
        + gate(3, "handler")
        + gate(4, "handler")
        + """
        int3
        .byte 0xCD, 3
        mov al, 0x7F
        inc al
        into
        mov eax, ebx
        """
        + exits()
        + "handler: inc ebx\niretd\n"
    )
    assert bare.run() == Exited(3)


@pytest.mark.parametrize("code", ["int3", ".byte 0xCD, 3", "int 0x40"])
def test_a_refused_software_interrupt_is_reported_at_itself(make: Make, code: str) -> None:
    """Absent gates: #NP, whose EIP is the INT's."""
    bare = make(TABLES + gate(11, "handler") + gate(3, "handler", 0x0E00) + gate(0x40, "handler", 0x0E00)
                + f"here: {code}\n nop\nhandler: mov eax, [esp+4]\nsub eax, offset here\n" + exits())  # fmt: skip
    assert bare.run() == Exited(0)


def test_an_instruction_breakpoint_of_the_guests_own(make: Make) -> None:
    """SDM 3B, 17.3.1.1: #DB before the instruction; the handler sets RF in its frame and returns to it."""
    bare = make(TABLES + gate(1, "handler") + """
        xor ebx, ebx
        xor ecx, ecx
        mov eax, offset target
        mov dr0, eax
        mov eax, 1
        mov dr7, eax
        target: inc ebx
        mov eax, ecx
        shl eax, 4
        or eax, ebx
        """ + exits() + """
        handler: inc ecx
        or dword ptr [esp + 8], 0x10000
        iretd
        """)  # fmt: skip
    assert bare.run() == Exited(0x11)


def test_external_interrupts_and_events(make: Make) -> None:
    bare = make(
        TABLES + gate(0x41, "handler") + "sti\n1: cmp ebx, 2\njne 1b\nmov al, bl\n" + exits()
        + "handler: inc ebx\niretd\n"
    )  # fmt: skip
    seen: list[Event] = []
    bare.bus.subscribe(seen.append, TrapTaken, Delivery)
    bare.board.post(0, 0x41)
    assert isinstance(bare.run(500), LimitReached)
    bare.board.post(0, 0x41)
    assert bare.run(500) == Exited(2)
    assert bare.deliveries == 2
    assert bare.traps == 0
    assert [(event.vector, event.source, event.error_code) for event in seen if isinstance(event, Delivery)] == [
        (0x41, "external", None),
        (0x41, "external", None),
    ]


def test_an_interrupt_held_back_for_long_is_still_taken(make: Make) -> None:
    bare = make(TABLES + gate(0x41, "handler") + "mov ecx, 300000\n1: loop 1b\nsti\n2: jmp 2b\nhandler: " + exits("1"))
    bare.board.post(0, 0x41)
    assert bare.run(1_000_000) == Exited(1)


def test_events_of_a_trap(make: Make) -> None:
    bare = make(TABLES + gate(6, "handler") + "bad: ud2\nhandler: " + exits("1"))
    seen: list[Event] = []
    bare.bus.subscribe(seen.append, TrapTaken, Delivery)
    bare.run()
    trap, delivery = seen
    assert isinstance(trap, TrapTaken) and isinstance(delivery, Delivery)
    assert (trap.vector, trap.cpl, trap.software) == (6, 0, False)
    assert (delivery.from_eip, delivery.from_cs, delivery.to_cs, delivery.esp) == (trap.eip, 8, 8, 0x180000 - 12)


def test_rdtsc_is_the_machine_s_clock(make: Make) -> None:
    bare = make("rdtsc\nmov ebx, eax\nmov ecx, 100\n1: loop 1b\nrdtsc\nsub eax, ebx\n" + exits())
    assert bare.run() == Exited(99)


def test_ports_of_ring_0_ask_nothing(make: Make) -> None:
    assert make("in al, 0x60\n" + exits()).run() == Exited(0xFF)


def test_configuration(make: Make) -> None:
    with pytest.raises(ConfigurationError, match="no-such"):
        make("hlt", switches=["no-such"])
    with pytest.raises(ConfigurationError, match="do not fit"):
        make("hlt", load=0x9FFFF + 1)


SMP = """
        .set ICR, 0xFEE00300
        mov esi, offset ap
        mov edi, 0x8000
        mov ecx, offset ap_end - ap
        rep movsb
        mov dword ptr [0xFEE00310], 0x01000000
        mov dword ptr [ICR], 0x4500
        mov dword ptr [ICR], 0x4608
1:      cmp word ptr [0x9000], 0
        je 1b
        mov ax, [0x9000]
""" + exits() + """
        .code16
ap:     mov ax, cs
        shr ax, 4
        mov cx, ax
        mov ax, 0x900
        mov ds, ax
        mov bx, cx
        shr bx, 4
        mov [0], bx
2:      jmp 2b
ap_end: .code32
"""  # fmt: skip


def test_another_cpu_starts_in_real_mode(make: Make) -> None:
    """CS is the page times 256: 0x800 for page 8."""
    bare = make(SMP, cpus=2)
    seen: list[Event] = []
    bare.bus.subscribe(seen.append, CpuSwitch)
    assert bare.run(1_000_000) == Exited(0x08)
    assert seen
    assert bare.cpus[1].cpu.context.segment("cs").base == 0x8000


def test_a_cpu_nobody_starts_waits(make: Make) -> None:
    bare = make("mov ecx, 300000\n1: loop 1b\nhlt", cpus=3)
    assert isinstance(bare.run(), Halted)
    assert bare.cpus[2].cpu.clock == 0


@pytest.mark.parametrize("slices", [1, 7, 1000])
def test_slices_change_nothing(make: Make, slices: int) -> None:
    """Two CPUs, run free and in slices of blocks: the same clocks at the end."""
    free = make(SMP, cpus=2)
    free.run()
    cut = make(SMP, cpus=2)
    while isinstance(cut.run(slices), LimitReached):
        pass
    assert [each.cpu.clock for each in cut.cpus] == [each.cpu.clock for each in free.cpus]


def test_steps_change_nothing(make: Make) -> None:
    """Held-back interrupts, shadows and HLT included."""
    text = (
        TABLES + gate(0x41, "handler") + "mov ecx, 50\n1: loop 1b\nsti\n hlt\n2: cmp ebx, 2\njne 2b\nmov al, bl\n"
        + exits() + "handler: inc ebx\niretd\n"
    )  # fmt: skip
    ends = []
    for steps in (None, 1, 3):
        bare = make(text)
        bare.board.post(0, 0x41)
        for moment in range(10_000):
            if bare.turn(steps=steps) is not None:
                break
            if bare.deliveries == 1 and moment % 50 == 49:
                bare.board.post(0, 0x41)
            if steps is None:
                bare.board.post(0, 0x41)
        ends.append((bare.run(), bare.deliveries >= 2))
    assert set(ends) == {(Exited(2), True)}


def test_breakpoints(make: Make) -> None:
    bare = make("nop\nmov ecx, 3\n1: nop\nloop 1b\n" + exits("0"))
    bare.cpus[0].cpu.set_breakpoint(LOAD + 6)
    hits = 0
    while (outcome := bare.run()) == AtBreakpoint(0, LOAD + 6):
        hits += 1
    assert (hits, outcome) == (3, Exited(0))
    plain = make("nop\nmov ecx, 3\n1: nop\nloop 1b\n" + exits("0"))
    plain.run()
    assert plain.clock == bare.clock


def test_runs_repeat_by_seed(make: Make) -> None:
    clocks = []
    for seed in (1, 1, 2):
        bare = make(SMP, cpus=2, seed=seed)
        bare.run(1_000_000)
        clocks.append((bare.clock, bare.cpus[1].cpu.clock))
    assert clocks[0] == clocks[1]
    assert clocks[0] != clocks[2]


@pytest.mark.parametrize(
    "text",
    [
        "mov eax, 0x100F00\n mov ebx, 0x200000\n jmp ebx",
        TABLES + gate(6, "storm") + "storm: mov esp, 0x180000\n ud2",
        "1: jmp 1b",
        "mov dx, 0x3FD\n1: .rept 500\n in al, dx\n .endr\n jmp 1b",
        "mov edi, offset 1f\n1: .rept 100\n mov byte ptr [edi], 0xC6\n .endr\n jmp 1b",
    ],
    ids=["zeros", "storm", "loop", "ports", "self-modifying"],
)
def test_seconds_are_looked_at_inside_a_turn(text: str) -> None:
    """A gigabyte of zeros as code, traps without end, a device that is asked for ever, code that stores into itself."""
    machine = Machine(1 << 30)
    try:
        bare = BareMachine(machine, assemble_text(text, LOAD))
        began = time.process_time()
        assert bare.run(seconds=0.5) == LimitReached("0.5 seconds")
        assert time.process_time() - began < 3.5, "of a processor, which others may keep busy"
    finally:
        machine.close()


def test_a_sink_that_waits_for_the_host_can_end_with_the_run(make: Make) -> None:
    def wait(_: bytes) -> None:
        while True:
            time.sleep(0.01)
            bare.look()

    bare = make("mov dx, 0x3F8\n1: out dx, al\n jmp 1b", sink=wait)
    assert bare.run(seconds=0.2) == LimitReached("0.2 seconds")


@pytest.mark.skipif(not stubs.native_host(), reason="watchpoints are x86-64 Linux code")
def test_watches(make: Make) -> None:
    bare = make(f"nop\nmov ecx, 3\n1: mov [{LOAD + 0x800:#x}], ecx\nloop 1b\n" + exits("0"))
    watches = Watches([bare.cpus[0].cpu])
    watches.add(LOAD + 0x800, LOAD + 0x804, WRITE)
    hits = []
    while isinstance(outcome := bare.run(), AtWatch):
        hits.append(outcome.eip - LOAD)
    assert (hits, outcome) == ([6, 6, 6], Exited(0))
    assert [(hit.old, hit.new) for hit in watches.hits()] == [(0, 3), (3, 2), (2, 1)]
    assert "watch at" in AtWatch(0, LOAD).headline()
