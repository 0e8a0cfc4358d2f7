//! Clocks and sleeping.

use super::Process;
use super::abi::{GuestTimespec, Timespec, Timespec64, Timeval, Timex, Timex64, Timezone, Tms};
use super::args::{GuestPtr, Out};
use super::errno::Errno;
use super::host::{self, Arg};

/// time(2).
pub fn time(p: &mut Process, tloc: GuestPtr<u32>) -> Result<u32, Errno> {
    let now = host::clock(libc::CLOCK_REALTIME)?.tv_sec as u32;
    tloc.write_opt(&p.machine.memory, now)?;
    Ok(now)
}

/// stime(2).
pub fn stime(p: &mut Process, seconds: GuestPtr<i32>) -> Result<u32, Errno> {
    let sec = seconds.read(&p.machine.memory)?;
    set_clock(libc::CLOCK_REALTIME, libc::timespec { tv_sec: sec.into(), tv_nsec: 0 })
}

/// gettimeofday(2).
pub fn gettimeofday(p: &mut Process, tv: GuestPtr<Timeval>, tz: GuestPtr<Timezone>) -> Result<u32, Errno> {
    if !tv.is_null() {
        let now = host::clock(libc::CLOCK_REALTIME)?;
        let now = libc::timeval { tv_sec: now.tv_sec, tv_usec: now.tv_nsec / 1000 };
        tv.write(&p.machine.memory, Timeval::from_host(now))?;
    }
    if !tz.is_null() {
        let mut zone = Timezone::ZERO;
        host::call(libc::SYS_gettimeofday, [Arg::NULL, Arg::output(&mut zone)])?;
        tz.write(&p.machine.memory, zone)?;
    }
    Ok(0)
}

/// settimeofday(2).
pub fn settimeofday(p: &mut Process, tv: GuestPtr<Timeval>, tz: GuestPtr<Timezone>) -> Result<u32, Errno> {
    let time = tv.read_opt(&p.machine.memory)?.map(Timeval::to_host);
    let zone = tz.read_opt(&p.machine.memory)?;
    host::pass(libc::SYS_settimeofday, [Arg::input_opt(time.as_ref()), Arg::input_opt(zone.as_ref())])
}

fn get_clock<T: GuestTimespec>(p: &Process, clock: i32, tp: GuestPtr<T>) -> Result<u32, Errno> {
    tp.write(&p.machine.memory, T::from_host(host::clock(clock)?))?;
    Ok(0)
}

fn set_clock(clock: i32, time: libc::timespec) -> Result<u32, Errno> {
    host::pass(libc::SYS_clock_settime, [clock.into(), Arg::input(&time)])
}

fn get_resolution<T: GuestTimespec>(p: &Process, clock: i32, tp: GuestPtr<T>) -> Result<u32, Errno> {
    let mut resolution: libc::timespec = host::zeroed();
    host::call(libc::SYS_clock_getres, [clock.into(), Arg::output(&mut resolution)])?;
    tp.write_opt(&p.machine.memory, T::from_host(resolution))?;
    Ok(0)
}

/// clock_gettime(2) with 32-bit seconds.
pub fn clock_gettime(p: &mut Process, clock: i32, tp: GuestPtr<Timespec>) -> Result<u32, Errno> {
    get_clock(p, clock, tp)
}

/// clock_gettime(2).
pub fn clock_gettime64(p: &mut Process, clock: i32, tp: GuestPtr<Timespec64>) -> Result<u32, Errno> {
    get_clock(p, clock, tp)
}

/// clock_settime(2) with 32-bit seconds.
pub fn clock_settime(p: &mut Process, clock: i32, tp: GuestPtr<Timespec>) -> Result<u32, Errno> {
    set_clock(clock, tp.read(&p.machine.memory)?.to_host())
}

/// clock_settime(2).
pub fn clock_settime64(p: &mut Process, clock: i32, tp: GuestPtr<Timespec64>) -> Result<u32, Errno> {
    set_clock(clock, tp.read(&p.machine.memory)?.to_host())
}

/// clock_getres(2) with 32-bit seconds.
pub fn clock_getres(p: &mut Process, clock: i32, tp: GuestPtr<Timespec>) -> Result<u32, Errno> {
    get_resolution(p, clock, tp)
}

/// clock_getres(2).
pub fn clock_getres_time64(p: &mut Process, clock: i32, tp: GuestPtr<Timespec64>) -> Result<u32, Errno> {
    get_resolution(p, clock, tp)
}

/// Sleeps; when interrupted, writes the time that is left (unless the time was absolute) and remembers to go on with
/// it.
fn sleep<T: GuestTimespec>(
    p: &mut Process,
    clock: i32,
    flags: u32,
    time: libc::timespec,
    rem: GuestPtr<T>,
) -> Result<u32, Errno> {
    let mut left: libc::timespec = host::zeroed();
    let result = host::pass_blocking(
        libc::SYS_clock_nanosleep,
        [clock.into(), flags.into(), Arg::input(&time), Arg::output(&mut left)],
    );
    if result == Err(Errno::EINTR) && flags & libc::TIMER_ABSTIME as u32 == 0 {
        rem.write_opt(&p.machine.memory, T::from_host(left))?;
        p.signals.restart_block = Some(Box::new(move |p| sleep(p, clock, flags, left, rem)));
    }
    result
}

