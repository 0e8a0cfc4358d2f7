//! The processor: state, flags, exceptions, and the bodies of instructions. Knows no Linux.

pub mod exec;
pub mod fault;
pub mod flags;
pub mod float;
pub mod image;
pub mod insn;
pub mod mxcsr;
pub mod native;
pub mod segment;
pub mod vector;
pub mod word;
pub(crate) mod x87;

pub use exec::Exec;
pub use fault::{Fault, FaultKind};
pub use flags::{FlagState, Pending, eflags};
pub use segment::{Descriptors, Seg};
pub use vector::V128;
pub use word::Word;

use crate::engine::links::{JumpCache, Shadow};
use crate::engine::op::{Ext, Op};
use crate::fpu::Fpu;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Indices into [`Cpu::regs`], as ModRM numbers them.
pub mod reg {
    #![allow(missing_docs)]
    pub const EAX: usize = 0;
    pub const ECX: usize = 1;
    pub const EDX: usize = 2;
    pub const EBX: usize = 3;
    pub const ESP: usize = 4;
    pub const EBP: usize = 5;
    pub const ESI: usize = 6;
    pub const EDI: usize = 7;
}

/// Byte offset in [`Cpu`] of a register that is always zero: "no base", "no index".
pub(crate) const ZERO_REG: u8 = 32;

/// Why the handlers came back to the run loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// EIP is set; go on there.
    #[default]
    Jump,
    /// As `Jump`, and the target of the branch at `patch` may be linked to what is found.
    Link,
    /// `fault` was raised by the op at `exit_op`.
    Fault,
    /// As `Fault`, but a SIGBUS: beyond the end of a mapped file.
    Bus,
    /// The instruction of the op at `exit_op` is one to stop before.
    Breakpoint,
    /// The code of the block at EIP has changed since it was translated.
    Modified,
    /// The block at EIP has run often enough to be translated well.
    Warm,
    /// The instruction count reached the limit, or somebody asked for a stop. EIP is set.
    Limit,
}

/// The state of one guest thread's processor.
///
/// The fields up to `segment_bases` are within a byte's displacement of the handlers' first argument; aligned so that what is
/// stored most lies in few lines of the host's cache.
#[repr(C, align(64))]
pub struct Cpu {
    /// EAX ECX EDX EBX ESP EBP ESI EDI, see [`reg`].
    pub regs: [u32; 8],
    zero: u32,
    /// The next instruction, while the CPU is stopped.
    pub eip: u32,
    /// O S Z A P C, lazily.
    pub flags: FlagState,
    /// Instructions executed.
    pub(crate) count: u64,
    /// When `count` passes this, the handlers return; see [`Cpu::request_stop`].
    pub(crate) limit: AtomicU64,
    /// Somebody wants the handlers to return.
    pub(crate) stop_requested: AtomicBool,
    /// EFLAGS without the status flags: TF, DF, AC, ID, …
    pub system_flags: u32,
    /// What the host's FPU has of `fpu`.
    #[cfg(trap_memory)]
    pub(crate) live: crate::fpu::live::Live,
    /// What becomes `fpu.pointers`.
    pub(crate) notes: crate::fpu::notes::Notes,
    /// Bases of ES CS SS DS FS GS, and a zero for "no segment".
    pub segment_bases: [u32; 8],
    pub(crate) exit: Exit,
    pub(crate) shadow_top: u32,
    pub(crate) fault: Fault,
    /// The op that faulted.
    pub(crate) exit_op: *const Op,
    /// The branch that may be linked.
    pub(crate) patch: *mut Ext,
    /// The op at work while bulk copies run outside of handlers.
    pub(crate) current_op: *const Op,
    /// Where a machine that counts does so, and else null.
    pub(crate) tallies: *mut u64,
    /// In such a machine, blocks are entered no more when `count` is as much as this, and `limit` is out of reach.
    pub(crate) entry_limit: AtomicU64,
    /// Host stack pointer to come back to.
    pub(crate) host_stack: u64,
    /// Selectors of ES CS SS DS FS GS.
    pub selectors: [u16; 6],
    /// Address of the last #PF.
    pub cr2: u32,
    /// One protection byte per guest page, see [`crate::memory`].
    pub(crate) pages: *const u8,
    /// CR4.TSD: RDTSC and RDTSCP raise #GP.
    pub tsd: bool,
    /// Descriptor tables, as far as user mode can see them.
    pub descriptors: Descriptors,
    /// x87 state, while the CPU is stopped. Bodies use [`Exec::fpu`].
    pub fpu: Fpu,
    /// XMM0 to XMM7.
    pub xmm: [V128; 8],
    /// Control and status of SSE (SDM Vol. 1, 10.2.3); never with reserved bits.
    pub mxcsr: u32,
    /// Bits of `mxcsr` that have to be those of [`mxcsr::ALL_MASKED`] for the host's instructions to be used; 0: never.
    pub(crate) host_floats: u32,
    /// What the host has beyond every x86-64, as far as it may be used: bits of [`native`].
    pub(crate) host_features: u32,
    /// What CPUID answers.
    pub cpuid: crate::isa::CpuModel,
    pub(crate) shadow: Shadow,
    pub(crate) jumps: JumpCache,
    /// The host's registers at the last access that faulted.
    #[cfg(trap_memory)]
    pub(crate) host_state: crate::engine::recover::HostState,
}

