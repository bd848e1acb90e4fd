"""The walk against SDM 3A, chapter 4, case by case; the engine's MMU is compared in tests/engine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.x86.paging import LEGACY, NX, PAE, PS, RW, US, A, D, P
from sandbox.x86.walk import ENGINE, MANUAL, Access, Profile, Reason, Walk, walk

PG, WP, CR4_PSE, CR4_PAE, NXE = 0x80000001, 0x10000, 0x10, 0x20, 0x800
ROOT, DIRECTORY, TABLE = 0x1000, 0x2000, 0x3000
ADDRESS = 0x40345678
READ, WRITE, FETCH = Access(), Access(write=True), Access(fetch=True)
USER_READ, USER_WRITE, USER_FETCH = Access(user=True), Access(write=True, user=True), Access(user=True, fetch=True)
ALL = P | RW | US


class Tables:
    """Entries by physical address; all others are zero, and none can be written."""

    def __init__(self, fmt: str, *entries: int) -> None:
        """Entries root first, along ADDRESS."""
        if fmt == "pae":
            places = [ROOT + 1 * 8, DIRECTORY + 1 * 8, TABLE + 0x145 * 8]
        else:
            places = [ROOT + 0x100 * 4, TABLE + 0x345 * 4]
        self.places = places
        self.memory = dict(zip(places, entries, strict=False))
        self.fmt = fmt

    def walk(self, access: Access, *, cr0: int = PG | WP, cr4: int = CR4_PSE, efer: int = NXE, **more: object) -> Walk:
        if self.fmt == "pae":
            cr4 |= CR4_PAE

        def read(physical: int, size: int) -> int:
            assert size == (8 if self.fmt == "pae" else 4)
            return self.memory.get(physical, 0)

        return walk(read, ROOT, ADDRESS, access, cr0=cr0, cr4=cr4, efer=efer, **more)  # type: ignore[arg-type]


def legacy(pde: int = TABLE | ALL, pte: int = 0xABCDE000 | ALL) -> Tables:
    return Tables("legacy", pde, pte)


def pae(pde: int = TABLE | ALL, pte: int = 0xFEDCBA9000 | ALL, pdpte: int = DIRECTORY | P) -> Tables:
    return Tables("pae", pdpte, pde, pte)


def test_paging_off() -> None:
    found = walk(lambda physical, size: 1 // 0, 0, 0x12345678, WRITE, cr0=1, cr4=CR4_PAE, efer=0)
    assert (found.physical, found.reason, found.levels, found.updates) == (0x12345678, Reason.MAPPED, [], [])
    assert found.lines() == ["paging is off: linear is physical"]


def test_two_levels() -> None:
    """Figure 4-2."""
    found = legacy().walk(READ)
    assert found.physical == 0xABCDE678
    assert found.page_size == 4096 and found.format is LEGACY
    assert [(seen.name, seen.index, seen.physical) for seen in found.levels] == [
        ("PDE", 0x100, 0x1400),
        ("PTE", 0x345, 0x3D14),
    ]


def test_three_levels() -> None:
    """Figure 4-5."""
    found = pae().walk(READ)
    assert found.physical == 0xFEDCBA9678
    assert found.page_size == 4096 and found.format is PAE
    assert [(seen.name, seen.index, seen.physical) for seen in found.levels] == [
        ("PDPTE", 1, 0x1008),
        ("PDE", 1, 0x2008),
        ("PTE", 0x145, 0x3A28),
    ]


def test_a_4_mb_page_needs_pse() -> None:
    tables = legacy(pde=0x00C00000 | PS | ALL)
    assert tables.walk(READ).physical == 0x00F45678
    assert tables.walk(READ).page_size == 4 << 20
    assert legacy(pde=TABLE | PS | ALL).walk(READ, cr4=0).physical == 0xABCDE678


def test_pse_36() -> None:
    """Bits 20 to 13 of the entry are bits 39 to 32 of the address (table 4-4)."""
    assert legacy(pde=0x00C00000 | 0x55 << 13 | PS | ALL).walk(READ).physical == 0x55_00F45678


def test_a_2_mb_page_needs_no_pse() -> None:
    found = pae(pde=0x12_34600000 | PS | ALL).walk(READ, cr4=0)
    assert found.physical == 0x12_34745678
    assert found.page_size == 2 << 20


@pytest.mark.parametrize(
    ("tables", "stop"),
    [
        (legacy(pde=TABLE | RW | US), "PDE"),
        (legacy(pte=0xABCDE000 | RW | US), "PTE"),
        (pae(pdpte=DIRECTORY), "PDPTE"),
        (pae(pde=TABLE | RW | US), "PDE"),
        (pae(pte=NX | 0x7FF << 52), "PTE"),
    ],
)
@pytest.mark.parametrize(
    ("access", "code"), [(READ, 0), (WRITE, 2), (USER_READ, 4), (USER_WRITE, 6), (Access(modify=True), 2)]
)
def test_not_present(tables: Tables, stop: str, access: Access, code: int) -> None:
    """P=0 makes every other bit meaningless, reserved ones too."""
    found = tables.walk(access, cr4=0)
    assert (found.reason, found.error_code, found.physical, found.vector) == (Reason.NOT_PRESENT, code, None, 14)
    assert found.levels[-1].name == stop
    assert found.updates == []


@pytest.mark.parametrize(
    ("tables", "cr4", "efer", "reserved"),
    [
        (legacy(pde=0x00C00000 | 1 << 21 | PS | ALL), CR4_PSE, 0, True),
        (legacy(pde=TABLE | 1 << 21 | PS | ALL), 0, 0, False),
        (pae(pde=TABLE | 1 << 40 | ALL), 0, NXE, True),
        (pae(pde=TABLE | 1 << 62 | ALL), 0, NXE, True),
        (pae(pde=TABLE | NX | ALL), 0, 0, True),
        (pae(pde=TABLE | NX | ALL), 0, NXE, False),
        (pae(pte=0x5000 | NX | ALL), 0, 0, True),
        (pae(pte=0x5000 | 1 << 40 | ALL), 0, NXE, True),
        (pae(pte=0x5000 | 1 << 39 | ALL), 0, NXE, False),
        (pae(pde=0x600000 | 1 << 13 | PS | ALL), 0, NXE, True),
        (pae(pde=0x600000 | 1 << 20 | PS | ALL), 0, NXE, True),
        (pae(pde=0x600000 | 1 << 12 | PS | ALL), 0, NXE, False),
    ],
)
def test_reserved_bits(tables: Tables, cr4: int, efer: int, reserved: bool) -> None:
    found = tables.walk(USER_READ, cr4=cr4, efer=efer)
    assert (found.reason is Reason.RESERVED) == reserved
    assert (found.error_code == 0x0D) == reserved


def test_reserved_comes_before_rights() -> None:
    """A reserved bit is reported whatever the entry allows (figure 4-12: RSVD)."""
    found = pae(pte=0x5000 | 1 << 50 | P).walk(USER_WRITE)
    assert (found.reason, found.error_code) == (Reason.RESERVED, 0x0F)


def test_an_upper_reserved_bit_comes_before_a_lower_absent_entry() -> None:
    found = pae(pde=TABLE | 1 << 50 | ALL, pte=0).walk(READ)
    assert (found.reason, len(found.levels)) == (Reason.RESERVED, 2)


@pytest.mark.parametrize("make", [legacy, pae])
@pytest.mark.parametrize(("upper", "lower"), [(0, US), (US, 0), (0, 0)])
def test_user_access_needs_us_at_every_level(make: type[Tables], upper: int, lower: int) -> None:
    tables = make(pde=TABLE | P | RW | upper, pte=0x5000 | P | RW | lower)  # type: ignore[call-arg]
    for access, code in ((USER_READ, 5), (USER_WRITE, 7)):
        found = tables.walk(access)
        assert (found.reason, found.error_code) == (Reason.SUPERVISOR, code)
    assert found.withheld_by == (("PDE",) if not upper else ()) + (("PTE",) if not lower else ())
    assert tables.walk(WRITE).physical == 0x5678


@pytest.mark.parametrize("make", [legacy, pae])
@pytest.mark.parametrize(("upper", "lower"), [(0, RW), (RW, 0), (0, 0)])
def test_writes_need_rw_at_every_level(make: type[Tables], upper: int, lower: int) -> None:
    tables = make(pde=TABLE | P | US | upper, pte=0x5000 | P | US | lower)  # type: ignore[call-arg]
    assert tables.walk(USER_WRITE, cr0=PG).error_code == 7
    assert tables.walk(WRITE, cr0=PG | WP).error_code == 3
    assert tables.walk(WRITE, cr0=PG).physical == 0x5678, "CR0.WP is clear"
    assert tables.walk(USER_READ).physical == 0x5678
    assert tables.walk(USER_WRITE).withheld_by == (("PDE",) if not upper else ()) + (("PTE",) if not lower else ())


@pytest.mark.parametrize(("upper", "lower"), [(0, NX), (NX, 0), (NX, NX)])
def test_fetches_mind_nx_at_every_level(upper: int, lower: int) -> None:
    tables = pae(pde=TABLE | ALL | upper, pte=0x5000 | ALL | lower)
    assert tables.walk(USER_FETCH).error_code == 0x15
    assert tables.walk(FETCH).error_code == 0x11
    assert tables.walk(USER_READ).physical == tables.walk(USER_WRITE).physical == 0x5678
    assert tables.walk(FETCH).withheld_by == (("PDE",) if upper else ()) + (("PTE",) if lower else ())


def test_fetch_bit_is_reported_only_with_pae_and_nxe() -> None:
    """4.7: I/D."""
    assert pae(pte=0).walk(USER_FETCH).error_code == 0x14
    assert pae(pte=0).walk(USER_FETCH, efer=0).error_code == 4
    assert legacy(pte=0).walk(USER_FETCH).error_code == 4
    assert legacy(pte=0x5000 | P).walk(USER_FETCH).error_code == 5


def test_accessed_and_dirty() -> None:
    """4.8: A wherever the translation went, D in the last entry of a write only."""
    tables = legacy()
    pde, pte = tables.places
    assert tables.walk(READ).updates == [(pde, TABLE | ALL | A), (pte, 0xABCDE000 | ALL | A)]
    assert tables.walk(WRITE).updates == [(pde, TABLE | ALL | A), (pte, 0xABCDE000 | ALL | A | D)]
    assert legacy(pde=TABLE | ALL | A, pte=0x5000 | ALL | A).walk(READ).updates == []
    assert legacy(pde=TABLE | ALL | A, pte=0x5000 | ALL | A).walk(WRITE).updates == [(pte, 0x5000 | ALL | A | D)]
    large = legacy(pde=0x400000 | PS | ALL)
    assert large.walk(WRITE).updates == [(pde, 0x400000 | PS | ALL | A | D)]


def test_a_pdpte_has_no_accessed_bit() -> None:
    tables = pae()
    assert [physical for physical, _ in tables.walk(WRITE).updates] == tables.places[1:]


@pytest.mark.parametrize("bit", [1, 2, 5, 6, 7, 8, 40, 63])
def test_reserved_bits_of_a_pdpte(bit: int) -> None:
    """4.4.1: MOV to CR3 raises #GP(0).  The engine sees bits from 40 up at the access, and not the others."""
    tables = pae(pdpte=DIRECTORY | P | 1 << bit)
    found = tables.walk(USER_READ)
    assert (found.reason, found.error_code, found.physical, found.vector) == (Reason.BAD_PDPTE, None, None, 13)
    engine = tables.walk(USER_READ, profile=ENGINE)
    assert (engine.error_code, engine.physical) == ((0x0D, None) if bit >= 40 else (None, 0xFEDCBA9678))


