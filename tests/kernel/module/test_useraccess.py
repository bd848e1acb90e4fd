"""Copies between kernel and user memory as guest kernel code makes them: exact residues over any layout (MM 7)."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.image.assemble import SOURCES
from sandbox.kernel.abi.errno import KernelError
from sandbox.kernel.base.layout import TASK_SIZE
from sandbox.kernel.module.hypercall import GuestKernelBug
from sandbox.kernel.module.useraccess import KERNEL_DS, VERIFY_READ, VERIFY_WRITE
from tests.kernel.mm.conftest import AREA, PAGE, MakeSpace, Space
from tests.kernel.mm.conftest import space as space
from tests.kernel.module.conftest import RunBoth, RunModule

EFAULT = (1 << 32) - 14
LAYOUT = st.lists(st.sampled_from("rw-"), min_size=4, max_size=4)


def call(made: Space, name: str, *arguments: int) -> int:
    return made.cpu.call_c(made.session.system.gate.symbols[name], *arguments)


def lay(made: Space, layout: list[str]) -> None:
    made.kernel.mmap.do_munmap(made.task, AREA - PAGE, 6 * PAGE)
    for number, kind in enumerate(layout):
        if kind != "-":
            made.map(1, AREA + number * PAGE, 3 if kind == "w" else 1)


def reach(layout: list[str], start: int, size: int, allowed: str) -> int:
    """Bytes from ``start`` on that a copy gets through."""
    done = 0
    while done < size and layout[(start + done) // PAGE] in allowed:
        done = min(size, (start + done) // PAGE * PAGE + PAGE - start)
    return done


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layout=LAYOUT, start=st.integers(0, 2 * PAGE), size=st.integers(0, 2 * PAGE - 1))
def test_residues(space: MakeSpace, layout: list[str], start: int, size: int) -> None:
    made = getattr(test_residues, "made", None) or space()
    test_residues.made = made  # type: ignore[attr-defined]
    lay(made, layout)
    buffer = made.kernel.vmalloc.vmalloc(2 * PAGE)
    call(made, "memset", buffer, 0x5C, 2 * PAGE)
    assert call(made, "copy_to_user", AREA + start, buffer, size) == size - reach(layout, start, size, "w")
    assert call(made, "clear_user", AREA + start, size) == size - reach(layout, start, size, "w")
    got = reach(layout, start, size, "rw")
    assert call(made, "copy_from_user", buffer, AREA + start, size) == size - got
    assert made.kernel.peek.peek(None, buffer, size) == bytes(size), (
        "zeros were cleared, and what was not read is zeros"
    )
    wanted = all(layout[page] == "w" for page in range(start // PAGE, (start + max(size, 1) - 1) // PAGE + 1))
    for at in (AREA + start,) if size else ():
        assert (call(made, "verify_area", VERIFY_WRITE, at, size) == 0) == wanted
    made.kernel.vmalloc.vfree(buffer)


def test_single_words(space: MakeSpace) -> None:
    made = space()
    made.map(1)
    word = made.kernel.kmalloc.kmalloc(16, 3)
    for size, shown in ((1, 0x78), (2, 0x5678), (4, 0x12345678)):
        assert call(made, "__put_user", 0x12345678, AREA + 8, size) == 0
        assert call(made, "__get_user", word, AREA + 8, size) == 0
        assert made.kernel.peek.peek(None, word, 4) == shown.to_bytes(4, "little")
    assert call(made, "__get_user", word, AREA + PAGE - 1, 4) == EFAULT
    assert call(made, "__put_user", 1, AREA + PAGE, 1) == EFAULT
    assert call(made, "__put_user", 1, 0xC0000000, 4) == EFAULT
    assert call(made, "__get_user", word, 0xBFFFFFFE, 4) == EFAULT


@pytest.mark.parametrize("size", [0, 3, 5, 6, 7, 8, 16, 0x80000001, 0xFFFFFFFF])
def test_sizes_that_no_instruction_has(space: MakeSpace, size: int) -> None:
    """2.1's macros know 1, 2 and 4; any other size was a link error there (__get_user_bad, __put_user_bad)."""
    made = space()
    made.map(1)
    word = made.kernel.kmalloc.kmalloc(16, 3)
    call(made, "memset", word, 0x5C, 16)
    assert call(made, "__put_user", 0x12345678, AREA + 8, size) == EFAULT
    assert call(made, "__get_user", word, AREA + 8, size) == EFAULT
    assert call(made, "__put_user", 0x12345678, 0xC0000000 - size & 0xFFFFFFFF, size) == EFAULT
    assert made.kernel.peek.peek(None, word, 16) == b"\x5c" * 16
    assert made.kernel.peek.peek(made.mm, AREA + 8, 16) in (bytes(16), b""), "nothing was stored"


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_last_bytes_of_a_program(space: MakeSpace, size: int) -> None:
    """A word that ends at the limit is the program's, one that crosses it is not."""
    made = space()
    made.map(1, 0xC0000000 - PAGE)
    assert call(made, "__put_user", 0x12345678, 0xC0000000 - size, size) == 0
    for at in range(1, size + 1):
        assert call(made, "__put_user", 0, 0xC0000000 - size + at, size) == EFAULT


