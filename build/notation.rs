//! The notation of `op` and `ops`: SDM Vol. 2 opcode strings and App. A.2 operand codes. `opcodes/README.md`
//! describes it for readers.

/// Which prefix a row insists on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mandatory {
    /// Whatever is there.
    Any,
    /// None of 66, F2, F3.
    Np,
    P66,
    F3,
    F2,
}

/// What the low bits of the opcode say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Low {
    Nothing,
    Register,
    Condition,
}

/// What follows the opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModRm {
    Absent,
    /// `/r`
    Any,
    /// `/0` … `/7`
    Digit(u8),
    /// A fixed byte with mod = 3; with `any_rm` its low three bits are free (`+i`).
    Fixed {
        byte: u8,
        any_rm: bool,
    },
}

/// Immediates, in the order of their bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Imm {
    Ib,
    Iw,
    Id,
    Iz,
    Cb,
    Cz,
    Cp,
    Mo,
}

/// The map of VEX's number 0, of which there is none: 0F is the next one.
pub const VEX_MAPS: u8 = 3;

/// L and W of a VEX prefix; either may be ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vex {
    /// 256 bits, or what else L chooses.
    pub long: Option<bool>,
    /// W.
    pub wide: Option<bool>,
}

/// A parsed opcode string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoding {
    pub mandatory: Mandatory,
    /// 0: one byte, 1: 0F, 2: 0F 38, 3: 0F 3A; from [`VEX_MAPS`] on: as VEX numbers them.
    pub map: u8,
    /// What VEX has besides.
    pub vex: Option<Vex>,
    pub opcode: u8,
    pub low: Low,
    pub modrm: ModRm,
    pub imms: Vec<Imm>,
}

/// Parses an `op` string.
pub fn encoding(text: &str) -> Result<Encoding, String> {
    let mut tokens = text.split_whitespace().peekable();
    let vex = tokens.peek().and_then(|token| token.strip_prefix("VEX.")).map(vex_prefix).transpose()?;
    if vex.is_some() {
        tokens.next();
    }
    let mandatory = match tokens.peek().copied() {
        _ if vex.is_some() => Mandatory::Any,
        Some("NP") => Mandatory::Np,
        Some("66") => Mandatory::P66,
        Some("F2") => Mandatory::F2,
        Some("F3") => Mandatory::F3,
        _ => Mandatory::Any,
    };
    if mandatory != Mandatory::Any {
        tokens.next();
    }
    let mut map = 0;
    if vex.is_none() && tokens.peek() == Some(&"0F") {
        tokens.next();
        map = match tokens.peek() {
            Some(&"38") => 2,
            Some(&"3A") => 3,
            _ => 1,
        };
        if map > 1 {
            tokens.next();
        }
    }
    let Some(first) = tokens.next() else { return Err("there is no opcode byte".into()) };
    let (digits, suffix) =
        first.split_once('+').map_or((first, None), |(digits, suffix)| (digits, Some(suffix)));
    let opcode = hex_byte(digits)?;
    let low = match suffix {
        None => Low::Nothing,
        Some("r") => Low::Register,
        Some("cc") => Low::Condition,
        Some(other) => return Err(format!("`+{other}` is unknown; an opcode byte takes +r or +cc")),
    };
    let mask = match low {
        Low::Nothing => 0,
        Low::Register => 7,
        Low::Condition => 15,
    };
    if opcode & mask != 0 {
        return Err(format!("{digits} has bits set that {first} leaves to the operand"));
    }
    let mut result =
        Encoding { mandatory, map, vex: None, opcode, low, modrm: ModRm::Absent, imms: Vec::new() };
    if let Some((mandatory, map, vex)) = vex {
        (result.mandatory, result.map, result.vex) = (mandatory, map, Some(vex));
    }
    for token in tokens {
        let behind_immediate = !result.imms.is_empty();
        let modrm = if token == "/r" {
            Some(ModRm::Any)
        } else if let Some(digit) = token.strip_prefix('/') {
            match digit.parse::<u8>() {
                Ok(digit @ 0..=7) => Some(ModRm::Digit(digit)),
                _ => return Err(format!("`{token}` is neither /r nor /0 to /7")),
            }
        } else if let Some((Ok(byte), rest)) =
            token.split_at_checked(2).map(|(byte, rest)| (hex_byte(byte), rest))
        {
            let any_rm = match rest {
                "" => false,
                "+i" => true,
                other => return Err(format!("`{other}` behind a fixed ModRM byte; only +i is known")),
            };
            if byte < 0xc0 || (any_rm && byte & 7 != 0) {
                return Err(format!("`{token}` as a ModRM byte needs mod = 3 and, with +i, rm = 0"));
            }
            Some(ModRm::Fixed { byte, any_rm })
        } else {
            None
        };
        if let Some(modrm) = modrm {
            if result.modrm != ModRm::Absent || behind_immediate {
                return Err(format!("`{token}`: one ModRM byte, before the immediates"));
            }
            result.modrm = modrm;
            continue;
        }
        result.imms.push(match token {
            "ib" => Imm::Ib,
            "iw" => Imm::Iw,
            "id" => Imm::Id,
            "iz" => Imm::Iz,
            "cb" => Imm::Cb,
            "cz" => Imm::Cz,
            "cp" => Imm::Cp,
            "mo" => Imm::Mo,
            other => return Err(format!("`{other}` is no token of the opcode notation")),
        });
    }
    Ok(result)
}

