//! Errors in the tables, collected and shown as a compiler shows them.

use std::fmt::Write as _;
use std::ops::Range;
use std::rc::Rc;

/// A table's text with the name to show.
#[derive(Debug)]
pub struct Source {
    /// Path relative to the package, with `/`.
    pub name: String,
    /// Whole text.
    pub text: String,
}

/// A place in a table.
#[derive(Clone, Debug)]
pub struct Place {
    pub source: Rc<Source>,
    pub span: Range<usize>,
}

impl Place {
    /// The line, counted from 1.
    pub fn line(&self) -> usize {
        self.source.text[..self.span.start].matches('\n').count() + 1
    }

    fn column(&self) -> usize {
        let start = self.source.text[..self.span.start].rfind('\n').map_or(0, |at| at + 1);
        self.source.text[start..self.span.start].chars().count() + 1
    }

    /// `file:line`.
    pub fn short(&self) -> String {
        format!("{}:{}", self.source.name, self.line())
    }

    fn show(&self, out: &mut String) {
        let line = self.line();
        let start = self.source.text[..self.span.start].rfind('\n').map_or(0, |at| at + 1);
        let end = self.source.text[start..].find('\n').map_or(self.source.text.len(), |at| start + at);
        let marked = self.span.end.min(end).saturating_sub(self.span.start).max(1);
        let gutter = line.to_string().len();
        let indent = " ".repeat(self.column() - 1);
        let carets = "^".repeat(marked);
        let text = &self.source.text[start..end];
        let _ = writeln!(out, "{:gutter$}--> {}:{line}:{}", "", self.source.name, self.column());
        let _ = writeln!(out, "{:gutter$} |\n{line} | {text}\n{:gutter$} | {indent}{carets}", "", "");
    }
}

/// One mistake.
#[derive(Clone, Debug)]
pub struct Problem {
    pub message: String,
    pub place: Place,
    /// Another place that has to do with it, and what it is.
    pub other: Option<(String, Place)>,
}

/// All mistakes found so far.
#[derive(Debug, Default)]
pub struct Report {
    pub problems: Vec<Problem>,
}

impl Report {
    /// Notes a mistake.
    pub fn error(&mut self, place: &Place, message: impl Into<String>) {
        self.problems.push(Problem { message: message.into(), place: place.clone(), other: None });
    }

    /// Notes a mistake that involves two places.
    pub fn clash(&mut self, place: &Place, message: impl Into<String>, what: &str, other: &Place) {
        let other = Some((what.to_owned(), other.clone()));
        self.problems.push(Problem { message: message.into(), place: place.clone(), other });
    }

    /// Every mistake as text, in the order of the tables.
    pub fn render(&self) -> String {
        let mut problems: Vec<&Problem> = self.problems.iter().collect();
        problems.sort_by_key(|problem| (&problem.place.source.name, problem.place.span.start));
        let mut out = String::new();
        for problem in problems {
            let _ = writeln!(out, "error: {}", problem.message);
            problem.place.show(&mut out);
            if let Some((what, place)) = &problem.other {
                let _ = writeln!(out, "note: {what}");
                place.show(&mut out);
            }
        }
        out
    }
}
