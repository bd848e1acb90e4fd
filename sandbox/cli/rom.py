"""ROM images own the whole machine; there is no kernel under them."""

from __future__ import annotations

import argparse

from sandbox.runner.target import NoSuchImage, Target


def run_rom(target: Target, options: argparse.Namespace) -> int:
    """Run a flat image on the bare machine."""
    raise NoSuchImage(f"{target.name}: ROM images cannot be run yet")
