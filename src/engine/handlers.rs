//! Handlers: how an instruction's type becomes a link of the chain. Unsafe: they are entered from ops.
//!
//! Each ends in a tail call of the next op's handler (`dispatch`). What would break that: a local whose address escapes, a call
//! that is not inlined and takes one, a pending drop. `tests/release.rs` disassembles the binary to prove it.

use super::links::{DEPTH, Target};
use super::op::{Ext, Op};
use super::operand::Source;
use crate::cpu::{Cpu, Exec, Exit, Fault, Pending, Word, reg};
#[cfg(trap_memory)]
use crate::fpu::live;
use crate::fpu::way::NotShort;
use crate::memory::access::GuestValue;
use std::sync::atomic::{AtomicU32, Ordering};

/// The generated part: a type for each family of instructions, and the tables of handlers.
pub(crate) mod generated {
    #![allow(clippy::all, unused_variables, unused_imports)]
    use super::super::op::{Handler, Op};
    use super::super::operand::*;
    #[cfg(trap_memory)]
    use super::Live;
    use super::{AT_EXIT, EVERYWHERE, NOWHERE};
    use super::{InSoftware, Run, branch, call, call_to, far, in_software, jump, jump_to, pair, pair_branch};
    use super::{pair_in_software, ret, single, sync, x87};
    use crate::cpu::insn as body;
    use crate::cpu::native::{self, Native};
    use crate::cpu::vector::V128;
    use crate::cpu::{Cpu, Exec, Fault, Pending};
    #[cfg(trap_memory)]
    use crate::fpu::live;
    use crate::fpu::way::{NotShort, Short, Whole};
    use std::marker::PhantomData;
    include!(concat!(env!("OUT_DIR"), "/handlers.rs"));
}

/// An instruction with its operands' types.
pub(crate) trait Run {
    /// `()`, or for a branch whether it is taken.
    type Out;
    /// Slots that its op takes.
    const SLOTS: usize;
    /// Executes it but for the flags, which are left in `f`.
    fn run(x: Exec, f: &mut Pending) -> Result<Self::Out, Fault>;

    /// It is done by an instruction of the host if that can be. A constant, as a handler that is never made `apart` keeps the only
    /// call of its body, which is inlined then.
    const APART: bool = false;
    /// Tells whether it cannot be done by the host's instruction now, as `run` does it.
    #[inline(always)]
    fn is_apart(_: Exec) -> bool {
        false
    }
    /// Executes it then: in plain Rust.
    #[inline(always)]
    fn run_apart(x: Exec, f: &mut Pending) -> Result<(), Fault> {
        Self::run(x, f).map(|_| ())
    }
}

/// An instruction of the x87. [`Run::run`] does the whole of it, in software; its body enters flags itself.
pub(crate) trait InSoftware: Run<Out = ()> {
    /// Does it by its short way, which may be taken.
    fn run_short(x: Exec, f: &mut Pending) -> Result<(), NotShort>;
}

/// One that the host's FPU can do while it has the guest's state.
#[cfg(trap_memory)]
pub(crate) trait Live: InSoftware {
    /// Lets it do the instruction; it has the state.
    fn run_live(x: Exec);
}

/// Goes on with an op: a tail call, or the return to the loop.
#[inline(always)]
pub(super) unsafe fn dispatch(x: Exec, op: *const Op) -> *const Op {
    #[cfg(tail_calls)]
    // SAFETY: the translator puts a handler that fits into each op.
    return unsafe { ((*op).handler)(x.cpu, op, x.mem) };
    #[cfg(not(tail_calls))]
    {
        let _ = x;
        op
    }
}

/// The op `slots` further on.
#[inline(always)]
pub(super) unsafe fn ahead(op: *const Op, slots: usize) -> *const Op {
    // SAFETY: a block ends with an op that does not go on behind itself.
    unsafe { op.add(slots) }
}

/// No next op. The compiler must not know: who gets it from a call would return it himself, and jumps to the callee instead.
#[inline(always)]
fn nothing() -> *const Op {
    std::hint::black_box(std::ptr::null())
}

/// Leaves the handlers with a fault at `x.op`.
#[cold]
#[inline(never)]
unsafe extern "C" fn leave(cpu: *mut Cpu, op: *const Op, fault: Fault) -> *const Op {
    // SAFETY: as for every handler.
    let cpu = unsafe { &mut *cpu };
    cpu.fault = fault;
    cpu.exit = Exit::Fault;
    cpu.exit_op = op;
    nothing()
}

