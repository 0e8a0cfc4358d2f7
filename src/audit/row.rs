//! How far each row of the tables has come.

use crate::isa::proof::{Proof, proof};
use crate::isa::{Form, Status};

/// How far a row has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It decodes but does not run, for this reason.
    Missing(&'static str),
    /// It runs, but nobody has compared it.
    Unproven,
    /// It runs, and what is known of it is on record.
    Proven(&'static Proof),
}

impl State {
    /// Of a row.
    pub fn of(form: &Form) -> State {
        match form.status {
            Status::Todo(why) => State::Missing(why),
            Status::Implemented => proof(form).map_or(State::Unproven, State::Proven),
        }
    }

    /// Whether a processor was seen to do the same.
    pub fn is_verified(self) -> bool {
        matches!(self, State::Proven(Proof::Verified(_)))
    }

    /// Whether it decodes but does not run.
    pub fn is_missing(self) -> bool {
        matches!(self, State::Missing(_))
    }

    /// In a word: missing, not verified, not verifiable, verified.
    pub fn name(self) -> &'static str {
        self.gap().map_or("verified", |(name, _)| name)
    }

    /// What is to be said of a row that is not verified, and why.
    pub fn gap(self) -> Option<(&'static str, &'static str)> {
        match self {
            State::Missing(why) => Some(("missing", why)),
            State::Unproven => Some(("not verified", "nothing is on record in opcodes/PROOF.tsv")),
            State::Proven(Proof::Unverifiable(why)) => Some(("not verifiable", why)),
            State::Proven(Proof::Verified(_)) => None,
        }
    }
}
