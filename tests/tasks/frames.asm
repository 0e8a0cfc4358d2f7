; A handler sees the interrupted registers and may change them; everything else comes back as it was.
%include "check.inc"
        handle SIGUSR1, plain
        handle SIGTERM, informed
        call_kernel SYS_getpid
        mov [pid], eax

        mov ebp, 0x12345678
        std
        stc
        call_kernel SYS_kill, [pid], SIGUSR1
        jnc .lost
        pushf
        cld
        pop dword [flags]
        test dword [flags], 0x400
        check nz
        test eax, eax
        check z
        cmp ebp, 0x12345678
        check e
        cmp dword [hits], 1
        check e

        mov edi, 5
        call_kernel SYS_kill, [pid], SIGTERM
        ; The handler left a mark in EDI's place and unblocked nothing.
        cmp edi, 77
        check e
        cmp dword [hits], 2
        check e
        finish
.lost:
        cld
        cmp eax, eax
        check ne

on_plain:
        mov [entry_eax], eax
        lea eax, [esp + 4]
        test eax, 15
        check z
        cmp dword [esp + 4], SIGUSR1
        check e
        cmp dword [entry_eax], SIGUSR1
        check e
        pushf
        test dword [esp], 0x400
        check z
        popf
        ; EBP in the sigcontext behind the signal's number
        cmp dword [esp + 8 + 24], 0x12345678
        check e
        ; The mask at the handler's end holds nothing; meanwhile the signal is blocked.
        cmp dword [esp + 8 + 80], 0
        check e
        call_kernel SYS_rt_sigprocmask, 0, 0, set, 8
        cmp dword [set], 1 << (SIGUSR1 - 1)
        check e
        inc dword [hits]
        mov ebp, 0
        stc
        ret

on_informed:
        mov esi, [esp + 8]
        lea eax, [esp + 16]
        cmp esi, eax
        check e
        cmp dword [esi], SIGTERM
        check e
        cmp dword [esi + 8], 0
        check e
        mov eax, [pid]
        cmp [esi + 12], eax
        check e
        mov esi, [esp + 12]
        lea eax, [esp + 144]
        cmp esi, eax
        check e
        cmp dword [esi + 20 + 16], 5
        check e
        mov dword [esi + 20 + 16], 77
        ; fpstate: FSAVE's image, then FXSAVE's with software bytes
        mov eax, [esi + 20 + 76]
        test eax, eax
        check nz
        cmp word [eax + 112 - 2], 0
        check e
        cmp dword [eax + 112 + 464], 0x46505853
        check e
        mov ebx, [eax + 112 + 464 + 4]
        cmp dword [eax + ebx - 4], 0x46505845
        check e
        inc dword [hits]
        ret

action plain, on_plain, 0
action informed, on_informed, SA_SIGINFO
pid:    dd 0
hits:   dd 0
flags:  dd 0
set:    dd 0, 0
entry_eax: dd 0
