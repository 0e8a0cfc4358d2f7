//! The tables as static pages: an index with a search, a page for each mnemonic, the opcode maps.

use super::words::{self, FLAGS, FLAGS_LEGEND};
use crate::cli::Failure;
use crate::cli::html::{STYLE, class, escape, grid, legend, page, table};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use table86::audit::State;
use table86::audit::opcode_map::{CellState, grids};
use table86::isa::{FORMS, Form};

/// Hides what does not have all the words that are typed. Without it, everything is shown.
const SCRIPT: &str = "<script>
const input = document.querySelector('#search');
const items = [...document.querySelectorAll('li[data-words]')];
const count = document.querySelector('#count');
function search() {
  const words = input.value.toLowerCase().split(/\\s+/).filter(Boolean);
  let shown = 0;
  for (const item of items) {
    const hit = words.every(word => item.dataset.words.includes(word));
    item.hidden = !hit;
    shown += hit;
  }
  for (const section of document.querySelectorAll('section.table')) {
    section.hidden = !section.querySelector('li:not([hidden])');
  }
  count.textContent = words.length ? shown + ' of ' + items.length : '';
}
document.querySelector('.search').hidden = false;
input.addEventListener('input', search);
input.addEventListener('keydown', event => {
  const first = items.find(item => !item.hidden);
  if (event.key === 'Enter' && input.value && first) location.href = first.querySelector('a').href;
});
input.value = new URLSearchParams(location.search).get('q') || '';
search();
</script>
";

/// The forms of a mnemonic, in the tables' order.
type Insns = BTreeMap<&'static str, Vec<&'static Form>>;

/// Writes all pages.
pub(super) fn write(directory: &Path) -> Result<(), Failure> {
    let mut insns = Insns::new();
    for form in &FORMS {
        insns.entry(form.mnemonic).or_default().push(form);
    }
    let pages = directory.join("insn");
    let failed = |path: &Path, error: std::io::Error| {
        Failure::own(format!("{}: cannot be written: {error}", path.display()))
    };
    fs::create_dir_all(&pages).map_err(|error| failed(&pages, error))?;
    let write = |path: &Path, text: &str| fs::write(path, text).map_err(|error| failed(path, error));
    write(&directory.join("style.css"), STYLE)?;
    write(&directory.join("index.html"), &index(&insns))?;
    write(&directory.join("maps.html"), &maps(&insns))?;
    for (name, forms) in &insns {
        write(&pages.join(format!("{name}.html")), &insn(name, forms))?;
    }
    Ok(())
}

/// A page of the site; `up` leads to its top.
fn site_page(title: &str, up: &str, body: &str) -> String {
    let head = format!("<link rel=\"stylesheet\" href=\"{up}style.css\">");
    let nav = format!("<a href=\"{up}index.html\">Instructions</a><a href=\"{up}maps.html\">Opcode maps</a>");
    page(title, &head, &nav, body)
}

/// How all forms of a mnemonic stand together.
fn state(forms: &[&Form]) -> CellState {
    let missing = forms.iter().filter(|form| State::of(form).is_missing()).count();
    match missing {
        0 if forms.iter().all(|form| State::of(form).is_verified()) => CellState::Verified,
        0 => CellState::Implemented,
        all if all == forms.len() => CellState::Missing,
        _ => CellState::Partly,
    }
}

fn index(insns: &Insns) -> String {
    let mut rooms: BTreeMap<&str, Vec<(&str, &[&Form])>> = BTreeMap::new();
    for (name, forms) in insns {
        rooms.entry(forms[0].room).or_default().push((name, forms));
    }
    let mut body = format!(
        "<h1>The instruction set</h1>\n<p class=\"lead\">{} instructions in {} forms, as the tables declare them.</p>\n",
        insns.len(),
        FORMS.len()
    );
    body.push_str(
        "<div class=\"search\" hidden><label for=\"search\">Search by mnemonic, word, CPUID feature or opcode</label>\
         <input id=\"search\" type=\"search\" autocomplete=\"off\" spellcheck=\"false\" autofocus>\
         <output id=\"count\" for=\"search\"></output></div>\n",
    );
    // Instructions are neither prefixes nor undefined.
    body.push_str(&legend(&CellState::ALL[..4]));
    for (room, insns) in rooms {
        let _ = writeln!(body, "<section class=\"table\"><h2>{}</h2>\n<ul class=\"index\">", escape(room));
        for (name, forms) in insns {
            let doc = forms[0].doc;
            let ops: Vec<&str> = forms.iter().map(|form| form.op).collect();
            let also = words::other_names(name).join(" ");
            let all = format!("{name} {also} {doc} {} {room} {}", forms[0].cpuid.join(" "), ops.join(" "))
                .to_lowercase();
            let _ = writeln!(
                body,
                "<li data-words=\"{}\" title=\"{}\"><a href=\"insn/{name}.html\"><code class=\"{}\">{name}</code></a> \
                 <small>{}</small></li>",
                escape(&all),
                escape(doc),
                class(state(forms)),
                escape(doc)
            );
        }
        body.push_str("</ul></section>\n");
    }
    body.push_str(SCRIPT);
    site_page("Table86: the instruction set", "", &body)
}

