"""Sleeping for an address of the kva pool (post 001), with real tasks, modules and programs."""

from __future__ import annotations

import pytest

from sandbox.kernel.mm.page_kva import KvaDeadlock
from tests.kernel.module.conftest import RunBoth, RunModule

SMALL = {"ram": 16 << 20, "boot": "highmem=8m kva=8k"}
"""Two slots."""
DEVICE = """
static struct page *page[8];
static int ioctl(int file, u32 request, u32 n) {
        u32 *at;
        if (request == 2) { kva_put(page[n]); return 0; }
        if (request == 5) {
                at = kmap_atomic(page[7], KM_USER0);
                kva_get(page[n]);
                kunmap_atomic(at, KM_USER0);
                return 0;
        }
        if (request == 6) {
                struct page *brief = alloc_pages(GFP_USER | GFP_HIGHMEM, 0);
                kva_get(brief);
                kva_put(brief);
                __free_pages(brief, 0);
                return 0;
        }
        at = kva_get(page[n]);
        return *at == 100 + n ? 0 : -EIO;
}
static const struct file_operations operations = { 0, 0, 0, 0, ioctl };
int init_module(void) {
        u32 n, *at;
        for (n = 0; n < 8; n++) {
                page[n] = alloc_pages(GFP_USER | GFP_HIGHMEM, 0);
                at = kva_get(page[n]);
                *at = 100 + n;
                kva_put(page[n]);
        }
        return register_chrdev("kva", &operations) < 0;
}
void cleanup_module(void) {
        u32 n;
        unregister_chrdev("kva");
        for (n = 0; n < 8; n++)
                __free_pages(page[n], 0);
}
"""
NAP = 'u32 nap[2] = { 0, 10000000 }; int kva = open("/dev/kva", O_RDWR), child, status;'
TWO_EACH_WANT_TWO = f"""int main(void) {{ {NAP}
        child = fork();
        CHECK(1, ioctl(kva, 1, child ? 0 : 1) == 0);
        call(162, nap, 0, 0);
        CHECK(2, ioctl(kva, 1, child ? 2 : 3) == 0);
        return 0; }}"""


@pytest.mark.parametrize("cpus", [1, 2])
def test_all_slots_held_by_those_who_wait(run_both: RunBoth, paging: str, cpus: int) -> None:
    """Documentation/vm/highmem.txt of kmap, which holds for every pool: with one each, two tasks wait for a second."""
    result = run_both(DEVICE, TWO_EACH_WANT_TWO, **SMALL, paging=paging, cpus=cpus)
    assert "page_kva: all 2 slots are held by those who wait for one" in result.error and "ioctl" in result.error
    assert result.detail.count("waits for a slot for frame") == 2 == result.detail.count("is held by task")


@pytest.mark.parametrize("cpus", [1, 2])
def test_who_needs_one_only_is_not_told(run_both: RunBoth, cpus: int) -> None:
    """Both slots are held by one task; three others wait; no deadlock, and everybody gets on in the end."""
    program = f"""int main(void) {{ {NAP} int n;
        CHECK(1, ioctl(kva, 1, 0) == 0 && ioctl(kva, 1, 1) == 0);
        for (n = 2; n < 5; n++)
                if (!(child = fork()))
                        exit(ioctl(kva, 1, n) || ioctl(kva, 2, n));
        call(162, nap, 0, 0);
        CHECK(2, ioctl(kva, 2, 0) == 0);
        for (n = 2; n < 5; n++)
                CHECK(3, waitpid(-1, &status, 0) > 0 && status == 0);
        return ioctl(kva, 2, 1); }}"""
    result = run_both(DEVICE, program, **SMALL, cpus=cpus)
    assert result.passed, (result.error, result.status)
    assert result.summary.kva["sleeps"] >= 3


@pytest.mark.parametrize("cpus", [1, 2])
def test_two_who_wait_for_one_page_share_its_address(run_both: RunBoth, cpus: int) -> None:
    """One slot comes free, one of two sleepers maps the page and keeps it: the other goes on, too."""
    program = f"""int main(void) {{ {NAP} int n;
        CHECK(1, ioctl(kva, 1, 0) == 0 && ioctl(kva, 1, 1) == 0);
        for (n = 0; n < 2; n++)
                if (!(child = fork()))
                        exit(ioctl(kva, 1, 2));
        call(162, nap, 0, 0);
        CHECK(2, ioctl(kva, 2, 0) == 0);
        for (n = 0; n < 2; n++)
                CHECK(3, waitpid(-1, &status, 0) > 0 && status == 0);
        CHECK(4, ioctl(kva, 2, 2) == 0 && ioctl(kva, 2, 2) == 0);
        return ioctl(kva, 2, 1); }}"""
    result = run_both(DEVICE, program, **SMALL, cpus=cpus)
    assert result.passed, (result.error, result.status)


