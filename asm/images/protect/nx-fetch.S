# Data is not code: a jump into a page without PROT_EXEC ends in a fetch fault, if paging has the NX bit.
#
# Two children jump to the same 12 bytes, which are good machine code: to the copy in .data, and to one on the stack.
# Both must die.  A third asks mprotect for execute permission first, and may.  A fourth gives it back, and must die too.
#
# Only PAE entries have the bit; with two-level paging whatever can be read can be executed.
#
# Faults: data_code: user read not-present -> file-read, user fetch protection -> sigsegv; then a fetch of the stack:
# user fetch protection -> sigsegv.

        .include "linux.inc"

        .globl  _start
_start:
        expect_byte_at data_code, 0xBB, 1   # mapped, readable
        fork_to run_data
        expect_killed SIGSEGV, 2
        fork_to run_stack
        expect_killed SIGSEGV, 3
        fork_to run_allowed
        expect_exit 55, 4
        fork_to run_forbidden
        expect_killed SIGSEGV, 5
        say     "nx-fetch: .data and the stack refuse to run, until mprotect allows it\n"
        pass

run_stack:
        sub     esp, 12
        mov     esi, offset data_code
        mov     edi, esp
        mov     ecx, 12
        rep     movsb
        jmp     esp

run_forbidden:
        sys     mprotect, "offset data_code", PAGE, PROT_READ|PROT_EXEC
        expect  eax, 0, 101
        sys     mprotect, "offset data_code", PAGE, PROT_READ
        expect  eax, 0, 102
        jmp     data_code

run_allowed:
        sys     mprotect, "offset data_code", PAGE, PROT_READ|PROT_EXEC
        expect  eax, 0, 100
run_data:
        jmp     data_code

        .data
        .balign PAGE
data_code:
        mov     ebx, 55                     # exit(55)
        mov     eax, SYS_exit
        int     0x80
