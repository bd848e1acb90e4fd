"""The cheat sheet has every command, every topic and every event, and nothing that is not there."""

from __future__ import annotations

import re
from pathlib import Path

from sandbox.debug.catches import BESIDE, CATCHES
from sandbox.debug.commands import ALIASES, COMMANDS
from sandbox.debug.commands.info import TOPICS
from sandbox.kernel.mm.fault import Resolution

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "debug-cheatsheet.md").read_text()
SPANS = [span for span in re.findall(r"`([^`]+)`", PAGE) if span.strip()]
WORDS = {word.partition("/")[0] for span in SPANS for word in span.split()}


def test_every_command_is_there() -> None:
    first = {span.split()[0].partition("/")[0] for span in SPANS}
    assert [name for name in COMMANDS if name not in first] == []


def test_every_topic_and_event_is_there() -> None:
    answers = {str(each) for each in Resolution}
    assert [name for name in TOPICS if name not in WORDS] == []
    assert [name for name in (*CATCHES, *BESIDE) if name not in WORDS | answers] == []


def test_what_is_there_exists() -> None:
    """In the columns that say what to type."""
    rows = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")]
    sections = PAGE.partition("## Words")[0]
    typed = [row[0] for row in rows if "| `" in sections and f"| {row[0]} |" in sections and row[0].startswith("`")]
    known = {*COMMANDS, *ALIASES, *TOPICS, *CATCHES, *BESIDE}
    words = {span.split()[0].partition("/")[0] for cell in typed for span in re.findall(r"`([^`]+)`", cell)}
    assert [word for word in words if word not in known] == []
