//! Settings of the process (prctl(2), personality(2), arch_prctl(2)).

use super::args::Str;
use super::errno::Errno;
use super::host::{self, Arg};
use super::paths::c_string;
use super::process::Process;

/// `READ_IMPLIES_EXEC` of personality(2).
pub const READ_IMPLIES_EXEC: u32 = 0x0040_0000;
/// Asks for the personality.
const QUERY: u32 = u32::MAX;
/// Flags that would change the host's view of this program rather than the guest's of itself.
const GUEST_ONLY: u32 = READ_IMPLIES_EXEC;

/// Bytes of a thread's name, NUL included.
const NAME_LEN: usize = 16;

/// Options of prctl(2) by what their arguments are.
mod option {
    pub const SET_PDEATHSIG: i32 = 1;
    pub const GET_PDEATHSIG: i32 = 2;
    pub const GET_DUMPABLE: i32 = 3;
    pub const SET_DUMPABLE: i32 = 4;
    pub const GET_KEEPCAPS: i32 = 7;
    pub const SET_KEEPCAPS: i32 = 8;
    pub const GET_TIMING: i32 = 13;
    pub const SET_TIMING: i32 = 14;
    pub const SET_NAME: i32 = 15;
    pub const GET_NAME: i32 = 16;
    pub const GET_SECCOMP: i32 = 21;
    pub const CAPBSET_READ: i32 = 23;
    pub const CAPBSET_DROP: i32 = 24;
    pub const GET_TSC: i32 = 25;
    pub const SET_TSC: i32 = 26;
    pub const GET_SECUREBITS: i32 = 27;
    pub const SET_SECUREBITS: i32 = 28;
    pub const SET_TIMERSLACK: i32 = 29;
    pub const GET_TIMERSLACK: i32 = 30;
    pub const MCE_KILL: i32 = 33;
    pub const MCE_KILL_GET: i32 = 34;
    pub const SET_CHILD_SUBREAPER: i32 = 36;
    pub const GET_CHILD_SUBREAPER: i32 = 37;
    pub const SET_NO_NEW_PRIVS: i32 = 38;
    pub const GET_NO_NEW_PRIVS: i32 = 39;
    pub const GET_TID_ADDRESS: i32 = 40;
    pub const SET_THP_DISABLE: i32 = 41;
    pub const GET_THP_DISABLE: i32 = 42;
    pub const CAP_AMBIENT: i32 = 47;
    pub const GET_SPECULATION_CTRL: i32 = 52;
    pub const SET_SPECULATION_CTRL: i32 = 53;
    pub const SET_PTRACER: i32 = 0x5961_6d61;
    pub const SET_VMA: i32 = 0x5356_4d41;
}

/// Values of `PR_SET_TSC`.
mod tsc {
    pub const ENABLE: i32 = 1;
    pub const SIGSEGV: i32 = 2;
}

/// `PR_SET_VMA_ANON_NAME`.
const ANON_NAME: u32 = 0;
/// Bytes of such a name, NUL included.
const ANON_NAME_LEN: usize = 80;

