//! What goes into a run and what comes out: plain data.

use super::{CODE, STACK, WINDOW, enter};
use std::fmt;
use std::io;

/// Indices into [`State::regs`].
pub mod reg {
    pub const EAX: usize = 0;
    pub const ECX: usize = 1;
    pub const EDX: usize = 2;
    pub const EBX: usize = 3;
    pub const ESP: usize = 4;
    pub const EBP: usize = 5;
    pub const ESI: usize = 6;
    pub const EDI: usize = 7;
}

/// Bits of [`State::eflags`].
pub mod flag {
    pub const CF: u32 = 1;
    pub const PF: u32 = 1 << 2;
    pub const AF: u32 = 1 << 4;
    pub const ZF: u32 = 1 << 6;
    pub const SF: u32 = 1 << 7;
    pub const TF: u32 = 1 << 8;
    pub const IF: u32 = 1 << 9;
    pub const DF: u32 = 1 << 10;
    pub const OF: u32 = 1 << 11;
    pub const NT: u32 = 1 << 14;
    pub const RF: u32 = 1 << 16;
    pub const AC: u32 = 1 << 18;
    pub const ID: u32 = 1 << 21;
    /// The six that arithmetic changes.
    pub const ARITHMETIC: u32 = CF | PF | AF | ZF | SF | OF;
}

/// Indices into [`State::segs`].
pub mod seg {
    pub const ES: usize = 0;
    pub const CS: usize = 1;
    pub const SS: usize = 2;
    pub const DS: usize = 3;
    pub const FS: usize = 4;
    pub const GS: usize = 5;
}

/// The user-visible state of the processor.
#[derive(Clone, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct State {
    /// The image FXSAVE writes with 32-bit operand size. SDM Vol. 2A, "FXSAVE".
    pub fx: [u8; 512],
    /// EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI.
    pub regs: [u32; 8],
    /// The instruction pointer.
    pub eip: u32,
    /// Going in, bits that user code cannot change are ignored, IF and bit 1 set. At a fault RF
    /// is set as the processor pushed it.
    pub eflags: u32,
    /// ES, CS, SS, DS, FS, GS.
    pub segs: [u16; 6],
}

impl State {
    /// The default state with these registers, such as `&[(reg::EAX, 7)]`.
    pub fn with(regs: &[(usize, u32)]) -> State {
        let mut state = State::default();
        for &(index, value) in regs {
            state.regs[index] = value;
        }
        state
    }
}

impl Default for State {
    /// Zeroed registers, ESP in the middle of the stack window, flat segments, FS and GS null,
    /// the FPU as FNINIT and MXCSR as reset leave them.
    fn default() -> State {
        let mut fx = [0; 512];
        fx[..2].copy_from_slice(&0x037Fu16.to_le_bytes());
        fx[24..28].copy_from_slice(&0x1F80u32.to_le_bytes());
        let mut regs = [0; 8];
        regs[reg::ESP] = STACK + WINDOW / 2;
        let flat = enter::DATA_SELECTOR;
        State { fx, regs, eip: CODE, eflags: enter::HOST_EFLAGS, segs: [flat, enter::CS32, flat, flat, 0, 0] }
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "State {{ eip: {:#x}, eflags: {:#x}, regs: {:x?}", self.eip, self.eflags, self.regs)?;
        write!(f, ", segs: {:x?}, fx:", self.segs)?;
        // A line of zeros says nothing, and there are many.
        for (at, line) in
            self.fx.chunks(16).enumerate().filter(|(_, line)| line.iter().any(|&byte| byte != 0))
        {
            write!(f, " {:#x}: ", at * 16)?;
            line.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        }
        f.write_str(" }")
    }
}

/// What the processor and the kernel said about a fault or trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The vector, such as 14 for #PF.
    pub vector: u8,
    /// The error code, 0 for vectors without one.
    pub error: u32,
    /// For #PF the address that faulted, else 0.
    pub cr2: u32,
    /// The signal Linux makes of it, such as SIGSEGV.
    pub signal: i32,
    /// The signal's `si_code`.
    pub code: i32,
    /// The signal's `si_addr`.
    pub address: u32,
}

impl Fault {
    pub const DE: u8 = 0;
    pub const DB: u8 = 1;
    pub const BP: u8 = 3;
    pub const OF: u8 = 4;
    pub const BR: u8 = 5;
    pub const UD: u8 = 6;
    pub const NP: u8 = 11;
    pub const SS: u8 = 12;
    pub const GP: u8 = 13;
    pub const PF: u8 = 14;
    pub const MF: u8 = 16;
    pub const AC: u8 = 17;
    pub const XM: u8 = 19;
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The code ran to its end; EIP is the first byte behind the code loaded last.
    End,
    /// The code went to [`EXIT`]; EIP is that.
    Jump,
    /// One instruction was executed, see [`Oracle::step`].
    Step,
    /// A fault or trap; the state is the one the handler would see.
    Fault(Fault),
    /// The code made a system call, which was not carried out. The state is exact for INT 80h
    /// (EIP behind it); the kernel's entries for SYSENTER and SYSCALL change EIP, ESP and EBP.
    Syscall,
    /// The run took more CPU time than [`Oracle::set_timeout`] allows.
    Timeout,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The state at the end.
    pub state: State,
    /// The reason.
    pub stop: Stop,
}

impl Outcome {
    /// The fault, if one ended the run.
    pub fn fault(&self) -> Option<Fault> {
        match self.stop {
            Stop::Fault(fault) => Some(fault),
            _ => None,
        }
    }
}

/// A data segment for FS, GS or another segment register, see set_thread_area(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The linear address of offset 0.
    pub base: u32,
    /// The last valid offset (expanding down: the last invalid one), in bytes or pages; 20 bits.
    pub limit: u32,
    /// Whether `limit` counts pages of 4 KiB.
    pub limit_in_pages: bool,
    /// Whether writing is allowed.
    pub writable: bool,
    /// Whether the valid offsets are those above the limit.
    pub expand_down: bool,
}

impl Segment {
    /// A writable segment with all of the 4 GiB that follow `base`.
    pub fn flat(base: u32) -> Segment {
        let limit = 0xF_FFFF;
        Segment { base, limit, limit_in_pages: true, writable: true, expand_down: false }
    }
}

/// Why there is no oracle on this host.
#[derive(Debug)]
pub enum Unavailable {
    /// The processor or the kernel has no 32-bit code segment for user programs.
    No32BitSegment,
    /// User code may not use RDFSBASE and WRFSBASE, which the way back needs (Linux 5.9).
    NoFsGsBase,
    /// Code of this process lies below 4 GiB, where the guest's would be taken for it.
    LowCode,
    /// Memory at a fixed address cannot be had.
    Mapping(u32, io::Error),
    /// A system call failed.
    Os(&'static str, io::Error),
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unavailable::No32BitSegment => f.write_str("no 32-bit code segment (selector 0x23) on this host"),
            Unavailable::NoFsGsBase => f.write_str("no RDFSBASE in user mode on this host (needs Linux 5.9)"),
            Unavailable::LowCode => f.write_str("this program is not position-independent"),
            Unavailable::Mapping(address, error) => write!(f, "cannot map {address:#x}: {error}"),
            Unavailable::Os(what, error) => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for Unavailable {}