#[inline(always)]
pub(super) unsafe fn raise(x: Exec, fault: Fault) -> *const Op {
    // SAFETY: the same op.
    unsafe { leave(x.cpu, x.op, fault) }
}

/// Leaves the handlers with EIP set.
#[cold]
#[inline(never)]
unsafe extern "C" fn stop(cpu: *mut Cpu, eip: u32, exit: Exit) -> *const Op {
    // SAFETY: as for every handler.
    let cpu = unsafe { &mut *cpu };
    cpu.eip = eip;
    cpu.exit = exit;
    nothing()
}

/// Counts the instructions of a block up to here; tells whether to stop.
#[inline(always)]
fn count(x: Exec, instructions: u32) -> bool {
    let cpu = x.cpu();
    let count = cpu.count + u64::from(instructions);
    cpu.count = count;
    count > cpu.limit.load(Ordering::Relaxed)
}

/// Takes the branch that `ext` describes.
#[inline(always)]
unsafe fn take(x: Exec, ext: *const Ext) -> *const Op {
    // SAFETY: the branch's own second slot.
    let ext = unsafe { &*ext };
    let target = ext.link.load(Ordering::Relaxed);
    if count(x, ext.aux) {
        // SAFETY: as for every handler.
        return unsafe { stop(x.cpu, ext.imm2, Exit::Limit) };
    }
    // SAFETY: links lead to ops.
    unsafe { dispatch(x, target) }
}

/// Goes on at an address that only the guest knows.
#[inline(always)]
unsafe fn go_to(x: Exec, eip: u32, instructions: u32) -> *const Op {
    let stopped = count(x, instructions);
    let target = x.cpu().jumps.at(eip);
    if stopped || target.eip != eip {
        let exit = if stopped { Exit::Limit } else { Exit::Jump };
        // SAFETY: as for every handler.
        return unsafe { stop(x.cpu, eip, exit) };
    }
    // SAFETY: the cache holds entries of valid blocks.
    unsafe { dispatch(x, target.op) }
}

/// Remembers where a call returns to.
#[inline(always)]
fn push_shadow(x: Exec, eip: u32, ext: &Ext) {
    let cpu = x.cpu();
    let top = cpu.shadow_top.wrapping_add(1) & (DEPTH as u32 - 1);
    cpu.shadow_top = top;
    cpu.shadow.entries[top as usize & (DEPTH - 1)] = Target { eip, op: ext.link.load(Ordering::Relaxed) };
}

#[inline(always)]
pub(super) fn enter(cpu: *mut Cpu, op: *const Op, mem: *mut u8) -> Exec {
    Exec { cpu, op, mem }
}

/// An instruction that goes on behind itself, done in plain Rust. A handler of its own, so that the other is nothing but the
/// host's instruction; what it needs of the host's stack must not be its own, as it ends in a tail call. The flags are
/// committed, whoever wants them: what goes on is the next op, not the second half of a pair.
#[cold]
#[inline(never)]
unsafe extern "C" fn apart<I: Run<Out = ()>>(cpu: *mut Cpu, op: *const Op, mem: *mut u8) -> *const Op {
    let x = enter(cpu, op, mem);
    let done = x.apart(|x| {
        let mut f = x.flags();
        I::run_apart(x, &mut f)?;
        x.set_flags(f);
        Ok(())
    });
    if let Err(fault) = done {
        // SAFETY: as for every handler.
        return unsafe { raise(x, fault) };
    }
    // SAFETY: as for every handler.
    unsafe { dispatch(x, ahead(op, I::SLOTS)) }
}

/// An instruction that goes on behind itself.
pub(crate) unsafe extern "C" fn single<I: Run<Out = ()>, const LIVE: bool>(
    cpu: *mut Cpu,
    op: *const Op,
    mem: *mut u8,
) -> *const Op {
    let x = enter(cpu, op, mem);
    if I::APART && I::is_apart(x) {
        // SAFETY: as for every handler.
        return unsafe { apart::<I>(cpu, op, mem) };
    }
    let mut f = x.flags();
    if let Err(fault) = I::run(x, &mut f) {
        // SAFETY: as for every handler.
        return unsafe { raise(x, fault) };
    }
    if LIVE {
        x.set_flags(f);
    }
    // SAFETY: as for every handler.
    unsafe { dispatch(x, ahead(op, I::SLOTS)) }
}

