"""Local APICs: identification, interrupts between CPUs, start-up, priorities (SDM 3A, chapter 10)."""

from __future__ import annotations

import pytest

from sandbox.machine.devices.apic import LocalApics

ID, TPR, EOI, SVR, ISR, IRR, ICR, ICR_TO = 0x20, 0x80, 0xB0, 0xF0, 0x100, 0x200, 0x300, 0x310


class Processors:
    def __init__(self) -> None:
        self.accessing_cpu = 0
        self.did: list[tuple[str, int, int]] = []
        self.pending: dict[int, set[int]] = {}

    def post(self, cpu: int, vector: int) -> None:
        self.did.append(("post", cpu, vector))
        self.pending.setdefault(cpu, set()).add(vector)

    def waiting(self, cpu: int) -> set[int]:
        return self.pending.get(cpu, set())

    def initialise(self, cpu: int) -> None:
        self.did.append(("init", cpu, 0))

    def start_up(self, cpu: int, page: int) -> None:
        self.did.append(("start", cpu, page))

    def stop(self) -> None:
        pass


@pytest.fixture
def processors() -> Processors:
    return Processors()


@pytest.fixture
def apics(processors: Processors) -> LocalApics:
    return LocalApics(processors, 3)


def send(apics: LocalApics, to: int, command: int) -> None:
    apics.write_window(ICR_TO, 4, to << 24)
    apics.write_window(ICR, 4, command)


def test_each_cpu_reads_its_own_id(apics: LocalApics, processors: Processors) -> None:
    for cpu in range(3):
        processors.accessing_cpu = cpu
        assert apics.read_window(ID, 4) == cpu << 24


def test_fixed_interrupts_by_destination(apics: LocalApics, processors: Processors) -> None:
    send(apics, 2, 0x40F0)
    assert processors.did == [("post", 2, 0xF0)]
    assert apics.sent == 1
    processors.did.clear()
    send(apics, 0xFF, 0x40F1)
    assert processors.did == [("post", 0, 0xF1), ("post", 1, 0xF1), ("post", 2, 0xF1)]


@pytest.mark.parametrize(("shorthand", "targets"), [(1, [1]), (2, [0, 1, 2]), (3, [0, 2])])
def test_shorthands(apics: LocalApics, processors: Processors, shorthand: int, targets: list[int]) -> None:
    """Self, all, all but self (SDM 3A, 10.6.1, bits 18 and 19)."""
    processors.accessing_cpu = 1
    send(apics, 0, shorthand << 18 | 0x4050)
    assert processors.did == [("post", cpu, 0x50) for cpu in targets]


def test_vectors_below_16_are_not_sent(apics: LocalApics, processors: Processors) -> None:
    send(apics, 1, 0x400F)
    assert processors.did == []


def test_init_and_start_up(apics: LocalApics, processors: Processors) -> None:
    send(apics, 1, 0xC500)
    send(apics, 1, 0x8500)
    send(apics, 1, 0x4608)
    assert processors.did == [("init", 1, 0), ("start", 1, 8)]


def test_disconnected_apics_lose_fixed_interrupts_to_others_only(processors: Processors) -> None:
    apics = LocalApics(processors, 2, connected=False)
    send(apics, 1, 0x4050)
    send(apics, 1, 0x4608)
    send(apics, 0, 0x40050)
    assert processors.did == [("start", 1, 8), ("post", 0, 0x50)]


def test_not_enabled_everything_passes(apics: LocalApics) -> None:
    apics.accepted(0, 0x80)
    assert apics.admits(0, 0x20)


def test_in_service_and_eoi(apics: LocalApics) -> None:
    """A vector waits while one of its class or above is in service; EOI ends the highest."""
    apics.write_window(SVR, 4, 0x1FF)
    apics.accepted(0, 0x41)
    apics.accepted(0, 0x61)
    assert not apics.admits(0, 0x6F)
    assert apics.admits(0, 0x70)
    assert apics.read_window(ISR + 0x20, 4) == 1 << 1
    assert apics.read_window(ISR + 0x30, 4) == 1 << 1
    apics.write_window(EOI, 4, 0)
    assert apics.admits(0, 0x50)
    assert not apics.admits(0, 0x4F)
    apics.write_window(EOI, 4, 0)
    apics.write_window(EOI, 4, 0)
    assert apics.admits(0, 0x20)


def test_task_priority(apics: LocalApics) -> None:
    apics.write_window(SVR, 4, 0x1FF)
    apics.write_window(TPR, 4, 0x50)
    assert not apics.admits(0, 0x5F)
    assert apics.admits(0, 0x60)


def test_requested_vectors_show_in_irr(apics: LocalApics, processors: Processors) -> None:
    processors.post(0, 0x20)
    processors.post(0, 0xFF)
    assert apics.read_window(IRR + 0x10, 4) == 1
    assert apics.read_window(IRR + 0x70, 4) == 1 << 31


def test_other_registers_keep_and_bad_accesses_do_nothing(apics: LocalApics, processors: Processors) -> None:
    apics.write_window(0x350, 4, 0x10700)
    assert apics.read_window(0x350, 4) == 0x10700
    apics.write_window(0x352, 2, 1)
    apics.write_window(ID, 4, 5 << 24)
    assert apics.read_window(0x350, 4) == 0x10700
    assert apics.read_window(ID, 4) == 0
    assert apics.read_window(0x351, 1) == 0


def test_init_resets_the_target_s_apic(apics: LocalApics, processors: Processors) -> None:
    processors.accessing_cpu = 1
    apics.write_window(SVR, 4, 0x1FF)
    processors.accessing_cpu = 0
    send(apics, 1, 0x4500)
    processors.accessing_cpu = 1
    assert apics.read_window(SVR, 4) == 0xFF
