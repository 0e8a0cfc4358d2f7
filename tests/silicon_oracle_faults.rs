//! The silicon oracle comes back from faults, traps, hangs and signals, with the state at that very point.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

mod oracle;

use oracle::flag::{AC, ARITHMETIC, DF, ID, NT, OF, RF, TF};
use oracle::reg::{EAX, EBP, EBX, ECX, EDI, EDX, ESI, ESP};
use oracle::seg::{DS, SS};
use oracle::{Access, CODE, DATA, Fault, Oracle, PAGE, STACK, State, Stop, WINDOW, with_oracle};
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const DATA_END: u32 = DATA + WINDOW;
const UNMAPPED: u32 = 0x7000_0000;

/// A case of the fault table: name, code, registers, flags, then vector, error, CR2, EIP relative
/// to the code, signal.
type FaultCase = (&'static str, &'static [u8], &'static [(usize, u32)], u32, u8, u32, u32, u32, i32);

#[rustfmt::skip]
const FAULTS: &[FaultCase] = &[
    ("div by zero", &[0xF7, 0xF1], &[(EAX, 5)], 0, Fault::DE, 0, 0, 0, libc::SIGFPE),
    ("div overflow behind a nop", &[0x90, 0xF7, 0xF1], &[(EDX, 5), (ECX, 5)], 0, Fault::DE, 0, 0, 1, libc::SIGFPE),
    ("ud2", &[0x0F, 0x0B], &[], 0, Fault::UD, 0, 0, 0, libc::SIGILL),
    ("undeclared 0F FF", &[0x0F, 0xFF, 0xC0], &[], 0, Fault::UD, 0, 0, 0, libc::SIGILL),
    ("lock nop", &[0xF0, 0x90], &[], 0, Fault::UD, 0, 0, 0, libc::SIGILL),
    ("int3", &[0xCC], &[], 0, Fault::BP, 0, 0, 1, libc::SIGTRAP),
    ("int 3", &[0xCD, 3], &[], 0, Fault::BP, 0, 0, 2, libc::SIGTRAP),
    ("into with OF", &[0xCE], &[], OF, Fault::OF, 0, 0, 1, libc::SIGSEGV),
    ("int 4", &[0xCD, 4], &[], 0, Fault::OF, 0, 0, 2, libc::SIGSEGV),
    ("int 42h", &[0xCD, 0x42], &[], 0, Fault::GP, 0x42 << 3 | 2, 0, 0, libc::SIGSEGV),
    ("bound", &[0x62, 0x03], &[(EAX, 7), (EBX, DATA)], 0, Fault::BR, 0, 0, 0, libc::SIGSEGV),
    ("hlt", &[0xF4], &[], 0, Fault::GP, 0, 0, 0, libc::SIGSEGV),
    ("cli", &[0xFA], &[], 0, Fault::GP, 0, 0, 0, libc::SIGSEGV),
    ("in al, dx", &[0xEC], &[], 0, Fault::GP, 0, 0, 0, libc::SIGSEGV),
    ("load", &[0x8B, 0x03], &[(EBX, UNMAPPED)], 0, Fault::PF, 4, UNMAPPED, 0, libc::SIGSEGV),
    ("store", &[0x89, 0x03], &[(EBX, UNMAPPED)], 0, Fault::PF, 6, UNMAPPED, 0, libc::SIGSEGV),
    ("load of which two bytes are there", &[0x8B, 0x03], &[(EBX, DATA_END - 2)], 0, Fault::PF, 4, DATA_END, 0, libc::SIGSEGV),
    ("store below the window", &[0x89, 0x03], &[(EBX, DATA - 1)], 0, Fault::PF, 6, DATA - 1, 0, libc::SIGSEGV),
    ("add to memory", &[0x01, 0x03], &[(EBX, UNMAPPED)], 0, Fault::PF, 6, UNMAPPED, 0, libc::SIGSEGV),
    ("push with ESP 0", &[0x50], &[(ESP, 0)], 0, Fault::PF, 6, 0xFFFF_FFFC, 0, libc::SIGSEGV),
    ("pop above the stack", &[0x58], &[(ESP, STACK + WINDOW)], 0, Fault::PF, 4, STACK + WINDOW, 0, libc::SIGSEGV),
    ("15 bytes and one", &[0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90], &[], 0, Fault::GP, 0, 0, 0, libc::SIGSEGV),
    ("unaligned movaps", &[0x0F, 0x28, 0x03], &[(EBX, DATA + 4)], 0, Fault::GP, 0, 0, 0, libc::SIGSEGV),
    ("unaligned load with AC", &[0x8B, 0x03], &[(EBX, DATA + 1)], AC, Fault::AC, 0, 0, 0, libc::SIGBUS),
    ("load through null FS", &[0x64, 0x8B, 0x03], &[(EBX, DATA)], 0, Fault::GP, 0, 0, 0, libc::SIGSEGV),
    ("mov ds of a bad selector", &[0x8E, 0xD8], &[(EAX, 0x1000)], 0, Fault::GP, 0x1000, 0, 0, libc::SIGSEGV),
    ("trap flag", &[0x90, 0x90], &[], TF, Fault::DB, 0, 0, 1, libc::SIGTRAP),
    ("trap flag by popf", &[0x6A, 0x01, 0x81, 0x0C, 0x24, 0, 1, 0, 0, 0x9D, 0x90, 0x90], &[], 0, Fault::DB, 0, 0, 11, libc::SIGTRAP),
    ("jump to nowhere", &[0xFF, 0xE0], &[(EAX, UNMAPPED)], 0, Fault::PF, 0x14, UNMAPPED, UNMAPPED.wrapping_sub(CODE), libc::SIGSEGV),
    ("jump into data", &[0xFF, 0xE0], &[(EAX, DATA)], 0, Fault::PF, 0x15, DATA, DATA.wrapping_sub(CODE), libc::SIGSEGV),
    ("branch to an unwritten byte", &[0xEB, 0x70], &[], 0, Fault::GP, 0, 0, 0x72, libc::SIGSEGV),
];

#[test]
fn faults_show_vector_error_address_and_the_state_before_the_instruction() {
    with_oracle(|oracle| {
        // Present pages: the error codes tell them from missing ones.
        oracle.bytes_mut(DATA, WINDOW as usize).fill(0);
        for &(name, code, regs, eflags, vector, error, cr2, eip, signal) in FAULTS {
            oracle.clear_code();
            let before = State { eflags, ..State::with(regs) };
            let after = oracle.run(code, CODE, &before);
            let fault = after.fault().unwrap_or_else(|| panic!("{name}: {:?}", after.stop));
            assert_eq!(
                (fault.vector, fault.error, fault.cr2, fault.signal),
                (vector, error, cr2, signal),
                "{name}"
            );
            assert_eq!(after.state.eip.wrapping_sub(CODE), eip, "{name}");
            if name != "trap flag by popf" {
                assert_eq!(after.state.regs, before.regs, "{name}");
                assert_eq!(after.state.eflags & !RF, eflags | 0x202, "{name}");
            }
        }
    });
}

#[test]
fn int1_traps() {
    with_oracle(|oracle| {
        let after = oracle.run(&[0xF1], CODE, &State::with(&[]));
        let fault = after.fault().unwrap();
        assert_eq!((fault.vector, fault.signal), (Fault::DB, libc::SIGTRAP));
        // A trap, but some hypervisors that intercept it do not advance EIP.
        assert!([CODE, CODE + 1].contains(&after.state.eip));
    });
}

#[test]
fn flags_of_a_run_that_faulted_do_not_leak_into_the_next() {
    with_oracle(|oracle| {
        let user = ARITHMETIC | DF | NT | AC | ID;
        let faulted = oracle.run(&[0x0F, 0x0B], CODE, &State { eflags: user, ..State::with(&[]) });
        assert_eq!(faulted.state.eflags & !RF, user | 0x202);
        for eflags in [0, NT, AC] {
            let after = oracle.run(&[0x90], CODE, &State { eflags, ..State::with(&[]) });
            assert_eq!((after.stop, after.state.eflags), (Stop::End, eflags | 0x202));
        }
    });
}

#[test]
fn into_without_overflow_goes_on() {
    with_oracle(|oracle| assert_eq!(oracle.run(&[0xCE], CODE, &State::with(&[])).stop, Stop::End));
}

#[test]
fn writes_to_read_only_pages_fault_as_protection_violations() {
    with_oracle(|oracle| {
        oracle.bytes_mut(DATA, 4).copy_from_slice(&[1, 2, 3, 4]);
        oracle.protect(DATA, PAGE, Access::Read);
        let before = State::with(&[(EBX, DATA)]);
        let store = oracle.run(&[0x89, 0x03], CODE, &before);
        let fault = store.fault().unwrap();
        assert_eq!((fault.vector, fault.error, fault.cr2), (Fault::PF, 7, DATA));
        let load = oracle.run(&[0x8B, 0x03], CODE, &before);
        assert_eq!((load.stop, load.state.regs[EAX]), (Stop::End, 0x0403_0201));
        oracle.protect(DATA, PAGE, Access::None);
        assert_eq!(oracle.run(&[0x8B, 0x03], CODE, &before).fault().unwrap().cr2, DATA);
        oracle.protect(DATA, PAGE, Access::ReadWrite);
        assert_eq!(oracle.run(&[0x89, 0x03], CODE, &State::with(&[(EBX, DATA), (EAX, 9)])).stop, Stop::End);
        assert_eq!(oracle.bytes(DATA, 4), [9, 0, 0, 0]);
    });
}

#[test]
fn endless_loops_time_out_where_they_are() {
    with_oracle(|oracle| {
        oracle.set_timeout(Duration::from_millis(5));
        // inc ecx; jmp back.
        let after = oracle.run(&[0x41, 0xEB, 0xFD], CODE, &State::with(&[(EDX, 77)]));
        assert_eq!(after.stop, Stop::Timeout);
        assert!((CODE..CODE + 3).contains(&after.state.eip));
        assert_eq!(after.state.regs[EDX], 77);
        assert_ne!(after.state.regs[ECX], 0);
    });
}

#[test]
fn many_short_runs_are_no_hang() {
    with_oracle(|oracle| {
        oracle.set_timeout(Duration::from_millis(5));
        for count in 0..100_000 {
            let after = oracle.run(&[0x41], CODE, &State::with(&[(ECX, count)]));
            assert_eq!((after.stop, after.state.regs[ECX]), (Stop::End, count + 1));
        }
    });
}

#[test]
fn runs_longer_than_a_tick_but_shorter_than_the_limit_go_on_after_the_tick() {
    with_oracle(|oracle| {
        oracle.set_timeout(Duration::from_millis(40));
        // Loops of a few milliseconds each, so that some see a tick, none two.
        for _ in 0..40 {
            let after = oracle.run(&[0x49, 0x75, 0xFD], CODE, &State::with(&[(ECX, 10_000_000)]));
            assert_eq!((after.stop, after.state.regs[ECX]), (Stop::End, 0));
        }
    });
}

#[test]
fn code_at_the_end_of_the_window_runs_off_it() {
    with_oracle(|oracle| {
        let end = CODE + WINDOW;
        let after = oracle.run(&[0x40, 0x40], end - 2, &State::with(&[]));
        let fault = after.fault().unwrap();
        assert_eq!((fault.vector, fault.error, fault.cr2), (Fault::PF, 0x14, end));
        assert_eq!((after.state.eip, after.state.regs[EAX]), (end, 2));
        // Cut in its immediate: the address is the first byte missing, EIP the instruction.
        let after = oracle.run(&[0x40, 0xB8, 0x01], end - 3, &State::with(&[]));
        let fault = after.fault().unwrap();
        assert_eq!((fault.vector, fault.error, fault.cr2), (Fault::PF, 0x14, end));
        assert_eq!((after.state.eip, after.state.regs[EAX]), (end - 2, 1));
        // Just enough room for the exit.
        assert_eq!(oracle.run(&[0x40], end - 8, &State::with(&[])).stop, Stop::End);
    });
}

#[test]
fn unmasked_floating_point_exceptions_are_reported_and_leave_the_host_unharmed() {
    with_oracle(|oracle| {
        let mut before = State::with(&[]);
        before.fx[..2].copy_from_slice(&0x037Bu16.to_le_bytes());
        // fld1; fldz; fdivp; fwait
        let after = oracle.run(&[0xD9, 0xE8, 0xD9, 0xEE, 0xDE, 0xF9, 0x9B], CODE, &before);
        let fault = after.fault().unwrap();
        assert_eq!((fault.vector, fault.signal, after.state.eip), (Fault::MF, libc::SIGFPE, CODE + 6));
        assert_eq!(after.state.fx[2] & 0x84, 0x84);
        // The exception pending at the end of the code.
        let after = oracle.run(&[0xD9, 0xE8, 0xD9, 0xEE, 0xDE, 0xF9], CODE, &before);
        assert_eq!((after.stop, after.state.fx[2] & 0x84), (Stop::End, 0x84));
        // And at its beginning: fnop waits for it.
        let again = oracle.run(&[0xD9, 0xD0], CODE, &after.state);
        assert_eq!((again.fault().unwrap().vector, again.state.eip), (Fault::MF, CODE));
        let mut before = State::with(&[(EBX, DATA)]);
        before.fx[24..28].copy_from_slice(&0x1D80u32.to_le_bytes());
        // divps xmm0, [ebx] with zeros in both: invalid is masked; sqrtps of them is exact; then 1/0.
        oracle.bytes_mut(DATA, 16).fill(0);
        before.fx[160..164].copy_from_slice(&1f32.to_le_bytes());
        let after = oracle.run(&[0x0F, 0x5E, 0x03], CODE, &before);
        assert_eq!(
            (after.fault().unwrap().vector, after.state.fx[160..164].to_vec()),
            (Fault::XM, 1f32.to_le_bytes().to_vec())
        );
        assert_eq!(1.0f32 / std::hint::black_box(0.0f32), f32::INFINITY);
    });
}

#[test]
fn rep_movsb_shows_how_far_it_came() {
    with_oracle(|oracle| {
        let source: Vec<u8> = (1..=16).collect();
        oracle.bytes_mut(DATA, 16).copy_from_slice(&source);
        let before = State::with(&[(ESI, DATA), (EDI, DATA_END - 10), (ECX, 16)]);
        let after = oracle.run(&[0xF3, 0xA4], CODE, &before);
        let fault = after.fault().unwrap();
        assert_eq!((fault.vector, fault.error, fault.cr2), (Fault::PF, 6, DATA_END));
        assert_eq!(after.state.eip, CODE);
        let [ecx, esi, edi] = [ECX, ESI, EDI].map(|index| after.state.regs[index]);
        assert_eq!((ecx, esi, edi), (6, DATA + 10, DATA_END));
        assert_eq!(oracle.bytes(DATA_END - 10, 10), &source[..10]);
    });
}

#[test]
fn the_trap_flag_set_by_the_last_instruction_ends_the_run_with_it() {
    with_oracle(|oracle| {
        // push 0x302; popf
        let after = oracle.run(&[0x68, 0x02, 0x03, 0, 0, 0x9D], CODE, &State::with(&[]));
        assert_eq!((after.stop, after.state.eip, after.state.eflags), (Stop::End, CODE + 6, 0x302));
    });
}

#[test]
fn system_calls_are_reported_and_not_made() {
    with_oracle(|oracle| {
        // exit(3), were it made.
        let before = State::with(&[(EAX, 1), (EBX, 3), (EBP, STACK)]);
        let after = oracle.run(&[0xCD, 0x80], CODE, &before);
        assert_eq!(after.stop, Stop::Syscall);
        assert_eq!((after.state.eip, after.state.regs), (CODE + 2, before.regs));
        // SYSENTER and SYSCALL: one vendor's #UD, the other's system call.
        for code in [[0x0F, 0x34], [0x0F, 0x05]] {
            let after = oracle.run(&code, CODE, &before);
            let undefined = after.fault().is_some_and(|fault| fault.vector == Fault::UD);
            assert!(after.stop == Stop::Syscall || undefined, "{code:x?}: {:?}", after.stop);
        }
    });
}

#[test]
fn states_the_processor_cannot_load_are_said_to_be_so() {
    let refused = |change: fn(&mut State)| {
        let mut bad = State::with(&[]);
        change(&mut bad);
        let result = std::panic::catch_unwind(|| {
            with_oracle(|oracle| assert_eq!(oracle.run(&[0x90], CODE, &bad).stop, Stop::End))
        });
        let message = result.err().and_then(|panic| panic.downcast::<String>().ok());
        assert!(message.is_some_and(|message| message.contains("refuses")));
    };
    if let Err(reason) = Oracle::new() {
        return eprintln!("skipped: {reason}");
    }
    refused(|bad| bad.segs[DS] = 0x1003);
    refused(|bad| bad.segs[SS] = 0);
    refused(|bad| bad.segs[oracle::seg::CS] = 0x2B);
    refused(|bad| bad.fx[27] = 0x80);
    refused(|bad| (bad.segs[SS], bad.eflags) = (0, TF));
    with_oracle(|oracle| assert_eq!(oracle.run(&[0x90], CODE, &State::with(&[])).stop, Stop::End));
}

/// A page of the host's that may not be read until `open_the_page` was there.
static CLOSED_PAGE: AtomicUsize = AtomicUsize::new(0);
/// The handler that `open_the_page` replaced.
static BEFORE: AtomicUsize = AtomicUsize::new(0);

/// A fault handler as an emulator has one: it cares for its own memory and passes on the rest.
extern "C" fn open_the_page(signal: c_int, info: *mut libc::siginfo_t, frame: *mut c_void) {
    // SAFETY: the kernel's arguments; the page is mapped, and what was there before is a handler
    // with three parameters, as the test made sure.
    unsafe {
        let page = CLOSED_PAGE.load(Ordering::Relaxed);
        if (*info).si_addr().addr() == page {
            libc::mprotect(std::ptr::with_exposed_provenance_mut(page), 4096, libc::PROT_READ);
        } else {
            let before: *const () = std::ptr::with_exposed_provenance(BEFORE.load(Ordering::Relaxed));
            let before: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = std::mem::transmute(before);
            before(signal, info, frame);
        }
    }
}

#[test]
fn other_fault_handlers_get_their_faults_before_and_behind_the_oracles() {
    with_oracle(|oracle| {
        // SAFETY: a new page, and a handler that returns into the code which faulted.
        let page = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let page = libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_NONE, flags, -1, 0);
            assert_ne!(page, libc::MAP_FAILED);
            CLOSED_PAGE.store(page.expose_provenance(), Ordering::Relaxed);
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = (open_the_page as *const ()).expose_provenance();
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            let mut before: libc::sigaction = std::mem::zeroed();
            assert_eq!(libc::sigaction(libc::SIGSEGV, &raw const action, &raw mut before), 0);
            assert_ne!(before.sa_flags & libc::SA_SIGINFO, 0);
            BEFORE.store(before.sa_sigaction, Ordering::Relaxed);
            page.cast::<u8>()
        };
        for claimed in [false, true] {
            if claimed {
                oracle.claim_signals();
            }
            let guest = oracle.run(&[0x8B, 0x03], CODE, &State::with(&[(EBX, UNMAPPED)]));
            assert_eq!(guest.fault().unwrap().cr2, UNMAPPED);
            // SAFETY: the page is mapped, and the handler makes it readable.
            unsafe {
                assert_eq!(libc::mprotect(page.cast(), 4096, libc::PROT_NONE), 0);
                assert_eq!(page.read_volatile(), 0);
            }
        }
    });
}