/// An instruction of the x87.
#[cfg(trap_memory)]
pub(crate) unsafe extern "C" fn x87<I: Live>(cpu: *mut Cpu, op: *const Op, mem: *mut u8) -> *const Op {
    let x = enter(cpu, op, mem);
    if !x.cpu().live.on {
        // SAFETY: the same op.
        return unsafe { x87_elsewhere::<I>(cpu, op, mem) };
    }
    I::run_live(x);
    // SAFETY: as for every handler.
    unsafe { dispatch(x, ahead(op, I::SLOTS)) }
}

/// An instruction of the x87 while the host's FPU does not have the state: gives it the state and begins again, or does without.
#[cfg(trap_memory)]
#[cold]
#[inline(never)]
unsafe extern "C" fn x87_elsewhere<I: Live>(cpu: *mut Cpu, op: *const Op, mem: *mut u8) -> *const Op {
    let x = enter(cpu, op, mem);
    if live::may_load(x.cpu()) {
        x.apart(|x| live::load(x.cpu()));
        // SAFETY: the same op.
        return unsafe { dispatch(x, op) };
    }
    // SAFETY: as for every handler.
    unsafe { apart::<I>(cpu, op, mem) }
}

/// An instruction of the x87.
#[cfg(not(trap_memory))]
pub(crate) unsafe extern "C" fn x87<I: InSoftware>(cpu: *mut Cpu, op: *const Op, mem: *mut u8) -> *const Op {
    // SAFETY: as for every handler.
    unsafe { in_software::<I>(cpu, op, mem) }
}

/// An instruction of the x87, in software: by its short way, which leaves what it does not know to the whole instruction.
pub(crate) unsafe extern "C" fn in_software<I: InSoftware>(
    cpu: *mut Cpu,
    op: *const Op,
    mem: *mut u8,
) -> *const Op {
    let x = enter(cpu, op, mem);
    if !x.cpu().fpu.is_short() || I::run_short(x, &mut x.flags()).is_err() {
        // SAFETY: the same op.
        return unsafe { apart::<I>(cpu, op, mem) };
    }
    // SAFETY: as for every handler.
    unsafe { dispatch(x, ahead(op, I::SLOTS)) }
}

/// Two instructions of the x87 in a row, in software: the second gets what the first has computed in registers.
pub(crate) unsafe extern "C" fn pair_in_software<I: InSoftware, J: InSoftware>(
    cpu: *mut Cpu,
    op: *const Op,
    mem: *mut u8,
) -> *const Op {
    let x = enter(cpu, op, mem);
    if !x.cpu().fpu.is_short() || I::run_short(x, &mut x.flags()).is_err() {
        // SAFETY: the same op.
        return unsafe { apart::<I>(cpu, op, mem) };
    }
    // SAFETY: the second op is behind the first.
    let second = enter(cpu, unsafe { ahead(op, I::SLOTS) }, mem);
    // A short way leaves the state one in which they may be taken.
    if J::run_short(second, &mut second.flags()).is_err() {
        // SAFETY: the op behind.
        return unsafe { apart::<J>(cpu, second.op, mem) };
    }
    // SAFETY: as for every handler.
    unsafe { dispatch(x, ahead(op, I::SLOTS + J::SLOTS)) }
}

/// Two instructions in a row; the second sees the first one's flags in registers.
pub(crate) unsafe extern "C" fn pair<
    I: Run<Out = ()>,
    const LIVE: bool,
    J: Run<Out = ()>,
    const LIVE2: bool,
>(
    cpu: *mut Cpu,
    op: *const Op,
    mem: *mut u8,
) -> *const Op {
    let x = enter(cpu, op, mem);
    if I::APART && I::is_apart(x) {
        // SAFETY: as for every handler.
        return unsafe { apart::<I>(cpu, op, mem) };
    }
    let mut f = x.flags();
    if let Err(fault) = I::run(x, &mut f) {
        // SAFETY: as for every handler.
        return unsafe { raise(x, fault) };
    }
    if LIVE {
        x.set_flags(f);
    }
    // SAFETY: the second op is behind the first.
    let second = enter(cpu, unsafe { ahead(op, I::SLOTS) }, mem);
    if J::APART && J::is_apart(second) {
        // SAFETY: as for every handler.
        return unsafe { apart::<J>(cpu, second.op, mem) };
    }
    if let Err(fault) = J::run(second, &mut f) {
        // SAFETY: as for every handler.
        return unsafe { raise(second, fault) };
    }
    if LIVE2 {
        x.set_flags(f);
    }
    // SAFETY: as for every handler.
    unsafe { dispatch(x, ahead(op, I::SLOTS + J::SLOTS)) }
}

