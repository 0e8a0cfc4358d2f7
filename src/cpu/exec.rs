//! What a running instruction sees of the machine: registers, flags, memory, where it is.

#[cfg(trap_memory)]
use super::float::host;
use super::mxcsr::{ALL_MASKED, Mxcsr};
use super::{Cpu, Fault, Pending, Seg, Word, eflags};
use crate::engine::op::{Ext, Op};
use crate::fpu::{Fpu, notes};
#[cfg(trap_memory)]
use crate::fpu::{live, soft::flag};
use crate::memory::access::{self, GuestAtomic, GuestValue};
use std::sync::atomic::Ordering;

/// The machine, as a body with `takes = "cpu"` gets it. Three pointers; passed by value.
///
/// Memory is addressed linearly: add a segment's base ([`Exec::base`]) where there is one. Each access either
/// succeeds or leaves the instruction, so registers and flags are changed after the last one.
#[derive(Clone, Copy)]
pub struct Exec {
    pub(crate) cpu: *mut Cpu,
    pub(crate) op: *const Op,
    pub(crate) mem: *mut u8,
}

/// How a string instruction repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::enum_variant_names)] // named as the manual names the prefixes
pub enum Rep {
    /// Once.
    None,
    /// F3: REP, or REPE for CMPS and SCAS.
    Rep,
    /// F2: REPNE for CMPS and SCAS, elsewhere as REP.
    Repne,
}

/// What a string instruction's prefixes say.
#[derive(Clone, Copy, Debug)]
pub struct StringOp {
    /// The repeat prefix.
    pub rep: Rep,
    /// Number of the source segment (DS or an override).
    pub source: u8,
    /// SI, DI and CX instead of ESI, EDI and ECX.
    pub addr16: bool,
}

/// Flags in [`Op::d`]: see [`Op`].
pub(crate) mod attribute {
    pub(crate) const SEG_SHIFT: u32 = 2;
    pub(crate) const SEG_MASK: u8 = 7;
    pub(crate) const ADDR16: u8 = 1 << 5;
    pub(crate) const LOCKED: u8 = 1 << 6;
}

