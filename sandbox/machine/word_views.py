"""Views of guest RAM in words that do something at a store: check and count it, or tell somebody.

A plain memoryview is what stores go through otherwise: it costs nothing and says nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias, overload

from sandbox.x86.paging import PAGE_SIZE


class StoreObserver(Protocol):
    """Who wants to know which present table entries the host changes (``sandbox.sanitize``)."""

    alert: bool
    """Stores over entries that were not present, too."""

    def stored(self, offset: int, width: int) -> None:
        """Words of ``width`` bytes at an offset of the buffer have changed."""
        ...

    def executed(self, offset: int, width: int, cpu: int, linear: int) -> None:
        """The same of an entry that a CPU has stored, in a routine that executes INVLPG of its page behind that."""
        ...


class _View:
    """Words of ``width`` bytes, loaded through another view."""

    __slots__ = ("_view", "_width")

    def __init__(self, view: WordView, width: int) -> None:
        self._view, self._width = view, width

    def __len__(self) -> int:
        return len(self._view)

    @overload
    def __getitem__(self, index: int, /) -> int: ...

    @overload
    def __getitem__(self, index: slice, /) -> memoryview: ...

    def __getitem__(self, index: int | slice, /) -> int | memoryview:
        return self._view[index]

    def _range(self, index: int | slice) -> tuple[int, int]:
        """(offset in bytes, bytes) of what an index means."""
        first, end = (index, index + 1) if isinstance(index, int) else index.indices(len(self._view))[:2]
        return first * self._width, (end - first) * self._width

    def _store(self, index: int | slice, value: int | memoryview) -> None:
        self._view[index] = value  # type: ignore[index, assignment]


class AuditedView(_View):
    """Each store is first shown to ``check`` as (offset, bytes), which may raise; slices are read-only."""

    __slots__ = ("_check",)

    def __init__(self, view: WordView, width: int, check: Callable[[int, int], None]) -> None:
        super().__init__(view, width)
        self._check = check

    @overload
    def __getitem__(self, index: int, /) -> int: ...

    @overload
    def __getitem__(self, index: slice, /) -> memoryview: ...

    def __getitem__(self, index: int | slice, /) -> int | memoryview:
        found = self._view[index]
        return found if isinstance(found, int) else found.toreadonly()

    @overload
    def __setitem__(self, index: int, value: int, /) -> None: ...

    @overload
    def __setitem__(self, index: slice, value: memoryview, /) -> None: ...

    def __setitem__(self, index: int | slice, value: int | memoryview, /) -> None:
        self._check(*self._range(index))
        self._store(index, value)


class ObservedView(_View):
    """An observer is told of stores over words whose lowest bit, P of an entry, was set."""

    __slots__ = ("_observer",)

    def __init__(self, view: WordView, width: int, observer: StoreObserver) -> None:
        super().__init__(view, width)
        self._observer = observer

    @overload
    def __setitem__(self, index: int, value: int, /) -> None: ...

    @overload
    def __setitem__(self, index: slice, value: memoryview, /) -> None: ...

    def __setitem__(self, index: int | slice, value: int | memoryview, /) -> None:
        view, observer = self._view, self._observer
        if type(index) is int:  # by far the most, and this is the quickest question
            if observer.alert or view[index] & 1:
                observer.stored(index * self._width, self._width)
            view[index] = value  # type: ignore[assignment]
            return
        assert isinstance(index, slice)
        first = index.indices(len(view))[0]
        for at, old in enumerate(view[index].tolist(), first):
            if old & 1 or observer.alert:
                observer.stored(at * self._width, self._width)
        view[index] = value  # type: ignore[assignment]


class WatchedView(_View):
    """``ask`` hears (offset, bytes) before each store to one of ``pages``, and what it answers is called behind it.

    ``pages`` are offsets in the buffer, in pages; ranges of words are always asked about.
    """

    __slots__ = ("_ask", "_pages", "_shift")

    def __init__(
        self, view: WordView, width: int, ask: Callable[[int, int], Callable[[], object] | None], pages: set[int]
    ) -> None:
        super().__init__(view, width)
        self._ask, self._pages = ask, pages
        self._shift = (PAGE_SIZE // width).bit_length() - 1

    @overload
    def __setitem__(self, index: int, value: int, /) -> None: ...

    @overload
    def __setitem__(self, index: slice, value: memoryview, /) -> None: ...

    def __setitem__(self, index: int | slice, value: int | memoryview, /) -> None:
        if type(index) is int and index >> self._shift not in self._pages:  # by far the most
            self._view[index] = value  # type: ignore[assignment]
            return
        behind = self._ask(*self._range(index))
        self._store(index, value)
        if behind is not None:
            behind()


WordView: TypeAlias = "memoryview[int] | AuditedView | ObservedView | WatchedView"
"""Words to load and store."""
