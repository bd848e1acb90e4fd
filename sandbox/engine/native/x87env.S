# Control, environments and exceptions of the x87: the second part of x87.S.

        .set    ENV_IN_CPU, 0x8a50      # CPUX86State in CPUState (sandbox/engine/watchcode.py)
        .set    AT_EIP, 128
        .set    AT_FLAGS, 176
        .set    AT_EFLAGS, 136
        .set    EFLAGS_VM, 0x20000
        .set    EFLAGS_TF, 0x100
        .set    INHIBITED, 8            # hidden flag: the instruction is behind a load of SS
        .set    HF_PE, 0x80
        .set    CS32, 0x10
        .set    AT_ES_BASE, 192         # 24 bytes a segment, in the order of their numbers
        .set    AT_CS_BASE, 216
        .set    PAD_END, 64             # HookPad of stubs.S: what the next block falls through from
        .set    GP, 13

        helper  fwait
        waits
        ret

        helper  fclex
        fnclex
        and     word ptr [rdi+SW], 0x7f00
        ret

        helper  fninit
        fnclex
        jmp     [rip+e_helper_fninit]

        helper  enter_mmx
        waits
        jmp     [rip+e_helper_enter_mmx]
        helper  emms                    # TOP is 0 behind every MMX instruction (SDM 3A, table 12-1)
        waits
        mov     dword ptr [rdi+TOP], 0
        jmp     [rip+e_helper_emms]

        helper  fldcw
        waits
        movzx   edx, word ptr [rdi+SW]
        mov     ecx, esi
        call    control
        ret

        .text   1
# ecx: the new control word, edx: the status word, whose ES follows the masks.
control:
        and     ecx, 0x1f7f
        or      ecx, 0x40
        mov     [rdi+CW], cx
        mov     eax, ecx
        not     eax
        and     edx, 0x477f
        and     eax, edx
        test    eax, 0x3f
        jz      1f
        or      edx, 0x8080
1:      mov     [rdi+SW], dx
        ret
        .text   0

# FLDENV and FRSTOR (env, linear, 1 for the 32-bit form): everything is read before anything is changed
        helper  fldenv
        waits
        lea     eax, [rdx+rdx+1]
        checks  eax
        xor     r8d, r8d
        jmp     environment
        helper  frstor
        waits
        lea     eax, [rdx+rdx+1]
        checks  eax
        mov     r8d, 8
environment:
        push    rbx
        push    rbp
        push    r12
        push    r13
        push    r14
        push    r15
        sub     rsp, 152
        mov     rbx, rdi
        mov     rbp, rsi
        lea     r12d, [rdx*2+2]
        mov     r13, [rsp+152+48]
        mov     r15d, r8d
        imul    eax, edx, 14            # 14 or 28 bytes, and 10 a register
        imul    edx, r15d, 10
        lea     edx, [rdx+rax+14]
        mov     rcx, r13
        xor     r8d, r8d
        call    reachable
        xor     r14d, r14d
1:      mov     eax, r14d
        imul    eax, r12d
        lea     rsi, [rbp+rax]
        mov     rdi, rbx
        mov     rdx, r13
        call    [rip+e_cpu_lduw_data_ra]
        mov     [rsp+128+r14*2], ax
        inc     r14d
        cmp     r14d, 3
        jne     1b
1:      mov     eax, r14d
        imul    eax, r12d
        lea     rsi, [rbp+rax]
        mov     rdi, rbx
        mov     rdx, r13
        test    r12d, 2
        jnz     2f
        call    [rip+e_cpu_ldl_data_ra]
        jmp     3f
2:      call    [rip+e_cpu_lduw_data_ra]
        movzx   eax, ax
3:      mov     [rsp+136-12+r14*4], eax
        inc     r14d
        cmp     r14d, 7
        jne     1b
        imul    eax, r12d, 7
        add     rbp, rax
        xor     r14d, r14d
2:      cmp     r14d, r15d
        je      3f
        mov     rdi, rbx
        mov     rsi, rbp
        mov     rdx, r13
        call    [rip+e_cpu_ldq_data_ra]
        mov     ecx, r14d
        shl     ecx, 4
        mov     [rsp+rcx], rax
        mov     rdi, rbx
        lea     rsi, [rbp+8]
        mov     rdx, r13
        call    [rip+e_cpu_lduw_data_ra]
        mov     ecx, r14d
        shl     ecx, 4
        mov     [rsp+rcx+8], ax
        add     rbp, 10
        inc     r14d
        jmp     2b
