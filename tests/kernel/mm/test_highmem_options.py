"""What becomes of RAM above the direct map: off, 4G, 64G, and direct maps of other sizes.

The sizes are post 001's (800 MB), MM 1's (896 MB since 2.3) and, for 1 GB and 6 GB, arithmetic on the PC's map: RAM up
to 2 GB, devices, the rest from 4 GB on.  The texts are those of 2.6.37 (``highmem_pfn_init``).
"""

from __future__ import annotations

import pytest

from sandbox.kernel.base.config import SCALED, KernelConfig
from sandbox.kernel.base.layout import scaled_direct_map
from sandbox.kernel.kernel import Kernel
from sandbox.kernel.mm.gfp import GFP_HIGHUSER, GFP_KERNEL
from sandbox.kernel.mm.page import PG_HIGHMEM, PG_OPEN
from sandbox.kernel.mm.sparse import CannotAddMemory
from sandbox.x86.errors import ConfigurationError
from tests.kernel.mm.machines import boot

MB, GB = 1 << 20, 1 << 30
MODELS = ("flatmem", "sparsemem", "vmemmap")


def log(kernel: Kernel) -> list[str]:
    return bytes(kernel.log.text).decode().splitlines()


def frames(kernel: Kernel) -> set[int]:
    """Every frame that the allocator has, none of them taken yet."""
    return {pfn for zone in kernel.pgdat.zones for first, count in zone.unopened for pfn in range(first, first + count)}


@pytest.mark.parametrize(("direct", "high"), [(800, 224), (896, 128)])
def test_the_two_direct_maps_of_a_gigabyte(direct: int, high: int) -> None:
    kernel = boot(ram=GB, direct_map=direct * MB)
    assert kernel.layout.direct.size == direct * MB
    assert kernel.pgdat.high.total == high * MB // 4096
    assert log(kernel) == []


def test_off_ignores_what_is_above_and_says_so(paging: str) -> None:
    kernel = boot(paging, ram=GB, highmem="off")
    assert kernel.pgdat.high.total == 0 and max(frames(kernel)) == 800 * 256 - 1
    assert log(kernel) == ["Warning only 800MB will be used.", "Use a HIGHMEM enabled kernel."]


def test_off_with_ram_above_4_gb_names_the_kernel_that_would_use_it(paging: str) -> None:
    kernel = boot(paging, ram=6 * GB, highmem="off", direct_map=896 * MB)
    assert max(frames(kernel)) == 896 * 256 - 1
    assert log(kernel) == ["Warning only 896MB will be used.", "Use a HIGHMEM64G enabled kernel."]


def test_the_boot_option_for_no_highmem_says_so_too() -> None:
    kernel = boot(ram=GB, boot="highmem=0")
    assert log(kernel)[0] == "Warning only 800MB will be used."


def test_4g_ignores_what_is_above_4_gb(paging: str) -> None:
    kernel = boot(paging, ram=6 * GB, highmem="4G")
    assert kernel.pgdat.high.total == (2048 - 800) * 256
    assert kernel.memmap.max_pfn == 2 * GB >> 12
    assert log(kernel) == ["Warning: only 4GB will be used. Use a HIGHMEM64G enabled kernel!"]


@pytest.mark.parametrize(("highmem", "ram"), [("off", 512 * MB), ("4G", 2 * GB), ("64G", 6 * GB)])
def test_nothing_is_said_where_nothing_is_ignored(highmem: str, ram: int) -> None:
    kernel = boot(ram=ram, highmem=highmem)
    assert log(kernel) == []
    assert sum(size for _, size in kernel.ram) == ram - (0x100000 - 0xA0000)