/// The parts behind `VEX.`, in the manual's order: L, a mandatory prefix, the map, W.
fn vex_prefix(text: &str) -> Result<(Mandatory, u8, Vex), String> {
    let mut parts = text.split('.');
    let mut part = || parts.next().unwrap_or_default();
    let long = match part() {
        "LZ" | "L0" | "128" => Some(false),
        "L1" | "256" => Some(true),
        "LIG" => None,
        other => return Err(format!("`{other}`: behind VEX stands LZ, L0, L1, LIG, 128 or 256")),
    };
    let mut map = part();
    let mandatory = match map {
        "66" => Mandatory::P66,
        "F2" => Mandatory::F2,
        "F3" => Mandatory::F3,
        _ => Mandatory::Np,
    };
    if mandatory != Mandatory::Np {
        map = part();
    }
    let map = match map {
        "0F" => 1,
        "0F38" => 2,
        "0F3A" => 3,
        other => return Err(format!("`{other}` is none of VEX's maps 0F, 0F38 and 0F3A")),
    };
    let wide = match part() {
        "W0" => Some(false),
        "W1" => Some(true),
        "WIG" => None,
        other => return Err(format!("`{other}`: a VEX prefix ends in W0, W1 or WIG")),
    };
    Ok((mandatory, VEX_MAPS + map, Vex { long, wide }))
}

fn hex_byte(digits: &str) -> Result<u8, String> {
    if digits.len() != 2 || digits.bytes().any(|digit| digit.is_ascii_lowercase()) {
        return Err(format!("`{digits}` is not an opcode byte (two upper-case hex digits)"));
    }
    u8::from_str_radix(digits, 16).map_err(|_| format!("`{digits}` is not an opcode byte"))
}

/// Operand kinds; the names are those of `table86::isa::Code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    B,
    E,
    G,
    M,
    R,
    Z,
    I,
    SignedI,
    J,
    A,
    O,
    S,
    C,
    D,
    X,
    Y,
    /// At DS:EDI.
    XEdi,
    P,
    Q,
    N,
    V,
    W,
    U,
    St,
    StI,
    /// A register that the row names; ModRM numbering.
    Reg(u8),
    /// A segment register that the row names.
    SegReg(u8),
    /// An XMM register that the row names.
    XmmReg(u8),
    One,
}

/// Operand sizes; the names are those of `table86::isa::Size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    None,
    B,
    W,
    D,
    Q,
    V,
    Y,
    Z,
    P,
    A,
    T,
    Dq,
    Ss,
    Sd,
    Ps,
    Pd,
    S,
    E,
    Fs,
    Xs,
    M,
}

/// How an operand is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    R,
    W,
    Rw,
    /// Effective address only.
    Address,
    /// Linear address; the body reads there.
    Linear,
    /// The same, and the body writes there.
    LinearW,
    /// The same, and the body reads what it then writes.
    LinearRw,
    /// Shown, not passed.
    Shown,
}

