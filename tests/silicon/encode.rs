//! From a row to bytes: all the encodings that it allows, chosen at random.

use crate::bench::{EXIT_LEN, SLOT, SLOT_ENTRY};
use crate::operands::ABSOLUTE;
use crate::random::Random;
use table86::isa::{Code, FORMS, Form, Imm, Insn, Lock, Rep, Size, decode};

/// An instruction in bytes, and what the decoder makes of them.
#[derive(Clone, Debug)]
pub struct Encoding {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The same, decoded; its form is the row that was encoded.
    pub insn: Insn,
}

/// What an encoding may contain.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Addresses for operands that are absolute; one of them is the displacement then.
    pub absolute: &'a [u32],
    /// Addresses for far branches.
    pub targets: &'a [u32],
    /// Bytes around the instruction that a branch may reach: before its start and behind its exit.
    pub reach: [i32; 2],
    /// Bytes behind the instruction that belong to its exit, where no branch may go.
    pub exit: i32,
    /// What memory operands are addressed by; anything if there is none.
    pub frame: Option<Frame>,
    /// Prefixes that are legal but mean nothing, and LOCK.
    pub decorate: bool,
}

/// Registers that point to memory with room on both sides.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Bases.
    pub bases: [u8; 2],
    /// ESP is one, too.
    pub stack: bool,
    /// An index, at most [`MOST_INDEX`].
    pub index: u8,
}

/// What the index of a [`Frame`] holds at most.
pub const MOST_INDEX: u32 = 63;
/// How far displacements reach from the bases of a [`Frame`].
const MOST_DISPLACEMENT: u32 = 0x300;

/// How ModRM's fields are given by the opcode string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ModRm {
    None,
    Any,
    Digit(u8),
    Fixed(u8),
    /// Its low three bits are free.
    FixedButRm(u8),
}

/// A row's opcode string, taken apart.
struct Opcode {
    mandatory: Option<u8>,
    /// `NP`: none of 66, F2, F3.
    bare: bool,
    bytes: Vec<u8>,
    vex: Option<Vex>,
    /// The last byte's low bits name a register.
    register: bool,
    modrm: ModRm,
}

/// What a VEX prefix has to say, as it encodes it.
#[derive(Clone, Copy)]
struct Vex {
    map: u8,
    pp: u8,
    long: Option<bool>,
    wide: Option<bool>,
}

impl Vex {
    fn parse(text: &str) -> Vex {
        let mut vex = Vex { map: 0, pp: 0, long: None, wide: None };
        for part in text.split('.').skip(1) {
            match part {
                "LZ" | "L0" | "128" => vex.long = Some(false),
                "L1" | "256" => vex.long = Some(true),
                "66" => vex.pp = 1,
                "F3" => vex.pp = 2,
                "F2" => vex.pp = 3,
                "0F" => vex.map = 1,
                "0F38" => vex.map = 2,
                "0F3A" => vex.map = 3,
                "W0" => vex.wide = Some(false),
                "W1" => vex.wide = Some(true),
                _ => {}
            }
        }
        vex
    }

    /// The prefix: what it may leave open is chosen at random.
    fn encode(self, form: &Form, random: &mut Random) -> Vec<u8> {
        let general = form.operands.iter().any(|operand| operand.size == Size::Y);
        let mut choose = |bit: Option<bool>| bit.unwrap_or_else(|| random.percent(50));
        let long = choose(self.long);
        let wide = choose(self.wide.filter(|_| !general));
        // Inverted; the highest bit means nothing with eight registers.
        let vvvv = if form.has_vvvv { random.below(16) as u8 } else { 15 };
        let low = vvvv << 3 | u8::from(long) << 2 | self.pp;
        if self.map == 1 && !wide && random.percent(50) {
            // The highest bit tells the prefix from LDS.
            return vec![0xc5, 0xc0 | low];
        }
        let any_base = random.word() as u8 & 0x20;
        vec![0xc4, 0xc0 | any_base | self.map, u8::from(wide) << 7 | low]
    }
}

