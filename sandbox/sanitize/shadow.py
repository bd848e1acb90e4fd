"""The shadow of one CPU's TLB: every translation that hardware might hold, as bad as the manual allows it to be.

A translation lives from the fill to an invalidation that this CPU has executed (SDM 3A, 4.10.4.1):

- INVLPG: those of its page, global ones and the whole of a large page, and every paging-structure cache;
- a load of CR3: all but global ones, and every paging-structure cache; under PAE it loads the PDPTE registers (4.4.1);
- a change of CR4.PGE, and CR0.PG cleared: all; a change of CR4.PAE: all but global ones.

It never loses one for want of room, nor a global one to a walk that hardware might not have done.  A page fault ends
nothing here, though on hardware it drops what the access might have used: the engine keeps that, and no kernel should
count on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from sandbox.sanitize.translation import Held, Path, grant
from sandbox.x86.masks import CR0_PG, CR4_PAE, CR4_PGE, CR4_PSE
from sandbox.x86.paging import FRAME_MASK, PAGE_SHIFT, PAGE_SIZE, G

PDPTE_LOADS_CR0 = 0xE0000000
"""CR0.PG, CD and NW: MOV to CR0 that changes one of them loads the PDPTEs."""
new_held: Callable[[tuple[int, int, Path, int]], Held] = partial(tuple.__new__, Held)
"""``Held._make`` in half the time."""
OF_2MB, OF_4MB = -0x200, -0x400
"""What a 4 KB page's number has of the first one's in a large page."""
PDPTE_LOADS_CR4 = CR4_PAE | CR4_PGE | CR4_PSE


def _table_of(entry: int) -> int:
    """The frame of the table that an entry names."""
    return (entry & FRAME_MASK) >> PAGE_SHIFT


class Pages:
    """Translations by page number, and the page by the address of its leaf."""

    __slots__ = ("by_leaf", "by_page")

    def __init__(self) -> None:
        self.by_page: dict[int, Held] = {}
        self.by_leaf: dict[int, int] = {}

    def clear(self) -> None:
        """Forget all."""
        self.by_page.clear()
        self.by_leaf.clear()

    def drop(self, page: int) -> None:
        """Forget one page's."""
        held = self.by_page.pop(page, None)
        if held is not None and self.by_leaf.get(held.path[-2]) == page:
            del self.by_leaf[held.path[-2]]


