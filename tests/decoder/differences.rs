use crate::operands::{agree, ours, theirs};
use iced_x86::Instruction;
use std::collections::BTreeMap;
use table86::isa::{DecodeError, Insn};

pub struct Case<'a> {
    pub bytes: &'a [u8],
    pub ours: Result<Insn, DecodeError>,
    pub theirs: Instruction,
}

#[derive(Default)]
pub struct Differences {
    pub compared: u64,
    pub found: BTreeMap<String, (u64, String)>,
}

impl Differences {
    pub fn compare(&mut self, case: &Case<'_>) {
        self.compared += 1;
        let key = match (&case.ours, case.theirs.is_invalid()) {
            (Err(_), true) => return,
            (Err(e), false) => format!(
                "ERR {e:?} iced {:?} {:?}",
                case.theirs.encoding(),
                if format!("{:?}", case.theirs.encoding()) == "Legacy" {
                    format!("{:?} {:?}", case.theirs.code(), case.theirs.cpuid_features())
                } else {
                    String::new()
                }
            ),
            (Ok(i), true) => {
                format!("OK iced invalid: {} {} {}", i.form().op, i.form().mnemonic, i.form().ops)
            }
            (Ok(i), false) => {
                let m = format!("{:?}", case.theirs.mnemonic()).to_lowercase();
                if usize::from(i.len) != case.theirs.len() {
                    format!("LEN {} {} {:?}", i.form().op, i.form().mnemonic, case.theirs.code())
                } else if m != i.form().mnemonic {
                    format!("MNEM {} {} {}", i.form().op, i.form().mnemonic, m)
                } else if !agree(&ours(i), &theirs(&case.theirs)) {
                    format!(
                        "OPS {} {} {} {:?}",
                        i.form().op,
                        i.form().mnemonic,
                        i.form().ops,
                        case.theirs.code()
                    )
                } else {
                    return;
                }
            }
        };
        let e = self.found.entry(key).or_insert_with(|| {
            (
                0,
                format!(
                    "{:02x?} {:?} / {:?}",
                    &case.bytes[..case.theirs.len().max(6)],
                    case.ours.as_ref().map(ours),
                    theirs(&case.theirs)
                ),
            )
        });
        e.0 += 1;
    }
    pub fn report(&self, _all: bool) {
        println!("{} compared", self.compared);
        for (k, v) in &self.found {
            println!("{} {k}   {}", v.0, v.1);
        }
    }
}
