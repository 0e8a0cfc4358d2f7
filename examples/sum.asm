; Adds the numbers from 1 to 100, prints the sum in decimal and exits with its low byte (5050 & 255 = 186).
bits 32

SYS_EXIT  equ 1
SYS_WRITE equ 4
STDOUT    equ 1

section .text
global _start
_start:
    xor eax, eax
    mov ecx, 100
add_next:
    add eax, ecx
    loop add_next
    mov esi, eax

    mov edi, digits_end
    mov ebx, 10
next_digit:
    xor edx, edx
    div ebx
    add dl, '0'
    dec edi
    mov [edi], dl
    test eax, eax
    jnz next_digit

    mov ecx, edi
    mov edx, line_end
    sub edx, edi
    mov ebx, STDOUT
    mov eax, SYS_WRITE
    int 0x80

    movzx ebx, si
    and ebx, 0xff
    mov eax, SYS_EXIT
    int 0x80

section .data
digits:     times 10 db 0
digits_end: db 10
line_end:
