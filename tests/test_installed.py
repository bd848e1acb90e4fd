"""The package as ``pip install .`` puts it into a site-packages folder, used away from the checkout.

What it must do there is what the README says of the checkout's; the images' own manifests say what is seen.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(importlib.util.find_spec("setuptools") is None, reason="setuptools is not installed")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a built package: what a wheel of it holds."""
    place = tmp_path_factory.mktemp("installed")
    words = ["setup.py", "-q", "egg_info", "--egg-base", place, "build", "--build-base", place / "build"]
    made = subprocess.run(
        [sys.executable, "-W", "ignore", *map(str, words), "--build-lib", str(place / "lib")],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    shutil.copytree(place / "sandbox.egg-info", place / "lib" / "sandbox.egg-info")
    return place / "lib"


def call(installed: Path, place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(installed), "XDG_CACHE_HOME": str(place / "cache")}
    return subprocess.run(
        [sys.executable, "-P", "-m", "sandbox", *words],
        cwd=place, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_images_of_the_collection_run(installed: Path, tmp_path: Path) -> None:
    done = call(installed, tmp_path, "run", "images/cow-fork")
    assert (done.returncode, done.stdout) == (0, "cow-fork: the child wrote 8, the parent kept 7\n"), done.stderr


def test_sources_find_headers_and_linker_scripts(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "p.c").write_text('#include "user.h"\nint main(void) { return 7; }\n')
    (tmp_path / "m.c").write_text('#include "module.h"\nint init_module(void) { printk("here\\n"); return 0; }\n')
    (tmp_path / "s.S").write_text('.include "linux.inc"\n.globl _start\n_start: ud2\n')
    assert call(installed, tmp_path, "run", "--status", "p.c").returncode == 7
    assert "here" in call(installed, tmp_path, "run", "m.c").stdout
    assert call(installed, tmp_path, "run", "--status", "s.S").returncode == 128 + 4


def test_suite_and_rom_symbols_work(installed: Path, tmp_path: Path) -> None:
    done = call(installed, tmp_path, "test", "images/cow-fork")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "4 passed, 0 failed"), done.stderr
    done = call(installed, tmp_path, "debug", "images/rom-write-protect", "-e", "when")
    assert "<rom_entry>" in done.stdout


def test_nothing_is_built_in_its_place(installed: Path, tmp_path: Path) -> None:
    done = call(installed, tmp_path, "images", "--build")
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        2,
        "sandbox: --build: this package was installed, not checked out",
    )


def test_programs_stay_executable_and_all_files_come_along(installed: Path) -> None:
    listed = subprocess.run(["git", "ls-files", "asm", "images"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        here, there = ROOT / name, installed / "sandbox" / "share" / name
        assert there.read_bytes() == here.read_bytes()
        assert there.stat().st_mode & 0o111 == here.stat().st_mode & 0o111, name


OWN_TEST = """
import sys

def test_it(run_image, assemble):
    assert run_image(assemble(".globl _start\\n_start: ud2\\n")).headline() == "killed by SIGILL"
    ours = [each for name, each in sys.modules.items() if name.startswith("sandbox.kernel.")]
    assert len(ours) > 50
    assert {type(each.__spec__.loader).__name__ for each in ours} == {"SourceFileLoader"}
    assert INSTALLED in sys.modules["sandbox.kernel"].__file__
"""
"""pytest's loader of what it rewrites is an AssertionRewritingHook."""


def test_the_plugin_is_there_and_its_package_is_not_rewritten(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "test_own.py").write_text(OWN_TEST.replace("INSTALLED", repr(str(installed))))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_own.py"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(installed)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
