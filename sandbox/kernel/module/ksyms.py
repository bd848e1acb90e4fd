"""What guest kernel code may call, under the kernel's own names, with C arguments.

The first group is answered in Python through the gate; the second is code of ``asm/kernel``; the third are words of the
kernel's data.  ``asm/images/include/module.h`` declares them for C.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

from sandbox.engine.context import ECX
from sandbox.kernel.abi.errno import EINVAL, ENOMEM, KernelError
from sandbox.kernel.base.inject import OutOfMemory
from sandbox.kernel.base.layout import PAGE_OFFSET
from sandbox.kernel.base.wait import might_sleep
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.bootmem import FOUR_GIGABYTES
from sandbox.kernel.mm.page import VIRTUAL, BadPage
from sandbox.kernel.mm.page_alloc import dma_crosses
from sandbox.kernel.mm.pte import is_present
from sandbox.kernel.mm.sparse import CannotAddMemory
from sandbox.kernel.module.chrdev import Devices
from sandbox.kernel.module.hypercall import Export, Gate, GuestKernelBug
from sandbox.kernel.module.irq import IrqCalls
from sandbox.kernel.module.kmap import AtomicCalls
from sandbox.kernel.module.kmap_high import KmapCalls
from sandbox.kernel.module.loader import Modules
from sandbox.kernel.module.owners import Owners
from sandbox.kernel.module.printk import LONGEST_STRING, format_text
from sandbox.kernel.module.useraccess import UserCalls
from sandbox.kernel.module.waitqueue import WaitQueues
from sandbox.x86.paging import PAGE_SIZE, PS


class MemoryCalls:
    """kmalloc's middle, pages, and what goes on with memory as a whole."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel, self._smp = kernel, kernel.smp
        self._serve, self._give_back = kernel.kmalloc.serve, kernel.kmalloc.give_back

    def kmalloc(self, size: int, priority: int) -> int:
        """The routine of ``kmalloc.S`` asks for an area."""
        cpu = self._smp.this_cpu
        return self._serve(cpu, cpu.vcpu.context, size, priority)

    def kfree(self, pointer: int) -> int:
        """The routine has found a flag word, in ECX."""
        return self._give_back(pointer, self._smp.this_cpu.vcpu.context.quads[ECX] & 0xFFFFFFFF)

    def kmalloc_corrupted(self) -> None:
        self._kernel.kmalloc.corrupted(self._kernel.this_cpu.vcpu.context.edx & 0xFFFFFFFF)

    def alloc_pages(self, priority: int, order: int) -> int:
        kernel = self._kernel
        try:
            return kernel.model.struct_page(kernel.page_alloc.alloc_pages(priority, order))
        except OutOfMemory:
            return 0

    def free_pages_of(self, page: int, order: int) -> None:
        self._kernel.page_alloc.free_pages(self.page_to_pfn(page), order)

    def kva_get(self, page: int) -> int:
        """0 where no frame is left for a page table of the pool."""
        try:
            return self._kernel.kva.kva_get(self._smp.this_cpu, self.page_to_pfn(page))
        except OutOfMemory:
            return 0

    def kva_put(self, page: int) -> None:
        kernel, pfn = self._kernel, self.page_to_pfn(page)
        kernel.kva.unmap(self._smp.this_cpu, pfn, kernel.memmap.words[kernel.memmap.at(pfn) + VIRTUAL])

    def page_kva(self, page: int) -> int:
        return self._kernel.kva.page_kva(self._smp.this_cpu, self.page_to_pfn(page))

    def lock_page(self, page: int) -> None:
        self._kernel.locks.lock_page(self.page_to_pfn(page))

    def unlock_page(self, page: int) -> None:
        self._kernel.locks.unlock_page(self.page_to_pfn(page))

    def wait_on_page(self, page: int) -> None:
        self._kernel.locks.wait_on_page(self.page_to_pfn(page))

    def virt_to_page(self, address: int) -> int:
        """The structure of the page behind an address of the direct map, the kva pool or vmalloc; 0 for none."""
        pfn, kernel = self.vmalloc_to_pfn(address), self._kernel
        return kernel.model.struct_page(pfn) if kernel.memmap.has_page(pfn) else 0

    def physical_address(self, address: int) -> int:
        """``__pa``; -1 also above 4 GB, where a word does not hold it and ``vmalloc_to_pfn`` tells the frame."""
        physical = self.vmalloc_to_pfn(address) * PAGE_SIZE + address % PAGE_SIZE
        return physical if 0 <= physical < FOUR_GIGABYTES else -1

    def page_to_pfn(self, page: int) -> int:
        """The frame whose structure guest code names.  Raises BadPage for an address of none."""
        kernel = self._kernel
        pfn = kernel.model.pfn_of(page)
        if pfn < 0 or not kernel.memmap.has_page(pfn) or kernel.model.struct_page(pfn) != page:
            raise BadPage(f"{page:#010x} is no struct page")
        return pfn

    def vmalloc_to_pfn(self, address: int) -> int:
        """The frame behind a kernel address, by the kernel's tables; -1 where nothing is mapped."""
        kernel = self._kernel
        entry = kernel.tables.lookup_pte(kernel.tables.kernel_pgd, address)
        if not is_present(entry):
            return -1
        if entry & PS and address < kernel.layout.direct.end:
            return (address - PAGE_OFFSET) // PAGE_SIZE
        return kernel.tables.pte_pfn(entry)

    def boot_reservation(self, name: int, size: int) -> int:
        """Linear address of what ``bootmem=NAME:SIZE`` or ``boot_init`` reserved, its size at ``size``; 0 for none."""
        kernel, wanted = self._kernel, self._kernel.peek.kernel_string(name)
        for what, start, end in kernel.reserved:
            if what.encode() == wanted:
                if size:
                    kernel.this_cpu.call(kernel.routines.put_user_4, eax=end - start, edi=size)
                return PAGE_OFFSET + start
        return 0

    def add_memory(self, first: int, frames: int) -> int:
        """Hot-add of so many frames; 0 or an errno."""
        try:
            self._kernel.hotplug.add_memory(first * PAGE_SIZE, frames * PAGE_SIZE)
        except CannotAddMemory as error:
            self._kernel.log.printk(f"add_memory: {error.summary}\n")
            return -EINVAL
        except OutOfMemory:
            return -ENOMEM
        return 0

    def isa_hole_clear(self) -> int:
        try:
            return self._kernel.isahole.open_hole()
        except KernelError as error:
            return -error.errno


