"""``docs/api.md``: every example runs, and its table names what is public."""

from __future__ import annotations

import doctest
import re
import tomllib
from pathlib import Path

from sandbox import api

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/api.md").read_text()


def test_every_example_runs() -> None:
    blocks = re.findall(r"```pycon\n(.*?)```", TEXT, re.S)
    assert len(blocks) == TEXT.count("```") // 2 >= 10
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "docs/api.md", "docs/api.md", 0)
    told: list[str] = []
    found = doctest.DocTestRunner().run(test, out=told.append)
    assert not found.failed, "".join(told)


def test_the_table_is_the_public_list() -> None:
    rows = [line.split("|")[1] for line in TEXT.splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(api.__all__) == api.__all__
    assert all(hasattr(api, name) for name in api.__all__)


def test_the_version_is_a_semantic_one_and_in_the_changelog() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert version in (ROOT / "CHANGELOG.md").read_text()
    assert (ROOT / "sandbox/py.typed").exists()
