//! ptrace(2): guest processes that trace guest processes.
//!
//! Tracer and tracee are host processes that run this program, and the host's own ptrace stands between them: attaching,
//! waiting, what the death of either means, and who may trace whom are the host's. What a stop is and what the registers
//! hold is the guest's: the tracee shows it in a block that its tracer reads and writes (`block`), and stops where its
//! guest's state is exact ([`tracee`]). The stops that only the host makes, one for each of the emulator's own faults among
//! them, are dealt with by the tracer wherever it waits ([`tracer`]).

pub(super) mod block;
pub(super) mod remote;
pub mod tracee;
pub mod tracer;
mod vm;
mod watch;

pub use tracee::{Inherited, Tracing};
pub use tracer::{Tracees, is_tracer};
pub use vm::{process_vm_readv, process_vm_writev};

use super::abi::{PeekSiginfo, Regset, UserDesc, UserRegs};
use super::args::GuestPtr;
use super::errno::Errno;
use super::host::Arg;
use super::process::{Image, Process};
use super::segments::{self, TLS_COUNT, TLS_FIRST};
use super::signal::{Fields, Info, info::SIZE};
use crate::cpu::eflags;
use crate::cpu::image::{LEGACY_BYTES, XCR0, XSAVE_BYTES};
use crate::fpu::SAVE_32;
use crate::memory::{Memory, bytes_of, bytes_of_mut};
use block::{HEADER, State, changed, stop};
use std::sync::atomic::Ordering;
use tracer::{Stopped, host_request, stopped};

/// Flags that a tracer may set.
const FLAGS: u32 = eflags::STATUS | eflags::TF | eflags::DF | eflags::RF | eflags::AC;

/// `PTRACE_*`, the numbers of requests.
mod request {
    #![allow(missing_docs)]
    pub const TRACEME: u32 = 0;
    pub const PEEKTEXT: u32 = 1;
    pub const PEEKDATA: u32 = 2;
    pub const PEEKUSR: u32 = 3;
    pub const POKETEXT: u32 = 4;
    pub const POKEDATA: u32 = 5;
    pub const POKEUSR: u32 = 6;
    pub const CONT: u32 = 7;
    pub const KILL: u32 = 8;
    pub const SINGLESTEP: u32 = 9;
    pub const GETREGS: u32 = 12;
    pub const SETREGS: u32 = 13;
    pub const GETFPREGS: u32 = 14;
    pub const SETFPREGS: u32 = 15;
    pub const ATTACH: u32 = 16;
    pub const DETACH: u32 = 17;
    pub const GETFPXREGS: u32 = 18;
    pub const SETFPXREGS: u32 = 19;
    pub const OLDSETOPTIONS: u32 = 21;
    pub const SYSCALL: u32 = 24;
    pub const GET_THREAD_AREA: u32 = 25;
    pub const SET_THREAD_AREA: u32 = 26;
    pub const SYSEMU: u32 = 31;
    pub const SYSEMU_SINGLESTEP: u32 = 32;
    pub const SINGLEBLOCK: u32 = 33;
    pub const SETOPTIONS: u32 = 0x4200;
    pub const GETEVENTMSG: u32 = 0x4201;
    pub const GETSIGINFO: u32 = 0x4202;
    pub const SETSIGINFO: u32 = 0x4203;
    pub const GETREGSET: u32 = 0x4204;
    pub const SETREGSET: u32 = 0x4205;
    pub const SEIZE: u32 = 0x4206;
    pub const INTERRUPT: u32 = 0x4207;
    pub const LISTEN: u32 = 0x4208;
    pub const PEEKSIGINFO: u32 = 0x4209;
    pub const GETSIGMASK: u32 = 0x420a;
    pub const SETSIGMASK: u32 = 0x420b;
    pub const GET_SYSCALL_INFO: u32 = 0x420e;
}

