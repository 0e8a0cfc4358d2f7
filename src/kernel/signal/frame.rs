//! Signal frames on the guest's stack, and the way back from them (sigreturn(2)).
//!
//! From the handler's ESP upwards: return address, arguments, saved registers, the mask; behind it the x87 state as
//! FSAVE stores it, then as FXSAVE and XSAVE do if the processor has them, so that each kind of unwinder and debugger
//! finds what it knows.

use super::stack::{self, AltStack, SS_AUTODISARM};
use super::{Action, Info, STATE_RESTORED, SigSet, deliver, sa};
use crate::cpu::segment::{Descriptors, USER_CODE, USER_DATA};
use crate::cpu::{Seg, eflags, reg};
use crate::kernel::abi::{RtSigframe, Sigcontext, Sigframe, Ucontext};
use crate::kernel::errno::Errno;
use crate::kernel::process::Process;
use crate::kernel::ptrace;
use crate::memory::BadAddress;

mod fpstate;

use fpstate::Format;

/// `popl %eax; movl $119, %eax; int $0x80`: by these bytes unwinders know a frame.
const SIGRETURN_CODE: [u8; 8] = [0x58, 0xb8, 0x77, 0, 0, 0, 0xcd, 0x80];
/// `movl $173, %eax; int $0x80`, and a zero.
const RT_SIGRETURN_CODE: [u8; 8] = [0xb8, 0xad, 0, 0, 0, 0xcd, 0x80, 0];

/// Flags that a frame restores; the others stay as they are.
const RESTORED_FLAGS: u32 = eflags::STATUS | eflags::AC | eflags::DF | eflags::TF | eflags::RF;
/// `uc_flags`: the FXSAVE image is followed by XSAVE's.
const UC_FP_XSTATE: u32 = 1;

/// Why no frame could be made.
pub(in crate::kernel) struct NoRoom;

impl From<BadAddress> for NoRoom {
    fn from(_: BadAddress) -> NoRoom {
        NoRoom
    }
}

/// Builds the frame for `info` and sets the registers to the handler's start. `mask` comes back at its end.
pub(super) fn push(p: &mut Process, info: &Info, action: &Action, mask: SigSet) -> Result<(), NoRoom> {
    let esp = p.machine.cpu.regs[reg::ESP];
    let rt = action.flags & sa::SIGINFO != 0;
    let frame_size = if rt { size_of::<RtSigframe>() } else { size_of::<Sigframe>() } as u32;
    let top = start_of_stack(p, action, esp);
    let format = Format::of(&p.machine.cpu.cpuid);
    let fp = format.place(top);
    // On entry to a function, ESP + 4 is a multiple of 16.
    let sp = (fp.wrapping_sub(frame_size).wrapping_add(4) & !15).wrapping_sub(4);
    let alt = p.signals.alt_stack;
    if alt.size != 0 && alt.contains(top) && !alt.contains(sp) {
        return Err(NoRoom);
    }
    grow_down_to(p, sp);

    fpstate::store(p, fp, format)?;
    let context = save_context(p, fp, mask);
    let return_to = return_address(p, action, rt, sp);
    let (info_ptr, context_ptr) = if rt { (sp + 16, sp + 144) } else { (0, 0) };
    let memory = &p.machine.memory;
    if rt {
        let frame = RtSigframe {
            pretcode: return_to,
            sig: info.signal as u32,
            pinfo: info_ptr,
            puc: context_ptr,
            info: info.to_guest(),
            uc: Ucontext {
                flags: if format == Format::Xsave { UC_FP_XSTATE } else { 0 },
                link: 0,
                stack: alt.words(esp),
                mcontext: context,
                sigmask: [mask.0 as u32, (mask.0 >> 32) as u32],
            },
            retcode: RT_SIGRETURN_CODE,
        };
        memory.write(sp, frame)?;
    } else {
        let frame = Sigframe {
            pretcode: return_to,
            sig: info.signal as u32,
            sc: context,
            extramask: (mask.0 >> 32) as u32,
            retcode: SIGRETURN_CODE,
            ..Sigframe::ZERO
        };
        memory.write(sp, frame)?;
    }
    if alt.flags & SS_AUTODISARM != 0 {
        p.signals.alt_stack = AltStack::default();
    }

    let cpu = &mut p.machine.cpu;
    cpu.regs[reg::ESP] = sp;
    cpu.regs[reg::EAX] = info.signal as u32;
    cpu.regs[reg::EDX] = info_ptr;
    cpu.regs[reg::ECX] = context_ptr;
    cpu.eip = action.handler;
    cpu.system_flags &= !(eflags::DF | eflags::RF | eflags::TF);
    for (seg, selector) in
        [(Seg::Cs, USER_CODE), (Seg::Ss, USER_DATA), (Seg::Ds, USER_DATA), (Seg::Es, USER_DATA)]
    {
        cpu.selectors[seg as usize] = selector;
        cpu.segment_bases[seg as usize] = 0;
    }
    fpstate::initialize(p);
    Ok(())
}

