# The vDSO: a shared object that exec maps into every program and names in AT_SYSINFO_EHDR (vdso(7)).
#
# Names, versions and conventions are those of Linux i386.  There is no page of times beside it: what tells the time makes
# the system call.
        .intel_syntax noprefix
        .set    SYS_time, 13
        .set    SYS_gettimeofday, 78
        .set    SYS_sigreturn, 119
        .set    SYS_rt_sigreturn, 173
        .set    SYS_clock_gettime, 265
        .set    SYS_clock_getres, 266
        .set    SYS_getcpu, 318
        .set    SYS_clock_gettime64, 403

        .section .note.Linux, "a", @note
        .long   6, 4, 0
        .asciz  "Linux"
        .balign 4
        .long   0x060100                        # LINUX_VERSION_CODE of what uname tells
        .section .note.GNU-stack, "", @progbits

        .text
# The way into the kernel: number and arguments are in registers, and so is the result.
        .macro  function name
        .globl  \name
        .type   \name, @function
        .balign 16, 0x90
\name:  .cfi_startproc
        .endm

        .macro  end name
        .cfi_endproc
        .size   \name, . - \name
        .endm

# A C function of up to three words, with EBX kept.
        .macro  call_of name, number
        function \name
        push    ebx
        .cfi_adjust_cfa_offset 4
        .cfi_rel_offset ebx, 0
        mov     ebx, [esp + 8]
        mov     ecx, [esp + 12]
        mov     edx, [esp + 16]
        mov     eax, \number
        int     0x80
        pop     ebx
        .cfi_adjust_cfa_offset -4
        .cfi_restore ebx
        ret
        end     \name
        .endm

        function __kernel_vsyscall
        int     0x80
        ret
        end     __kernel_vsyscall

        call_of __vdso_gettimeofday, SYS_gettimeofday
        call_of __vdso_time, SYS_time
        call_of __vdso_clock_gettime, SYS_clock_gettime
        call_of __vdso_clock_gettime64, SYS_clock_gettime64
        call_of __vdso_clock_getres, SYS_clock_getres
        call_of __vdso_getcpu, SYS_getcpu

# Where handlers return to: unwinders find the interrupted registers in the frame's sigcontext, at \distance from ESP.
# The FDE begins a byte early, since they look up a return address less one.
        .macro  signal_return name, distance
        .globl  \name
        .type   \name, @function
        .balign 16, 0x90
        .cfi_startproc simple
        .cfi_signal_frame
        .cfi_def_cfa esp, \distance
        .cfi_offset edi, 16
        .cfi_offset esi, 20
        .cfi_offset ebp, 24
        .cfi_offset esp, 28
        .cfi_offset ebx, 32
        .cfi_offset edx, 36
        .cfi_offset ecx, 40
        .cfi_offset eax, 44
        .cfi_offset eip, 56
        nop
\name:
        .endm

        signal_return __kernel_sigreturn, 4
        pop     eax
        .cfi_adjust_cfa_offset -4
        mov     eax, SYS_sigreturn
        int     0x80
        end     __kernel_sigreturn

        signal_return __kernel_rt_sigreturn, 160
        mov     eax, SYS_rt_sigreturn
        int     0x80
        end     __kernel_rt_sigreturn
