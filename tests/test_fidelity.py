"""The tables of ``docs/fidelity.md`` are the measured ones."""

from __future__ import annotations

import pytest

from sandbox.engine import stubs
from tests import fidelity

pytestmark = pytest.mark.skipif(not stubs.native_host(), reason="the mends are x86-64 Linux code")
NOTHING = dict.fromkeys([*fidelity.KINDS, *fidelity.encodings.CASES], 0)


def test_what_is_mended_is_listed() -> None:
    assert fidelity.on_page("mends") == "\n".join(fidelity.mend_rows())


@pytest.mark.parametrize("name", ["vectors", "forms"])
def test_rows_and_mended_counts(name: str) -> None:
    """Everything but what stock differs in: each kind, how many were compared, and that none differs any more."""

    def cells(table: str) -> list[list[str]]:
        return [[cell for at, cell in enumerate(row.split(" | ")) if at != 2] for row in table.splitlines()[2:]]

    assert cells(fidelity.on_page(name)) == cells(fidelity.tables(NOTHING, NOTHING)[name])


@pytest.mark.campaign
def test_all_of_it_as_measured() -> None:
    if fidelity.processor() not in fidelity.on_page("processor"):
        pytest.skip("the page was measured on another processor")
    assert {name: fidelity.on_page(name) for name in ("processor", "vectors", "forms", "mends")} == fidelity.measured()
