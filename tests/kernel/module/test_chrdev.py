"""Devices of modules: names, errors, files that outlive their module."""

from __future__ import annotations

import re

import pytest

from tests.kernel.module.conftest import Compile, RunBoth, RunModule

DEVICE = """
static int ioctl(int file, u32 request, u32 argument) {{ {body} }}
static const struct file_operations operations = {{ 0, 0, 0, 0, ioctl }};
int init_module(void) {{ return register_chrdev("it", &operations) < 0; }}
void cleanup_module(void) {{ unregister_chrdev("it"); }}
"""


@pytest.mark.parametrize("name", [".", "..", "", "null", "a/b", "x" * 80, "tab\\tbed", "zero"])
def test_names_that_cannot_be(run_module: RunModule, name: str) -> None:
    text = f"""static const struct file_operations operations;
        int init_module(void) {{ CHECK(1, register_chrdev("{name}", &operations) < 0); return 0; }}"""
    assert run_module(text).passed


@pytest.mark.parametrize(("answer", "seen"), [(-600, -22), (-512, -4), (-1000, -22), (-5, -5), (7, 7)])
def test_errors_cross(run_both: RunBoth, answer: int, seen: int) -> None:
    """What is no errno of a program's is EINVAL; -ERESTARTSYS without a signal is EINTR, not a call without end."""
    program = f'int main(void) {{ return ioctl(open("/dev/it", O_RDWR), 1, 0) != {seen}; }}'
    assert run_both(DEVICE.format(body=f"return {answer};"), program).passed


def test_a_file_outlives_its_module(run_both: RunBoth, compiled: Compile) -> None:
    """Another module under the same name does not get files that it has not opened."""
    second = compiled(DEVICE.format(body="return 2;"), "module")
    program = """int main(void) { int fd = open("/dev/it", O_RDWR), next;
        CHECK(1, ioctl(fd, 0, 0) == 1 && call(SYS_delete_module, "m", 0, 0) == 0 && ioctl(fd, 0, 0) == -ENODEV);
        CHECK(2, call(350, open("/second.o", O_RDONLY), "", 0) == 0);
        next = open("/dev/it", O_RDWR);
        CHECK(3, ioctl(next, 0, 0) == 2 && ioctl(fd, 0, 0) == -ENODEV);
        return 0; }"""
    result = run_both(DEVICE.format(body="return 1;"), program, files={"/second.o": second})
    assert result.status == 0, result.error


def test_a_path_descriptor_is_no_open(run_both: RunBoth) -> None:
    module = """static int opened; static int open(int file) { opened++; return 0; }
        static int ioctl(int file, u32 r, u32 a) { return opened; }
        static const struct file_operations operations = { open, 0, 0, 0, ioctl };
        int init_module(void) { return register_chrdev("it", &operations) < 0; }
        void cleanup_module(void) { unregister_chrdev("it"); }"""
    program = 'int main(void) { close(open("/dev/it", 0x200000)); return ioctl(open("/dev/it", O_RDWR), 0, 0) != 1; }'
    assert run_both(module, program).passed


def test_two_tasks_unload_one_module(run_both: RunBoth) -> None:
    """cleanup_module sleeps; the second delete_module is refused, and so is one while init sleeps."""
    module = (
        'int init_module(void) { return 0; } void cleanup_module(void) { schedule(); schedule(); printk("once\\n"); }'
    )
    program = """int main(void) { int status, child = fork(), mine = call(SYS_delete_module, "m", 0, 0);
        if (child == 0) exit(mine == 0 ? 0 : -mine);
        waitpid(child, &status, 0);
        if (mine == 0)
                return status >> 8 != EBUSY && status >> 8 != 2;
        return status != 0 || (mine != -EBUSY && mine != -2); }"""
    result = run_both(module, program)
    assert result.passed, (result.error, result.status)
    assert result.stderr == b"once\n"


def test_access_to_kernel_memory_is_a_tasks_own(run_both: RunBoth) -> None:
    """set_fs(KERNEL_DS) and sleep: nobody else's copies reach kernel memory, and the next call has the limit again."""
    module = """static int word, x;
        static int ioctl(int file, u32 request, u32 argument) {
                void *secret = (void *)0xC0100000u;
                if (request == 1) { set_fs(KERNEL_DS); sleep_on(&word); return copy_from_user(&x, secret, 4); }
                if (request == 2) { int left = copy_from_user(&x, secret, 4); wake_up(&word); return left; }
                if (request == 3) { set_fs(KERNEL_DS); return 0; }
                return 0; }
        static const struct file_operations operations = { 0, 0, 0, 0, ioctl };
        int init_module(void) { return register_chrdev("it", &operations) < 0; }
        void cleanup_module(void) { unregister_chrdev("it"); }"""
    program = """int main(void) { int fd = open("/dev/it", O_RDWR), status, child = fork();
        if (child == 0) exit(ioctl(fd, 1, 0) != 0);
        sched_yield();
        CHECK(1, ioctl(fd, 2, 0) == 4);
        CHECK(2, waitpid(child, &status, 0) == child && status == 0);
        CHECK(3, ioctl(fd, 3, 0) == 0 && ioctl(fd, 2, 0) == 4);
        return 0; }"""
    assert run_both(module, program).status == 0


def test_changing_current_is_a_tasks_own(run_both: RunBoth) -> None:
    module = """static int word;
        static int ioctl(int file, u32 request, u32 argument) {
                if (request == 1) { set_current(argument); sleep_on(&word); set_current(0); return 0; }
                wake_up(&word); return 0; }
        static const struct file_operations operations = { 0, 0, 0, 0, ioctl };
        int init_module(void) { return register_chrdev("it", &operations) < 0; }
        void cleanup_module(void) { unregister_chrdev("it"); }"""
    program = """int main(void) { int fd = open("/dev/it", O_RDWR), status, me = getpid(), child = fork();
        int zero = open("/dev/zero", 0);
        char *area;
        if (child == 0) exit(ioctl(fd, 1, me) != 0);
        sched_yield();
        area = mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(1, read(zero, area, 2 * PAGE) == 2 * PAGE);
        ioctl(fd, 2, 0);
        CHECK(2, waitpid(child, &status, 0) == child && status == 0);
        return 0; }"""
    assert run_both(module, program).status == 0


STEPS = """
static int ioctl(int file, u32 request, u32 bytes)
{
        asm volatile("mov %%esp, %%esi; sub %0, %%esp; movl $1, (%%esp); mov %%esi, %%esp"
                     :: "r"(bytes) : "esi", "memory");
        return 0;
}
static const struct file_operations operations = { 0, 0, 0, 0, ioctl };
int init_module(void) { return register_chrdev("steps", &operations) < 0; }
"""
FORKS = """
int main(void)
{
        int fd = open("/dev/steps", O_RDWR), at, to[2];
        char byte;
        pipe(to);
        for (at = 0; at < %d; at++)
                if (!fork()) { read(to[0], &byte, 1); exit(0); }
        return ioctl(fd, 1, %d << 10);
}
"""


@pytest.mark.parametrize(("tasks", "kilobytes"), [(2, 1020), (14, 252), (62, 60)])
def test_a_frame_taken_in_one_step(run_both: RunBoth, tasks: int, kilobytes: int) -> None:
    """With two stacks of the CPU's and one a task; docs/modules.md has the table."""
    result = run_both(STEPS, FORKS % (tasks - 1, kilobytes))
    assert re.search(r"kernel stack overflow under ioctl \[m\], (at|beyond) its guard page", result.error), result.error
