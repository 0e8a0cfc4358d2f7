//! How an instruction is shown: on one line, on several, or as JSON.

use super::record::{Change, FLAGS, Value, What};
use super::{Layout, Seen, Settings};
use crate::debug::effects::{Place, Touch};
use crate::disasm;
use crate::isa::Insn;
use anstyle::{AnsiColor, Style};
use serde_json::{Map, json};
use std::fmt::Write;

/// Columns for an instruction's bytes: seven of them, and blanks between.
const BYTES_WIDTH: usize = 21;
/// Columns for an instruction's text.
const TEXT_WIDTH: usize = 34;
/// Columns for a symbol with its offset.
const SYMBOL_WIDTH: usize = 20;
/// Calls are indented by so many columns each,
const INDENT: usize = 2;
/// but not by more than this.
const MOST_INDENT: usize = 40;

const ADDRESS: Style = AnsiColor::Cyan.on_default();
const SYMBOL: Style = AnsiColor::Blue.on_default();
const BYTES: Style = Style::new().dimmed();
const READS: Style = AnsiColor::Green.on_default();
const CHANGES: Style = AnsiColor::Yellow.on_default().bold();
const EVENT: Style = AnsiColor::Magenta.on_default();

/// A text in a style, if colours are wanted.
fn painted(out: &mut String, color: bool, style: Style, text: &str) {
    if color && !text.is_empty() {
        let _ = write!(out, "{style}{text}{style:#}");
    } else {
        out.push_str(text);
    }
}

fn indent(depth: usize) -> usize {
    (depth * INDENT).min(MOST_INDENT)
}

/// The name of a place or register, without what is in it.
pub fn name(what: What) -> String {
    match what {
        What::Place(Place::Reg { number, bytes }) => disasm::register(number, u32::from(bytes)).to_owned(),
        What::Place(Place::Seg(number)) => disasm::segment(number).to_owned(),
        What::Place(Place::St(number)) => format!("st({number})"),
        What::Place(Place::Mm(number)) => format!("mm{number}"),
        What::Place(Place::Xmm { number, .. }) => format!("xmm{number}"),
        What::Place(Place::Memory { addr, len }) => format!("[{addr:#x}:{len}]"),
        What::FpuStatus => "fsw".to_owned(),
        What::FpuControl => "fcw".to_owned(),
        What::Mxcsr => "mxcsr".to_owned(),
        What::Flag(mask) => {
            FLAGS.iter().find(|(flag, ..)| *flag == mask).map_or("?", |(.., name)| name).to_owned()
        }
        What::SystemFlags => "eflags".to_owned(),
    }
}

/// A value: a number, or the bytes of what is too long for one.
pub fn value(what: What, value: &Value) -> String {
    if !value.known {
        return "?".to_owned();
    }
    match (what, value.number()) {
        (What::Flag(_), Some(number)) => number.to_string(),
        (What::Place(Place::St(_)), Some(number)) => format!("{number:#022x}({})", approximate(number)),
        (_, Some(number)) if value.len <= 8 || value.len == 16 => format!("{number:#x}"),
        _ => {
            let mut text = String::from("{");
            for (index, byte) in value.kept().iter().enumerate() {
                let _ = write!(text, "{}{byte:02x}", if index == 0 { "" } else { " " });
            }
            text + if value.len as usize > value.kept().len() { " …}" } else { "}" }
        }
    }
}

/// About which number an x87 register holds.
fn approximate(bits: u128) -> String {
    let (significand, exponent) = (bits as u64, (bits >> 64) as i32 & 0x7fff);
    let sign = if bits >> 79 & 1 != 0 { "-" } else { "" };
    match (exponent, significand) {
        (0x7fff, 0x8000_0000_0000_0000) => format!("{sign}inf"),
        (0x7fff, _) => "nan".to_owned(),
        _ => {
            let number = significand as f64 * 2f64.powi(exponent - 16383 - 63);
            // Beyond what a double can hold.
            let lost = number.is_infinite() || number == 0.0 && significand != 0;
            if lost { format!("{sign}2^{}", exponent - 16383) } else { format!("{sign}{number:?}") }
        }
    }
}

