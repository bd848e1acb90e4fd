# Host code in the place of the engine's two empty watchpoint functions, and before what its walker stores and MOV CR3
# calls (sandbox/engine/watchcode.py).
#
# QEMU asks `matches` when it fills a TLB entry, and `check` before an access through an entry that matched.
# Rebuild: as --64 -o w.o watch.S; objcopy -O binary -j .text w.o w.bin; tests/engine/test_watch.py compares.

        .intel_syntax noprefix
        .text

        .set    STOP, 8                 # HookPad of stubs.S
        .set    REASON, 36
        .set    ENGINE, 80
        .set    WATCHED, 8
        .set    LOADED, 9
        .set    GUESTS, 10
        .set    AT_BREAKPOINT, 4
        .set    ANOTHER_MODE, 11
        .set    PAD_ENV, 112
        .set    PAD_MODE, 184           # what the last block was run in
        .set    PAD_PASSED, 192         # the instruction at which `fetch` stopped last, until it is run
        .set    PAD_CR3, 216            # not 0: stop behind loads of CR3
        .set    MODES, 0x83             # in the hidden flags: protection, ring
        .set    VM, 0x20000
        .set    PG, 0x80000000

        .set    READ, 1
        .set    WRITE, 2
        .set    PHYSICAL, 4
        .set    W_CPU, 0                # a watch: CPUState, first and end address, flags
        .set    W_FIRST, 8
        .set    W_END, 16
        .set    W_FLAGS, 24
        .set    W_SIZE, 32

        .set    ACCESS, 0               # kinds of hits
        .set    WALK, 1
        .set    TO_CR3, 2
        .set    H_KIND, 0               # a hit
        .set    H_CPU, 8
        .set    H_LINEAR, 16            # of CR3 loads and walks: EIP, what missed
        .set    H_PHYSICAL, 24
        .set    H_SIZE, 32
        .set    H_HOW, 40
        .set    H_LAST, 48              # physical address of the last byte
        .set    H_OLD, 56
        .set    H_NEW, 64
        .set    H_KNOWN, 72             # the old value is
        .set    H_BACK, 80
        .set    H_BYTES, 88
        .set    MOST_HITS, 24

        .set    ENV, 0x8a50             # CPUX86State in CPUState
        .set    ENV_EIP, 128
        .set    ENV_EFLAGS, 136
        .set    ENV_FLAGS, 176
        .set    ENV_CR0, 424
        .set    ENV_CR3, 448
        .set    ENV_DR0, 5400
        .set    ENV_DR7, 5456
        .set    ENABLED, 0xff           # in DR7: two bits for each of DR0 to DR3
        .set    TLB_MASK, -0x40         # of CPUX86State: 16 bytes for each of three kinds of access
        .set    TLB_TABLE, -0x38
        .set    E_READ, 0               # a TLB entry, of 64 bytes
        .set    E_WRITE, 8
        .set    E_CODE, 16
        .set    E_PHYSICAL, 24
        .set    E_ADDEND, 32
        .set    E_PAGE, -0x800          # the page's bits and "invalid" in the first two words
        .set    E_DEVICE, 0x200
        .set    E_WATCHED, 0x100
        .set    VICTIMS, -0x840
        .set    VICTIM_STRIDE, 0x2b8

        .set    UNALIGNED_BACK, 0x100   # on the stack, where load_helper was called by itself for a piece of a load:
        .set    UNALIGNED_SECOND, 0x118 # the second piece's address, and by how much the load is off the first one's
        .set    UNALIGNED_BY, 0x140

# int matches(cpu, linear, length): what of a page is watched
        .balign 16
matches:
        xor     eax, eax
        mov     ecx, [rip+count]
        lea     r8, [rip+watches]
        mov     r11, [rip+filled]
        and     r11, -4096
1:      sub     ecx, 1
        js      3f
        cmp     rdi, [r8+W_CPU]
        jne     4f
        mov     r9d, [r8+W_FLAGS]
        mov     r10, rsi
        test    r9d, PHYSICAL
        cmovnz  r10, r11
        cmp     r10, [r8+W_END]
        jae     4f
        add     r10, rdx
        cmp     r10, [r8+W_FIRST]
        jbe     4f
        or      eax, r9d
