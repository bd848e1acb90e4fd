"""The scheduler: CPUs take turns, tasks take slices, all of it counted in blocks and decided by one seed.

One greenlet, the hub, gives a CPU its turn by switching to that CPU's task; the task comes back here when it sleeps,
ends, is preempted or when the turn is over.  With the same seed a run is the same, event for event.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import cast

from greenlet import getcurrent, greenlet

from sandbox.engine.ticks import ticking
from sandbox.kernel.abi.errno import ERESTARTSYS, KernelError
from sandbox.kernel.arch.cpu import KernelCpu
from sandbox.kernel.arch.smp import Smp
from sandbox.kernel.base.config import KernelConfig
from sandbox.kernel.base.events import TaskSwitch
from sandbox.kernel.base.races import Races
from sandbox.kernel.base.time import Deadlines, Timer
from sandbox.kernel.base.trace import Trace
from sandbox.kernel.base.wait import Exclusive, Place, WaitQueue
from sandbox.kernel.task.limits import Deadlock, RunLimits
from sandbox.kernel.task.raceturns import RaceTurns
from sandbox.kernel.task.runqueue import RunQueues
from sandbox.kernel.task.task import State, Task, TaskTable
from sandbox.machine.board import Board


class Scheduler(RunLimits):
    """Run queues of all CPUs, the machine's time, and the limits of a run.

    Handed in when the machine is put together: ``switch_to`` loads a task on a CPU, ``tick`` tells of time in ring 3,
    ``where`` reports for limits, ``do_irq`` answers devices, ``turn_over`` is told that another CPU is about to run.
    """

    switch_to: Callable[[KernelCpu, Task], None]
    tick: Callable[[Task, int], None]
    do_irq: Callable[[], None]
    turn_over: Callable[[], None]

    def __init__(
        self, smp: Smp, board: Board, tasks: TaskTable, config: KernelConfig, trace: Trace, races: Races
    ) -> None:
        super().__init__(config, trace.clock)
        self._smp, self._board, self._tasks, self._bus = smp, board, tasks, trace.bus
        self._random = random.Random(config.seed)
        self.queues = RunQueues(smp.cpus)
        self._several = len(smp.cpus) > 1
        self._hub: greenlet | None = None
        self._turn_left = 0
        self.switches = 0
        self._sleepers: Deadlines[Task] = Deadlines()
        self._timers: Deadlines[Timer] = Deadlines()
        self._next_timer: int | None = None
        self._contended = False
        """Another task waited for the CPU when the present run began."""
        self._preempts, self._forgets = not config.broken("no-preempt"), config.broken("no-tlb")
        self.check_windows: Callable[[KernelCpu, str], None] = lambda cpu, what: None
        """Raises KmapError where a CPU has kmap_atomic windows open."""
        self.on_stuck: Callable[[], bool] = lambda: False
        """Every task sleeps: whether a debugger holds some back, and now lets them go."""
        self._races: RaceTurns | None = None
        if races.active and self._several:
            self._races = RaceTurns(smp, self.queues, races, trace, self._random, config.turn, self._to_hub)

    # -- the hub -------------------------------------------------------------------------------------------------

    def run(self, finished: Callable[[], bool]) -> None:
        """Give turns until ``finished``.

        Raises Deadlock, LimitReached, Interrupted, and whatever a task's greenlet raises.
        """
        self._hub = getcurrent()
        self.start_clock()
        with nullcontext() if self.steady else ticking():
            self._give_turns(finished)

    def _give_turns(self, finished: Callable[[], bool]) -> None:
        smp, board, queues = self._smp, self._board, self.queues
        while not finished():
            if board.asked:
                self.do_irq()
            self.check_host()
            if self._several:
                queues.balance()
            ready = [cpu for cpu in smp.cpus if cpu.current is not None or queues[cpu.index].tasks]
            if not ready:
                if self.host is None or not self.host.idle():
                    self._wait_for_timer()
                continue
            cpu = ready[0] if len(ready) == 1 else self._random.choice(ready)
            if self._several:
                self.turn_over()
                turn = self._config.turn
                self._turn_left = self._random.randrange(turn // 2, turn * 3 // 2)
                if self._races is not None:
                    cpu, self._turn_left = self._races.turn(ready, cpu, self._turn_left)
                if self._forgets:
                    cpu.vcpu.flush_tlb()
            if cpu.current is None:
                self._switch_to(cpu, queues[cpu.index].tasks.popleft())
            smp.this_cpu = cpu
            task = self.current
            assert task is not None and task.greenlet is not None
            task.greenlet.switch()
            self._wake_sleepers()

    def _switch_to(self, cpu: KernelCpu, task: Task) -> None:
        self.switches += 1
        assert task.greenlet is not None
        task.greenlet.parent = self._hub
        task.movable = False
        cpu.current = task
        cpu.kstack = task.kstack
        self.queues[cpu.index].slice_left = self._config.quantum
        self.switch_to(cpu, task)
        if self._bus.active and self._bus.wants(TaskSwitch):
            self._bus.emit(TaskSwitch(self._clock.now, cpu.index, 0, task.pid))

    def _wait_for_timer(self) -> None:
        if self._next_timer is None:
            if self.on_stuck():
                return
            asleep = (State.SLEEPING, State.STOPPED, State.TRACED)
            tasks = [task for task in self._tasks.values() if task.runs and not task.kthread and task.state in asleep]
            raise Deadlock(
                "deadlock: every task sleeps and nothing can wake one",
                "\n".join(f"task {task.pid} ({task.comm}) {_waiting(task)}" for task in tasks),
            )
        self._clock.skip(max(0, self._next_timer - self._clock.now))
        self._check_limits()
        self._wake_sleepers()

    def _wake_sleepers(self) -> None:
        now = self._clock.now
        if self._next_timer is not None and now >= self._next_timer:
            for task in self._sleepers.due(now):
                task.wake_at = -1
                self.wake(task)
            due = self._timers.due(now)
            self._rearm()
            for timer in due:
                timer.action()

    def _rearm(self) -> None:
        wakes, rings = self._sleepers.first, self._timers.first
        self._next_timer = wakes if rings is None or (wakes is not None and wakes < rings) else rings

    def add_timer(self, at: int, action: Callable[[], None]) -> Timer:
        """Let something happen at a time in blocks, between two runs of tasks."""
        timer = Timer(at, action)
        self._timers.add(at, timer)
        self._rearm()
        return timer

    def remove_timer(self, timer: Timer) -> None:
        """It will not happen; no effect when it has."""
        if timer in self._timers:
            self._timers.remove(timer)
            self._rearm()

    # -- sleeping (base.wait.Waiting) ----------------------------------------------------------------------------

    @property
    def current(self) -> Task | None:
        """The task of this CPU."""
        return self.task_of(self._smp.this_cpu)

    def task_of(self, cpu: KernelCpu) -> Task | None:
        """The task that a CPU runs."""
        return cast("Task | None", cpu.current)

    def schedule(self, queues: Iterable[Place], what: str, until: int | None = None) -> None:
        task = self.current
        assert task is not None
        queues = tuple(queues)
        for place in queues:
            if isinstance(place, Exclusive):
                place.task = task
                place.queue.exclusive.append(place)
            else:
                place.tasks.append(task)
        self.sleep(task, what, -1 if until is None else until)
        for place in queues:
            if isinstance(place, Exclusive):
                place.queue.exclusive.remove(place)
            elif task in place.tasks:
                place.tasks.remove(task)

    def interruptible_sleep_on(self, queue: WaitQueue) -> None:
        """Sleep on one queue in a call that a signal ends.  Raises KernelError(ERESTARTSYS)."""
        self.schedule((queue,), queue.what)
        if self.signal_pending():
            raise KernelError(ERESTARTSYS)

    def wake_up(self, queue: WaitQueue) -> None:
        queue.wakes += 1
        sleepers, queue.tasks = queue.tasks, []
        for task in sleepers:
            self.wake(task)
        if queue.exclusive:
            self._wake_exclusive(queue)

    def _wake_exclusive(self, queue: WaitQueue) -> None:
        """The first of those whose event has come, all of them when it is an end or an error."""
        for place in [each for each in queue.exclusive if each.task.state is State.SLEEPING]:
            found = place.wanted()
            if found:
                self.wake(place.task)
            if found > 0:
                return

    def signal_pending(self) -> bool:
        task = self.current
        return task is not None and bool(task.pending)

    def in_atomic(self) -> bool:
        return self._smp.in_interrupt

    def check_sleep(self, what: str) -> None:
        self.check_windows(self._smp.this_cpu, what)

    # -- called by tasks -----------------------------------------------------------------------------------------

    def enqueue(self, task: Task) -> None:
        """A runnable task joins its CPU's queue."""
        task.state = State.RUNNING
        self.queues[task.cpu.index].tasks.append(task)

    def wake(self, task: Task) -> None:
        """Make a sleeping task runnable; no effect on others."""
        if task.state is State.SLEEPING:
            if task.wake_at >= 0:
                self._sleepers.remove(task)
                task.wake_at = -1
                self._rearm()
            self.enqueue(task)

    def sleep(self, task: Task, wchan: str, wake_at: int = -1) -> None:
        """Give the CPU up until somebody wakes the task, or until a time in blocks."""
        self.check_windows(task.cpu, "a task sleeps")
        task.state = State.SLEEPING
        task.wchan = wchan
        task.wake_at = wake_at
        if wake_at >= 0:
            self._sleepers.add(wake_at, task)
            self._rearm()
        self._leave(task)

    def stop(self, task: Task, state: State = State.STOPPED) -> None:
        """Give the CPU up until ``resume``."""
        task.state = state
        self._leave(task)

    def resume(self, task: Task) -> None:
        """A stopped task goes on."""
        self.enqueue(task)

    def yield_cpu(self, task: Task) -> None:
        """Go to the end of the queue; nothing happens when it is empty."""
        if self.queues[task.cpu.index].tasks:
            self.enqueue(task)
            self._leave(task)

    def cond_resched(self) -> bool:
        """Somebody else goes on, on this CPU or another; False when nobody can, or nobody who could come back."""
        task = self.current
        if task is None or task.greenlet is not getcurrent() or self._smp.in_interrupt:
            return False
        if self.is_alone(task):
            return False
        with nullcontext() if self._races is None else self._races.whole_turns():
            if self.queues[task.cpu.index].tasks:
                self.yield_cpu(task)
            else:
                self._to_hub()
        return True

    def leave_for_ever(self, task: Task) -> None:
        """The task is a zombie or dead; its greenlet ends after this."""
        task.cpu.current = None

    def _leave(self, task: Task) -> None:
        task.cpu.current = None
        self._to_hub()

    def _to_hub(self) -> None:
        assert self._hub is not None
        self._finish()
        self._hub.switch()

    def _finish(self) -> None:
        """Before others look: nothing is left for the present CPU's way to ring 3."""
        cpu = self._smp.this_cpu
        if cpu.way_out is not None:
            cpu.finish()

    # -- running user code ---------------------------------------------------------------------------------------

    def budget(self, task: Task) -> int:
        """Blocks for the next run of user code: what is left of turn and slice, at most about 20 ms.

        Everything that ends a run early for the guest's sake (slice, turn, timer) does so at an exact block, so that
        it makes no difference where the run was cut for the host's sake.
        """
        budget = self._engine_run
        queue = self.queues[task.cpu.index]
        self._contended = bool(queue.tasks) and self._preempts
        if self._contended and queue.slice_left < budget:
            budget = queue.slice_left
        if self._several:
            if task.cpu.pending_ipis and (self._races is None or not self._races.is_late(task.cpu)):
                self._smp.take_ipis(task.cpu)
            if self._turn_left < budget:
                budget = self._turn_left
        if self._next_timer is not None:
            budget = min(budget, self._next_timer - self._clock.now)
        group = task.group
        if group.cpu_timer_left:
            budget = min(budget, group.cpu_timer_left)
        if group.cpu_limit:
            budget = min(budget, max(1, group.cpu_limit_left))
        if self._block_limit:
            budget = min(budget, self._block_limit - self._clock.blocks)
        return budget if budget > 0 else 0

    def charge(self, task: Task, blocks: int) -> None:
        """The task ran so many blocks of user code."""
        self._turn_left -= blocks
        self.queues[task.cpu.index].slice_left -= blocks
        task.utime += blocks
        group = task.group
        if group.cpu_limit:
            group.cpu_limit_left -= blocks
        if group.cpu_timer_left:
            self.tick(task, blocks)

    def after_run(self, task: Task, began: float) -> None:
        """At a return to ring 3 after an exit that every run has here: limits, timers, end of slice, end of turn.

        The host's time was looked at when the run ``began`` (``time.monotonic``), at most 20 ms ago.
        A debugger's stop is none: it may lie inside the last block of a slice, which is to be finished first.
        """
        host = self.host
        if self.interrupted or self._block_limit or not self._started or (host is not None and host.polls):
            self._check_limits()
        elif self._time_limit and began - self._started > self._time_limit:
            self.check_time()
        if self._board.asked:
            self._finish()
            self.do_irq()
        if self._next_timer is not None:
            self._wake_sleepers()
        queue, gives_way = self.queues[task.cpu.index], False
        if queue.slice_left <= 0:
            quantum = self._config.quantum
            queue.slice_left = quantum - -queue.slice_left % quantum
            gives_way = self._contended
        if gives_way:
            self._wait_at_the_border(task, task.cpu)
        elif self._turn_left <= 0 and self._several:
            self._to_hub()
        while not task.cpus_allowed >> task.cpu.index & 1:
            self._wait_at_the_border(task, self.queues.least_loaded(task.cpus_allowed))

    def _wait_at_the_border(self, task: Task, cpu: KernelCpu) -> None:
        """At the border of ring 3: wait for a turn, on this CPU or on another."""
        task.cpu.current = None
        task.cpu, task.movable = cpu, True
        self.enqueue(task)
        self._to_hub()

    @property
    def next_timer(self) -> int | None:
        """Machine time at which the first of the sleepers wakes, None when none has an end."""
        return self._next_timer

    def is_alone(self, task: Task) -> bool:
        """No other task could run now."""
        return not any(
            self.queues[cpu.index].tasks or (cpu.current is not None and cpu.current is not task)
            for cpu in self._smp.cpus
        )

    def pass_time(self, blocks: int, waited: float = 0.0) -> None:
        """All tasks slept for so many blocks, while a person was waited for ``waited`` seconds of host time."""
        self._clock.passed(blocks)
        self.on_wait()
        if not self._config.limit_waits:
            self.excuse(waited)
        self._check_limits()
        self._wake_sleepers()


def _waiting(task: Task) -> str:
    if task.state is State.STOPPED:
        return "is stopped"
    if task.state is State.TRACED:
        return "is stopped" + (f" by its tracer, task {task.ptrace.tracer.pid}" if task.ptrace is not None else "")
    return f"waits for {task.wchan}"