/// `PTRACE_O_*`.
mod option {
    #![allow(missing_docs)]
    pub const TRACESYSGOOD: u32 = 1;
    pub const TRACEFORK: u32 = 2;
    pub const TRACEVFORK: u32 = 4;
    pub const TRACECLONE: u32 = 8;
    pub const TRACEEXEC: u32 = 0x10;
    pub const TRACEEXIT: u32 = 0x40;
    /// All that there are but for `TRACESECCOMP` and `SUSPEND_SECCOMP`: programs here have no filters.
    pub const ALL: u32 = 0x10_007f | 0x80;
}

/// `PTRACE_EVENT_*`.
mod event {
    #![allow(missing_docs)]
    pub const FORK: u32 = 1;
    pub const VFORK: u32 = 2;
    pub const CLONE: u32 = 3;
    pub const EXEC: u32 = 4;
    pub const EXIT: u32 = 6;
    pub const STOP: u32 = 128;
}

/// `NT_*`, the sets of registers.
mod set {
    pub const PRSTATUS: u32 = 1;
    pub const FPREGSET: u32 = 2;
    pub const TLS_386: u32 = 0x200;
    pub const X86_XSTATE: u32 = 0x202;
    pub const PRXFPREG: u32 = 0x46e6_2b7f;
}

/// `struct user` of i386: its size, and where the debug registers are, in bytes.
const USER_SIZE: u32 = 284;
const USER_DEBUG: u32 = 252;
/// Where an XSAVE area says which features are saved in it.
const XSAVE_FEATURES: [usize; 2] = [464, LEGACY_BYTES];

/// Shows a program that is about to run to those that will trace it.
pub(super) fn show(memory: &Memory, image: &Image) {
    HEADER.show(memory, image);
}

/// In a child that has a copy of its parent's memory: nobody else's thread is here, and nobody is traced.
pub(super) fn in_child() {
    HEADER.forget_threads();
    tracer::forget();
    HEADER.dying.store(0, Ordering::Release);
}

/// This process ends itself by `signal`.
pub(super) fn dying(signal: i32) {
    HEADER.dying.store(signal as u64, Ordering::Release);
}

/// A signal that a tracer sends.
fn from_tracer(signal: i32) -> Info {
    let parent = std::os::unix::process::parent_id() as i32;
    Info { signal, errno: 0, code: 0, fields: Fields::Kill { pid: parent, uid: 0 } }
}

/// ptrace(2).
pub fn ptrace(p: &mut Process, request: u32, pid: i32, addr: u32, data: u32) -> Result<u32, Errno> {
    let tid = pid as u32;
    match request {
        request::TRACEME => trace_me(p),
        request::ATTACH | request::SEIZE => tracer::attach(p, tid, request == request::SEIZE, addr, data),
        request::INTERRUPT => tracer::interrupt(p, tid),
        request::KILL => host_request(request::KILL, tid, 0, 0.into()).map(|_| 0),
        request::LISTEN => tracer::listen(p, tid),
        _ => match stopped(p, tid) {
            Ok(tracee) => serve(p, tracee, request, addr, data),
            // A program of the host's own can be let go on, and no more.
            Err(Errno::EIO) if request == request::DETACH => {
                host_request(request, tid, 0, data.into()).map(|_| 0)
            }
            Err(Errno::EIO) if resumes(request) => {
                host_request(request::CONT, tid, 0, data.into()).map(|_| 0)
            }
            Err(error) => Err(error),
        },
    }
}

/// Tells whether a request lets a tracee go on.
fn resumes(request: u32) -> bool {
    matches!(
        request,
        request::CONT
            | request::SYSCALL
            | request::SINGLESTEP
            | request::SINGLEBLOCK
            | request::SYSEMU
            | request::SYSEMU_SINGLESTEP
    )
}

/// `PTRACE_TRACEME`.
fn trace_me(p: &Process) -> Result<u32, Errno> {
    host_request(request::TRACEME, 0, 0, 0.into())?;
    p.trace.slot.options.store(0, Ordering::Release);
    p.trace.slot.attached.store(block::attached::TRACED, Ordering::Release);
    Ok(0)
}

