//! The silicon oracle loads a whole state, runs code with it and gives the state at its end.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

mod oracle;

use oracle::flag::{AC, AF, ARITHMETIC, CF, DF, ID, NT, OF, PF, SF, TF, ZF};
use oracle::reg::{EAX, EBX, ECX, EDI, EDX, ESP};
use oracle::seg::{DS, ES, FS, GS, SS};
use oracle::{Access, CODE, DATA, EXIT, Fault, PAGE, STACK, Segment, State, Stop, WINDOW, with_oracle};

const DATA_END: u32 = DATA + WINDOW;

#[test]
fn add_adc_sub_sbb_give_the_sum_and_the_flags_of_the_definition() {
    let edges = [0, 1, 2, 0xF, 0x10, 0x7F, 0x80, 0xFF, 0x7FFF_FFFF, 0x8000_0000, 0x8000_0001, 0xFFFF_FFFF];
    with_oracle(|oracle| {
        for (code, subtracts, uses_carry) in [
            ([0x01, 0xC8], false, false),
            ([0x11, 0xC8], false, true),
            ([0x29, 0xC8], true, false),
            ([0x19, 0xC8], true, true),
        ] {
            for (a, b, carry) in
                edges.iter().flat_map(|&a| edges.iter().flat_map(move |&b| [(a, b, 0), (a, b, 1)]))
            {
                let before = State { eflags: carry, ..State::with(&[(EAX, a), (ECX, b)]) };
                let after = oracle.run(&code, CODE, &before);
                let carry = if uses_carry { i64::from(carry) } else { 0 };
                let sign = if subtracts { -1 } else { 1 };
                let wide = i64::from(a) + sign * (i64::from(b) + carry);
                let signed = i64::from(a as i32) + sign * (i64::from(b as i32) + carry);
                let result = wide as u32;
                let nibble = i64::from(a & 15) + sign * (i64::from(b & 15) + carry);
                let expected = [
                    (CF, wide != i64::from(result)),
                    (PF, (result as u8).count_ones().is_multiple_of(2)),
                    (AF, !(0..16).contains(&nibble)),
                    (ZF, result == 0),
                    (SF, (result as i32) < 0),
                    (OF, signed != i64::from(result as i32)),
                ];
                let flags: u32 = expected.iter().filter(|flag| flag.1).map(|flag| flag.0).sum();
                assert_eq!(after.stop, Stop::End);
                assert_eq!(after.state.eip, CODE + 2);
                assert_eq!(after.state.regs, State::with(&[(EAX, result), (ECX, b)]).regs);
                assert_eq!(after.state.eflags & ARITHMETIC, flags, "{code:x?} {a:#x} {b:#x} {carry}");
            }
        }
    });
}

#[test]
fn every_register_goes_in_and_comes_out() {
    with_oracle(|oracle| {
        let mut before = State::with(&[]);
        before.regs = std::array::from_fn(|index| 0xF00D_0000 + index as u32);
        for eflags in [0, ARITHMETIC | DF, CF | AC, ARITHMETIC | NT | AC | ID | DF, OF | ID] {
            before.eflags = eflags;
            let after = oracle.run(&[0x90], CODE + 100, &before);
            assert_eq!(after.stop, Stop::End);
            assert_eq!(after.state.eip, CODE + 101);
            assert_eq!(after.state.regs, before.regs);
            assert_eq!(after.state.eflags, eflags | 0x202);
            assert_eq!(after.state.segs, before.segs);
            assert_eq!(
                after.state.fx[..416],
                {
                    let mut fx = before.fx;
                    fx[28..32].copy_from_slice(&after.state.fx[28..32]);
                    fx
                }[..416]
            );
        }
    });
}

#[test]
fn pages_can_be_mapped_up_to_the_end_of_the_address_space() {
    with_oracle(|oracle| {
        oracle.map(0xFFFF_F000, PAGE, Access::ReadWrite).unwrap();
        assert!(oracle.map(0xFFFF_F000, PAGE, Access::ReadWrite).is_err());
        oracle.bytes_mut(0xFFFF_FFFC, 4).copy_from_slice(&0x1234_5678u32.to_le_bytes());
        let after = oracle.run(&[0x5F], CODE, &State::with(&[(ESP, 0xFFFF_FFFC)]));
        assert_eq!((after.stop, after.state.regs[EDI], after.state.regs[ESP]), (Stop::End, 0x1234_5678, 0));
    });
}

