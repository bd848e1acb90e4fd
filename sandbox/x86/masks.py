"""Bits of registers and error codes as plain numbers, for code that runs often: an ``IntFlag`` costs a microsecond.

Each is here once; ``registers`` and ``error_code`` give them names for people.  Bits of page-table entries are in
``paging``.
"""

from __future__ import annotations

CF, EFLAGS_FIXED, PF, AF, ZF, SF = 1 << 0, 1 << 1, 1 << 2, 1 << 4, 1 << 6, 1 << 7
TF, IF, DF, OF, IOPL, NT = 1 << 8, 1 << 9, 1 << 10, 1 << 11, 3 << 12, 1 << 14
RF, VM, AC = 1 << 16, 1 << 17, 1 << 18
"""EFLAGS (SDM 3A, 2.3)."""
STATUS_FLAGS = CF | PF | AF | ZF | SF | OF

CR0_PE, CR0_MP, CR0_EM, CR0_TS, CR0_ET, CR0_NE = (1 << bit for bit in range(6))
CR0_WP, CR0_AM, CR0_PG = 1 << 16, 1 << 18, 1 << 31
CR4_TSD, CR4_PSE, CR4_PAE, CR4_PGE = 1 << 2, 1 << 4, 1 << 5, 1 << 7
CR4_OSFXSR, CR4_OSXMMEXCPT = 1 << 9, 1 << 10
"""Control registers (SDM 3A, 2.5)."""
CR0_PROTECTED, CR4_SSE = CR0_PE | CR0_MP | CR0_ET | CR0_NE, CR4_OSFXSR | CR4_OSXMMEXCPT
CR0_PAGED = CR0_PROTECTED | CR0_WP | CR0_PG
"""What a kernel sets: protected mode with x87 and SSE ready, and then paging that binds the kernel too."""
CR3_FRAME, CR3_PAE_TABLE = 0xFFFFF000, 0xFFFFFFE0
"""The part of CR3 that is the directory's (PAE: the four pointers') physical address."""

MSR_EFER = 0xC0000080
"""Number of the MSR that holds NXE (SDM 4, table 2-2)."""
EFER_NXE = 1 << 11

DR6_FIXED = 0xFFFF0FF0
"""Bits of DR6 that read as one (RTM, bit 16, among them)."""
DR7_FIXED = 0x400

PF_PROT, PF_WRITE, PF_USER, PF_RSVD, PF_INSTR = (1 << bit for bit in range(5))
"""A page fault's error code (SDM 3A, 4.7), as Linux calls them; ``error_code.PageFaultCode`` has the manual's names."""
