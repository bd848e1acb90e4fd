"""PROVISIONAL (lead): to be replaced by the machine helper's."""
from __future__ import annotations
from dataclasses import dataclass
@dataclass(slots=True)
class Event:
    time: int
    cpu: int
class EventBus:
    def __init__(self): self.active = False; self._r = []
    def subscribe(self, fn, *types): self._r.append((fn, types)); self.active = True
    def emit(self, e):
        for f, t in self._r:
            if not t or isinstance(e, t): f(e)
