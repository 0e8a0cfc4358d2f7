; Exceptions become signals with the trap's number, error code and address. Each handler steps over the instruction,
; which is two bytes long.
%include "check.inc"
        handle SIGSEGV, fault
        handle SIGFPE, fault
        handle SIGILL, fault
        handle SIGTRAP, trap

        ; A write to nothing: mapping error, user write.
        mov ebx, 0x1000
        mov [ebx], eax
        cmp dword [signal], SIGSEGV
        check e
        cmp dword [code], 1
        check e
        cmp dword [address], 0x1000
        check e
        cmp dword [number], 14
        check e
        cmp dword [error_code], 6
        check e
        cmp dword [last_cr2], 0x1000
        check e

        ; A read from a page without access.
        call_kernel SYS_mprotect, page, 4096, 0
        test eax, eax
        check z
        mov ebx, page
        mov eax, [ebx]
        cmp dword [code], 2
        check e
        cmp dword [error_code], 4
        check be
        cmp dword [last_cr2], page
        check e

        ; A division by zero.
        xor edx, edx
        xor ecx, ecx
.divide:
        div ecx
        cmp dword [signal], SIGFPE
        check e
        cmp dword [code], 1
        check e
        cmp dword [address], .divide
        check e
        cmp dword [number], 0
        check e

        ; An illegal instruction.
.illegal:
        ud2
        cmp dword [signal], SIGILL
        check e
        cmp dword [code], 2
        check e
        cmp dword [address], .illegal
        check e
        cmp dword [number], 6
        check e

        ; A gate that is closed to programs.
        int 0x21
        cmp dword [signal], SIGSEGV
        check e
        cmp dword [code], 0x80
        check e
        cmp dword [number], 13
        check e
        cmp dword [error_code], 0x21 * 8 + 2
        check e
        ; CR2 stays what the last page fault made it.
        cmp dword [last_cr2], page
        check e

        ; A breakpoint is reported behind itself.
        int3
        cmp dword [signal], SIGTRAP
        check e
        cmp dword [code], 0x80
        check e
        cmp dword [number], 3
        check e
        finish

on_fault:
        mov ecx, [esp + 12]
        add dword [ecx + 20 + 56], 2
on_trap:
        mov eax, [esp + 4]
        mov [signal], eax
        mov ecx, [esp + 8]
        mov eax, [ecx + 8]
        mov [code], eax
        mov eax, [ecx + 12]
        mov [address], eax
        mov ecx, [esp + 12]
        mov eax, [ecx + 20 + 48]
        mov [number], eax
        mov eax, [ecx + 20 + 52]
        mov [error_code], eax
        mov eax, [ecx + 20 + 84]
        mov [last_cr2], eax
        ret

action fault, on_fault, SA_SIGINFO
action trap, on_trap, SA_SIGINFO
signal: dd 0
code:   dd 0
address: dd 0
number: dd 0
error_code: dd 0
last_cr2: dd 0
        align 4096
page:   times 4096 db 0
