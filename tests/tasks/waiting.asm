; Signals and calls that wait: EINTR, restart, sigsuspend, pending and timed waits.
%include "check.inc"
        call_kernel SYS_getpid
        mov [pid], eax
        call_kernel SYS_pipe, ends

        ; Without SA_RESTART a read is interrupted.
        handle SIGALRM, interrupting
        call_kernel SYS_setitimer, 0, often, 0
        call_kernel SYS_read, [ends], buffer, 1
        cmp eax, -EINTR
        check e
        cmp dword [hits], 0
        check ne

        ; With it the read goes on, and gets what the handler wrote.
        handle SIGALRM, restarting
        call_kernel SYS_read, [ends], buffer, 1
        cmp eax, 1
        check e
        cmp byte [buffer], 'x'
        check e
        call_kernel SYS_setitimer, 0, never, 0

        ; A blocked signal is pending until sigsuspend lets it through.
        handle SIGUSR1, counting
        call_kernel SYS_rt_sigprocmask, 0, usr1, 0, 8
        call_kernel SYS_kill, [pid], SIGUSR1
        cmp dword [counted], 0
        check e
        call_kernel SYS_rt_sigpending, set, 8
        cmp dword [set], 1 << (SIGUSR1 - 1)
        check e
        call_kernel SYS_rt_sigsuspend, none, 8
        cmp eax, -EINTR
        check e
        cmp dword [counted], 1
        check e
        call_kernel SYS_rt_sigprocmask, 0, 0, set, 8
        cmp dword [set], 1 << (SIGUSR1 - 1)
        check e

        ; A blocked signal can be waited for, and then no handler runs.
        call_kernel SYS_kill, [pid], SIGUSR1
        call_kernel SYS_rt_sigtimedwait, usr1, info, 0, 8
        cmp eax, SIGUSR1
        check e
        cmp dword [info], SIGUSR1
        check e
        mov eax, [pid]
        cmp [info + 12], eax
        check e
        cmp dword [counted], 1
        check e
        call_kernel SYS_rt_sigtimedwait, usr1, info, soon, 8
        cmp eax, -EAGAIN
        check e

        ; SIGSEGV from outside is a signal like any other: blocked, pending, delivered when it is unblocked.
        handle SIGSEGV, counting
        call_kernel SYS_rt_sigprocmask, 0, segv, 0, 8
        call_kernel SYS_kill, [pid], SIGSEGV
        call_kernel SYS_rt_sigpending, set, 8
        cmp dword [set], 1 << (SIGSEGV - 1)
        check e
        cmp dword [counted], 1
        check e
        call_kernel SYS_rt_sigprocmask, 1, segv, 0, 8
        cmp dword [counted], 2
        check e

        ; A loop without calls is interrupted too.
        handle SIGALRM, counting
        call_kernel SYS_setitimer, 0, often, 0
.loop:
        cmp dword [counted], 3
        jb .loop
        finish

on_interrupting:
        inc dword [hits]
        ret
on_restarting:
        push ebx
        call_kernel SYS_write, [ends + 4], letter, 1
        pop ebx
        ret
on_counting:
        inc dword [counted]
        ret

action interrupting, on_interrupting, 0
action restarting, on_restarting, SA_RESTART
action counting, on_counting, 0
pid:    dd 0
hits:   dd 0
counted: dd 0
ends:   dd 0, 0
often:  dd 0, 20000, 0, 20000
never:  dd 0, 0, 0, 0
soon:   dd 0, 1000000
usr1:   dd 1 << (SIGUSR1 - 1), 0
segv:   dd 1 << (SIGSEGV - 1), 0
none:   dd 0, 0
set:    dd 0, 0
letter: db 'x'
buffer: db 0
        align 4
info:   times 128 db 0
