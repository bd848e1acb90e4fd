"""Building images again: the same bytes, or it is said that they differ."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from sandbox.image import build as building
from sandbox.image.build import Built, build, manifests
from sandbox.image.manifest import ManifestError, load

pytestmark = pytest.mark.skipif(not shutil.which("as") or not shutil.which("ld"), reason="binutils are not installed")
SOURCE = ".intel_syntax noprefix\n.globl _start\n_start: mov eax, 1\nint 0x80\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of its own: two images, and a kernel that nobody builds."""
    monkeypatch.setattr(building, "ROOT", tmp_path)
    monkeypatch.setattr(building, "_kernel", lambda write: [])
    (tmp_path / "asm").mkdir()
    (tmp_path / "asm" / "x.S").write_text(SOURCE)
    images = tmp_path / "images"
    for name, source in (("made", "asm/x.S"), ("kept", "")):
        (images / name).mkdir(parents=True)
        (images / name / "manifest.toml").write_text(f'[image]\nfile = "{name}.elf"\nsource = "{source}"\n')
    return images


def by_name(done: list[Built]) -> dict[str, bool]:
    return {each.name: each.same for each in done}


def test_a_build_records_hash_and_tool_and_a_check_then_agrees(folder):
    assert by_name(build(write=False, folder=folder)) == {"kept": False, "made": False}
    assert not (folder / "made" / "made.elf").exists()
    build(write=True, folder=folder)
    made = load(folder / "made" / "manifest.toml")
    assert made.sha256 == hashlib.sha256(made.image.read_bytes()).hexdigest()
    assert made.tool.startswith("GNU as")
    assert made.image.stat().st_mode & 0o777 == 0o755
    (folder / "kept" / "kept.elf").write_bytes(b"x")
    assert by_name(build(write=False, folder=folder)) == {"kept": True, "made": True}


def test_a_changed_image_source_or_hash_is_seen(folder):
    build(write=True, folder=folder)
    image, source, manifest = (
        folder / "made" / "made.elf",
        folder.parent / "asm" / "x.S",
        folder / "made" / "manifest.toml",
    )
    for path in (image, source, manifest):
        before = path.read_bytes()
        if path is manifest:
            path.write_text(path.read_text().replace('sha256 = "', 'sha256 = "0'))
        else:
            path.write_bytes(before.replace(b"eax, 1", b"eax, 2") if path is source else before + b"\0")
        assert by_name(build(write=False, folder=folder))["made"] is False
        path.write_bytes(before)
        assert by_name(build(write=False, folder=folder))["made"] is True


def test_a_check_writes_nothing(folder):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    build(write=False, folder=folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_manifests_are_sorted_and_errors_are_not_hidden(folder):
    assert [each.name for each in manifests(folder)] == ["kept", "made"]
    (folder / "kept" / "manifest.toml").write_text("[image]\n")
    with pytest.raises(ManifestError, match="kept"):
        manifests(folder)