def test_pdpte_registers() -> None:
    """Hardware goes on with what it loaded; the engine reads memory."""
    tables = pae()
    loaded = [0, 0, 0, 0]
    assert tables.walk(READ, pdptes=loaded).reason is Reason.NOT_PRESENT
    assert tables.walk(READ, pdptes=loaded, profile=ENGINE).physical == 0xFEDCBA9678


def test_engine_marks_the_directory_before_the_verdict() -> None:
    tables = legacy(pte=0)
    assert tables.walk(READ).updates == []
    assert tables.walk(READ, profile=ENGINE).updates == [(tables.places[0], TABLE | ALL | A)]
    assert legacy(pde=0).walk(READ, profile=ENGINE).updates == []
    assert legacy(pde=0x400000 | PS | P).walk(USER_READ, profile=ENGINE).updates == []


def test_engine_reads_before_it_modifies() -> None:
    change = Access(user=True, modify=True)
    assert legacy(pte=0).walk(change).error_code == 6, "as hardware was seen to do"
    assert legacy(pte=0).walk(change, profile=ENGINE).error_code == 6
    read_only = legacy(pte=0x5000 | P | US)
    assert read_only.walk(change).error_code == read_only.walk(change, profile=ENGINE).error_code == 7
    assert read_only.walk(change).updates == []
    assert len(read_only.walk(change, profile=ENGINE).updates) == 2
    assert legacy().walk(change, profile=ENGINE).updates == legacy().walk(USER_WRITE).updates