class OtherCalls:
    """printk, panic, schedule, use counts."""

    def __init__(self, kernel: Kernel, modules: Modules) -> None:
        self._kernel, self._modules, self._smp = kernel, modules, kernel.smp

    def _esp(self) -> int:
        """Where the return address of the present call lies."""
        return self._kernel.this_cpu.vcpu.context.esp & 0xFFFFFFFF

    def printk(self, text: int) -> int:
        """The arguments behind ``text`` lie on the caller's stack."""
        peek, esp = self._kernel.peek, self._esp()

        def words() -> Iterator[int]:
            for number in count(2):
                yield peek.word(esp + 4 * number)

        said = format_text(peek.kernel_string(text, LONGEST_STRING), words(), peek.kernel_string)
        return self._kernel.log.add(said)

    def panic(self, text: int) -> None:
        said = self._kernel.peek.kernel_string(text).decode("utf-8", "replace").rstrip()
        raise GuestKernelBug(f"Kernel panic: {said}")

    def schedule(self) -> None:
        might_sleep(self._kernel.sched, "schedule")
        self._kernel.sched.cond_resched()

    def current_pid(self) -> int:
        task = self._smp.this_cpu.current
        return 0 if task is None else task.pid

    def use(self, change: int) -> Callable[[], None]:
        """The function that counts the caller's module."""
        return lambda: self._modules.use(self._kernel.peek.word(self._esp()), change)