fn assigned(what: What, of: &Value) -> String {
    format!("{}={}", name(what), value(what, of))
}

/// What is read: no registers that only make an address; flags by name.
fn reads<'a>(seen: &'a Seen<'_>, addresses: bool) -> impl Iterator<Item = (What, Value)> + 'a {
    let wanted = move |touch: &Touch| touch.reads && (addresses || !touch.address);
    let places = seen.before.touches.iter().filter(move |(touch, _)| wanted(touch));
    // A register that is read for more than one reason is said once.
    let places = places.enumerate().filter(move |(index, (touch, _))| {
        !seen
            .before
            .touches
            .iter()
            .filter(|(other, _)| wanted(other))
            .take(*index)
            .any(|(other, _)| other.place == touch.place)
    });
    let places = places.map(|(_, (touch, value))| (What::Place(touch.place), *value));
    let mask = seen.insn.map_or(0, |insn| insn.form().flags.reads);
    let flags = FLAGS.iter().filter(move |(flag, ..)| mask & flag != 0).map(|(flag, bit, _)| {
        let mut value = Value { len: 1, known: true, ..Value::default() };
        value.bytes[0] = u8::from(seen.before.eflags() & bit != 0);
        (What::Flag(*flag), value)
    });
    places.chain(flags)
}

fn hex(bytes: &[u8]) -> String {
    let words: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    words.join(" ")
}

fn text_of(insn: Option<&Insn>) -> String {
    insn.map_or_else(|| "(no instruction)".to_owned(), disasm::text)
}

/// An instruction, ended by a newline.
pub fn instruction(settings: &Settings, seen: &Seen<'_>, out: &mut String) {
    match settings.layout {
        Layout::Compact => compact(settings, seen, out),
        Layout::Full => full(settings, seen, out),
        Layout::Json => json(seen, out),
    }
}

fn compact(settings: &Settings, seen: &Seen<'_>, out: &mut String) {
    let color = settings.color;
    let start = out.len();
    out.push_str(&seen.prefix);
    if !settings.no_address {
        painted(out, color, ADDRESS, &format!("{:#010x} ", seen.addr));
    }
    if seen.has_symbols {
        let place = seen.location.as_ref().map_or_else(String::new, |location| match &location.symbol {
            Some(symbol) => format!("{symbol}+{:#x}", location.offset),
            None => format!("{}+{:#x}", location.module.name(), location.offset),
        });
        painted(out, color, SYMBOL, &format!("{place:<SYMBOL_WIDTH$} "));
    }
    if !settings.no_bytes {
        painted(out, color, BYTES, &format!("{:<BYTES_WIDTH$} ", hex(seen.bytes)));
    }
    let blanks = indent(seen.depth);
    let width = TEXT_WIDTH;
    let _ = write!(out, "{:blanks$}{:<width$}", "", text_of(seen.insn));
    if !settings.no_values {
        let read: Vec<String> = reads(seen, false).map(|(what, value)| assigned(what, &value)).collect();
        let mut changed: Vec<String> =
            seen.changes.iter().map(|change| assigned(change.what, &change.new)).collect();
        changed.extend(seen.outcome.clone());
        if !read.is_empty() {
            out.push(' ');
            painted(out, color, READS, &read.join(" "));
        }
        if !changed.is_empty() {
            out.push_str(" -> ");
            painted(out, color, CHANGES, &changed.join(" "));
        }
    } else if let Some(outcome) = &seen.outcome {
        let _ = write!(out, " -> {outcome}");
    }
    out.truncate(start + out[start..].trim_end().len());
    out.push('\n');
}

