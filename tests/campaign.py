"""How long the campaigns are: ``make test-slow`` runs a part of each, ``make campaign`` all of it."""

from __future__ import annotations

import os

WHOLE = os.environ.get("CAMPAIGN") == "whole"


def seeds(whole: range, few: int) -> range:
    """The seeds of a campaign, or the first few of them."""
    return whole if WHOLE else whole[:few]
