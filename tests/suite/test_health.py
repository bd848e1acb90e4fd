"""The doctor finds this host well, and says so when something is not."""

from __future__ import annotations

import json

import pytest

from sandbox.cli import main
from sandbox.suite import health


def test_everything_needed_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {each["group"] for each in found} == {"host", "packages", "engine", "mends", "tools"}
    assert all(each["passed"] for each in found if each["needed"])


def test_a_missing_package_is_an_illness(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(health, "PACKAGES", ("unicorn", "no-such-package"))
    assert main(["doctor"]) == 3
    assert "no-such-package" in capsys.readouterr().out


def test_all_of_it_fits_a_small_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A line a check in 80 columns; on a wide one what a mend costs, too."""
    for columns, costs in ((80, False), (250, True)):
        monkeypatch.setattr("sandbox.cli.colour.columns_of", lambda stream, columns=columns: columns)
        assert main(["doctor"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert all(len(line) <= columns for line in lines)
        assert f"{len(lines) - 1} checks" in lines[-1]
        assert ("; costs " in "".join(lines)) is costs
