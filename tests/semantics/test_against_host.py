"""The sandbox against this host's CPU: nothing that is not listed differs, and what is listed is there."""

from __future__ import annotations

import pytest

from sandbox.engine import mends, stubs
from sandbox.semantics import campaign, generate
from sandbox.semantics.campaign import Plan, State, Tally
from sandbox.semantics.host import NoHost, build

pytestmark = pytest.mark.skipif(not stubs.native_host(), reason="the mends are x86-64 Linux code")


@pytest.fixture(autouse=True)
def _host() -> None:
    try:
        build()
        campaign.oracles()
    except NoHost as error:
        pytest.skip(error.summary)


def told(tally: Tally) -> list[str]:
    """Divergences that are not listed, each with a vector."""
    return [
        f"{form}: {', '.join(parts)}: {tally.kept[form, parts, cause][0].vector}"
        for form, parts, cause in tally.ways
        if not cause
    ]


@pytest.mark.parametrize("family", generate.FAMILIES)
def test_nothing_new_differs(family: str) -> None:
    assert mends.chosen() == mends.MENDED
    assert told(campaign.run_chunk(11, (family, 0, 3 * len(generate.forms(family))))) == []


def test_two_processes_find_what_one_does() -> None:
    """Forked behind this process's own runner and machine, which they leave alone."""
    plan = Plan(("x87", "sse"), 3, 3000, mends.chosen())
    alone, spread = State(None, plan), State(None, plan)
    assert sum(campaign.run(plan, alone, 1)) == sum(campaign.run(plan, spread, 2)) == 6000
    one, other = alone.total().to_dict(), spread.total().to_dict()
    assert one.pop("seconds").keys() == other.pop("seconds").keys()
    assert one == other