impl Exec {
    /// The whole state. The reference must not outlive the instruction.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    pub fn cpu<'a>(self) -> &'a mut Cpu {
        // SAFETY: handlers get a valid, exclusive `Cpu`; bodies hold one reference at a time.
        unsafe { &mut *self.cpu }
    }

    #[inline(always)]
    pub(crate) fn op<'a>(self) -> &'a Op {
        // SAFETY: `op` points into the translation arena, which outlives the run of handlers.
        unsafe { &*self.op }
    }

    #[inline(always)]
    pub(crate) fn ext<'a>(self) -> &'a Ext {
        // SAFETY: only ops with a second slot ask for it (`SLOTS` of their type is 2).
        unsafe { &*self.op.add(1).cast::<Ext>() }
    }

    /// Reads register `number` (ModRM numbering; for `u8`: AL CL DL BL AH CH DH BH).
    #[inline(always)]
    pub fn reg<W: Word>(self, number: u8) -> W {
        let regs = &self.cpu().regs;
        if W::BITS == 8 {
            W::low(u64::from(regs[usize::from(number & 3)] >> (u32::from(number & 4) * 2)))
        } else {
            W::low(u64::from(regs[usize::from(number & 7)]))
        }
    }

    /// Writes register `number`; the other bits of the 32-bit register stay.
    #[inline(always)]
    pub fn set_reg<W: Word>(self, number: u8, value: W) {
        let regs = &mut self.cpu().regs;
        let (index, shift) = if W::BITS == 8 {
            (usize::from(number & 3), u32::from(number & 4) * 2)
        } else {
            (usize::from(number & 7), 0)
        };
        let mask = W::ONES.u32() << shift;
        regs[index] = regs[index] & !mask | value.u32() << shift;
    }

    /// The status flags, to be changed and given back to [`Exec::set_flags`].
    #[inline(always)]
    pub fn flags(self) -> Pending {
        Pending::new(self.cpu().flags)
    }

    /// Commits status flags.
    #[inline(always)]
    pub fn set_flags(self, flags: Pending) {
        self.cpu().flags = flags.state();
    }

    /// Tells whether floats are computed by the host's instructions.
    #[inline(always)]
    pub fn has_host_floats(self) -> bool {
        let cpu = self.cpu();
        cfg!(trap_memory) && cpu.mxcsr & cpu.host_floats == ALL_MASKED
    }

    /// Tells whether the host has all of these instructions (bits of [`native`](super::native)), and may use them.
    #[inline(always)]
    pub fn has_host(self, features: u32) -> bool {
        cfg!(trap_memory) && self.cpu().host_features & features == features
    }

    /// Control and status of SSE, to be changed and given back to [`Exec::commit_mxcsr`].
    #[inline(always)]
    pub fn mxcsr(self, native: bool) -> Mxcsr {
        Mxcsr::on_host(self.cpu().mxcsr, native)
    }

    /// Brings the exception flags in [`Cpu::mxcsr`] up to date.
    #[inline(always)]
    pub fn collect_mxcsr_flags(self) {
        #[cfg(trap_memory)]
        self.apart(|x| x.cpu().mxcsr |= host::flags());
    }

    /// Tells the host that [`Cpu::mxcsr`] was replaced.
    #[inline(always)]
    pub fn mxcsr_replaced(self) {
        #[cfg(trap_memory)]
        self.apart(|x| host::enter(x.cpu().mxcsr));
    }

    /// Commits the exception flags that an instruction has raised; #XM if one of them is not masked.
    #[inline(always)]
    pub fn commit_mxcsr(self, mxcsr: Mxcsr) -> Result<(), Fault> {
        if mxcsr.raised() != 0 {
            self.cpu().mxcsr = mxcsr.committed();
            if mxcsr.stops() {
                return Err(Fault::XM);
            }
        }
        Ok(())
    }

    /// The x87's state, taken back from the host's FPU.
    #[inline(always)]
    pub fn fpu<'a>(self) -> &'a mut Fpu {
        #[cfg(trap_memory)]
        if self.cpu().live.on {
            self.apart(|x| live::spill(x.cpu()));
        }
        &mut self.cpu().fpu
    }

    /// As [`Exec::fpu`], and with the pointers to the last instruction.
    #[inline(always)]
    pub fn fpu_with_pointers<'a>(self) -> &'a mut Fpu {
        notes::settle(self.cpu());
        self.fpu()
    }

    /// The x87's status word, as FNSTSW stores it.
    #[inline(always)]
    pub fn fpu_status(self) -> u16 {
        #[cfg(trap_memory)]
        if self.cpu().live.on {
            return live::status();
        }
        self.cpu().fpu.status()
    }

    /// Loads the x87's control word, as [`Fpu::set_control`].
    #[inline(always)]
    pub fn set_fpu_control(self, control: u16) {
        #[cfg(trap_memory)]
        if self.cpu().live.on && control & flag::EXCEPTIONS == flag::EXCEPTIONS {
            let fpu = &mut self.cpu().fpu;
            fpu.set_control(control);
            return live::load_control(fpu);
        }
        self.fpu().set_control(control);
    }

    /// Raises #MF if an exception of the x87 is pending: what MMX instructions do first, too. Then its state is in [`Cpu::fpu`].
    #[inline(always)]
    pub fn wait_for_fpu(self) -> Result<(), Fault> {
        if self.fpu().pending() { Err(Fault::MF) } else { Ok(()) }
    }

    /// Leaves the x87 as every instruction with an MMX register does.
    #[inline(always)]
    pub fn enter_mmx(self) {
        self.cpu().fpu.enter_mmx();
    }

    /// Direction of string instructions: `true` is down.
    #[inline(always)]
    pub fn down(self) -> bool {
        self.cpu().system_flags & eflags::DF != 0
    }

    /// Base of a segment.
    #[inline(always)]
    pub fn base(self, seg: Seg) -> u32 {
        self.cpu().segment_bases[seg as usize]
    }

    /// Reads guest memory at a linear address.
    #[inline(always)]
    pub fn load<T: GuestValue>(self, addr: u32) -> Result<T, Fault> {
        access::load(self, addr)
    }

    /// Writes guest memory at a linear address.
    #[inline(always)]
    pub fn store<T: GuestValue>(self, addr: u32, value: T) -> Result<(), Fault> {
        access::store(self, addr, value)
    }

    /// Leaves the instruction unless `len` bytes at `addr`, a page's worth at most, can be written; nothing is
    /// changed.
    #[inline(always)]
    pub fn probe_write(self, addr: u32, len: u32) -> Result<(), Fault> {
        access::probe_write(self, addr, len)
    }

    /// Replaces memory at `addr` by `update` of it, atomically towards other threads (LOCK). Gives what
    /// `update` returned beside the new value.
    #[inline(always)]
    pub fn update_locked<T: GuestAtomic, R>(
        self,
        addr: u32,
        update: impl FnMut(T) -> Result<(T, R), Fault>,
    ) -> Result<R, Fault> {
        access::update_locked(self, addr, update)
    }

    /// The linear address of `bytes` bytes (1 or more) at this offset in the segment of this number; #GP, in SS #SS, if they run
    /// over its last offset (SDM Vol. 3A, 6.15, "Interrupt 12" and "Interrupt 13").
    #[inline(always)]
    pub fn within(self, segment: u8, offset: u32, bytes: u32) -> Result<u32, Fault> {
        if offset > bytes.wrapping_neg() {
            return Err(if segment == Seg::Ss as u8 { Fault::ss(0) } else { Fault::gp(0) });
        }
        Ok(offset.wrapping_add(self.cpu().segment_bases[usize::from(segment & 7)]))
    }

    /// The linear address of an operand on the stack, at this offset, as [`Exec::within`].
    #[inline(always)]
    pub fn stack_slot<W: Word>(self, offset: u32) -> Result<u32, Fault> {
        self.within(Seg::Ss as u8, offset, W::BYTES)
    }

    /// A linear address in the memory operand's segment, as [`Exec::within`] if that has a base. Without one, its end is that of
    /// memory, where accesses fault by themselves.
    #[inline(always)]
    pub fn in_segment<W: Word>(self, addr: u32) -> Result<u32, Fault> {
        match self.segment_base() {
            0 => Ok(addr),
            base => self.within(self.segment(), addr.wrapping_sub(base), W::BYTES),
        }
    }

    /// The number of the memory operand's segment.
    #[inline(always)]
    pub fn segment(self) -> u8 {
        self.op().d >> attribute::SEG_SHIFT & attribute::SEG_MASK
    }

    /// The base of the memory operand's segment.
    #[inline(always)]
    pub fn segment_base(self) -> u32 {
        self.cpu().segment_bases[usize::from(self.segment())]
    }

    /// The operand on top of the stack, which stays there.
    #[inline(always)]
    pub fn peek<W: Word + GuestValue>(self) -> Result<W, Fault> {
        self.load(self.stack_slot::<W>(self.reg(4))?)
    }

    /// Pushes an operand on the stack.
    #[inline(always)]
    pub fn push<W: Word + GuestValue>(self, value: W) -> Result<(), Fault> {
        let esp = self.reg::<u32>(4).wrapping_sub(W::BYTES);
        self.store(self.stack_slot::<W>(esp)?, value)?;
        self.set_reg(4, esp);
        Ok(())
    }

    /// Pops an operand off the stack.
    #[inline(always)]
    pub fn pop<W: Word + GuestValue>(self) -> Result<W, Fault> {
        let value = self.peek()?;
        self.set_reg(4, self.reg::<u32>(4).wrapping_add(W::BYTES));
        Ok(value)
    }

    #[inline(always)]
    fn place(self) -> u64 {
        self.ext().link.load(Ordering::Relaxed) as u64
    }

    /// Address of this instruction (only for `takes = "cpu eip"` and flows other than the next instruction).
    #[inline(always)]
    pub fn eip(self) -> u32 {
        self.place() as u32
    }

    /// Address behind this instruction (as [`Exec::eip`]).
    #[inline(always)]
    pub fn next_eip(self) -> u32 {
        (self.place() >> 32) as u32
    }

    /// Sets EIP (`flow = "far"`).
    #[inline(always)]
    pub fn jump(self, eip: u32) {
        self.cpu().eip = eip;
    }

    /// The FPU's opcode of this instruction, 11 bits (SDM Vol. 1, 8.1.9; only for `takes = "cpu eip"` without
    /// immediates).
    #[inline(always)]
    pub fn fop(self) -> u16 {
        self.ext().imm2 as u16
    }

    /// The segment of the memory operand, overrides applied (as [`Exec::fop`]); its number is that of [`Seg`].
    #[inline(always)]
    pub fn memory_segment(self) -> usize {
        (self.ext().imm2 >> 16) as usize & usize::from(attribute::SEG_MASK)
    }

    /// Runs most of a body as a function of its own: what it keeps on the host's stack must not be the handler's,
    /// which is to end in a tail call.
    #[inline(always)]
    pub fn apart<R>(self, body: impl FnOnce(Exec) -> R) -> R {
        #[inline(never)]
        fn outlined<R>(cpu: *mut Cpu, op: *const Op, mem: *mut u8, body: impl FnOnce(Exec) -> R) -> R {
            body(Exec { cpu, op, mem })
        }
        outlined(self.cpu, self.op, self.mem, body)
    }

    /// As [`Exec::apart`], with two vectors. By value and as numbers: what a closure captures more than a word or two of is
    /// handed over by its address on the host's stack.
    #[inline(always)]
    pub fn apart_with(self, a: u128, b: u128, body: impl FnOnce(Exec, u128, u128)) {
        #[inline(never)]
        fn outlined(
            cpu: *mut Cpu,
            op: *const Op,
            mem: *mut u8,
            a: u128,
            b: u128,
            body: impl FnOnce(Exec, u128, u128),
        ) {
            body(Exec { cpu, op, mem }, a, b);
        }
        outlined(self.cpu, self.op, self.mem, a, b, body);
    }

    /// Tells whether the address size is 16 bits (67).
    #[inline(always)]
    pub fn addr16(self) -> bool {
        self.op().d & attribute::ADDR16 != 0
    }

    /// Tells whether the LOCK prefix is there.
    #[inline(always)]
    pub fn locked(self) -> bool {
        self.op().d & attribute::LOCKED != 0
    }

    /// Prefixes of a string instruction.
    #[inline(always)]
    pub fn string(self) -> StringOp {
        StringOp {
            rep: match self.op().a {
                0 => Rep::None,
                1 => Rep::Rep,
                _ => Rep::Repne,
            },
            source: self.segment(),
            addr16: self.addr16(),
        }
    }

    /// Where the part of a memory operand is that begins `bytes` behind its start at the linear address `addr`: with 16-bit
    /// addresses, offsets wrap around at 64 KiB between the parts (not within one).
    #[inline(always)]
    pub fn behind(self, addr: u32, bytes: u32) -> u32 {
        let end = addr.wrapping_add(bytes);
        if !self.addr16() {
            return end;
        }
        let base = self.segment_base();
        base.wrapping_add(end.wrapping_sub(base) & 0xffff)
    }

    /// Copies `len` bytes from `source` to `destination` by ascending address, which have been probed by an
    /// access each and lie in one page each.
    pub fn copy_within_pages(self, destination: u32, source: u32, len: u32) {
        access::copy_within_pages(self, destination, source, len);
    }

    /// Fills `len` bytes at `destination`, in a page that has been probed by a store, with a repeated value.
    pub fn fill_within_page<T: GuestValue>(self, destination: u32, value: T, count: u32) {
        access::fill_within_page(self, destination, value, count);
    }

    /// Calls `look` with the `len` bytes at `addr`, in a page that has been probed by a load.
    #[inline(always)]
    pub fn look_within_page<R>(self, addr: u32, len: u32, look: impl FnOnce(&[u8]) -> R) -> R {
        access::look_within_page(self, addr, len, look)
    }
}
