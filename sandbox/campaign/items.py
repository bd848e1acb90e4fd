"""A piece of work: a function by its name, and plain arguments, so that any process on any host can do it."""

from __future__ import annotations

import hashlib
import importlib
import pickle
from collections.abc import Sequence
from typing import Any

from sandbox.records import dataclass
from sandbox.x86.errors import ConfigurationError, SandboxError

Outcome = dict[str, Any]
"""``key``, and ``value`` (what the function returned) or ``error``; no times, no places: the same wherever it runs."""


@dataclass(frozen=True, slots=True)
class Item:
    """``work`` is ``module:function``; called with ``arguments``, it returns what JSON can hold.

    ``key`` names it in the campaign; the same item gives the same value whenever it is done.
    """

    key: str
    work: str
    arguments: tuple[Any, ...] = ()


def do(item: Item) -> Outcome:
    """Call the item's function.  What it raises is its outcome."""
    try:
        return {"key": item.key, "value": _function(item.work)(*item.arguments)}
    except SandboxError as error:
        return {"key": item.key, "error": error.summary, "detail": error.detail, "status": error.exit_status}
    except Exception as error:
        return {"key": item.key, "error": f"{type(error).__name__}: {error}", "detail": "", "status": 3}


def died(item: Item, why: str) -> Outcome:
    """The outcome of an item that takes its process with it, again and again."""
    return {"key": item.key, "error": f"its process died: {why}", "detail": "", "status": 3}


def _function(name: str) -> Any:
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ConfigurationError(f"{name!r}: work is named module:function")
    return getattr(importlib.import_module(module), attribute)


def digest(items: Sequence[Item]) -> str:
    """Tells one campaign from another: of keys, functions and arguments.  Raises ConfigurationError for equal keys."""
    keys = {each.key for each in items}
    if len(keys) != len(items):
        raise ConfigurationError(f"{len(items)} items have {len(keys)} different keys")
    whole = hashlib.sha256()
    for each in items:
        whole.update(pickle.dumps((each.key, each.work, each.arguments), protocol=4))
    return whole.hexdigest()[:16]
