"""The process that does items: ``python -m sandbox.campaign.child``, pickled on standard input, one after the other.

It says each outcome as a line of JSON as soon as it is there; what guests or functions print goes to standard error.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
import time

from sandbox.campaign.items import do

_PR_SET_PDEATHSIG = 1


def main() -> None:
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _end_with_parent()
    while True:
        try:
            item = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        began = time.monotonic()
        told = {"outcome": do(item), "seconds": time.monotonic() - began}
        out.write(json.dumps(told, sort_keys=True).encode() + b"\n")
        out.flush()


def _end_with_parent() -> None:
    """A child does not outlive the worker that waits for it; Ctrl-C is for whoever runs the campaign."""
    import ctypes

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


if __name__ == "__main__":
    main()
