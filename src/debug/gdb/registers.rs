//! Registers as gdb has them.

use crate::cpu::{Cpu, Seg, V128};
use crate::fpu::soft::F80;
use gdbstub::arch::Arch;
use gdbstub_arch::x86::reg::id::X86CoreRegId;
use gdbstub_arch::x86::reg::{X86CoreRegs, X86SegmentRegs, X87FpuInternalRegs};

/// i386 as Linux has it: gdb takes a target for that only if it shows which system call a thread is in.
#[derive(Debug)]
pub enum I386Linux {}

impl Arch for I386Linux {
    type Usize = u32;
    type Registers = Registers;
    type BreakpointKind = usize;
    type RegId = X86CoreRegId;
}

/// The registers of a thread, and that one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registers {
    pub core: X86CoreRegs,
    /// The number of the system call that the thread is in or has come from; negative if there is none.
    pub orig_eax: u32,
}

impl Default for Registers {
    fn default() -> Registers {
        Registers { core: X86CoreRegs::default(), orig_eax: u32::MAX }
    }
}

impl gdbstub::arch::Registers for Registers {
    type ProgramCounter = u32;

    fn pc(&self) -> u32 {
        self.core.eip
    }

    fn gdb_serialize(&self, mut write: impl FnMut(Option<u8>)) {
        self.core.gdb_serialize(&mut write);
        self.orig_eax.to_le_bytes().into_iter().for_each(|byte| write(Some(byte)));
    }

    fn gdb_deserialize(&mut self, bytes: &[u8]) -> Result<(), ()> {
        let (core, last) = bytes.split_last_chunk().ok_or(())?;
        self.core.gdb_deserialize(core)?;
        self.orig_eax = u32::from_le_bytes(*last);
        Ok(())
    }
}

/// The registers of a thread.
pub fn of(cpu: &Cpu, orig_eax: u32) -> Registers {
    let [eax, ecx, edx, ebx, esp, ebp, esi, edi] = cpu.regs;
    let selector = |seg: Seg| u32::from(cpu.selectors[seg as usize]);
    let fpu = &cpu.fpu;
    let st = std::array::from_fn(|index| {
        let value = fpu.st(index as u8);
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&value.sig.to_le_bytes());
        bytes[8..].copy_from_slice(&value.se.to_le_bytes());
        bytes
    });
    let core = X86CoreRegs {
        eax,
        ecx,
        edx,
        ebx,
        esp,
        ebp,
        esi,
        edi,
        eip: cpu.eip,
        eflags: cpu.eflags(),
        segments: X86SegmentRegs {
            cs: selector(Seg::Cs),
            ss: selector(Seg::Ss),
            ds: selector(Seg::Ds),
            es: selector(Seg::Es),
            fs: selector(Seg::Fs),
            gs: selector(Seg::Gs),
        },
        st,
        fpu: X87FpuInternalRegs {
            fctrl: fpu.control().into(),
            fstat: fpu.status().into(),
            ftag: fpu.tag_word().into(),
            fiseg: fpu.pointers.fcs.into(),
            fioff: fpu.pointers.fip,
            foseg: fpu.pointers.fds.into(),
            fooff: fpu.pointers.fdp,
            fop: fpu.pointers.fop.into(),
        },
        xmm: cpu.xmm.map(u128::from),
        mxcsr: cpu.mxcsr,
    };
    Registers { core, orig_eax }
}