#[test]
fn the_stack_is_the_guests() {
    with_oracle(|oracle| {
        let top = STACK + WINDOW;
        let after = oracle.run(&[0x50, 0x51, 0x5A], CODE, &State::with(&[(EAX, 1), (ECX, 2), (ESP, top)]));
        assert_eq!((after.stop, after.state.regs[EDX], after.state.regs[ESP]), (Stop::End, 2, top - 4));
        assert_eq!(oracle.bytes(top - 4, 4), [1, 0, 0, 0]);
        // ESP need not point anywhere.
        let after = oracle.run(&[0x40], CODE, &State::with(&[(ESP, 0)]));
        assert_eq!((after.stop, after.state.regs[ESP], after.state.regs[EAX]), (Stop::End, 0, 1));
    });
}

#[test]
fn returns_and_jumps_to_the_exit_address_end_a_run() {
    with_oracle(|oracle| {
        oracle.bytes_mut(STACK, 4).copy_from_slice(&EXIT.to_le_bytes());
        let after = oracle.run(&[0xC3], CODE, &State::with(&[(ESP, STACK)]));
        assert_eq!((after.stop, after.state.eip, after.state.regs[ESP]), (Stop::Jump, EXIT, STACK + 4));
        let after = oracle.run(&[0xFF, 0xE0, 0x0F, 0x0B], CODE, &State::with(&[(EAX, EXIT)]));
        assert_eq!((after.stop, after.state.eip), (Stop::Jump, EXIT));
    });
}

#[test]
fn code_may_change_itself_and_is_loaded_afresh() {
    with_oracle(|oracle| {
        // mov byte [CODE + 7], 0x42 (inc edx); then inc ecx, to be overwritten.
        let mut code = vec![0xC6, 0x05];
        code.extend((CODE + 7).to_le_bytes());
        code.extend([0x42, 0x41]);
        for _ in 0..3 {
            let after = oracle.run(&code, CODE, &State::with(&[]));
            assert_eq!((after.stop, after.state.regs[ECX], after.state.regs[EDX]), (Stop::End, 0, 1));
        }
    });
}

#[test]
fn segments_have_their_bases_and_limits() {
    with_oracle(|oracle| {
        oracle.bytes_mut(DATA + 0x100, 4).copy_from_slice(&0xCAFE_F00Du32.to_le_bytes());
        let data = match oracle.set_segment(0, &Segment::flat(DATA)) {
            Ok(selector) => selector,
            Err(reason) => return eprintln!("skipped: {reason}"),
        };
        let small = Segment { limit: 0x102, limit_in_pages: false, writable: false, ..Segment::flat(DATA) };
        let small = oracle.set_segment(1, &small).unwrap();
        assert_ne!(data, small);
        for (index, prefix) in [(FS, 0x64), (GS, 0x65), (ES, 0x26), (DS, 0x3E), (SS, 0x36)] {
            let mut before = State::with(&[(EBX, 0x100)]);
            before.segs[index] = data;
            let after = oracle.run(&[prefix, 0x8B, 0x03], CODE, &before);
            assert_eq!((after.stop, after.state.regs[EAX]), (Stop::End, 0xCAFE_F00D), "segment {index}");
            assert_eq!(after.state.segs, before.segs);
            // mov eax, prefix:[DATA_END - DATA - 1]
            before.regs[EBX] = WINDOW - 1;
            let fault = oracle.run(&[prefix, 0x8B, 0x03], CODE, &before).fault().unwrap();
            assert_eq!((fault.vector, fault.cr2), (Fault::PF, DATA_END));
            if index == SS {
                continue;
            }
            before.segs[index] = small;
            before.regs[EBX] = 0x100;
            let fault = oracle.run(&[prefix, 0x8B, 0x03], CODE, &before).fault().unwrap();
            assert_eq!((fault.vector, fault.error), (Fault::GP, 0), "limit of segment {index}");
            assert_eq!(oracle.run(&[prefix, 0x8A, 0x03], CODE, &before).stop, Stop::End);
            let fault = oracle.run(&[prefix, 0x88, 0x03], CODE, &before).fault().unwrap();
            assert_eq!((fault.vector, fault.error), (Fault::GP, 0), "write to read-only segment {index}");
        }
        // Offsets up to the limit are those that an expand-down segment has not.
        let down = Segment { limit: 0xFF, limit_in_pages: false, expand_down: true, ..Segment::flat(DATA) };
        assert_eq!(oracle.set_segment(1, &down).unwrap(), small);
        let mut before = State::with(&[(EBX, 0x100)]);
        before.segs[GS] = small;
        assert_eq!(oracle.run(&[0x65, 0x8B, 0x03], CODE, &before).state.regs[EAX], 0xCAFE_F00D);
        before.regs[EBX] = 0xFC;
        assert_eq!(oracle.run(&[0x65, 0x8B, 0x03], CODE, &before).fault().unwrap().vector, Fault::GP);
        // Redefined, it is the new one at once.
        assert_eq!(oracle.set_segment(0, &Segment::flat(DATA + 0x100)).unwrap(), data);
        let mut before = State::with(&[]);
        before.segs[GS] = data;
        assert_eq!(oracle.run(&[0x65, 0x8B, 0x03], CODE, &before).state.regs[EAX], 0xCAFE_F00D);
    });
}

#[test]
fn code_that_loads_fs_and_gs_does_not_disturb_the_host() {
    thread_local!(static NUMBER: std::cell::Cell<u32> = const { std::cell::Cell::new(7) });
    with_oracle(|oracle| {
        for ending in [0x90, 0xF4] {
            for selector in [0, 0x2B] {
                // mov fs, ax; mov gs, ax
                let code = [0x8E, 0xE0, 0x8E, 0xE8, ending];
                let after = oracle.run(&code, CODE, &State::with(&[(EAX, selector)]));
                assert_eq!(after.fault().is_some(), ending == 0xF4);
                assert_eq!([after.state.segs[FS], after.state.segs[GS]], [selector as u16; 2]);
                NUMBER.set(NUMBER.get() + 1);
            }
        }
        assert_eq!(NUMBER.get(), 11);
    });
}

#[test]
fn fpu_and_vector_registers_go_in_and_come_out() {
    with_oracle(|oracle| {
        let mut before = State::with(&[]);
        for index in 0..8 {
            // Ten bytes a register, the explicit integer bit set: any normal number.
            let at = 32 + 16 * index;
            before.fx[at..at + 8].copy_from_slice(&(1u64 << 63 | 0x1234_5678 << index).to_le_bytes());
            before.fx[at + 8..at + 10].copy_from_slice(&(0x3FFF + index as u16).to_le_bytes());
            before.fx[160 + 16 * index..176 + 16 * index].fill(0x11 * index as u8);
        }
        before.fx[2..4].copy_from_slice(&(3u16 << 11).to_le_bytes());
        before.fx[4] = 0b1010_0101;
        before.fx[24..28].copy_from_slice(&0x7FA0u32.to_le_bytes());
        let check = |after: &oracle::Outcome| {
            assert_eq!(after.state.fx[..5], before.fx[..5]);
            assert_eq!(after.state.fx[24..28], before.fx[24..28]);
            assert_eq!(after.state.fx[32..288], before.fx[32..288]);
        };
        check(&oracle.run(&[0x90], CODE, &before));
        let faulted = oracle.run(&[0x0F, 0x0B], CODE, &before);
        assert_eq!(faulted.fault().unwrap().vector, Fault::UD);
        check(&faulted);
        // A state without any FPU register is not contaminated by the runs before.
        assert_eq!(oracle.run(&[0x90], CODE, &State::with(&[])).state.fx[32..288], [0; 256]);
        // pxor xmm1, xmm1 changes just that.
        let after = oracle.run(&[0x66, 0x0F, 0xEF, 0xC9], CODE, &before);
        assert_eq!(after.state.fx[176..192], [0; 16]);
        assert_eq!(after.state.fx[192..288], before.fx[192..288]);
    });
}