impl Cpu {
    /// A CPU as Linux starts a program: flat segments, interrupts enabled, everything else zero.
    pub fn new() -> Box<Cpu> {
        Box::new(Cpu {
            regs: [0; 8],
            zero: 0,
            eip: 0,
            flags: FlagState::from_eflags(0),
            count: 0,
            limit: AtomicU64::new(u64::MAX),
            stop_requested: AtomicBool::new(false),
            system_flags: eflags::IF | eflags::FIXED,
            #[cfg(trap_memory)]
            live: crate::fpu::live::Live::new(false),
            notes: crate::fpu::notes::Notes::NONE,
            segment_bases: [0; 8],
            exit: Exit::Jump,
            shadow_top: 0,
            fault: Fault::UD,
            exit_op: std::ptr::null(),
            patch: std::ptr::null_mut(),
            current_op: std::ptr::null(),
            tallies: std::ptr::null_mut(),
            entry_limit: AtomicU64::new(u64::MAX),
            host_stack: 0,
            selectors: [segment::USER_DATA, segment::USER_CODE, segment::USER_DATA, segment::USER_DATA, 0, 0],
            cr2: 0,
            tsd: false,
            pages: std::ptr::null(),
            descriptors: Descriptors::default(),
            fpu: Fpu::default(),
            xmm: [V128::ZERO; 8],
            mxcsr: mxcsr::ALL_MASKED,
            host_floats: mxcsr::ALL_MASKED,
            host_features: native::features(),
            cpuid: crate::isa::CpuModel::default(),
            shadow: Shadow::default(),
            jumps: JumpCache::default(),
            #[cfg(trap_memory)]
            host_state: crate::engine::recover::HostState::default(),
        })
    }

    /// EFLAGS, whole.
    pub fn eflags(&self) -> u32 {
        self.flags.eflags() | self.system_flags | eflags::FIXED
    }

    /// Replaces all of EFLAGS; nothing is masked.
    pub fn set_eflags(&mut self, image: u32) {
        self.flags.set_eflags(image);
        self.system_flags = image & !eflags::STATUS | eflags::FIXED;
    }

    /// Instructions executed since the CPU was made.
    pub fn instructions(&self) -> u64 {
        self.count
    }

    /// Makes the handlers return at the next block boundary, to go on at once.
    ///
    /// # Safety
    /// `cpu` is a CPU; another thread may be running it.
    pub(crate) unsafe fn leave_soon(cpu: *const Cpu) {
        // SAFETY: only the atomics are touched, and a pointer that stays as it is.
        unsafe { (*cpu).limit_of_runs().store(0, Ordering::SeqCst) };
    }

    /// What a run of handlers stops by.
    pub(crate) fn limit_of_runs(&self) -> &AtomicU64 {
        if self.tallies.is_null() { &self.limit } else { &self.entry_limit }
    }

    /// Makes the handlers return at the next block boundary. Safe to call from a signal handler or another
    /// thread.
    pub fn request_stop(&self) {
        self.stop_requested.store(true, Ordering::SeqCst);
        self.limit_of_runs().store(0, Ordering::SeqCst);
    }
}