def test_a_string_ends_in_user_space(space: MakeSpace) -> None:
    """strncpy_from_user: without a NUL before TASK_SIZE it is EFAULT, whatever the kernel has behind it."""
    made = space()
    assert made.write(TASK_SIZE - 4, 0x41414141) and not made.kernel.peek.word(TASK_SIZE) & 0xFF
    for limit in (5, 64, 4096):
        with pytest.raises(KernelError) as caught:
            made.kernel.uaccess.get_string(made.task, TASK_SIZE - 4, limit)
        assert (1 << 32) - caught.value.errno == EFAULT
    assert made.write(TASK_SIZE - 4, 0x00414141)
    assert made.kernel.uaccess.get_string(made.task, TASK_SIZE - 4) == b"AAA"


def test_kernel_addresses_are_refused(space: MakeSpace) -> None:
    made = space()
    one, other = (made.kernel.kmalloc.kmalloc(16, 3) for _ in range(2))
    assert call(made, "copy_to_user", one, other, 16) == 16
    assert call(made, "copy_from_user", one, other, 16) == 16
    assert call(made, "clear_user", one, 16) == 16
    assert call(made, "copy_to_user", 0xFFFFFFF0, other, 0x20) == 0x20, "the sum wraps"
    call(made, "set_fs", KERNEL_DS)
    assert call(made, "copy_to_user", one, other, 16) == 16, "the next call has the limit again"


def test_verify_area(space: MakeSpace) -> None:
    made = space()
    made.map(2)
    made.map(1, AREA + 2 * PAGE, 1)
    for kind, at, size, fine in (
        (VERIFY_WRITE, AREA, 2 * PAGE, True),
        (VERIFY_WRITE, AREA, 2 * PAGE + 1, False),
        (VERIFY_READ, AREA, 3 * PAGE, True),
        (VERIFY_READ, AREA, 3 * PAGE + 1, False),
        (VERIFY_READ, AREA - 1, 2, False),
        (VERIFY_READ, 0xBFFFFFFF, 2, False),
        (VERIFY_READ, 0xFFFFFFFF, 0xFFFFFFFF, False),
        (VERIFY_READ, 0, 0, True),
    ):
        assert (call(made, "verify_area", kind, at, size) == 0) == fine, hex(at)


def test_verify_area_grows_the_stack(space: MakeSpace) -> None:
    made = space()
    stack = next(vma for vma in made.mm.vmas if "stack" in vma.describe())
    below = stack.start - 3 * PAGE
    assert call(made, "verify_area", VERIFY_WRITE, below, 4 * PAGE) == 0
    assert next(vma for vma in made.mm.vmas if "stack" in vma.describe()).start == below
    assert call(made, "verify_area", VERIFY_WRITE, stack.start - (16 << 20), 4) == EFAULT


def test_a_386_breaks_sharing_in_advance(space: MakeSpace) -> None:
    """With CR0.WP clear the CPU writes through read-only entries: verify_area has to break COW (MM 7)."""
    made = space(switches=frozenset(["no-wp"]))
    made.map(2)
    assert made.read(AREA) == 0
    assert made.frame(AREA) == made.kernel.zero_page
    assert call(made, "verify_area", VERIFY_WRITE, AREA, 8) == 0
    assert made.frame(AREA) != made.kernel.zero_page
    call(made, "put_fs_long", 77, AREA)
    assert made.read(AREA) == 77
    assert made.read(AREA + PAGE) == 0


