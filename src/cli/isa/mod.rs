//! `table86 isa`: a browser of the instruction tables.

mod site;
mod text;
mod words;

use super::Failure;
use clap::Args;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use table86::audit::coverage;
use table86::disasm::Text;
use table86::isa::{FORMS, Form, decode};
use table86::loader::hex;

/// Looks up instructions: by mnemonic, by bytes, or by a word that occurs in what the tables say of them.
///
/// Shows forms, operands in words, flags as a table, what is needed and raised, notes, what was compared with processors, and
/// where row and body are. Without an argument, all mnemonics.
#[derive(Args)]
#[command(after_help = "Examples:\n  table86 isa                  all mnemonics, by table\n  \
                        table86 isa shld             what SHLD does, and where it is\n  \
                        table86 isa 0f a4 c2 05      the instruction that these bytes are\n  \
                        table86 isa carry            instructions with this word in their description, CPUID feature or table\n  \
                        table86 isa --html ./isa     the whole set as pages: ./isa/index.html")]
pub(super) struct Isa {
    /// Writes static pages into this directory, which is made if need be
    #[arg(long, value_name = "DIR", conflicts_with = "query")]
    html: Option<PathBuf>,
    /// A mnemonic, bytes in hexadecimal, or a word to search for
    #[arg(value_name = "MNEMONIC|BYTES|WORD")]
    query: Vec<String>,
}

impl Isa {
    pub(super) fn execute(self) -> Result<(), Failure> {
        if let Some(directory) = &self.html {
            return site::write(directory);
        }
        let mut out = BufWriter::new(io::stdout().lock());
        if self.query.is_empty() {
            text::list(&mut out)?;
            return Ok(out.flush()?);
        }
        let query = self.query.join(" ").to_ascii_lowercase();
        let forms = named(&query);
        if !forms.is_empty() {
            text::mnemonic(&mut out, &forms)?;
            return Ok(out.flush()?);
        }
        match hex::parse(query.as_bytes()) {
            Ok(bytes) => self::bytes(&mut out, &bytes)?,
            Err(_) => {
                let found = search(&query);
                if found.is_empty() {
                    return Err(Failure::own(format!(
                        "`{query}` is neither a mnemonic in the tables, nor bytes in hexadecimal, nor a word in what they say; \
                         `table86 isa` lists all mnemonics"
                    )));
                }
                text::found(&mut out, &found)?;
            }
        }
        Ok(out.flush()?)
    }
}

/// The forms of a mnemonic, which may be another name of a condition: `jz`, `setnle`.
fn named(name: &str) -> Vec<&'static Form> {
    let forms: Vec<&Form> = FORMS.iter().filter(|form| form.mnemonic == name).collect();
    if !forms.is_empty() {
        return forms;
    }
    let called_so = |form: &&Form| words::other_names(form.mnemonic).iter().any(|other| other == name);
    FORMS.iter().filter(called_so).collect()
}

/// One form of each mnemonic that has a word in its name, sentence, note, CPUID features or table.
fn search(word: &str) -> Vec<&'static Form> {
    let mut found: Vec<&Form> = Vec::new();
    for form in &FORMS {
        let has = |text: &str| text.to_ascii_lowercase().contains(word);
        let is_new = found.iter().all(|known| known.mnemonic != form.mnemonic);
        if is_new
            && (has(form.mnemonic)
                || has(form.doc)
                || has(form.note)
                || has(&form.cpuid.join(" "))
                || has(form.room))
        {
            found.push(form);
        }
    }
    found
}

/// The instructions that bytes are.
fn bytes(out: &mut impl Write, bytes: &[u8]) -> Result<(), Failure> {
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        if at > 0 {
            writeln!(out)?;
        }
        match decode(rest, at as u32) {
            Ok(insn) => {
                let form = insn.form();
                let len = usize::from(insn.len);
                writeln!(out, "{}{}", shown(&rest[..len]), Text(&insn))?;
                writeln!(out, "  {}", form.doc)?;
                writeln!(out, "  {:<18} {:<28} {}", form.op, form.ops, form.row_place())?;
                text::operands(out, &[form])?;
                text::facts(out, &[form])?;
                writeln!(out, "  more        table86 isa {}", form.mnemonic)?;
                at += len;
            }
            Err(error) => {
                let Some((form, len)) = coverage::undeclared(rest) else {
                    return Err(Failure::own(format!("{}at byte {at}: {error}", shown(rest))));
                };
                writeln!(out, "{}{}", shown(&rest[..len]), form.text.to_lowercase())?;
                writeln!(out, "  {}, {}: no row declares it; it raises #UD", form.op, form.features)?;
                at += len;
            }
        }
    }
    Ok(())
}

/// At most 15 bytes in hexadecimal, a blank behind each.
fn shown(bytes: &[u8]) -> String {
    bytes.iter().take(15).map(|byte| format!("{byte:02x} ")).collect()
}
