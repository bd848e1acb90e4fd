"""``python -m sandbox``."""

import gc
import sys

try:
    from sandbox.cli import main

    status = main()
except KeyboardInterrupt:  # before there is somebody who tells of it, or behind him
    print("sandbox: interrupted", file=sys.stderr)
    status = 130
gc.freeze()  # the interpreter looks through all that is left several times as it ends, to no purpose: a tenth of a run
sys.exit(status)
