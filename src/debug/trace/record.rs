//! What one instruction did: the values before it, and what is different behind it.

use crate::cpu::{Cpu, FaultKind, V128};
use crate::debug::effects::{self, Place, Repeat, Touch};
use crate::fpu::Fpu;
use crate::isa::{Insn, flag};
use crate::memory::Memory;
use crate::{Machine, Stop};

/// Bytes of a value that are kept; of more, only their number is known.
pub const MOST_BYTES: usize = 16;

/// Bytes of a register or of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Value {
    /// The first of them, the lowest first.
    pub bytes: [u8; MOST_BYTES],
    /// How many there are.
    pub len: u32,
    /// They could be read.
    pub known: bool,
}

/// Something that has changed, or was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// What.
    pub what: What,
    /// Before.
    pub old: Value,
    /// Behind the instruction.
    pub new: Value,
}

/// A place, or a register that only changes can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A place.
    Place(Place),
    /// The x87's status word.
    FpuStatus,
    /// The x87's control word.
    FpuControl,
    /// Control and status of SSE.
    Mxcsr,
    /// Status flags and DF.
    Flag(u8),
    /// What else EFLAGS has.
    SystemFlags,
}

/// The state before an instruction.
#[derive(Default)]
pub struct Before {
    regs: [u32; 8],
    eflags: u32,
    selectors: [u16; 6],
    fpu: Fpu,
    xmm: [V128; 8],
    mxcsr: u32,
    /// What the row says, with the values then.
    pub touches: Vec<(Touch, Value)>,
    list: Vec<Touch>,
    repeat: Option<Repeat>,
}

/// Bits of EFLAGS for those of a [`flag`] mask, with their names.
pub const FLAGS: [(u8, u32, &str); 7] = [
    (flag::O, 1 << 11, "OF"),
    (flag::D, 1 << 10, "DF"),
    (flag::S, 1 << 7, "SF"),
    (flag::Z, 1 << 6, "ZF"),
    (flag::A, 1 << 4, "AF"),
    (flag::P, 1 << 2, "PF"),
    (flag::C, 1, "CF"),
];

impl Value {
    fn of(bytes: &[u8]) -> Value {
        let mut value = Value { len: bytes.len() as u32, known: true, ..Value::default() };
        let kept = bytes.len().min(MOST_BYTES);
        value.bytes[..kept].copy_from_slice(&bytes[..kept]);
        value
    }

    /// The bytes that are known.
    pub fn kept(&self) -> &[u8] {
        &self.bytes[..(self.len as usize).min(MOST_BYTES)]
    }

    /// As a number, if it is short enough.
    pub fn number(&self) -> Option<u128> {
        (self.len as usize <= MOST_BYTES).then(|| u128::from_le_bytes(self.bytes))
    }
}

fn memory_value(memory: &Memory, addr: u32, len: u32) -> Value {
    let mut value = Value { len, ..Value::default() };
    let kept = (len as usize).min(MOST_BYTES);
    value.known = memory.read_bytes(addr, &mut value.bytes[..kept]).is_ok();
    value
}

/// A part of a general register.
fn part(regs: &[u32; 8], number: u8, bytes: u8) -> Value {
    let value = match bytes {
        1 => regs[usize::from(number & 3)] >> (u32::from(number & 4) * 2),
        _ => regs[usize::from(number & 7)],
    };
    Value::of(&value.to_le_bytes()[..usize::from(bytes.min(4))])
}

fn float(fpu: &Fpu, physical: u8) -> Value {
    let value = fpu.physical(physical);
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&value.sig.to_le_bytes());
    bytes[8..].copy_from_slice(&value.se.to_le_bytes());
    Value::of(&bytes)
}

fn vector(xmm: V128, bytes: u8) -> Value {
    Value::of(&<[u8; 16]>::from(xmm)[..usize::from(bytes)])
}