4:      add     r8, W_SIZE
        jmp     1b
3:      and     eax, READ | WRITE
        mov     r9d, [rdi+ENV+ENV_DR7]  # the guest's own, SDM 3B, 17.2.4
        test    r9b, ENABLED
        jz      6f
        mov     r11d, r9d
        shr     r11d, 16
        lea     r8, [rdi+ENV+ENV_DR0]
        mov     ecx, 4
4:      test    r9b, 3
        jz      5f
        test    r11b, 1
        jz      5f
        mov     r10d, [r8]
        xor     r10d, esi
        test    r10d, 0xfffff000
        jnz     5f
        or      eax, READ | WRITE
5:      shr     r9d, 2
        shr     r11d, 4
        add     r8, 8
        dec     ecx
        jnz     4b
6:      ret

# int cpu_watchpoint_insert(cpu, linear, length, ...): DR7 or an address has changed: what the TLB holds is marked
        .balign 16
insert: and     rsi, -4096
        lea     r8, [rdi+ENV]
        mov     ecx, 3
1:      mov     rax, rsi
        shr     rax, 12
        mov     rdx, [r8+TLB_MASK]
        shr     rdx, 6
        and     rax, rdx
        shl     rax, 6
        add     rax, [r8+TLB_TABLE]
        call    flag
        add     r8, 16
        dec     ecx
        jnz     1b
        lea     rax, [rdi+ENV+VICTIMS]
        mov     ecx, 3
2:      mov     r8d, 8
3:      call    flag
        add     rax, 64
        dec     r8d
        jnz     3b
        add     rax, VICTIM_STRIDE - 512
        dec     ecx
        jnz     2b
        xor     eax, eax
        ret

# rax: an entry; rsi: a page.  Changes rdx and r9.
flag:   lea     r9, [rax+E_WRITE]
1:      mov     rdx, [r9]
        xor     rdx, rsi
        test    rdx, -4096
        jnz     2f
        or      qword ptr [r9], E_WATCHED
2:      sub     r9, 8
        cmp     r9, rax
        jae     1b
        ret

# tlb_set_page_with_attrs(cpu, linear, physical, ...): which frame `matches` will be asked about
        .balign 16
fill:   mov     [rip+filled], rdx
        jmp     [rip+old_fill]

# x86_cpu_tlb_fill(cpu, linear, ..., return address): whose walk goes on
        .balign 16
miss:   mov     rax, [rsp+8]
        mov     [rip+miss_back], rax
        mov     [rip+missed], rsi
        jmp     [rip+old_miss]

# rsi: linear, rbx: CPUState, r14d: how.  rax: the entry of the CPU's TLB, or 0.  Changes rcx, rdx, r8, r9.
find:   mov     edx, [rbx+ENV+ENV_FLAGS]
        and     edx, 3
        cmp     edx, 3
        mov     edx, 2
        mov     eax, 1
        cmove   edx, eax
        mov     r9d, 3
1:      mov     r8, rdx
        shl     r8, 4
        lea     r8, [rbx+r8+ENV]
        mov     rax, rsi
        shr     rax, 12
        mov     rcx, [r8+TLB_MASK]
        shr     rcx, 6
        and     rax, rcx
        shl     rax, 6
        add     rax, [r8+TLB_TABLE]
        mov     rcx, [rax+E_READ]
        test    r14d, WRITE
        cmovnz  rcx, [rax+E_WRITE]
        xor     rcx, rsi
        test    rcx, E_PAGE & -4096
        jnz     2f
        mov     rcx, [rax+E_READ]
        test    r14d, WRITE
        cmovnz  rcx, [rax+E_WRITE]
        test    ecx, 0x800
        jz      3f
2:      inc     edx
        cmp     edx, 3
        jb      4f
        xor     edx, edx
4:      dec     r9d
        jnz     1b
        xor     eax, eax
3:      ret

# void check(cpu, linear, size, attributes, how, return address)
#
# An unaligned load comes as two aligned ones, for which load_helper calls itself: the address is known by its first frame.
# An unaligned store inside a page comes as (address, -offset in page), then (page, offset + size), then byte by byte;
# one over an edge as (address, size on the first page) and (second page, size there), where each is watched, then byte
# by byte: its size is known by who calls.
        .balign 16
