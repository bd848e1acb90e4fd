"""A divergence as an image: it passes on this host, fails in the sandbox, and the vector in it is small."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sandbox.cli import main
from sandbox.semantics import campaign, image, processor
from sandbox.semantics.compare import compare
from sandbox.semantics.host import NoHost
from sandbox.semantics.shrink import shrink
from sandbox.semantics.vector import DATA, EAX, ESP, STACK, Fpu, Vector, slot_address

REGISTERS = (DATA, 2, 3, 4, STACK + 0x1000, 6, 7, 8)


def test_what_is_not_needed_goes() -> None:
    """A model in which EAX's lowest bit and the first piece of memory make the difference."""
    vector = Vector("x", b"\x90", slot_address(0), (3, *REGISTERS[1:]), 0x2D7, ((DATA, b"a"), (DATA + 8, b"b")), Fpu(0))

    def differs(one: Vector) -> tuple[str, ...]:
        return ("memory",) if one.registers[EAX] & 1 and (DATA, b"a") in one.memory else ()

    small = shrink(vector, differs)
    assert small.registers == tuple(3 if at == EAX else STACK + 0x1000 if at == ESP else 0 for at in range(8))
    assert (small.eflags, small.memory, small.fpu) == (0x202, ((DATA, b"a"),), Fpu())


@pytest.mark.parametrize(
    ("form", "code"),
    [("mov Ev,Gv", "2e8908")],
    ids=["store-through-cs"],
)
def test_passes_natively_and_fails_here(form: str, code: str, tmp_path: Path) -> None:
    """Listed in docs/fidelity.md: no segment's type is checked."""
    try:
        host, ours = campaign.oracles()
    except NoHost as error:
        pytest.skip(error.summary)
    vector = Vector(form, bytes.fromhex(code), slot_address(5), REGISTERS, 0x2D7, ((DATA, b"abcd"),), None, DATA)
    vendor = processor.this_host().vendor
    found = compare(vector, host.run([vector])[0], ours.run([vector])[0], vendor)
    if found is None:
        pytest.skip("mended since")
    assert found.parts == ("fault #GP not none",)
    home = image.write(tmp_path, campaign.smallest(found), "this host", vendor)
    program = home / f"{home.name}.elf"
    assert subprocess.run([program], timeout=20).returncode == 0
    assert main(["test", str(home)]) == 1


@pytest.mark.parametrize("family", ["integer-restarts", "integer-pages", "integer-code16", "self-modifying"])
def test_there_are_no_images_of_what_the_program_cannot_do(family: str) -> None:
    """Pages that come back, forks, segments of 16 bits, code that is written; of single-stepped ones there are."""
    assert not any(map(image.can_show, campaign.drawn(family, 1, 0, 20)))
    assert all(map(image.can_show, campaign.drawn("integer-step", 1, 0, 20)))
