"""kmap and kunmap for modules: mm/highmem.c and arch/i386/mm/highmem.c, where both BUG in an interrupt (MM 13)."""

from __future__ import annotations

import pytest

from sandbox.kernel.base.config import KernelConfig
from sandbox.runner.modules import ModuleSession
from sandbox.runner.target import ModuleFile
from tests.kernel.module.conftest import Compile, RunBoth, RunModule

SMALL = {"ram": 24 << 20, "boot": "highmem=12m pkmap=2"}
HIGH = """
struct page *a = alloc_pages(GFP_KERNEL | GFP_HIGHMEM, 0), *b = alloc_pages(GFP_KERNEL | GFP_HIGHMEM, 0);
struct page *c = alloc_pages(GFP_KERNEL | GFP_HIGHMEM, 0), *low = alloc_pages(GFP_KERNEL, 0);
u32 *p, *q;
"""
FREE = "__free_pages(a, 0); __free_pages(b, 0); __free_pages(c, 0); __free_pages(low, 0);"
WORKS = """
p = kmap(a); q = kmap(b);
CHECK(1, p != q && (u32)p >= 0xFF000000u && kmap(a) == p && kmap_to_page(q) == b && kmap_to_page(p + 5) == a);
p[3] = 4711; q[3] = 1;
CHECK(2, a->virtual == (u32)p && page_address(b) == q && vmalloc_to_pfn(p) == page_to_pfn(a));
kunmap(a); kunmap(a); kunmap(b);
CHECK(3, page_address(a) == p && p[3] == 4711);
CHECK(4, kmap(c) != NULL && page_address(a) == NULL && page_address(b) == NULL && kmap_to_page(q) != b);
kunmap(c); kmap_flush_unused();
CHECK(5, !c->virtual && kmap_to_page(p) == NULL && kmap_to_page(0) == NULL);
p = kmap(low); CHECK(6, p == page_address(low) && kmap_to_page(p) == low); kunmap(low);
"""
BOTH_POOLS = """
p = kmap(a); CHECK(1, page_address(a) == p);
q = kva_get(a); CHECK(2, q != p && page_address(a) == q && page_kva(a) == q);
*p = 77; CHECK(3, *q == 77);
kunmap(a); kmap_flush_unused(); CHECK(4, page_address(a) == q);
CHECK(5, kmap(a) != NULL && page_address(a) == q); kva_put(a);
"""
CARD = """
static struct page *its;
static void on_bell(u32 vector) {{ {body} }}
int init_module(void)
{{
        u8 *card = vremap(0x80000000u, 2 << 20);
        its = alloc_pages(GFP_KERNEL | GFP_HIGHMEM, 0);
        kmap(its);
        request_irq(0x45, on_bell);
        writel(0x45, card + 0x10);
        writel(0, card + 0x14);
        nr_free_pages();
        return 0;
}}
"""


def test_a_module_maps_pages(run_module: RunModule, paging: str) -> None:
    result = run_module(HIGH + WORKS + FREE, **SMALL, paging=paging)
    assert (result.status, result.error) == (0, "")


def test_the_word_virtual_is_the_kva_pools_first(run_module: RunModule) -> None:
    """One word for two pools: the address of kmap shows where the pool has none."""
    gone = "for (q = (u32 *)b; !page_kva(b); ) kva_get(b); kva_get(c); CHECK(6, page_kva(a) == NULL);"
    left = "CHECK(7, page_address(a) == (void *)a->virtual && (u32)page_address(a) >= 0xFF000000u);"
    end = "kva_put(b); kva_put(c); kunmap(a);" + FREE
    boot = SMALL["boot"] + " kva=8k"  # type: ignore[operator]
    result = run_module(HIGH + BOTH_POOLS + gone + left + end, **{**SMALL, "boot": boot})
    assert (result.status, result.error) == (0, "")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("kunmap(a);", ": it is not mapped, called from init_module"),
        ("kmap(a); kunmap(a); kunmap(a);", "the slot has no user, called from init_module"),
        ("kunmap(kmap(a));", "it wants the struct page, called from init_module"),
        ("kmap((struct page *)16); p = NULL;", "0x00000010 is no struct page"),
        ("kmap(a); kmap(b); kmap(c);", "kmap: all 2 slots are held by those who wait for one, called from"),
        ("kmap(a); __free_pages(a, 0);", "is freed while its kmap address 0xff001000 is in use"),
        ("kmap_atomic(low, 3); kmap_atomic(b, 3); kmap(a);", "with 1 kmap_atomic window of CPU 0 open"),
        ("kmap_atomic(b, 3); kmap(low);", "with 1 kmap_atomic window of CPU 0 open"),
        ("kmap_atomic(b, 3); sleep_on(&p);", "sleep_on with 1 kmap_atomic window of CPU 0 open"),
        ("kmap_atomic(b, 3); use_mm(1);", "use_mm with 1 kmap_atomic window of CPU 0 open"),
    ],
)  # fmt: skip
def test_what_a_module_must_not_do(run_module: RunModule, body: str, says: str) -> None:
    result = run_module(HIGH + body, **SMALL)
    assert says in result.error and "called from init_module" in result.error


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("kmap(its); nr_free_pages();", "in an interrupt: nothing may sleep there, called from on_bell"),
        (
            "kunmap(its); nr_free_pages();",
            "in an interrupt: one may come while kmap's lock is held, called from on_bell",
        ),
        ("kmap_atomic(its, KM_IRQ0);", "on_bell [m] returns with 1 kmap_atomic window of CPU 0 open"),
    ],
)
def test_what_a_handler_must_not_do(run_module: RunModule, body: str, says: str) -> None:
    result = run_module(CARD.format(body=body), **SMALL, devices=("card",))
    assert says in result.error and result.status in (0, 1)


