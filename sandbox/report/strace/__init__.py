"""System calls in the style of strace: what a program asked for, and what it got."""

from sandbox.report.strace.tracer import Strace

__all__ = ["Strace"]
