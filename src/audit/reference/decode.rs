//! What undeclared bytes are: finds the form of the reference list, and how long the instruction is.

use super::{Encoding, Immediate, Mandatory, ModRm, Reference, Space, all};
use crate::isa::decode::MAX_LEN;
use std::collections::HashMap;
use std::sync::LazyLock;

/// Forms by what leads to the opcode, map and opcode.
type Places = HashMap<(Space, u8, u8), Vec<&'static Reference>>;

/// What is known once the opcode is found.
struct Head {
    space: Space,
    map: u8,
    opcode: u8,
    /// Bytes so far, the opcode included.
    len: usize,
    /// 66 as a prefix: of an instruction that VEX and the like lead to, never.
    opsize16: bool,
    addr16: bool,
    /// 0, 0x66, 0xf2, 0xf3.
    mandatory: u8,
    length: u8,
    wide: u8,
}

/// The form at the start of `bytes` and its length, whether a row declares it or not; `None` if there is no such instruction,
/// or it is cut off.
pub fn decode(bytes: &[u8]) -> Option<(&'static Reference, usize)> {
    static PLACES: LazyLock<Places> = LazyLock::new(|| {
        let mut places = Places::new();
        for form in all() {
            let Encoding { space, map, opcode, span, .. } = form.encoding;
            for at in 0..span {
                places.entry((space, map, opcode | at)).or_default().push(form);
            }
        }
        places
    });
    let head = head(bytes)?;
    let candidates = PLACES.get(&(head.space, head.map, head.opcode))?;
    let fits = |form: &&&'static Reference| fits(&form.encoding, &head, bytes);
    // A form with a mandatory prefix is preferred to one that ignores it. Where W chooses a general register's width, it has no
    // second form to choose in 32-bit mode, and is ignored.
    let preference = |form: &&&Reference| {
        let Encoding { wide, mandatory, .. } = form.encoding;
        (wide.is_none_or(|wide| wide == head.wide), mandatory != Mandatory::Any)
    };
    let form = candidates.iter().filter(fits).max_by_key(preference)?;
    let len = len(&form.encoding, &head, bytes)?;
    (len <= MAX_LEN && len <= bytes.len()).then_some((form, len))
}

/// Prefixes, escapes, the opcode.
fn head(bytes: &[u8]) -> Option<Head> {
    let (mut at, mut opsize16, mut addr16, mut repeat) = (0, false, false, 0);
    loop {
        match *bytes.get(at)? {
            0x66 => opsize16 = true,
            0x67 => addr16 = true,
            prefix @ (0xf2 | 0xf3) => repeat = prefix,
            0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 => {}
            // No instruction that may be locked is undeclared.
            0xf0 => return None,
            _ => break,
        }
        at += 1;
        if at >= MAX_LEN {
            return None;
        }
    }
    let byte = |index: usize| bytes.get(at + index).copied();
    let mandatory = match repeat {
        0 if opsize16 => 0x66,
        other => other,
    };
    let plain = |map, len: usize| -> Option<Head> {
        let opcode = byte(len - 1)?;
        Some(Head {
            space: Space::Legacy,
            map,
            opcode,
            len: at + len,
            opsize16,
            addr16,
            mandatory,
            length: 0,
            wide: 0,
        })
    };
    let has_register = byte(1).is_some_and(|next| next >= 0xc0);
    let vector = |space, map, len: usize, length, wide, pp: u8| -> Option<Head> {
        let mandatory = [0, 0x66, 0xf3, 0xf2][usize::from(pp & 3)];
        let opcode = byte(len - 1)?;
        Some(Head { space, map, opcode, len: at + len, opsize16: false, addr16, mandatory, length, wide })
    };
    match byte(0)? {
        0x0f => match byte(1)? {
            0x38 => plain(2, 3),
            0x3a => plain(3, 3),
            _ => plain(1, 2),
        },
        // LES, LDS, BOUND and POP want memory; with a register the same bytes lead to vector instructions.
        0xc5 if has_register => {
            let fields = byte(1)?;
            vector(Space::Vex, 1, 3, fields >> 2 & 1, 0, fields)
        }
        0xc4 if has_register => {
            let fields = byte(2)?;
            vector(Space::Vex, byte(1)? & 31, 4, fields >> 2 & 1, fields >> 7, fields)
        }
        0x8f if byte(1)? & 31 >= 8 => {
            let fields = byte(2)?;
            vector(Space::Xop, byte(1)? & 31, 4, fields >> 2 & 1, fields >> 7, fields)
        }
        0x62 if has_register => {
            let (fields, more) = (byte(2)?, byte(3)?);
            vector(Space::Evex, byte(1)? & 7, 5, more >> 5 & 3, fields >> 7, fields)
        }
        _ => plain(0, 1),
    }
}

