//! Checks that each row's body exists and that its signature is the one that the row fixes.

use super::emit::families::{Families, Shape};
use super::report::Report;
use super::schema::{Flow, Form, Takes};
use std::collections::{BTreeMap, BTreeSet};

struct Signature {
    parameters: usize,
    fallible: bool,
    /// Its first type parameter is a `Way`.
    has_way: bool,
}

/// Whether the first type parameter is bound by `Way` alone.
fn has_way(generics: &syn::Generics) -> bool {
    let is_way = |bound: &syn::TypeParamBound| matches!(bound, syn::TypeParamBound::Trait(bound) if bound.path.is_ident("Way"));
    generics
        .type_params()
        .next()
        .is_some_and(|parameter| parameter.bounds.iter().all(is_way) && !parameter.bounds.is_empty())
}

/// Reports unknown bodies and wrong signatures.
pub fn check(forms: &[Form], families: &Families, sources: &BTreeMap<String, String>, report: &mut Report) {
    let mut signatures: BTreeMap<(String, String), Signature> = BTreeMap::new();
    for (room, text) in sources {
        let Ok(file) = syn::parse_file(text) else { continue };
        for item in file.items {
            let syn::Item::Fn(function) = item else { continue };
            let fallible = matches!(&function.sig.output, syn::ReturnType::Type(_, kind)
                if matches!(&**kind, syn::Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "Result")));
            let has_way = has_way(&function.sig.generics);
            let signature = Signature { parameters: function.sig.inputs.len(), fallible, has_way };
            signatures.insert((room.clone(), function.sig.ident.to_string()), signature);
        }
    }
    let mut seen = BTreeSet::new();
    for (index, form) in forms.iter().enumerate() {
        if !form.has_body() || !seen.insert((form.place.short(), form.body.clone())) {
            continue;
        }
        let file = format!("src/cpu/insn/{}.rs", form.room);
        let Some(signature) = signatures.get(&(form.room.clone(), form.body.clone())) else {
            report.error(&form.place, format!("there is no function `{}` in {file}", form.body));
            continue;
        };
        let family = &families.list[usize::from(families.of_form[index][0]) - 1];
        let operands: usize = family
            .shapes
            .iter()
            .map(|shape| match shape {
                Shape::Place { reads: false, .. } => 0,
                Shape::Far => 2,
                _ => 1,
            })
            .sum();
        let expected = operands
            + usize::from(form.takes != Takes::Values)
            + usize::from(family.conditional)
            + usize::from(family.passes_flags);
        if signature.parameters != expected {
            let message = format!(
                "`{}` in {file} takes {} parameters; the row wants {expected}: {}",
                form.body,
                signature.parameters,
                describe(form, family.passes_flags)
            );
            report.error(&form.place, message);
        }
        if signature.has_way != (form.takes == Takes::X87) {
            let message = if signature.has_way {
                format!(
                    "`{}` in {file} is generic over a `Way`, which is for rows with `takes = \"x87\"`",
                    form.body
                )
            } else {
                format!(
                    "`{}` in {file} has to be generic over its `Way` first: the row has `takes = \"x87\"`",
                    form.body
                )
            };
            report.error(&form.place, message);
        }
        if signature.fallible != form.fallible {
            let message = if form.fallible {
                format!(
                    "`{}` in {file} has to return a Result: the row takes the CPU or has `exc`",
                    form.body
                )
            } else {
                format!(
                    "`{}` in {file} returns a Result, but the row has neither `takes` nor `exc`",
                    form.body
                )
            };
            report.error(&form.place, message);
        }
        if form.flow == Flow::Trap && form.takes == Takes::Values && !form.fallible {
            report.error(&form.place, "a trap needs `exc` or `takes`");
        }
    }
}

fn describe(form: &Form, passes_flags: bool) -> String {
    let mut parts = Vec::new();
    if form.takes.cpu() {
        parts.push("x: Exec".to_owned());
    }
    if form.condition.is_some() {
        parts.push("cond: bool".to_owned());
    }
    parts.push(format!("the operands read or addressed in `{}`", form.ops));
    if form.takes == Takes::Mxcsr {
        parts.push("m: &mut Mxcsr".to_owned());
    }
    if form.takes == Takes::Host {
        parts.push("h: Native".to_owned());
    }
    if passes_flags {
        parts.push("f: &mut Pending".to_owned());
    }
    parts.join(", ")
}
