//! Runs an instruction on silicon and on the model from the same state.

use std::cmp::Ordering;

use table86::cpu::Fault;
use table86::fpu::Operand::{self, F32, F64, I16, I32, I64};
use table86::fpu::soft::F80;
use table86::fpu::soft::compare::Comparison;
use table86::fpu::{ENV_32, Fpu, SAVE_32, Store};

use crate::cases::Rng;
#[cfg(target_arch = "x86_64")]
use crate::native::Native;

/// Bytes of the memory operand, large enough for FXSAVE.
pub const MEMORY: usize = 512;

/// The memory operand and EFLAGS on the model's side.
pub struct Bus {
    pub memory: [u8; MEMORY],
    pub flags: u64,
}

pub const CF: u64 = 1 << 0;
pub const PF: u64 = 1 << 2;
const AF: u64 = 1 << 4;
pub const ZF: u64 = 1 << 6;
const SF: u64 = 1 << 7;
const OF: u64 = 1 << 11;
pub const ARITHMETIC: u64 = CF | PF | AF | ZF | SF | OF;

impl Bus {
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        *self.memory.first_chunk().expect("an operand has at most so many bytes")
    }

    pub fn f32(&self) -> Operand {
        F32(u32::from_le_bytes(self.bytes()))
    }

    pub fn f64(&self) -> Operand {
        F64(u64::from_le_bytes(self.bytes()))
    }

    pub fn f80(&self) -> Operand {
        Operand::F80(F80::from_bytes(self.bytes()))
    }

    pub fn i16(&self) -> Operand {
        I16(i16::from_le_bytes(self.bytes()))
    }

    pub fn i32(&self) -> Operand {
        I32(i32::from_le_bytes(self.bytes()))
    }

    pub fn i64(&self) -> Operand {
        I64(i64::from_le_bytes(self.bytes()))
    }

    pub fn store<T: Copy, const N: usize>(
        &mut self,
        fpu: &mut Fpu,
        store: Store<T>,
        pops: u8,
        bytes: fn(T) -> [u8; N],
    ) {
        if let Some(value) = store.value() {
            self.memory[..N].copy_from_slice(&bytes(value));
        }
        fpu.commit(&store, pops);
    }

    pub fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        self.memory[..N].copy_from_slice(&bytes);
    }

    pub fn compare(&mut self, outcome: Result<Comparison, Fault>) {
        let set = match outcome.expect("nothing is left undone") {
            None => ZF | PF | CF,
            Some(Ordering::Less) => CF,
            Some(Ordering::Equal) => ZF,
            Some(Ordering::Greater) => 0,
        };
        self.flags = self.flags & !ARITHMETIC | set;
    }

    pub fn any(&self, mask: u64) -> bool {
        self.flags & mask != 0
    }
}

/// What the memory operand is filled with.
#[derive(Clone, Copy)]
pub enum Fill {
    Single,
    Double,
    Extended,
    Integer,
    Bcd,
    /// An FXSAVE image, which the FSAVE images are laid over.
    Image,
    /// The same, and only the x87 part counts in what is left there.
    X87Part,
}

pub struct Instruction {
    pub text: &'static str,
    pub fill: Fill,
    #[cfg(target_arch = "x86_64")]
    pub native: Native,
    pub model: fn(&mut Fpu, &mut Bus),
}

/// One row an instruction: its text, what its memory holds, and its body on the model.
macro_rules! instructions {
    ($($text:literal, $fill:ident, |$fpu:pat_param, $bus:pat_param| $model:expr;)*) => {
        &[$($crate::harness::Instruction {
            text: $text,
            fill: $crate::harness::Fill::$fill,
            #[cfg(target_arch = "x86_64")]
            native: $crate::native::native!($text),
            model: |$fpu, $bus| $crate::harness::Done::done($model),
        }),*]
    };
}
pub(crate) use instructions;

/// What a model's instruction gives: nothing, or that it is done, as the whole of each is.
pub trait Done {
    fn done(self);
}

impl Done for () {
    fn done(self) {}
}

impl Done for Result<(), Fault> {
    fn done(self) {
        self.expect("nothing is left undone");
    }
}

/// What counts of the last instruction's pointers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum LastInstruction {
    /// Nothing: the instruction leaves its own there.
    Replaced,
    /// Everything: a control instruction keeps or loads them.
    Compared,
}

/// What an instruction starts from and what it leaves.
#[repr(C, align(16))]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// The FPU as an FSAVE image in the 32-bit format.
    pub image: [u8; SAVE_32],
    _pad: [u8; 4],
    /// The memory operand.
    pub memory: [u8; MEMORY],
    /// EFLAGS.
    pub flags: u64,
}

impl Frame {
    /// Makes a state before `instruction` of an FPU and a random memory operand and EFLAGS.
    pub fn random(instruction: &Instruction, fpu: &Fpu, rng: &mut Rng) -> Self {
        let flags = rng.bits() & ARITHMETIC | 0x202;
        let mut memory = [0xa5; MEMORY];
        match instruction.fill {
            Fill::Single => memory[..4].copy_from_slice(&rng.f32().to_le_bytes()),
            Fill::Double => memory[..8].copy_from_slice(&rng.f64().to_le_bytes()),
            Fill::Extended => memory[..10].copy_from_slice(&rng.f80(0x3fff).to_bytes()),
            Fill::Integer => memory[..8].copy_from_slice(&rng.integer().to_le_bytes()),
            Fill::Image | Fill::X87Part => rng.image(&mut memory),
            Fill::Bcd => memory[..10].copy_from_slice(&rng.bcd()),
        }
        Self { image: fpu.save32(), _pad: [0; 4], memory, flags }
    }

    /// The FPU.
    pub fn fpu(&self) -> Fpu {
        let mut fpu = Fpu::default();
        fpu.restore32(&self.image);
        fpu
    }

    /// The state with what does not count blanked.
    pub fn significant(mut self, pointers: LastInstruction) -> Self {
        if pointers == LastInstruction::Replaced {
            self.image[12..ENV_32 - 2].fill(0);
        }
        self.flags &= ARITHMETIC;
        self
    }
}

impl Instruction {
    /// Runs the instruction on the model.
    pub fn run_on_model(&self, before: &Frame) -> Frame {
        let mut fpu = before.fpu();
        let mut bus = Bus { memory: before.memory, flags: before.flags };
        (self.model)(&mut fpu, &mut bus);
        Frame { image: fpu.save32(), _pad: [0; 4], memory: bus.memory, flags: bus.flags }
    }

    /// The generator of the instruction's cases.
    pub fn generator(&self) -> Rng {
        Rng(self.text.bytes().fold(1u64, |n, byte| n.wrapping_mul(31) + u64::from(byte)))
    }
}
