"""The CPUs as the kernel sees them: routines called on them, interrupts, the kernel's own image, exception tables.

It names tasks, address spaces and the trap handler by Protocols, and touches guest memory by running code only.
"""