fn maps(insns: &Insns) -> String {
    let mut body = String::from("<h1>Opcode maps</h1>\n<p class=\"lead\">Every opcode of 32-bit mode.</p>\n");
    body.push_str(&legend(&CellState::ALL));
    body.push_str(
        "<p>A name that is struck through does not run: its row has no body, or no row declares it.</p>\n",
    );
    for map in grids() {
        let link = |name: &str| insns.contains_key(name).then(|| format!("insn/{name}.html"));
        let _ = write!(body, "<h2>{}</h2>\n{}", escape(&map.title), grid(&map, link));
    }
    site_page("Table86: opcode maps", "", &body)
}

/// Code where it reads as such.
fn code(text: &str) -> String {
    format!("<code>{}</code>", escape(text))
}

/// The page of a mnemonic.
fn insn(name: &str, forms: &[&Form]) -> String {
    let state = state(forms);
    let also = match words::other_names(name) {
        names if names.is_empty() => String::new(),
        names => format!(" <small>also {}</small>", code(&names.join(" "))),
    };
    let mut body = format!(
        "<h1><code>{name}</code>{also}</h1>\n<p class=\"lead\">{}</p>\n<p><span class=\"badge {}\">{}</span></p>\n",
        escape(forms[0].doc),
        class(state),
        state.name()
    );
    body.push_str("<h2>Forms</h2>\n");
    let row = |(index, form): (usize, &&Form)| {
        let place = form.body_place().unwrap_or_default();
        vec![(index + 1).to_string(), code(form.op), code(form.ops), code(&form.row_place()), code(&place)]
    };
    body.push_str(&table(
        &[("", true), ("encoding", false), ("operands", false), ("row", false), ("body", false)],
        &forms.iter().enumerate().map(row).collect::<Vec<_>>(),
    ));
    body.push_str(&encoding(forms));
    body.push_str(&operands(forms));
    body.push_str(&flags(forms));
    body.push_str(&facts(name, forms));
    site_page(&format!("{name}: Table86"), "../", &body)
}

/// What the opcode strings say.
fn encoding(forms: &[&Form]) -> String {
    let rows: Vec<Vec<String>> = words::notation(forms)
        .into_iter()
        .map(|(token, meaning)| vec![code(token), escape(meaning)])
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    format!("<h2>Encoding</h2>\n{}", table(&[("token", false), ("what it is", false)], &rows))
}

fn operands(forms: &[&Form]) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for form in forms {
        for (name, operand) in form.ops.split_whitespace().zip(form.operands) {
            let row = vec![code(name.trim_matches(['(', ')'])), escape(&words::operand(operand))];
            if !rows.contains(&row) {
                rows.push(row);
            }
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    format!("<h2>Operands</h2>\n{}", table(&[("code", false), ("what it is", false)], &rows))
}

fn flags(forms: &[&Form]) -> String {
    let mut html = String::from("<h2>Flags</h2>\n");
    for ((rule, reads), meant) in
        super::text::grouped(forms, |form| (form.flags.rule, words::flags_read(form)))
    {
        let form = forms[meant[0]];
        let doc = form.flag_rule().map_or("", |rule| rule.doc);
        let which = super::text::which(forms, &meant);
        let reads = if reads.is_empty() { String::new() } else { format!(" Reads {reads}.") };
        let _ = write!(
            html,
            "<div class=\"wide\"><table class=\"flags\"><caption>Rule {}{}: {}{}</caption>\n<thead><tr><td></td>",
            code(rule),
            escape(&which),
            escape(doc),
            escape(&reads)
        );
        for (flag, _) in FLAGS {
            let name = words::flag_name(flag);
            let _ = write!(html, "<th scope=\"col\"><abbr title=\"{name}\">{flag}</abbr></th>");
        }
        html.push_str("</tr></thead>\n<tbody>");
        for (case, effects) in words::flags(form) {
            let _ = write!(html, "<tr><th scope=\"row\">{case}</th>");
            for effect in effects {
                let class = match effect {
                    words::Effect { is_undefined: true, .. } => " class=\"undefined\"",
                    words::Effect { what: "kept", .. } => " class=\"kept\"",
                    _ => "",
                };
                let _ = write!(
                    html,
                    "<td{class}>{}{}</td>",
                    effect.what,
                    if effect.is_undefined { "?" } else { "" }
                );
            }
            html.push_str("</tr>\n");
        }
        html.push_str("</tbody></table></div>\n");
    }
    if forms.iter().any(|form| words::changes_flags(form)) {
        let _ = writeln!(html, "<p><small>{FLAGS_LEGEND}</small></p>");
    }
    html
}

/// What else is to be said, each label once for all forms that agree.
fn facts(name: &str, forms: &[&Form]) -> String {
    let mut html = String::from("<h2>Facts</h2>\n<dl class=\"facts\">\n");
    for (label, text, meant) in super::text::gathered(forms, words::facts) {
        let which = super::text::which(forms, &meant);
        let _ = writeln!(html, "<dt>{label}</dt><dd>{}{}</dd>", escape(&text), escape(&which));
    }
    let _ = writeln!(html, "<dt>tests</dt><dd>{}</dd></dl>", code(&words::tests(name)));
    html
}
