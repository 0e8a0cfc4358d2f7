//! Runs single instructions on the host's x87.

use std::arch::x86_64::{__cpuid, __cpuid_count};

use table86::fpu::FXSAVE_X87;
use table86::isa::Vendor;

use crate::harness::{Fill, Frame, Instruction, LastInstruction};

/// Loads a frame's image and flags, runs an instruction, and saves both again.
pub type Native = fn(&mut Frame);

/// Whether the host is an AMD processor.
pub fn is_amd() -> bool {
    Vendor::of_host().is_some_and(|vendor| Vendor::Amd.covers(vendor))
}

/// Whether the host stores FCS and FDS as 0 (`ZERO_FCS_FDS` in `opcodes/features.toml`).
fn has_no_selectors() -> bool {
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).ebx >> 13 & 1 != 0
}

/// Where FCS and FDS are in the FSAVE image of a frame.
const SELECTORS: [usize; 2] = [16, 24];

impl Instruction {
    /// Runs the instruction on the host. What an FXSAVE image holds beyond the x87 part is taken from `model`, and
    /// so are its pointers unless an exception is pending: AMD processors store them only then.
    fn run_once(&self, before: &Frame, model: &Frame) -> Frame {
        let mut frame = *before;
        (self.native)(&mut frame);
        if has_no_selectors() {
            take_selectors(&mut frame.image, &model.image, SELECTORS);
            if let Some(places) = self.selectors() {
                take_selectors(&mut frame.memory, &model.memory, places);
            }
        }
        if let Fill::X87Part = self.fill {
            frame.memory[24..32].copy_from_slice(&model.memory[24..32]);
            frame.memory[FXSAVE_X87..].copy_from_slice(&model.memory[FXSAVE_X87..]);
            if !before.fpu().pending() {
                frame.memory[6..24].copy_from_slice(&model.memory[6..24]);
            }
        }
        frame
    }

    /// Where an image that the instruction stores has FCS and FDS.
    fn selectors(&self) -> Option<[usize; 2]> {
        let (wide, text) = match self.text.strip_prefix("data16 ") {
            Some(text) => (false, text),
            None => (true, self.text),
        };
        match text.split(' ').next()? {
            "fnstenv" | "fnsave" => Some(if wide { SELECTORS } else { [8, 12] }),
            "fxsave" => Some([12, 20]),
            _ => None,
        }
    }

    /// Runs the instruction on the host, a second time if pointers count and it differs from `model`.
    ///
    /// A context switch between load and save may lose the pointers: XSAVE on AMD processors keeps them only while
    /// an exception is pending. It will not come each time.
    pub fn run_on_silicon(&self, before: &Frame, model: &Frame, pointers: LastInstruction) -> Frame {
        let mut frame = self.run_once(before, model);
        for _ in 0..3 {
            if pointers == LastInstruction::Replaced
                || frame.significant(pointers) == model.significant(pointers)
            {
                break;
            }
            frame = self.run_once(before, model);
        }
        frame
    }
}

/// Replaces selectors that are 0 by the model's.
fn take_selectors(image: &mut [u8], model: &[u8], places: [usize; 2]) {
    for at in places {
        if image[at..at + 2] == [0; 2] {
            image[at..at + 2].copy_from_slice(&model[at..at + 2]);
        }
    }
}

/// Makes a [`Native`] of an instruction's text, in which `{m}` is the address of the memory operand.
macro_rules! native {
    ($text:literal) => {
        |frame: &mut $crate::harness::Frame| {
            // SAFETY: the frame is 16-byte aligned and exclusively borrowed, and the instruction accesses at most
            // its operand. FNSAVE leaves the FPU as FNINIT does, which is the state the ABI wants, and does
            // not wait, so that no exception is delivered.
            unsafe {
                std::arch::asm!(
                    "push {e}",
                    "popfq",
                    "frstor [{f}]",
                    $text,
                    "fnsave [{f}]",
                    "pushfq",
                    "pop {e}",
                    "/* {m} */",
                    f = in(reg) &raw mut frame.image,
                    m = in(reg) &raw mut frame.memory,
                    e = inout(reg) frame.flags,
                    out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
                    out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
                );
            }
        }
    };
}
pub(crate) use native;
