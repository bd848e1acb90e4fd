"""Memory: frames and zones, page tables and TLB, areas and faults, the page cache, user access.

It stores page tables and struct pages; data it lets the CPU move.  Of a task it sees ``mm.Process``.
"""