class ShadowTlb:
    """What one CPU may hold.  Addresses are linear, ``walked`` and roots are frame numbers.

    ``stale`` are those whose entries have been found to grant less, or another frame, since; whoever compares keeps it,
    and here it loses what is invalidated.
    """

    __slots__ = (
        "_upper", "_walked", "cr3", "cr4", "globals", "large", "local", "number", "pdptes", "routes", "stale",
    )  # fmt: skip

    def __init__(self, number: int) -> None:
        self.number = number
        self.cr3 = self.cr4 = 0
        self.local, self.globals = Pages(), Pages()
        self.large = Pages()
        """Of large pages, by the number of their first 4 KB page; global ones among them."""
        self.routes: dict[Path, int] = {}
        """The ways to leaves that were walked since paging-structure caches were emptied, and an address of each."""
        self._walked: dict[int, int] | None = {}
        self.stale: dict[int, Held] = {}
        """By page number, large ones by their first."""
        self._upper: set[int] = set()
        """Physical addresses of the entries above leaves that walks used."""
        self.pdptes: tuple[int, ...] = ()
        """The PDPTE registers; nothing until a load of CR3 has been seen, and without PAE."""

    # -- what the CPU did

    def fill(self, linear: int, physical: int, size: int, path: Path, attributes: int) -> None:
        """A walk ended in a translation of the 4 KB page at ``linear``, a piece of one of ``size`` bytes."""
        trunk = path[:-2]
        if trunk not in self.routes:
            self.routes[trunk] = linear
            self._walked = None
            self._upper.update(trunk[::2])
        if size != PAGE_SIZE:
            known = self.large.by_page.get((linear & -size) >> PAGE_SHIFT)
            if known is None or known[2] != path or known[1] != size:
                self._fill_large(linear & -size, known, Held(physical - (linear & size - 1), size, path, attributes))
            return
        page = linear >> PAGE_SHIFT
        pages, other = self.local, self.globals
        if path[-1] & G and self.cr4 & CR4_PGE:
            pages, other = other, pages
        if page in other.by_page:
            if other is self.globals and self._serves(other.by_page[page], Held(physical, size, path, attributes)):
                return
            other.drop(page)
        pages.by_page[page] = new_held((physical, size, path, attributes))
        pages.by_leaf[path[-2]] = page
        if self.stale:
            self.stale.pop(page, None)

    def refill(self, linear: int, physical: int, path: Path, attributes: int) -> None:
        """INVLPG of a 4 KB page, and the next walk for it."""
        page, trunk, leaf, local, large = linear >> PAGE_SHIFT, path[:-2], path[-2], self.local, self.large.by_page
        before = local.by_page.get(page)
        if (
            trunk not in self.routes
            or self.stale
            or path[-1] & G
            or page in self.globals.by_page
            or (before is not None and before[2][-2] != leaf)
            or page & OF_2MB in large
            or page & OF_4MB in large
        ):
            self.invlpg(linear)
            self.fill(linear, physical, PAGE_SIZE, path, attributes)
            return
        self.routes.clear()  # the page's leaf is where it was, if it was known
        self.routes[trunk] = linear
        self._walked = None
        local.by_page[page] = new_held((physical, PAGE_SIZE, path, attributes))
        local.by_leaf[leaf] = page

    def _fill_large(self, base: int, known: Held | None, held: Held) -> None:
        if known is not None and known.is_global and not held.is_global and self._serves(known, held):
            return
        self.large.by_page[base >> PAGE_SHIFT] = held
        self.large.by_leaf[held.path[-2]] = base >> PAGE_SHIFT

    def _serves(self, known: Held, walked: Held) -> bool:
        """A global translation that grants all that a walk of a local entry in its place found.

        The engine walked because a load of CR3 takes global pages from it too; hardware may have had no need to, and
        will have the global one after the next load (SDM 3A, 4.10.2.4).
        """
        if known[0] != walked[0] or known[1] != walked[1] or known[2][-2] != walked[2][-2]:
            return False
        pae = bool(self.cr4 & CR4_PAE)
        return grant(known[2], pae).covers(grant(walked[2], pae))

    def invlpg(self, linear: int) -> None:
        """INVLPG was executed."""
        page = linear >> PAGE_SHIFT
        if page in self.local.by_page:
            self.local.drop(page)
        if page in self.globals.by_page:
            self.globals.drop(page)
        if self.stale:
            self.stale.pop(page, None)
        if page & OF_2MB in self.large.by_page or page & OF_4MB in self.large.by_page:
            large = self._large_over(linear)
            if large is not None:
                self.large.drop(large)
                self.stale.pop(large, None)
        self._forget_tables()

    def _large_over(self, linear: int) -> int | None:
        """The first page of a large one that holds an address: 2 or 4 MB, aligned to its size."""
        for size in (2 << 20, 4 << 20):
            base = (linear & -size) >> PAGE_SHIFT
            held = self.large.by_page.get(base)
            if held is not None and linear < (base << PAGE_SHIFT) + held.size:
                return base
        return None

    def _forget_tables(self) -> None:
        self.routes.clear()
        self._walked = None

    @property
    def walked(self) -> dict[int, int]:
        """Tables below the root that a paging-structure cache may name, and an address that was walked through each."""
        if self._walked is None:
            self._walked = {}
            for trunk, linear in self.routes.items():
                tables = (*(at >> PAGE_SHIFT for at in trunk[2::2]), *(_table_of(entry) for entry in trunk[-1:]))
                self._walked.update(dict.fromkeys(tables, linear))
        return self._walked

    def load_cr3(self, value: int) -> None:
        """MOV to CR3 was executed."""
        self.cr3 = value
        self._forget_local()

    def load_cr4(self, value: int, old: int) -> bool:
        """MOV to CR4; True when it loads the PDPTEs."""
        self.cr4 = value
        if (value ^ old) & CR4_PGE:
            self.forget_all()
        elif (value ^ old) & CR4_PAE:
            self._forget_local()
        return bool((value ^ old) & PDPTE_LOADS_CR4)

    def load_cr0(self, value: int, old: int) -> bool:
        """MOV to CR0; True when it loads the PDPTEs."""
        if old & ~value & CR0_PG:
            self.forget_all()
        return bool((value ^ old) & PDPTE_LOADS_CR0)

    def _forget_local(self) -> None:
        self.local.clear()
        self._forget_tables()
        if not self.cr4 & CR4_PGE:
            self.forget_all()
            return
        for page in [page for page, held in self.large.by_page.items() if not held.is_global]:
            self.large.drop(page)
        self._upper.clear()
        for pages in (self.globals, self.large):
            self._upper.update(at for held in pages.by_page.values() for at in held.path[:-2:2])
        if self.stale:
            self.stale = {page: held for page, held in self.stale.items() if held.is_global}

    def forget_all(self) -> None:
        """Everything, global ones too."""
        self.local.clear()
        self.globals.clear()
        self.large.clear()
        self.stale.clear()
        self._upper.clear()
        self._forget_tables()

    # -- what it may hold

    def find(self, linear: int) -> tuple[int, Held] | None:
        """The page number and the translation that an access might use."""
        page = linear >> PAGE_SHIFT
        held = self.local.by_page.get(page) or self.globals.by_page.get(page)
        if held is not None:
            return page, held
        large = self._large_over(linear)
        return None if large is None else (large, self.large.by_page[large])

    def through(self, at: int) -> Iterator[tuple[int, Held]]:
        """(page number, translation) of those whose walk used the entry at a physical address."""
        everywhere = (self.local, self.globals, self.large)
        for pages in everywhere:
            page = pages.by_leaf.get(at)
            if page is not None:
                yield page, pages.by_page[page]
        if at in self._upper:
            for pages in everywhere:
                for page, held in pages.by_page.items():
                    if at in held.path[:-2:2]:
                        yield page, held

    def leaves(self, at: int) -> Sequence[int | None]:
        """The 4 KB pages whose leaf is the entry at a physical address; None for large ones and what is below it."""
        if at in self._upper or at in self.large.by_leaf:
            return (None,)
        local, everywhere = self.local.by_leaf, self.globals.by_leaf
        if at in local or at in everywhere:
            return [pages[at] for pages in (local, everywhere) if at in pages]
        return ()

    def leaf_tables(self) -> tuple[set[int], dict[int, int], dict[int, int], dict[int, int]]:
        """For who asks at every fault what ``leaves`` tells: places above leaves, and the pages by their leaf, of large
        pages, local and global ones.  They stay the same objects."""
        return self._upper, self.large.by_leaf, self.local.by_leaf, self.globals.by_leaf

    def everything(self) -> Iterator[tuple[int, Held]]:
        """(page number, translation) of all."""
        yield from self.local.by_page.items()
        yield from self.globals.by_page.items()
        yield from self.large.by_page.items()
