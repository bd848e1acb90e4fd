"""File systems: in memory, over a host's folder, laid over each other; pipes and FIFOs; the tree that holds them.

It may use vfs and mm; bytes below a file come and go by blocks, as a disk's do.
"""
