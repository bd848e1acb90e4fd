"""Modules from one file: the same modules as by the interpreter's own import, and never stale ones.

What must hold is what Python's manual says of ``.pyc`` files ("The import system", 5.4.7 and 5.5.7; ``-B``,
``-X pycache_prefix``), with a copy of the package in a folder of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sandbox

PACKAGE = Path(sandbox.__file__).parent
VERB = ("-m", "sandbox", "images", "--help")
TOLD = """
import json, sys
from sandbox.cli import main
sys.argv = ["sandbox", "images", "--help"]
try: main()
except SystemExit: pass
facts = lambda m: [m.__name__, m.__file__, m.__cached__, m.__package__, list(getattr(m, "__path__", [])),
                   m.__spec__.origin, m.__spec__.parent, sorted(m.__dict__)]
ours = {n: m for n, m in sys.modules.items() if n.startswith("sandbox.")}
from sandbox.cli.images import run
import inspect
quick = sorted(n for n, m in ours.items() if type(m.__loader__).__module__ == "sandbox.bundle")
told = [{n: facts(m) for n, m in ours.items()}, inspect.getsource(run), run.__code__.co_filename, quick]
print(json.dumps(told), file=sys.stderr)
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A package of its own, never imported."""
    shutil.copytree(PACKAGE, tmp_path / "sandbox", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def python(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env={**kept, "PYTHONPATH": str(folder), **environment},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def told(folder: Path, *options: str) -> tuple[dict[str, list[object]], str, str, list[str]]:
    modules, source, name, quick = json.loads(python(folder, *options, "-c", TOLD).stderr)
    return modules, source, name, quick


def bundles(folder: Path) -> list[Path]:
    return sorted((folder / "sandbox" / "__pycache__").glob("modules.*"))


def test_modules_are_what_they_are_without_it(copy: Path) -> None:
    first = told(copy)
    assert first[3] == []
    second = told(copy)
    assert second[:3] == first[:3]
    assert "sandbox.cli.images" in second[3]
    assert [each.name for each in bundles(copy)] == [f"modules.{sys.implementation.cache_tag}.bundle"]


@pytest.mark.parametrize("later", [0, 1, -1_000_000_000])
def test_a_changed_module_is_the_changed_one(copy: Path, later: int) -> None:
    """Older, newer, or of the same time and another size."""
    python(copy, *VERB)
    changed = copy / "sandbox" / "cli" / "images.py"
    was = changed.stat().st_mtime_ns
    changed.write_text(changed.read_text() + "\nsaid = 'changed'\n" * 2)
    os.utime(changed, ns=(was + later, was + later))
    for known in (False, True):
        modules, *_, quick = told(copy)
        assert "said" in modules["sandbox.cli.images"][7]  # type: ignore[operator]
        assert ("sandbox.cli.images" in quick) is known


def test_a_module_that_is_gone_is_gone(copy: Path) -> None:
    python(copy, *VERB)
    (copy / "sandbox" / "cli" / "images.py").unlink()
    shutil.rmtree(copy / "sandbox" / "cli" / "__pycache__")
    done = subprocess.run([sys.executable, *VERB], cwd=copy, capture_output=True, text=True, timeout=60, check=False)
    assert "No module named 'sandbox.cli.images'" in done.stderr


def test_a_moved_package_names_its_own_files(copy: Path, tmp_path: Path) -> None:
    python(copy, *VERB)
    moved = tmp_path / "moved"
    moved.mkdir()
    shutil.move(copy / "sandbox", moved / "sandbox")
    for _ in range(2):
        assert told(moved)[2] == str(moved / "sandbox" / "cli" / "images.py")


@pytest.mark.parametrize("spoilt", [b"", b"not ours", None])
def test_a_spoilt_file_is_written_again(copy: Path, spoilt: bytes | None) -> None:
    """Empty, another's, or cut."""
    python(copy, *VERB)
    (file,) = bundles(copy)
    file.write_bytes(file.read_bytes()[:100] if spoilt is None else spoilt)
    assert told(copy)[3] == []
    assert "sandbox.cli.images" in told(copy)[3]


@pytest.mark.parametrize("options", [("-B",), ("-X", "pycache_prefix=elsewhere")])
def test_nothing_is_written_where_the_interpreter_writes_nothing(copy: Path, options: tuple[str, ...]) -> None:
    assert told(copy, *options)[3] == []
    assert bundles(copy) == []


def test_a_second_verb_is_added(copy: Path) -> None:
    python(copy, *VERB)
    python(copy, "-m", "sandbox", "asm", "nop")
    (file,) = bundles(copy)
    assert b"cli/asm.py" in file.read_bytes()
    assert b"cli/images.py" in file.read_bytes()
