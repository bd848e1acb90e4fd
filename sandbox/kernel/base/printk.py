"""The log that keeps what the kernel said."""

from __future__ import annotations

import re
from collections.abc import Callable

_LEVEL = re.compile(rb"^<[0-7]>")
LOG_BYTES = 1 << 16
"""What the log keeps, as 2.0's ring of 8 KB does on a smaller scale; older text goes first."""


class Log:
    """What the kernel said.  ``console`` gets every text; levels (``<3>``) are taken off."""

    def __init__(self) -> None:
        self.text = bytearray()
        self.console: Callable[[bytes], object] | None = None
        self.refused = ""
        """Why the console takes no more."""

    def add(self, text: bytes) -> int:
        """Take a text; its length in bytes without the level."""
        text = _LEVEL.sub(b"", text)
        self.text += text
        if len(self.text) > LOG_BYTES:
            del self.text[: len(self.text) - LOG_BYTES]
        if self.console is not None:
            try:
                self.console(text)
            except BrokenPipeError:
                raise
            except OSError as error:
                self.console, self.refused = None, str(error)
        return len(text)

    def printk(self, text: str) -> None:
        """The kernel says something of its own."""
        self.add(text.encode())
