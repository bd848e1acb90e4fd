"""The limits of a run, and the host's wish that it end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.base.time import Clock
from sandbox.x86.errors import SandboxError

ENGINE_RUN_SECONDS = 0.02
FIRST_ENGINE_RUN, LONGEST_ENGINE_RUN = 100_000, 8_000_000


class LimitReached(SandboxError):
    """The run's limit of blocks or seconds: a guest gone wild, or one that needs more."""

    exit_status = 1


class Interrupted(SandboxError):
    """Ctrl-C, or whoever runs the machine, asked for an end."""

    exit_status = 1


class Deadlock(SandboxError):
    """Every task sleeps and nothing will wake one."""

    exit_status = 1


class HostEvents(Protocol):
    """The scheduler's view of the host's side of standard input."""

    polls: bool
    """Whether ``poll`` wants to be called while tasks run."""

    def poll(self) -> None:
        """Tasks run: look whether something came, at most every few milliseconds."""
        ...

    def again(self) -> None:
        """This process goes on from an earlier place of the run than another one has come to."""
        ...

    def idle(self) -> bool:
        """No task can run: wait for the host, or return False at once if nobody waits for it."""
        ...


class RunLimits:
    """Blocks and seconds that a run may take.  ``where`` reports for them; it is handed in, and so is ``host``."""

    where: Callable[[], str]

    def __init__(self, config: KernelConfig, clock: Clock) -> None:
        self._config, self._clock = config, clock
        self._block_limit, self._time_limit = config.block_limit, config.time_limit
        self._started = 0.0
        self._over = False
        """The time limit has been reported."""
        self._engine_run = FIRST_ENGINE_RUN
        self.interrupted = False
        self.steady = False
        """Runs of the engine have one length and no ticks: a clock of the host's is looked at at the same places."""
        self.on_wait: Callable[[], None] = lambda: None
        """Called while the host is waited for."""
        self.host: HostEvents | None = None
        """What of the host the machine may have to wait for, None when nothing."""

    def start_clock(self) -> None:
        """Host time counts from here."""
        if not self._started:
            self._started = time.monotonic()

    def excuse(self, seconds: float) -> None:
        """So much host time was a person's, and does not count for the time limit."""
        self._started += seconds if self._started else 0

    def check_limits(self) -> None:
        """For who is at it for long.  Raises Interrupted and LimitReached."""
        self._check_limits()

    def wait_on(self) -> None:
        """For who waits for the host to give input.  Raises Interrupted and LimitReached."""
        self.on_wait()
        self._check_limits()

    def wait_for_reader(self) -> None:
        """For who waits for the host to take output, in whatever call.  Raises Interrupted and LimitReached."""
        self.on_wait()
        self.check_host()

    def check_host(self) -> None:
        """At every turn of the scheduler.  Raises Interrupted and LimitReached."""
        if self.interrupted:
            raise Interrupted("interrupted")
        self.check_time()

    def _check_limits(self) -> None:
        host = self.host
        if not self._started:
            self.start_clock()
        if host is not None and host.polls:
            host.poll()
        if self.interrupted:
            raise Interrupted("interrupted")
        if self._block_limit and self._clock.blocks >= self._block_limit:
            raise LimitReached(f"limit reached: {self._block_limit} blocks", self.where())
        if self._time_limit:
            self.check_time()

    def check_time(self) -> None:
        """Raises LimitReached when the time limit is over, but once only: what is left behind must be put in order."""
        limit = self._time_limit
        if limit and self._started and not self._over and time.monotonic() - self._started > limit:
            self._over = True
            raise LimitReached(f"limit reached: {limit:g} s of host time", self.where())

    def adapt(self, blocks: int, seconds: float) -> None:
        """A run used its whole budget or was paused: aim the next at 20 ms.  No guest can see an effect of this."""
        if not self.steady and seconds > 0 and (blocks >= 10_000 or seconds > ENGINE_RUN_SECONDS):
            aim = int(blocks * ENGINE_RUN_SECONDS / seconds)
            self._engine_run = max(10_000, min(LONGEST_ENGINE_RUN, aim, blocks * 4))