fn fits(encoding: &Encoding, head: &Head, bytes: &[u8]) -> bool {
    let modrm = bytes.get(head.len).copied();
    let by_modrm = match (encoding.modrm, modrm) {
        (ModRm::Absent, _) => true,
        (_, None) => false,
        (ModRm::Any, _) => true,
        (ModRm::Digit(digit), Some(modrm)) => modrm >> 3 & 7 == digit,
        (ModRm::Fixed(byte, any_rm), Some(modrm)) => {
            if any_rm {
                modrm & !7 == byte & !7
            } else {
                modrm == byte
            }
        }
    };
    let by_mode = encoding.modrm == ModRm::Absent
        || modrm.is_some_and(|modrm| if modrm >= 0xc0 { encoding.register } else { encoding.memory });
    let by_prefix = match encoding.mandatory {
        Mandatory::Any => true,
        Mandatory::Np => head.mandatory == 0,
        Mandatory::P66 => head.mandatory == 0x66,
        Mandatory::F2 => head.mandatory == 0xf2,
        Mandatory::F3 => head.mandatory == 0xf3,
    };
    // With rounding or exceptions in EVEX, the length's bits say something else.
    let by_length = encoding.length.is_none_or(|length| {
        length == head.length
            || (head.space == Space::Evex && modrm.is_some_and(|modrm| modrm >= 0xc0) && evex_b(head, bytes))
    });
    let by_size = encoding.operand_bits.is_none_or(|bits| (bits == 16) == head.opsize16);
    let by_address = encoding.address_bits.is_none_or(|bits| (bits == 16) == head.addr16);
    let by_suffix = encoding.suffix.is_none_or(|suffix| {
        let end = modrm_len(head, bytes).map(|len| head.len + len);
        end.and_then(|end| bytes.get(end)).is_some_and(|byte| *byte == suffix)
    });
    by_modrm && by_mode && by_prefix && by_length && by_size && by_address && by_suffix
}

/// EVEX.b.
fn evex_b(head: &Head, bytes: &[u8]) -> bool {
    head.len.checked_sub(2).and_then(|at| bytes.get(at)).is_some_and(|byte| byte & 0x10 != 0)
}

/// Bytes of ModRM, SIB and displacement (SDM Vol. 2A, tables 2-1 to 2-3).
fn modrm_len(head: &Head, bytes: &[u8]) -> Option<usize> {
    let modrm = *bytes.get(head.len)?;
    let (mode, rm) = (modrm >> 6, modrm & 7);
    if mode == 3 {
        return Some(1);
    }
    if head.addr16 {
        return Some(match mode {
            0 if rm == 6 => 3,
            mode => 1 + usize::from(mode),
        });
    }
    let sib = if rm == 4 { Some(*bytes.get(head.len + 1)?) } else { None };
    let displacement = match mode {
        0 if rm == 5 || sib.is_some_and(|sib| sib & 7 == 5) => 4,
        0 => 0,
        1 => 1,
        _ => 4,
    };
    Some(1 + usize::from(sib.is_some()) + displacement)
}

fn len(encoding: &Encoding, head: &Head, bytes: &[u8]) -> Option<usize> {
    let modrm = if encoding.modrm == ModRm::Absent { 0 } else { modrm_len(head, bytes)? };
    let by_size = |is16| if is16 { 2 } else { 4 };
    let immediate = match encoding.immediate {
        Immediate::Bytes(bytes) => usize::from(bytes),
        Immediate::ByOperandSize(bytes) => usize::from(bytes) + by_size(head.opsize16),
        Immediate::ByAddressSize => by_size(head.addr16),
    };
    Some(head.len + modrm + immediate + usize::from(encoding.suffix.is_some()))
}