check:  cmp     qword ptr [rip+count], 0
        jne     2f
        test    byte ptr [rdi+ENV+ENV_DR7], ENABLED
        jz      9f
2:      test    r8d, WRITE
        jnz     store
        mov     rax, [rsp]
        cmp     rax, [rip+load_site]
        jne     judge
        mov     rax, [rsp+UNALIGNED_BACK]
        cmp     rax, [rip+again]
        je      1f
        cmp     rax, [rip+again_too]
        jne     judge
1:      mov     rsi, [rsp+UNALIGNED_SECOND]
        sub     rsi, rdx
        add     rsi, [rsp+UNALIGNED_BY]
        jmp     judge
9:      ret

store:  test    rdx, rdx
        jg      1f
        mov     [rip+store_at], rsi
        mov     [rip+store_back], r9
        ret
1:      mov     r11, [rip+store_back]
        mov     qword ptr [rip+store_back], -1
        test    esi, 0xfff
        jnz     2f
        cmp     r9, r11
        jne     3f
        mov     rax, [rip+store_at]
        mov     r10, rax
        and     rax, -4096
        cmp     rax, rsi
        jne     3f
        mov     rsi, r10
        and     r10d, 4095
        sub     rdx, r10
        jmp     judge
3:      call    crossing
        jz      judge
        lea     rsi, [rsi+rdx]
        sub     rsi, rax
        mov     rdx, rax
        jmp     judge
2:      lea     eax, [rsi+rdx]
        test    eax, 0xfff
        jnz     judge
        call    crossing
        cmovnz  rdx, rax
        jmp     judge

# The size of a store over an edge by its caller's caller in rax, else ZF.  Changes r10 and r11.
crossing:
        mov     r11, [rsp+8]
        lea     r10, [rip+sites]
1:      mov     rax, [r10+8]
        test    rax, rax
        jz      2f
        cmp     r11, [r10]
        je      3f
        add     r10, 16
        jmp     1b
3:      test    rax, rax
2:      ret

judge:  push    rbx
        push    rbp
        push    r12
        push    r13
        push    r14
        push    r15
        sub     rsp, 24
        mov     rbx, rdi
        mov     rbp, r9
        mov     r12, rsi
        mov     r13, rdx
        mov     r14d, r8d
        mov     r15, -1                 # physical address of the first byte
        mov     [rsp], r15              # and of the last
        cmp     qword ptr [rip+physical], 0
        je      1f
        call    places
1:      mov     ecx, [rip+count]
        lea     r10, [rip+watches]
2:      sub     ecx, 1
        js      guests
        cmp     rbx, [r10+W_CPU]
        jne     6f
        mov     eax, [r10+W_FLAGS]
        test    eax, r14d
        jz      6f
        mov     r8, [r10+W_FIRST]
        mov     r9, [r10+W_END]
        test    eax, PHYSICAL
        jnz     3f
        lea     r11, [r12+r13]
        cmp     r12, r9
        jae     6f
        cmp     r11, r8
        ja      hit
        jmp     6f
3:      mov     rax, r12                # bytes on the first page
        or      rax, -4096
        neg     rax
        cmp     rax, r13
        cmova   rax, r13
        lea     r11, [r15+rax]
        cmp     r15, -1
        je      4f
        cmp     r15, r9
        jae     4f
        cmp     r11, r8
        ja      hit
4:      cmp     rax, r13
        je      6f
        mov     rdi, [rsp]              # on the second one
        cmp     rdi, -1
        je      6f
        cmp     rdi, r8
        jb      6f
        and     rdi, -4096
        cmp     rdi, r9
        jb      hit
6:      add     r10, W_SIZE
        jmp     2b
done:   add     rsp, 24
        pop     r15
        pop     r14
        pop     r13
        pop     r12
        pop     rbp
        pop     rbx
        ret

# Breakpoints of the guest's own, which trap behind the instruction: the bits of DR6.
guests: mov     rax, [rip+cell]
        cmp     qword ptr [rax], 0
        je      done
        mov     r9d, [rbx+ENV+ENV_DR7]
        test    r9b, ENABLED
        jz      done
        mov     r11d, r9d
        shr     r11d, 16
        lea     r8, [rbx+ENV+ENV_DR0]
        xor     edi, edi
        mov     r10d, 1
