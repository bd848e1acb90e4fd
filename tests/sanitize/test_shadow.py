"""What each invalidation ends, by the manual's words (SDM 3A, 4.10.4.1), and what is stale (4.10.4.2 and 4.10.4.3)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sandbox.sanitize.shadow import ShadowTlb
from sandbox.sanitize.translation import Held, Now, is_stale
from sandbox.x86.masks import CR0_PG, CR4_PAE, CR4_PGE, CR4_PSE
from sandbox.x86.paging import NX, PAGE_SIZE, PS, RW, US, A, D, G, P

CR0_CD = 1 << 30
PDPT, DIRECTORY, TABLE = 0x1000, 0x2000, 0x3000
LOCAL, GLOBAL, LARGE = 0x1000, 0x2000, 0x200000
FULL = P | RW | US | A | D


def path(leaf: int, at: int) -> tuple[int, ...]:
    return (PDPT, DIRECTORY | P, DIRECTORY, TABLE | FULL, TABLE + 8 * (at >> 12), leaf)


def shadow() -> ShadowTlb:
    """With a local page, a global one, and a large one of 2 MB of which a piece in the middle was used."""
    made = ShadowTlb(0)
    made.cr4 = CR4_PAE | CR4_PGE
    made.fill(LOCAL, 0x5000, PAGE_SIZE, path(0x5000 | FULL, LOCAL), 0)
    made.fill(GLOBAL, 0x6000, PAGE_SIZE, path(0x6000 | FULL | G, GLOBAL), 0)
    large = (PDPT, DIRECTORY | P, DIRECTORY + 8, 0x400000 | FULL | PS)
    made.fill(LARGE + 0x7000, 0x407000, 2 << 20, large, 0)
    return made


def held(made: ShadowTlb) -> set[int]:
    return {linear for linear in (LOCAL, GLOBAL, LARGE) if made.find(linear) is not None}


@pytest.mark.parametrize(
    ("invalidate", "left"),
    [
        (lambda made: made.invlpg(LOCAL + 0xFFF), {GLOBAL, LARGE}),
        (lambda made: made.invlpg(GLOBAL), {LOCAL, LARGE}),
        (lambda made: made.invlpg(LARGE + 0x1FF000), {LOCAL, GLOBAL}),
        (lambda made: made.invlpg(0x800000), {LOCAL, GLOBAL, LARGE}),
        (lambda made: made.load_cr3(0x9000), {GLOBAL}),
        (lambda made: made.load_cr4(CR4_PAE, CR4_PAE | CR4_PGE), set()),
        (lambda made: made.load_cr4(CR4_PGE, CR4_PAE | CR4_PGE), {GLOBAL}),
        (lambda made: made.load_cr4(CR4_PAE | CR4_PGE | CR4_PSE, CR4_PAE | CR4_PGE), {LOCAL, GLOBAL, LARGE}),
        (lambda made: made.load_cr0(0, CR0_PG), set()),
        (lambda made: made.load_cr0(CR0_PG, 0), {LOCAL, GLOBAL, LARGE}),
    ],
)
def test_what_an_invalidation_leaves(invalidate: Callable[[ShadowTlb], object], left: set[int]) -> None:
    made = shadow()
    made.stale = {LOCAL >> 12: made.local.by_page[LOCAL >> 12], GLOBAL >> 12: made.globals.by_page[GLOBAL >> 12]}
    invalidate(made)
    assert held(made) == left
    assert {page << 12 for page in made.stale} == left - {LARGE}
    assert {page << 12 for each in (DIRECTORY, TABLE + 8, TABLE + 16) for page, _ in made.through(each)} <= left


def test_a_global_one_outlives_a_walk_that_hardware_need_not_do() -> None:
    """SDM 3A, 4.10.2.4: the engine's TLB loses global pages with a load of CR3 and walks again, hardware has them."""
    made = shadow()
    made.load_cr3(0x9000)
    made.fill(GLOBAL, 0x6000, PAGE_SIZE, path(0x6000 | FULL & ~D, GLOBAL), 0)
    made.load_cr3(0x9000)
    assert held(made) == {GLOBAL}
    large = (PDPT, DIRECTORY | P, DIRECTORY + 8, 0x400000 | FULL | PS | G)
    made.fill(LARGE, 0x400000, 2 << 20, large, 0)
    made.fill(LARGE, 0x400000, 2 << 20, (*large[:-1], large[-1] & ~G), 0)
    made.load_cr3(0x9000)
    assert held(made) == {GLOBAL, LARGE}


