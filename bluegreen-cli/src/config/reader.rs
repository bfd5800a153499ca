//! Reads TOML tables key by key, and keeps every complaint with its place.
//!
//! The schema is the code that asks: a key that nobody asked for is unknown, and what was asked for is what can
//! be suggested instead. Nothing here stops at the first error.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::AddrParseError;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;
use std::time::Duration;

use bluegreen_core::model::{AppName, ParseError};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::duration::{self, DurationError};
use crate::nearest;

/// Why a text is no value of a type: what is wrong with it, and what would have been right, which belongs under the
/// caret.
pub(crate) trait Refusal {
    fn problem(&self) -> String;
    fn expected(&self) -> Option<&str>;
}

impl Refusal for ParseError {
    fn problem(&self) -> String {
        format!("{:?} is not a valid {}", self.value(), self.what())
    }

    fn expected(&self) -> Option<&str> {
        Some(ParseError::expected(self))
    }
}

impl Refusal for AddrParseError {
    fn problem(&self) -> String {
        self.to_string()
    }

    fn expected(&self) -> Option<&str> {
        None
    }
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The bytes of the source that are meant.
    pub(crate) at: Range<usize>,
    /// What is wrong.
    pub(crate) message: String,
    /// What was expected there; may be empty.
    pub(crate) expected: String,
    /// What to do; may be empty.
    pub(crate) help: String,
}

/// Collects the problems of one file and the keys that were asked for.
#[derive(Debug, Default)]
pub(crate) struct ConfigReader {
    problems: RefCell<Vec<Problem>>,
    known: RefCell<BTreeSet<String>>,
    /// The application that is read, where it is not all of them, for the verbs that come after its deploy.
    one: Option<String>,
}

impl ConfigReader {
    /// For what concerns one application, and only what is needed after it was deployed.
    pub(crate) fn of_one(app: &AppName) -> Self {
        Self { one: Some(app.to_string()), ..Self::default() }
    }

    /// Whether it is about one application only.
    pub(crate) const fn is_of_one(&self) -> bool {
        self.one.is_some()
    }

    /// Whether the table of that application is read.
    pub(crate) fn is_about(&self, app: &str) -> bool {
        self.one.as_deref().is_none_or(|one| one == app)
    }

    /// Reads what only a deploy needs: what is wrong there is nobody's matter else.
    pub(crate) fn for_a_deploy<T>(&self, read: impl FnOnce() -> T) -> T {
        let before = self.problems.borrow().len();
        let value = read();
        if self.is_of_one() {
            self.problems.borrow_mut().truncate(before);
        }
        value
    }

    pub(crate) fn report(&self, at: Range<usize>, message: impl Into<String>, expected: impl Into<String>) {
        self.report_with(at, message, expected, "");
    }

    pub(crate) fn report_with(
        &self,
        at: Range<usize>,
        message: impl Into<String>,
        expected: impl Into<String>,
        help: impl Into<String>,
    ) {
        let problem = Problem { at, message: message.into(), expected: expected.into(), help: help.into() };
        self.problems.borrow_mut().push(problem);
    }

