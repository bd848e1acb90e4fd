"""Process groups: who is in one, and whether anybody could continue it."""

from __future__ import annotations

from sandbox.kernel.task.task import Task, TaskTable


def members(tasks: TaskTable, pgrp: int) -> list[Task]:
    """The processes of a group, each by its leader."""
    return [task for task in tasks.values() if task.is_leader and task.pgid == pgrp]


def is_orphaned(tasks: TaskTable, pgrp: int) -> bool:
    """No task of the group has a parent in another group of its session, who could continue it."""
    for task in members(tasks, pgrp):
        parent = task.parent
        if task.group.is_dead:
            continue
        if parent is not None and parent.pgid != pgrp and parent.sid == task.sid:
            return False
    return True


def has_stopped(tasks: TaskTable, pgrp: int) -> bool:
    """A process of the group is stopped."""
    return any(task.group.stopped for task in members(tasks, pgrp))