def test_64g_has_all_of_it_and_4g_is_what_two_levels_have() -> None:
    assert boot(ram=6 * GB).config.highmem == "64G"
    assert boot("legacy", ram=GB).config.highmem == "4G"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"paging": "legacy", "highmem": "64G"}, "only PAE"),
        ({"highmem": "8G"}, "it is off, 4G or 64G"),
        ({"paging": "legacy", "ram": 6 * GB}, "only PAE reaches"),
        ({"direct_map": 7 * MB}, "multiple of 4 MB"),
        ({"direct_map": 900 * MB}, "8 MB to 896 MB"),
    ],
)
def test_what_cannot_be_is_one_line(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        KernelConfig(**wrong)  # type: ignore[arg-type]
    assert caught.value.exit_status == 2 and "\n" not in caught.value.summary


@pytest.mark.parametrize(("ram", "direct"), [(64, 48), (256, 200), (1024, 800), (6144, 800), (8, 8), (4, 8)])
def test_a_scaled_direct_map_is_to_ram_as_800_mb_are_to_1_gb(ram: int, direct: int) -> None:
    assert scaled_direct_map(ram * MB) == direct * MB


def test_64_mb_have_every_zone_and_every_region(paging: str) -> None:
    kernel = boot(paging, ram=64 * MB, direct_map=SCALED)
    assert [zone.total > 0 for zone in kernel.pgdat.zones] == [True, True, True]
    assert kernel.pgdat.high.total == 16 * 256 and kernel.pgdat.normal.total == 32 * 256
    layout = kernel.layout
    assert all(each.size for each in (layout.direct, layout.kva, layout.vmalloc, layout.pkmap, layout.fixmap))
    assert kernel.page_alloc.alloc_page(GFP_HIGHUSER) >= 48 * 256
    assert kernel.page_alloc.alloc_page(GFP_KERNEL) < 48 * 256


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("highmem", ["off", "4G", "64G"])
def test_pg_highmem_is_on_exactly_the_frames_above_the_direct_map(model: str, highmem: str) -> None:
    """64 MB of RAM, a direct map of 40: looked at frame by frame."""
    kernel = boot(ram=64 * MB, direct_map=40 * MB, highmem=highmem, policies={"mem_model": model})
    for zone in kernel.pgdat.zones:
        zone.open_all()
    flags = {pfn: kernel.memmap.flags(pfn) for pfn in range(64 * 256) if kernel.memmap.has_page(pfn)}
    opened = {pfn for pfn, each in flags.items() if each & PG_OPEN}
    marked = {pfn for pfn, each in flags.items() if each & PG_HIGHMEM}
    assert marked == {pfn for pfn in opened if pfn >= 40 * 256}
    assert len(marked) == (0 if highmem == "off" else 24 * 256)


@pytest.mark.parametrize("model", ["sparsemem", "vmemmap"])
def test_added_frames_are_marked_by_where_they_are(model: str) -> None:
    """Memory from 32 to 64 MB comes later; the direct map's region ends at 40 MB."""
    kernel = boot(ram=64 * MB, direct_map=40 * MB, boot="mem=32m", policies={"mem_model": model, "section": "64M"})
    kernel.hotplug.add_memory(32 * MB, 32 * MB)
    marked = {pfn for pfn in range(32 * 256, 64 * 256) if kernel.memmap.flags(pfn) & PG_HIGHMEM}
    end = kernel.layout.direct_frames
    assert marked == set(range(end, 64 * 256))


def test_memory_that_is_added_above_the_limit_is_refused() -> None:
    kernel = boot(ram=64 * MB, direct_map=32 * MB, highmem="off", boot="mem=16m", policies={"mem_model": "sparsemem"})
    with pytest.raises(CannotAddMemory, match="uses no RAM"):
        kernel.hotplug.add_memory(16 * MB, 48 * MB)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("ram", [4 * MB, 8 * MB, 62 * GB])
def test_tiny_and_huge_machines_boot_or_say_why_in_a_line(ram: int, model: str) -> None:
    try:
        kernel = boot(ram=ram, policies={"mem_model": model})
    except ConfigurationError as error:
        assert (ram, model) == (62 * GB, "vmemmap"), "512 MB of structures beside 800 MB do not fit into 1 GB"
        assert "\n" not in error.summary and "gigabyte is too small" in error.summary
        return
    pfn = kernel.page_alloc.alloc_page(GFP_HIGHUSER)
    assert (pfn > 0xFFFFF) == (ram > 2 * GB)
