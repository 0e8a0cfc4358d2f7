//! System: CPUID, RDTSC and the instructions that only raise #UD. Rows: `opcodes/system.toml`.

use crate::cpu::{Exec, Fault, reg};

/// Answers by the CPU model. SDM Vol. 2A, "CPUID".
pub fn cpuid(x: Exec, leaf: u32, subleaf: u32) -> Result<(), Fault> {
    let [eax, ebx, ecx, edx] = x.cpu().cpuid.answer(leaf, subleaf);
    for (number, value) in [(reg::EAX, eax), (reg::EBX, ebx), (reg::ECX, ecx), (reg::EDX, edx)] {
        x.cpu().regs[number] = value;
    }
    Ok(())
}

/// The time stamp counter as EDX, EAX; #GP if the kernel keeps it to itself (CR4.TSD). SDM Vol. 2B, "RDTSC".
pub fn rdtsc(x: Exec) -> Result<(u32, u32), Fault> {
    if x.cpu().tsd {
        return Err(Fault::gp(0));
    }
    let ticks = time_stamp();
    Ok(((ticks >> 32) as u32, ticks as u32))
}

/// The host's counter.
#[cfg(target_arch = "x86_64")]
fn time_stamp() -> u64 {
    // SAFETY: RDTSC is in every x86-64 processor and touches no memory.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Nanoseconds since the first call: a counter of 1 GHz.
#[cfg(not(target_arch = "x86_64"))]
fn time_stamp() -> u64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed().as_nanos() as u64
}

/// Raises #UD, as UD0, UD1, UD2 and what exists only in other modes do. SDM Vol. 2B, "UD".
pub fn ud(_x: Exec) -> Result<(), Fault> {
    Err(Fault::UD)
}

/// Leaves it to the kernel to say where it goes. SDM Vol. 2B, "SYSENTER".
pub fn sysenter(_x: Exec) -> Result<(), Fault> {
    Err(Fault::SYSENTER)
}

/// A number from the host's kernel, if it has one.
pub fn random() -> Option<u32> {
    let mut bytes = [0; 4];
    // SAFETY: the call writes at most as many bytes as there are.
    let read = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    (read == bytes.len() as isize).then(|| u32::from_ne_bytes(bytes))
}