#[test]
fn x87_results_survive_a_fault_behind_them() {
    with_oracle(|oracle| {
        // fld1; fld1; faddp; then the end, or ud2.
        for ending in [&[0x90, 0x90], &[0x0F, 0x0B]] {
            let after = oracle.run(
                &[&[0xD9, 0xE8, 0xD9, 0xE8, 0xDE, 0xC1], &ending[..]].concat(),
                CODE,
                &State::with(&[]),
            );
            assert_eq!(after.state.fx[32..40], (1u64 << 63).to_le_bytes());
            assert_eq!(after.state.fx[40..42], 0x4000u16.to_le_bytes());
            assert_eq!(after.state.fx[4], 0x80);
        }
    });
}

#[test]
fn without_the_fpu_runs_keep_the_image_of_the_state() {
    with_oracle(|oracle| {
        oracle.fpu = false;
        let mut before = State::with(&[]);
        before.fx[160..176].fill(0xAB);
        let after = oracle.run(&[0x40], CODE, &before);
        assert!(after.state.fx == before.fx);
        assert_eq!((after.stop, after.state.regs[EAX]), (Stop::End, 1));
    });
}

#[test]
fn string_instructions_go_down_with_the_direction_flag() {
    with_oracle(|oracle| {
        oracle.bytes_mut(DATA, 8).fill(0);
        let before = State { eflags: DF, ..State::with(&[(EDI, DATA + 4), (EAX, 0xEE)]) };
        let after = oracle.run(&[0xAA], CODE, &before);
        assert_eq!((after.stop, after.state.regs[EDI]), (Stop::End, DATA + 3));
        assert_eq!(oracle.bytes(DATA, 8), [0, 0, 0, 0, 0xEE, 0, 0, 0]);
    });
}

#[test]
fn steps_follow_the_code_to_the_state_a_run_gives() {
    with_oracle(|oracle| {
        // mov ecx, 3; loop: add eax, ecx; dec ecx; jnz loop; push eax; pop ebx
        let code = [0xB9, 3, 0, 0, 0, 0x01, 0xC8, 0x49, 0x75, 0xFB, 0x50, 0x5B];
        let run = oracle.run(&code, CODE, &State::with(&[]));
        let mut now = State { eip: CODE, ..State::with(&[]) };
        let mut visited = Vec::new();
        while now.eip != CODE + code.len() as u32 {
            let outcome = oracle.step(&now);
            assert_eq!(outcome.stop, Stop::Step);
            visited.push(now.eip - CODE);
            now = outcome.state;
        }
        assert_eq!(visited, [0, 5, 7, 8, 5, 7, 8, 5, 7, 8, 10, 11]);
        assert_eq!(now, run.state);
        assert_eq!((run.state.regs[EAX], run.state.regs[EBX]), (6, 6));
        // One more leaves.
        let outcome = oracle.step(&now);
        assert_eq!((outcome.stop, outcome.state.eip), (Stop::End, now.eip));
        // The rest of a run from anywhere in the code.
        let resumed = oracle.resume(&State { eip: CODE + 10, ..State::with(&[(EAX, 5)]) });
        assert_eq!((resumed.stop, resumed.state.eip, resumed.state.regs[EBX]), (Stop::End, now.eip, 5));
        // A fault is a fault.
        oracle.load(&[0x0F, 0x0B], CODE);
        let outcome = oracle.step(&State::with(&[]));
        assert_eq!((outcome.fault().unwrap().vector, outcome.state.eflags & TF), (Fault::UD, 0));
    });
}

#[test]
fn oracles_of_several_threads_take_turns() {
    let threads: Vec<_> = (0..4u32)
        .map(|thread| {
            std::thread::spawn(move || {
                for round in 0..10 {
                    with_oracle(|oracle| {
                        let after = oracle.run(
                            &[0x01, 0xC8, 0x0F, 0x0B],
                            CODE,
                            &State::with(&[(EAX, thread), (ECX, round)]),
                        );
                        assert_eq!(after.state.regs[EAX], thread + round);
                        assert_eq!(after.fault().unwrap().vector, Fault::UD);
                    });
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}