def test_with_a_window_open_nobody_sleeps(run_both: RunBoth) -> None:
    """kmap_atomic begins an atomic section (MM 14)."""
    program = f"""int main(void) {{ {NAP}
        CHECK(1, ioctl(kva, 1, 0) == 0 && (HELD < 2 || ioctl(kva, 1, 1) == 0));
        if (!(child = fork()))
                exit(ioctl(kva, 5, 2) || ioctl(kva, 2, 2));
        CHECK(2, waitpid(child, &status, 0) == child && status == 0);
        return ioctl(kva, 2, 0); }}"""
    result = run_both(DEVICE, program.replace("HELD", "2"), **SMALL)
    assert "kmap_atomic window" in result.error
    assert run_both(DEVICE, program.replace("HELD", "1"), **SMALL).passed, "with a slot left nobody has to sleep"


def test_in_an_interrupt_nobody_sleeps(run_module: RunModule) -> None:
    text = """static struct page *page[3];
        static void on(u32 vector) { kva_get(page[2]); }
        int init_module(void) {
                u8 *card = vremap(0x80000000u, 4096);
                u32 n;
                for (n = 0; n < 3; n++) page[n] = alloc_pages(GFP_USER | GFP_HIGHMEM, 0);
                for (n = 0; n < HELD; n++) kva_get(page[n]);
                CHECK(1, request_irq(0x45, on) == 0);
                writel(0x45, card + 0x10);
                writel(1, card + 0x14);
                for (n = 0; n < HELD; n++) kva_put(page[n]);
                kva_put(page[2]);
                for (n = 0; n < 3; n++) __free_pages(page[n], 0);
                free_irq(0x45);
                vfree(card);
                return 0; }"""
    full = run_module(text.replace("HELD", "2"), **SMALL, devices=("card",))
    assert "in an interrupt: nothing may sleep there" in full.error
    assert run_module(text.replace("HELD", "1"), **SMALL, devices=("card",)).passed, "with a slot left it may"


READS = """static u8 page[4096];
int main(void) { u32 n, child, status; int kva = open("/dev/kva", O_RDWR), file = open("/tmp/f", O_RDWR | O_CREAT);
        u32 nap[2] = { 0, 10000000 };
        memset(page, 7, 4096);
        CHECK(1, write(file, page, 4096) == 4096);
        CHECK(2, ioctl(kva, 1, 0) == 0 && ioctl(kva, 1, 1) == 0);
        child = fork();
        if (!child) {
                memset(page, 1, 4096);
                CHECK(3, call6(180, file, (u32)page, 4096, 0, 0, 0) == 4096 && page[0] == 7 && page[4095] == 7);
                exit(0);
        }
        call(162, nap, 0, 0);
        CHECK(4, ioctl(kva, 2, 1) == 0);
        CHECK(5, waitpid(child, &status, 0) == child && status == 0);
        return ioctl(kva, 2, 0); }"""


@pytest.mark.parametrize("cpus", [1, 2])
def test_read_sleeps_until_a_slot_has_no_user(run_both: RunBoth, paging: str, cpus: int) -> None:
    """pread64 (180) by way of the pool; the fork's copies and clears meanwhile go through windows, they hold locks."""
    result = run_both(DEVICE, READS, **SMALL, paging=paging, cpus=cpus, policies={"high_pages": "kva"})
    assert result.passed, (result.error, result.status)
    assert result.summary.kva["sleeps"] == 1 and result.summary.high_pages["strays"] > 0


def test_a_page_fault_that_waits_for_an_address_waits_for_ever(run_both: RunBoth) -> None:
    """The switch pool-nested-wait: the parent's own page fault wants a third, and nobody is there to give one back."""
    with pytest.raises(KvaDeadlock, match="all 2 slots are held by those who wait for one"):
        run_both(DEVICE, READS, **SMALL, policies={"high_pages": "kva"}, switches=frozenset({"pool-nested-wait"}))


def ipis_and_avoided(run_both: RunBoth, others: int) -> tuple[int, int]:
    """A page is freed, and its address goes to another one after a while; two CPUs: interrupts, and those saved."""
    program = f"""int main(void) {{ {NAP} int n, pids[4];
        for (n = 0; n < {others}; n++)
                if (!(pids[n] = fork()))
                        for (;;) sched_yield();
        nap[1] = 10000;
        for (n = 0; n < 60; n++)
                CHECK(1, ioctl(kva, 6, 0) == 0 && call(162, nap, 0, 0) == 0 && ioctl(kva, 1, n % 5) == 0
                         && ioctl(kva, 2, n % 5) == 0);
        for (n = 0; n < {others}; n++)
                CHECK(2, kill(pids[n], SIGKILL) == 0 && waitpid(pids[n], &status, 0) == pids[n]);
        return 0; }}"""
    result = run_both(DEVICE, program, **SMALL, cpus=2, turn=500)
    assert result.passed, (result.error, result.status)
    kva = result.summary.kva
    assert kva["ipis"] == kva["conflicts"], "one other CPU"
    return kva["ipis"], kva["avoided"]


def test_several_cpus_without_a_context_switch_in_between(run_both: RunBoth) -> None:
    """Post 001: invalidate everywhere only then.  Several processes on the other CPU switch, one cannot."""
    alone, saved = ipis_and_avoided(run_both, 1)
    switching, more = ipis_and_avoided(run_both, 3)
    assert alone > switching and more > saved
