"""Files as the guest sees them: inodes, path walk, open files, console, pipes.

Nothing here touches guest memory: data crosses as bytes of page-cache blocks ("device DMA") or by
callables.
"""