def test_fs_copies_have_no_way_out(space: MakeSpace) -> None:
    made = space()
    word = made.kernel.kmalloc.kmalloc(16, 3)
    for name, arguments in (
        ("memcpy_tofs", (AREA, word, 4)),
        ("memcpy_fromfs", (word, AREA, 4)),
        ("get_fs_long", (AREA,)),
        ("put_fs_byte", (1, AREA)),
    ):
        with pytest.raises(GuestKernelBug, match=f"in {name}"):
            call(made, name, *arguments)


def test_no_faults_are_answered_in_an_interrupt(space: MakeSpace) -> None:
    made = space()
    made.map(1)
    word = made.kernel.kmalloc.kmalloc(16, 3)
    made.kernel.this_cpu.in_interrupt = True
    assert call(made, "copy_from_user", word, AREA, 4) == 4
    made.kernel.this_cpu.in_interrupt = False
    assert call(made, "copy_from_user", word, AREA, 4) == 0


def test_borrowing_ends_with_the_call(space: MakeSpace) -> None:
    """A module that leaves without unuse_mm: the kernel says so and gives the memory back."""
    made = space()
    kernel = made.kernel
    run_in_task = made.session.modules._entry.run_in_task
    use = made.session.system.gate.symbols["use_mm"]
    assert run_in_task(use, made.task.pid) == 0
    assert b"left without unuse_mm" in kernel.log.text
    assert made.task.borrowed_mms == []
    assert made.mm.users == 1
    assert run_in_task(use, 99) == (1 << 32) - 3


def test_after_a_loan_copies_reach_ones_own_memory(run_both: RunBoth) -> None:
    """unuse_mm puts CR3 back at once, not when the program goes on."""
    module = """static int ioctl(int file, u32 request, u32 argument) { u32 word = 0;
            if (use_mm(request)) return -1;
            unuse_mm();
            return copy_from_user(&word, (void *)argument, 4) ? -1 : (int)word; }
        static const struct file_operations operations = { 0, 0, 0, 0, ioctl };
        int init_module(void) { return register_chrdev("it", &operations) < 0; }
        void cleanup_module(void) { unregister_chrdev("it"); }"""
    program = """static volatile int page[PAGE / 4] __attribute__((aligned(PAGE)));
        int main(void) { int fd = open("/dev/it", O_RDWR), status, me = getpid(), child;
        page[0] = 1;
        child = fork();
        if (child == 0) { page[0] = 2; exit(ioctl(fd, me, (u32)page) != 2); }
        CHECK(1, waitpid(child, &status, 0) == child && status == 0);
        return 0; }"""
    assert run_both(module, program).status == 0


FLIPS = """
static u32 pages[2][1024] __attribute__((aligned(PAGE)));
int main(void)
{
        u32 both[2] = { (u32)pages[0], (u32)pages[1] };
        int fd = open("/dev/flip", O_RDWR);
        CHECK(1, fd >= 0);
        pages[0][0] = 1, pages[1][0] = 2;
        CHECK(2, ioctl(fd, 0, (u32)both) == 0);
        return 10 * *(volatile u32 *)pages[0] + *(volatile u32 *)pages[1];
}
"""


@pytest.mark.parametrize(("flush", "seen"), [("", 12), ("flush_tlb_page((void *)address);", 21)])
def test_flush_tlb_page_ends_a_translation(run_both: RunBoth, paging: str, flush: str, seen: int) -> None:
    """SDM 3A, 4.10.2.3: the entry alone does not; two entries change places, and what is read follows the flush."""
    text = (SOURCES / "images/bugs/flip.c").read_text().replace('#include "module.h"', "")
    local = 'asm volatile("invlpg (%0)" : : "r"(address) : "memory");'
    assert local in text
    assert run_both(text.replace(local, flush), FLIPS, paging=paging).status == seen


def test_flush_tlb_page_without_a_program_is_nothing(run_module: RunModule) -> None:
    assert run_module("flush_tlb_page((void *)0x8048000);").status == 0
