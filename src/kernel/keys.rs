//! Keys (keyrings(7)).

use super::Process;
use super::args::{In, Out, Str};
use super::errno::Errno;
use super::host::{self, Arg};
use super::paths;
use std::ffi::CString;

/// Longest key type with its NUL, and longest description (a page).
const TYPE_MAX: usize = 32;
const DESCRIPTION_MAX: usize = 4096;

/// What an argument of a `keyctl` operation is.
#[derive(Clone, Copy)]
enum Kind {
    Number,
    /// NULL or a string.
    Text,
    /// A buffer that is read, whose length follows.
    In,
    /// A buffer that is written, whose length follows.
    Out,
}
use Kind::{In as Input, Number, Out as Output, Text};

/// Operations by number, with what their arguments are (keyctl(2)); those that are not here have structures.
const OPERATIONS: [(i32, &[Kind]); 23] = [
    (0, &[Number, Number]),
    (1, &[Text]),
    (2, &[Number, Input, Number]),
    (3, &[Number]),
    (4, &[Number, Number, Number]),
    (5, &[Number, Number]),
    (6, &[Number, Output, Number]),
    (7, &[Number]),
    (8, &[Number, Number]),
    (9, &[Number, Number]),
    (10, &[Number, Text, Text, Number]),
    (11, &[Number, Output, Number]),
    (12, &[Number, Input, Number, Number]),
    (13, &[Number, Number, Number]),
    (14, &[Number]),
    (15, &[Number, Number]),
    (16, &[Number]),
    (17, &[Number, Output, Number]),
    (18, &[]),
    (19, &[Number, Number, Number, Number]),
    (21, &[Number]),
    (22, &[Number, Number]),
    (29, &[Number, Text, Text]),
];

fn text(p: &Process, at: u32, limit: usize) -> Result<Option<CString>, Errno> {
    if at == 0 {
        return Ok(None);
    }
    let bytes = Str(at).read(&p.machine.memory, limit, Errno::EINVAL)?;
    Ok(Some(paths::c_string(&bytes)))
}

fn text_arg(text: &Option<CString>) -> Arg<'_> {
    text.as_ref().map_or(Arg::NULL, |text| Arg::text(text))
}

/// add_key(2).
pub fn add_key(p: &mut Process, kind: Str, description: Str, payload: In, ring: i32) -> Result<u32, Errno> {
    let kind = text(p, kind.0, TYPE_MAX)?;
    let description = text(p, description.0, DESCRIPTION_MAX)?;
    let payload = payload.host(&p.machine.memory);
    host::pass(
        libc::SYS_add_key,
        [text_arg(&kind), text_arg(&description), payload.arg(), payload.len.into(), ring.into()],
    )
}

/// request_key(2).
pub fn request_key(
    p: &mut Process,
    kind: Str,
    description: Str,
    callout: Str,
    ring: i32,
) -> Result<u32, Errno> {
    let kind = text(p, kind.0, TYPE_MAX)?;
    let description = text(p, description.0, DESCRIPTION_MAX)?;
    let callout = text(p, callout.0, DESCRIPTION_MAX)?;
    host::pass_blocking(
        libc::SYS_request_key,
        [text_arg(&kind), text_arg(&description), text_arg(&callout), ring.into()],
    )
}

/// keyctl(2); `EOPNOTSUPP` for operations with structures.
pub fn keyctl(p: &mut Process, operation: i32, a: u32, b: u32, c: u32, d: u32) -> Result<u32, Errno> {
    let Some((_, kinds)) = OPERATIONS.iter().find(|(number, _)| *number == operation) else {
        return Err(Errno::EOPNOTSUPP);
    };
    let given = [a, b, c, d];
    let mut texts: [Option<CString>; 4] = [const { None }; 4];
    for (index, kind) in kinds.iter().enumerate() {
        if matches!(kind, Text) {
            texts[index] = text(p, given[index], DESCRIPTION_MAX)?;
        }
    }
    let memory = &p.machine.memory;
    let mut args = [operation.into(), Arg::NULL, Arg::NULL, Arg::NULL, Arg::NULL];
    for (index, kind) in kinds.iter().enumerate() {
        let value = given[index];
        let len = given.get(index + 1).copied().unwrap_or(0);
        args[index + 1] = match kind {
            // Serial numbers are signed; special ones are negative.
            Number => (value as i32).into(),
            Text => text_arg(&texts[index]),
            Input => In::new(value, len).host(memory).arg(),
            Output => Out::new(value, len).host(memory).arg(),
        };
    }
    host::pass(libc::SYS_keyctl, args)
}
