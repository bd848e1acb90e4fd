"""--highmem and --direct-map on the command line and in manifests.  Texts of the kernel's are those of 2.6.37."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sandbox.cli import main
from sandbox.image.manifest import ManifestError, load
from sandbox.runner.target import Target


def zones(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[dict[str, int], str]:
    assert main(["frames", "--json", *words]) == 0
    out, err = capsys.readouterr()
    return {each["name"]: each["frames"] for each in json.loads(out)["zones"]}, err


def test_ram_that_is_ignored_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    found, told = zones(capsys, "--ram", "1G", "--highmem", "off")
    assert "HIGHMEM" not in found
    assert told == "sandbox: Warning only 800MB will be used.\nsandbox: Use a HIGHMEM enabled kernel.\n"


def test_the_direct_map_by_size(capsys: pytest.CaptureFixture[str]) -> None:
    """1 GB: 128 MB are left beside 896, 224 beside 800; 64 MB scaled: 16 beside 48."""
    assert zones(capsys, "--ram", "1G", "--direct-map", "896M")[0]["HIGHMEM"] == 128 * 256
    assert zones(capsys, "--ram", "1G")[0]["HIGHMEM"] == 224 * 256
    assert zones(capsys, "--direct-map", "scaled")[0]["HIGHMEM"] == 16 * 256


@pytest.mark.parametrize("words", [["--highmem", "64G", "--paging", "legacy"], ["--direct-map", "x"]])
def test_what_cannot_be(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["frames", *words]) == 2
    assert "Traceback" not in capsys.readouterr().err


def manifest(folder: Path, machine: str) -> Path:
    path = folder / "manifest.toml"
    path.write_text(f'[image]\nfile = "x.elf"\n[machine]\n{machine}\n')
    return path


def test_both_in_a_manifest(tmp_path: Path) -> None:
    made = load(manifest(tmp_path, 'ram = "64M"\nhighmem = "4G"\ndirect_map = "scaled"'))
    config = Target("x", "program", b"", [], made).config()
    assert (config.highmem, config.direct_map) == ("4G", 48 << 20)
    made = load(manifest(tmp_path, 'ram = "1G"\ndirect_map = "896M"'))
    assert Target("x", "program", b"", [], made).config().direct_map == 896 << 20
    with pytest.raises(ManifestError, match="direct_map"):
        load(manifest(tmp_path, 'direct_map = "big"'))
