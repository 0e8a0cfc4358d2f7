; Writes a line and exits: two system calls by int 0x80. hello.hex is the same program, assembled by hand.
;
; As a flat image, loaded and entered at address 0:
;     nasm -f bin -o hello.bin hello.asm && table86 run --as flat hello.bin
bits 32

SYS_EXIT  equ 1
SYS_WRITE equ 4
STDOUT    equ 1

section .text
global _start
_start:
    mov ebx, STDOUT
    mov ecx, message
    mov edx, message_length
    mov eax, SYS_WRITE
    int 0x80

    xor ebx, ebx
    mov eax, SYS_EXIT
    int 0x80
    hlt                                 ; never reached

message: db "Hello, world!", 10
message_length equ $ - message