/// Where the frame's top goes: the alternate stack, the old switch to another stack, or where ESP is.
fn start_of_stack(p: &Process, action: &Action, esp: u32) -> u32 {
    let alt = &p.signals.alt_stack;
    if action.flags & sa::ONSTACK != 0 {
        if alt.shown_flags(esp) & !SS_AUTODISARM == 0 {
            return alt.base.wrapping_add(alt.size);
        }
    } else if !alt.is_active(esp)
        && p.machine.cpu.selectors[Seg::Ss as usize] != USER_DATA
        && action.flags & sa::RESTORER == 0
        && action.restorer != 0
    {
        // Before sigaltstack there was this: with a foreign SS, `sa_restorer` is the stack.
        return action.restorer;
    }
    esp
}

/// Lets a stack that grows reach the frame, as the kernel's own stores would.
fn grow_down_to(p: &Process, sp: u32) {
    if p.machine.memory.region_at(sp).is_none() {
        p.machine.memory.grow_stack(sp);
    }
}

/// What the handler returns to.
fn return_address(p: &Process, action: &Action, rt: bool, sp: u32) -> u32 {
    if action.flags & sa::RESTORER != 0 {
        return action.restorer;
    }
    let (vdso, size) = if rt {
        (p.image.rt_sigreturn, size_of::<RtSigframe>())
    } else {
        (p.image.sigreturn, size_of::<Sigframe>())
    };
    if vdso != 0 { vdso } else { sp.wrapping_add(size as u32 - 8) }
}

fn save_context(p: &Process, fpstate: u32, mask: SigSet) -> Sigcontext {
    let cpu = &p.machine.cpu;
    let [es, cs, ss, ds, fs, gs] = cpu.selectors;
    let trap = p.signals.trap;
    Sigcontext {
        gs,
        fs,
        es,
        ds,
        di: cpu.regs[reg::EDI],
        si: cpu.regs[reg::ESI],
        bp: cpu.regs[reg::EBP],
        sp: cpu.regs[reg::ESP],
        bx: cpu.regs[reg::EBX],
        dx: cpu.regs[reg::EDX],
        cx: cpu.regs[reg::ECX],
        ax: cpu.regs[reg::EAX],
        trapno: trap.number,
        err: trap.error,
        ip: cpu.eip,
        cs,
        flags: cpu.eflags(),
        sp_at_signal: cpu.regs[reg::ESP],
        ss,
        fpstate,
        oldmask: mask.0 as u32,
        cr2: trap.cr2,
        ..Sigcontext::ZERO
    }
}

/// sigreturn(2): the way back from a frame without `SA_SIGINFO`. The trampoline has popped the signal number.
pub fn sigreturn(p: &mut Process) -> Result<u32, Errno> {
    let sp = p.machine.cpu.regs[reg::ESP].wrapping_sub(8);
    let restored = p.machine.memory.read::<Sigframe>(sp).map_err(|_| NoRoom).and_then(|frame| {
        let mask = SigSet(u64::from(frame.sc.oldmask) | u64::from(frame.extramask) << 32);
        restore(p, &frame.sc, mask)
    });
    finish(p, restored)
}

