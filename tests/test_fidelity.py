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


def test_all_that_differs_has_a_cause() -> None:
    """The table of causes: what differs in the mended engine is listed, and what is seen no more is not called so."""
    rows = [
        [cell.strip() for cell in row.strip("|").split("|")] for row in fidelity.on_page("semantics").splitlines()[2:]
    ]
    assert rows[-1][0] == "nothing that is listed" and rows[-1][2] == "0"
    for _, stock, mended, state in rows[:-1]:
        found = "listed" if mended != "0" else "mended" if stock != "0" else "not found"
        assert state == found


@pytest.mark.campaign
def test_all_of_it_as_measured() -> None:
    if fidelity.processor() not in fidelity.on_page("processor"):
        pytest.skip("the page was measured on another processor")
    names = ("processor", "vectors", "forms", "mends", "semantics")
    assert {name: fidelity.on_page(name) for name in names} == fidelity.measured()