fn parse(form: &Form) -> Opcode {
    let mut opcode = Opcode {
        mandatory: None,
        bare: false,
        bytes: Vec::new(),
        vex: None,
        register: false,
        modrm: ModRm::None,
    };
    let tokens: Vec<&str> = form.op.split_whitespace().collect();
    let hex = |text: &str| u8::from_str_radix(text, 16).expect("a byte in hex");
    let escapes = |bytes: &[u8]| matches!(bytes, [] | [0x0f] | [0x0f, 0x38 | 0x3a]);
    for (at, token) in tokens.iter().enumerate() {
        match *token {
            "NP" => opcode.bare = true,
            vex if vex.starts_with("VEX.") => (opcode.vex, opcode.bare) = (Some(Vex::parse(vex)), true),
            "66" | "F2" | "F3" if at == 0 && tokens.len() > 1 => opcode.mandatory = Some(hex(token)),
            "ib" | "iw" | "id" | "iz" | "cb" | "cz" | "cp" | "mo" => {}
            "/r" => opcode.modrm = ModRm::Any,
            digit if digit.starts_with('/') => opcode.modrm = ModRm::Digit(hex(&digit[1..])),
            byte => {
                let (number, suffix) = byte.split_once('+').unwrap_or((byte, ""));
                let mut number = hex(number);
                if suffix == "cc" {
                    number += form.condition.expect("a condition");
                }
                if escapes(&opcode.bytes) {
                    opcode.bytes.push(number);
                    opcode.register = suffix == "r";
                } else if suffix == "i" {
                    opcode.modrm = ModRm::FixedButRm(number);
                } else {
                    opcode.modrm = ModRm::Fixed(number);
                }
            }
        }
    }
    opcode
}

/// Whether ModRM's r/m may be memory, and whether it may be a register.
fn places(form: &Form) -> (bool, bool) {
    let has = |codes: &[Code]| form.operands.iter().any(|operand| codes.contains(&operand.code));
    if form.ignores_mod {
        return (true, true);
    }
    let both = has(&[Code::E, Code::Q, Code::W]);
    (both || has(&[Code::M]), both || has(&[Code::R, Code::N, Code::U]) || !has(&[Code::M]))
}

/// The registers by which an instruction with an XSAVE area chooses states. They can be no part of an address: there are states
/// that the processor has, and would store, and the tables do not know.
pub fn selectors_of_states(form: &Form) -> impl Iterator<Item = u8> {
    let is_area = has_area(form);
    form.operands.iter().filter_map(move |operand| match operand.code {
        Code::Reg(number) if is_area => Some(number),
        _ => None,
    })
}

/// Whether an instruction has an XSAVE area.
pub fn has_area(form: &Form) -> bool {
    form.operands.iter().any(|operand| operand.size == Size::Xs)
}