/// Where the flags of an instruction are needed that is joined with a branch: nowhere behind it.
pub(crate) const NOWHERE: u8 = 0;
/// The same: on both ways.
pub(crate) const EVERYWHERE: u8 = 1;
/// The same: where the branch is taken, which leaves the block.
pub(crate) const AT_EXIT: u8 = 2;

/// An instruction and the branch behind it.
pub(crate) unsafe extern "C" fn pair_branch<I: Run<Out = ()>, const NEEDED: u8, B: Run<Out = bool>>(
    cpu: *mut Cpu,
    op: *const Op,
    mem: *mut u8,
) -> *const Op {
    let x = enter(cpu, op, mem);
    if I::APART && I::is_apart(x) {
        // SAFETY: as for every handler.
        return unsafe { apart::<I>(cpu, op, mem) };
    }
    let mut f = x.flags();
    if let Err(fault) = I::run(x, &mut f) {
        // SAFETY: as for every handler.
        return unsafe { raise(x, fault) };
    }
    if NEEDED == EVERYWHERE {
        x.set_flags(f);
    }
    // SAFETY: the branch is behind the first op.
    let second = enter(cpu, unsafe { ahead(op, I::SLOTS) }, mem);
    let outcome = B::run(second, &mut f);
    if NEEDED == AT_EXIT && outcome != Ok(false) {
        x.set_flags(f);
    }
    match outcome {
        // SAFETY: a branch has a second slot.
        Ok(true) => unsafe { take(x, second.op.add(1).cast()) },
        // SAFETY: as for every handler.
        Ok(false) => unsafe { dispatch(x, ahead(op, I::SLOTS + 2)) },
        // SAFETY: as for every handler.
        Err(fault) => unsafe { raise(second, fault) },
    }
}

/// Jcc, LOOP and their like.
pub(crate) unsafe extern "C" fn branch<B: Run<Out = bool>>(
    cpu: *mut Cpu,
    op: *const Op,
    mem: *mut u8,
) -> *const Op {
    let x = enter(cpu, op, mem);
    let mut f = x.flags();
    match B::run(x, &mut f) {
        // SAFETY: a branch has a second slot.
        Ok(true) => unsafe { take(x, op.add(1).cast()) },
        // SAFETY: as for every handler.
        Ok(false) => unsafe { dispatch(x, ahead(op, 2)) },
        // SAFETY: as for every handler.
        Err(fault) => unsafe { raise(x, fault) },
    }
}

/// An instruction that has set EIP itself.
pub(crate) unsafe extern "C" fn far<I: Run<Out = ()>>(
    cpu: *mut Cpu,
    op: *const Op,
    mem: *mut u8,
) -> *const Op {
    let x = enter(cpu, op, mem);
    let mut f = x.flags();
    match I::run(x, &mut f) {
        // SAFETY: as for every handler.
        Ok(()) => unsafe { resync(x, x.cpu().eip) },
        // SAFETY: as for every handler.
        Err(fault) => unsafe { raise(x, fault) },
    }
}

/// An instruction behind which the run loop has to look at the state.
pub(crate) unsafe extern "C" fn sync<I: Run<Out = ()>>(
    cpu: *mut Cpu,
    op: *const Op,
    mem: *mut u8,
) -> *const Op {
    let x = enter(cpu, op, mem);
    let mut f = x.flags();
    match I::run(x, &mut f) {
        // SAFETY: as for every handler.
        Ok(()) => unsafe { resync(x, x.next_eip()) },
        // SAFETY: as for every handler.
        Err(fault) => unsafe { raise(x, fault) },
    }
}

/// Back to the run loop behind a complete instruction.
#[inline(always)]
unsafe fn resync(x: Exec, eip: u32) -> *const Op {
    count(x, x.ext().aux);
    // SAFETY: as for every handler.
    unsafe { stop(x.cpu, eip, Exit::Jump) }
}

