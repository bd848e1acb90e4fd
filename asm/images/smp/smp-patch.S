# A loop is patched while another CPU runs it.
#
#   parent (CPU 0)                    child (CPU 1)
#                                     forever: shared := 1
#   waits until shared is 1
#   patches the immediate to 2
#   waits until shared is 2           forever: shared := 2
#
# The code page and the word are shared memory, writable and, the first, executable.  Every processor sees stores to code
# that it runs sooner or later (SDM 3A, 8.1.3 asks for a serializing instruction before it can be relied on); one that kept
# its old translation for ever would leave the parent waiting, so it gives up after a while.  The loop is the last thing in
# its page.

        .include "linux.inc"

        .set    MAP_SHARED, 1
        .set    ROUNDS, 1500
        .set    MOMENT, 100000                          # nanoseconds
        .set    LOOP_BYTES, 9

        .macro  await value, status
        mov     esi, ROUNDS
1:      mov     ecx, 10000
3:      cmp     dword ptr [edi], \value
        je      2f
        loop    3b
        sys     nanosleep, "offset moment", 0
        dec     esi
        jnz     1b
        sys     kill, ebp, SIGKILL
        sys     exit, \status
2:
        .endm

        .set    SYS_kill, 37

        .globl  _start
_start:
        map_pages 1, 0, PROT_READ|PROT_WRITE|PROT_EXEC, MAP_SHARED|MAP_ANONYMOUS
        push    eax
        map_pages 1, 0, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_ANONYMOUS
        mov     [cell_at], eax
        pop     edi
        add     edi, PAGE-LOOP_BYTES
        mov     [code_at], edi
        mov     byte ptr [edi], 0xB8                    # mov eax, imm32
        mov     dword ptr [edi+1], 1
        mov     dword ptr [edi+5], 0xF7EB0389           # mov [ebx], eax; jmp to the start

        fork_to child
        mov     ebp, eax
        mov     edi, [cell_at]
        await   1, 1
        mov     esi, [code_at]
        mov     dword ptr [esi+1], 2
        await   2, 2
        sys     kill, ebp, SIGKILL
        expect_killed SIGKILL, 3
        say     "smp-patch: the loop took the new constant\n"
        pass

child:  mov     ebx, [cell_at]
        jmp     [code_at]

        .section .rodata
moment: .long   0, MOMENT

        .bss
code_at: .skip   4
cell_at: .skip   4
