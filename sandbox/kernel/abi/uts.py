"""What uname(2) tells."""

from __future__ import annotations

import re

OSTYPE, OSRELEASE, VERSION, MACHINE = "Linux", "6.1.0", "#1", "i686"
HOSTNAME = "sandbox"


def old_release(release: str) -> str:
    """What uname(2) says under UNAME26: 2.6.40 and up, for programs that take a 3 for no Linux (personality(2))."""
    numbers = re.match(r"[\d.]*", release)
    assert numbers is not None
    parts = numbers[0].split(".")
    return f"2.6.{int(parts[1]) + 60}{release[len('.'.join(parts[:3])) :]}"