1:      test    r9b, 3
        jz      2f
        mov     eax, r11d
        and     eax, 3
        test    al, 1                   # 1 is stores, 3 loads and stores
        jz      2f
        cmp     eax, 1
        jne     3f
        test    r14d, WRITE
        jz      2f
3:      mov     ecx, r11d               # lengths 1, 2, 8 and 4
        shr     ecx, 2
        and     ecx, 3
        shl     ecx, 3
        mov     edx, 0x03070100
        shr     edx, cl
        and     edx, 7
        mov     eax, [r8]
        mov     ecx, edx
        not     ecx
        and     eax, ecx
        lea     rcx, [r12+r13]
        cmp     rcx, rax
        jbe     2f
        lea     rcx, [rax+rdx+1]
        cmp     r12, rcx
        jae     2f
        or      edi, r10d
2:      shr     r9d, 2
        shr     r11d, 4
        add     r8, 8
        add     r10d, r10d
        cmp     r10d, 16
        jb      1b
        test    edi, edi
        jz      done
        or      [rip+guest_hits], rdi
        cmp     qword ptr [rip+passing], 0
        jne     done
        mov     r15d, GUESTS
        jmp     leave_with

# Physical addresses of the first byte (r15) and of the last ([rsp] of the caller), -1 where the TLB has none.
places: mov     rsi, r12
        call    find
        test    rax, rax
        jz      1f
        mov     r15, [rax+E_PHYSICAL]
        and     r15, -4096
        mov     rcx, r12
        and     ecx, 4095
        or      r15, rcx
1:      lea     rsi, [r12+r13-1]
        call    find
        test    rax, rax
        jz      2f
        mov     rcx, [rax+E_PHYSICAL]
        and     rcx, -4096
        lea     rax, [r12+r13-1]
        and     eax, 4095
        or      rcx, rax
        mov     [rsp+8], rcx
2:      ret

# Python's own access passes; the instruction after a stop passes too, and what it touches is noted.
hit:    mov     rax, [rip+cell]
        cmp     qword ptr [rax], 0
        je      done
        call    places
        call    next_hit
        jae     done
        imul    r10, rax, H_BYTES
        lea     r11, [rip+noted]
        add     r10, r11
        test    rax, rax
        jz      1f
        cmp     rbp, [r10-H_BYTES+H_BACK]       # a byte of the store, or a piece of the load, that was noted
        jne     1f
        cmp     r14, [r10-H_BYTES+H_HOW]
        jne     1f
        mov     rcx, [r10-H_BYTES+H_LINEAR]
        cmp     r12, rcx
        jb      1f
        add     rcx, [r10-H_BYTES+H_SIZE]
        lea     rdx, [r12+r13]
        cmp     rdx, rcx
        jbe     guests
1:      mov     qword ptr [r10+H_KIND], ACCESS
        mov     [r10+H_CPU], rbx
        mov     [r10+H_LINEAR], r12
        mov     [r10+H_PHYSICAL], r15
        mov     [r10+H_SIZE], r13
        mov     [r10+H_HOW], r14
        mov     [r10+H_BACK], rbp
        mov     rcx, [rsp]
        mov     [r10+H_LAST], rcx
        inc     rax
        mov     [rip+hits], rax
        mov     rdi, r10
        call    old_value
        cmp     qword ptr [rip+passing], 0
        jne     guests
leave_run:
        mov     r15d, WATCHED
leave_with:
        mov     rax, [rip+cell]
        mov     rax, [rax]
        mov     [rax+REASON], r15d
        mov     rdi, [rax+ENGINE]
        call    [rax+STOP]
        mov     rdi, rbx
        mov     rsi, rbp
        call    [rip+leave]             # unwinds to the engine's loop

# The number of the next hit in rax; CF unless there is no room.  One that stops the run is the first.
next_hit:
        xor     eax, eax
        cmp     [rip+passing], rax
        cmovne  rax, [rip+hits]
        cmp     rax, MOST_HITS
        ret

