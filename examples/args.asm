; A static ELF file written out by hand (System V ABI, "Object Files"): prints its arguments, one a line,
; and exits with their number, the program's own name included.
;
;     nasm -f bin -o args.elf args.asm && table86 run args.elf one two
bits 32
org 0x08048000

SYS_EXIT  equ 1
SYS_WRITE equ 4
STDOUT    equ 1

file_header:
    db 0x7f, "ELF", 1, 1, 1, 0          ; 32 bits, little-endian, ELF version 1, System V
    times 8 db 0
    dw 2                                ; ET_EXEC
    dw 3                                ; EM_386
    dd 1                                ; version
    dd _start
    dd program_header - file_header
    dd 0                                ; no section headers
    dd 0                                ; flags
    dw program_header - file_header     ; size of this header
    dw program_header_end - program_header
    dw 1                                ; one program header
    dw 0, 0, 0                          ; no sections

program_header:
    dd 1                                ; PT_LOAD
    dd 0                                ; offset in the file
    dd file_header                      ; virtual address
    dd file_header                      ; physical address
    dd file_end - file_header           ; bytes in the file
    dd file_end - file_header           ; bytes in memory
    dd 5                                ; PF_R | PF_X
    dd 0x1000                           ; alignment
program_header_end:

_start:
    mov ebp, [esp]                      ; argc
    lea esi, [esp + 4]                  ; argv
next_argument:
    mov edi, [esi]
    test edi, edi
    jz done
    mov ecx, -1
    xor eax, eax
    cld
    repne scasb
    not ecx
    dec ecx                             ; strlen
    mov edx, ecx
    mov ecx, [esi]
    call write
    mov ecx, newline
    mov edx, 1
    call write
    add esi, 4
    jmp next_argument
done:
    mov ebx, ebp
    mov eax, SYS_EXIT
    int 0x80

; Writes edx bytes from ecx.
write:
    mov ebx, STDOUT
    mov eax, SYS_WRITE
    int 0x80
    ret

newline: db 10
file_end:
