"""A module that gives back what another one has; what it has itself, and what modules hand on, is its own."""

from __future__ import annotations

import pytest

from sandbox.kernel.base.config import KernelConfig
from sandbox.runner.modules import ModuleSession
from sandbox.runner.result import Result
from sandbox.runner.target import ModuleFile
from tests.kernel.module.conftest import Compile

HAS = """
u32 has;
int init_module(void) {{ has = (u32){take}; return printk("has %x\\n", has) < 0; }}
void cleanup_module(void) {{ {give}; }}
"""
FREES = "u32 key; int init_module(void) {{ {give}; return 0; }}"
KINDS = [
    ("vmalloc(5000)", "vfree((void *){})", "an area at"),
    ("ioremap(0xFE000000u, 4096)", "iounmap((void *){})", "an area at"),
    ("kmalloc(64, GFP_KERNEL)", "kfree((void *){})", "a piece of kmalloc at"),
    ("__get_free_pages(GFP_KERNEL, 1)", "free_pages({}, 1)", "frames from physical"),
    ("alloc_pages(GFP_KERNEL, 0)", "__free_pages((struct page *){}, 0)", "frames from physical"),
    ("request_irq(0x46, (void *)init_module) + 0x46", "free_irq({})", "a handler of vector 0x46"),
]


def run(first: bytes, second: bytes, key: str = "", **policies: str) -> Result:
    """The second module beside the first, which has said what it has; ``key`` names the second's parameter."""
    with ModuleSession(ModuleFile("has", first), KernelConfig(policies=policies, time_limit=20.0)) as alone:
        said = alone.finish().stdout.decode().split()[-1]
    options = (f"key=0x{said}",) if key else ()
    file = ModuleFile("frees", second, options)
    config = KernelConfig(policies=policies, time_limit=20.0)
    with ModuleSession(file, config, needs=[ModuleFile("has", first)]) as both:
        return both.finish()


@pytest.mark.parametrize(
    ("kmalloc", "take", "give", "words"),
    [(kmalloc, *each) for kmalloc in ("1.2", "2.1") for each in KINDS if kmalloc == "1.2" or "kmalloc" in each[0]],
)
def test_what_another_has(compiled: Compile, kmalloc: str, take: str, give: str, words: str) -> None:
    """No kernel forgives it, and this one names both: the other would free it again."""
    first = compiled(HAS.format(take=take, give=give.format("has")), "module")
    second = compiled(FREES.format(give=give.format("key")), "module")
    result = run(first, second, "key", kmalloc=kmalloc)
    assert f": frees gives back what has has: {words}" in result.error
    assert "asked for in init_module+" in result.error and "[has], called from" in result.error


@pytest.mark.parametrize(("take", "give", "words"), KINDS[:4], ids=[each[0] for each in KINDS[:4]])
def test_modules_that_are_linked_hand_on(compiled: Compile, take: str, give: str, words: str) -> None:
    first = compiled(HAS.format(take=take, give="if (has) " + give.format("has")), "module")
    text = "extern u32 has; int init_module(void) { " + give.format("has") + "; has = 0; return 0; }"
    result = run(first, compiled(text, "module"))
    assert (result.error, result.status) == ("", 0)


def test_a_report_goes_on(compiled: Compile) -> None:
    """With bugs=report nothing is freed, and the run goes on."""
    take, give, _ = KINDS[0]
    first = compiled(HAS.format(take=take, give=give.format("has")), "module")
    second = compiled(FREES.format(give=give.format("key")), "module")
    result = run(first, second, "key", bugs="report")
    assert (result.error, result.status) == ("", 0)
    assert b"vfree: frees gives back what has has" in result.stdout