3:      fnclex
        mov     rdi, rbx
        lea     rsi, [rsp+136]
        call    load_pointers
        movzx   ecx, word ptr [rsp+128]
        movzx   edx, word ptr [rsp+130]
        mov     r8d, edx
        shr     r8d, 11
        and     r8d, 7
        mov     [rdi+TOP], r8d
        call    control
        movzx   edx, word ptr [rsp+132]
        xor     ecx, ecx
4:      mov     eax, edx
        not     eax
        test    al, 3
        setz    byte ptr [rdi+rcx+TAG]
        shr     edx, 2
        inc     ecx
        cmp     ecx, 8
        jne     4b
        xor     ecx, ecx
5:      cmp     ecx, r15d
        je      6f
        mov     eax, ecx
        shl     eax, 4
        mov     edx, r8d
        shl     edx, 4
        mov     r9, [rsp+rax]
        mov     [rdi+rdx+REGS], r9
        movzx   r9d, word ptr [rsp+rax+8]
        mov     [rdi+rdx+REGS+8], r9w
        inc     r8d
        and     r8d, 7
        inc     ecx
        jmp     5b
6:      add     rsp, 152
        pop     r15
        pop     r14
        pop     r13
        pop     r12
        pop     rbp
        pop     rbx
        ret

# FNSTENV and FNSAVE (env, linear, 1 for the 32-bit form): not waiting
        helper  fstenv
        lea     eax, [rdx+rdx+1]
        checks  eax
        xor     r8d, r8d
        call    store_environment
        movzx   edx, word ptr [rdi+SW]  # all exceptions are masked behind it
        movzx   ecx, word ptr [rdi+CW]
        or      ecx, 0x3f
        jmp     control
        helper  fsave
        lea     eax, [rdx+rdx+1]
        checks  eax
        mov     r8d, 8
        call    store_environment
        fnclex
        jmp     [rip+e_helper_fninit]

        .text   1
# r8d: how many registers.  Called by a helper, first of all.
store_environment:
        push    rbx
        push    rbp
        push    r12
        push    r13
        push    r14
        push    r15
        sub     rsp, 48
        mov     rbx, rdi
        mov     rbp, rsi
        mov     r12d, edx
        mov     r13, [rsp+48+48+8]
        mov     r15d, r8d
        imul    eax, r12d, 14           # 14 or 28 bytes, and 10 a register
        lea     eax, [rax+14]
        imul    edx, r15d, 10
        add     edx, eax
        mov     rcx, r13
        mov     r8d, STORE
        call    reachable
        mov     rdi, rbx
        mov     ecx, [rdi+TOP]
        shl     ecx, 11
        movzx   eax, word ptr [rdi+SW]
        and     eax, 0xc7ff
        or      eax, ecx
        or      eax, 0xffff0000
        movzx   ecx, word ptr [rdi+CW]
        or      ecx, 0xffff0000
        mov     [rsp], ecx
        mov     [rsp+4], eax
        xor     edx, edx
        mov     r8d, 7
1:      shl     edx, 2
        cmp     byte ptr [rdi+r8+TAG], 0
        jne     3f
        mov     ecx, r8d
        shl     ecx, 4
        mov     rax, [rdi+rcx+REGS]
        movzx   ecx, word ptr [rdi+rcx+REGS+8]
        and     ecx, 0x7fff
        jnz     2f
        test    rax, rax
        jnz     4f
        or      edx, 1                  # zero
        jmp     5f
2:      cmp     ecx, 0x7fff
        je      4f
        test    rax, rax
        js      5f
4:      or      edx, 2                  # special
        jmp     5f
3:      or      edx, 3
5:      dec     r8d
        jns     1b
        or      edx, 0xffff0000
        mov     [rsp+8], edx
        lea     rsi, [rsp+12]
        call    store_pointers
        xor     r14d, r14d
