# One instruction with a given floating-point state: run_x87(state), run_sse(state).
        .intel_syntax noprefix
        .section .note.GNU-stack, "", @progbits
        .text

        .set    CODE, 0                 # struct state of fpvectors.c
        .set    EFL, 4
        .set    RESULT, 8
        .set    LOADED, 12              # esi
        .set    STORED, 16              # edi
        .set    BEFORE, 32
        .set    AFTER, 544

        .macro  run name, restore, save
        .globl  \name
\name:  push    ebp
        push    ebx
        push    esi
        push    edi
        mov     ebx, [esp+20]
        \restore [ebx+BEFORE]
        mov     eax, [ebx+RESULT]
        mov     esi, [ebx+LOADED]
        mov     edi, [ebx+STORED]
        push    dword ptr [ebx+EFL]
        popfd
        call    [ebx+CODE]
        pushfd
        pop     dword ptr [ebx+EFL]
        mov     [ebx+RESULT], eax
        \save   [ebx+AFTER]
        pop     edi
        pop     esi
        pop     ebx
        pop     ebp
        ret
        .endm
        run     run_x87, frstor, fnsave
        run     run_sse, fxrstor, fxsave
