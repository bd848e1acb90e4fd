# Two CPUs, one piece of code: CPU 0 changes an instruction that CPU 1 executes all the time.

        .include "rom.inc"
        .include "rom-smp.inc"

main:
        call    start_other
        wait_until rounds, 100, ae, 1
        cmp     dword ptr [seen], 1
        fail_if ne, 2
        cmp     dword ptr [starts], 1           # the second start-up interrupt found it running
        fail_if ne, 6
        say     "CPU 1 runs the old instruction"
        mov     byte ptr [patched + 1], 2
        wait_until seen, 2, e, 3
        say     "and, some time after the store, the new one"
        mov     dword ptr [rounds], 0
        wait_until rounds, 100, ae, 4
        cmp     dword ptr [seen], 2
        fail_if ne, 5
        xor     eax, eax
        ret

other:
1:      call    routine
        mov     [seen], eax
        lock inc dword ptr [rounds]
        jmp     1b

        .balign 64
routine:
patched: mov    eax, 1
        ret
        .balign 64

        .data
rounds: .long   0
seen:   .long   0