fn read(cpu: &Cpu, memory: &Memory, place: Place) -> Value {
    match place {
        Place::Reg { number, bytes } => part(&cpu.regs, number, bytes),
        Place::Seg(number) => {
            Value::of(&cpu.selectors.get(usize::from(number)).copied().unwrap_or(0).to_le_bytes())
        }
        Place::St(number) => float(&cpu.fpu, cpu.fpu.top().wrapping_add(number) & 7),
        Place::Mm(number) => Value::of(&cpu.fpu.mm(number).to_le_bytes()),
        Place::Xmm { number, bytes } => vector(cpu.xmm[usize::from(number & 7)], bytes),
        Place::Memory { addr, len } => memory_value(memory, addr, len),
    }
}

impl Before {
    /// Notes the state before `insn`.
    pub fn note(&mut self, machine: &Machine, insn: Option<&Insn>) {
        let cpu = &machine.cpu;
        self.regs = cpu.regs;
        self.eflags = cpu.eflags();
        self.selectors = cpu.selectors;
        self.fpu = cpu.fpu;
        self.xmm = cpu.xmm;
        self.mxcsr = cpu.mxcsr;
        self.touches.clear();
        self.list.clear();
        self.repeat = None;
        if let Some(insn) = insn {
            self.repeat = effects::repeat(insn, cpu);
            effects::touches(insn, cpu, &mut self.list);
            let values = self.list.iter().map(|touch| (*touch, read(cpu, &machine.memory, touch.place)));
            self.touches.extend(values);
        }
    }

    /// The status flags, and DF, as they were.
    pub fn eflags(&self) -> u32 {
        self.eflags
    }

    /// What a repeated string instruction has not come to is not touched.
    pub fn settle(&mut self, machine: &Machine, insn: &Insn) {
        let Some(repeat) = self.repeat else { return };
        let left = effects::repeat(insn, &machine.cpu).map_or(0, |now| now.count);
        let done = repeat.count.wrapping_sub(left);
        for (touch, value) in &mut self.touches {
            if let Place::Memory { addr, len } = touch.place {
                let first =
                    if repeat.down { addr.wrapping_add(len.wrapping_sub(repeat.bytes)) } else { addr };
                touch.place = repeat.range(first, done);
                let Place::Memory { len, .. } = touch.place else { continue };
                value.len = len;
            }
        }
        self.touches.retain(|(touch, _)| !matches!(touch.place, Place::Memory { len: 0, .. }));
    }

    /// What is different behind the instruction, and what it has written, in a fixed order.
    pub fn changes(&self, machine: &Machine, out: &mut Vec<Change>) {
        let cpu = &machine.cpu;
        let mut told = [0u32; 8];
        let written = self.touches.iter().filter(|(touch, _)| touch.writes);
        for (touch, old) in written.clone() {
            if let Place::Reg { number, bytes } = touch.place {
                let (index, mask) = match bytes {
                    1 => (number & 3, 0xff << (u32::from(number & 4) * 2)),
                    2 => (number & 7, 0xffff),
                    _ => (number & 7, u32::MAX),
                };
                told[usize::from(index)] |= mask;
                let new = part(&cpu.regs, number, bytes);
                out.push(Change { what: What::Place(touch.place), old: *old, new });
            }
        }
        for number in 0..8u8 {
            let at = usize::from(number);
            if (self.regs[at] ^ cpu.regs[at]) & !told[at] != 0 {
                let place = Place::Reg { number, bytes: 4 };
                let (old, new) = (part(&self.regs, number, 4), part(&cpu.regs, number, 4));
                out.push(Change { what: What::Place(place), old, new });
            }
        }
        for number in 0..6u8 {
            let (old, new) = (self.selectors[usize::from(number)], cpu.selectors[usize::from(number)]);
            if old != new {
                let (old, new) = (Value::of(&old.to_le_bytes()), Value::of(&new.to_le_bytes()));
                out.push(Change { what: What::Place(Place::Seg(number)), old, new });
            }
        }
        self.float_changes(cpu, out);
        for (touch, old) in written {
            if let Place::Memory { .. } = touch.place {
                let new = read(cpu, &machine.memory, touch.place);
                out.push(Change { what: What::Place(touch.place), old: *old, new });
            }
        }
        let eflags = cpu.eflags();
        for (mask, bit, _) in FLAGS {
            let value = |image: u32| Value::of(&[u8::from(image & bit != 0)]);
            if (self.eflags ^ eflags) & bit != 0 {
                out.push(Change { what: What::Flag(mask), old: value(self.eflags), new: value(eflags) });
            }
        }
        let named = FLAGS.iter().fold(0, |all, (_, bit, _)| all | bit);
        if (self.eflags ^ eflags) & !named != 0 {
            let value = |image: u32| Value::of(&(image & !named).to_le_bytes());
            out.push(Change { what: What::SystemFlags, old: value(self.eflags), new: value(eflags) });
        }
    }