def answered(kernel: Kernel, modules: Modules, devices: Devices, users: UserCalls) -> list[Export]:
    """The symbols that Python answers; a symbol's place is its number, and the first three are in ``kernel.inc``."""
    pages, pgdat, vmalloc, ioremap = kernel.page_alloc, kernel.pgdat, kernel.vmalloc, kernel.ioremap
    memory, other = MemoryCalls(kernel), OtherCalls(kernel, modules)
    atomic, high = AtomicCalls(kernel, memory.page_to_pfn), KmapCalls(kernel, memory.page_to_pfn)
    irqs, queues = IrqCalls(kernel.irq), WaitQueues(kernel.sched)
    unclear, dma = pages.get_free_pages_unclear, pages.get_dma_pages
    area = kernel.layout.vmalloc
    return [
        Export("kmalloc", 2, memory.kmalloc, "size, priority: bytes of contiguous lowmem, 0 for none", saved=1),
        Export("kfree", 1, memory.kfree, "pointer", saved=1),
        Export("__kmalloc_corrupted", 0, memory.kmalloc_corrupted, saved=1),
        Export("__get_free_pages", 2, unclear, "priority, order"),
        Export("__get_free_page", 1, unclear, "priority"),
        Export("get_free_pages", 2, pages.get_free_pages, "priority, order; cleared"),
        Export("get_free_page", 1, pages.get_free_pages, "priority; cleared"),
        Export("__get_dma_pages", 2, dma, "priority, order"),
        Export("__get_dma_page", 1, dma, "priority"),
        Export("free_pages", 2, pages.free_linear, "address, order"),
        Export("free_page", 1, pages.free_linear, "address"),
        Export("alloc_pages", 2, memory.alloc_pages, "priority, order: struct page, also of highmem"),
        Export("__free_pages", 2, memory.free_pages_of, "struct page, order"),
        Export("nr_free_pages", 0, lambda: pgdat.free_frames, "free frames"),
        Export("drain_free_lists", 0, pgdat.drain, "every CPU's single frames back to the zones"),
        Export("page_address", 1, high.page_address, "struct page: linear address, 0 for highmem without a mapping"),
        Export("kva_get", 1, memory.kva_get, "struct page: an address, kept until kva_put, 0 for no memory; may sleep"),
        Export("kva_put", 1, memory.kva_put, "struct page: one user less, the address stays the page's"),
        Export("page_kva", 1, memory.page_kva, "struct page: the address that it has now, 0 for none"),
        Export("virt_to_page", 1, memory.virt_to_page, "kernel address: struct page, 0 for none"),
        Export("__pa", 1, memory.physical_address, "kernel address: physical address, -1 for none below 4 GB"),
        Export("kmap", 1, high.kmap, "struct page: an address that is the page's until kunmap; may sleep"),
        Export("kunmap", 1, high.kunmap, "struct page: a user less; the page is unmapped with the next lap"),
        Export("kmap_to_page", 1, high.kmap_to_page, "address of kmap or the direct map: its struct page, 0 for none"),
        Export("kmap_flush_unused", 0, high.kmap_flush_unused, "unmap and flush what kmap has without users, now"),
        Export("kmap_atomic", 2, atomic.kmap_atomic, "struct page, KM_*: an address for this CPU and this moment"),
        Export("kmap_atomic_pages", 3, atomic.kmap_atomic_pages, "the same for pages in a row (kmap_atomic=heap)"),
        Export("kunmap_atomic", 2, atomic.kunmap_atomic, "address, KM_*"),
        Export("kmap_atomic_to_page", 1, atomic.kmap_atomic_to_page, "address: its struct page, 0 for none"),
        Export("copy_highpage", 2, atomic.copy_highpage, "to, from: struct pages"),
        Export("clear_highpage", 1, atomic.clear_highpage, "struct page"),
        Export("vmalloc", 1, vmalloc.vmalloc, "size"),
        Export("vfree", 1, vmalloc.vfree, "address"),
        Export("vmalloc_to_pfn", 1, memory.vmalloc_to_pfn, "kernel address: frame number, -1 for none"),
        Export("vmalloc_sync_all", 0, lambda: vmalloc.sync_all(area.start, area.end)),
        Export("vremap", 2, ioremap.vremap, "physical address, size"),
        Export("ioremap", 2, ioremap.ioremap, "physical address, size"),
        Export("ioremap_nocache", 2, ioremap.ioremap_nocache, "the same with PCD"),
        Export("iounmap", 1, ioremap.iounmap, "address"),
        Export("dma_crosses", 3, _dma_crosses, "physical address, size, boundary"),
        Export("boot_reservation", 2, memory.boot_reservation, "name, pointer to its size: its address"),
        Export("add_memory", 2, memory.add_memory, "first frame, frames: RAM that boot was not told of"),
        Export("isa_hole_clear", 0, memory.isa_hole_clear, "move what lies from 14 to 16 MB, give it to the card"),
        Export("verify_area", 3, users.verify_area, "VERIFY_READ or _WRITE, address, size: 0 or -EFAULT"),
        Export("use_mm", 1, users.use_mm, "pid: user access reaches that task's memory; 0 or -ESRCH"),
        Export("unuse_mm", 0, users.unuse_mm, "back to one's own"),
        Export("set_current", 1, users.set_current, "pid: change current and nothing else"),
        Export("current_pid", 0, other.current_pid, "pid"),
        Export("printk", 1, other.printk, "format, …"),
        Export("panic", 1, other.panic, "text"),
        Export("schedule", 0, other.schedule, "let other tasks run"),
        Export("sleep_on", 1, queues.sleep_on, "address of a word: sleep until wake_up"),
        Export("interruptible_sleep_on", 1, queues.interruptible_sleep_on, "the same; -ERESTARTSYS for a signal"),
        Export("wake_up", 1, queues.wake_up, "address of a word"),
        Export("register_chrdev", 2, devices.register_chrdev, "name, struct file_operations: /dev/name"),
        Export("unregister_chrdev", 1, devices.unregister_chrdev, "name"),
        Export("request_irq", 2, irqs.request_irq, "vector, handler(vector)"),
        Export("free_irq", 1, irqs.free_irq, "vector"),
        Export("in_interrupt", 0, lambda: kernel.smp.in_interrupt, "1 inside a handler"),
        Export("mod_inc_use_count", 0, other.use(1), "the caller's module is in use"),
        Export("mod_dec_use_count", 0, other.use(-1), "once less"),
        Export("jiffies_now", 0, lambda: kernel.clock.now & 0xFFFFFFFF, "the machine's time in blocks"),
        Export("lock_page", 1, memory.lock_page, "struct page: mine for IO; its kva stays; sleeps while it is locked"),
        Export("unlock_page", 1, memory.unlock_page, "struct page: who waits goes on; also in an interrupt"),
        Export("wait_on_page", 1, memory.wait_on_page, "struct page: sleep while it is locked"),
        Export("flush_tlb_page", 1, users.flush_tlb_page, "user address, its entry has changed: every CPU forgets it"),
    ]


def _dma_crosses(physical: int, size: int, boundary: int) -> bool:
    return dma_crosses(physical, size, boundary or 1)


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


def make_gate(
    kernel: Kernel, modules: Modules, devices: Devices, users: UserCalls, symbolize: Callable[[int], str]
) -> Gate:
    """The table of one kernel; modules find the symbols in it."""
    gate = Gate(kernel, answered(kernel, modules, devices, users), ROUTINES, DATA, symbolize, Owners(kernel, modules))
    modules.exported = gate.symbols
    return gate