/// A parsed operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operand {
    pub code: Code,
    pub size: Size,
    pub access: Access,
    pub implicit: bool,
    pub conditional: bool,
}

impl Operand {
    pub fn reads(&self) -> bool {
        matches!(self.access, Access::R | Access::Rw)
    }
    pub fn writes(&self) -> bool {
        matches!(self.access, Access::W | Access::Rw)
    }
}

/// Parses an `ops` string.
pub fn operands(text: &str) -> Result<Vec<Operand>, String> {
    text.split_whitespace().map(operand).collect()
}

fn operand(text: &str) -> Result<Operand, String> {
    let (implicit, inner) = match text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        Some(inner) => (true, inner),
        None => (false, text),
    };
    let Some((name, access)) = inner.split_once(':') else {
        return Err(format!("`{text}` lacks its access, as in `{inner}:r`"));
    };
    let (conditional, access) = match access.strip_prefix('c') {
        Some(rest) => (true, rest),
        None => (false, access),
    };
    let access = match access {
        "r" => Access::R,
        // A conditional write passes the old value through.
        "w" if conditional => Access::Rw,
        "w" => Access::W,
        "rw" => Access::Rw,
        "a" => Access::Address,
        "m" => Access::Linear,
        "mw" => Access::LinearW,
        "mrw" => Access::LinearRw,
        "n" => Access::Shown,
        other => {
            return Err(format!("`{other}` is no access (r w rw a m mw mrw n, with c before it: perhaps)"));
        }
    };
    let (code, size) = code_and_size(name).ok_or_else(|| format!("`{name}` is no operand code"))?;
    Ok(Operand { code, size, access, implicit, conditional })
}

fn code_and_size(name: &str) -> Option<(Code, Size)> {
    const BYTES: [&str; 8] = ["AL", "CL", "DL", "BL", "AH", "CH", "DH", "BH"];
    const WORDS: [&str; 8] = ["AX", "CX", "DX", "BX", "SP", "BP", "SI", "DI"];
    const SEGMENTS: [&str; 6] = ["ES", "CS", "SS", "DS", "FS", "GS"];
    let index = |names: &[&str], name: &str| names.iter().position(|n| *n == name).map(|at| at as u8);
    if let Some(number) = index(&BYTES, name) {
        return Some((Code::Reg(number), Size::B));
    }
    if let Some(number) = index(&WORDS, name) {
        return Some((Code::Reg(number), Size::W));
    }
    if let Some(number) = index(&SEGMENTS, name) {
        return Some((Code::SegReg(number), Size::W));
    }
    if let Some(number) = name.strip_prefix('E').and_then(|rest| index(&WORDS, rest)) {
        return Some((Code::Reg(number), Size::D));
    }
    if let Some(number) = name.strip_prefix('e').and_then(|rest| index(&WORDS, rest)) {
        return Some((Code::Reg(number), Size::V));
    }
    if let Some(number) =
        name.strip_prefix("XMM").and_then(|rest| rest.parse().ok()).filter(|number| *number < 8)
    {
        return Some((Code::XmmReg(number), Size::Dq));
    }
    match name {
        "1" => return Some((Code::One, Size::B)),
        "Ibs" => return Some((Code::SignedI, Size::V)),
        "XEDIq" => return Some((Code::XEdi, Size::Q)),
        "XEDIx" => return Some((Code::XEdi, Size::Dq)),
        "ST" => return Some((Code::St, Size::T)),
        "STi" => return Some((Code::StI, Size::T)),
        _ => {}
    }
    let code = match name.chars().next()? {
        'B' => Code::B,
        'E' => Code::E,
        'G' => Code::G,
        'M' => Code::M,
        'R' => Code::R,
        'Z' => Code::Z,
        'I' => Code::I,
        'J' => Code::J,
        'A' => Code::A,
        'O' => Code::O,
        'S' => Code::S,
        'C' => Code::C,
        'D' => Code::D,
        'X' => Code::X,
        'Y' => Code::Y,
        'P' => Code::P,
        'Q' => Code::Q,
        'N' => Code::N,
        'V' => Code::V,
        'W' => Code::W,
        'U' => Code::U,
        _ => return None,
    };
    let size = match &name[1..] {
        "" => Size::None,
        "b" => Size::B,
        "w" => Size::W,
        "d" => Size::D,
        "q" => Size::Q,
        "v" => Size::V,
        "y" => Size::Y,
        "z" => Size::Z,
        "p" => Size::P,
        "a" => Size::A,
        "t" => Size::T,
        "dq" | "x" => Size::Dq,
        "ss" => Size::Ss,
        "sd" => Size::Sd,
        "ps" => Size::Ps,
        "pd" => Size::Pd,
        "s" => Size::S,
        "e" => Size::E,
        "fs" => Size::Fs,
        "xs" => Size::Xs,
        "m" => Size::M,
        _ => return None,
    };
    Some((code, size))
}