# What is there now, for the hit at rdi, where it lies in one page of RAM.
old_value:
        mov     qword ptr [rdi+H_KNOWN], 0
        mov     rsi, r12
        call    find
        test    rax, rax
        jz      2f
        mov     rcx, [rax+E_READ]
        test    r14d, WRITE
        cmovnz  rcx, [rax+E_WRITE]
        test    ecx, E_DEVICE
        jnz     2f
        mov     ecx, r12d
        and     ecx, 4095
        lea     rdx, [rcx+r13]
        cmp     rdx, 4096
        ja      2f
        mov     rdx, r12
        add     rdx, [rax+E_ADDEND]
        sub     ecx, 4088
        jns     1f
        xor     ecx, ecx
1:      sub     rdx, rcx
        mov     rdx, [rdx]
        shl     ecx, 3
        shr     rdx, cl
        mov     [rdi+H_OLD], rdx
        mov     qword ptr [rdi+H_KNOWN], 1
2:      ret

# x86_stl_phys_notdirty(cpu, physical, value): accessed and dirty bits, stored by a walk
        .balign 16
mark:   mov     rax, [rip+cell]
        cmp     qword ptr [rax], 0
        je      9f
        mov     ecx, [rip+count]
        lea     r10, [rip+watches]
        lea     r11, [rsi+4]
1:      sub     ecx, 1
        js      9f
        cmp     rdi, [r10+W_CPU]
        jne     2f
        mov     eax, [r10+W_FLAGS]
        and     eax, WRITE | PHYSICAL
        cmp     eax, WRITE | PHYSICAL
        jne     2f
        cmp     rsi, [r10+W_END]
        jae     2f
        cmp     r11, [r10+W_FIRST]
        ja      3f
2:      add     r10, W_SIZE
        jmp     1b
9:      jmp     [rip+old_mark]
3:      call    next_hit
        jae     9b
        push    rbx
        push    r12
        push    r13
        push    rbp
        sub     rsp, 8
        mov     rbx, rdi
        mov     r12, rsi
        mov     r13d, edx
        call    [rip+load_long]
        mov     ecx, eax
        call    next_hit
        imul    r10, rax, H_BYTES
        lea     r11, [rip+noted]
        add     r10, r11
        mov     qword ptr [r10+H_KIND], WALK
        mov     [r10+H_CPU], rbx
        mov     rdx, [rip+missed]
        mov     [r10+H_LINEAR], rdx
        mov     [r10+H_PHYSICAL], r12
        mov     qword ptr [r10+H_SIZE], 4
        mov     qword ptr [r10+H_HOW], WRITE
        mov     [r10+H_OLD], rcx
        mov     [r10+H_NEW], r13
        mov     rbp, [rip+miss_back]
        mov     qword ptr [r10+H_BACK], -1
        inc     rax
        mov     [rip+hits], rax
        cmp     qword ptr [rip+passing], 0
        je      leave_run
        mov     rdi, rbx
        mov     rsi, r12
        mov     edx, r13d
        add     rsp, 8
        pop     rbp
        pop     r13
        pop     r12
        pop     rbx
        jmp     [rip+old_mark]

# cpu_x86_update_cr3(env, value): the run ends behind the MOV, which ends its block
        .balign 16
load_cr3:
        mov     rax, [rip+cell]
        mov     rax, [rax]
        test    rax, rax
        je      9f
        cmp     qword ptr [rax+PAD_CR3], 0
        je      9f
        push    rbx
        push    r12
        push    r13
        lea     rbx, [rdi-ENV]
        mov     r12, [rdi+ENV_CR3]
        mov     r13d, esi
        call    [rip+old_cr3]
        call    next_hit
        jae     8f
        imul    r10, rax, H_BYTES
        lea     r11, [rip+noted]
        add     r10, r11
        mov     qword ptr [r10+H_KIND], TO_CR3
        mov     [r10+H_CPU], rbx
        mov     rcx, [rbx+ENV+ENV_EIP]
        mov     [r10+H_LINEAR], rcx
        mov     qword ptr [r10+H_PHYSICAL], -1
        mov     qword ptr [r10+H_SIZE], 4
        mov     qword ptr [r10+H_HOW], WRITE
        mov     [r10+H_OLD], r12
        mov     [r10+H_NEW], r13
        mov     qword ptr [r10+H_BACK], -1
        inc     rax
        mov     [rip+hits], rax
        mov     rax, [rip+cell]
        mov     rax, [rax]
        mov     dword ptr [rax+REASON], LOADED
        mov     rdi, [rax+ENGINE]
        call    [rax+STOP]
