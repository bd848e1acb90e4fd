"""The mini-kernel: a house of floors, each importing only from those below; ``main.start_kernel`` builds it.

``docs/architecture.md`` has the picture and follows a fault, a read, a fork, a kmalloc and a step through it.
"""