/// What a row touches beside its operands; the names are those of `table86::isa::Implicit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Implicit {
    Reg(u8),
    SegReg(u8),
    XmmReg(u8),
    St(u8),
    /// `[ESP+2v]`: so many elements from where a register points.
    Above {
        base: u8,
        count: u8,
    },
    /// `[ESP-2v]`: so many elements below; 0 is ENTER's, one more than its level.
    Below {
        base: u8,
        count: u8,
    },
    /// `[EBX+AL]`: the byte that XLAT looks up.
    LookedUp,
    /// `[op1+op2/8]`: the part of a bit string that bit op2 is in.
    BitString,
}

/// One of them, with its size and access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Also {
    pub place: Implicit,
    pub size: Size,
    pub access: Access,
}

/// Parses an `also` string.
pub fn also(text: &str) -> Result<Vec<Also>, String> {
    text.split_whitespace().map(also_one).collect()
}

fn also_one(text: &str) -> Result<Also, String> {
    let Some((name, access)) = text.rsplit_once(':') else {
        return Err(format!("`{text}` lacks its access, as in `{text}:r`"));
    };
    let access = match access {
        "r" => Access::R,
        "w" => Access::W,
        "rw" => Access::Rw,
        other => return Err(format!("`{other}` is no access of what is touched besides operands (r w rw)")),
    };
    let unknown =
        || format!("`{name}` is neither a register nor one of [ESP+v] [ESP-v] [EBX+AL] [op1+op2/8]");
    let (place, size) = match name {
        "[EBX+AL]" => (Implicit::LookedUp, Size::B),
        "[op1+op2/8]" => (Implicit::BitString, Size::V),
        "ST1" => (Implicit::St(1), Size::T),
        _ => match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => elements(inner).ok_or_else(unknown)?,
            None => match code_and_size(name) {
                Some((Code::Reg(number), size)) => (Implicit::Reg(number), size),
                Some((Code::SegReg(number), size)) => (Implicit::SegReg(number), size),
                Some((Code::XmmReg(number), size)) => (Implicit::XmmReg(number), size),
                Some((Code::St, size)) => (Implicit::St(0), size),
                _ => return Err(unknown()),
            },
        },
    };
    Ok(Also { place, size, access })
}

/// `ESP-2v`: a register, a direction, how many (nothing is 1, `L` is ENTER's), and the size of each.
fn elements(text: &str) -> Option<(Implicit, Size)> {
    let (name, below, rest) = match text.split_once('-') {
        Some((name, rest)) => (name, true, rest),
        None => text.split_once('+').map(|(name, rest)| (name, false, rest))?,
    };
    let Some((Code::Reg(base), Size::D)) = code_and_size(name) else { return None };
    let (count, size) = rest.split_at_checked(rest.len().checked_sub(1)?)?;
    let count = match count {
        "" => 1,
        "L" if below => 0,
        digits => digits.parse().ok().filter(|count| *count > 0)?,
    };
    let size = match size {
        "w" => Size::W,
        "d" => Size::D,
        "v" => Size::V,
        _ => return None,
    };
    Some((if below { Implicit::Below { base, count } } else { Implicit::Above { base, count } }, size))
}