/// A request about a tracee that stands.
fn serve(p: &mut Process, mut tracee: Stopped, request: u32, addr: u32, data: u32) -> Result<u32, Errno> {
    let memory = &p.machine.memory;
    match request {
        request::PEEKTEXT | request::PEEKDATA => {
            let word = vm::peek(tracee.remote(), addr)?;
            memory.write(data, word)?;
        }
        request::POKETEXT | request::POKEDATA => vm::poke(tracee.remote(), addr, data)?,
        request::PEEKUSR => {
            let word = peek_user(&tracee.state, addr)?;
            memory.write(data, word)?;
        }
        request::POKEUSR => poke_user(&mut tracee, addr, data)?,
        _ if resumes(request) => tracee.resume(request, data)?,
        request::DETACH => {
            let tid = tracee.remote().tid;
            tracee.detach(data)?;
            p.group.tracees.remove(tid);
        }
        request::GETREGS => memory.write(data, tracee.state.regs)?,
        request::SETREGS => {
            let regs = memory.read::<UserRegs>(data)?;
            set_registers(&mut tracee, regs)?;
        }
        request::GETFPREGS => memory.write(data, tracee.state.fsave)?,
        request::SETFPREGS => {
            let image = memory.read::<[u8; SAVE_32]>(data)?;
            set_float(&mut tracee, Some(image), None)?;
        }
        request::GETFPXREGS => memory.write(data, tracee.state.fxsave)?,
        request::SETFPXREGS => {
            let image = memory.read::<[u8; 512]>(data)?;
            set_float(&mut tracee, None, Some(image))?;
        }
        request::GETREGSET | request::SETREGSET => {
            register_set(memory, &mut tracee, request == request::SETREGSET, addr, data)?;
        }
        request::GET_THREAD_AREA | request::SET_THREAD_AREA => {
            let index = addr.wrapping_sub(TLS_FIRST) as usize;
            let set = request == request::SET_THREAD_AREA;
            thread_area(memory, &mut tracee, index, data, set)?;
        }
        request::SETOPTIONS | request::OLDSETOPTIONS => {
            if data & !option::ALL != 0 {
                return Err(Errno::EINVAL);
            }
            tracee.set_options(data)?;
        }
        request::GETEVENTMSG => memory.write(data, tracee.state.message)?,
        request::GETSIGINFO if tracee.state.stop == stop::GROUP => return Err(Errno::EINVAL),
        request::GETSIGINFO => memory.write_bytes(data, &Info::from_host(&tracee.state.info).to_guest())?,
        request::SETSIGINFO => {
            let info = Info::from_guest(&memory.read::<[u8; SIZE]>(data)?);
            if tracee.state.stop == stop::GROUP {
                return Err(Errno::EINVAL);
            }
            tracee.state.info = info.to_host();
            tracee.change(changed::INFO)?;
        }
        request::PEEKSIGINFO => return peek_signals(memory, &tracee, addr, data),
        request::GETSIGMASK | request::SETSIGMASK if addr != 8 => return Err(Errno::EINVAL),
        request::GETSIGMASK => memory.write(data, tracee.state.mask)?,
        request::SETSIGMASK => {
            tracee.state.mask = memory.read::<u64>(data)?;
            tracee.change(changed::MASK)?;
        }
        request::GET_SYSCALL_INFO => {
            let (info, len) = tracee::syscall_info(&tracee.state);
            memory.write_bytes(data, &info[..len.min(addr as usize)])?;
            return Ok(len as u32);
        }
        _ => return Err(Errno::EIO),
    }
    Ok(0)
}