/// JMP rel, and the end of a block that goes on elsewhere.
pub(crate) unsafe extern "C" fn jump(cpu: *mut Cpu, op: *const Op, mem: *mut u8) -> *const Op {
    // SAFETY: a jump has a second slot.
    unsafe { take(enter(cpu, op, mem), op.add(1).cast()) }
}

/// JMP r/m.
pub(crate) unsafe extern "C" fn jump_to<W: Word, A: Source<W>>(
    cpu: *mut Cpu,
    op: *const Op,
    mem: *mut u8,
) -> *const Op {
    let x = enter(cpu, op, mem);
    match A::get(x) {
        // SAFETY: as for every handler.
        Ok(eip) => unsafe { go_to(x, eip.u32(), x.ext().aux) },
        // SAFETY: as for every handler.
        Err(fault) => unsafe { raise(x, fault) },
    }
}

/// CALL rel. Its `imm` is the return address; its second slot is the link to the target, its third the link to
/// the op behind the call.
pub(crate) unsafe extern "C" fn call<W: Word + GuestValue>(
    cpu: *mut Cpu,
    op: *const Op,
    mem: *mut u8,
) -> *const Op {
    let x = enter(cpu, op, mem);
    if let Err(fault) = x.push(W::low(u64::from(x.op().imm))) {
        // SAFETY: as for every handler.
        return unsafe { raise(x, fault) };
    }
    // SAFETY: a call has three slots.
    push_shadow(x, x.op().imm, unsafe { &*op.add(2).cast() });
    // SAFETY: a call has three slots.
    unsafe { take(x, op.add(1).cast()) }
}

/// CALL rel whose target follows in the same block. Its `imm` is the return address, its second slot the link to the op
/// behind the call.
pub(crate) unsafe extern "C" fn call_inline(cpu: *mut Cpu, op: *const Op, mem: *mut u8) -> *const Op {
    let x = enter(cpu, op, mem);
    if let Err(fault) = x.push(x.op().imm) {
        // SAFETY: as for every handler.
        return unsafe { raise(x, fault) };
    }
    push_shadow(x, x.op().imm, x.ext());
    // SAFETY: as for every handler.
    unsafe { dispatch(x, ahead(op, 2)) }
}

/// CALL r/m. Its second slot holds the return address and the link to the op behind the call.
pub(crate) unsafe extern "C" fn call_to<W: Word + GuestValue, A: Source<W>>(
    cpu: *mut Cpu,
    op: *const Op,
    mem: *mut u8,
) -> *const Op {
    let x = enter(cpu, op, mem);
    let ext = x.ext();
    let target = match A::get(x) {
        Ok(target) => target,
        // SAFETY: as for every handler.
        Err(fault) => return unsafe { raise(x, fault) },
    };
    if let Err(fault) = x.push(W::low(u64::from(ext.imm2))) {
        // SAFETY: as for every handler.
        return unsafe { raise(x, fault) };
    }
    push_shadow(x, ext.imm2, ext);
    // SAFETY: as for every handler.
    unsafe { go_to(x, target.u32(), ext.aux) }
}

/// RET and RET imm16 (`imm`, else 0).
pub(crate) unsafe extern "C" fn ret<W: Word + GuestValue>(
    cpu: *mut Cpu,
    op: *const Op,
    mem: *mut u8,
) -> *const Op {
    let x = enter(cpu, op, mem);
    let eip = match x.pop::<W>() {
        Ok(eip) => eip.u32(),
        // SAFETY: as for every handler.
        Err(fault) => return unsafe { raise(x, fault) },
    };
    x.set_reg(reg::ESP as u8, x.reg::<u32>(reg::ESP as u8).wrapping_add(x.op().imm));
    let cpu = x.cpu();
    let top = cpu.shadow_top;
    let predicted = cpu.shadow.entries[top as usize & (DEPTH - 1)];
    if predicted.eip != eip || predicted.op.is_null() {
        // SAFETY: as for every handler.
        return unsafe { go_to(x, eip, x.ext().aux) };
    }
    cpu.shadow_top = top.wrapping_sub(1) & (DEPTH as u32 - 1);
    if count(x, x.ext().aux) {
        // SAFETY: as for every handler.
        return unsafe { stop(x.cpu, eip, Exit::Limit) };
    }
    // SAFETY: the shadow stack holds entries of valid blocks.
    unsafe { dispatch(x, predicted.op) }
}

