"""What a CPU gave, in a file: vectors and results, for machines that cannot ask it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sandbox.records import dataclass
from sandbox.semantics import wire
from sandbox.semantics.processor import Processor
from sandbox.semantics.vector import Result, Vector
from sandbox.x86.errors import SandboxError

MAGIC = b"SBXVECT1"


class BadCorpus(SandboxError):
    """A file that is no corpus, or that cannot be written."""

    exit_status = 2


@dataclass(frozen=True, slots=True)
class Corpus:
    """``vectors`` and what ``processor`` made of each."""

    processor: Processor
    seed: int
    vectors: list[Vector]
    results: list[Result]


@functools.cache
def _layout() -> Any:
    """MAGIC; the CPU's vendor, name and microcode; the seed; forms, each once; per vector its form and operand; the
    runner's records (``wire``), a vector's and its result's in turn.  All behind MAGIC is compressed by LZMA."""
    import construct as c

    text = c.PascalString(c.Int16ul, "utf8")
    body = c.Struct(
        "vendor" / text,
        "name" / text,
        "microcode" / text,
        "seed" / c.Int64ul,
        "forms" / c.PrefixedArray(c.Int16ul, text),
        "index" / c.PrefixedArray(c.Int32ul, c.Struct("form" / c.Int16ul, "operand" / c.Int32ul)),
        "records" / c.GreedyBytes,
    )
    return c.Struct("magic" / c.Const(MAGIC), "body" / c.Compressed(body, "lzma"))


def pack(corpus: Corpus) -> bytes:
    """The file's bytes."""
    forms = sorted({vector.form for vector in corpus.vectors})
    numbers = {form: at for at, form in enumerate(forms)}
    pairs = zip(corpus.vectors, corpus.results, strict=True)
    body = {
        "vendor": corpus.processor.vendor,
        "name": corpus.processor.name,
        "microcode": corpus.processor.microcode,
        "seed": corpus.seed,
        "forms": forms,
        "index": [{"form": numbers[each.form], "operand": each.operand} for each in corpus.vectors],
        "records": b"".join(
            wire.pack_vector(vector) + wire.pack_result(result, vector.fpu is not None) for vector, result in pairs
        ),
    }
    return bytes(_layout().build({"body": body}))


def unpack(data: bytes, name: str = "corpus") -> Corpus:
    """Raises BadCorpus."""
    import lzma
    import struct

    import construct as c

    try:
        body = _layout().parse(data).body
        forms = [body.forms[each.form] for each in body.index]
        pairs = list(_records(body.records, forms, [each.operand for each in body.index]))
    except (c.ConstructError, ValueError, IndexError, struct.error, lzma.LZMAError) as error:
        raise BadCorpus(f"{name}: not a file of recorded vectors", str(error).split("\n")[0]) from error
    return Corpus(
        Processor(body.vendor, body.name, body.microcode),
        body.seed,
        [each for each, _ in pairs],
        [each for _, each in pairs],
    )


def _records(data: bytes, forms: list[str], operands: list[int]) -> Iterator[tuple[Vector, Result]]:
    at = 0
    for form, operand in zip(forms, operands, strict=True):
        vector = wire.unpack_vector(data, at, form, operand)
        at += wire.record_size(data, at)
        result, at = wire.unpack_whole(data, at)
        yield vector, result


def read(path: Path) -> Corpus:
    """Raises BadCorpus."""
    if path.exists() and not path.is_file():  # a device has no end
        raise BadCorpus(f"{path}: not a regular file")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadCorpus(f"{path}: {error.strerror}") from error
    return unpack(data, str(path))


def write(path: Path, corpus: Corpus) -> None:
    """Raises BadCorpus."""
    try:
        path.write_bytes(pack(corpus))
    except OSError as error:
        raise BadCorpus(f"{path}: {error.strerror}") from error
