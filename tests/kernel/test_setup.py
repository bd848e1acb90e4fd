"""Boot: sizes, holes, CPUs, the command line, and machines that cannot be."""

from __future__ import annotations

import pytest
from elftools.elf.elffile import ELFFile

from sandbox.kernel.arch.vmlinux import IMAGE, kernel_image
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.inspect.ptdump import walk_address
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.bootmem import limit_memory, parse_boot
from sandbox.kernel.module.hypercall import GuestKernelBug
from sandbox.x86.errors import ConfigurationError
from sandbox.x86.paging import PAGE_SIZE, US, P
from sandbox.x86.walk import Access, Reason
from tests.conftest import MakeSession, Run
from tests.kernel.mm.machines import boot_system
from tests.x86.manual import SEGMENT_DESCRIPTOR, TSS32

MB = 1 << 20
TOUCH = """
_start: mov ecx, 40
        mov edi, offset data
1:      mov [edi], ecx
        add edi, 4096
        loop 1b
        fork_to child
        expect_exit 3, 1
        pass
child:  sys exit, 3
        .bss
data:   .skip 40*4096
"""


@pytest.mark.parametrize("ram", [4 * MB, 5 * MB, 64 * MB, 801 * MB, 2048 * MB])
def test_sizes(run: Run, paging: str, ram: int) -> None:
    result = run(TOUCH, paging=paging, ram=ram)
    assert result.passed, result.headline()
    assert 0.6 * ram < result.summary.frames_total * 4096 < ram


@pytest.mark.parametrize("ram", [4096 * MB, 62 << 30])
def test_beyond_4_gb_needs_pae(session: MakeSession, ram: int) -> None:
    made = session(TOUCH, ram=ram)
    assert made.kernel.memory.end > 1 << 32
    assert made.finish().passed
    with pytest.raises(ConfigurationError) as caught:
        KernelConfig(ram=ram, paging="legacy")
    assert "PAE" in caught.value.summary
    assert caught.value.exit_status == 2


@pytest.mark.parametrize("cpus", range(1, 9))
def test_cpus(session: MakeSession, cpus: int) -> None:
    made = session(TOUCH, cpus=cpus)
    gdts = {cpu.gdt for cpu in made.kernel.cpus}
    stacks = {cpu.idle.stack_top for cpu in made.kernel.cpus} | {cpu.ipi.stack_top for cpu in made.kernel.cpus}
    assert len(gdts) == cpus
    assert len(stacks) == 2 * cpus
    assert made.finish().passed


def test_tables_of_a_cpu_by_the_manual(session: MakeSession) -> None:
    """Flat segments for both rings, and a busy TSS with a ring 0 stack and its IO bitmap behind the limit."""
    made = session(TOUCH)
    memory, cpu = made.kernel.memory, made.kernel.cpus[0]
    gdt = [SEGMENT_DESCRIPTOR.parse(memory.read(cpu.gdt + at, 8)) for at in range(0, 128, 8)]
    flat = [(each.type | 1, each.dpl, each.s, each.p, each.g, each.db) for each in gdt[2:6]]
    assert flat == [(11, 0, 1, 1, 1, 1), (3, 0, 1, 1, 1, 1), (11, 3, 1, 1, 1, 1), (3, 3, 1, 1, 1, 1)]
    assert {(each.limit_19_16, each.limit_15_0) for each in gdt[2:6]} == {(15, 0xFFFF)}
    assert {(each.base_31_24, each.base_23_0) for each in gdt[2:6]} == {(0, 0)}
    task, tss = gdt[9], TSS32.parse(memory.read(cpu.tss, 104))
    assert (task.type, task.s, task.dpl, task.p, task.g, task.limit_15_0) == (11, 0, 0, 1, 0, 103)
    assert task.base_31_24 << 24 | task.base_23_0 == PAGE_OFFSET + cpu.tss
    assert (tss.ss0, tss.io_map_base) == (0x18, 104) and tss.esp0 >= PAGE_OFFSET


