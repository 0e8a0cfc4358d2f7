; The alternate stack: used when asked for, not twice, and given up by handlers that jump out.
%include "check.inc"
        handle SIGSEGV, over
        handle SIGUSR1, under
        call_kernel SYS_sigaltstack, alternate, 0
        test eax, eax
        check z
        call_kernel SYS_getpid
        mov [pid], eax
        mov [stack], esp

        ; A stack pointer that leads nowhere: only the alternate stack has room for the frame.
        mov esp, 0x2000
        push eax
        mov esp, [stack]
        cmp dword [hits], 1
        check e
        call_kernel SYS_sigaltstack, 0, old
        cmp dword [old + 4], 0
        check e

        ; Without SA_ONSTACK the handler runs below ESP.
        call_kernel SYS_kill, [pid], SIGUSR1
        cmp dword [hits], 2
        check e

        ; Without any room it is the end.
        mov dword [alternate + 4], 2
        call_kernel SYS_sigaltstack, alternate, 0
        mov esp, 0x2000
        push eax

on_over:
        lea eax, [memory]
        cmp esp, eax
        check a
        lea eax, [memory + 8192]
        cmp esp, eax
        check b
        mov ebp, esp
        call_kernel SYS_sigaltstack, 0, old
        cmp dword [old + 4], 1
        check e
        call_kernel SYS_sigaltstack, alternate, 0
        cmp eax, -1
        check e
        ; PUSH EAX is one byte.
        mov ecx, [esp + 12]
        inc dword [ecx + 20 + 56]
        inc dword [hits]
        ret

on_under:
        cmp esp, [stack]
        check b
        mov eax, [stack]
        sub eax, esp
        cmp eax, 4096
        check b
        inc dword [hits]
        ret

action over, on_over, SA_SIGINFO | SA_ONSTACK
action under, on_under, 0
alternate: dd memory, 0, 8192
old:    dd 0, 0, 0
pid:    dd 0
hits:   dd 0
stack:  dd 0
        align 16
memory: times 8192 db 0
