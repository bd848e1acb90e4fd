"""Devices' interrupts and handlers of modules: when they come, what they may do, and that they end."""

from __future__ import annotations

import pytest

from tests.kernel.module.conftest import RunBoth, RunModule

CARD = """
static u8 *card;
static u32 volatile rings;
%s
static int ready(void)
{
        card = vremap(0x80000000u, 2 << 20);
        request_irq(0x45, bell);
        writel(0x45, card + 0x10);
        return 0;
}
static void ring(void) { writel(1, card + 0x14); }
static int done(void) { free_irq(0x45); vfree(card); return 0; }
"""
COUNTS = CARD % "static void bell(u32 vector) { rings++; }"


def test_at_once_where_interrupts_are_on(run_module: RunModule) -> None:
    text = (
        COUNTS
        + """int init_module(void) { ready(); ring(); schedule(); CHECK(1, rings == 1);
        asm volatile("cli"); ring(); ring(); schedule(); CHECK(2, rings == 1);
        asm volatile("sti"); schedule(); CHECK(3, rings == 2); return done(); }"""
    )
    result = run_module(text, devices=("card",))
    assert result.passed, result.stdout
    assert result.error == ""


def test_sleep_until_the_handler_wakes(run_module: RunModule) -> None:
    """2.0's pattern: interrupts off, start the device, sleep; whoever sleeps lets interrupts in."""
    text = CARD % "static int word; static void bell(u32 vector) { rings++; wake_up(&word); }"
    text += """int init_module(void) { ready(); asm volatile("cli"); ring(); sleep_on(&word);
        CHECK(1, rings); return done(); }"""
    assert run_module(text, devices=("card",)).passed


@pytest.mark.parametrize("cpus", [1, 2])
def test_ring_3_is_interrupted_for_what_waits(run_both: RunBoth, cpus: int) -> None:
    module = (
        COUNTS
        + """
        static int ioctl(int file, u32 request, u32 a) {
                if (request)
                        return rings;
                asm volatile("cli");
                ring();
                return 0; }
        static const struct file_operations operations = { 0, 0, 0, 0, ioctl };
        int init_module(void) { ready(); return register_chrdev("bell", &operations) < 0; }
        void cleanup_module(void) { unregister_chrdev("bell"); done(); }"""
    )
    program = """int main(void) { int fd = open("/dev/bell", O_RDWR); ioctl(fd, 0, 0);
        getpid(); return ioctl(fd, 1, 0) != 1; }"""
    assert run_both(module, program, devices=("card",), cpus=cpus).passed


def test_a_handler_that_rings_for_ever(run_module: RunModule) -> None:
    text = CARD % "static void bell(u32 vector) { writel(1, card + 0x14); }"
    result = run_module(
        text + "int init_module(void) { ready(); ring(); return done(); }", devices=("card",), time_limit=1
    )
    assert "limit reached" in result.error


def test_kmalloc_is_not_torn(run_module: RunModule) -> None:
    """A handler allocates and frees while the interrupted code is inside kmalloc or kfree."""
    text = (
        CARD
        % "static void *kept; static void bell(u32 vector) { kfree(kept); kept = kmalloc(1500, GFP_ATOMIC); rings++; }"
    )
    text += """int init_module(void) { void *one, *other; int at; ready();
        for (at = 0; at < 200; at++) {
                one = kmalloc(1500, GFP_KERNEL), other = kmalloc(1500, GFP_KERNEL);
                asm volatile("cli"); ring(); asm volatile("sti");
                kfree(one); ring(); kfree(other); ring();
                CHECK(1, one && other && one != other);
        }
        kfree(kept); return done(); }"""
    result = run_module(text, devices=("card",))
    assert result.passed, result.error


def test_no_borrowing_in_a_handler(run_module: RunModule) -> None:
    text = CARD % "static void bell(u32 vector) { use_mm(1); }"
    result = run_module(text + "int init_module(void) { ready(); ring(); return done(); }", devices=("card",))
    assert "use_mm in an interrupt" in result.error


def test_an_interrupt_that_nobody_answers(run_module: RunModule) -> None:
    text = COUNTS + "int init_module(void) { ready(); free_irq(0x45); ring(); schedule(); vfree(card); return rings; }"
    assert b"unexpected interrupt: vector 0x45" in run_module(text, devices=("card",)).stdout
