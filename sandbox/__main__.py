"""``python -m sandbox``."""

import gc
import sys

from sandbox.cli import main

status = main()
gc.freeze()  # the interpreter looks through all that is left several times as it ends, to no purpose: a tenth of a run
sys.exit(status)
