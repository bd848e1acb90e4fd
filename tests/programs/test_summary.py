"""What is said about the programs at the end of a test run."""

from __future__ import annotations

from tests.programs.summary import lines


def test_nothing_is_said_without_programs() -> None:
    assert lines([[("other", 1)]]) == []


def test_one_failure_in_either_mode_counts() -> None:
    reports = [[("program", ("a", "failed"))], [("program", ("a", "failed")), ("program", ("a", "passed"))]]
    said = lines([*reports, [("program", ("b", "passed"))]])
    assert said == ["programs: 2 of 2 run in the sandbox, 1 of them not as the table says"]


def test_what_was_not_fetched_is_counted_aloud() -> None:
    reports = [[("program", ("a", "not fetched"))], [("program", ("b", "passed"))], [("natively", (1, 2, ""))]]
    said = lines(reports)
    assert said[0].startswith("programs: 1 of 2 run")
    assert said[1] == "programs: 1 of 2 match natively"
    assert "1 OF 2 NOT RUN" in said[2]


def test_why_nothing_ran_natively() -> None:
    reports = [[("program", ("a", "passed"))], [("natively", (0, 1, "no such host"))]]
    assert lines(reports)[1] == "programs: 0 of 1 match natively: no such host"
