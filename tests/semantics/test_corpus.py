"""Recorded results: kept whole, and the sandbox agrees with the committed ones on any host."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from sandbox.cli import main
from sandbox.engine import stubs
from sandbox.image.manifest import IMAGES
from sandbox.semantics import campaign, corpus, generate
from sandbox.semantics.corpus import BadCorpus, Corpus
from sandbox.semantics.processor import Processor
from sandbox.semantics.vector import Fault, Result

RECORDED = sorted((IMAGES / "semantics").glob("*.vectors"))


def made() -> Corpus:
    """Vectors of each family with results that nobody had."""
    vectors = [each for family in generate.FAMILIES for each in generate.vectors(family, 4, 0, 40)]
    results = [
        Result(
            each.registers,
            each.eip,
            each.eflags,
            (0x23, 0x2B, 0x2B, 0, 3, 0),
            ((at, at + 1),) * (at % 3),
            (None, Fault(14, 7, at), Fault(13, 8))[at % 3],
            each.fpu,
        )
        for at, each in enumerate(vectors)
    ]
    return Corpus(Processor("GenuineIntel", "a name", "0x2f"), 4, vectors, results)


def test_what_is_packed_comes_out() -> None:
    assert corpus.unpack(corpus.pack(made())) == made()


def test_a_damaged_file_is_refused() -> None:
    """Bytes changed, cut, or none of it: a line, never a traceback."""
    data, rng = corpus.pack(made()), random.Random(1)
    for _ in range(60):
        spoilt = bytearray(data[: rng.randrange(len(data))] if rng.getrandbits(1) else data)
        for _ in range(3):
            if spoilt:
                spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
        with pytest.raises(BadCorpus, match="not a file of recorded vectors"):
            corpus.unpack(bytes(spoilt))


@pytest.mark.skipif(not stubs.native_host(), reason="the mends are x86-64 Linux code")
@pytest.mark.parametrize("path", RECORDED, ids=[path.stem for path in RECORDED])
def test_the_sandbox_against_what_was_recorded(path: Path) -> None:
    recorded = corpus.read(path)
    assert recorded.processor.name and recorded.processor.microcode
    tally = campaign.replay(recorded)
    assert tally.vectors.total() == len(recorded.vectors) >= 2000
    assert [(form, parts) for form, parts, cause in tally.ways if not cause] == []


def test_by_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "few.vectors"
    corpus.write(path, made())
    assert main(["semantics", "--corpus", str(path)]) == 1
    assert "against a name" in capsys.readouterr().out
    assert main(["semantics", "--corpus", str(tmp_path / "none")]) == 2
    assert "No such file" in capsys.readouterr().err
    assert main(["semantics", "fpu"]) == 2
    assert "no family 'fpu'" in capsys.readouterr().err
