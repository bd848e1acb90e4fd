"""What ``--trace`` takes."""

from __future__ import annotations

from sandbox.cli.run import TRACE_KINDS
from sandbox.report.trace import KINDS


def test_the_command_line_offers_every_kind() -> None:
    """The names stand there a second time: ``--help`` comes without loading the events."""
    assert tuple(KINDS) == TRACE_KINDS