/// Encodes row `index` for an instruction that stands at `at`. `None` when the choices made do not fit together.
pub fn encode(index: usize, at: u32, options: &Options<'_>, random: &mut Random) -> Option<Encoding> {
    let form = &FORMS[index];
    let opcode = parse(form);
    let (memory, register) = places(form);
    let opsize16 = random.percent(35) && !opcode.bare && opcode.mandatory.is_none();
    let strings = form.operands.iter().any(|operand| matches!(operand.code, Code::X | Code::Y));
    let addr16 = options.frame.is_none()
        && random.percent(if memory || strings || !form.imms.is_empty() { 14 } else { 5 });
    let mut prefixes = Vec::new();
    let opsize16 = match opcode.mandatory {
        Some(prefix) => {
            prefixes.push(prefix);
            prefix == 0x66
        }
        None => opsize16,
    };
    if opsize16 && opcode.mandatory != Some(0x66) {
        prefixes.push(0x66);
    }
    if addr16 {
        prefixes.push(0x67);
    }
    if form.rep != Rep::Ignored && random.percent(70) {
        prefixes.push(random.pick(&[0xf2, 0xf3, 0xf3]));
    }
    let mut tail = opcode.vex.map_or_else(Vec::new, |vex| vex.encode(form, random));
    tail.extend(&opcode.bytes);
    if opcode.register {
        *tail.last_mut()? |= random.below(8) as u8;
    }
    let mut in_memory = false;
    match opcode.modrm {
        ModRm::None => {}
        ModRm::Fixed(byte) => tail.push(byte),
        ModRm::FixedButRm(byte) => tail.push(byte | random.below(8) as u8),
        ModRm::Any | ModRm::Digit(_) => {
            let reg = match opcode.modrm {
                ModRm::Digit(digit) => digit,
                _ => random.below(8) as u8,
            };
            in_memory = memory && (!register || random.percent(55));
            if in_memory && form.ignores_mod {
                tail.push((random.below(4) as u8) << 6 | reg << 3 | random.below(8) as u8);
                in_memory = false;
            } else if in_memory {
                memory_operand(&mut tail, reg, addr16, options, random);
            } else {
                tail.push(0xc0 | reg << 3 | random.below(8) as u8);
            }
        }
    }
    let segments = in_memory || strings || form.imms.contains(&Imm::Mo);
    if random.percent(if segments { 25 } else { 3 }) && (segments || options.decorate) {
        let segment = random.pick(&[0x26, 0x2e, 0x36, 0x3e, 0x64, 0x64, 0x65, 0x65]);
        // ARPL by CS: see opcodes/segment.toml.
        prefixes.push(if form.mnemonic == "arpl" && segment == 0x2e { 0x3e } else { segment });
    }
    if options.decorate {
        if in_memory && form.lock != Lock::Never && random.percent(30) {
            prefixes.push(0xf0);
        }
        // F2 and F3 mean nothing here, unless this processor has another instruction there.
        // LOOPE and LOOPNE: see opcodes/control.toml.
        let newer = opcode.bytes.first() == Some(&0x0f)
            || matches!(opcode.modrm, ModRm::Fixed(_) | ModRm::FixedButRm(_))
            || matches!(opcode.bytes[..], [0xe0 | 0xe1]);
        if !opcode.bare && !newer && form.rep == Rep::Ignored && random.percent(4) {
            prefixes.push(random.pick(&[0xf2, 0xf3]));
        }
        if prefixes.first().is_some_and(|prefix| *prefix != 0xf0) && random.percent(4) {
            prefixes.push(prefixes[0]);
        }
    }
    for end in (1..prefixes.len()).rev() {
        prefixes.swap(end, random.below(end as u32 + 1) as usize);
    }
    let mut bytes = prefixes;
    bytes.extend(tail);
    immediates(&mut bytes, form, at, [opsize16, addr16], options, random)?;
    let insn = decode(&bytes, at).ok()?;
    if insn
        .mem
        .is_some_and(|mem| selectors_of_states(form).any(|number| [mem.base, mem.index].contains(&number)))
    {
        return None;
    }
    (usize::from(insn.index) == index && usize::from(insn.len) == bytes.len())
        .then_some(Encoding { bytes, insn })
}

/// ModRM, SIB and displacement of a memory operand.
fn memory_operand(out: &mut Vec<u8>, reg: u8, addr16: bool, options: &Options<'_>, random: &mut Random) {
    if let Some(frame) = options.frame {
        return framed_operand(out, reg, frame, options.absolute, random);
    }
    let mode = random.below(3) as u8;
    let rm = random.below(8) as u8;
    out.push(mode << 6 | reg << 3 | rm);
    let mut absolute = if addr16 { mode == 0 && rm == 6 } else { mode == 0 && rm == 5 };
    if !addr16 && rm == 4 {
        let sib = random.word() as u8;
        out.push(sib);
        absolute = mode == 0 && sib & 7 == 5;
    }
    let wide = if addr16 { 2 } else { 4 };
    let displacement = random.operand();
    match mode {
        _ if absolute => {
            let address = if random.percent(90) { random.pick(options.absolute) } else { displacement };
            out.extend(&address.to_le_bytes()[..wide]);
        }
        0 => {}
        1 => out.push(displacement as u8),
        _ => out.extend(&displacement.to_le_bytes()[..wide]),
    }
}

/// The same, addressed by a frame.
fn framed_operand(out: &mut Vec<u8>, reg: u8, frame: Frame, absolute: &[u32], random: &mut Random) {
    const ESP: u8 = 4;
    const EBP: u8 = 5;
    let choice = random.below(10);
    if choice == 0 {
        out.push(reg << 3 | 5);
        return out.extend(random.pick(absolute).to_le_bytes());
    }
    let [one, two] = frame.bases;
    let base = random.pick(&[one, two, one, if frame.stack { ESP } else { two }]);
    let index = (choice < 4).then_some(frame.index);
    let mode = match random.below(3) {
        0 if base != EBP => 0,
        2 => 2,
        _ => 1,
    };
    if index.is_some() || base == ESP {
        let scale = if index.is_some() { random.below(4) as u8 } else { 0 };
        out.extend([mode << 6 | reg << 3 | 4, scale << 6 | index.unwrap_or(ESP) << 3 | base]);
    } else {
        out.push(mode << 6 | reg << 3 | base);
    }
    let displacement = random.below(2 * MOST_DISPLACEMENT).wrapping_sub(MOST_DISPLACEMENT);
    match mode {
        0 => {}
        1 => out.push(displacement as u8),
        _ => out.extend(displacement.to_le_bytes()),
    }
}

fn immediates(
    out: &mut Vec<u8>,
    form: &Form,
    at: u32,
    [opsize16, addr16]: [bool; 2],
    options: &Options<'_>,
    random: &mut Random,
) -> Option<()> {
    let z = if opsize16 { 2 } else { 4 };
    for imm in form.imms {
        let value = random.operand();
        match imm {
            Imm::Ib if form.mnemonic == "int" => out.push(random.pick(&[3, 4, 0x80, 0x80, value as u8])),
            Imm::Ib => out.push(value as u8),
            Imm::Iw => out.extend((value as u16).to_le_bytes()),
            Imm::Id => out.extend(value.to_le_bytes()),
            Imm::Iz => out.extend(&value.to_le_bytes()[..z]),
            Imm::Mo => {
                let address = random.pick(options.absolute).to_le_bytes();
                out.extend(&address[..if addr16 { 2 } else { 4 }]);
            }
            Imm::Cp => {
                out.extend(&random.pick(options.targets).to_le_bytes()[..z]);
                out.extend(far_selector(random).to_le_bytes());
            }
            Imm::Cb => {
                let len = out.len() as i32 + 1;
                // Before the instruction, right behind it, or behind the exit.
                let before = options.reach[0].min(127 - len);
                let behind = options.reach[1].min(127);
                let distance = match random.below(3) {
                    0 => 0,
                    1 => -(len + 1 + random.below(before.try_into().ok()?) as i32),
                    _ => options.exit + random.below((behind - options.exit).try_into().ok()?) as i32,
                };
                out.push(distance as u8);
            }
            Imm::Cz => {
                let target = if random.percent(30) { None } else { Some(random.pick(options.targets)) };
                let behind = at.wrapping_add((out.len() + z) as u32);
                let distance = target.map_or(0, |target| target.wrapping_sub(behind));
                out.extend(&distance.to_le_bytes()[..z]);
            }
        }
    }
    Some(())
}

/// A selector for CS: Linux's 32-bit code mostly; never its 64-bit code, which is real here.
pub fn far_selector(random: &mut Random) -> u16 {
    const LONG_CODE: u16 = 6;
    let selector = match random.below(8) {
        0 => random.pick(&[0, 1, 0x0b, 0x13, 0x1b, 0x2b, 0x7b, 0x43, 0x07, 0x27, 0xff]),
        1 => random.pick(&[0x20, 0x21, 0x22]),
        2 if random.percent(50) => random.word() as u16,
        _ => 0x23,
    };
    if selector >> 3 == LONG_CODE { 0x23 } else { selector }
}

/// An encoding of row `index`, to stand at `at` in a slot; far branches go to one of `targets`.
pub fn encode_for_slot(index: usize, at: u32, targets: &[u32], random: &mut Random) -> Encoding {
    let reach = [SLOT_ENTRY as i32, (SLOT - SLOT_ENTRY) as i32 - 16];
    let options =
        Options { absolute: &ABSOLUTE, targets, reach, exit: EXIT_LEN as i32, frame: None, decorate: true };
    let found = (0..1000).find_map(|_| encode(index, at, &options, random));
    found.unwrap_or_else(|| panic!("{} cannot be encoded", crate::single::row(&FORMS[index])))
}
