//! The decoder: walks the generated tables. Knows the shape of an instruction (prefixes, ModRM, SIB,
//! displacement, immediates), not what any opcode means.

use super::{Code, FORMS, Flow, Form, Imm, Lock, Size};
use crate::cpu::Seg;
use crate::cpu::image::XSAVE_BYTES;

mod tables {
    include!(concat!(env!("OUT_DIR"), "/decode.rs"));
}

/// The longest legal instruction, in bytes.
pub const MAX_LEN: usize = 15;

/// "No register" as base or index.
pub const NO_REG: u8 = 8;

/// Why bytes are no instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end before the instruction does.
    #[error("the bytes end inside an instruction")]
    TooShort,
    /// It would be longer than 15 bytes: #GP(0).
    #[error("longer than 15 bytes")]
    TooLong,
    /// No row declares it: #UD.
    #[error("no instruction")]
    Undefined,
}

/// A memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mem {
    /// Base register, or [`NO_REG`].
    pub base: u8,
    /// Index register, or [`NO_REG`].
    pub index: u8,
    /// Shift of the index, 0 to 3.
    pub scale: u8,
    /// Displacement, sign-extended; 16 bits of it count with 16-bit addressing.
    pub disp: u32,
    /// Segment, overrides applied.
    pub seg: Seg,
}

/// A decoded instruction.
#[derive(Clone, Copy, Debug)]
pub struct Insn {
    /// Its form: index into [`FORMS`].
    pub index: u16,
    /// Length in bytes, 1 to 15.
    pub len: u8,
    /// Operand size is 16 bits (66).
    pub opsize16: bool,
    /// Address size is 16 bits (67).
    pub addr16: bool,
    /// LOCK is there.
    pub lock: bool,
    /// 0, 0xf2 or 0xf3: the last repeat prefix.
    pub rep: u8,
    /// Segment override.
    pub segment: Option<Seg>,
    /// The ModRM byte, 0 without.
    pub modrm: u8,
    /// Low three bits of the opcode.
    pub low: u8,
    /// The register that a VEX prefix names, 0 without.
    pub vvvv: u8,
    /// Memory operand, if ModRM or moffs has one.
    pub mem: Option<Mem>,
    /// First immediate, sign-extended if the operand says so; for a branch, the target.
    pub imm: u32,
    /// Second immediate: ENTER's level, a far pointer's selector.
    pub imm2: u32,
    /// Address of the instruction.
    pub eip: u32,
}

impl Insn {
    /// The row.
    pub fn form(&self) -> &'static Form {
        &FORMS[usize::from(self.index)]
    }

    /// Whether it is a branch whose target its own bytes say.
    pub fn is_direct(&self) -> bool {
        let form = self.form();
        form.flow != Flow::Next && form.operands.iter().any(|operand| operand.code == Code::J)
    }

    /// Address behind the instruction.
    pub fn next_eip(&self) -> u32 {
        self.eip.wrapping_add(u32::from(self.len))
    }

    /// The same bytes where the form's features are missing: the instruction without its mandatory prefix, if there is one.
    pub fn without_prefix(self) -> Option<Insn> {
        self.form().without_prefix.map(|index| Insn { index, ..self })
    }

    /// ModRM's reg field.
    pub fn reg(&self) -> u8 {
        self.modrm >> 3 & 7
    }

    /// ModRM's r/m field.
    pub fn rm(&self) -> u8 {
        self.modrm & 7
    }

    /// Offset of the memory operand in its segment with these registers; 0 without one.
    pub fn offset(&self, regs: &[u32; 8]) -> u32 {
        let Some(mem) = self.mem else { return 0 };
        let register = |number: u8| regs.get(usize::from(number)).copied().unwrap_or(0);
        let offset = register(mem.base).wrapping_add(register(mem.index) << mem.scale).wrapping_add(mem.disp);
        if self.addr16 { offset & 0xffff } else { offset }
    }

    /// The low three bits of the opcode byte and the ModRM byte: what FOP is after an x87 instruction (SDM Vol. 1,
    /// 8.1.9).
    pub fn x87_opcode(&self) -> u16 {
        u16::from(self.low) << 8 | u16::from(self.modrm)
    }

    /// Operand size in bytes: 2 or 4.
    pub fn operand_bytes(&self) -> u32 {
        if self.opsize16 { 2 } else { 4 }
    }
}

/// The prefixes before an opcode.
#[derive(Default)]
struct Prefixes {
    opsize: bool,
    addrsize: bool,
    lock: bool,
    rep: u8,
    segment: Option<Seg>,
}

/// What a VEX prefix says. SDM Vol. 2A, 2.3.5.
struct Vex {
    map: usize,
    /// pp, L and W from the low bits, as the generator numbers them.
    class: usize,
    vvvv: u8,
}

impl Vex {
    /// Reads the second byte of a prefix of two.
    fn short(cursor: &mut Cursor<'_>) -> Result<Vex, DecodeError> {
        let byte = cursor.byte()?;
        Ok(Vex { map: 1, class: usize::from(byte & 7), vvvv: !byte >> 3 & 15 })
    }

