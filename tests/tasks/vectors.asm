; Vector registers and MXCSR: exceptions become SIGFPE with their code, a handler starts with fresh ones, finds the
; interrupted ones in its frame and may change them there; children inherit them.
%include "check.inc"
        handle SIGFPE, fault
        handle SIGSEGV, fault
        handle SIGUSR1, look

        ; Each exception of SSE by itself, unmasked. The handler masks all of them in the frame, so that the
        ; instruction is completed then.
        %macro raises 5 ; mask bit, instruction, operands, code
        mov dword [signal], 0
        mov dword [mxcsr], 0x1f80 & ~(%1 << 7)
        ldmxcsr [mxcsr]
        movss xmm0, [%3]
        movss xmm1, [%4]
%%at:   %2 xmm0, xmm1
        cmp dword [signal], SIGFPE
        check e
        cmp dword [code], %5
        check e
        cmp dword [address], %%at
        check e
        cmp dword [number], 19
        check e
        cmp dword [error_code], 0
        check e
        stmxcsr [mxcsr]
        test dword [mxcsr], %1
        check nz
        %endmacro
        raises 1, divss, zero, zero, 7
        raises 2, addss, tiny, one, 5
        raises 4, divss, one, zero, 3
        raises 8, mulss, huge, huge, 4
        raises 16, mulss, small, small, 5
        raises 32, divss, one, three, 6
        ; Of several the first in Linux's order counts.
        mov dword [mxcsr], 0
        ldmxcsr [mxcsr]
        movss xmm0, [huge]
        mov dword [signal], 0
        mulss xmm0, xmm0
        cmp dword [code], 4
        check e

        ; An operand that is not aligned is a general protection fault.
        mov dword [signal], 0
        mov dword [skip], 7
        movaps xmm0, [image + 1]
        mov dword [skip], 0
        cmp dword [signal], SIGSEGV
        check e
        cmp dword [number], 13
        check e

        ; A handler starts with MXCSR as at the start of a program and zeros, and what it leaves is lost ...
        call_kernel SYS_getpid
        mov [pid], eax
        mov dword [mxcsr], 0x7fa1
        ldmxcsr [mxcsr]
        movups xmm0, [pattern]
        movaps xmm7, xmm0
        movq mm3, [pattern]
        call_kernel SYS_kill, [pid], SIGUSR1
        cmp dword [looked], 1
        check e
        stmxcsr [mxcsr]
        cmp dword [mxcsr], 0x7fa1
        check e
        movups [image], xmm7
        cmp dword [image], 0x11223344
        check e
        movq [image], mm3
        cmp dword [image + 4], 0x55667788
        check e
        ; ... but for what it changed in its frame.
        movups [image], xmm0
        cmp dword [image + 8], 0xabcdef01
        check e
        emms

        ; A child has them, too.
        movups xmm5, [pattern]
        call_kernel SYS_fork
        test eax, eax
        jnz .parent
        movups [image], xmm5
        mov ebx, [image + 12]
        xor ebx, 0xddeeff00
        stmxcsr [mxcsr]
        mov ecx, [mxcsr]
        xor ecx, 0x7fa1
        or ebx, ecx
        jz .same
        mov ebx, 1
.same:
        mov eax, 1
        int 0x80
.parent:
        call_kernel SYS_wait4, eax, status, 0, 0
        cmp dword [status], 0
        check e
        movups [image], xmm5
        cmp dword [image], 0x11223344
        check e
        finish

on_look:
        stmxcsr [seen]
        cmp dword [seen], 0x1f80
        check e
        movups [image], xmm7
        cmp dword [image], 0
        check e
        fnstenv [image]
        cmp word [image + 8], 0xffff
        check e
        ; FXSAVE's image in the frame: MXCSR, XMM0 and XMM7.
        mov ecx, [esp + 12]
        mov eax, [ecx + 20 + 76]
        cmp dword [eax + 112 + 24], 0x7fa1
        check e
        cmp dword [eax + 112 + 160], 0x11223344
        check e
        cmp dword [eax + 112 + 160 + 7 * 16 + 12], 0xddeeff00
        check e
        ; MM3 in both images.
        cmp dword [eax + 112 + 32 + 3 * 16], 0x11223344
        check e
        cmp dword [eax + 28 + 3 * 10], 0x11223344
        check e
        mov dword [eax + 112 + 160 + 8], 0xabcdef01
        xorps xmm7, xmm7
        mov dword [seen], 0x9fc0
        ldmxcsr [seen]
        inc dword [looked]
        ret

on_fault:
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
        mov eax, [skip]
        add [ecx + 20 + 56], eax
        mov eax, [ecx + 20 + 76]
        or dword [eax + 112 + 24], 0x1f80
        ret

action fault, on_fault, SA_SIGINFO
action look, on_look, SA_SIGINFO
zero:   dd 0
tiny:   dd 1
small:  dd 0x00800000
one:    dd 0x3f800000
three:  dd 0x40400000
huge:   dd 0x7f7fffff
skip:   dd 0
signal: dd 0
code:   dd 0
address: dd 0
number: dd 0
error_code: dd 0
looked: dd 0
seen:   dd 0
mxcsr:  dd 0
pid:    dd 0
status: dd 0
        align 16
pattern: dd 0x11223344, 0x55667788, 0x99aabbcc, 0xddeeff00
image:  times 64 db 0
