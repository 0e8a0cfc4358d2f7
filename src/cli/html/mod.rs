//! Pages that need no network and nothing else: what the subcommands that write HTML have in common.

use std::fmt::Write as _;
use table86::audit::opcode_map::{Cell, CellState, Grid};

/// The look of all pages.
pub(super) const STYLE: &str = include_str!("style.css");

/// Text as HTML has it, in contents and in quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A whole page. `head` is the style, or a link to it; `nav` goes to the top, `body` is the contents.
pub(super) fn page(title: &str, head: &str, nav: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n{head}\n</head>\n<body>\n\
         <header class=\"site\"><nav aria-label=\"Site\"><strong>Table86</strong>{nav}</nav></header>\n\
         <main>\n{body}</main>\n\
         <footer>Made by Table86 {} from its tables.</footer>\n</body>\n</html>\n",
        escape(title),
        env!("CARGO_PKG_VERSION")
    )
}

/// A state's class in the style.
pub(super) fn class(state: CellState) -> &'static str {
    match state {
        CellState::Undefined => "s-undefined",
        CellState::Prefix => "s-prefix",
        CellState::Missing => "s-missing",
        CellState::Partly => "s-partly",
        CellState::Implemented => "s-implemented",
        CellState::Verified => "s-verified",
    }
}

/// What the colours of some states mean.
pub(super) fn legend(states: &[CellState]) -> String {
    let mut html = String::from("<ul class=\"legend\">");
    for state in states {
        let _ = write!(html, "<li><span class=\"{}\"></span>{}</li>", class(*state), state.name());
    }
    html.push_str("</ul>\n");
    html
}

/// Mnemonics in a cell before the rest is counted.
const SHOWN: usize = 4;

/// A cell's contents; `link` gives the address of a mnemonic's page, if there is one.
fn cell(cell: &Cell, link: &impl Fn(&str) -> Option<String>) -> String {
    if !cell.prefix.is_empty() {
        return escape(cell.prefix);
    }
    let names = cell.mnemonics();
    let one = |name: &&str| {
        let is_gone =
            cell.entries.iter().filter(|entry| entry.mnemonic == *name).all(|entry| entry.is_missing());
        let text =
            if is_gone { format!("<span class=\"gone\">{}</span>", escape(name)) } else { escape(name) };
        link(name).map_or(text.clone(), |href| format!("<a href=\"{href}\">{text}</a>"))
    };
    let mut html = names.iter().take(SHOWN).map(one).collect::<Vec<_>>().join(" ");
    if names.len() > SHOWN {
        let _ = write!(
            html,
            " <span title=\"{}\">+{}</span>",
            escape(&names[SHOWN..].join(" ")),
            names.len() - SHOWN
        );
    }
    html
}

/// An opcode map as a table.
pub(super) fn grid(grid: &Grid, link: impl Fn(&str) -> Option<String>) -> String {
    let mut html =
        format!("<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"{}\">", escape(&grid.title));
    html.push_str("<table class=\"grid\"><thead><tr><td></td>");
    for column in &grid.columns {
        let _ = write!(html, "<th scope=\"col\">{column}</th>");
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for (name, cells) in &grid.lines {
        let _ = write!(html, "<tr><th scope=\"row\">{name}</th>");
        for one in cells {
            let state = one.state();
            let _ = write!(
                html,
                "<td class=\"{}\" title=\"{}\">{}</td>",
                class(state),
                state.name(),
                cell(one, &link)
            );
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div>\n");
    html
}

/// A table: heads, those of them that are numbers, and rows of HTML.
pub(super) fn table(heads: &[(&str, bool)], rows: &[Vec<String>]) -> String {
    let class = |is_number: bool| if is_number { " class=\"number\"" } else { "" };
    let mut html = String::from("<div class=\"wide\"><table><thead><tr>");
    for (head, is_number) in heads {
        let _ = write!(html, "<th scope=\"col\"{}>{}</th>", class(*is_number), escape(head));
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        html.push_str("<tr>");
        for (cell, (_, is_number)) in row.iter().zip(heads) {
            let _ = write!(html, "<td{}>{cell}</td>", class(*is_number));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div>\n");
    html
}
