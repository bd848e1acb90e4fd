"""How long the campaigns are: ``make test-slow`` runs a part of each, ``make campaign`` all of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import pytest

WHOLE = os.environ.get("CAMPAIGN") == "whole"


def seeds(whole: range, few: int) -> range:
    """The seeds of a campaign, or the first few of them."""
    return whole if WHOLE else whole[:few]


def part(values: Sequence[Any], few: int) -> list[Any]:
    """Parameters of a test of random examples: the first few run in ``make test``, the others with the campaigns."""
    return [*values[:few], *(pytest.param(value, marks=pytest.mark.campaign) for value in values[few:])]
