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


# -- counters --------------------------------------------------------------------------------------------------------


def counted(capfd: pytest.CaptureFixture[str], *words: str) -> dict[str, dict[str, int]]:
    """``summary`` of a run."""
    assert main(["run", "--json", *words]) == 0
    summary: dict[str, dict[str, int]] = json.loads(capfd.readouterr().out)["summary"]
    return summary


def test_the_pools_counts_of_a_known_history(capfd: pytest.CaptureFixture[str]) -> None:
    """kva-recycle with two slots, counted by hand in its source, by the post's rule (longest without users first).

    Page 0 is mapped, and found twice; pages 1 to 7 come one after the other, six of them by a recycle, and page 0 is
    found.  At the end 0 and 7 are found, 1 to 6 come into the empty slot of the page that was freed before.
    """
    kva = counted(capfd, "images/kva-recycle")["kva"]
    assert (kva["hits"], kva["misses"], kva["hit_rate"]) == (5, 14, round(100 * 5 / 19))
    assert (kva["recycles"], kva["given_back"], kva["capacity"], kva["tables"]) == (6, 8, 2, 1)
    assert kva["pte_stores"] == 14 + 6 + 8, "one for each miss, recycle and page freed"
    assert kva["ipis"] == kva["global_flushes"] == kva["sleeps"] == 0


@pytest.mark.parametrize(("policy", "pool"), [("kva", "kva"), ("kmap", "kmap")])
def test_the_pools_counts_of_system_calls(capfd: pytest.CaptureFixture[str], policy: str, pool: str) -> None:
    """read(2) and write(2) of files in highmem by two processes on two CPUs."""
    line = ["images/kmap-work/kmap-work.elf", "--ram", "128M", "--cpus", "2", "--boot", "highmem=64m kva=16k pkmap=4"]
    policies = ["--policy", f"high_pages={policy}", "--policy", "kva_flush=everywhere"]
    summary = counted(capfd, *line, *policies, "--", "read", "16", "2")
    assert summary[pool]["misses"] > summary[pool]["recycles"] > 0
    assert summary[pool]["ipis"] == summary[pool]["global_flushes"] > 0, "one other CPU"
    assert not summary["kmap" if pool == "kva" else "kva"]["misses"]


def test_text_is_told_of_pools_that_were_used(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "images/kva-recycle", "--stats"]) == 0
    told = capfd.readouterr().err
    assert "kva pool       5 of 19 hit (26 %), 6 recycles, 2 slots, 28 entries stored" in told
    assert "kmap" not in told and "high pages" not in told
    assert main(["run", "images/hello", "--stats"]) == 0
    assert "kva pool" not in capfd.readouterr().err