6:      mov     rdi, rbx
        mov     edx, [rsp+r14*4]
        mov     rcx, r13
        mov     rsi, rbp
        test    r12d, r12d
        jz      7f
        add     rbp, 4
        call    [rip+e_cpu_stl_data_ra]
        jmp     8f
7:      add     rbp, 2
        movzx   edx, dx
        call    [rip+e_cpu_stw_data_ra]
8:      inc     r14d
        cmp     r14d, 7
        jne     6b
        mov     r14d, [rbx+TOP]
9:      dec     r15d
        js      10f
        mov     r12d, r14d
        shl     r12d, 4
        mov     rdi, rbx
        mov     rsi, rbp
        mov     rdx, [rbx+r12+REGS]
        mov     rcx, r13
        call    [rip+e_cpu_stq_data_ra]
        mov     rdi, rbx
        lea     rsi, [rbp+8]
        movzx   edx, word ptr [rbx+r12+REGS+8]
        mov     rcx, r13
        call    [rip+e_cpu_stw_data_ra]
        add     rbp, 10
        inc     r14d
        and     r14d, 7
        jmp     9b
10:     mov     rdi, rbx
        add     rsp, 48
        pop     r15
        pop     r14
        pop     r13
        pop     r12
        pop     rbp
        pop     rbx
        ret
        .text   0

# -- the last instruction: FIP, FCS, FOP, FDP, FDS -----------------------------------------------------------------

        .text   1
# rdi: env, rsi: four double words of an environment, as read from memory (SDM 1, 8.1.10, figures 8-9 to 8-12).
# The forms of real mode and V86 have linear addresses.
load_pointers:
        mov     eax, [rsi]
        mov     ecx, [rsi+8]
        call    protected
        jz      1f
        movzx   edx, word ptr [rsi+4]
        mov     [rdi+FCS], dx
        movzx   edx, word ptr [rsi+12]
        mov     [rdi+FDS], dx
        movzx   edx, word ptr [rsi+6]
        jmp     2f
1:      movzx   eax, ax
        movzx   ecx, cx
        mov     edx, [rsi+12]
        and     edx, 0x0ffff000
        shl     edx, 4
        or      ecx, edx
        mov     edx, [rsi+4]
        and     edx, 0x0ffff000
        shl     edx, 4
        or      eax, edx
        movzx   edx, word ptr [rsi+4]
        mov     word ptr [rdi+FCS], 0
        mov     word ptr [rdi+FDS], 0
2:      mov     [rdi+FIP], eax
        mov     [rdi+FDP], rcx
        and     edx, 0x7ff
        or      edx, FOP_KNOWN
        mov     [rdi+FOP], edx
        ret

# ZF: real mode or V86
protected:
        test    dword ptr [rdi+AT_EFLAGS], EFLAGS_VM
        jnz     1f
        test    dword ptr [rdi+AT_FLAGS], HF_PE
        ret
1:      cmp     eax, eax
        ret

# rbx: env, rsi: where to write four double words.  The 16-bit forms have their low halves.
store_pointers:
        push    rsi
        mov     rdi, rbx
        call    note_opcode
        pop     rsi
        mov     edx, [rdi+FOP]
        and     edx, 0x7ff
        movzx   eax, word ptr [rdi+FCS]
        movzx   ecx, word ptr [rdi+FDS]
        mov     r8d, [rdi+FIP]
        mov     r9d, [rdi+FDP]
        call    protected
        jz      1f
        shl     edx, 16
        or      eax, edx
        or      ecx, 0xffff0000
        mov     [rsi], r8d
        mov     [rsi+8], r9d
        jmp     2f
1:      shl     eax, 4
        add     r8d, eax
        shl     ecx, 4
        add     r9d, ecx
        movzx   eax, r8w
        or      eax, 0xffff0000
        mov     [rsi], eax
        movzx   eax, r9w
        or      eax, 0xffff0000
        mov     [rsi+8], eax
        mov     eax, r8d
        shr     eax, 4
        and     eax, 0x0ffff000
        or      eax, edx
        mov     ecx, r9d
        shr     ecx, 4
        and     ecx, 0x0ffff000
2:      mov     [rsi+4], eax
        mov     [rsi+12], ecx
        ret