@pytest.mark.parametrize("code", [0, 2, 4, 6, 0x10, 0x15, 7])
def test_access_of_an_error_code(code: int) -> None:
    access = Access.of_error_code(code)
    assert (access.write, access.user, access.fetch) == (bool(code & 2), bool(code & 4), bool(code & 16))


def test_lines_for_people() -> None:
    assert pae(pte=0x5000 | P | US | NX).walk(USER_WRITE).lines() == [
        "PDPTE [0x001] at 0x00001008 = 0000000000002001  P  table 0x2",
        "PDE   [0x001] at 0x00002008 = 0000000000003007  P RW US  table 0x3",
        "PTE   [0x145] at 0x00003a28 = 8000000000005005  P US NX  frame 0x5",
        "stops here: read-only page, write (PTE)",
    ]
    assert legacy(pde=0xC00000 | PS | ALL).walk(READ).lines()[-1] == "physical 0xf45678 (4096 KB page)"
    assert legacy(pde=0xC00003 | PS).walk(READ, cr4=0).lines()[0].endswith("P RW  table 0xc00")


entry = st.integers(0, 2**64 - 1)
accesses = st.builds(Access, st.booleans(), st.booleans(), st.just(False), st.booleans()) | st.builds(
    Access, st.just(False), st.booleans(), st.just(True)
)