@pytest.mark.parametrize(
    "wrong",
    [
        {"ram": 0}, {"ram": -4096}, {"ram": 2 * MB}, {"ram": 63 << 30}, {"ram": 5 * MB + 1}, {"cpus": 0}, {"cpus": 9},
        {"paging": "pse"}, {"paging": ""}, {"quantum": 1}, {"direct_map": MB}, {"switches": frozenset({"no-such"})},
        {"boot": "mem=x"}, {"boot": "mem="}, {"boot": "mem=1m"}, {"boot": "mem=-8m"}, {"boot": "mem=64q"},
        {"holes": ((0, 4 * MB),)}, {"holes": ((MB, MB),)}, {"holes": ((0, 64 * MB),)}, {"holes": ((123, 456),)},
    ],
)  # fmt: skip
def test_impossible_machines(session: MakeSession, wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        session("_start: pass", **wrong)
    assert caught.value.exit_status == 2
    assert "\n" not in caught.value.summary


@pytest.mark.parametrize(("text", "limit"), [("mem=16m", 16 * MB), ("mem=8192K", 8 * MB), ("mem=0x1000000", 16 * MB)])
def test_mem_option(session: MakeSession, paging: str, text: str, limit: int) -> None:
    kernel = session(TOUCH, boot=f"quiet {text}", paging=paging).kernel
    assert kernel.memmap.max_pfn == limit // 4096
    frames = set()
    for _ in range(kernel.pgdat.total_frames):
        frames.add(kernel.pgdat.rmqueue_pcp(True))
    assert max(frames) < limit // 4096


def test_mem_option_last_one_counts_and_more_than_there_is() -> None:
    ranges = [(0, 0xA0000, 0), (MB, 63 * MB, MB)]
    assert limit_memory(ranges, parse_boot("mem=1g")) == [(0, 0xA0000), (MB, 63 * MB)]
    assert limit_memory(ranges, parse_boot("")) == [(0, 0xA0000), (MB, 63 * MB)]
    assert limit_memory(ranges, parse_boot("mem=4m")) == [(0, 0xA0000), (MB, 3 * MB)]


@pytest.mark.parametrize(
    "hole", [(0x110000, 0x20000), (2 * MB, MB), (0x108000, 0x1000), (32 * MB, 16 * MB), (62 * MB, 2 * MB)]
)
def test_holes_are_never_used(session: MakeSession, paging: str, hole: tuple[int, int]) -> None:
    """Neither boot nor the allocator touches a hole, wherever it is."""
    made = session(TOUCH, paging=paging, holes=(hole,), cpus=2)
    kernel = made.kernel
    first, size = hole
    for name, start, end in kernel.reserved:
        assert end <= first or start >= first + size, name
    assert made.finish().passed
    frames = [kernel.pgdat.rmqueue_pcp(True) for _ in range(kernel.pgdat.free_frames)]
    assert not set(frames) & set(range(first >> 12, first + size >> 12))


def verdict(kernel: Kernel, linear: int, **access: bool) -> Reason:
    return walk_address(kernel, kernel.tables.cr3(kernel.tables.kernel_pgd), linear, Access(**access)).reason


def test_the_kernels_own_mappings(session: MakeSession, paging: str) -> None:
    """Direct map for all of RAM, for the kernel only; page 0 of the first megabytes is gone; data is NX under PAE."""
    kernel = session("_start: pass", paging=paging, ram=17 * MB).kernel
    for physical in (0, MB, 16 * MB, 17 * MB - 1):
        found = walk_address(
            kernel, kernel.tables.cr3(kernel.tables.kernel_pgd), PAGE_OFFSET + physical, Access(write=True)
        )
        assert found.physical == physical
        assert verdict(kernel, PAGE_OFFSET + physical, user=True) is Reason.SUPERVISOR
    assert verdict(kernel, PAGE_OFFSET + 20 * MB) is Reason.NOT_PRESENT
    assert verdict(kernel, 0) is Reason.NOT_PRESENT
    assert verdict(kernel, kernel.routines.copy_user, fetch=True) is Reason.MAPPED
    if paging == "pae":
        assert verdict(kernel, PAGE_OFFSET + 16 * MB, fetch=True) is Reason.NO_EXECUTE


def test_control_registers(session: MakeSession, paging: str) -> None:
    """PG, WP and PE on; PAE, PSE, PGE and OSFXSR as the mode wants (SDM 3A, 2.5)."""
    for cpu in session("_start: pass", paging=paging, cpus=2).kernel.cpus:
        state = cpu.template
        assert state.cr0 & 0x80010001 == 0x80010001
        assert state.cr4 & 0x20 == (0x20 if paging == "pae" else 0)
        assert state.cr4 & 0x290 == 0x290
        assert state.efer & 0x800 == (0x800 if paging == "pae" else 0)


def test_no_wp_and_no_nx(session: MakeSession) -> None:
    kernel = session("_start: pass", switches=frozenset({"no-wp", "no-nx"})).kernel
    assert not kernel.cpus[0].template.cr0 & 1 << 16
    assert not kernel.cpus[0].template.efer & 0x800
    assert kernel.tables.nx == 0


def test_reserved_frames_are_not_in_the_allocator(session: MakeSession) -> None:
    kernel = session("_start: pass", ram=8 * MB).kernel
    taken = {pfn for _, start, end in kernel.reserved for pfn in range(start >> 12, end >> 12)}
    free = {kernel.pgdat.rmqueue_pcp(True) for _ in range(kernel.pgdat.free_frames)}
    assert not taken & free
    assert 0 not in free
    assert not free & set(range(0xA0, 0x100))
    assert kernel.zero_page in taken
    assert kernel.memory.read(kernel.zero_page << 12, 4096) == bytes(4096)


def test_no_kernel_page_is_open_to_programs(session: MakeSession, paging: str) -> None:
    """SDM 3A 4.6: the U/S bits of every level on the way must be set.  The last level's never is, in any region."""
    made = session("_start: pass", paging=paging, ram=16 * MB, devices=("card",))
    task, kernel = made.load(), made.kernel
    assert task.mm is not None and kernel.vmalloc.vmalloc(3 * PAGE_SIZE) and kernel.ioremap.ioremap(1 << 31, PAGE_SIZE)
    kernel.mmu.switch_mm(task.cpu, task.mm)
    for pgd in (kernel.tables.kernel_pgd, task.mm.pgd):
        entries = {at: kernel.tables.lookup_pte(pgd, at) for at in range(PAGE_OFFSET, 1 << 32, PAGE_SIZE)}
        present = [at for at, entry in entries.items() if entry & P]
        assert len(present) > 16 * MB // PAGE_SIZE // 2
        assert not [f"{at:#x}" for at in present if entries[at] & US]


@pytest.mark.parametrize("broken", ["", "no-nx"])
@pytest.mark.parametrize("cpus", [1, 3])
def test_init_code_is_nobodys_after_boot(paging: str, broken: str, cpus: int) -> None:
    """Its frames are the allocator's and hold what anybody wants, RET here; its addresses lead nowhere, NX or not."""
    system = boot_system(paging, cpus=cpus, switches=frozenset({broken} - {""}))
    kernel, routines = system.kernel, system.kernel.routines
    frames = range(kernel.image.init_load >> 12, kernel.image.init_load + routines.init_end - routines.init_start >> 12)
    assert frames and all(any(zone.has(pfn) for zone in kernel.pgdat.zones) for pfn in frames)
    for pfn in frames:
        kernel.this_cpu.call_c(system.gate.symbols["memset"], PAGE_OFFSET + (pfn << 12), 0xC3, PAGE_SIZE)
    for linear in range(routines.init_start, routines.init_end, PAGE_SIZE):
        assert not kernel.tables.lookup_pte(kernel.tables.kernel_pgd, linear)
    for cpu in kernel.cpus:
        with pytest.raises(GuestKernelBug, match=r"kernel page fault.*not-present.*in init_only"):
            cpu.call_c(system.gate.symbols["init_only"])


def test_init_code_is_overwritten(paging: str) -> None:
    """Every byte of the frames that nobody was given since is INT3 (x86's free_init_pages: POISON_FREE_INITMEM)."""
    kernel = boot_system(paging).kernel
    routines, first = kernel.routines, kernel.image.init_load >> 12
    frames = [first + at for at in range(routines.init_end - routines.init_start >> 12)]
    free = [pfn for pfn in frames if not kernel.memmap.count(pfn)]
    assert free == frames
    for pfn in free:
        assert kernel.memory.read(pfn << 12, PAGE_SIZE) == b"\xcc" * PAGE_SIZE


def test_the_image_holds_what_the_linker_placed() -> None:
    """Each segment of the file lies at its physical address, the init code right behind the rest (pyelftools)."""
    image = kernel_image()
    with IMAGE.open("rb") as file:
        segments = [each for each in ELFFile(file).iter_segments() if each["p_type"] == "PT_LOAD"]
        assert [each["p_vaddr"] for each in segments] == [image.start, image.routines.init_start]
        assert segments[1]["p_paddr"] == image.init_load == image.routines.kernel_end - PAGE_OFFSET
        for each in segments:
            at = each["p_paddr"] - segments[0]["p_paddr"]
            assert image.text[at : at + each["p_filesz"]] == each.data()