/// rt_sigreturn(2): the way back from a frame with `SA_SIGINFO`.
pub fn rt_sigreturn(p: &mut Process) -> Result<u32, Errno> {
    let sp = p.machine.cpu.regs[reg::ESP].wrapping_sub(4);
    let restored = p.machine.memory.read::<RtSigframe>(sp).map_err(|_| NoRoom).and_then(|frame| {
        let [low, high] = frame.uc.sigmask;
        restore(p, &frame.uc.mcontext, SigSet(u64::from(low) | u64::from(high) << 32))?;
        // A stack that cannot be set any more is left alone, as everything else is restored by now.
        let esp = p.machine.cpu.regs[reg::ESP];
        if let Ok(alt) = p.signals.alt_stack.replaced(frame.uc.stack, esp) {
            p.signals.alt_stack = alt;
        }
        Ok(())
    });
    finish(p, restored)
}

/// A frame that cannot be read, or holds what cannot be loaded, is `SIGSEGV`.
fn finish(p: &mut Process, restored: Result<(), NoRoom>) -> Result<u32, Errno> {
    ptrace::tracee::call_forgotten(p);
    if restored.is_err() {
        deliver::force(p, Info::kernel(libc::SIGSEGV));
    }
    Err(STATE_RESTORED)
}

fn restore(p: &mut Process, context: &Sigcontext, mask: SigSet) -> Result<(), NoRoom> {
    p.signals.set_mask(mask);
    let fpstate = context.fpstate;
    let cpu = &mut p.machine.cpu;
    cpu.regs =
        [context.ax, context.cx, context.dx, context.bx, context.sp, context.bp, context.si, context.di];
    cpu.eip = context.ip;
    let flags = cpu.eflags() & !RESTORED_FLAGS | context.flags & RESTORED_FLAGS;
    cpu.set_eflags(flags);
    for (seg, selector) in
        [(Seg::Gs, context.gs), (Seg::Fs, context.fs), (Seg::Ds, context.ds), (Seg::Es, context.es)]
    {
        reload(cpu.as_mut(), seg, selector);
    }
    load_code(cpu.as_mut(), context.cs | 3)?;
    let ss = context.ss | 3;
    let base = cpu.descriptors.load_data(Seg::Ss, ss).map_err(|_| NoRoom)?;
    cpu.selectors[Seg::Ss as usize] = ss;
    cpu.segment_bases[Seg::Ss as usize] = base;
    let format = Format::of(&p.machine.cpu.cpuid);
    fpstate::load(p, fpstate, format)
}

/// Loads a data segment register; a selector that names nothing good becomes null, as the kernel's fix-up has it.
pub(in crate::kernel) fn reload(cpu: &mut crate::cpu::Cpu, seg: Seg, selector: u16) {
    // Null selectors keep their RPL, others are made the user's.
    let selector = if selector > 3 { selector | 3 } else { selector };
    let (selector, base) = match cpu.descriptors.load_data(seg, selector) {
        Ok(base) => (selector, base),
        Err(_) => (0, 0),
    };
    cpu.selectors[seg as usize] = selector;
    cpu.segment_bases[seg as usize] = base;
}

/// Loads CS as IRET would: present code of level 3.
pub(in crate::kernel) fn load_code(cpu: &mut crate::cpu::Cpu, selector: u16) -> Result<(), NoRoom> {
    /// Present, level 3, a segment, code.
    const ACCESS: u64 = 0xf8 << 40;
    let descriptor = cpu.descriptors.get(selector).ok_or(NoRoom)?;
    // Conforming code may have any level.
    let conforming = descriptor >> 42 & 1 != 0;
    let wanted = if conforming { ACCESS & !(3 << 45) } else { ACCESS };
    if descriptor & wanted != wanted {
        return Err(NoRoom);
    }
    cpu.selectors[Seg::Cs as usize] = selector;
    cpu.segment_bases[Seg::Cs as usize] = Descriptors::base(descriptor);
    Ok(())
}

/// Bytes that a frame takes at most, for `AT_MINSIGSTKSZ`.
pub const MAX_FRAME: u32 = (size_of::<Sigframe>() + fpstate::MOST) as u32 + 64 + 16;

const _: () = assert!(MAX_FRAME < stack::MIN_SIZE);