    /// Reads the second and third byte of a prefix of three. X and R are set, or it would be LES; B means nothing here.
    fn long(cursor: &mut Cursor<'_>) -> Result<Vex, DecodeError> {
        let map = usize::from(cursor.byte()? & 0x1f);
        let byte = cursor.byte()?;
        Ok(Vex { map, class: usize::from(byte & 7 | byte >> 4 & 8), vvvv: !byte >> 3 & 15 })
    }
}

/// Reads bytes in order, and says which limit it met.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    #[inline]
    fn byte(&mut self) -> Result<u8, DecodeError> {
        if self.at >= MAX_LEN {
            return Err(DecodeError::TooLong);
        }
        let byte = *self.bytes.get(self.at).ok_or(DecodeError::TooShort)?;
        self.at += 1;
        Ok(byte)
    }
    /// Whether the next byte has mod = 3, as a ModRM byte.
    fn has_mod3(&self) -> bool {
        self.bytes.get(self.at).is_some_and(|byte| *byte >= 0xc0)
    }
    fn word(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from(self.byte()?) | u32::from(self.byte()?) << 8)
    }
    fn dword(&mut self) -> Result<u32, DecodeError> {
        if self.at + 4 <= MAX_LEN
            && let Some(bytes) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk)
        {
            self.at += 4;
            return Ok(u32::from_le_bytes(*bytes));
        }
        Ok(self.word()? | self.word()? << 16)
    }
    fn signed_byte(&mut self) -> Result<u32, DecodeError> {
        Ok(self.byte()? as i8 as u32)
    }
}

/// Decodes the instruction at the start of `bytes`, which stand at address `eip`. At most 15 bytes are read.
///
/// SDM Vol. 2A, ch. 2; operand and address size default to 32 bits.
pub fn decode(bytes: &[u8], eip: u32) -> Result<Insn, DecodeError> {
    let mut cursor = Cursor { bytes, at: 0 };
    let mut prefixes = Prefixes::default();
    let mut vex = None;
    let first = loop {
        let byte = cursor.byte()?;
        match tables::PREFIXES[usize::from(byte)] {
            tables::NO_PREFIX => break byte,
            tables::OPSIZE => prefixes.opsize = true,
            tables::ADDRSIZE => prefixes.addrsize = true,
            tables::LOCK => prefixes.lock = true,
            tables::REP => prefixes.rep = 0xf3,
            tables::REPNE => prefixes.rep = 0xf2,
            // Without that, it is an opcode: LES or LDS.
            tables::VEX2 | tables::VEX3 if !cursor.has_mod3() => break byte,
            role @ (tables::VEX2 | tables::VEX3) => {
                let long = role == tables::VEX3;
                vex = Some(if long { Vex::long(&mut cursor)? } else { Vex::short(&mut cursor)? });
                break cursor.byte()?;
            }
            segment => {
                prefixes.segment = Some(tables::SEGMENTS[usize::from(segment - tables::FIRST_SEGMENT)])
            }
        }
    };
    let (map, opcode) = match first {
        _ if vex.is_some() => (vex.as_ref().map_or(0, |vex| tables::VEX_MAPS + vex.map), first),
        0x0f => match cursor.byte()? {
            0x38 => (2, cursor.byte()?),
            0x3a => (3, cursor.byte()?),
            second => (1, second),
        },
        _ => (0, first),
    };
    let known = vex.as_ref().is_none_or(|vex| vex.map != 0 && map < tables::ROOTS.len());
    if !known {
        return Err(DecodeError::Undefined);
    }
    let root = tables::ROOTS[map][usize::from(opcode)];
    let modrm = if root.dims & tables::HAS_MODRM != 0 { cursor.byte()? } else { 0 };
    let mut index = 0;
    if root.dims & tables::BY_PREFIX != 0 {
        let repeat = match prefixes.rep {
            0 => 0,
            0xf3 => 2,
            _ => 4,
        };
        index = vex.as_ref().map_or(repeat + usize::from(prefixes.opsize), |vex| vex.class);
    }
    if root.dims & tables::BY_MOD != 0 {
        index = index * 2 + usize::from(modrm >= 0xc0);
    }
    if root.dims & tables::BY_REG != 0 {
        index = index * 8 + usize::from(modrm >> 3 & 7);
    }
    if root.dims & tables::BY_RM != 0 {
        index = index * 8 + usize::from(modrm & 7);
    }
    let form_index = tables::NODES[usize::from(root.base) + index];
    if form_index == tables::UNDEFINED {
        return Err(DecodeError::Undefined);
    }
    let form = &FORMS[usize::from(form_index)];
    let mut insn = Insn {
        index: form_index,
        len: 0,
        opsize16: prefixes.opsize,
        addr16: prefixes.addrsize,
        lock: prefixes.lock,
        rep: prefixes.rep,
        segment: prefixes.segment,
        modrm,
        low: opcode & 7,
        vvvv: vex.as_ref().map_or(0, |vex| vex.vvvv & 7),
        mem: None,
        imm: 0,
        imm2: 0,
        eip,
    };
    if root.dims & tables::HAS_MODRM != 0 && modrm < 0xc0 && !form.ignores_mod {
        insn.mem = Some(if prefixes.addrsize {
            mem16(&mut cursor, modrm, prefixes.segment)?
        } else {
            mem32(&mut cursor, modrm, prefixes.segment)?
        });
    }
    immediates(&mut cursor, form, &mut insn)?;
    insn.len = cursor.at as u8;
    if form.imms.iter().any(|imm| matches!(imm, Imm::Cb | Imm::Cz)) {
        let target = insn.next_eip().wrapping_add(insn.imm);
        insn.imm = if insn.opsize16 { target & 0xffff } else { target };
    }
    if let Some(vex) = vex {
        let prefixed = prefixes.opsize || prefixes.lock || prefixes.rep != 0;
        if prefixed || (!form.has_vvvv && vex.vvvv != 0) {
            return Err(DecodeError::Undefined);
        }
    }
    if insn.lock && !(form.lock != Lock::Never && insn.mem.is_some()) {
        return Err(DecodeError::Undefined);
    }
    Ok(insn)
}

