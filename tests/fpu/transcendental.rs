//! The transcendental instructions: last bits are each vendor's own, everything else is not.

use table86::fpu::Fpu;
use table86::fpu::soft::{F80, flag};

use crate::harness::{Frame, Instruction, instructions};
#[cfg(target_arch = "x86_64")]
use crate::{
    harness::LastInstruction,
    silicon::{cases, describe},
};

/// An instruction, and where its arguments are: below 2^`most`, over a range of 2^`span`.
struct Range {
    most: i32,
    span: u64,
    instructions: &'static [Instruction],
}

const RANGES: &[Range] = &[
    Range {
        most: 64,
        span: 140,
        instructions: instructions! {
            "fsin", Integer, |f, _| f.fsin();
            "fcos", Integer, |f, _| f.fcos();
            "fsincos", Integer, |f, _| f.fsincos();
            "fptan", Integer, |f, _| f.fptan();
        },
    },
    Range { most: 0, span: 70, instructions: instructions! { "f2xm1", Integer, |f, _| f.f2xm1(); } },
    Range {
        most: 40,
        span: 80,
        instructions: instructions! {
            "fpatan", Integer, |f, _| f.fpatan();
            "fyl2x", Integer, |f, _| f.fyl2x();
        },
    },
    Range { most: -2, span: 70, instructions: instructions! { "fyl2xp1", Integer, |f, _| f.fyl2xp1(); } },
];

/// Units in the last place between two values, or `None` if they are not both finite and of one sign.
fn distance(a: F80, b: F80) -> Option<u128> {
    let place = |x: F80| ((x.exponent().max(1) as u128) << 63) + u128::from(x.sig);
    let finite = |x: F80| x.exponent() != 0x7fff && !x.is_unsupported();
    (a == b)
        .then_some(0)
        .or_else(|| (finite(a) && finite(b) && a.sign() == b.sign()).then(|| place(a).abs_diff(place(b))))
}

#[cfg(target_arch = "x86_64")]
/// The largest distance between registers of two states that are otherwise the same but for C1, or `None`.
fn last_places(silicon: &Fpu, model: &Fpu) -> Option<u128> {
    let others = |fpu: &Fpu| (fpu.control(), fpu.status() & !flag::C1, fpu.tags());
    if others(silicon) != others(model) {
        return None;
    }
    (0..8).try_fold(0, |most: u128, i| Some(most.max(distance(silicon.st(i), model.st(i))?)))
}

/// One line a case: the instruction's text, the control word, ST(0) and ST(1) before, ST(0) and ST(1) after.
const RECORDED: &str = include_str!("transcendental.txt");

/// The first cases of each instruction, all exceptions masked.
fn first_cases() -> Vec<(&'static Instruction, Frame)> {
    let mut cases = Vec::new();
    for range in RANGES {
        for instruction in range.instructions {
            let mut rng = instruction.generator();
            for _ in 0..32 {
                let mut fpu = rng.transcendental(range.most, range.span);
                fpu.set_control(fpu.control() | flag::EXCEPTIONS);
                cases.push((instruction, Frame::random(instruction, &fpu, &mut rng)));
            }
        }
    }
    cases
}

/// The part of a line that tells the case.
fn before_line(instruction: &Instruction, before: &Fpu) -> String {
    format!("{} {:04x} {:?} {:?}", instruction.text, before.control(), before.st(0), before.st(1))
}

fn after_line(after: &Fpu) -> String {
    format!("{:?} {:?}", after.st(0), after.st(1))
}

fn parse(text: &str) -> Option<F80> {
    let (se, sig) = text.split_once(':')?;
    Some(F80::new(u16::from_str_radix(se, 16).ok()?, u64::from_str_radix(sig, 16).ok()?))
}

#[test]
fn transcendentals_are_within_one_unit_of_the_recorded_values() {
    #[cfg(target_arch = "x86_64")]
    if crate::is_to_record() {
        return record();
    }
    let cases = first_cases();
    assert_eq!(cases.len(), RECORDED.lines().count());
    for ((instruction, before), line) in cases.iter().zip(RECORDED.lines()) {
        let (head, after) = line.split_once(" = ").expect("a line has two parts");
        assert_eq!(before_line(instruction, &before.fpu()), head);
        let model = instruction.run_on_model(before).fpu();
        for (i, recorded) in (0..2).zip(after.split(' ')) {
            let recorded = parse(recorded).expect("a value has a colon");
            let places = distance(model.st(i), recorded);
            assert!(places.is_some_and(|places| places <= 1), "{line}\nbut {}", after_line(&model));
        }
    }
}

/// Records `transcendental.txt` anew.
#[cfg(target_arch = "x86_64")]
fn record() {
    let mut text = String::new();
    for (instruction, before) in first_cases() {
        let after = instruction.run_on_silicon(&before, &before, LastInstruction::Replaced).fpu();
        text += &format!("{} = {}\n", before_line(instruction, &before.fpu()), after_line(&after));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fpu/transcendental.txt");
    std::fs::write(path, text).expect("a writable source tree");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn transcendentals_are_within_one_unit_of_silicon() {
    let mut report = String::new();
    let mut failed = false;
    for range in RANGES {
        for instruction in range.instructions {
            let mut rng = instruction.generator();
            let (mut identical, mut values, mut wrong) = (0u64, 0u64, 0u64);
            for _ in 0..cases() {
                let fpu = rng.transcendental(range.most, range.span);
                let before = Frame::random(instruction, &fpu, &mut rng);
                let model = instruction.run_on_model(&before);
                let silicon = instruction.run_on_silicon(&before, &model, LastInstruction::Replaced);
                let places = last_places(&silicon.fpu(), &model.fpu());
                let states = [&silicon, &model].map(|frame| frame.significant(LastInstruction::Replaced));
                identical += u64::from(states[0] == states[1]);
                values += u64::from(places == Some(0));
                if places.is_none_or(|places| places > 1) {
                    wrong += 1;
                    if wrong <= 3 {
                        report += &describe(instruction, &before, &silicon, &model);
                    }
                }
            }
            let share = |n: u64| n as f64 * 100.0 / cases() as f64;
            report += &format!(
                "{}: {:.2}% identical, {:.2}% but for C1, {wrong} beyond 1 ulp\n",
                instruction.text,
                share(identical),
                share(values)
            );
            failed |= wrong != 0;
        }
    }
    println!("{report}");
    assert!(!failed, "{report}");
}