/// Checks and stores general registers: CS and SS have to be those of a program, and what the other selectors name is found
/// out when they are loaded.
fn set_registers(tracee: &mut Stopped, regs: UserRegs) -> Result<(), Errno> {
    let user = |selector: u32| selector & 3 == 3;
    let data = |selector: u32| selector & 0xffff == 0 || user(selector);
    let UserRegs { cs, ss, ds, es, fs, gs, .. } = regs;
    if !user(cs) || !user(ss) || ![ds, es, fs, gs].into_iter().all(data) {
        return Err(Errno::EIO);
    }
    let kept = tracee.state.regs.flags & !FLAGS;
    tracee.state.regs = UserRegs { flags: kept | regs.flags & FLAGS, ..regs };
    tracee.change(changed::REGS)
}

/// Replaces the floating-point state by one of its images.
fn set_float(
    tracee: &mut Stopped,
    fsave: Option<[u8; SAVE_32]>,
    fxsave: Option<[u8; 512]>,
) -> Result<(), Errno> {
    let from_fsave = fsave.is_some();
    let mut state = tracee.state;
    state.fsave = fsave.unwrap_or(state.fsave);
    state.fxsave = fxsave.unwrap_or(state.fxsave);
    // Bits of MXCSR that a processor would refuse.
    if u32::from_le_bytes([state.fxsave[24], state.fxsave[25], state.fxsave[26], state.fxsave[27]]) >> 16 != 0
    {
        return Err(Errno::EINVAL);
    }
    let (fsave, fxsave) = tracee::float_images(&state, from_fsave);
    (tracee.state.fsave, tracee.state.fxsave) = (fsave, fxsave);
    tracee.change(changed::FLOAT)
}