8:      pop     r13
        pop     r12
        pop     rbx
        ret
9:      jmp     [rip+old_cr3]

# void mode(uc, address, size, pad): a hook before blocks: the CPU's mode is another than before the last one
        .balign 16
mode:   mov     rax, [rcx+PAD_ENV]
        mov     edx, [rax+ENV_FLAGS]
        and     edx, MODES
        mov     r8d, [rax+ENV_EFLAGS]
        and     r8d, VM
        or      edx, r8d
        mov     r8d, [rax+ENV_CR0]
        and     r8d, PG
        or      edx, r8d
        cmp     edx, [rcx+PAD_MODE]
        jne     1f
        ret
1:      mov     [rcx+PAD_MODE], edx
        mov     dword ptr [rcx+REASON], ANOTHER_MODE
        jmp     [rcx+STOP]

# void fetch(uc, address, size, pad): a hook before instructions: is this one at a physical address?  By the TLB; where
# that does not hold the page any more, Python is asked.
        .balign 16
fetch:  cmp     rsi, [rcx+PAD_PASSED]
        mov     qword ptr [rcx+PAD_PASSED], -1
        je      9f
        mov     r8d, [rip+break_count]
        lea     r9, [rip+breaks]
1:      sub     r8d, 1
        js      9f
        mov     r10, [r9]
        add     r9, 8
        mov     eax, r10d
        xor     eax, esi
        test    eax, 4095
        jnz     1b
        push    rbx
        push    rdi
        xor     ebx, ebx                # entries of the page
        mov     r11, [rcx+PAD_ENV]
        mov     edi, 3
2:      mov     rax, rsi
        shr     rax, 12
        mov     rdx, [r11+TLB_MASK]
        shr     rdx, 6
        and     rax, rdx
        shl     rax, 6
        add     rax, [r11+TLB_TABLE]
        call    maps
        je      5f
        add     r11, 16
        dec     edi
        jnz     2b
        mov     rax, [rcx+PAD_ENV]
        add     rax, VICTIMS
        mov     edi, 3
3:      mov     r11d, 8
4:      call    maps
        je      5f
        add     rax, 64
        dec     r11d
        jnz     4b
        add     rax, VICTIM_STRIDE - 512
        dec     edi
        jnz     3b
        test    ebx, ebx
        jnz     6f
        mov     r10, -1
5:      mov     [rip+fetched], r10
        pop     rdi
        pop     rbx
        mov     [rcx+PAD_PASSED], rsi
        mov     dword ptr [rcx+REASON], AT_BREAKPOINT
        jmp     [rcx+STOP]
6:      pop     rdi
        pop     rbx
        jmp     1b
9:      ret

# rax: an entry, rsi: linear, r10: physical.  ZF: it maps the one to the other for fetches.  Changes rdx, counts in ebx.
maps:   mov     rdx, [rax+E_CODE]
        test    edx, 0x800
        jnz     1f
        xor     rdx, rsi
        test    rdx, -4096
        jnz     1f
        inc     ebx
        mov     rdx, [rax+E_PHYSICAL]
        xor     rdx, r10
        test    rdx, -4096
1:      ret
end_of_code:

        .balign 4096
cell:           .quad 0
leave:          .quad 0
count:          .quad 0
physical:       .quad 0
passing:        .quad 0
hits:           .quad 0
filled:         .quad 0
miss_back:      .quad 0
missed:         .quad 0
store_at:       .quad 0
store_back:     .quad 0
old_fill:       .quad 0
old_miss:       .quad 0
old_mark:       .quad 0
old_cr3:        .quad 0
load_long:      .quad 0
load_site:      .quad 0
again:          .quad 0
again_too:      .quad 0
guest_hits:     .quad 0
sites:          .fill 40, 8, 0
noted:          .fill 264, 8, 0
watches:        .fill 512, 8, 0
break_count:    .quad 0
fetched:        .quad 0
breaks:         .fill 16, 8, 0
