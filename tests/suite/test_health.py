"""The doctor finds this host well, and says so when something is not."""

from __future__ import annotations

import json

import pytest

from sandbox.cli import main
from sandbox.suite import health


def test_everything_needed_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {each["group"] for each in found} == {"host", "packages", "engine", "tools"}
    assert all(each["passed"] for each in found if each["needed"])


def test_a_missing_package_is_an_illness(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(health, "PACKAGES", ("unicorn", "no-such-package"))
    assert main(["doctor"]) == 3
    assert "no-such-package" in capsys.readouterr().out
