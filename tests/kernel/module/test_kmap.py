"""kmap_atomic for modules: what a module may do, and what ends the run with the call's place (MM 14)."""

from __future__ import annotations

import pytest

from tests.kernel.module.conftest import RunModule

SMALL = {"ram": 24 << 20, "boot": "highmem=12m"}
HIGH = """
struct page *a = alloc_pages(GFP_KERNEL | GFP_HIGHMEM, 0), *b = alloc_pages(GFP_KERNEL | GFP_HIGHMEM, 0);
u32 *p, *q;
"""
WORKS = """
CHECK(1, page_address(a) == NULL);
p = kmap_atomic(a, KM_USER0); p[3] = 4711; kunmap_atomic(p, KM_USER0);
p = kmap_atomic(b, KM_USER0); p[3] = 1; kunmap_atomic(p, KM_USER0);
copy_highpage(b, a);
p = kmap_atomic(b, KM_USER0); q = kmap_atomic(a, KM_USER1);
CHECK(2, p != q && p[3] == 4711 && kmap_atomic_to_page(p) == b);
kunmap_atomic(q, KM_USER1); kunmap_atomic(p, KM_USER0);
clear_highpage(a);
p = kmap_atomic(a, KM_USER0); CHECK(3, p[3] == 0); kunmap_atomic(p, KM_USER0);
__free_pages(a, 0); __free_pages(b, 0); printk("fine\\n");
"""


@pytest.mark.parametrize("policy", ["stack", "slots", "heap"])
@pytest.mark.parametrize("high", ["atomic", "local", "kva", "kmap"])
def test_a_module_uses_windows(run_module: RunModule, policy: str, high: str) -> None:
    result = run_module(HIGH + WORKS, **SMALL, policies={"kmap_atomic": policy, "high_pages": high})
    assert (result.status, result.stdout) == (0, b"fine\n"), result.error


@pytest.mark.parametrize(
    ("body", "policy", "says"),
    [
        ("p = kmap_atomic(a, 3); q = kmap_atomic(b, 4); kunmap_atomic(p, 3);", "stack", "which is not its last"),
        ("p = kmap_atomic(a, 3); q = kmap_atomic(b, 3);", "slots", "opens KM_USER0 of CPU 0, which is open"),
        ("p = kmap_atomic(a, 3); kunmap_atomic(a, 3);", "stack", "it wants the address"),
        ("p = kmap_atomic(a, 3); schedule();", "stack", "schedule with 1 kmap_atomic window of CPU 0 open"),
        ("p = kmap_atomic(a, 3);", "heap", "returns with 1 kmap_atomic window of CPU 0 open"),
        ("for (;;) kmap_atomic(a, 3);", "stack", ": all 16 are open"),
        ("kmap_atomic_pages(a, 17, 3);", "heap", "17 in a row asked for, 16 free, 16 in a row at most"),
        ("kmap_atomic_pages(a, 0, 3);", "heap", "0 pages: no page"),
        ("kmap_atomic_pages(pfn_to_page(max_pfn - 1), 2, 3);", "heap", "which has no struct page"),
        ("kva_put(a);", "stack", "is given back as the kva of frame"),
        ("p = kva_get(a); __free_pages(a, 0);", "stack", "is in use"),
    ],
)  # fmt: skip
def test_what_a_module_must_not_do(run_module: RunModule, body: str, policy: str, says: str) -> None:
    result = run_module(HIGH + body, **SMALL, policies={"kmap_atomic": policy})
    assert says in result.error
