//! Quick translations: of code that may run only once, straight from its bytes into ops. All flags are exact, and nothing is known of
//! what comes behind.

use super::{Pending, Translations};
use crate::engine::encode::encode;
use crate::engine::liveness::Facts;
use crate::engine::path::{Item, Job};

impl Translations {
    /// Makes the quick block at `eip`. Tells whether it did; else its code may change at any moment, and has to be verified.
    pub(super) fn add_quick(&mut self, job: &mut Job<'_>, eip: u32) -> bool {
        let (start, first) = (self.arena.used(), self.places.len());
        let mut links = std::mem::take(&mut self.scratch.links);
        loop {
            self.write_quick(job, eip, &mut links);
            job.decoded = job.pages.len();
            // See `add`.
            if !job.guard_pages() {
                break;
            }
            links.clear();
            self.arena.truncate(start);
            self.places.truncate(first);
            if job.verified {
                self.scratch.links = links;
                return false;
            }
        }
        for link in &links {
            self.emit_link(job, start, link);
        }
        links.clear();
        self.scratch.links = links;
        self.blocks.push(self.written(job, start, first, eip));
        true
    }

    /// Writes its ops and side table.
    fn write_quick(&mut self, job: &mut Job<'_>, eip: u32, links: &mut Vec<Pending>) {
        let (start, first) = (self.arena.used(), self.places.len());
        job.begin();
        self.push_warm(eip);
        let mut at = eip;
        let mut done = 0;
        while done < job.max {
            self.places.push(((self.arena.used() - start) as u16, at));
            let insn = match job.next(at) {
                Ok(insn) => insn,
                Err(stop) => {
                    self.emit_stop(stop);
                    return;
                }
            };
            let before = done;
            done += 1;
            self.push_limit(job, &insn);
            let shape = self.shapes.of(&insn);
            if shape.has_no_effect {
                at = insn.next_eip();
                continue;
            }
            if let Some(handler) = shape.quick
                && !insn.lock
                && !job.may_not_access(&insn)
            {
                let op = encode(job, &insn, shape, handler);
                self.arena.push_op(op);
                at = insn.next_eip();
                continue;
            }
            let known = |target: u32| self.places[first..].iter().any(|(_, eip)| *eip == target);
            let followed = job.follows(&insn, before) && !known(insn.imm);
            if followed {
                at = insn.imm;
                continue;
            }
            let mut item = Item { insn: Ok(insn), ..Item::new(at, Facts::without_liveness(&insn)) };
            if !self.emit_insn(job, &mut item, &insn, done as u32, links) {
                return;
            }
            at = insn.next_eip();
            if job.ends(&insn, false) {
                break;
            }
        }
        self.close(start, Some(at), done as u32, links);
    }
}
