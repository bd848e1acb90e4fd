"""Many pieces of work over processes or hosts: each done once, whatever dies on the way, with one result in any order.

An ``Item`` names a function and its arguments; ``run`` has all of them done and keeps each result in a ``Ledger``.
"""

from __future__ import annotations

from sandbox.campaign.items import Item
from sandbox.campaign.ledger import Ledger
from sandbox.campaign.run import Progress, run

__all__ = ["Item", "Ledger", "Progress", "run"]
