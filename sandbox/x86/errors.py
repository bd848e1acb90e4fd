"""The base of every error that a user can meet."""

from __future__ import annotations


class SandboxError(Exception):
    """One line that says what and where, then the explanation.

    ``exit_status`` is what a command ends with: 1 the guest failed, 2 usage or bad input, 3 our own fault.
    """

    exit_status = 3

    def __init__(self, summary: str, detail: str = "") -> None:
        super().__init__(summary)
        self.summary = summary
        self.detail = detail


class ConfigurationError(SandboxError):
    """A machine or kernel that cannot be built as asked."""

    exit_status = 2
