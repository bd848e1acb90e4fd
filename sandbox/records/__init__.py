"""Data classes at the price of plain ones: ``dataclass`` of the standard library, methods written at first use.

``dataclasses`` compiles four to eight methods for every class: 260 to 500 us each, a quarter of a short run, most of
it for classes that the run makes no object of.  Here a class with slots costs 22 us where a plain one costs 11; its
``__init__``, ``__eq__`` and ``__hash__`` are compiled when they are first called, and are then the same code.
For whoever checks types these are the standard library's own.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import asdict, dataclass, field, fields, replace
else:
    from sandbox.records.lazy import asdict, dataclass, field, fields, replace

__all__ = ["asdict", "dataclass", "field", "fields", "replace"]