@given(
    st.sampled_from(("legacy", "pae")),
    st.tuples(entry, entry, entry),
    accesses,
    st.sampled_from((PG, PG | WP)),
    st.sampled_from((0, CR4_PSE)),
    st.sampled_from((0, NXE)),
    st.sampled_from((MANUAL, ENGINE)),
)
def test_every_walk_ends_in_one_way(
    fmt: str, raw: tuple[int, int, int], access: Access, cr0: int, cr4: int, efer: int, profile: Profile
) -> None:
    """An address or a reason, never both; what is written only adds A and D to entries that were read."""
    mask = 2**64 - 1 if fmt == "pae" else 2**32 - 1

    def read(physical: int, size: int) -> int:
        return raw[physical // size % 3] & mask

    cr4 |= CR4_PAE if fmt == "pae" else 0
    found = walk(read, ROOT, ADDRESS, access, cr0=cr0, cr4=cr4, efer=efer, profile=profile)
    assert (found.physical is None) == (found.reason is not Reason.MAPPED)
    assert found.error_code is None or found.physical is None
    assert (found.vector is None) == (found.physical is not None)
    assert found.physical is None or found.physical < 1 << 40
    entries = {seen.physical: seen.entry for seen in found.levels}
    for physical, value in found.updates:
        assert value != entries[physical]
        assert value & ~entries[physical] & ~(A | D) == 0
        assert value | entries[physical] == value
    assert len(found.lines()) == len(found.levels) + 1
