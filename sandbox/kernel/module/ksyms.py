"""What guest kernel code may call, under the kernel's own names, with C arguments.

The first group is answered in Python through the gate; the second is code of ``asm/kernel``; the third are words of the
kernel's data.  ``asm/images/include/module.h`` declares them for C.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING

from sandbox.kernel.abi.errno import EINVAL, ENOMEM, KernelError
from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.mm import hotplug, isahole
from sandbox.kernel.mm.frames import OutOfMemory
from sandbox.kernel.mm.gfp import DMA
from sandbox.kernel.mm.page import VIRTUAL, BadPage
from sandbox.kernel.mm.page_alloc import dma_crosses
from sandbox.kernel.mm.pgtable import PSE, P
from sandbox.kernel.mm.sparse import CannotAddMemory
from sandbox.kernel.module import chrdev, irq, useraccess, waitqueue
from sandbox.kernel.module.hypercall import Export, Gate, GuestKernelBug
from sandbox.kernel.module.printk import LONGEST_STRING, format_text

if TYPE_CHECKING:
    from sandbox.kernel.kernel import Kernel

Arguments = tuple[int, ...]


# -- the routines of kmalloc.S, in the middle ------------------------------------------------------------------------


def _kmalloc(kernel: Kernel, a: Arguments) -> int:
    cpu = kernel.this_cpu
    return kernel.kmalloc.serve(cpu, cpu.vcpu.context, a[0], a[1])


def _kfree(kernel: Kernel, a: Arguments) -> int:
    return kernel.kmalloc.give_back(a[0], kernel.this_cpu.vcpu.context.ecx & 0xFFFFFFFF)


def _kmalloc_corrupted(kernel: Kernel, a: Arguments) -> None:
    kernel.kmalloc.corrupted(kernel.this_cpu.vcpu.context.edx & 0xFFFFFFFF)


# -- pages -----------------------------------------------------------------------------------------------------------


def _alloc_pages(kernel: Kernel, a: Arguments) -> int:
    try:
        return kernel.model.struct_page(kernel.page_alloc.alloc_pages(a[0], a[1]))
    except OutOfMemory:
        return 0


def _pfn(kernel: Kernel, page: int) -> int:
    """The frame whose structure guest code names.  Raises BadPage for an address of none."""
    pfn = kernel.model.pfn_of(page)
    if pfn < 0 or not kernel.memmap.has_page(pfn) or kernel.model.struct_page(pfn) != page:
        raise BadPage(f"{page:#010x} is no struct page")
    return pfn


def _free_pages_of(kernel: Kernel, a: Arguments) -> None:
    kernel.page_alloc.free_pages(_pfn(kernel, a[0]), a[1])


def _page_address(kernel: Kernel, a: Arguments) -> int:
    pfn = _pfn(kernel, a[0])
    if pfn < kernel.layout.direct_frames:
        return PAGE_OFFSET + (pfn << 12)
    return kernel.memmap.words[kernel.memmap.at(pfn) + VIRTUAL]


def _vmalloc_to_pfn(kernel: Kernel, a: Arguments) -> int:
    """The frame behind a kernel address, by the kernel's tables; -1 where nothing is mapped."""
    entry = kernel.tables.lookup_pte(kernel.kernel_pgd, a[0])
    if not entry & P:
        return -1
    if entry & PSE and a[0] < kernel.layout.direct.end:
        return a[0] - PAGE_OFFSET >> 12
    return kernel.tables.pte_pfn(entry)


def _boot_reservation(kernel: Kernel, a: Arguments) -> int:
    """Linear address of what ``bootmem=NAME:SIZE`` reserved, its size stored at the second argument; 0 for none."""
    name = kernel.kernel_string(a[0])
    for what, start, end in kernel.reserved:
        if what.encode() == name:
            if a[1]:
                kernel.this_cpu.call(kernel.routines.put_user_4, eax=end - start, edi=a[1])
            return PAGE_OFFSET + start
    return 0