/// nanosleep(2).
pub fn nanosleep(p: &mut Process, req: GuestPtr<Timespec>, rem: GuestPtr<Timespec>) -> Result<u32, Errno> {
    let time = req.read(&p.machine.memory)?.to_host();
    sleep(p, libc::CLOCK_MONOTONIC, 0, time, rem)
}

/// clock_nanosleep(2) with 32-bit seconds.
pub fn clock_nanosleep(
    p: &mut Process,
    clock: i32,
    flags: u32,
    req: GuestPtr<Timespec>,
    rem: GuestPtr<Timespec>,
) -> Result<u32, Errno> {
    let time = req.read(&p.machine.memory)?.to_host();
    sleep(p, clock, flags, time, rem)
}

/// clock_nanosleep(2).
pub fn clock_nanosleep_time64(
    p: &mut Process,
    clock: i32,
    flags: u32,
    req: GuestPtr<Timespec64>,
    rem: GuestPtr<Timespec64>,
) -> Result<u32, Errno> {
    let time = req.read(&p.machine.memory)?.to_host();
    sleep(p, clock, flags, time, rem)
}

/// times(2): clock ticks since some moment, which wrap.
pub fn times(p: &mut Process, buf: GuestPtr<Tms>) -> Result<u32, Errno> {
    let mut usage: libc::tms = host::zeroed();
    let ticks = host::call(libc::SYS_times, [Arg::output(&mut usage)])?;
    let usage = Tms {
        utime: usage.tms_utime as i32,
        stime: usage.tms_stime as i32,
        cutime: usage.tms_cutime as i32,
        cstime: usage.tms_cstime as i32,
    };
    buf.write_opt(&p.machine.memory, usage)?;
    Ok(ticks as u32)
}

impl Timex {
    fn to_host(self) -> libc::timex {
        libc::timex {
            modes: self.modes,
            offset: self.offset.into(),
            freq: self.freq.into(),
            maxerror: self.maxerror.into(),
            esterror: self.esterror.into(),
            status: self.status,
            constant: self.constant.into(),
            precision: self.precision.into(),
            tolerance: self.tolerance.into(),
            time: { self.time }.to_host(),
            tick: self.tick.into(),
            ppsfreq: self.ppsfreq.into(),
            jitter: self.jitter.into(),
            shift: self.shift,
            stabil: self.stabil.into(),
            jitcnt: self.jitcnt.into(),
            calcnt: self.calcnt.into(),
            errcnt: self.errcnt.into(),
            stbcnt: self.stbcnt.into(),
            tai: self.tai,
            ..host::zeroed()
        }
    }

    fn from_host(host: &libc::timex) -> Timex {
        Timex {
            modes: host.modes,
            offset: host.offset as i32,
            freq: host.freq as i32,
            maxerror: host.maxerror as i32,
            esterror: host.esterror as i32,
            status: host.status,
            constant: host.constant as i32,
            precision: host.precision as i32,
            tolerance: host.tolerance as i32,
            time: Timeval::from_host(host.time),
            tick: host.tick as i32,
            ppsfreq: host.ppsfreq as i32,
            jitter: host.jitter as i32,
            shift: host.shift,
            stabil: host.stabil as i32,
            jitcnt: host.jitcnt as i32,
            calcnt: host.calcnt as i32,
            errcnt: host.errcnt as i32,
            stbcnt: host.stbcnt as i32,
            tai: host.tai,
            ..Timex::ZERO
        }
    }
}

/// adjtimex(2).
pub fn adjtimex(p: &mut Process, buf: GuestPtr<Timex>) -> Result<u32, Errno> {
    clock_adjtime(p, libc::CLOCK_REALTIME, buf)
}

/// clock_adjtime, see adjtimex(2).
pub fn clock_adjtime(p: &mut Process, clock: i32, buf: GuestPtr<Timex>) -> Result<u32, Errno> {
    let mut timex = buf.read(&p.machine.memory)?.to_host();
    let state = host::pass(libc::SYS_clock_adjtime, [clock.into(), Arg::output(&mut timex)])?;
    buf.write(&p.machine.memory, Timex::from_host(&timex))?;
    Ok(state)
}

/// clock_adjtime with 64-bit members: the structure of 64-bit hosts.
pub fn clock_adjtime64(p: &mut Process, clock: i32, buf: GuestPtr<Timex64>) -> Result<u32, Errno> {
    let buf = Out::new(buf.addr, size_of::<Timex64>() as u32).host(&p.machine.memory);
    host::pass(libc::SYS_clock_adjtime, [clock.into(), buf.arg()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timex_survives_both_ways() {
        let mut timex = Timex::ZERO;
        timex.modes = 0x8001;
        timex.offset = -7;
        timex.tick = 10_000;
        timex.time = Timeval { sec: 5, usec: 6 };
        timex.tai = 37;
        assert_eq!(Timex::from_host(&timex.to_host()), timex);
        assert_eq!(size_of::<Timex64>(), size_of::<libc::timex>());
    }
}
