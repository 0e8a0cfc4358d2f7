//! The pages of `table86 isa --html` and `table86 audit --html`: whole, linked, and with nothing from elsewhere. In a browser, too,
//! if there is one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use table86::isa::FORMS;

/// Elements without an end tag.
const VOID: [&str; 4] = ["meta", "link", "input", "br"];

/// A tag: name, attributes, whether it ends an element.
struct Tag {
    name: String,
    attributes: BTreeMap<String, String>,
    is_end: bool,
}

/// The tags of a page, scripts and styles skipped; says what is not well-formed.
fn tags(html: &str) -> Result<Vec<Tag>, String> {
    let mut tags = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let end = rest.find('>').ok_or("a tag without an end")?;
        let (inside, behind) = (&rest[..end], &rest[end + 1..]);
        rest = behind;
        if inside.starts_with('!') {
            continue;
        }
        let (is_end, inside) = inside.strip_prefix('/').map_or((false, inside), |inside| (true, inside));
        let (name, list) = inside.split_once(' ').unwrap_or((inside, ""));
        let tag = Tag { name: name.to_owned(), attributes: attributes(list)?, is_end };
        if matches!(name, "script" | "style") && !is_end {
            let close = format!("</{name}>");
            rest = &rest[rest.find(&close).ok_or("a script or style without an end")?..];
        }
        tags.push(tag);
    }
    Ok(tags)
}

fn attributes(list: &str) -> Result<BTreeMap<String, String>, String> {
    let mut found = BTreeMap::new();
    let mut rest = list.trim();
    while !rest.is_empty() {
        let end = rest.find(['=', ' ']).unwrap_or(rest.len());
        let name = rest[..end].to_owned();
        rest = &rest[end..];
        let mut value = String::new();
        if let Some(quoted) = rest.strip_prefix("=\"") {
            let end = quoted.find('"').ok_or_else(|| format!("{name}: a value without an end"))?;
            value = quoted[..end].to_owned();
            rest = &quoted[end + 1..];
        }
        if found.insert(name.clone(), value).is_some() {
            return Err(format!("{name} twice"));
        }
        rest = rest.trim_start();
    }
    Ok(found)
}

/// What is wrong with a page, or where its links lead.
fn check(html: &str) -> Result<Vec<String>, String> {
    if !html.starts_with("<!DOCTYPE html>\n<html lang=\"en\">") {
        return Err("no head as a page has it".to_owned());
    }
    let (mut open, mut ids, mut links, mut heads) = (Vec::new(), BTreeSet::new(), Vec::new(), Vec::new());
    for tag in tags(html)? {
        if tag.is_end {
            let last = open.pop();
            if last.as_deref() != Some(tag.name.as_str()) {
                return Err(format!("</{}> closes {last:?}", tag.name));
            }
            continue;
        }
        for name in ["href", "src"] {
            links.extend(tag.attributes.get(name).cloned());
        }
        if let Some(id) = tag.attributes.get("id")
            && !ids.insert(id.clone())
        {
            return Err(format!("id {id} twice"));
        }
        if tag.name == "input" {
            let label = format!("<label for=\"{}\">", tag.attributes.get("id").map_or("", String::as_str));
            if !html.contains(&label) {
                return Err("an input without a label".to_owned());
            }
        }
        if tag.name.starts_with('h') && tag.name.len() == 2 {
            heads.push(tag.name.clone());
        }
        if !VOID.contains(&tag.name.as_str()) {
            open.push(tag.name);
        }
    }
    if !open.is_empty() {
        return Err(format!("{open:?} are not closed"));
    }
    if heads.first().map(String::as_str) != Some("h1")
        || heads.iter().filter(|head| *head == "h1").count() != 1
    {
        return Err("not exactly one first heading".to_owned());
    }
    Ok(links)
}

fn table86(arguments: &[&str]) {
    let status = Command::new(env!("CARGO_BIN_EXE_table86"))
        .args(arguments)
        .stdout(std::process::Stdio::null())
        .status();
    assert!(status.expect("table86 starts").success(), "{arguments:?}");
}

fn directory(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("table86-pages-{}-{name}", std::process::id()))
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all
}

#[test]
fn pages_of_the_tables_are_well_formed_and_linked() {
    let site = directory("site");
    table86(&["isa", "--html", site.to_str().expect("UTF-8")]);
    let mut linked = BTreeSet::from([site.join("index.html")]);
    let mut problems = Vec::new();
    let pages = files(&site);
    for path in pages.iter().filter(|path| path.extension().is_some_and(|extension| extension == "html")) {
        let html = std::fs::read_to_string(path).expect("a page");
        let links = check(&html).unwrap_or_else(|problem| {
            problems.push(format!("{}: {problem}", path.display()));
            Vec::new()
        });
        for link in links {
            let target = path.parent().expect("a directory").join(&link);
            match target.canonicalize() {
                Ok(target) => {
                    linked.insert(site.canonicalize().expect("it is there").join(target));
                }
                Err(_) => problems.push(format!("{}: {link} leads nowhere", path.display())),
            }
        }
    }
    let names: BTreeSet<&str> = FORMS.iter().map(|form| form.mnemonic).collect();
    for name in names {
        let page = site.join(format!("insn/{name}.html"));
        match page.canonicalize() {
            Ok(page) if !linked.contains(&page) => problems.push(format!("nothing leads to {name}")),
            Ok(_) => {}
            Err(_) => problems.push(format!("no page for {name}")),
        }
    }
    in_a_browser(&site, &mut problems);
    let _ = std::fs::remove_dir_all(&site);
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// The search of the index hides what does not have the word.
fn in_a_browser(site: &Path, problems: &mut Vec<String>) {
    let url = format!("file://{}/index.html?q=0f%20a4", site.display());
    let arguments =
        ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom", &url];
    let output = ["chromium", "chromium-browser", "google-chrome"]
        .iter()
        .find_map(|name| Command::new(name).args(arguments).output().ok());
    let Some(output) = output else {
        println!("NOT CHECKED: the search of the pages of `isa --html`; there is no Chromium");
        return;
    };
    let html = String::from_utf8_lossy(&output.stdout);
    if !html.contains(&format!(
        ">1 of {}</output>",
        FORMS.iter().map(|form| form.mnemonic).collect::<BTreeSet<_>>().len()
    )) {
        problems.push("the search for `0f a4` does not find SHLD alone".to_owned());
    }
}

#[test]
fn pages_of_the_audit_are_well_formed_and_stand_alone() {
    let page = directory("audit.html");
    let path = page.to_str().expect("UTF-8");
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/hello.hex");
    for arguments in [&["audit", "--html", path][..], &["audit", "--html", path, program]] {
        table86(arguments);
        let html = std::fs::read_to_string(&page).expect("a page");
        assert_eq!(check(&html), Ok(Vec::new()), "{arguments:?}");
    }
    let _ = std::fs::remove_file(&page);
}