# rdi: env.  FOP from the instruction at FIP: the lower three bits of the first byte, and the second (SDM 1, 8.1.9)
note_opcode:
        cmp     dword ptr [rdi+FOP], 0
        jne     4f
        push    rbx
        push    rbp
        push    r12
        push    r13
        sub     rsp, 8
        mov     rbx, rdi
        mov     r12d, [rdi+FIP]
        mov     ebp, [rdi+AT_CS_BASE]
        mov     r13d, 15
        cmp     dword ptr [rdi+FCS-2], 0        # and its neighbour, which nobody sets: nothing yet
        jne     1f
        test    r12d, r12d
        jz      3f
1:      call    next_byte
        mov     ecx, eax
        and     ecx, 0xf8
        cmp     ecx, 0xd8
        je      2f
        dec     r13d
        jnz     1b
        jmp     3f
2:      and     eax, 7
        shl     eax, 8
        mov     r13d, eax
        call    next_byte
        or      eax, r13d
        or      eax, FOP_KNOWN
        mov     [rbx+FOP], eax
3:      mov     rdi, rbx
        add     rsp, 8
        pop     r13
        pop     r12
        pop     rbp
        pop     rbx
4:      ret

# Behind FNOP, which the translator takes for a control instruction: it is the last.  Called from translated code.
noted:  push    rbx
        mov     rbx, rdi
        lea     rdi, [rbx-ENV_IN_CPU]
        mov     rsi, [rsp+8]
        xor     edx, edx
        call    [rip+e_cpu_restore_state]
        mov     rdi, rbx
        call    note_place
        pop     rbx
        ret
note_place:
        mov     eax, [rdi+AT_EIP]
        mov     [rdi+FIP], rax          # and FOP is to be read
        mov     eax, [rdi+AT_CS_BASE-8]
        mov     [rdi+FCS], ax
        ret

# Behind FXSAVE, whose operand's address is in FT0: the pointers are saved while an exception is pending, else zeros,
# as seen on an AMD host; Intel's processors save them always
saved:  push    rbx
        push    r12
        push    r13
        mov     rbx, rdi
        mov     r12, [rsp+24]
        mov     r13d, [rdi+FT0]
        xor     edx, edx
        cmp     byte ptr [rdi+SW], 0
        jns     1f
        call    note_opcode
        mov     edx, [rbx+FOP]
        and     edx, 0x7ff
1:      lea     esi, [r13+6]
        mov     rcx, r12
        mov     rdi, rbx
        call    [rip+e_cpu_stw_data_ra]
        .macro  pointer offset, selector, at
        xor     edx, edx
        cmp     byte ptr [rbx+SW], 0
        jns     2f
        mov     eax, [rbx+\offset]
        movzx   edx, word ptr [rbx+\selector]
        shl     rdx, 32
        or      rdx, rax
2:      lea     esi, [r13+\at]
        mov     rcx, r12
        mov     rdi, rbx
        call    [rip+e_cpu_stq_data_ra]
        .endm
        pointer FIP, FCS, 8
        pointer FDP, FDS, 16
        mov     rdi, rbx
        pop     r13
        pop     r12
        pop     rbx
        ret

# rdi: env, rsi: of FXRSTOR.  Called by a helper, first of all: nothing of the operand is missing.
fetch_pointers:
        push    rdi
        push    rsi
        push    rdx
        push    rbx
        mov     rbx, rdi
        lea     esi, [rsi+6]
        mov     rdx, [rsp+40]
        call    [rip+e_cpu_lduw_data_ra]
        and     eax, 0x7ff
        or      eax, FOP_KNOWN
        mov     [rbx+FOP], eax
        .macro  pointed offset, selector, at
        mov     rsi, [rsp+16]
        lea     esi, [rsi+\at]
        mov     rdi, rbx
        mov     rdx, [rsp+40]
        call    [rip+e_cpu_ldq_data_ra]
        mov     [rbx+\offset], eax
        shr     rax, 32
        mov     [rbx+\selector], ax
        .endm
        pointed FIP, FCS, 8
        pointed FDP, FDS, 16
        mov     dword ptr [rbx+FDP+4], 0
        pop     rbx
        pop     rdx
        pop     rsi
        pop     rdi
        ret
        .text   0

        .text   1
