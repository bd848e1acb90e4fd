"""The sandbox from Python: make a machine, load an image, run it, look at it.  ``docs/api.md`` is its page.

Names that are listed in ``__all__`` are kept by the rules of semantic versions; what lies below them may move.
"""

from __future__ import annotations

from sandbox.api.booted import Kernel
from sandbox.api.guest import Guest, start
from sandbox.api.images import assemble, image, rom, source
from sandbox.api.options import Options
from sandbox.api.runs import check, explain, run
from sandbox.api.story import story
from sandbox.api.vector import Executed, execute
from sandbox.debug.debugger import Answer
from sandbox.debug.explain import Explanation
from sandbox.debug.stops import Moment, Stop
from sandbox.debug.target import Refused
from sandbox.runner.result import Result, Summary
from sandbox.runner.target import Target as Image
from sandbox.suite.check import Verdict
from sandbox.x86.errors import ConfigurationError, SandboxError
from sandbox.x86.walk import Walk

__all__ = [
    "Answer",
    "ConfigurationError",
    "Executed",
    "Explanation",
    "Guest",
    "Image",
    "Kernel",
    "Moment",
    "Options",
    "Refused",
    "Result",
    "SandboxError",
    "Stop",
    "Summary",
    "Verdict",
    "Walk",
    "assemble",
    "check",
    "execute",
    "explain",
    "image",
    "rom",
    "run",
    "source",
    "start",
    "story",
]
