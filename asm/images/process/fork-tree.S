# A tree of 15 processes that count themselves, through pipes.
#
#   node(depth)     a leaf sends 1 to its parent; the others make a pipe, fork two nodes of depth - 1, add what the two
#                   send, add 1 for themselves, and send that up
#
# A parent usually comes to its read before its children have anything to say: read(2) on an empty pipe has to wait, as
# long as somebody may still write.  Every node has the same code and data at the same addresses; what differs is in
# registers and on the stack, which fork copied.
#
# Faults: the stack page of each new process: user write protection -> cow-copy.

        .include "linux.inc"

        .set    DEPTH, 3

        .globl  _start
_start:
        mov     esi, DEPTH                  # esi: levels below this node
        mov     edi, -1                     # edi: where to send the result; the root keeps it

node:   mov     ebp, 1                      # ebp: nodes in this subtree
        test    esi, esi
        jz      report
        sub     esp, 8                      # the two ends of this node's pipe
        sys     pipe, esp
        expect  eax, 0, 1
        fork_to below
        fork_to below
        call    add_child
        call    add_child
        expect_exit 0, 2
        expect_exit 0, 3

report: cmp     edi, -1
        je      root
        push    ebp
        sys     write, edi, esp, 4
        expect  eax, 4, 4
        pass

root:   expect  ebp, (2<<DEPTH)-1, 5
        say     "fork-tree: 15 nodes\n"
        pass

below:  dec     esi
        mov     edi, [esp+4]                # the parent's end for writing
        jmp     node

# ebp: plus the number that a child sends
add_child:
        push    0
        sys     read, [esp+8], esp, 4
        expect  eax, 4, 6
        pop     eax
        add     ebp, eax
        ret