    /// All problems in the order of the file.
    pub(crate) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| (problem.at.start, problem.at.end));
        problems.dedup();
        problems
    }

    /// Every key that was asked for, as `app.*.port`.
    #[cfg(test)]
    pub(crate) fn known(&self) -> BTreeSet<String> {
        self.known.borrow().clone()
    }
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(crate) struct Item<'a> {
    cx: &'a ConfigReader,
    /// The key as the user knows it: `app.web.port`.
    pub(crate) path: String,
    schema: String,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Item<'a> {
    pub(crate) fn span(&self) -> Range<usize> {
        self.value.span()
    }

    /// Complains about this value.
    pub(crate) fn wrong(&self, message: impl Display, expected: impl Into<String>) {
        self.cx.report(self.span(), format!("`{}`: {message}", self.path), expected);
    }

    fn wrong_type<T>(&self, expected: &str) -> Option<T> {
        self.wrong(format_args!("{} is not expected here", self.kind()), format!("expected {expected}"));
        None
    }

    /// What kind of value it is, with its article.
    fn kind(&self) -> &'static str {
        match self.value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        }
    }

    pub(crate) fn as_text(&self) -> Option<&'a str> {
        self.value.get_ref().as_str()
    }

    pub(crate) fn as_flag(&self) -> Option<bool> {
        self.value.get_ref().as_bool()
    }

    pub(crate) fn text(&self, expected: &str) -> Option<&'a str> {
        match self.as_text() {
            Some(text) => Some(text),
            None => self.wrong_type(expected),
        }
    }

    pub(crate) fn flag(&self) -> Option<bool> {
        self.as_flag().or_else(|| self.wrong_type("true or false"))
    }

    /// An integer within `range`.
    pub(crate) fn whole<T: TryFrom<i64>>(&self, range: RangeInclusive<i64>) -> Option<T> {
        let expected = match (range.start(), range.end()) {
            (low, &i64::MAX) => format!("a whole number of at least {low}"),
            (low, high) => format!("a whole number from {low} to {high}"),
        };
        let Some(integer) = self.value.get_ref().as_integer() else { return self.wrong_type(&expected) };
        let value = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let value = value.filter(|value| range.contains(value)).and_then(|value| T::try_from(value).ok());
        if value.is_none() {
            self.wrong("out of range", format!("expected {expected}"));
        }
        value
    }

    pub(crate) fn number(&self) -> Option<f64> {
        let value = self.value.get_ref();
        let text = value.as_float().map(toml::de::DeFloat::as_str);
        let text = text.or_else(|| value.as_integer().map(toml::de::DeInteger::as_str));
        match text.and_then(|text| text.parse().ok()) {
            Some(number) => Some(number),
            None => self.wrong_type("a number"),
        }
    }

    pub(crate) fn parsed<T: FromStr<Err: Refusal>>(&self, expected: &str) -> Option<T> {
        let parsed = self.text(expected)?.parse::<T>();
        parsed
            .map_err(|error| {
                let expected = error.expected().unwrap_or(expected);
                self.wrong(error.problem(), format!("expected {expected}"));
            })
            .ok()
    }

    pub(crate) fn duration(&self) -> Option<Duration> {
        if let Some(integer) = self.value.get_ref().as_integer() {
            let number = integer.as_str();
            self.wrong("a number has no unit", format!("expected \"{number}s\" or \"{number}ms\""));
            return None;
        }
        duration::parse(self.text(duration::EXPECTED)?)
            .map_err(|DurationError { problem, instead }| {
                self.wrong(problem, instead.unwrap_or_else(|| format!("expected {}", duration::EXPECTED)));
            })
            .ok()
    }

    /// One of a few words.
    pub(crate) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let expected = alternatives(&names);
        let word = self.text(&expected)?;
        let found = choices.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
        if found.is_none() {
            self.cx.report_with(
                self.span(),
                format!("`{}`: unknown value {word:?}", self.path),
                format!("expected {expected}"),
                did_you_mean(word, &names, '"'),
            );
        }
        found
    }

    /// One value, or an array of them.
    pub(crate) fn one_or_many(&self) -> Vec<Item<'a>> {
        match self.value.get_ref() {
            DeValue::Array(array) => array
                .iter()
                .enumerate()
                .map(|(index, value)| Item {
                    cx: self.cx,
                    path: format!("{}[{index}]", self.path),
                    schema: self.schema.clone(),
                    value,
                })
                .collect(),
            _ => vec![self.clone()],
        }
    }

    /// A string, or an array of strings.
    pub(crate) fn texts(&self) -> Vec<&'a str> {
        self.one_or_many().iter().filter_map(|item| item.text("a string or an array of strings")).collect()
    }

    pub(crate) fn is_table(&self) -> bool {
        self.value.get_ref().is_table()
    }

    pub(crate) fn table(&self, expected: &str) -> Option<Section<'a>> {
        let Some(table) = self.value.get_ref().as_table() else { return self.wrong_type(expected) };
        Some(Section {
            cx: self.cx,
            table,
            at: self.span(),
            path: self.path.clone(),
            schema: self.schema.clone(),
            asked: RefCell::default(),
        })
    }

    /// The entries of a table whose keys are the user's own.
    pub(crate) fn entries(&self, expected: &str) -> Vec<(&'a str, Item<'a>)> {
        let Some(section) = self.table(expected) else { return Vec::new() };
        section.entries()
    }
}

