"""The file of a campaign: a line a result, kept as soon as it is there, so that whoever comes back goes on."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from sandbox.campaign.items import Item, Outcome, digest
from sandbox.x86.errors import SandboxError


class UnusableLedger(SandboxError):
    """A file that is no ledger, is another campaign's, or cannot be written."""

    exit_status = 2


class NotTheSame(SandboxError):
    """One item was done twice, and came to two things: it does not depend on its arguments alone."""


class Ledger:
    """Results by key.  The first line names the campaign; a line that a killed process left half-written is dropped.

    Raises UnusableLedger.
    """

    def __init__(self, path: Path, items: Sequence[Item]) -> None:
        self.path, self._order = path, [each.key for each in items]
        self._done: dict[str, Outcome] = {}
        self._head = {"campaign": digest(items), "items": len(items)}
        if path.exists() and not path.is_file():
            raise UnusableLedger(f"{path}: not a regular file")
        try:
            self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), "r+b")
        except OSError as error:
            raise UnusableLedger(f"{path}: {error.strerror}") from error
        try:
            self._lock()
            self._read()
        except BaseException:
            self._file.close()
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UnusableLedger(f"{self.path}: another campaign writes to it now") from None

    def _read(self) -> None:
        good = 0
        for number, line in enumerate(self._file):
            told = _parsed(line)
            if number == 0 and told != self._head:
                raise UnusableLedger(
                    f"{self.path}: not the file of this campaign", "other items, or other options: take another file"
                )
            if told is None:
                break
            if number:
                self._done[told["key"]] = told
            good += len(line)
        self._file.seek(good)
        self._file.truncate()
        if not good:
            self._write(self._head)

    def _write(self, told: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(told, sort_keys=True).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise UnusableLedger(f"{self.path}: {error.strerror}") from error

    def add(self, outcome: Outcome) -> bool:
        """Keep a result; False for one that is there.  Raises NotTheSame where that was another one."""
        plain = json.loads(json.dumps(outcome))
        known = self._done.get(plain["key"])
        if known is not None:
            if known != plain:
                raise NotTheSame(f"{plain['key']}: done twice, with two results", f"{known}\n{plain}")
            return False
        self._write(plain)
        self._done[plain["key"]] = plain
        return True

    def left(self, items: Sequence[Item]) -> list[Item]:
        """Those that have no result yet."""
        return [each for each in items if each.key not in self._done]

    def outcomes(self) -> list[Outcome]:
        """All results so far, in the order of the items, whenever they came."""
        return [self._done[key] for key in self._order if key in self._done]

    def close(self) -> None:
        """Nothing is lost: every line was written when it came."""
        with contextlib.suppress(OSError):
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A whole line's table, None for a piece of one."""
    if not line.endswith(b"\n"):
        return None
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
