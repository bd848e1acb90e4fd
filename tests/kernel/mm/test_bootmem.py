"""The command line's words about memory, and what boot keeps (MM 5)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.mm.bootmem import BootMemory, BootOptions, limit_memory, parse_boot, without
from sandbox.x86.errors import ConfigurationError
from tests.kernel.mm.machines import boot, physical

MEGABYTE = 1 << 20
WORDS = st.lists(
    st.one_of(
        st.sampled_from(["mem=", "memexclude=", "highmem=", "bootmem=", "root=/dev/hda1", "quiet"]).flatmap(
            lambda word: st.text("0123456789abkKmMgG@$-:x", max_size=9).map(lambda tail: word + tail)
        ),
        st.text(max_size=8),
    ),
    max_size=4,
)


def test_options() -> None:
    options = parse_boot(
        "ro mem=24m mem=nopentium memexclude=0x600000-7M mem=64k$8m highmem=1G bootmem=a:256k mem=4M@16m"
    )
    assert options.limit == 24 * MEGABYTE
    assert not options.large_pages
    assert options.excluded == [(6 * MEGABYTE, 7 * MEGABYTE), (8 * MEGABYTE, 8 * MEGABYTE + 65536)]
    assert options.highmem == 1 << 30
    assert options.reservations == [("a", 256 << 10)]
    assert options.given == [(16 * MEGABYTE, 4 * MEGABYTE)]


@pytest.mark.parametrize(
    "word",
    ["mem=", "mem=5q", "mem=-1m", "mem=1m", "mem=4m@", "memexclude=5m", "memexclude=7m-6m", "highmem=x", "bootmem=5k",
     "bootmem=a:0", "bootmem=:5k"],
)  # fmt: skip
def test_nonsense_is_told(word: str) -> None:
    with pytest.raises(ConfigurationError, match="boot option"):
        parse_boot(f"quiet {word}")


@given(WORDS)
def test_any_line(words: list[str]) -> None:
    """Whatever the line, it boots or says what is wrong with it."""
    try:
        options = parse_boot(" ".join(words))
        limit_memory([(0, 0xA0000, 0), (MEGABYTE, 31 * MEGABYTE, MEGABYTE)], options)
    except ConfigurationError as error:
        assert error.summary


@pytest.mark.parametrize(
    ("word", "limit", "left"),
    [
        ("mem=0100000000", 16 * MEGABYTE, ""),
        ("mem=040000000", 8 * MEGABYTE, ""),
        ("mem=0x1000000", 16 * MEGABYTE, ""),
        ("mem=020m", 16 * MEGABYTE, ""),
        ("mem=16M", 16 * MEGABYTE, ""),
        ("mem=16384K", 16 * MEGABYTE, ""),
        ("mem=16m_0", 16 * MEGABYTE, "_0"),
        ("mem=16mb", 16 * MEGABYTE, "b"),
        ("mem=16777216_6m", 16 * MEGABYTE, "_6m"),
        ("mem=16777216\N{ARABIC-INDIC DIGIT ONE}", 16 * MEGABYTE, "\N{ARABIC-INDIC DIGIT ONE}"),
        ("mem=020000000" + "9m", 4 * MEGABYTE, "9m"),
    ],
)
def test_a_number_ends_where_strtoul_ends(word: str, limit: int, left: str) -> None:
    """lib/vsprintf.c of 2.0.40 and 2.4.0: base by prefix, no sign, no underline, ASCII digits only."""
    options = parse_boot(word)
    assert options.limit == limit
    assert [f"{left!r} behind the value" in warning for warning in options.warnings] == ([True] if left else [])


@pytest.mark.parametrize(
    "word", ["mem=1_6m", "mem=0b1m", "mem=0o100m", "mem=+16m", "mem=-16m", "mem= 16m", "mem=\u0661\u0666m"]
)
def test_what_strtoul_takes_for_nothing_is_no_machine(word: str) -> None:
    with pytest.raises(ConfigurationError, match=r"needs 2 MB.*the number ends at|not a size"):
        parse_boot(word)


def test_words_that_nobody_reads_are_warned_about() -> None:
    options = parse_boot("nosuch=1  mem=16m quiet mem xmem=4m highmem=0k,3 mem=nopentiums")
    assert options.warnings[-1] == 'Unknown kernel command line parameters "nosuch=1 quiet mem xmem=4m"'
    assert options.warnings[:-1] == [
        "boot option 'highmem=0k,3': ',3' behind the value is not read",
        "boot option 'mem=nopentiums': 's' behind the value is not read",
    ]
    kernel = boot(boot="nosuch=1")
    assert bytes(kernel.log.text) == b'Unknown kernel command line parameters "nosuch=1"\n'


def test_an_exact_map() -> None:
    """2.4.0 empties its map at exactmap; 2.4.22 has # for ACPI data, which is not for the allocator."""
    assert parse_boot("mem=1m#8m").excluded == [(8 * MEGABYTE, 9 * MEGABYTE)]
    ranges = [(0, 0xA0000, 0), (MEGABYTE, 31 * MEGABYTE, MEGABYTE)]
    assert limit_memory(ranges, parse_boot("mem=exactmap mem=7m@1m")) == [(MEGABYTE, 7 * MEGABYTE)]
    with pytest.raises(ConfigurationError, match="leave no RAM"):
        limit_memory(ranges, parse_boot("mem=exactmap"))


