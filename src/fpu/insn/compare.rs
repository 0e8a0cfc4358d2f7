//! FCOM, FUCOM, FICOM, FTST, FCOMI, FUCOMI and FXAM.

use super::soft::compare::{self, Comparison};
use super::soft::{Env, F80, flag, quick};
use super::{Fpu, Operand, Register};
use crate::fpu::way::Way;
use std::hint::cold_path;

impl Fpu {
    /// Compares ST(0) with the source; an unmasked exception only prevents the pops.
    #[inline(always)]
    fn comparison(
        &mut self,
        source: Operand,
        pops: u8,
        op: impl FnOnce(F80, F80, &mut Env) -> Comparison,
    ) -> (Comparison, Env) {
        let mut env = self.env();
        let outcome = match source.read(self, &mut env) {
            Some(b) if !self.is_empty(0) => op(self.st(0), b, &mut env),
            _ => {
                env = self.env();
                env.stack_underflow();
                None
            }
        };
        if !env.stops() {
            self.pop(pops);
        }
        (outcome, env)
    }

    /// The short way of a comparison.
    #[inline(always)]
    fn comparison_quick(&mut self, source: Operand, pops: u8) -> Option<Comparison> {
        // Neither precision nor rounding matter, and nothing is raised.
        let a = self.register(self.top);
        let b = source.read_quick(self)?;
        let is_comparable =
            |register: Register| !register.word.is_empty() && quick::is_comparable(register.value());
        if !a.word.are_normal(b.word) {
            cold_path();
            if !is_comparable(a) || !is_comparable(b) {
                return None;
            }
        }
        self.pop(pops);
        Some(quick::compare(a.value(), b.value()))
    }

    #[inline(always)]
    fn compare_to_codes(&mut self, (outcome, env): (Comparison, Env)) {
        self.settle(&env);
        self.set_codes(flag::C0 | flag::C2 | flag::C3, compare::codes(outcome));
    }

    #[inline(always)]
    fn compare_to_flags(&mut self, (outcome, env): (Comparison, Env)) -> Comparison {
        self.settle_keeping_c1(&env);
        outcome
    }

    /// Compares ST(0) with the source into C3, C2 and C0, then pops `pops` times.
    /// SDM Vol. 2A, "FCOM/FCOMP/FCOMPP" and "FICOM/FICOMP".
    #[inline(always)]
    pub fn fcom<W: Way>(&mut self, source: Operand, pops: u8) -> Result<(), W::Else> {
        self.compare_codes::<W>(source, pops, compare::compare)
    }

    #[inline(always)]
    fn compare_codes<W: Way>(
        &mut self,
        source: Operand,
        pops: u8,
        op: impl FnOnce(F80, F80, &mut Env) -> Comparison,
    ) -> Result<(), W::Else> {
        if let Some(outcome) = self.comparison_quick(source, pops) {
            self.set_codes(flag::CODES, compare::codes(outcome));
            return Ok(());
        }
        W::general(|| {
            let outcome = self.comparison(source, pops, op);
            self.compare_to_codes(outcome);
            Ok(())
        })
    }

    /// Compares as [`Fpu::fcom`], with `#IA` for signaling NaNs only. SDM Vol. 2A, "FUCOM/FUCOMP/FUCOMPP".
    #[inline(always)]
    pub fn fucom<W: Way>(&mut self, source: Operand, pops: u8) -> Result<(), W::Else> {
        self.compare_codes::<W>(source, pops, compare::compare_quiet)
    }

    /// Compares ST(0) with +0 into C3, C2 and C0. SDM Vol. 2A, "FTST".
    #[inline(always)]
    pub fn ftst<W: Way>(&mut self) -> Result<(), W::Else> {
        self.fcom::<W>(Operand::F80(F80::ZERO), 0)
    }

    /// Compares ST(0) with ST(`i`) for EFLAGS, then pops `pops` times.
    /// SDM Vol. 2A, "FCOMI/FCOMIP/FUCOMI/FUCOMIP".
    ///
    /// `None`, unordered, sets ZF, PF and CF; else ZF means equal and CF less; OF, SF and AF are cleared.
    #[inline(always)]
    pub fn fcomi<W: Way>(&mut self, i: u8, pops: u8) -> Result<Comparison, W::Else> {
        self.compare_flags::<W>(i, pops, compare::compare)
    }

    #[inline(always)]
    fn compare_flags<W: Way>(
        &mut self,
        i: u8,
        pops: u8,
        op: impl FnOnce(F80, F80, &mut Env) -> Comparison,
    ) -> Result<Comparison, W::Else> {
        if let Some(outcome) = self.comparison_quick(Operand::St(i), pops) {
            return Ok(outcome);
        }
        W::general(|| {
            let outcome = self.comparison(Operand::St(i), pops, op);
            Ok(self.compare_to_flags(outcome))
        })
    }

    /// Compares as [`Fpu::fcomi`], with `#IA` for signaling NaNs only.
    #[inline(always)]
    pub fn fucomi<W: Way>(&mut self, i: u8, pops: u8) -> Result<Comparison, W::Else> {
        self.compare_flags::<W>(i, pops, compare::compare_quiet)
    }

    /// Examines ST(0) into C0–C3. SDM Vol. 2A, "FXAM".
    #[inline]
    pub const fn fxam(&mut self) {
        self.set_codes(flag::CODES, compare::examine(self.st(0), self.is_empty(0)));
    }
}
