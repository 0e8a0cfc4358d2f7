//! The first line of a script (execve(2), "Interpreter scripts").

use super::program::HEAD;
use std::ffi::CString;

/// What a `#!` line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// The interpreter's path.
    pub interpreter: CString,
    /// Everything behind it, as one argument.
    pub argument: Option<CString>,
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// A C string from bytes, which end at the first NUL.
fn c_string(bytes: &[u8]) -> Option<CString> {
    CString::new(bytes.split(|&byte| byte == 0).next()?).ok()
}

impl Script {
    /// Reads the line at the beginning of a file, given as its first bytes followed by zeros. `None` if there is no
    /// interpreter, or if its path may be cut off.
    pub fn parse(head: &[u8; HEAD]) -> Option<Script> {
        let text = head.strip_prefix(b"#!")?;
        let line = match text.iter().position(|&byte| byte == b'\n') {
            Some(end) => &text[..end],
            None => {
                // The last byte is not looked at, as it would be the string's end. A blank or NUL behind the path
                // shows that the path is whole.
                let line = &text[..text.len() - 1];
                let start = line.iter().position(|&byte| !is_blank(byte))?;
                line[start..].iter().position(|&byte| is_blank(byte) || byte == 0)?;
                line
            }
        };
        let start = line.iter().position(|&byte| !is_blank(byte))?;
        let end = line.iter().rposition(|&byte| !is_blank(byte))? + 1;
        let line = &line[start..end];
        let path_len = line.iter().position(|&byte| is_blank(byte) || byte == 0).unwrap_or(line.len());
        let (path, rest) = line.split_at(path_len);
        if path.is_empty() {
            return None;
        }
        let argument = match rest.first() {
            Some(&byte) if is_blank(byte) => rest.iter().position(|&b| !is_blank(b)).map(|at| &rest[at..]),
            _ => None,
        };
        Some(Script {
            interpreter: c_string(path)?,
            argument: argument.and_then(c_string).filter(|argument| !argument.is_empty()),
        })
    }

    /// The interpreter's arguments for a script of this name, called with `argv`.
    pub fn arguments(&self, script: CString, argv: Vec<CString>) -> Vec<CString> {
        let mut all = vec![self.interpreter.clone()];
        all.extend(self.argument.clone());
        all.push(script);
        all.extend(argv.into_iter().skip(1));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<(String, Option<String>)> {
        let mut head = [0; HEAD];
        let bytes = &text.as_bytes()[..text.len().min(HEAD)];
        head[..bytes.len()].copy_from_slice(bytes);
        let text = |c: CString| c.into_string().unwrap();
        Script::parse(&head).map(|script| (text(script.interpreter), script.argument.map(text)))
    }

    #[test]
    fn first_lines_mean_what_linux_reads_in_them() {
        let long = format!("#!/{}", "x".repeat(300));
        let long_argument = format!("#!/bin/sh {}", "x".repeat(300));
        let cut = "x".repeat(HEAD - 1 - "#!/bin/sh ".len());
        for (text, expected) in [
            ("#!/bin/sh\necho", Some(("/bin/sh", None))),
            ("#! \t/bin/sh \t\n", Some(("/bin/sh", None))),
            ("#!/bin/env -S a  b \n", Some(("/bin/env", Some("-S a  b")))),
            ("#!/bin/sh", Some(("/bin/sh", None))),
            ("#!sh -e\n", Some(("sh", Some("-e")))),
            ("#!\n/bin/sh", None),
            ("#!   \n", None),
            ("#!", None),
            ("# !/bin/sh\n", None),
            (&long, None),
            (&long_argument, Some(("/bin/sh", Some(&cut)))),
        ] {
            let expected =
                expected.map(|(path, arg): (&str, Option<&str>)| (path.into(), arg.map(String::from)));
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn the_script_takes_the_place_of_its_argv_0() {
        let c = |text: &str| CString::new(text).unwrap();
        let script = Script { interpreter: c("/bin/sh"), argument: Some(c("-e")) };
        let argv = script.arguments(c("./x"), vec![c("name"), c("a")]);
        assert_eq!(argv, [c("/bin/sh"), c("-e"), c("./x"), c("a")]);
    }
}