/// Stands in for a block that is not linked yet: `imm` is its address, the second slot's link the `Ext` to patch.
pub(crate) unsafe extern "C" fn unlinked(cpu: *mut Cpu, op: *const Op, mem: *mut u8) -> *const Op {
    let x = enter(cpu, op, mem);
    x.cpu().patch = x.ext().link.load(Ordering::Relaxed).cast();
    // SAFETY: as for every handler.
    unsafe { stop(x.cpu, x.op().imm, Exit::Link) }
}

/// Counts how often a quickly made block runs (fields `a` to `d` go down, as one number); in the end asks for a better one. `imm`
/// is its address. The second slot is for who leads the entry on, whoever counts at that moment.
pub(crate) unsafe extern "C" fn warm(cpu: *mut Cpu, op: *const Op, mem: *mut u8) -> *const Op {
    let x = enter(cpu, op, mem);
    // SAFETY: the four fields are aligned like a number, and only counted in; other threads may count at the same time, and nobody
    // minds if one is lost.
    let left = unsafe { AtomicU32::from_ptr((&raw const (*op).a).cast_mut().cast()) };
    let count = left.load(Ordering::Relaxed).wrapping_sub(1);
    left.store(count, Ordering::Relaxed);
    if count != 0 {
        // SAFETY: as for every handler.
        return unsafe { dispatch(x, ahead(op, 2)) };
    }
    // SAFETY: as for every handler.
    unsafe { stop(x.cpu, x.op().imm, Exit::Warm) }
}

/// Counts that a block runs, at site `imm`, unless it is time to stop before it: then EIP is the second slot's `imm2`. Blocks that
/// are counted are left nowhere else by a stop, as it would not be known where that was.
pub(crate) unsafe extern "C" fn tally(cpu: *mut Cpu, op: *const Op, mem: *mut u8) -> *const Op {
    let x = enter(cpu, op, mem);
    let cpu = x.cpu();
    if cpu.count >= cpu.entry_limit.load(Ordering::Relaxed) {
        // SAFETY: as for every handler.
        return unsafe { stop(x.cpu, x.ext().imm2, Exit::Limit) };
    }
    // SAFETY: a machine that counts has room for every site.
    unsafe { *cpu.tallies.add(x.op().imm as usize) += 1 };
    // SAFETY: as for every handler.
    unsafe { dispatch(x, ahead(op, 2)) }
}

/// Counts that a block is left before its end, at site `imm`.
pub(crate) unsafe extern "C" fn tally_exit(cpu: *mut Cpu, op: *const Op, mem: *mut u8) -> *const Op {
    let x = enter(cpu, op, mem);
    // SAFETY: as in `tally`.
    unsafe { *x.cpu().tallies.add(x.op().imm as usize) += 1 };
    // SAFETY: as for every handler.
    unsafe { dispatch(x, ahead(op, 1)) }
}

/// Stands in for a block whose code has changed: `imm` is its address.
pub(crate) unsafe extern "C" fn stale(cpu: *mut Cpu, op: *const Op, mem: *mut u8) -> *const Op {
    let x = enter(cpu, op, mem);
    // SAFETY: as for every handler.
    unsafe { stop(x.cpu, x.op().imm, Exit::Jump) }
}

/// Verifies that the code of the block behind it is what was translated: the second slot's link is the copy, `aux`
/// its length, `imm` its address.
pub(crate) unsafe extern "C" fn verify(cpu: *mut Cpu, op: *const Op, mem: *mut u8) -> *const Op {
    let x = enter(cpu, op, mem);
    let ext = x.ext();
    // SAFETY: the copy lives as long as the block; the guest's pages are readable, else the fault is that of a fetch.
    let same = unsafe {
        let copy =
            std::slice::from_raw_parts(ext.link.load(Ordering::Relaxed).cast::<u8>(), ext.aux as usize);
        let mut same = true;
        for (at, byte) in copy.iter().enumerate() {
            same &= u8::load(x, x.op().imm.wrapping_add(at as u32)) == *byte;
        }
        same
    };
    if same {
        // SAFETY: as for every handler.
        return unsafe { dispatch(x, ahead(op, 2)) };
    }
    // SAFETY: as for every handler.
    unsafe { stop(x.cpu, ext.imm2, Exit::Modified) }
}
