"""The README and the pages show what the commands print."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    "docs/tutorial-debug.md",
    "README.md",
    "docs/index.md",
    "docs/pages.md",
    "docs/areas.md",
    "docs/modules.md",
    "docs/answers.md",
    "docs/kmap.md",
    "docs/races.md",
    "docs/highmem.md",
    "docs/kmap-atomic.md",
    "docs/page-kva.md",
)
PAGES_WITH_ONE = ("docs/debug.md", "docs/run.md", "docs/shadow-tlb.md", "docs/threads.md", "docs/ptrace.md")
HERE = re.compile(r"\$ cat > (\S+) <<'END'\n(.*?)\nEND\n", re.S)


def shown(page: str) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """(command, output, files that are made before) of every example with an output."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", (ROOT / page).read_text(), re.S):
        files = HERE.findall(block)
        lines = HERE.sub("", block).strip("\n").split("\n")
        if "\n(" in block or block.startswith("("):
            continue  # a session: test_transcripts.py
        if lines[0].startswith("$ sandbox ") and len(lines) > 1 and not lines[1].startswith("$"):
            found.append((lines[0].removeprefix("$ sandbox "), "\n".join(lines[1:]), files))
    return found


SHOWN = [(page, *example) for page in (*PAGES, *PAGES_WITH_ONE) for example in shown(page)]


@pytest.mark.parametrize(("page", "command", "output", "files"), SHOWN, ids=[f"{each[0]}: {each[1]}" for each in SHOWN])
def test_what_is_shown_is_true(
    page: str, command: str, output: str, files: list[tuple[str, str]], tmp_path: Path
) -> None:
    for name, text in files:
        (tmp_path / name).write_text(text + "\n")
    (tmp_path / "images").symlink_to(ROOT / "images")
    done = subprocess.run(
        [sys.executable, "-m", "sandbox", *shlex.split(command)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "NO_COLOR": "1", "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    if "no C library for i386 is there" in done.stdout:
        pytest.skip("neither gcc-multilib nor the fetched musl is there")
    assert bool(done.returncode) == any(line.startswith("sandbox: ") for line in output.splitlines())
    assert done.stdout.strip("\n") == output


@pytest.mark.parametrize("page", PAGES)
def test_there_is_something_to_see(page: str) -> None:
    assert len(shown(page)) >= 2


@pytest.mark.parametrize("page", PAGES_WITH_ONE)
def test_there_is_one_thing_to_see(page: str) -> None:
    assert shown(page)


def test_the_module_of_a_page_is_the_image() -> None:
    (text,) = re.findall(r"```c\n(.*?)```", (ROOT / "docs/kmap.md").read_text(), re.S)
    assert text in (ROOT / "asm/images/modules/kmap-laps.c").read_text()


@pytest.mark.skipif(not shutil.which("nasm"), reason="nasm is not installed")
@pytest.mark.parametrize("page", ["docs/machine.md", "docs/roms.md", "docs/answers.md"])
def test_the_rom_of_a_page_runs(tmp_path: Path, page: str) -> None:
    """The whole block, by a shell, in a folder with the repository's own."""
    (tmp_path / "asm").symlink_to(ROOT / "asm")
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / page).read_text(), re.S)
    block = next(each for each in blocks if "manifest.toml" in each)
    lines = block.replace("\n$ ", "\n").removeprefix("$ ").rstrip("\n").split("\n")
    last = next(at for at, line in enumerate(lines) if line.startswith("sandbox run"))
    script = "\n".join(lines[: last + 1]).replace("sandbox run", f"'{sys.executable}' -m sandbox run")
    done = subprocess.run(
        ["sh", "-ec", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "\n".join(lines[last + 1 :]) + "\n"), done.stderr


IMAGES = {path.parent.name for path in (ROOT / "images").glob("*/manifest.toml")}


@pytest.mark.parametrize("page", ["docs/posts.md", "docs/lessons.md"])
def test_tables_name_what_is_there(page: str) -> None:
    """Images, and files of the kernel, in the rows that link lessons and posts to them."""
    text = (ROOT / page).read_text()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    named = {word for row in rows for word in re.findall(r"`([a-z0-9]+(?:-[a-z0-9]+)*)`", row)}
    assert named - IMAGES <= {"memexclude", "struct"}, "no such image"
    for path in re.findall(r"`([a-z]+/[a-z_0-9/]+\.py)`", text):
        assert (ROOT / "sandbox" / path).exists() or (ROOT / "sandbox/kernel" / path).exists(), path
