//! How to unwind the vDSO's functions: `.eh_frame` and the table over it, `.eh_frame_hdr` (Linux Standard Base, "Exception Frames";
//! operations are DWARF's call frame instructions).

/// Registers as DWARF numbers them for i386.
pub const ECX: u8 = 1;
/// As above.
pub const EDX: u8 = 2;
/// As above.
pub const EBX: u8 = 3;
/// As above.
pub const EBP: u8 = 5;
const ESP: u8 = 4;
const EIP: u8 = 8;

/// Bytes in a slot of the stack.
const SLOT: u8 = 4;

const ADVANCE: u8 = 0x40;
const OFFSET: u8 = 0x80;
const RESTORE: u8 = 0xc0;
const NOP: u8 = 0;
const DEF_CFA: u8 = 0x0c;
const DEF_CFA_OFFSET: u8 = 0x0e;

/// Encodings of addresses: relative to where they stand, to the table, or no address at all.
const PCREL_SDATA4: u8 = 0x1b;
const DATAREL_SDATA4: u8 = 0x3b;
const UDATA4: u8 = 0x03;

/// `bytes` further on, a register has been pushed into slot `slot`, counted from the caller's stack pointer down.
pub fn pushed(bytes: u8, register: u8, slot: u8) -> Vec<u8> {
    vec![ADVANCE | bytes, DEF_CFA_OFFSET, slot * SLOT, OFFSET | register, slot]
}

/// `bytes` further on, a register has been popped, and `slots` are left.
pub fn popped(bytes: u8, register: u8, slots: u8) -> Vec<u8> {
    vec![ADVANCE | bytes, DEF_CFA_OFFSET, slots * SLOT, RESTORE | register]
}

/// A record: its length, what it holds, and padding.
fn record(content: &[&[u8]]) -> Vec<u8> {
    let mut content = content.concat();
    content.resize(content.len().next_multiple_of(4), NOP);
    [&(content.len() as u32).to_le_bytes()[..], &content].concat()
}

/// The section at `at` for functions at these addresses, with their lengths and operations, and where each one's record is.
pub fn section(at: u32, functions: &[(u32, u32, &[u8])]) -> (Vec<u8>, Vec<u32>) {
    const VERSION: u8 = 1;
    // Alignment of code; of the stack, -4 as a signed LEB128; the return address's column; a byte that says how records address code.
    let common = [VERSION, b'z', b'R', 0, 1, 0x7c, EIP, 1, PCREL_SDATA4];
    // At a function's start there is only the return address.
    let start = [DEF_CFA, ESP, SLOT, OFFSET | EIP, 1];
    let mut section = record(&[&[0; 4], &common, &start]);
    let mut records = Vec::new();
    for (addr, len, operations) in functions {
        let here = section.len() as u32;
        records.push(at + here);
        let to_common = here + 4;
        let to_code = addr.wrapping_sub(at + here + 8);
        let head = [to_common, to_code, *len].map(u32::to_le_bytes).concat();
        section.extend(record(&[&head, &[0], operations]));
    }
    section.extend([0; 4]);
    (section, records)
}

/// The table at `at`: each function's address and where its record is, in ascending order.
pub fn table(at: u32, section: u32, functions: &[(u32, u32)]) -> Vec<u8> {
    const VERSION: u8 = 1;
    let mut table = vec![VERSION, PCREL_SDATA4, UDATA4, DATAREL_SDATA4];
    let head = [section.wrapping_sub(at + 4), functions.len() as u32];
    let entries =
        functions.iter().flat_map(|(addr, record)| [addr.wrapping_sub(at), record.wrapping_sub(at)]);
    table.extend(head.into_iter().chain(entries).flat_map(u32::to_le_bytes));
    table
}
