//! `opcodes/features.toml`: CPUID's bits and the models.

use super::report::{Place, Report, Source};
use super::schema::{Form, Status};
use super::walk::Table;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::rc::Rc;

struct Feature {
    name: String,
    doc: String,
    leaf: u32,
    register: usize,
    bit: u32,
    system: bool,
}

struct Model {
    name: String,
    doc: String,
    signature: [u32; 3],
    max_leaf: u32,
    max_extended: u32,
    brand: String,
    features: BTreeSet<String>,
    descriptors: [u32; 4],
}

/// Checks the file against the rows and makes `features.rs`.
pub fn emit(source: Rc<Source>, forms: &[Form], report: &mut Report) -> String {
    let Some(top) = Table::parse(source, report) else { return String::new() };
    top.allow(&["feature", "model"], report);
    let features: Vec<Feature> =
        top.tables("feature", report).iter().filter_map(|table| feature(table, report)).collect();
    let known: BTreeMap<&str, &Feature> =
        features.iter().map(|feature| (feature.name.as_str(), feature)).collect();
    if known.len() != features.len() {
        report.error(&top.place, "two features have the same name");
    }
    let mut complete: BTreeMap<&str, bool> = BTreeMap::new();
    for form in forms {
        for name in &form.cpuid {
            if !known.contains_key(name.as_str()) {
                report.error(&form.place, format!("no feature `{name}` in features.toml"));
            }
            *complete.entry(name).or_insert(true) &= form.status == Status::Implemented;
        }
    }
    let mut models: Vec<Model> = Vec::new();
    for table in top.tables("model", report) {
        if let Some(model) = model(&table, &models, &known, report) {
            models.push(model);
        }
    }
    let shown =
        |feature: &Feature| feature.system || complete.get(feature.name.as_str()).copied().unwrap_or(false);
    let mut out = String::new();
    let _ = writeln!(
        out,
        "/// The features, as `opcodes/features.toml` lists them.\npub static FEATURES: [Feature; {}] = [",
        features.len()
    );
    for feature in &features {
        let _ = writeln!(
            out,
            "    Feature {{ name: {:?}, doc: {:?}, leaf: {:#x}, register: {}, bit: {}, implemented: {} }},",
            feature.name,
            feature.doc,
            feature.leaf,
            feature.register,
            feature.bit,
            shown(feature)
        );
    }
    let _ = writeln!(
        out,
        "];\n/// The models; the last is the default.\npub static MODELS: [Model; {}] = [",
        models.len()
    );
    for model in &models {
        let names: Vec<&String> = model.features.iter().collect();
        let _ = writeln!(
            out,
            "    Model {{ name: {:?}, doc: {:?}, family: {}, model: {}, stepping: {}, max_leaf: {:#x}, max_extended: {:#x}, brand: {:?}, \
             features: &{names:?}, descriptors: {:?} }},",
            model.name,
            model.doc,
            model.signature[0],
            model.signature[1],
            model.signature[2],
            model.max_leaf,
            model.max_extended,
            model.brand,
            model.descriptors,
        );
    }
    out.push_str("];\n");
    out
}

/// Numbers in a text, or an error at its place.
fn numbers<const N: usize>(
    table: &Table,
    key: &str,
    separator: char,
    radix: u32,
    report: &mut Report,
) -> Option<[u32; N]> {
    let text = table.required_str(key, report)?;
    let parsed: Vec<Option<u32>> =
        text.split(separator).map(|part| u32::from_str_radix(part, radix).ok()).collect();
    let numbers: Option<Vec<u32>> = parsed.into_iter().collect();
    match numbers.and_then(|numbers| numbers.try_into().ok()) {
        Some(numbers) => Some(numbers),
        None => {
            report.error(
                place(table, key),
                format!("`{key}` is {N} numbers to the base {radix}, separated by `{separator}`"),
            );
            None
        }
    }
}

fn place<'a>(table: &'a Table, key: &str) -> &'a Place {
    table.node(key).map_or(&table.place, |node| &node.place)
}

fn feature(table: &Table, report: &mut Report) -> Option<Feature> {
    table.allow(&["name", "at", "doc", "system"], report);
    let name = table.required_str("name", report)?;
    let doc = table.required_str("doc", report)?;
    let at = table.required_str("at", report)?;
    let system = table.bool("system", report);
    let parts: Vec<&str> = at.split(' ').collect();
    let parsed = match parts[..] {
        [leaf, register, bit] => (
            u32::from_str_radix(leaf, 16).ok(),
            ["EAX", "EBX", "ECX", "EDX"].iter().position(|name| *name == register),
            bit.parse().ok().filter(|bit| *bit < 32),
        ),
        _ => (None, None, None),
    };
    let (Some(leaf), Some(register), Some(bit)) = parsed else {
        report.error(
            place(table, "at"),
            "`at` is a hexadecimal leaf, a register and a bit, as in \"1 EDX 23\"",
        );
        return None;
    };
    Some(Feature { name, doc, leaf, register, bit, system })
}

fn model(
    table: &Table,
    models: &[Model],
    known: &BTreeMap<&str, &Feature>,
    report: &mut Report,
) -> Option<Model> {
    let keys =
        ["name", "doc", "signature", "max_leaf", "max_extended", "brand", "base", "features", "descriptors"];
    table.allow(&keys, report);
    let name = table.required_str("name", report)?;
    let doc = table.required_str("doc", report)?;
    let mut features: BTreeSet<String> = table.strings("features", report).into_iter().collect();
    for feature in &features {
        if !known.contains_key(feature.as_str()) {
            report.error(place(table, "features"), format!("there is no feature `{feature}`"));
        }
    }
    if let Some(base) = table.str("base", report) {
        match models.iter().find(|model| model.name == base) {
            Some(model) => features.extend(model.features.iter().cloned()),
            None => report.error(place(table, "base"), format!("no model `{base}` above this one")),
        }
    }
    let mut optional = |key: &str| -> Option<u32> {
        if table.node(key).is_none() {
            Some(0)
        } else {
            numbers::<1>(table, key, ' ', 16, report).map(|[number]| number)
        }
    };
    let max_extended = optional("max_extended")?;
    let [max_leaf] = numbers(table, "max_leaf", ' ', 16, report)?;
    let descriptors = if table.node("descriptors").is_none() {
        [0; 4]
    } else {
        numbers(table, "descriptors", ' ', 16, report)?
    };
    Some(Model {
        name,
        doc,
        signature: numbers(table, "signature", '/', 10, report)?,
        max_leaf,
        max_extended,
        brand: table.str("brand", report).unwrap_or_default(),
        features,
        descriptors,
    })
}
