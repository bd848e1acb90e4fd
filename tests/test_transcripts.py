"""The sessions that the pages show are what the debugger and gdb say."""

from __future__ import annotations

import re
import shutil

import pytest

from tests.suite.test_bugs import MENDS
from tests.transcripts import GDB, ROOT, Session, replay, sessions

WITH_GDB = ("docs/tutorial-debug.md", "docs/roms.md")
PAGES = (*WITH_GDB, "docs/answers.md")
ALL = [(page, each) for page in PAGES for each in sessions(page)]


@pytest.mark.parametrize(("page", "session"), ALL, ids=[f"{page}-{n}" for n, (page, _) in enumerate(ALL)])
def test_a_session_is_as_it_is_shown(page: str, session: Session) -> None:
    if session.prompt == GDB and not shutil.which("gdb"):
        pytest.skip("gdb is not installed")
    assert replay(session) == session.blocks


@pytest.mark.parametrize("page", WITH_GDB)
def test_the_debugger_and_gdb_are_shown(page: str) -> None:
    prompts = [each.prompt for each in sessions(page)]
    assert GDB in prompts and len(prompts) >= 2


def test_the_mends_that_are_shown_are_those_that_mend() -> None:
    """Lines of each diff that go and come, against ``tests/suite/test_bugs.py``."""
    text = (ROOT / "docs/tutorial-debug.md").read_text()
    shown = [
        ["".join(line[1:] + "\n" for line in block.splitlines() if line[0] in keeps).strip() for keeps in ("- ", "+ ")]
        for block in re.findall(r"```diff\n(.*?)```", text, re.S)
    ]
    assert sorted(shown) == sorted([each.old.strip(), each.new.strip()] for each in MENDS.values())


def test_lines_fit_a_page() -> None:
    for page in PAGES:
        for session in sessions(page):
            assert [line for line in session.lines if len(line) > 110] == [], page