/// prctl(2). `EINVAL` for what is not known, as older kernels answer.
pub fn prctl(p: &mut Process, code: i32, arg2: u32, arg3: u32, arg4: u32, arg5: u32) -> Result<u32, Errno> {
    match code {
        option::GET_PDEATHSIG | option::GET_CHILD_SUBREAPER => {
            let mut value = 0i32;
            host::call(libc::SYS_prctl, [code.into(), Arg::output(&mut value)])?;
            p.machine.memory.write(arg2, value)?;
            Ok(0)
        }
        option::SET_NAME => {
            let mut name = [0u8; NAME_LEN];
            let mut len = 0;
            while len < NAME_LEN - 1 {
                name[len] = p.machine.memory.read(arg2.wrapping_add(len as u32))?;
                if name[len] == 0 {
                    break;
                }
                len += 1;
            }
            host::pass(libc::SYS_prctl, [code.into(), Arg::slice(&name)])
        }
        option::GET_NAME => {
            let mut name = [0u8; NAME_LEN];
            host::call(libc::SYS_prctl, [code.into(), Arg::slice_mut(&mut name)])?;
            p.machine.memory.write_bytes(arg2, &name)?;
            Ok(0)
        }
        option::GET_TSC => {
            let mode = if p.machine.cpu.tsd { tsc::SIGSEGV } else { tsc::ENABLE };
            p.machine.memory.write(arg2, mode)?;
            Ok(0)
        }
        option::SET_TSC => {
            p.machine.cpu.tsd = match arg2 as i32 {
                tsc::ENABLE => false,
                tsc::SIGSEGV => true,
                _ => return Err(Errno::EINVAL),
            };
            Ok(0)
        }
        option::GET_TID_ADDRESS => {
            p.machine.memory.write(arg2, p.task.clear_child_tid)?;
            Ok(0)
        }
        option::SET_VMA if arg2 == ANON_NAME => name_memory(p, arg3, arg4, arg5),
        // Negative numbers of processes are sign-extended on the way.
        option::SET_PTRACER => host::pass(libc::SYS_prctl, [code.into(), (arg2 as i32).into()]),
        option::SET_TIMERSLACK => host::pass(libc::SYS_prctl, [code.into(), (arg2 as i32).into()]),
        option::SET_PDEATHSIG
        | option::GET_DUMPABLE
        | option::SET_DUMPABLE
        | option::GET_KEEPCAPS
        | option::SET_KEEPCAPS
        | option::GET_TIMING
        | option::SET_TIMING
        | option::GET_SECCOMP
        | option::CAPBSET_READ
        | option::CAPBSET_DROP
        | option::GET_SECUREBITS
        | option::SET_SECUREBITS
        | option::GET_TIMERSLACK
        | option::MCE_KILL
        | option::MCE_KILL_GET
        | option::SET_CHILD_SUBREAPER
        | option::SET_NO_NEW_PRIVS
        | option::GET_NO_NEW_PRIVS
        | option::SET_THP_DISABLE
        | option::GET_THP_DISABLE
        | option::CAP_AMBIENT
        | option::GET_SPECULATION_CTRL
        | option::SET_SPECULATION_CTRL => {
            host::pass(libc::SYS_prctl, [code.into(), arg2.into(), arg3.into(), arg4.into(), arg5.into()])
        }
        _ => Err(Errno::EINVAL),
    }
}

/// `PR_SET_VMA_ANON_NAME`: names a range of memory without a file; no name takes it away.
fn name_memory(p: &Process, addr: u32, len: u32, name: u32) -> Result<u32, Errno> {
    let memory = &p.machine.memory;
    // Kernels without such names do not look at this one.
    memory.name_range(0, 0, None)?;
    let name = match name {
        0 => None,
        name => Some(c_string(&Str(name).read(memory, ANON_NAME_LEN, Errno::EINVAL)?)),
    };
    memory.name_range(addr, len, name.as_deref())?;
    Ok(0)
}

/// The personality of this process on the host, as `execve` handed it on.
pub(super) fn inherited_personality() -> u32 {
    host::call(libc::SYS_personality, [QUERY.into()]).map_or(0, |persona| persona as u32)
}

/// personality(2): gives the old one.
pub fn personality(p: &mut Process, persona: u32) -> Result<u32, Errno> {
    let old = p.task.personality;
    if persona != QUERY {
        host::call(libc::SYS_personality, [(persona & !GUEST_ONLY).into()])?;
        p.task.personality = persona;
    }
    Ok(old)
}

/// arch_prctl(2). None of its options is for 32-bit programs without the features that they are about.
pub fn arch_prctl(_p: &mut Process, _option: u32, _addr: u32) -> Result<u32, Errno> {
    Err(Errno::EINVAL)
}
