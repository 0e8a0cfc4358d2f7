; Threads: shared memory, LOCK across pages, the word that is cleared at a thread's end, code that another thread has
; changed, and exit_group while a thread runs.
%include "check.inc"

SYS_exit_group equ 252
SYS_gettid equ 224
SYS_futex equ 240
SYS_clone equ 120

; CLONE_VM | FS | FILES | SIGHAND | THREAD | SYSVSEM | PARENT_SETTID | CHILD_CLEARTID
THREAD equ 0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000 | 0x100000 | 0x200000
ROUNDS equ 50000

; Starts a thread at %1 on the stack that ends at %2. Its id is at `tid` until it ends.
%macro start_thread 2
        mov ebp, %1
        call_kernel SYS_clone, THREAD, %2, tid, 0, tid
        test eax, eax
        jnz %%parent
        jmp ebp
%%parent:
        check g
        mov [started], eax
%endmacro

; Waits for the end of the thread.
%macro join 0
%%again:
        mov edx, [tid]
        test edx, edx
        jz %%ended
        call_kernel SYS_futex, tid, 0, edx, 0
        jmp %%again
%%ended:
%endmacro

        ; Both count, one dword in a page's middle and eight bytes across a page's end.
        start_thread count_and_exit, stack_1
        call count
        join
        cmp dword [counted], 2 * ROUNDS
        check e
        cmp dword [wide], 2 * ROUNDS
        check e
        cmp dword [wide + 4], 2 * ROUNDS
        check e
        mov eax, [seen_tid]
        cmp eax, [started]
        check e

        ; The thread waits for each version and calls what has been written before it.
        start_thread follow, stack_1
        mov esi, 1
.write:
        mov [function + 1], esi
        mov [version], esi
.wait:
        cmp [followed], esi
        jne .wait
        inc esi
        cmp esi, 100
        jbe .write
        join
        cmp dword [wrong], 0
        check e

        ; CLONE_THREAD needs CLONE_SIGHAND.
        call_kernel SYS_clone, 0x10100, stack_1, 0, 0, 0
        cmp eax, -22
        check e

        start_thread spin, stack_1
        start_thread end_all, stack_2
        call_kernel SYS_pause
        call_kernel 1, 99

count_and_exit:
        call_kernel SYS_gettid
        mov [seen_tid], eax
        call count
        call_kernel 1, 55

count:
        mov ebp, ROUNDS
.next:
        lock inc dword [counted]
        mov eax, [wide]
        mov edx, [wide + 4]
.again:
        mov ebx, eax
        mov ecx, edx
        add ebx, 1
        add ecx, 1
        lock cmpxchg8b [wide]
        jne .again
        dec ebp
        jnz .next
        ret

follow:
        mov esi, 1
.wait:
        cmp [version], esi
        jne .wait
        call function
        cmp eax, esi
        je .good
        inc dword [wrong]
.good:
        mov [followed], esi
        inc esi
        cmp esi, 100
        jbe .wait
        call_kernel 1, 0

spin:
        jmp spin

end_all:
        call_kernel SYS_exit_group, 0

counted:  dd 0
started:  dd 0
seen_tid: dd 0
tid:      dd 0
version:  dd 0
followed: dd 0
wrong:    dd 0

        align 4096
function:
        mov eax, 0
        ret

        times 4096 - 4 - ($ - function) db 0
wide:   dq 0

        align 4096
        times 4096 db 0
stack_1:
        times 4096 db 0
stack_2:
