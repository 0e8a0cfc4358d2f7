//! What machines are compared with: this processor, or what one has answered before.
//!
//! A [`Row`] has the answers to the cases of one row of the tables in their order, each as what the instruction changed, and
//! a digest of the cases: who plays it learns whether it was asked the same.

use crate::bench::{Event, Fx, Left};
use crate::oracle::{self, Access, Oracle, Outcome, Segment, State, Stop, WINDOW};
use crate::random::digest;
use serde::{Deserialize, Serialize};
use std::io;

/// The processor's side of a bench.
pub struct Silicon<'a> {
    /// Whether runs have to do with the FPU and vector registers.
    pub fpu: bool,
    side: Side<'a>,
}

enum Side<'a> {
    /// This processor.
    Here(&'a mut Oracle),
    /// None: memory by address, and the selectors that the processor had for the thread's segments.
    Elsewhere { memory: Vec<(u32, Vec<u8>)>, tls: [u16; 3] },
}

impl<'a> Silicon<'a> {
    /// This processor.
    pub fn here(oracle: &'a mut Oracle) -> Silicon<'a> {
        Silicon { fpu: false, side: Side::Here(oracle) }
    }

    /// One that can be asked nothing. These windows are mapped, and `tls` are its selectors.
    pub fn elsewhere(windows: &[u32], tls: [u16; 3]) -> Silicon<'static> {
        let memory = windows.iter().map(|start| (*start, vec![0; WINDOW as usize])).collect();
        Silicon { fpu: false, side: Side::Elsewhere { memory, tls } }
    }

    /// As [`Oracle::map`], and filled.
    pub fn map(&mut self, start: u32, len: u32, access: Access, fill: u8) {
        match &mut self.side {
            Side::Here(oracle) => oracle.map(start, len, access).expect("a window"),
            Side::Elsewhere { memory, .. } => memory.push((start, vec![0; len as usize])),
        }
        self.bytes_mut(start, len as usize).fill(fill);
    }

    /// As [`Oracle::protect`].
    pub fn protect(&mut self, start: u32, len: u32, access: Access) {
        if let Side::Here(oracle) = &mut self.side {
            oracle.protect(start, len, access);
        }
    }

    /// As [`Oracle::set_segment`].
    pub fn set_segment(&mut self, slot: usize, segment: &Segment) -> io::Result<u16> {
        match &mut self.side {
            Side::Here(oracle) => oracle.set_segment(slot, segment),
            Side::Elsewhere { tls, .. } => Ok(tls[slot]),
        }
    }

    /// As [`Oracle::bytes`].
    pub fn bytes(&self, start: u32, len: usize) -> &[u8] {
        match &self.side {
            Side::Here(oracle) => oracle.bytes(start, len),
            Side::Elsewhere { memory, .. } => {
                let within =
                    |(first, bytes): &&(u32, Vec<u8>)| start.wrapping_sub(*first) < bytes.len() as u32;
                let (first, bytes) = memory.iter().find(within).expect("it is mapped");
                &bytes[(start - first) as usize..][..len]
            }
        }
    }

    /// As [`Oracle::is_mapped`].
    pub fn is_mapped(&self, start: u32, len: usize) -> bool {
        match &self.side {
            Side::Here(oracle) => oracle.is_mapped(start, len),
            Side::Elsewhere { memory, .. } => {
                memory.iter().any(|(first, bytes)| start.wrapping_sub(*first) as usize + len <= bytes.len())
            }
        }
    }

    /// As [`Oracle::bytes_mut`].
    pub fn bytes_mut(&mut self, start: u32, len: usize) -> &mut [u8] {
        match &mut self.side {
            Side::Here(oracle) => oracle.bytes_mut(start, len),
            Side::Elsewhere { memory, .. } => {
                let within =
                    |(first, bytes): &&mut (u32, Vec<u8>)| start.wrapping_sub(*first) < bytes.len() as u32;
                let (first, bytes) = memory.iter_mut().find(within).expect("it is mapped");
                &mut bytes[(start - *first) as usize..][..len]
            }
        }
    }

    /// As [`Oracle::load`].
    pub fn load(&mut self, code: &[u8], at: u32) {
        if let Side::Here(oracle) = &mut self.side {
            oracle.load(code, at);
        }
    }

    /// As [`Oracle::run`]; where nothing can be asked, it hangs.
    pub fn run(&mut self, code: &[u8], at: u32, state: &State) -> Outcome {
        match &mut self.side {
            Side::Here(oracle) => {
                oracle.fpu = self.fpu;
                oracle.run(code, at, state)
            }
            Side::Elsewhere { .. } => Outcome { state: state.clone(), stop: Stop::Timeout },
        }
    }

    /// As [`Oracle::step`].
    pub fn step(&mut self, state: &State) -> Outcome {
        match &mut self.side {
            Side::Here(oracle) => {
                oracle.fpu = self.fpu;
                oracle.step(state)
            }
            Side::Elsewhere { .. } => Outcome { state: state.clone(), stop: Stop::Timeout },
        }
    }
}

/// Bytes that changed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run(pub u32, pub Vec<u8>);

/// Where `after` differs from `before`, which begin at `start`.
pub fn runs(start: u32, before: &[u8], after: &[u8]) -> Vec<Run> {
    let mut found: Vec<Run> = Vec::new();
    for at in (0..after.len()).filter(|at| before[*at] != after[*at]) {
        let address = start + at as u32;
        match found.last_mut() {
            Some(Run(first, bytes)) if *first + bytes.len() as u32 == address => bytes.push(after[at]),
            _ => found.push(Run(address, vec![after[at]])),
        }
    }
    found
}

/// What a case became.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answer {
    /// The case is that of the answer before, asked again.
    #[serde(rename = "a", default, skip_serializing_if = "std::ops::Not::not")]
    again: bool,
    #[serde(rename = "e")]
    event: Event,
    /// General registers that changed.
    #[serde(rename = "r", default, skip_serializing_if = "Vec::is_empty")]
    regs: Vec<(usize, u32)>,
    /// From the code's address.
    #[serde(rename = "i")]
    eip: u32,
    /// Flags that changed.
    #[serde(rename = "f", default, skip_serializing_if = "is_none")]
    eflags: u32,
    /// Selectors that changed.
    #[serde(rename = "s", default, skip_serializing_if = "Vec::is_empty")]
    segs: Vec<(usize, u16)>,
    #[serde(rename = "x", default, skip_serializing_if = "Vec::is_empty")]
    fx: Vec<Run>,
    /// Memory that changed.
    #[serde(rename = "m", default, skip_serializing_if = "Vec::is_empty")]
    pub memory: Vec<Run>,
}

fn is_none(flags: &u32) -> bool {
    *flags == 0
}

/// Elements that differ, with their numbers.
fn changed<T: Copy + PartialEq>(before: &[T], after: &[T]) -> Vec<(usize, T)> {
    let pairs = before.iter().zip(after).enumerate();
    pairs
        .filter(|(_, (before, after))| before != after)
        .map(|(number, (_, after))| (number, *after))
        .collect()
}

impl Answer {
    /// What was left of code at `at` that began with `state`.
    pub fn new(at: u32, state: &State, left: &Left, memory: Vec<Run>) -> Answer {
        Answer {
            again: false,
            event: left.event,
            regs: changed(&state.regs, &left.regs),
            eip: left.eip.wrapping_sub(at),
            eflags: state.eflags ^ left.eflags,
            segs: changed(&state.segs, &left.segs),
            fx: runs(0, &Fx::of(&state.fx).0, &left.fx.0),
            memory,
        }
    }

    /// What that is, from the same beginning.
    pub fn left(&self, at: u32, state: &State) -> Left {
        let mut left = Left {
            regs: state.regs,
            eip: at.wrapping_add(self.eip),
            eflags: state.eflags ^ self.eflags,
            segs: state.segs,
            fx: Fx::of(&state.fx),
            event: self.event,
        };
        for (number, value) in &self.regs {
            left.regs[*number] = *value;
        }
        for (number, value) in &self.segs {
            left.segs[*number] = *value;
        }
        for Run(start, bytes) in &self.fx {
            left.fx.0[*start as usize..][..bytes.len()].copy_from_slice(bytes);
        }
        left
    }
}

/// The answers to the cases of a row.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Row {
    /// Of all cases.
    digest: u64,
    answers: Vec<Answer>,
}

impl Row {
    /// Makes the last answer a wrong one.
    pub fn falsify(&mut self) {
        if let Some(answer) = self.answers.last_mut() {
            answer.eflags ^= oracle::flag::CF;
        }
    }
}

/// A row that is being recorded or played.
#[derive(Default)]
pub struct Tape {
    row: Row,
    /// How many of the answers were given, if it is played.
    given: Option<usize>,
    /// Of the cases so far, and of the last one.
    digest: u64,
    last: u64,
}

impl Tape {
    /// One to record on.
    pub fn blank() -> Tape {
        Tape::default()
    }

    /// One to play.
    pub fn of(row: Row) -> Tape {
        Tape { row, given: Some(0), ..Tape::default() }
    }

    /// Whether it is played.
    pub fn is_played(&self) -> bool {
        self.given.is_some()
    }

    /// Counts a case in; says whether it is the last one again.
    fn count(&mut self, case: u64) -> bool {
        let again = self.last == case;
        if !again {
            self.digest = digest(self.digest, &case.to_le_bytes());
            self.last = case;
        }
        again
    }

    /// Notes the answer to a case.
    pub fn note(&mut self, case: u64, answer: Answer) {
        let again = self.count(case);
        self.row.answers.push(Answer { again, ..answer });
        self.row.digest = self.digest;
    }

    /// The answer to a case, of a tape that is played; `None` behind its end.
    pub fn answer(&mut self, case: u64) -> Option<Answer> {
        let again = self.count(case);
        let given = self.given.as_mut()?;
        // A comparison that fails tries again; who recorded it may not have had to.
        if again && !self.row.answers.get(*given).is_some_and(|answer| answer.again) {
            return self.row.answers.get(given.checked_sub(1)?).cloned();
        }
        // And the other way round.
        while !again && self.row.answers.get(*given).is_some_and(|answer| answer.again) {
            *given += 1;
        }
        let answer = self.row.answers.get(*given)?.clone();
        *given += 1;
        Some(answer)
    }

    /// What was recorded.
    pub fn row(self) -> Row {
        self.row
    }

    /// Whether the cases were those of the recording.
    pub fn is_the_same(&self) -> bool {
        self.digest == self.row.digest
    }
}

/// A digest of a case.
pub fn case(code: &[u8], at: u32, state: &State, fpu: bool) -> u64 {
    let State { fx, regs, eflags, segs, .. } = state;
    let mut sum = digest(0, code);
    for word in regs.iter().chain([&at, eflags]) {
        sum = digest(sum, &word.to_le_bytes());
    }
    sum = digest(sum, &segs.map(u16::to_le_bytes).concat());
    if fpu { digest(sum, &Fx::of(fx).0) } else { sum }
}