# Of a store of edx bytes at rsi that crosses a page: both pages' faults before anything is stored.  rcx: into translated
# code.
writable:
        lea     eax, [rsi+rdx-1]
        and     eax, -4096
        mov     r8d, STORE
        jmp     1f
# Of edx bytes at rsi, loaded or stored (r8d): the faults of the first four, then of the last, as seen on an AMD host
reachable:
        lea     eax, [rsi+rdx-1]
        lea     r9d, [rsi+3]
        mov     r10d, r9d
        xor     r10d, esi
        and     r9d, -4096
        test    r10d, -4096
        cmovnz  eax, r9d
1:      push    rbx
        push    r12
        push    r13
        push    r14
        sub     rsp, 8
        mov     rbx, rdi
        mov     r12, rcx
        mov     r13d, eax
        mov     r14d, r8d
        mov     ecx, esi
        xor     ecx, eax
        and     ecx, -4096
        jz      2f
        call    touch
        mov     esi, r13d
        call    touch
2:      add     rsp, 8
        pop     r14
        pop     r13
        pop     r12
        pop     rbx
        ret
touch:  sub     rsp, 8
        mov     eax, [rbx+AT_FLAGS]
        and     eax, 3                  # CPL
        xor     r8d, r8d
        cmp     eax, 3
        setne   r8b
        inc     r8d                     # the engine's TLB of user accesses, or of the kernel's without SMAP
        mov     rdi, rbx
        mov     edx, 1
        mov     ecx, r14d
        mov     r9, r12
        call    [rip+e_probe_access]
        add     rsp, 8
        ret
        .text   0

# -- MXCSR: bits 16 to 31 are reserved, a one there is #GP (SDM 1, 10.2.3) -----------------------------------------

        helper  ldmxcsr
        test    esi, 0xffff0000
        jnz     reserved
        ldmxcsr [rip+clean]
        jmp     [rip+e_helper_ldmxcsr]
        .text   1
reserved:
        mov     rcx, [rsp]
        mov     esi, GP
        xor     edx, edx
        jmp     [rip+e_raise_exception_err_ra]
        .text   0

        .macro  restores name, when
        helper  \name
        .ifc    \name, fxrstor
        checks  3
        test    esi, 15
        jnz     2f
        call    fetch_last
        .endif
        \when
        jz      1f
        call    fetch_mxcsr
        test    eax, 0xffff0000
        jnz     reserved
1:      fnclex
        ldmxcsr [rip+clean]
        .ifc    \name, fxrstor
        call    fetch_pointers
        .endif
2:      jmp     [rip+e_helper_\name]
        .endm
        restores fxrstor, "test byte ptr [rdi+AT_CR4+1], 2"     # CR4.OSFXSR
        restores xrstor, "test dl, 2"                           # asks for SSE's
        .text   1
# The faults of the last of 512 bytes, then of the first, as seen on an AMD host.  Called by a helper, first of all.
fetch_last:
        push    rdi
        push    rsi
        push    rdx
        sub     rsp, 8
        lea     rsi, [rsi+511]
        mov     esi, esi
        mov     rdx, [rsp+40]
        call    [rip+e_cpu_ldub_data_ra]
        mov     rdi, [rsp+24]
        mov     rsi, [rsp+16]
        mov     rdx, [rsp+40]
        call    [rip+e_cpu_ldub_data_ra]
        add     rsp, 8
        pop     rdx
        pop     rsi
        pop     rdi
        ret
fetch_mxcsr:
        push    rdi
        push    rsi
        push    rdx
        sub     rsp, 8
        add     rsi, 24
        mov     rdx, [rsp+40]
        call    [rip+e_cpu_ldl_data_ra]
        add     rsp, 8
        pop     rdx
        pop     rsi
        pop     rdi
        ret

# -- a store with an unmasked response: the instruction ends without it ----------------------------------------------