@pytest.mark.parametrize(
    ("body", "count", "line"),
    [
        ("kmap(a); kmap(a); kunmap(a); printk(\"%x\", page_to_pfn(a));", "1 kmaps", "a kmap of the page at physical"),
        ("kmap(low); printk(\"%x\", page_to_pfn(low));", "1 kmaps", "a kmap of the page at physical"),
        ("kva_get(a); printk(\"%x\", page_to_pfn(a));", "1 users of the kva pool", "a user of the kva of the page at"),
        ("printk(\"%x\", kmap_atomic(low, 3));", "1 kmap_atomic windows", "a kmap_atomic window at"),
    ],
)  # fmt: skip
def test_what_a_module_leaves_behind(run_module: RunModule, body: str, count: str, line: str) -> None:
    """Named: the module, the page, and the place of the call."""
    result = run_module(HIGH + body, **SMALL)
    pfn = int(result.stdout, 16)
    page = f"0x{pfn:08x}" if "window" in line else f"0x{pfn << 12:08x}"
    assert result.error.startswith("m: left behind: ") and count in result.error
    assert f"{page}, asked for in init_module+" in next(each for each in result.detail.splitlines() if line in each)


def test_a_window_that_is_left_open_names_module_and_page(run_module: RunModule) -> None:
    result = run_module(HIGH + 'printk("%x", page_to_pfn(a)); kmap_atomic(a, 3);', **SMALL)
    assert result.error.startswith("init_module [m] returns with 1 kmap_atomic window of CPU 0 open")
    asked = result.detail.splitlines()[-1]
    assert f"on frame 0x{result.stdout.decode()}, KM_USER0" in result.detail
    assert "a kmap_atomic window at 0xff" in asked and "asked for in init_module+" in asked


def test_another_modules_kmap(compiled: Compile) -> None:
    """kunmap of what another module has mapped is told; one's own is given back first."""
    first = "struct page *its; int init_module(void) { its = alloc_pages(258, 0); kmap(its); return 0; }"
    second = "struct page *its; int init_module(void) { its = virt_to_page((void *)0xFF001000u); %s return 0; }"
    for body, says in (("kunmap(its);", ": m gives back what has has: a kmap of"), ("kmap(its); kunmap(its);", "")):
        files = [ModuleFile(name, compiled(text, "module")) for name, text in (("has", first), ("m", second % body))]
        config = KernelConfig(**SMALL, time_limit=20.0)  # type: ignore[arg-type]
        with ModuleSession(files[1], config, needs=files[:1]) as both:
            error = both.finish().error
        assert says in error and ("left behind" in error) == (not says)


def test_a_flush_a_lap(compiled: Compile) -> None:
    """Twelve pages through two slots: each lap is one flush on all CPUs for all of its pages (MM 13)."""
    body = "for (int n = 0; n < 12; n++) { kmap(page[n] = alloc_pages(258, 0)); kunmap(page[n]); }"
    text = f"struct page *page[12]; int init_module(void) {{ {body} return 0; }}"
    config = KernelConfig(**SMALL, cpus=2, time_limit=20.0)  # type: ignore[arg-type]
    with ModuleSession(ModuleFile("m", compiled(text, "module")), config) as session:
        session.load()
        counters = session.kernel.kmap.counters
    assert (counters.misses, counters.laps, counters.global_flushes, counters.recycles) == (12, 6, 6, 11)


def test_slots_that_nobody_gives_back(run_both: RunBoth) -> None:
    """A leak: the pool is used up, and sleepers hang (MM 13).  Who has the slots is said, also when he has ended."""
    module = """
    static struct page *page[3];
    static int ioctl(int file, u32 request, u32 n) { return kmap(page[n]) == NULL; }
    static const struct file_operations operations = { 0, 0, 0, 0, ioctl };
    int init_module(void)
    {
            for (int n = 0; n < 3; n++)
                    page[n] = alloc_pages(GFP_USER | GFP_HIGHMEM, 0);
            return register_chrdev("leak", &operations) < 0;
    }
    """
    program = """
    int main(void)
    {
            int fd = open("/dev/leak", O_RDWR), status;
            if (fork() == 0)
                    return ioctl(fd, 0, 0) || ioctl(fd, 0, 1);
            waitpid(-1, &status, 0);
            say(status ? "" : "the child is gone\\n");
            return ioctl(fd, 0, 2);
    }
    """
    result = run_both(module, program, **SMALL)
    assert result.stdout == b"the child is gone\n" and "every task sleeps" in result.error
    assert "waits for a free slot of the kmap pool, held by task 5" in result.detail
