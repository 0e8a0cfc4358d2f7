//! Bytes and their text.

use super::text;
use crate::isa::decode;

/// `bytes => text`, at address 0x1000.
const CASES: &str = "
66 0f 78 c1 04 08    => extrq xmm1, 0x4, 0x8
f2 0f 79 ca          => insertq xmm1, xmm2
0f 34                => sysenter
8b 45 f8             => mov eax, dword ptr [ebp-0x8]
8b 04 24             => mov eax, dword ptr [esp]
8b 44 8b 10          => mov eax, dword ptr [ebx+ecx*4+0x10]
8b 04 0b             => mov eax, dword ptr [ebx+ecx]
8b 04 8d 00 00 00 00 => mov eax, dword ptr [ecx*4]
8b 04 0d 10 00 00 00 => mov eax, dword ptr [ecx*1+0x10]
65 a1 14 00 00 00    => mov eax, dword ptr gs:[0x14]
65 8b 15 f0 ff ff ff => mov edx, dword ptr gs:[0xfffffff0]
88 07                => mov byte ptr [edi], al
66 89 07             => mov word ptr [edi], ax
67 8b 47 02          => mov eax, dword ptr [bx+0x2]
67 8b 00             => mov eax, dword ptr [bx+si]
67 8b 06 34 12       => mov eax, dword ptr [0x1234]
b8 ff ff ff ff       => mov eax, 0xffffffff
66 b8 34 12          => mov ax, 0x1234
b0 7f                => mov al, 0x7f
83 c0 ff             => add eax, 0xffffffff
66 83 c0 ff          => add ax, 0xffff
83 7d 08 05          => cmp dword ptr [ebp+0x8], 0x5
80 38 80             => cmp byte ptr [eax], 0x80
f0 0f b1 0a          => lock cmpxchg dword ptr [edx], ecx
8d 44 00 01          => lea eax, [eax+eax+0x1]
0f b6 06             => movzx eax, byte ptr [esi]
0f bf c1             => movsx eax, cx
0f c8                => bswap eax
50                   => push eax
6a fe                => push 0xfffffffe
c3                   => ret
c2 04 00             => ret 0x4
e8 00 00 00 00       => call 0x1005
eb fe                => jmp 0x1000
ff e0                => jmp eax
ff 1b                => call fword ptr [ebx]
66 ff 1b             => call far dword ptr [ebx]
ff 25 00 a0 04 08    => jmp dword ptr [0x804a000]
d1 e0                => shl eax, 1
d3 f8                => sar eax, cl
c1 e0 05             => shl eax, 0x5
f3 a5                => rep movsd
a4                   => movsb
f2 ae                => repne scasb
f3 a6                => repe cmpsb
65 a4                => movsb byte ptr es:[edi], byte ptr gs:[esi]
cd 80                => int 0x80
8e e8                => mov gs, ax
c8 10 00 01          => enter 0x10, 0x1
e3 02                => jecxz 0x1004
67 e3 02             => jcxz 0x1005
67 e2 02             => addr16 loop 0x1005
";

#[test]
fn instructions_read_as_disassemblers_show_them() {
    for line in CASES.lines().filter(|line| !line.is_empty()) {
        let (bytes, expected) = line.split_once("=>").expect("a case");
        let bytes: Vec<u8> =
            bytes.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("hex")).collect();
        let insn = decode(&bytes, 0x1000).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(usize::from(insn.len), bytes.len(), "{line}");
        assert_eq!(text(&insn), expected.trim(), "{line}");
    }
}
