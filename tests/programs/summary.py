"""What a test run says at its end about the programs: how many ran, in the sandbox and natively.

The tests record it, because what a test prints is lost when several processes run them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

Recorded = list[tuple[str, Any]]


def lines(reports: Iterable[Recorded]) -> list[str]:
    """``reports``: what each test recorded.  Nothing if no program was asked for."""
    worst: dict[str, str] = {}
    natively: tuple[int, int, str] | None = None
    order = ("passed", "not fetched", "failed")
    for recorded in reports:
        last = dict(recorded)
        if "program" in last:
            name, how = last["program"]
            worst[name] = max(worst.get(name, "passed"), how, key=order.index)
        natively = last.get("natively", natively)
    if not worst:
        return []
    absent, failed = (sum(how == each for how in worst.values()) for each in ("not fetched", "failed"))
    ran = len(worst) - absent
    said = [f"programs: {ran} of {len(worst)} run in the sandbox, {failed} of them not as the table says"]
    if natively is not None:
        matched, rows, why_not = natively
        said.append(f"programs: {matched} of {rows} match natively" + (f": {why_not}" if why_not else ""))
    if absent:
        said.append(f"programs: {absent} OF {len(worst)} NOT RUN, their packages are not here: see `make programs`")
    return said


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """A hook of pytest."""
    found = {
        report.nodeid: report.user_properties
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.user_properties
    }
    for line in lines(found.values()):
        terminalreporter.write_line(line)