# Jumped to by a helper of a store: its page is asked for all the same, as seen on an AMD host, and then NEXT_SW holds.
leave_store:
        push    rbx
        push    r12
        push    r13
        push    r14
        sub     rsp, 8
        mov     rbx, rdi
        mov     r12, [rsp+40]
        lea     rdi, [rbx-ENV_IN_CPU]
        mov     rsi, r12
        mov     edx, 1
        call    [rip+e_cpu_restore_state]
        call    operand
        jc      3f
        mov     r8d, eax
        sub     r8d, [rbx+rdx+AT_ES_BASE]
        mov     [rbx+FDP], r8
        mov     r8d, [rbx+rdx+AT_ES_BASE-8]
        mov     [rbx+FDS], r8w
        lea     rdx, [rip+table+16*0xdd]
        sub     rdx, r14
        mov     r13d, 3                 # bytes less one: D9 and DB four, DD and DF /7 eight, DF two
        jz      1f
        ja      2f
        mov     r13d, 1
        cmp     ecx, 7
        jne     2f
1:      mov     r13d, 7
2:      test    eax, r13d
        jz      4f
        mov     edx, eax
        call    asks_alignment
        jnz     unaligned_here
        mov     eax, edx
4:      add     r13d, eax
        mov     [rbx+FT0], eax
        mov     esi, eax
        mov     r14d, STORE
        call    touch
        mov     esi, r13d
        and     esi, -4096
        xor     r13d, [rbx+FT0]
        and     r13d, -4096
        jz      3f
        call    touch
3:      movzx   eax, word ptr [rbx+NEXT_SW]
        mov     [rbx+SW], ax
        mov     rdi, rbx
        add     rsp, 8
        pop     r14
        pop     r13
        pop     r12
        pop     rbx

# Jumped to by a helper.  Translated code would store what comes back: leave it, behind the instruction.
leave_out:
        push    rbx
        push    rbp
        push    r12
        push    r13
        push    r14
        sub     rsp, 16
        mov     rbx, rdi
        lea     rdi, [rbx-ENV_IN_CPU]
        mov     rsi, [rsp+16+40]
        mov     edx, 1
        call    [rip+e_cpu_restore_state]
        mov     rdi, rbx
        call    note_place
        mov     r12, [rbx+AT_EIP]
        mov     ebp, [rbx+AT_CS_BASE]
        mov     r13d, [rbx+AT_FLAGS]
        and     r13d, CS32
1:      call    next_byte
        cmp     al, 0x67
        jne     2f
        xor     r13d, CS32
        jmp     1b
2:      mov     ecx, eax
        and     ecx, 0xf8
        cmp     ecx, 0xd8
        jne     1b
        call    next_byte
        mov     ecx, eax
        shr     ecx, 6                  # mod
        cmp     ecx, 3
        je      8f
        and     eax, 7
        test    r13d, r13d
        jz      5f
        cmp     al, 4
        jne     3f
        mov     r14d, ecx
        call    next_byte
        mov     ecx, r14d
        and     eax, 7
3:      cmp     ecx, 1
        je      7f
        ja      4f
        cmp     al, 5
        jne     8f
4:      add     r12, 4
        jmp     8f
5:      cmp     ecx, 1
        je      7f
        ja      6f
        cmp     al, 6
        jne     8f
6:      inc     r12
7:      inc     r12
8:      mov     r12d, r12d
        mov     [rbx+AT_EIP], r12
        lea     eax, [r12+rbp]
        mov     rcx, [rip+running]
        mov     rcx, [rcx]
        test    rcx, rcx
        jz      9f
        mov     [rcx+PAD_END], rax      # control falls through
9:      and     dword ptr [rbx+AT_FLAGS], ~INHIBITED
        mov     rdi, rbx
        test    dword ptr [rbx+AT_EFLAGS], EFLAGS_TF
        jnz     9f
        lea     rdi, [rbx-ENV_IN_CPU]
        call    [rip+e_cpu_loop_exit_noexc]
9:      call    [rip+e_helper_single_step]

# r12: the offset of a byte of code; on to the next.
next_byte:
        sub     rsp, 24
        lea     rdi, [rbx-ENV_IN_CPU]
        lea     esi, [r12+rbp]
        inc     r12
        lea     rdx, [rsp+8]
        mov     byte ptr [rdx], 0
        mov     ecx, 1
        xor     r8d, r8d
        call    [rip+e_cpu_memory_rw_debug]
        movzx   eax, byte ptr [rsp+8]
        add     rsp, 24
        ret
        .text   0