/// Gives a thread the registers that gdb wants it to have; what a user program cannot change stays, and so do segment
/// registers.
pub fn put(cpu: &mut Cpu, Registers { core: regs, .. }: &Registers) {
    use crate::cpu::eflags::{AC, DF, ID, NT, STATUS, TF};
    const WRITABLE: u32 = STATUS | DF | TF | NT | AC | ID;
    cpu.regs = [regs.eax, regs.ecx, regs.edx, regs.ebx, regs.esp, regs.ebp, regs.esi, regs.edi];
    cpu.eip = regs.eip;
    cpu.set_eflags(cpu.eflags() & !WRITABLE | regs.eflags & WRITABLE);
    let fpu = &mut cpu.fpu;
    fpu.set_control(regs.fpu.fctrl as u16);
    fpu.set_status(regs.fpu.fstat as u16);
    for (index, bytes) in regs.st.iter().enumerate() {
        let sig = u64::from_le_bytes(std::array::from_fn(|at| bytes[at]));
        fpu.set_st(index as u8, F80::new(u16::from_le_bytes([bytes[8], bytes[9]]), sig));
    }
    fpu.set_tag_word(regs.fpu.ftag as u16);
    fpu.pointers.fcs = regs.fpu.fiseg as u16;
    fpu.pointers.fip = regs.fpu.fioff;
    fpu.pointers.fds = regs.fpu.foseg as u16;
    fpu.pointers.fdp = regs.fpu.fooff;
    fpu.pointers.fop = regs.fpu.fop as u16;
    cpu.xmm = regs.xmm.map(V128::from);
    // Reserved bits would raise #GP.
    cpu.mxcsr = regs.mxcsr & 0xffff;
}

/// Signals by gdb's numbers (`gdb/signals.def`) and the host's.
const SIGNALS: [(u8, i32); 30] = [
    (1, libc::SIGHUP),
    (2, libc::SIGINT),
    (3, libc::SIGQUIT),
    (4, libc::SIGILL),
    (5, libc::SIGTRAP),
    (6, libc::SIGABRT),
    (8, libc::SIGFPE),
    (9, libc::SIGKILL),
    (10, libc::SIGBUS),
    (11, libc::SIGSEGV),
    (12, libc::SIGSYS),
    (13, libc::SIGPIPE),
    (14, libc::SIGALRM),
    (15, libc::SIGTERM),
    (16, libc::SIGURG),
    (17, libc::SIGSTOP),
    (18, libc::SIGTSTP),
    (19, libc::SIGCONT),
    (20, libc::SIGCHLD),
    (21, libc::SIGTTIN),
    (22, libc::SIGTTOU),
    (23, libc::SIGIO),
    (24, libc::SIGXCPU),
    (25, libc::SIGXFSZ),
    (26, libc::SIGVTALRM),
    (27, libc::SIGPROF),
    (28, libc::SIGWINCH),
    (30, libc::SIGUSR1),
    (31, libc::SIGUSR2),
    (32, libc::SIGPWR),
];
/// gdb's numbers of the real-time signals 33 to 63, of 32 and of 64.
const REALTIME_33: u8 = 45;
const REALTIME_32: u8 = 77;
const REALTIME_64: u8 = 78;
/// gdb's number for what it has none for.
const UNKNOWN: u8 = 143;

/// gdb's number of a signal.
pub fn signal_to_gdb(signal: i32) -> u8 {
    match (SIGNALS.iter().find(|(_, host)| *host == signal), signal) {
        (Some((gdb, _)), _) => *gdb,
        (None, 32) => REALTIME_32,
        (None, 33..=63) => REALTIME_33 + (signal - 33) as u8,
        (None, 64) => REALTIME_64,
        (None, _) => UNKNOWN,
    }
}

/// A signal by gdb's number.
pub fn signal_from_gdb(number: u8) -> Option<i32> {
    match (SIGNALS.iter().find(|(gdb, _)| *gdb == number), number) {
        (Some((_, host)), _) => Some(*host),
        (None, REALTIME_32) => Some(32),
        (None, REALTIME_33..=75) => Some(33 + i32::from(number - REALTIME_33)),
        (None, REALTIME_64) => Some(64),
        (None, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_is_the_same_there_and_back() {
        for signal in (1..=64).filter(|signal| *signal != libc::SIGSTKFLT) {
            assert_eq!(signal_from_gdb(signal_to_gdb(signal)), Some(signal), "{signal}");
        }
        assert_eq!((signal_from_gdb(0), signal_from_gdb(UNKNOWN)), (None, None));
    }

    #[test]
    fn registers_are_the_same_there_and_back() {
        let mut cpu = Cpu::new();
        cpu.regs = [1, 2, 3, 4, 5, 6, 7, 8];
        cpu.eip = 9;
        cpu.fpu.set_st(0, F80::ONE);
        cpu.xmm[3] = V128::from(0x1234_5678u128 << 64);
        let regs = of(&cpu, 20);
        let mut other = Cpu::new();
        put(&mut other, &regs);
        assert_eq!(of(&other, 20), regs);
    }
}
