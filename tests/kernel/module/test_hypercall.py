"""Exported symbols: every one is declared for C and documented; wrong calls are told, not believed."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.module.hypercall import GuestKernelBug, NoSuchExport
from sandbox.kernel.module.ksyms import DATA, ROUTINES
from tests.conftest import Run
from tests.kernel.mm.machines import boot, boot_system
from tests.kernel.module.conftest import Compile

ROOT = Path(__file__).resolve().parents[3]
EXPORTS = boot_system().gate.exports
NAMES = {each.name for each in EXPORTS} | ROUTINES.keys() | set(DATA)
INTERNAL = {"__kmalloc_corrupted", "nr_sections", "init_only"}


def test_the_header_has_every_symbol(compiled: Compile) -> None:
    """A C file that takes the address of each is compiled, and the module asks for exactly these."""
    wanted = sorted(NAMES - INTERNAL)
    table = ", ".join(f"(void *)&{name}" for name in wanted)
    module = compiled(f"void *table[] = {{ {table} }};\nint init_module(void) {{ return !table[0]; }}", "module")
    symbols = ELFFile(BytesIO(module)).get_section_by_name(".symtab").iter_symbols()
    assert {each.name for each in symbols if each["st_shndx"] == "SHN_UNDEF" and each.name} == set(wanted)


def test_the_page_has_every_call() -> None:
    page = (ROOT / "docs" / "modules.md").read_text()
    named = set(re.findall(r"`(\w+)[`(]", page))
    assert {each.name for each in EXPORTS} | ROUTINES.keys() <= named | INTERNAL


def test_stubs_are_enough() -> None:
    kernel = boot()
    stubs = kernel.image.symbols["export_stubs"]
    assert stubs % 16 == 0
    assert len(EXPORTS) <= 128
    for number, each in enumerate(EXPORTS):
        assert kernel.peek.peek(None, stubs + 16 * number, 5) == b"\xb8" + number.to_bytes(4, "little"), each.name


def test_the_numbers_in_assembly_are_right() -> None:
    text = (ROOT / "asm" / "kernel" / "kernel.inc").read_text()
    names = [each.name for each in EXPORTS]
    for symbol, name in (
        ("GATE_KMALLOC", "kmalloc"),
        ("GATE_KFREE", "kfree"),
        ("GATE_CORRUPTED", "__kmalloc_corrupted"),
    ):
        assert f".set    {symbol}, {names.index(name)}\n" in text


def test_a_number_that_nobody_has() -> None:
    kernel = boot()
    kernel.this_cpu.vcpu.context.eax = 0
    gate = kernel.image.symbols["kernel_gate"]
    with pytest.raises(NoSuchExport, match="int 0xF0 with number 4096"):
        kernel.this_cpu.call(gate, eax=4096)


def test_from_ring_3_it_is_a_general_protection_fault(run: Run) -> None:
    result = run("_start: mov eax, 0\n int 0xF0\n pass")
    assert result.signal == 11


def test_bugs_can_be_reported_instead() -> None:
    system = boot_system(policies={"bugs": "report"})
    kernel = system.kernel
    symbols = system.gate.symbols
    assert kernel.this_cpu.call_c(symbols["vfree"], 0xC5000000) == 0
    assert kernel.this_cpu.call_c(symbols["free_page"], PAGE_OFFSET) == 0
    assert b"no area begins there" in kernel.log.text
    with pytest.raises(GuestKernelBug, match=r"vfree\(0xc5000000\).*called from call_module"):
        boot().this_cpu.call_c(symbols["vfree"], 0xC5000000)


def test_panic() -> None:
    system = boot_system()
    with pytest.raises(GuestKernelBug, match="Kernel panic"):
        system.kernel.this_cpu.call_c(system.gate.symbols["panic"], PAGE_OFFSET + 0x100000)


def test_panic_ends_the_run_under_every_policy() -> None:
    system = boot_system(policies={"bugs": "report"})
    with pytest.raises(GuestKernelBug, match="Kernel panic"):
        system.kernel.this_cpu.call_c(system.gate.symbols["panic"], PAGE_OFFSET + 0x100000)


def test_a_stack_behind_the_end_of_memory() -> None:
    system = boot_system(ram=6 << 20)
    assert system.gate.arguments(PAGE_OFFSET + 0x700000, 3) == (0, 0, 0)


def test_arguments_on_a_stack_in_vmalloc_space() -> None:
    """A module may switch to a stack of its own; the words are found wherever it lies."""
    system = boot_system()
    kernel = system.kernel
    area = kernel.vmalloc.vmalloc(4096)
    for number, word in enumerate((0xAAAA, 5, 6, 7)):
        kernel.this_cpu.call_c(kernel.image.symbols["writel"], word, area + 4 * number)
    assert system.gate.arguments(area, 3) == (5, 6, 7)
    assert kernel.peek.word(area) == 0xAAAA
    assert system.gate.arguments(0x1000, 2) == (0, 0)


def test_arguments_on_the_kernels_own_stack() -> None:
    """As far as the stack goes; above its end nothing is mapped."""
    system = boot_system()
    kernel = system.kernel
    top = kernel.this_cpu.kstack.stack_top
    for at in (4096, 2048, 1024):
        for number, word in enumerate((0xAAAA, 5, 6, 7)):
            kernel.this_cpu.call_c(kernel.image.symbols["writel"], word, top - at + 4 * number)
        assert system.gate.arguments(top - at, 3) == (5, 6, 7)
    assert system.gate.arguments(top - 4, 2) == (0, 0)


def test_where_nothing_may_sleep() -> None:
    system = boot_system()
    kernel = system.kernel
    kernel.this_cpu.in_interrupt = True
    for name in ("schedule", "sleep_on", "interruptible_sleep_on", "vmalloc"):
        with pytest.raises(GuestKernelBug, match="in an interrupt"):
            kernel.this_cpu.call_c(system.gate.symbols[name], 4096)


def test_a_bad_format_is_a_bug() -> None:
    system = boot_system()
    with pytest.raises(GuestKernelBug, match="a string at 0x00000010, where nothing is mapped"):
        system.kernel.this_cpu.call_c(system.gate.symbols["printk"], 0x10)
