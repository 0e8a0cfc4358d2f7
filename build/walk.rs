//! Walks parsed TOML by hand, so that every unknown key and wrong type in a file is reported, not only the
//! first.

use super::report::{Place, Report, Source};
use std::rc::Rc;
use toml::de::{DeTable, DeValue};

/// A key or value with its place.
#[derive(Clone, Debug)]
pub struct Key {
    pub text: String,
    pub place: Place,
}

/// A value.
#[derive(Clone, Debug)]
pub struct Node {
    pub value: Value,
    pub place: Place,
}

/// The kinds of value that tables use.
#[derive(Clone, Debug)]
pub enum Value {
    Text(String),
    Bool(bool),
    Array(Vec<Node>),
    Table(Vec<(Key, Node)>),
    Other,
}

/// A table.
#[derive(Clone, Debug)]
pub struct Table {
    entries: Vec<(Key, Node)>,
    pub place: Place,
}

impl Table {
    /// Parses a whole file.
    pub fn parse(source: Rc<Source>, report: &mut Report) -> Option<Table> {
        match DeTable::parse(&source.text) {
            Ok(table) => {
                let place = Place { source: source.clone(), span: 0..0 };
                let entries = entries(&source, table.get_ref());
                Some(Table { entries, place })
            }
            Err(error) => {
                let span = error.span().unwrap_or(0..0);
                report.error(&Place { source: source.clone(), span }, error.message().to_owned());
                None
            }
        }
    }

    /// Reports each key that is not in the list.
    pub fn allow(&self, keys: &[&str], report: &mut Report) {
        for (key, _) in &self.entries {
            if !keys.contains(&key.text.as_str()) {
                report
                    .error(&key.place, format!("unknown key `{}`; known here: {}", key.text, keys.join(" ")));
            }
        }
    }

    pub fn entries(&self) -> &[(Key, Node)] {
        &self.entries
    }

    pub fn node(&self, key: &str) -> Option<&Node> {
        self.entries.iter().find(|(k, _)| k.text == key).map(|(_, node)| node)
    }

    pub fn str(&self, key: &str, report: &mut Report) -> Option<String> {
        let node = self.node(key)?;
        let text = node.str().map(str::to_owned);
        if text.is_none() {
            report.error(&node.place, format!("`{key}` is text"));
        }
        text
    }

    pub fn required_str(&self, key: &str, report: &mut Report) -> Option<String> {
        if self.node(key).is_none() {
            report.error(&self.place, format!("`{key}` is missing"));
        }
        self.str(key, report)
    }

    pub fn bool(&self, key: &str, report: &mut Report) -> bool {
        match self.node(key) {
            None => false,
            Some(Node { value: Value::Bool(value), .. }) => *value,
            Some(node) => {
                report.error(&node.place, format!("`{key}` is true or false"));
                false
            }
        }
    }

    pub fn strings(&self, key: &str, report: &mut Report) -> Vec<String> {
        match self.node(key) {
            None => Vec::new(),
            Some(Node { value: Value::Array(items), place }) => {
                let texts: Vec<String> =
                    items.iter().filter_map(|item| item.str().map(str::to_owned)).collect();
                if texts.len() != items.len() {
                    report.error(place, format!("`{key}` is a list of texts"));
                }
                texts
            }
            Some(node) => {
                report.error(&node.place, format!("`{key}` is a list of texts"));
                Vec::new()
            }
        }
    }

    pub fn table(&self, key: &str, report: &mut Report) -> Option<Table> {
        self.node(key)?.table(report)
    }

    /// An array of tables, empty when absent.
    pub fn tables(&self, key: &str, report: &mut Report) -> Vec<Table> {
        match self.node(key) {
            None => Vec::new(),
            Some(Node { value: Value::Array(items), .. }) => {
                items.iter().filter_map(|item| item.table(report)).collect()
            }
            Some(node) => {
                report.error(&node.place, format!("`{key}` is a list of tables"));
                Vec::new()
            }
        }
    }
}

impl Node {
    pub fn str(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn table(&self, report: &mut Report) -> Option<Table> {
        match &self.value {
            Value::Table(entries) => Some(Table { entries: entries.clone(), place: self.place.clone() }),
            _ => {
                report.error(&self.place, "a table is expected here");
                None
            }
        }
    }
}

fn entries(source: &Rc<Source>, table: &DeTable<'_>) -> Vec<(Key, Node)> {
    table
        .iter()
        .map(|(key, value)| {
            let key_place = Place { source: source.clone(), span: key.span() };
            let text = key.get_ref().to_string();
            let place = Place { source: source.clone(), span: value.span() };
            (Key { text, place: key_place }, Node { value: convert(source, value.get_ref()), place })
        })
        .collect()
}

fn convert(source: &Rc<Source>, value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Array(items) => Value::Array(
            items
                .iter()
                .map(|item| Node {
                    value: convert(source, item.get_ref()),
                    place: Place { source: source.clone(), span: item.span() },
                })
                .collect(),
        ),
        DeValue::Table(table) => Value::Table(entries(source, table)),
        _ => Value::Other,
    }
}