def test_a_walk_that_finds_more_takes_the_place_of_a_global_one() -> None:
    """A store through an entry that was not dirty asks the tables (SDM 3A, 4.8), and so does one to another frame."""
    for leaf in (0x6000 | FULL, 0x7000 | FULL & ~D):
        made = ShadowTlb(0)
        made.cr4 = CR4_PAE | CR4_PGE
        made.fill(GLOBAL, 0x6000, PAGE_SIZE, path(0x6000 | FULL & ~D | G, GLOBAL), 0)
        made.fill(GLOBAL, leaf & -PAGE_SIZE, PAGE_SIZE, path(leaf, GLOBAL), 0)
        made.load_cr3(0x9000)
        assert held(made) == set()


def test_without_pge_nothing_is_global() -> None:
    made = ShadowTlb(0)
    made.cr4 = CR4_PAE
    made.fill(GLOBAL, 0x6000, PAGE_SIZE, path(0x6000 | FULL | G, GLOBAL), 0)
    made.load_cr3(PDPT)
    assert held(made) == set()


@pytest.mark.parametrize("invalidate", [lambda made: made.invlpg(0x800000), lambda made: made.load_cr3(PDPT)])
def test_tables_may_be_walked_until_any_invalidation(invalidate: Callable[[ShadowTlb], object]) -> None:
    made = shadow()
    assert set(made.walked) == {DIRECTORY >> 12, TABLE >> 12}
    invalidate(made)
    assert not made.walked


@pytest.mark.parametrize(
    ("loads", "changed"),
    [
        (lambda made: made.load_cr0(CR0_PG, 0), True),
        (lambda made: made.load_cr0(CR0_PG | CR0_CD, CR0_PG), True),
        (lambda made: made.load_cr0(CR0_PG | 8, CR0_PG), False),
        (lambda made: made.load_cr4(CR4_PAE | CR4_PSE, CR4_PAE), True),
        (lambda made: made.load_cr4(CR4_PAE | 4, CR4_PAE), False),
    ],
)
def test_which_loads_take_the_pdptes(loads: Callable[[ShadowTlb], bool], changed: bool) -> None:
    """SDM 3A, 4.4.1."""
    assert loads(shadow()) is changed


@pytest.mark.parametrize(
    ("before", "after", "stale"),
    [
        (FULL, FULL, False),
        (FULL, FULL & ~A, False),
        (P | A, FULL, False),
        (P | RW | A, P | RW | A | D, False),
        (P | RW | A, P | A, False),
        (NX | FULL, FULL, False),
        (FULL, 0, True),
        (FULL, FULL & ~RW, True),
        (FULL, FULL & ~D, True),
        (FULL, FULL & ~US, True),
        (FULL, NX | FULL, True),
        (FULL, 0x1000 | FULL, True),
    ],
)
def test_what_is_stale(before: int, after: int, stale: bool) -> None:
    """Less than the tables give is a relaxation; a write needs D, or the CPU asks the tables again (4.8)."""
    then = Held(0x5000, PAGE_SIZE, path(0x5000 | before, LOCAL), 0)
    now = path(0x5000 | after if not after & 0x1000 else 0x6000 | after & 0xFFF, LOCAL)
    where = now[-1] & 0xFFFFFF000 if now[-1] & P else None
    assert is_stale(then, LOCAL, Now(where, PAGE_SIZE, now), True) is stale


def test_a_right_is_what_every_level_grants() -> None:
    then = Held(0x5000, PAGE_SIZE, path(0x5000 | FULL, LOCAL), 0)
    now = (PDPT, DIRECTORY | P, DIRECTORY, TABLE | FULL & ~RW, TABLE + 8, 0x5000 | FULL)
    assert is_stale(then, LOCAL, Now(0x5000, PAGE_SIZE, now), True)
