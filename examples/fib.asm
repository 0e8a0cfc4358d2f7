; Recursion on the stack: prints the Fibonacci numbers up to fib(20), one a line.
bits 32

SYS_EXIT  equ 1
SYS_WRITE equ 4
STDOUT    equ 1
LAST      equ 20

section .text
global _start
_start:
    xor esi, esi
next_number:
    push esi
    call fib
    add esp, 4
    call print_line
    inc esi
    cmp esi, LAST
    jbe next_number

    xor ebx, ebx
    mov eax, SYS_EXIT
    int 0x80

; eax = fib(n), n being the argument on the stack.
fib:
    push ebp
    mov ebp, esp
    push ebx
    mov eax, [ebp + 8]
    cmp eax, 2
    jb .small
    dec eax
    push eax
    call fib
    mov ebx, eax
    dec dword [esp]
    call fib
    add esp, 4
    add eax, ebx
.small:
    pop ebx
    leave
    ret

; Prints eax in decimal and a newline.
print_line:
    pusha
    mov edi, line_end - 1
    mov ebx, 10
.digit:
    xor edx, edx
    div ebx
    add edx, '0'
    dec edi
    mov [edi], dl
    test eax, eax
    jnz .digit
    mov ecx, edi
    mov edx, line_end
    sub edx, edi
    mov ebx, STDOUT
    mov eax, SYS_WRITE
    int 0x80
    popa
    ret

section .data
line:     times 10 db 0
          db 10
line_end:
