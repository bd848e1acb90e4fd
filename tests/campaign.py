"""How long the campaigns are: ``make test-slow`` runs a part of each, ``make campaign`` all of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine

WHOLE = os.environ.get("CAMPAIGN") == "whole"


def seeds(whole: range, few: int) -> range:
    """The seeds of a campaign, or the first few of them."""
    return whole if WHOLE else whole[:few]


def part(values: Sequence[Any], few: int) -> list[Any]:
    """Parameters of a test of random examples: the first few run in ``make test``, the others with the campaigns."""
    return [*values[:few], *(pytest.param(value, marks=pytest.mark.campaign) for value in values[few:])]


def histories(machine: type[RuleBasedStateMachine], few: int, many: int, steps: int) -> tuple[type, type]:
    """Two test cases of a state machine: a few histories for ``make test``, and many with the campaigns."""
    campaign: type[RuleBasedStateMachine] = type(f"{machine.__name__}Campaign", (machine,), {})
    for each, count in ((machine, few), (campaign, many)):
        each.TestCase.settings = settings(max_examples=count, stateful_step_count=steps, deadline=None)
    return machine.TestCase, pytest.mark.slow(pytest.mark.campaign(campaign.TestCase))