#[test]
fn a_signal_that_interrupts_the_code_is_handled_and_the_code_goes_on() {
    static HANDLED: AtomicBool = AtomicBool::new(false);
    extern "C" fn on_usr1(_: c_int) {
        // A system call, which the kernel would not let the guest make.
        // SAFETY: getppid cannot fail.
        HANDLED.store(unsafe { libc::getppid() } > 0, Ordering::Relaxed);
    }
    with_oracle(|oracle| {
        // SAFETY: the handler makes a system call and stores a flag.
        let me = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = (on_usr1 as *const ()).expose_provenance();
            action.sa_flags = libc::SA_ONSTACK;
            assert_eq!(libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()), 0);
            libc::pthread_self()
        };
        oracle.set_timeout(Duration::from_secs(10));
        oracle.bytes_mut(DATA, 4).fill(0);
        let sender = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            // SAFETY: the thread waits for this one, so it exists.
            unsafe { libc::pthread_kill(me, libc::SIGUSR1) }
        });
        // dec ecx; jnz back: some tenths of a second.
        let after = oracle.run(&[0x49, 0x75, 0xFD], CODE, &State::with(&[(ECX, 400_000_000)]));
        assert_eq!((after.stop, after.state.regs[ECX]), (Stop::End, 0));
        assert_eq!(sender.join().unwrap(), 0);
        assert!(HANDLED.load(Ordering::Relaxed));
        assert_eq!(oracle.run(&[0x40], CODE, &State::with(&[])).stop, Stop::End);
    });
}
