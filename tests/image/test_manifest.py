"""Manifests: every key, and every way to get one wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.image.build import IMAGES
from sandbox.image.manifest import ManifestError, load, parse_size, set_values

FULL = """
[image]
kind = "program"
title = "a title"
source = "asm/images/x/x.S"
file = "x.elf"
arguments = ["a", "b"]
native = false
load = 0x200000
entry = 0x200010

[machine]
ram = "128M"
cpus = 2
paging = "pae"
boot = "quiet"
seed = 7
quantum = 500
time_limit = 2.5

[expect]
status = 3
stdout = "hello\\n"
counters = { faults = 3 }

[[expect.faults]]
address = "page+0x10"
error = "user write protection"
resolution = "cow-copy"
paging = "pae"

[[expect.faults]]

[broken]
switch = "no-cow"
"""


@pytest.fixture
def written(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "thing" / "manifest.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return write


def test_every_key(written):
    made = load(written(FULL))
    assert (made.name, made.kind, made.title, made.source) == ("thing", "program", "a title", "asm/images/x/x.S")
    assert made.image == made.path.parent / "x.elf"
    assert (made.arguments, made.native, made.load, made.entry) == (["a", "b"], False, 0x200000, 0x200010)
    assert (made.ram, made.cpus, made.paging, made.boot, made.seed) == (128 << 20, 2, ["pae"], "quiet", 7)
    assert (made.quantum, made.time_limit, made.status, made.stdout) == (500, 2.5, 3, "hello\n")
    assert made.counters == {"faults": 3}
    first, second = made.faults
    assert (first.address, first.error, first.resolution) == ("page+0x10", "user write protection", "cow-copy")
    assert (second.address, second.error, second.resolution, second.paging) == ("", "", "", "")
    assert made.switch == "no-cow"


def test_defaults(written):
    made = load(written('[image]\nfile = "x"\n'))
    assert (made.kind, made.ram, made.cpus, made.paging, made.native) == (
        "program",
        64 << 20,
        1,
        ["pae", "legacy"],
        True,
    )
    assert (made.status, made.stdout, made.faults, made.switch) == (0, None, [], "")


@pytest.mark.parametrize(
    "text, size",
    [
        ("4096", 4096),
        ("64M", 64 << 20),
        ("4g", 4 << 30),
        ("2G", 2 << 30),
        ("16k", 16384),
        ("1.5M", 3 << 19),
        (512, 512),
    ],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "M", "64T", "-4M", "infM", "nanG", "1e3", "0x1000", "6 4M", "\u0664M", "1.M", "64MB"]
)
def test_sizes_that_are_none(text):
    with pytest.raises(ValueError, match="not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    "text, key",
    [
        ("[image", "not TOML"),
        ("[machine]\ncpus = " + "9" * 5000, "not TOML"),
        ("[machine]\ndevices = " + "[" * 5000, "not TOML"),
        ("[picture]\nx = 1", "picture"),
        ("image = 3", "image"),
        ('[image]\nfiel = "x"', "image.fiel"),
        ("[image]\nfile = 3", "image.file"),
        ('[image]\nkind = "program"', "image.file"),
        ('[image]\nfile = "x"\nkind = "disk"', "image.kind"),
        ('[image]\nfile = "x"\nnative = 1', "image.native"),
        ('[image]\nfile = "x"\narguments = "a"', "image.arguments"),
        ('[image]\nfile = "x"\nload = -1', "image.load"),
        ('[image]\nfile = "x"\nentry = 0x100000000', "image.entry"),
        ('[machine]\nram = "lots"', "machine.ram"),
        ('[machine]\nram = "infM"', "machine.ram"),
        ("[machine]\nram = 0", "machine.ram"),
        ("[machine]\nram = true", "machine.ram"),
        ("[machine]\ncpus = 0", "machine.cpus"),
        ("[machine]\ncpus = true", "machine.cpus"),
        ("[machine]\nquantum = 0", "machine.quantum"),
        ("[machine]\ntime_limit = -1", "machine.time_limit"),
        ("[machine]\ntime_limit = true", "machine.time_limit"),
        ("[machine]\ntime_limit = nan", "machine.time_limit"),
        ("[machine]\npaging = []", "machine.paging"),
        ('[machine]\npaging = ["pae", "la57"]', "machine.paging"),
        ('[expect]\nstatus = "0"', "expect.status"),
        ("[expect]\nfaults = [3]", r"expect.faults\[1\]"),
        ("[[expect.faults]]\n[[expect.faults]]\nadress = 1", r"expect.faults\[2\].adress"),
        ('[[expect.faults]]\nresolution = "luck"', r"expect.faults\[1\].resolution"),
        ('[expect]\ncounters = { faults = "3" }', "expect.counters"),
        ("[broken]\nswitch = 1", "broken.switch"),
    ],
)
def test_an_error_names_file_and_key(written, text, key):
    path = written(text)
    with pytest.raises(ManifestError, match=f"manifest.toml: {key}") as caught:
        load(path)
    assert caught.value.exit_status == 2


def test_a_missing_file_and_one_that_is_no_text(tmp_path):
    with pytest.raises(ManifestError, match="No such file"):
        load(tmp_path / "manifest.toml")
    (tmp_path / "manifest.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ManifestError, match="not a text"):
        load(tmp_path / "manifest.toml")


def test_set_values_changes_and_adds_and_leaves_the_rest(written):
    path = written('# above\n[image]\nfile = "x"  # which\nsha256 = "old"\n\n[machine]\ncpus = 1\n')
    set_values(path, "image", {"sha256": '"new"', "tool": '"GNU as"'})
    assert path.read_text() == (
        '# above\n[image]\nfile = "x"  # which\nsha256 = "new"\ntool = "GNU as"\n\n[machine]\ncpus = 1\n'
    )
    set_values(path, "broken", {"switch": '"no-cow"'})
    made = load(path)
    assert (made.sha256, made.tool, made.cpus, made.switch) == ("new", "GNU as", 1, "no-cow")


@pytest.mark.parametrize("path", sorted(IMAGES.glob("*/manifest.toml")), ids=lambda path: path.parent.name)
def test_committed_manifests_are_valid(path):
    made = load(path)
    assert made.title
    assert made.image.is_file()


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ("machine", f"ram = {1 << 63}"), ("machine", f"seed = {'9' * 400}"), ("image", f"load = -{(1 << 63) + 1}"),
        ("expect", f"counters = {{ faults = {1 << 64} }}"), ("machine", f"paging = [{1 << 63}]"),
    ],
)  # fmt: skip
def test_an_integer_has_64_bits(tmp_path: Path, section: str, line: str) -> None:
    """TOML 1.0, "Integer": what does not fit is an error."""
    path = tmp_path / "manifest.toml"
    path.write_text(f"[{section}]\n{line}\n")
    with pytest.raises(ManifestError, match=r"an integer of more than 64 bits$"):
        load(path)
