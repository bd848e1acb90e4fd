# Runs a script of memory operations from standard input; reports (row, result) pairs on standard output.
#
# A row is eight words: an operation and its arguments.  Operations below 0x1000 are system calls, the others are the
# ones below.  What could be fatal is tried in a child, so that its death is a result like any other.
#
# ebp: the current row.  Descriptor 3 is this program's own file.

        .include "linux.inc"

        .set    ROW, 32
        .set    PROBE, 0x1000               # address: what write(2) finds there, with bit 8 set, or its error
        .set    LOAD, 0x1001                # address: what the program finds there, or a wait status
        .set    STORE, 0x1002               # address, byte: by the program; 0 or a wait status
        .set    STORE_BY_KERNEL, 0x1003     # address, byte: by read(2); 1 or its error
        .set    CALL, 0x1004                # address: a `ret` is stored there if possible, then called; a wait status
        .set    FORK, 0x1005                # n: a child runs the next n rows, this process goes on behind them
        .set    DARE, 0x1006                # address, byte: stored at once, for a forked child that may die of it; 0
        .set    END, 0x1007

        .globl  _start
_start:
        mov     ebp, [esp+4]                # argv[0]
        sys     open, ebp, O_RDONLY
        mov     edi, offset script
1:      sys     read, 0, edi, 65536
        add     edi, eax
        test    eax, eax
        jg      1b
        sys     pipe, "offset ends"
        mov     ebp, offset script

next:   mov     eax, [ebp]
        cmp     eax, END
        je      end
        cmp     eax, PROBE
        jae     special
        push    ebp
        mov     ebx, [ebp+4]
        mov     ecx, [ebp+8]
        mov     edx, [ebp+12]
        mov     esi, [ebp+16]
        mov     edi, [ebp+20]
        mov     ebp, [ebp+24]
        int     0x80
        pop     ebp

# eax: the result of this row
report: mov     [result+4], eax
        mov     eax, ebp
        sub     eax, offset script
        shr     eax, 5
        mov     [result], eax
        sys     write, 1, "offset result", 8
        add     ebp, ROW
        jmp     next

end:    pass

special:
        jmp     [operations + 4*eax - 4*PROBE]

probe:  sys     write, [ends+4], [ebp+4], 1
        cmp     eax, 1
        jne     report
        sys     read, [ends], "offset got", 1
        movzx   eax, byte ptr [got]
        or      eax, 0x100
        jmp     report

# In each of the following the child does it first; if it survives, this process does it too.
load:   fork_to load_here
        call    fate
        jnz     report
        mov     ecx, [ebp+4]
        movzx   eax, byte ptr [ecx]
        or      eax, 0x100
        jmp     report
load_here:
        mov     ecx, [ebp+4]
        mov     al, [ecx]
        pass

store:  fork_to store_here
        call    fate
        jnz     report
        mov     ecx, [ebp+4]
        mov     dl, [ebp+8]
        mov     [ecx], dl
        jmp     report
store_here:
        mov     ecx, [ebp+4]
        mov     dl, [ebp+8]
        mov     [ecx], dl
        pass

dare:   mov     ecx, [ebp+4]
        mov     al, [ebp+8]
        mov     [ecx], al
        xor     eax, eax
        jmp     report

store_by_kernel:
        call    put
        jmp     report

call:   fork_to call_here
        call    fate
        jmp     report
call_here:
        mov     dword ptr [ebp+8], 0xC3
        call    put
        call    [ebp+4]
        pass

fork:   fork_to branch
        call    fate
        mov     ecx, [ebp+4]
        shl     ecx, 5
        add     ebp, ecx
        jmp     report
branch: mov     ecx, [ebp+4]
        inc     ecx
        shl     ecx, 5
        mov     dword ptr [ebp+ecx], END
        add     ebp, ROW
        jmp     next

# eax: the wait status of the child, without the core bit; ZF: it is 0
fate:   wait_child
        and     eax, 0xFFFFFF7F
        ret

# Let read(2) put the row's byte where it says.  eax: 1 or the error
put:    lea     ecx, [ebp+8]
        sys     write, [ends+4], ecx, 1
        sys     read, [ends], [ebp+4], 1
        cmp     eax, 1
        je      2f
        push    eax
        sys     read, [ends], "offset got", 1
        pop     eax
2:      ret

        .section .rodata
operations:
        .long   probe, load, store, store_by_kernel, call, fork, dare

        .bss
ends:   .skip   8
result: .skip   8
got:    .skip   4
        .balign PAGE
script: .skip   256<<10