def test_an_option_follows_a_space() -> None:
    assert parse_boot("xmem=4m mem=8m").limit == 8 * MEGABYTE


RANGES = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20)), max_size=6)


@given(RANGES, RANGES)
def test_without(pieces: list[tuple[int, int]], holes: list[tuple[int, int]]) -> None:
    page = 4096
    left = without([(a * page, n * page) for a, n in pieces], [(a * page + 5, (a + n) * page - 7) for a, n in holes])
    covered = [number for start, size in left for number in range(start // page, (start + size) // page)]
    gone = {number for a, n in holes for number in range(a, a + n)}
    wanted = [number for a, n in pieces for number in range(a, a + n) if number not in gone]
    assert sorted(covered) == sorted(wanted)


@given(st.lists(st.integers(1, 40000), max_size=8))
def test_takings_do_not_meet(sizes: list[int]) -> None:
    start = BootMemory(0x100000, 0x800000, [(0, 0xA0000), (0x100000, 0x40000), (0x180000, 0x680000)])
    for number, size in enumerate(sizes):
        start.take(str(number), size)
    ends = 0x100000
    for _, first, end in start.taken:
        assert first >= ends
        assert not 0x140000 < end <= 0x180000
        ends = end


def test_too_small() -> None:
    start = BootMemory(0x100000, 0x200000, [(0x100000, 0x100000)])
    with pytest.raises(ConfigurationError, match="x needs 1052672 bytes in one piece"):
        start.take("x", 0x101000)


@pytest.mark.parametrize("line", ["highmem=8m", "mem=16m", "memexclude=4m-5m", "mem=nopentium", "bootmem=big:4m"])
def test_booted(line: str, paging: str) -> None:
    kernel = boot(paging, ram=24 << 20, boot=line)
    low = {"highmem=8m": 16, "mem=16m": 16}.get(line, 24) << 20
    assert physical(kernel, 0xC0000000 + low - 1) == low - 1
    for beyond in range(low, 26 << 20, 4096):
        assert physical(kernel, 0xC0000000 + beyond) is None, f"{beyond:#x} is no lowmem"
    total = kernel.pgdat.total_frames * 4096
    assert total < {"mem=16m": 16, "memexclude=4m-5m": 23, "bootmem=big:4m": 20}.get(line, 24) << 20


def test_no_highmem_at_all() -> None:
    kernel = boot(ram=1 << 30, boot="highmem=0")
    assert kernel.pgdat.high.total == 0
    assert kernel.pgdat.total_frames < 800 * 256


def test_what_boot_refuses() -> None:
    for line, why in (
        ("mem=4m@1g", "no RAM there"),
        ("bootmem=a:30m", "lowmem is too small: a needs"),
        ("highmem=22m", "of lowmem would be left"),
        ("memexclude=1m-2m", "this machine has a hole"),
        ("mem=4m@16m", "lowmem is too small|hole"),
    ):
        with pytest.raises(ConfigurationError, match=why):
            boot(ram=24 << 20, boot=line)


def test_limit_leaves_something() -> None:
    with pytest.raises(ConfigurationError, match="leave no RAM"):
        limit_memory([(1 << 32, MEGABYTE, 0)], BootOptions(limit=2 * MEGABYTE))


def test_policies_and_devices_are_checked() -> None:
    with pytest.raises(ConfigurationError, match="no policy is called 'colour'"):
        KernelConfig(policies={"colour": "red"})
    with pytest.raises(ConfigurationError, match="policy orders: '7'; known are 6, 10, 11"):
        KernelConfig(policies={"orders": "7"})
    with pytest.raises(ConfigurationError, match="counted from 1"):
        KernelConfig(fail_allocation=-1)


@pytest.mark.parametrize("line", ["mem=16m@0 mem=16m@8m", "mem=16m@0 mem=16m@0", "mem=8m@8m mem=8m@0 mem=4m@2m"])
def test_ranges_that_overlap_are_one(line: str) -> None:
    kernel = boot(ram=24 << 20, boot=line)
    for zone in kernel.pgdat.zones:
        zone.open_all()
    free = list(kernel.pgdat.free_list())
    assert len(free) == len(set(free)) == kernel.pgdat.free_frames
