//! `opcodes/hot.txt`: which specialised handlers and pairs to make besides the generic ones.
//!
//! A line is an instance, `FAMILY [cc=N] SPEC… [live]`, or two joined by ` + `. SPEC: `r` any register, `rN` the one at
//! byte offset N, `i` immediate, `m` any memory, `mm` and `xmm` any register of those, `sib`, `sN` the same with scale N, `abs`,
//! `xmmN` that one, `b` any base register, `bN` that at byte offset N, `xN` base, index and scale as N says, `-` nothing
//! to choose.

use super::families::{Families, Instance, Spec};
use crate::build::report::{Place, Report, Source};
use std::rc::Rc;

/// The parsed list.
#[derive(Debug, Default)]
pub struct Hot {
    pub singles: Vec<Instance>,
    pub pairs: Vec<(Instance, Instance)>,
}

/// Every eighth line of the list, for builds that are not measured.
pub fn sample(text: &str) -> String {
    let line =
        |(at, line): (usize, &str)| (at % 8 == 0 || line.starts_with('#')).then(|| format!("{line}\n"));
    text.lines().enumerate().filter_map(line).collect()
}

/// Reads the list. A line whose family is gone is left out: the list is trained on tables that may have changed.
pub fn read(source: Rc<Source>, families: &Families, report: &mut Report) -> Hot {
    let mut hot = Hot::default();
    let mut start = 0;
    for line in source.text.split_inclusive('\n') {
        let span = start..start + line.trim_end().len();
        start += line.len();
        let text = line.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let place = Place { source: source.clone(), span };
        let parsed: Result<Vec<Option<Instance>>, String> =
            text.split(" + ").map(|part| instance(part, families)).collect();
        match parsed.as_deref() {
            Ok([Some(single)]) => hot.singles.push(*single),
            Ok([Some(first), Some(second)]) => hot.pairs.push((*first, *second)),
            Ok([_] | [_, _]) => {}
            Ok(_) => report.error(&place, "one handler, or two joined by ` + `"),
            Err(message) => report.error(&place, message.clone()),
        }
    }
    hot
}

fn instance(text: &str, families: &Families) -> Result<Option<Instance>, String> {
    let mut words = text.split_whitespace();
    let name = words.next().ok_or("a handler's family is missing")?;
    let Some(at) = families.list.iter().position(|family| family.name == name) else { return Ok(None) };
    let mut result =
        Instance { family: at as u16 + 1, specs: [Spec::None; 4], live: false, locked: false, condition: 0 };
    let mut operand = 0;
    for word in words {
        if word == "live" {
            result.live = true;
        } else if let Some(code) = word.strip_prefix("cc=") {
            result.condition = code.parse().map_err(|_| format!("`{word}` is no condition"))?;
        } else {
            let slot = result.specs.get_mut(operand).ok_or("more than four operands")?;
            *slot = spec(word).ok_or_else(|| format!("`{word}` is no operand of a handler"))?;
            operand += 1;
        }
    }
    let family = &families.list[at];
    if operand != family.shapes.len() || (result.live && !family.writes_flags) {
        return Ok(None);
    }
    Ok(Some(result))
}

fn spec(word: &str) -> Option<Spec> {
    Some(match word {
        "-" => Spec::None,
        "r" => Spec::Register,
        "i" => Spec::Immediate,
        "m" => Spec::Memory,
        "sib" => Spec::Sib,
        "abs" => Spec::Absolute,
        "b" => Spec::Base,
        "mm" => Spec::Mm,
        "xmm" => Spec::Xmm,
        _ => {
            let number = |text: &str| text.parse().ok().filter(|offset| *offset < 32);
            if let Some(scale) = word.strip_prefix('s') {
                return scale.parse().ok().filter(|scale| *scale < 4).map(Spec::Scaled);
            }
            if let Some(register) = word.strip_prefix("xmm") {
                return register.parse().ok().filter(|number| *number < 8).map(Spec::FixedXmm);
            }
            if let Some(which) = word.strip_prefix('x') {
                return which.parse().ok().map(Spec::Indexed);
            }
            if let Some(rest) = word.strip_prefix('r') {
                Spec::Fixed(number(rest)?)
            } else {
                Spec::FixedBase(number(word.strip_prefix('b')?)?)
            }
        }
    })
}