/// A table whose keys are ours.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    pub(crate) cx: &'a ConfigReader,
    table: &'a DeTable<'a>,
    /// Where the table is: its header, its key or its braces.
    pub(crate) at: Range<usize>,
    pub(crate) path: String,
    schema: String,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    /// The whole document.
    pub(crate) fn root(cx: &'a ConfigReader, table: &'a Spanned<DeTable<'a>>) -> Self {
        let (path, schema) = (String::new(), String::new());
        Self { cx, table: table.get_ref(), at: 0..0, path, schema, asked: RefCell::default() }
    }

    /// The value of a key, which is known from now on.
    pub(crate) fn item(&self, key: &'static str) -> Option<Item<'a>> {
        self.asked.borrow_mut().push(key);
        let schema = join(&self.schema, key);
        self.cx.known.borrow_mut().insert(schema.clone());
        let value = self.table.get(key)?;
        Some(Item { cx: self.cx, path: join(&self.path, key), schema, value })
    }

    pub(crate) fn parsed<T: FromStr<Err: Refusal>>(&self, key: &'static str, expected: &str) -> Option<T> {
        self.item(key)?.parsed(expected)
    }

    pub(crate) fn text(&self, key: &'static str, expected: &str) -> Option<&'a str> {
        self.item(key)?.text(expected)
    }

    pub(crate) fn flag(&self, key: &'static str) -> Option<bool> {
        self.item(key)?.flag()
    }

    pub(crate) fn duration(&self, key: &'static str) -> Option<Duration> {
        self.item(key)?.duration()
    }

    pub(crate) fn port(&self, key: &'static str) -> Option<u16> {
        self.item(key)?.whole(1..=65_535)
    }

    pub(crate) fn choice<T: Copy>(&self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        self.item(key)?.choice(choices)
    }

    pub(crate) fn texts(&self, key: &'static str) -> Option<Vec<&'a str>> {
        Some(self.item(key)?.texts())
    }

    pub(crate) fn section(&self, key: &'static str) -> Option<Section<'a>> {
        self.item(key)?.table("a table")
    }

    /// The entries, when the keys are the user's own.
    pub(crate) fn entries(&self) -> Vec<(&'a str, Item<'a>)> {
        let schema = join(&self.schema, "*");
        self.table
            .iter()
            .map(|(key, value)| {
                let key: &'a str = key.get_ref();
                let path = join(&self.path, key);
                (key, Item { cx: self.cx, path, schema: schema.clone(), value })
            })
            .collect()
    }

    /// Complains about the keys that nobody asked for, and about none of them twice.
    pub(crate) fn finish(self) {
        self.unknown_keys();
    }

    /// The same for a table that is still needed.
    pub(crate) fn unknown_keys(&self) {
        let asked = self.asked.borrow().clone();
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if asked.contains(&name) {
                continue;
            }
            let place =
                if self.path.is_empty() { "at the top".to_owned() } else { format!("in `{}`", self.path) };
            let mut known = asked.clone();
            known.sort_unstable();
            known.dedup();
            let help = match did_you_mean(name, &known, '`') {
                help if help.is_empty() => format!("known {place}: {}", known.join(", ")),
                help => help,
            };
            self.cx.report_with(key.span(), format!("unknown key `{name}` {place}"), "not known here", help);
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn did_you_mean(word: &str, names: &[&str], quote: char) -> String {
    nearest::name(word, names.iter().copied())
        .map(|name| format!("did you mean {quote}{name}{quote}?"))
        .unwrap_or_default()
}

/// `"a", "b" or "c"`.
fn alternatives(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}
