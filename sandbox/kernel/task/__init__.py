"""Tasks: the scheduler and the switch, signals and their frames, timers, futexes, descriptors.

It may use mm for stacks and user memory; whoever is below sleeps by ``base.wait.Waiting``, which the scheduler has.
"""
