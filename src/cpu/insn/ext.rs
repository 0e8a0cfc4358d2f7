//! Extensions: counting, byte order, checksums, caches, identity. Rows: `opcodes/ext.toml`.

use super::sse_float::native;
use super::system::{random, rdtsc};
use crate::cpu::image::XCR0;
#[cfg(trap_memory)]
use crate::cpu::native;
use crate::cpu::native::Native;
use crate::cpu::{Descriptors, Exec, Fault, Pending, Word, eflags, reg};

/// Counts the bits that are set. SDM Vol. 2B, "POPCNT".
#[inline(always)]
pub fn popcnt<W: Word>(source: W, h: Native, f: &mut Pending) -> W {
    f.set_eflags(if source.is_zero() { eflags::ZF } else { 0 });
    let count = |source: u32| native!(h, native::popcnt(source), source.count_ones());
    W::low(u64::from(count(source.u32())))
}

/// Z and C as LZCNT leaves them; the others are cleared.
#[inline(always)]
fn counted<W: Word>(source: W, count: u32, f: &mut Pending) -> W {
    f.set_eflags((u32::from(count == 0) * eflags::ZF) | (u32::from(source.is_zero()) * eflags::CF));
    W::low(u64::from(count))
}

/// Counts the zeros above the highest bit. SDM Vol. 2B, "LZCNT".
#[inline(always)]
pub fn lzcnt<W: Word>(source: W, f: &mut Pending) -> W {
    counted(source, source.zext().leading_zeros() - (64 - W::BITS), f)
}

/// Counts the zeros below the lowest bit. SDM Vol. 2B, "TZCNT".
#[inline(always)]
pub fn tzcnt<W: Word>(source: W, f: &mut Pending) -> W {
    counted(source, source.zext().trailing_zeros().min(W::BITS), f)
}

/// Reverses the bytes. SDM Vol. 2B, "MOVBE".
#[inline(always)]
pub fn movbe<W: Word>(source: W) -> W {
    W::low(source.zext().swap_bytes() >> (64 - W::BITS))
}

/// Adds `data`, lowest bit first, to a CRC with the polynomial 11EDC6F41h. SDM Vol. 2A, "CRC32".
#[inline(always)]
pub fn crc32<W: Word>(crc: u32, data: W, h: Native) -> u32 {
    /// The polynomial, lowest power in the highest bit.
    const REFLECTED: u32 = 0x82f6_3b78;
    native!(
        h,
        native::crc32(crc, data),
        (0..W::BITS).fold(crc ^ data.u32(), |crc, _| crc >> 1 ^ if crc & 1 != 0 { REFLECTED } else { 0 })
    )
}

/// Adds with CF, which alone changes. SDM Vol. 2A, "ADCX".
#[inline(always)]
pub fn adcx(a: u32, b: u32, f: &mut Pending) -> u32 {
    let (sum, carry) = a.carrying_add(b, f.carry());
    f.set_carry(carry);
    sum
}

/// Adds with OF, which alone changes. SDM Vol. 2A, "ADOX".
#[inline(always)]
pub fn adox(a: u32, b: u32, f: &mut Pending) -> u32 {
    let (sum, carry) = a.carrying_add(b, f.overflow());
    f.set_overflow(carry);
    sum
}

/// Stores; caches are the host's. SDM Vol. 2B, "MOVNTI".
#[inline(always)]
pub fn movnti(source: u32) -> u32 {
    source
}

/// A hint: nothing happens, whatever the address. SDM Vol. 2B, "PREFETCHh" and "PREFETCHW".
#[inline(always)]
pub fn prefetch(_addr: u32) {}

/// Orders memory accesses of threads. SDM Vol. 2A, "LFENCE"; Vol. 2B, "MFENCE" and "SFENCE".
#[inline(always)]
pub fn fence(_: Exec) -> Result<(), Fault> {
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    Ok(())
}

/// Faults as a load of the byte would: all that shows of emptying its cache line. SDM Vol. 2A, "CLFLUSH".
pub fn touch_line(x: Exec, addr: u32) -> Result<(), Fault> {
    x.load::<u8>(addr).map(|_| ())
}

/// GDT entry whose limit is the number of the CPU under Linux.
const CPU_NUMBER: usize = 15;

/// IA32_TSC_AUX: node << 12 | CPU.
fn cpu_number(x: Exec) -> u32 {
    Descriptors::limit(x.cpu().descriptors.gdt[CPU_NUMBER])
}

/// Reads the time stamp counter and the number of the CPU. SDM Vol. 2B, "RDTSCP".
pub fn rdtscp(x: Exec) -> Result<(), Fault> {
    let (high, low) = rdtsc(x)?;
    let number = cpu_number(x);
    for (register, value) in [(reg::EDX, high), (reg::EAX, low), (reg::ECX, number)] {
        x.cpu().regs[register] = value;
    }
    Ok(())
}

/// Reads the number of the CPU. SDM Vol. 2B, "RDPID".
pub fn rdpid(x: Exec) -> Result<u32, Fault> {
    Ok(cpu_number(x))
}

/// Reads XCR0; there are no other extended control registers. SDM Vol. 2D, "XGETBV".
pub fn xgetbv(_: Exec, number: u32) -> Result<(u32, u32), Fault> {
    if number == 0 { Ok((0, XCR0)) } else { Err(Fault::gp(0)) }
}

/// Reads a random number; C tells that there was one. SDM Vol. 2B, "RDRAND".
#[inline(always)]
pub fn rdrand<W: Word>(x: Exec) -> Result<W, Fault> {
    let number = x.apart(|_| random());
    let mut flags = x.flags();
    flags.set_eflags(u32::from(number.is_some()) * eflags::CF);
    x.set_flags(flags);
    Ok(W::low(u64::from(number.unwrap_or(0))))
}

/// Reads a random seed, from the same source. SDM Vol. 2B, "RDSEED".
#[inline(always)]
pub fn rdseed<W: Word>(x: Exec) -> Result<W, Fault> {
    rdrand(x)
}