fn full(settings: &Settings, seen: &Seen<'_>, out: &mut String) {
    let color = settings.color;
    let blanks = indent(seen.depth);
    let _ = write!(out, "{}#{} ", seen.prefix, seen.count);
    if !settings.no_address {
        painted(out, color, ADDRESS, &format!("{:#010x} ", seen.addr));
    }
    if let Some(location) = &seen.location {
        painted(out, color, SYMBOL, &location.text());
    }
    let _ = write!(out, "\n{:blanks$}    {}", "", text_of(seen.insn));
    if !settings.no_bytes {
        out.push_str("    ");
        painted(out, color, BYTES, &hex(seen.bytes));
    }
    if let Some(insn) = seen.insn {
        let form = insn.form();
        let _ = write!(out, "    opcodes/{}.toml:{}", form.room, form.line);
        let _ = write!(out, "\n{:blanks$}    {}", "", form.doc);
    }
    out.push('\n');
    let size = |what: What, value: &Value| match what {
        What::Flag(_) => String::new(),
        _ => format!("  ({} byte{})", value.len, if value.len == 1 { "" } else { "s" }),
    };
    if !settings.no_values {
        for (what, read) in reads(seen, true) {
            let _ = write!(out, "{:blanks$}    reads   ", "");
            painted(out, color, READS, &assigned(what, &read));
            let _ = writeln!(out, "{}", size(what, &read));
        }
        for Change { what, old, new } in seen.changes {
            let _ = write!(out, "{:blanks$}    writes  ", "");
            painted(out, color, CHANGES, &assigned(*what, new));
            let was = if old == new { "as before".to_owned() } else { format!("was {}", value(*what, old)) };
            let _ = writeln!(out, "{}  {was}", size(*what, new));
        }
    }
    if let Some(outcome) = &seen.outcome {
        let _ = writeln!(out, "{:blanks$}    {outcome}", "");
    }
}

fn json_value(what: What, of: &Value) -> serde_json::Value {
    if !of.known {
        return serde_json::Value::Null;
    }
    match (what, of.number()) {
        (What::Flag(_), Some(number)) => json!(number as u8),
        (_, Some(number)) => json!(format!("{number:#x}")),
        (_, None) => json!(hex(of.kept())),
    }
}

/// `{"register": "eax", "bytes": 4, …}`, `{"memory": "0x…", …}` or `{"flag": "ZF", …}`.
fn json_place(what: What, of: &Value) -> Map<String, serde_json::Value> {
    let mut map = Map::new();
    match what {
        What::Place(Place::Memory { addr, .. }) => {
            map.insert("memory".into(), json!(format!("{addr:#x}")));
        }
        What::Flag(_) => {
            map.insert("flag".into(), json!(name(what)));
            return map;
        }
        _ => {
            map.insert("register".into(), json!(name(what)));
        }
    }
    map.insert("bytes".into(), json!(of.len));
    map
}

fn json(seen: &Seen<'_>, out: &mut String) {
    let read: Vec<_> = reads(seen, true)
        .map(|(what, value)| {
            let mut map = json_place(what, &value);
            map.insert("value".into(), json_value(what, &value));
            map
        })
        .collect();
    let changed: Vec<_> = seen
        .changes
        .iter()
        .map(|Change { what, old, new }| {
            let mut map = json_place(*what, new);
            map.insert("old".into(), json_value(*what, old));
            map.insert("new".into(), json_value(*what, new));
            map
        })
        .collect();
    let location = seen.location.as_ref();
    let value = json!({
        "kind": "instruction",
        "count": seen.count,
        "process": seen.process,
        "thread": seen.thread,
        "depth": seen.depth,
        "address": format!("{:#x}", seen.addr),
        "module": location.map(|location| location.module.path.to_string_lossy()),
        "symbol": location.and_then(|location| location.symbol.as_deref()),
        "offset": location.map(|location| format!("{:#x}", location.offset)),
        "bytes": hex(seen.bytes),
        "text": seen.insn.map(disasm::text),
        "row": seen.insn.map(|insn| format!("{}:{}", insn.form().room, insn.form().line)),
        "reads": read,
        "changes": changed,
        "outcome": seen.outcome,
    });
    let _ = writeln!(out, "{value}");
}

/// Something that is no instruction: a system call, a signal, an end.
pub fn event(settings: &Settings, who: &super::Who, kind: &str, text: &str, out: &mut String) {
    if settings.layout == Layout::Json {
        let value = json!({
            "kind": kind, "process": who.process, "thread": who.thread, "depth": who.depth, "text": text,
        });
        let _ = writeln!(out, "{value}");
        return;
    }
    out.push_str(&who.prefix());
    let _ = write!(out, "{:width$}", "", width = indent(who.depth));
    painted(out, settings.color, EVENT, text);
    out.push('\n');
}
