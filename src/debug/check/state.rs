//! A processor's state as it is compared: general registers, EFLAGS, segments, and the FXSAVE image.

use crate::cpu::image::FXSAVE_BYTES;
use crate::cpu::{Cpu, Seg, eflags};
use std::fmt;

/// General and segment registers, EIP and EFLAGS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// EAX ECX EDX EBX ESP EBP ESI EDI, see [`crate::cpu::reg`].
    pub regs: [u32; 8],
    /// The next instruction.
    pub eip: u32,
    /// EFLAGS.
    pub eflags: u32,
    /// Selectors of ES CS SS DS FS GS.
    pub selectors: [u16; 6],
    /// Bases of FS and GS; those of the others are 0 in all that Linux lets a program do without an LDT.
    pub bases: [u32; 2],
}

/// Names of [`Registers::regs`].
pub(super) const REGISTERS: [&str; 8] = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"];
/// Names of [`Registers::selectors`].
pub(super) const SEGMENTS: [&str; 6] = ["es", "cs", "ss", "ds", "fs", "gs"];
/// Names of EFLAGS' bits.
const FLAGS: [(u32, &str); 12] = [
    (eflags::CF, "CF"),
    (eflags::PF, "PF"),
    (eflags::AF, "AF"),
    (eflags::ZF, "ZF"),
    (eflags::SF, "SF"),
    (eflags::TF, "TF"),
    (eflags::DF, "DF"),
    (eflags::OF, "OF"),
    (eflags::NT, "NT"),
    (eflags::AC, "AC"),
    (eflags::ID, "ID"),
    (eflags::RF, "RF"),
];

/// EFLAGS' bits in words.
pub(super) struct Flags(pub u32);

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = FLAGS.iter().filter(|(bit, _)| self.0 & bit != 0).map(|(_, name)| *name);
        f.write_str(names.next().unwrap_or("none"))?;
        names.try_for_each(|name| write!(f, " {name}"))
    }
}

impl Registers {
    /// Those of a CPU that is stopped.
    pub fn of(cpu: &Cpu) -> Registers {
        Registers {
            regs: cpu.regs,
            eip: cpu.eip,
            eflags: cpu.eflags(),
            selectors: cpu.selectors,
            bases: [Seg::Fs, Seg::Gs].map(|seg| cpu.segment_bases[seg as usize]),
        }
    }

    /// Gives a CPU these; its descriptors have to be there.
    pub(super) fn load(&self, cpu: &mut Cpu) {
        cpu.regs = self.regs;
        cpu.eip = self.eip;
        cpu.set_eflags(self.eflags & !eflags::RF);
        cpu.selectors = self.selectors;
        cpu.segment_bases = [0; 8];
        for seg in [Seg::Es, Seg::Ds] {
            cpu.segment_bases[seg as usize] =
                cpu.descriptors.load_data(seg, self.selectors[seg as usize]).unwrap_or(0);
        }
        for (seg, base) in [Seg::Fs, Seg::Gs].into_iter().zip(self.bases) {
            cpu.segment_bases[seg as usize] = base;
        }
    }
}

impl fmt::Display for Registers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in REGISTERS.iter().zip(self.regs) {
            write!(f, "{name}={value:08x} ")?;
        }
        write!(f, "eip={:08x} eflags={:08x} ({})", self.eip, self.eflags, Flags(self.eflags))?;
        for (name, value) in SEGMENTS.iter().zip(self.selectors) {
            write!(f, " {name}={value:x}")?;
        }
        write!(f, " fsbase={:x} gsbase={:x}", self.bases[0], self.bases[1])
    }
}

/// FPU and vector registers: an FXSAVE image (SDM Vol. 1, table 10-2).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Image(pub [u8; FXSAVE_BYTES]);

/// Where the parts of an FXSAVE image stand that are compared: name, first byte, length.
const PARTS: [(&str, usize, usize); 4] =
    [("fpu control", 0, 2), ("fpu status", 2, 2), ("fpu tags", 4, 1), ("mxcsr", 24, 4)];
/// FOP, FIP, FCS, FDP, FDS.
const POINTERS: [std::ops::Range<usize>; 2] = [6..8, 8..24];
/// Where ST(0) and XMM0 stand, the distance to the next register, and its bytes.
const ST: (usize, usize, usize) = (32, 16, 10);
const XMM: (usize, usize, usize) = (160, 16, 16);
/// Where the mask of MXCSR's bits stands.
pub(super) const MXCSR_MASK: std::ops::Range<u32> = 28..32;

impl Image {
    /// That of a CPU.
    pub fn of(cpu: &Cpu) -> Image {
        Image(cpu.fxsave())
    }

    /// The same with another's FOP, FIP, FCS, FDP and FDS.
    pub(super) fn with_pointers(mut self, other: &Image) -> Image {
        for range in POINTERS {
            self.0[range.clone()].copy_from_slice(&other.0[range]);
        }
        self
    }

    /// ST(`i`): significand and, in the upper half, sign and exponent.
    pub(super) fn st(&self, i: usize) -> (u64, u16) {
        let at = ST.0 + i * ST.1;
        let mut bytes = [0; 16];
        bytes[..ST.2].copy_from_slice(&self.0[at..at + ST.2]);
        let bits = u128::from_le_bytes(bytes);
        (bits as u64, (bits >> 64) as u16)
    }

    /// The same with ST(`i`) of another.
    pub(super) fn with_st(mut self, i: usize, other: &Image) -> Image {
        let at = ST.0 + i * ST.1;
        self.0[at..at + ST.2].copy_from_slice(&other.0[at..at + ST.2]);
        self
    }

    /// The status word.
    pub(super) fn status(&mut self) -> &mut [u8] {
        &mut self.0[2..4]
    }

    /// What differs, by name: this one's and the other's bytes, the highest first.
    pub(super) fn differences(&self, other: &Image) -> Vec<(String, String, String)> {
        let registers = |name: &'static str, (first, stride, len): (usize, usize, usize)| {
            (0..8).map(move |i| (format!("{name}{i}"), first + i * stride, len))
        };
        let parts = PARTS.into_iter().map(|(name, at, len)| (name.to_owned(), at, len));
        parts
            .chain(registers("st", ST))
            .chain(registers("xmm", XMM))
            .map(|(name, at, len)| (name, &self.0[at..at + len], &other.0[at..at + len]))
            .filter(|(_, mine, others)| mine != others)
            .map(|(name, mine, others)| (name, number(mine), number(others)))
            .collect()
    }
}

/// Little-endian bytes as a hexadecimal number.
pub(super) fn number(bytes: &[u8]) -> String {
    bytes.iter().rev().map(|byte| format!("{byte:02x}")).collect()
}

/// All that is compared of a processor.
#[derive(Clone, Copy)]
pub struct State {
    /// General registers.
    pub registers: Registers,
    /// FPU and vector registers.
    pub image: Image,
}
