//! Exceptions of the processor as signals, as Linux's trap handlers map them (`arch/x86`'s documented behaviour,
//! sigaction(2)).

use super::deliver::force;
use super::{Info, Trap};
use crate::cpu::{Fault, FaultKind};
use crate::isa::decode::MAX_LEN;
use crate::kernel::process::Process;

/// `si_code` of the signals that exceptions raise.
pub(in crate::kernel) mod code {
    pub const ILL_ILLOPN: i32 = 2;
    pub const FPE_INTDIV: i32 = 1;
    pub const FPE_FLTDIV: i32 = 3;
    pub const FPE_FLTOVF: i32 = 4;
    pub const FPE_FLTUND: i32 = 5;
    pub const FPE_FLTRES: i32 = 6;
    pub const FPE_FLTINV: i32 = 7;
    pub const SEGV_MAPERR: i32 = 1;
    pub const SEGV_ACCERR: i32 = 2;
    pub const BUS_ADRALN: i32 = 1;
    pub const BUS_ADRERR: i32 = 2;
    pub const TRAP_BRKPT: i32 = 1;
    pub const TRAP_TRACE: i32 = 2;
    pub const TRAP_HWBKPT: i32 = 4;
}

/// Bytes of `int n`.
const INT_N_LEN: u32 = 2;

/// Turns an exception into a signal that is delivered before the guest runs on.
pub fn raise(p: &mut Process, fault: Fault) {
    let eip = p.machine.cpu.eip;
    let number = u32::from(fault.vector());
    let error = u32::from(fault.error_code());
    let info = match fault.kind {
        FaultKind::De => Info::fault(libc::SIGFPE, code::FPE_INTDIV, eip),
        FaultKind::Db => {
            let code = if fault == Fault::STEP { code::TRAP_TRACE } else { code::TRAP_BRKPT };
            Info::fault(libc::SIGTRAP, code, eip)
        }
        FaultKind::Bp => Info::kernel(libc::SIGTRAP),
        FaultKind::Of | FaultKind::Br | FaultKind::Nm | FaultKind::Gp => Info::kernel(libc::SIGSEGV),
        FaultKind::Ud | FaultKind::Sysenter => Info::fault(libc::SIGILL, code::ILL_ILLOPN, eip),
        FaultKind::Todo => {
            diagnose(p, eip);
            Info::fault(libc::SIGILL, code::ILL_ILLOPN, eip)
        }
        FaultKind::Np | FaultKind::Ss => Info::kernel(libc::SIGBUS),
        FaultKind::Pf => page_fault(p),
        FaultKind::Mf => {
            let fpu = &p.machine.cpu.fpu;
            Info::fault(libc::SIGFPE, float_code(fpu.status() & !fpu.control()), eip)
        }
        FaultKind::Xm => {
            let mxcsr = p.machine.cpu.mxcsr;
            Info::fault(libc::SIGFPE, float_code((mxcsr & !(mxcsr >> 7)) as u16), eip)
        }
        FaultKind::Ac => Info::fault(libc::SIGBUS, code::BUS_ADRALN, 0),
        FaultKind::Int => return interrupt(p, fault),
    };
    set_trap(p, number, error);
    force(p, info);
}

/// A trap of a single step or a breakpoint that a tracer asked for.
pub(in crate::kernel) fn raise_debug(p: &mut Process, code: i32, eip: u32) {
    set_trap(p, Fault::DB.vector().into(), 0);
    force(p, Info::fault(libc::SIGTRAP, code, eip));
}

/// `int n`, EIP behind it: 3 and 4 are traps that user mode may call, the others' gates are closed to it.
fn interrupt(p: &mut Process, fault: Fault) {
    match fault.code {
        3 => raise(p, Fault::BP),
        4 => raise(p, Fault::OF),
        vector => {
            p.machine.cpu.eip = p.machine.cpu.eip.wrapping_sub(INT_N_LEN);
            raise(p, Fault::gp(vector << 3 | 2));
        }
    }
}

/// Says which instruction is missing here when a handler would hide it. Without one, it ends the program, and whoever
/// runs that sees why.
fn diagnose(p: &mut Process, eip: u32) {
    if p.signals.action(libc::SIGILL).has_handler() {
        let mut bytes = [0; MAX_LEN];
        let fetched = p.machine.memory.fetch(eip, &mut bytes);
        let bytes: String = bytes[..fetched].iter().map(|byte| format!(" {byte:02x}")).collect();
        let text = || format!("SIGILL at {eip:#x}:{bytes}; this instruction is not implemented yet");
        p.say_once(&format!("SIGILL {eip:#x}"), text);
    }
}

fn set_trap(p: &mut Process, number: u32, error: u32) {
    p.signals.trap = Trap { number, error, ..p.signals.trap };
}

/// The signal of a page fault at CR2.
fn page_fault(p: &mut Process) -> Info {
    let addr = p.machine.cpu.cr2;
    p.signals.trap.cr2 = addr;
    let code = match p.machine.memory.region_at(addr) {
        Some(_) => code::SEGV_ACCERR,
        None => code::SEGV_MAPERR,
    };
    Info::fault(libc::SIGSEGV, code, addr)
}

/// The signal of an access beyond the end of a mapped file.
pub fn raise_bus(p: &mut Process, fault: Fault) {
    let addr = p.machine.cpu.cr2;
    p.signals.trap = Trap { number: fault.vector().into(), error: fault.code.into(), cr2: addr };
    force(p, Info::fault(libc::SIGBUS, code::BUS_ADRERR, addr));
}

/// `si_code` of floating-point exceptions, in the order in which Linux looks for them.
fn float_code(exceptions: u16) -> i32 {
    match exceptions {
        e if e & 0x01 != 0 => code::FPE_FLTINV,
        e if e & 0x04 != 0 => code::FPE_FLTDIV,
        e if e & 0x08 != 0 => code::FPE_FLTOVF,
        e if e & 0x12 != 0 => code::FPE_FLTUND,
        e if e & 0x20 != 0 => code::FPE_FLTRES,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn float_exceptions_have_linuxs_precedence() {
        for (bits, expected) in [
            (0x3f, code::FPE_FLTINV),
            (0x3e, code::FPE_FLTDIV),
            (0x38, code::FPE_FLTOVF),
            (0x30, code::FPE_FLTUND),
            (0x02, code::FPE_FLTUND),
            (0x20, code::FPE_FLTRES),
            (0, 0),
        ] {
            assert_eq!(float_code(bits), expected, "{bits:#x}");
        }
    }
}
