; Copies standard input to standard output in upper case. The buffer lies in .bss, so after the flat image's
; last byte: memory there must be zero and writable. Exits with 1 when a read or a write fails.
bits 32

SYS_EXIT  equ 1
SYS_READ  equ 3
SYS_WRITE equ 4
STDIN     equ 0
STDOUT    equ 1

section .text
global _start
_start:
    cld
read_more:
    mov ebx, STDIN
    mov ecx, buffer
    mov edx, buffer_length
    mov eax, SYS_READ
    int 0x80
    test eax, eax
    js failed
    jz done

    mov ebp, eax
    mov ecx, eax
    mov esi, buffer
    mov edi, buffer
convert:
    lodsb
    cmp al, 'a'
    jb keep
    cmp al, 'z'
    ja keep
    sub al, 'a' - 'A'
keep:
    stosb
    dec ecx
    jnz convert

    mov esi, buffer
write_more:
    mov ebx, STDOUT
    mov ecx, esi
    mov edx, ebp
    mov eax, SYS_WRITE
    int 0x80
    test eax, eax
    jle failed
    add esi, eax
    sub ebp, eax
    jnz write_more
    jmp read_more

failed:
    mov ebx, 1
    jmp exit
done:
    xor ebx, ebx
exit:
    mov eax, SYS_EXIT
    int 0x80

section .bss
buffer: resb 4096
buffer_length equ $ - buffer
