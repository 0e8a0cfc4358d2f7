; fork gives a copy of memory, vfork memory itself; wait4 tells how each child ended.
%include "check.inc"
        call_kernel SYS_fork
        test eax, eax
        jnz .parent
        mov dword [shared], 1
        call_kernel 1, 3
.parent:
        check g
        mov [child], eax
        call_kernel SYS_wait4, -1, status, 0, 0
        cmp eax, [child]
        check e
        cmp dword [status], 3 << 8
        check e
        cmp dword [shared], 0
        check e

        mov ebp, esp
        call_kernel SYS_vfork
        test eax, eax
        jnz .waited
        mov dword [shared], 2
        sub esp, 64
        mov ebp, 0
        call_kernel SYS_kill, 0, 0
        call_kernel 1, 4
.waited:
        check g
        cmp ebp, esp
        check e
        cmp dword [shared], 2
        check e
        call_kernel SYS_wait4, -1, status, 0, 0
        cmp dword [status], 4 << 8
        check e

        ; A child that a signal ends.
        call_kernel SYS_fork
        test eax, eax
        jnz .kill
        call_kernel SYS_pause
        call_kernel 1, 0
.kill:
        mov [child], eax
        call_kernel SYS_kill, [child], SIGTERM
        call_kernel SYS_wait4, [child], status, 0, 0
        cmp dword [status], SIGTERM
        check e
        call_kernel SYS_wait4, -1, status, 0, 0
        cmp eax, -10
        check e
        finish

shared: dd 0
child:  dd 0
status: dd -1