def _add_memory(kernel: Kernel, a: Arguments) -> int:
    """Hot-add: physical address and bytes, both of pages; 0 or an errno."""
    try:
        hotplug.add_memory(kernel, a[0] << 12, a[1] << 12)
    except CannotAddMemory as error:
        kernel.printk(f"add_memory: {error.summary}\n")
        return -EINVAL
    except OutOfMemory:
        return -ENOMEM
    return 0


def _isa_hole_clear(kernel: Kernel, a: Arguments) -> int:
    try:
        return isahole.open_hole(kernel)
    except KernelError as error:
        return -error.errno


# -- the rest of the kernel ------------------------------------------------------------------------------------------


def _printk(kernel: Kernel, a: Arguments) -> int:
    esp = kernel.this_cpu.vcpu.context.esp & 0xFFFFFFFF

    def words() -> Iterator[int]:
        for number in count(2):
            yield int.from_bytes(kernel.peek(None, esp + 4 * number, 4), "little")

    text = format_text(kernel.kernel_string(a[0], LONGEST_STRING), words(), kernel.kernel_string)
    return kernel.log.add(text)


def _panic(kernel: Kernel, a: Arguments) -> None:
    raise GuestKernelBug(f"Kernel panic: {kernel.kernel_string(a[0]).decode('utf-8', 'replace').rstrip()}")


def _schedule(kernel: Kernel, a: Arguments) -> None:
    kernel.may_sleep("schedule")
    kernel.cond_resched()


def _module_use(change: int) -> object:
    def use(kernel: Kernel, a: Arguments) -> None:
        esp = kernel.this_cpu.vcpu.context.esp & 0xFFFFFFFF
        kernel.modules.use(kernel.gate_table.caller(esp), change)

    return use


def answered() -> list[Export]:
    """The symbols that Python answers; a symbol's place is its number, and the first three are in ``kernel.inc``."""
    return [
        Export("kmalloc", 2, _kmalloc, "size, priority: bytes of contiguous lowmem, 0 for none", saved=1),
        Export("kfree", 1, _kfree, "pointer", saved=1),
        Export("__kmalloc_corrupted", 0, _kmalloc_corrupted, saved=1),
        Export("__get_free_pages", 2, lambda k, a: k.page_alloc.get_free_pages_unclear(a[0], a[1]), "priority, order"),
        Export("__get_free_page", 1, lambda k, a: k.page_alloc.get_free_pages_unclear(a[0], 0), "priority"),
        Export("get_free_pages", 2, lambda k, a: k.page_alloc.get_free_pages(a[0], a[1]), "priority, order; cleared"),
        Export("get_free_page", 1, lambda k, a: k.page_alloc.get_free_pages(a[0], 0), "priority; cleared"),
        Export(
            "__get_dma_pages", 2, lambda k, a: k.page_alloc.get_free_pages_unclear(a[0] | DMA, a[1]), "priority, order"
        ),
        Export("__get_dma_page", 1, lambda k, a: k.page_alloc.get_free_pages_unclear(a[0] | DMA, 0), "priority"),
        Export("free_pages", 2, lambda k, a: k.page_alloc.free_linear(a[0], a[1]), "address, order"),
        Export("free_page", 1, lambda k, a: k.page_alloc.free_linear(a[0], 0), "address"),
        Export("alloc_pages", 2, _alloc_pages, "priority, order: struct page, also of highmem"),
        Export("__free_pages", 2, _free_pages_of, "struct page, order"),
        Export("nr_free_pages", 0, lambda k, a: k.frames.free_frames, "free frames"),
        Export("drain_free_lists", 0, lambda k, a: k.frames.drain(), "every CPU's single frames back to the zones"),
        Export("page_address", 1, _page_address, "struct page: linear address, 0 for highmem without a mapping"),
        Export("vmalloc", 1, lambda k, a: k.vmalloc.vmalloc(a[0]), "size"),
        Export("vfree", 1, lambda k, a: k.vmalloc.vfree(a[0]), "address"),
        Export("vmalloc_to_pfn", 1, _vmalloc_to_pfn, "kernel address: frame number, -1 for none"),
        Export("vmalloc_sync_all", 0, lambda k, a: k.vmalloc.sync_all(k.layout.vmalloc.start, k.layout.vmalloc.end)),
        Export("vremap", 2, lambda k, a: k.ioremap.vremap(a[0], a[1]), "physical address, size"),
        Export("ioremap", 2, lambda k, a: k.ioremap.ioremap(a[0], a[1]), "physical address, size"),
        Export("ioremap_nocache", 2, lambda k, a: k.ioremap.ioremap(a[0], a[1], True), "the same with PCD"),
        Export("iounmap", 1, lambda k, a: k.ioremap.iounmap(a[0]), "address"),
        Export("dma_crosses", 3, lambda k, a: dma_crosses(a[0], a[1], a[2] or 1), "physical address, size, boundary"),
        Export("boot_reservation", 2, _boot_reservation, "name, pointer to its size: address of a boot reservation"),
        Export("add_memory", 2, _add_memory, "first frame, frames: RAM that boot was not told of"),
        Export("isa_hole_clear", 0, _isa_hole_clear, "move what lies from 14 to 16 MB, give the range to the card"),
        Export("verify_area", 3, useraccess.verify_area, "VERIFY_READ or _WRITE, address, size: 0 or -EFAULT"),
        Export("use_mm", 1, useraccess.use_mm, "pid: user access reaches that task's memory; 0 or -ESRCH"),
        Export("unuse_mm", 0, useraccess.unuse_mm, "back to one's own"),
        Export("set_current", 1, useraccess.set_current, "pid: change current and nothing else"),
        Export("current_pid", 0, lambda k, a: 0 if k.this_cpu.current is None else k.this_cpu.current.pid, "pid"),
        Export("printk", 1, _printk, "format, …"),
        Export("panic", 1, _panic, "text"),
        Export("schedule", 0, _schedule, "let other tasks run"),
        Export("sleep_on", 1, waitqueue.sleep_on, "address of a word: sleep until wake_up"),
        Export("interruptible_sleep_on", 1, waitqueue.interruptible_sleep_on, "the same; -ERESTARTSYS for a signal"),
        Export("wake_up", 1, waitqueue.wake_up_queue, "address of a word"),
        Export("register_chrdev", 2, chrdev.register_chrdev, "name, struct file_operations: /dev/name"),
        Export("unregister_chrdev", 1, chrdev.unregister_chrdev, "name"),
        Export("request_irq", 2, irq.request_irq, "vector, handler(vector)"),
        Export("free_irq", 1, irq.free_irq, "vector"),
        Export("in_interrupt", 0, lambda k, a: k.in_interrupt, "1 inside a handler"),
        Export("mod_inc_use_count", 0, _module_use(1), "the caller's module is in use"),  # type: ignore[arg-type]
        Export("mod_dec_use_count", 0, _module_use(-1), "once less"),  # type: ignore[arg-type]
        Export("jiffies_now", 0, lambda k, a: k.sched.now & 0xFFFFFFFF, "the machine's time in blocks"),
    ]


ROUTINES = {
    name: name
    for name in (
        "kmalloc", "kfree", "pfn_valid", "pfn_valid_walk", "pfn_valid_fault", "pfn_to_page", "page_to_pfn",
        "memcpy", "memset", "memcpy_fromio", "memcpy_toio", "memset_io",
        "readb", "readw", "readl", "writeb", "writew", "writel",
        "get_fs", "get_ds", "set_fs", "memcpy_tofs", "memcpy_fromfs",
        "get_fs_byte", "get_fs_word", "get_fs_long", "put_fs_byte", "put_fs_word", "put_fs_long",
        "copy_to_user", "copy_from_user", "__get_user", "__put_user", "init_only",
    )
} | {"clear_user": "clear_user_c"}  # fmt: skip
"""Exported name to symbol of the kernel's image."""

DATA = (
    "mem_model", "max_pfn", "mem_map", "mem_section", "section_shift", "nr_sections", "vmem_map", "swapper_pg_dir",
    "high_memory",
)  # fmt: skip


def make_gate(kernel: Kernel) -> Gate:
    """The table of one kernel."""
    return Gate(kernel, answered(), ROUTINES, DATA)
