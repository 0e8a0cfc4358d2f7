//! The maps and totals agree with the tables.

use super::coverage::{by_feature, coverage};
use super::opcode_map::{CellState, grids};
use crate::isa::FORMS;

#[test]
fn legacy_forms_that_are_declared_are_found() {
    let base = ["INTEL8086", "INTEL186", "INTEL386", "INTEL486", "SSE2", "CMOV", "FPU"];
    let undeclared: Vec<&str> = coverage()
        .iter()
        .filter(|coverage| base.contains(&coverage.reference.features) && !coverage.is_declared())
        .map(|coverage| coverage.reference.text)
        .collect();
    assert!(undeclared.is_empty(), "{undeclared:?}");
}

#[test]
fn each_row_is_in_a_grid() {
    let grids = grids();
    let cells = || grids.iter().flat_map(|grid| &grid.lines).flat_map(|(_, cells)| cells);
    for form in &FORMS {
        let is_here = cells()
            .flat_map(|cell| &cell.entries)
            .any(|entry| entry.form.is_some_and(|row| std::ptr::eq(row, form)));
        assert!(is_here, "{} {}", form.mnemonic, form.op);
    }
    assert!(cells().any(|cell| cell.state() == CellState::Verified));
}

#[test]
fn totals_add_up() {
    let totals = by_feature();
    assert_eq!(totals.values().map(|total| total.forms).sum::<u64>(), coverage().len() as u64);
    for (feature, total) in totals {
        assert!(total.verified <= total.implemented && total.implemented <= total.declared, "{feature}");
        assert!(total.declared <= total.forms, "{feature}");
    }
}