fn immediates(cursor: &mut Cursor<'_>, form: &Form, insn: &mut Insn) -> Result<(), DecodeError> {
    for (at, imm) in form.imms.iter().enumerate() {
        let value = match imm {
            Imm::Ib => {
                let signed = form.operands.iter().any(|operand| operand.code == Code::SignedI);
                if signed { cursor.signed_byte()? } else { u32::from(cursor.byte()?) }
            }
            Imm::Iw => cursor.word()?,
            Imm::Id => cursor.dword()?,
            Imm::Iz if insn.opsize16 => cursor.word()?,
            Imm::Iz => cursor.dword()?,
            Imm::Cb => cursor.signed_byte()?,
            Imm::Cz if insn.opsize16 => cursor.word()? as i16 as u32,
            Imm::Cz => cursor.dword()?,
            Imm::Cp => {
                let offset = if insn.opsize16 { cursor.word()? } else { cursor.dword()? };
                insn.imm2 = cursor.word()?;
                offset
            }
            Imm::Mo => {
                let disp = if insn.addr16 { cursor.word()? } else { cursor.dword()? };
                let seg = insn.segment.unwrap_or(Seg::Ds);
                insn.mem = Some(Mem { base: NO_REG, index: NO_REG, scale: 0, disp, seg });
                continue;
            }
        };
        if at == 0 {
            insn.imm = value;
        } else {
            insn.imm2 = value;
        }
    }
    Ok(())
}

/// 16-bit addressing forms, SDM Vol. 2A, table 2-1.
fn mem16(cursor: &mut Cursor<'_>, modrm: u8, segment: Option<Seg>) -> Result<Mem, DecodeError> {
    const BASES: [(u8, u8); 8] =
        [(3, 6), (3, 7), (5, 6), (5, 7), (6, NO_REG), (7, NO_REG), (5, NO_REG), (3, NO_REG)];
    let (mut base, index) = BASES[usize::from(modrm & 7)];
    let disp = match modrm >> 6 {
        0 if modrm & 7 == 6 => {
            base = NO_REG;
            cursor.word()?
        }
        0 => 0,
        1 => cursor.signed_byte()?,
        _ => cursor.word()?,
    };
    let default = if base == 5 { Seg::Ss } else { Seg::Ds };
    Ok(Mem { base, index, scale: 0, disp, seg: segment.unwrap_or(default) })
}

/// 32-bit addressing forms, SDM Vol. 2A, tables 2-2 and 2-3.
fn mem32(cursor: &mut Cursor<'_>, modrm: u8, segment: Option<Seg>) -> Result<Mem, DecodeError> {
    let mode = modrm >> 6;
    let (mut base, mut index, mut scale) = (modrm & 7, NO_REG, 0);
    if base == 4 {
        let sib = cursor.byte()?;
        base = sib & 7;
        scale = sib >> 6;
        index = sib >> 3 & 7;
        if index == 4 {
            (index, scale) = (NO_REG, 0);
        }
    }
    let disp = match mode {
        0 if base == 5 => {
            base = NO_REG;
            cursor.dword()?
        }
        0 => 0,
        1 => cursor.signed_byte()?,
        _ => cursor.dword()?,
    };
    let default = if base == 4 || base == 5 { Seg::Ss } else { Seg::Ds };
    Ok(Mem { base, index, scale, disp, seg: segment.unwrap_or(default) })
}

/// Bytes of an operand of this size, 0 where it has none of its own.
pub fn operand_bytes(size: Size, opsize16: bool) -> u32 {
    let v = if opsize16 { 2 } else { 4 };
    match size {
        Size::B => 1,
        Size::W => 2,
        Size::D | Size::Ss | Size::Y => 4,
        Size::Q | Size::Sd => 8,
        Size::V | Size::Z => v,
        Size::P => v + 2,
        Size::A => 2 * v,
        Size::T => 10,
        Size::Dq | Size::Ps | Size::Pd => 16,
        Size::S => 6,
        Size::Fs => 512,
        Size::Xs => XSAVE_BYTES as u32,
        Size::E => 7 * v,
        Size::None | Size::M => 0,
    }
}
