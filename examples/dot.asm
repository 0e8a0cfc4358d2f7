; The x87: the dot product of (1 2 3 4 5 6) and (6 5 4 3 2 1), rounded to an integer, is the exit status: 56.
bits 32

SYS_EXIT equ 1

section .text
global _start
_start:
    fninit
    fldz
    xor ecx, ecx
next_pair:
    fld dword [left + 4 * ecx]
    fmul dword [right + 4 * ecx]
    faddp st1, st0
    inc ecx
    cmp ecx, length
    jne next_pair

    fistp dword [result]
    mov ebx, [result]
    mov eax, SYS_EXIT
    int 0x80

section .data
left:   dd 1.0, 2.0, 3.0, 4.0, 5.0, 6.0
length  equ ($ - left) / 4
right:  dd 6.0, 5.0, 4.0, 3.0, 2.0, 1.0
result: dd 0