    /// The x87, MMX and SSE.
    fn float_changes(&self, cpu: &Cpu, out: &mut Vec<Change>) {
        let (old, new) = (&self.fpu, &cpu.fpu);
        if old != new {
            let is_mmx = self.touches.iter().any(|(touch, _)| matches!(touch.place, Place::Mm(_)));
            for physical in 0..8u8 {
                let tag = |fpu: &Fpu| fpu.tags() >> physical & 1;
                let moved = old.physical(physical) != new.physical(physical);
                if is_mmx && moved {
                    let value = |fpu: &Fpu| Value::of(&fpu.mm(physical).to_le_bytes());
                    let what = What::Place(Place::Mm(physical));
                    out.push(Change { what, old: value(old), new: value(new) });
                } else if moved || !is_mmx && tag(old) == 0 && tag(new) != 0 {
                    let place = Place::St(physical.wrapping_sub(new.top()) & 7);
                    let (old, new) = (float(old, physical), float(new, physical));
                    out.push(Change { what: What::Place(place), old, new });
                }
            }
            let words = [
                (What::FpuStatus, old.status(), new.status()),
                (What::FpuControl, old.control(), new.control()),
            ];
            for (what, old, new) in words {
                if old != new {
                    let (old, new) = (Value::of(&old.to_le_bytes()), Value::of(&new.to_le_bytes()));
                    out.push(Change { what, old, new });
                }
            }
        }
        for number in 0..8u8 {
            let (old, new) = (self.xmm[usize::from(number)], cpu.xmm[usize::from(number)]);
            if old != new {
                let place = Place::Xmm { number, bytes: 16 };
                out.push(Change { what: What::Place(place), old: vector(old, 16), new: vector(new, 16) });
            }
        }
        if self.mxcsr != cpu.mxcsr {
            let (old, new) = (Value::of(&self.mxcsr.to_le_bytes()), Value::of(&cpu.mxcsr.to_le_bytes()));
            out.push(Change { what: What::Mxcsr, old, new });
        }
    }
}

/// What stopped an instruction, in the manual's words: `#PF(0x4) at 0x0`. Nothing for interrupts that the program asked for.
pub fn fault_text(machine: &Machine, stop: Stop) -> Option<String> {
    let (fault, name) = match stop {
        Stop::Exception(fault) => (fault, shown(fault)),
        Stop::Bus(fault) => (fault, "bus error".to_owned()),
        Stop::Limit | Stop::Requested | Stop::Hook | Stop::Breakpoint => return None,
    };
    match fault.kind {
        FaultKind::Int | FaultKind::Sysenter => None,
        FaultKind::Pf => Some(format!("{name} at {:#x}", machine.cpu.cr2)),
        _ => Some(name),
    }
}

fn shown(fault: crate::Fault) -> String {
    let name = format!("{:?}", fault.kind).to_uppercase();
    match fault.kind {
        FaultKind::Gp | FaultKind::Ss | FaultKind::Np | FaultKind::Pf => {
            format!("#{name}({:#x})", fault.code)
        }
        FaultKind::Todo => "#UD (not implemented)".to_owned(),
        _ => format!("#{name}"),
    }
}