/// A word of `struct user`.
fn peek_user(state: &State, addr: u32) -> Result<u32, Errno> {
    if !addr.is_multiple_of(4) || addr > USER_SIZE {
        return Err(Errno::EIO);
    }
    let regs = state.regs;
    let word = |bytes: &[u8], at: usize| {
        bytes.get(at..at + 4).map_or(0, |word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
    };
    let debug = state.debug;
    Ok(match addr {
        _ if (addr as usize) < size_of::<UserRegs>() => word(bytes_of(&regs), addr as usize),
        USER_DEBUG..USER_SIZE => debug[((addr - USER_DEBUG) / 4) as usize],
        _ => 0,
    })
}

/// Replaces a word of `struct user`: a general or debug register; others are not stored.
fn poke_user(tracee: &mut Stopped, addr: u32, data: u32) -> Result<(), Errno> {
    if !addr.is_multiple_of(4) || addr > USER_SIZE {
        return Err(Errno::EIO);
    }
    let at = addr as usize;
    if at < size_of::<UserRegs>() {
        let mut regs = tracee.state.regs;
        bytes_of_mut(&mut regs)[at..at + 4].copy_from_slice(&data.to_le_bytes());
        return set_registers(tracee, regs);
    }
    if (USER_DEBUG..USER_SIZE).contains(&addr) {
        let index = ((addr - USER_DEBUG) / 4) as usize;
        let mut debug = tracee.state.debug;
        debug[index] = data;
        if matches!(index, 4 | 5) {
            return Err(Errno::EIO);
        }
        if !watch::is_valid_control(debug[7], &debug) {
            return Err(Errno::EINVAL);
        }
        tracee.state.debug = debug;
        return tracee.change(changed::DEBUG);
    }
    Ok(())
}

/// `PTRACE_GETREGSET` and `PTRACE_SETREGSET`. A buffer that is too short gets or gives the beginning.
fn register_set(
    memory: &Memory,
    tracee: &mut Stopped,
    set: bool,
    kind: u32,
    regset: u32,
) -> Result<(), Errno> {
    let pointer = GuestPtr::<Regset>::new(regset);
    let Regset { base, len } = pointer.read(memory)?;
    let mut bytes = match kind {
        set::PRSTATUS => bytes_of(&{ tracee.state.regs }).to_vec(),
        set::FPREGSET => tracee.state.fsave.to_vec(),
        set::PRXFPREG => tracee.state.fxsave.to_vec(),
        set::X86_XSTATE => xsave(&tracee.state),
        set::TLS_386 => bytes_of(&tracee::tls_view(&tracee.state)).to_vec(),
        _ => return Err(Errno::EINVAL),
    };
    let unit = if kind == set::TLS_386 { size_of::<UserDesc>() as u32 } else { 4 };
    if !len.is_multiple_of(unit) {
        return Err(Errno::EINVAL);
    }
    let len = (len as usize).min(bytes.len());
    if set {
        memory.read_bytes(base, &mut bytes[..len])?;
        store_set(tracee, kind, &bytes)?;
    } else {
        memory.write_bytes(base, &bytes[..len])?;
    }
    pointer.write(memory, Regset { base, len: len as u32 })
}

/// The XSAVE area, which says what it holds.
fn xsave(state: &State) -> Vec<u8> {
    let mut area = state.fxsave.to_vec();
    area.resize(XSAVE_BYTES, 0);
    for at in XSAVE_FEATURES {
        area[at] = XCR0 as u8;
    }
    area
}

fn store_set(tracee: &mut Stopped, kind: u32, bytes: &[u8]) -> Result<(), Errno> {
    match kind {
        set::PRSTATUS => {
            let mut regs = UserRegs::ZERO;
            bytes_of_mut(&mut regs).copy_from_slice(bytes);
            set_registers(tracee, regs)
        }
        set::FPREGSET => set_float(tracee, bytes.first_chunk().copied(), None),
        set::TLS_386 => {
            let (entries, _) = bytes.as_chunks::<{ size_of::<UserDesc>() }>();
            for (index, entry) in entries.iter().enumerate() {
                let mut desc = UserDesc::ZERO;
                bytes_of_mut(&mut desc).copy_from_slice(entry);
                tracee.state.tls[index] = segments::tls_descriptor(&desc)?;
            }
            tracee.change(changed::TLS)
        }
        _ => {
            let mut image: [u8; 512] = *bytes.first_chunk().ok_or(Errno::EINVAL)?;
            // What the area says of itself is no part of the state.
            image[XSAVE_FEATURES[0]..].fill(0);
            set_float(tracee, None, Some(image))
        }
    }
}

/// `PTRACE_GET_THREAD_AREA` and `PTRACE_SET_THREAD_AREA`.
fn thread_area(
    memory: &Memory,
    tracee: &mut Stopped,
    index: usize,
    data: u32,
    set: bool,
) -> Result<(), Errno> {
    if index >= TLS_COUNT as usize {
        return Err(Errno::EINVAL);
    }
    let pointer = GuestPtr::<UserDesc>::new(data);
    if !set {
        let tls = tracee.state.tls;
        return pointer.write(memory, segments::description(TLS_FIRST + index as u32, tls[index]));
    }
    let mut tls = tracee.state.tls;
    tls[index] = segments::tls_descriptor(&pointer.read(memory)?)?;
    tracee.state.tls = tls;
    tracee.change(changed::TLS)
}

/// `PTRACE_PEEKSIGINFO`: signals that wait on the host.
fn peek_signals(memory: &Memory, tracee: &Stopped, addr: u32, data: u32) -> Result<u32, Errno> {
    let args = GuestPtr::<PeekSiginfo>::new(addr).read(memory)?;
    if args.nr < 0 {
        return Err(Errno::EINVAL);
    }
    let mut given = 0;
    while given < args.nr as u32 {
        let one = PeekSiginfo { off: args.off + u64::from(given), nr: 1, ..args };
        let mut info = [0u8; SIZE];
        let args = [request::PEEKSIGINFO.into(), tracee.remote().tid.into()];
        let [request, tid] = args;
        let rest = [Arg::input(&one), Arg::slice_mut(&mut info)];
        let [one, out] = rest;
        if super::host::call(libc::SYS_ptrace, [request, tid, one, out])? == 0 {
            break;
        }
        let at = data.wrapping_add(given * SIZE as u32);
        memory.write_bytes(at, &Info::from_host(&info).to_guest())?;
        given += 1;
    }
    Ok(given)
}
