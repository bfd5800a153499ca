//! One application as some source describes it, on its way to a table of bluegreen.toml.

use std::collections::BTreeSet;

use bluegreen_core::model::AppName;

/// What is known of an application.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Draft {
    pub(super) name: String,
    /// Where that was found, for a comment.
    pub(super) from: String,
    pub(super) image: Option<String>,
    /// The port inside its container.
    pub(super) port: Option<u16>,
    /// The port of this host at which it answers now.
    pub(super) host_port: Option<u16>,
    /// The container that it runs in now.
    pub(super) container: Option<String>,
    /// The names by which nginx may call it.
    pub(super) names: BTreeSet<String>,
    /// The lines of nginx, as `file:line`, that lead to where it runs now, which is none of its two places.
    pub(super) lines: Vec<String>,
    /// Its settings beside ports and names.
    pub(super) settings: Vec<Setting>,
}

/// A line of bluegreen.toml.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// The table below the application's; empty for its own.
    pub(super) table: &'static str,
    pub(super) key: &'static str,
    /// Ready for TOML.
    pub(super) value: String,
    /// Why it is there; empty where that is plain.
    pub(super) why: String,
}

/// Something that could not be carried over.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(super) struct Left {
    /// Where it stands: `file:line`, a container, a directive.
    pub(super) at: String,
    pub(super) what: String,
    pub(super) why: String,
    pub(super) todo: String,
}

impl Left {
    pub(super) fn new(
        at: impl Into<String>,
        what: impl Into<String>,
        why: impl Into<String>,
        todo: impl Into<String>,
    ) -> Self {
        Self { at: at.into(), what: what.into(), why: why.into(), todo: todo.into() }
    }
}

impl std::fmt::Display for Left {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { at, what, why, todo } = self;
        write!(f, "{at}: {what}: {why}")?;
        if todo.is_empty() { Ok(()) } else { write!(f, "; {todo}") }
    }
}

impl Draft {
    pub(super) fn set(&mut self, table: &'static str, key: &'static str, value: String, why: &str) {
        self.settings.retain(|known| (known.table, known.key) != (table, key));
        self.settings.push(Setting { table, key, value, why: why.to_owned() });
    }

    pub(super) fn value(&self, table: &str, key: &str) -> Option<&str> {
        let found = self.settings.iter().find(|known| (known.table, known.key) == (table, key));
        found.map(|setting| setting.value.as_str())
    }
}

/// A text as TOML has it.
pub(super) fn quoted(text: &str) -> String {
    let mut result = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => result.extend(['\\', c]),
            '\n' => result.push_str("\\n"),
            '\t' => result.push_str("\\t"),
            c if c.is_control() => result.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => result.push(c),
        }
    }
    result.push('"');
    result
}

/// An array of texts.
pub(super) fn array<T: AsRef<str>>(texts: &[T]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| quoted(text.as_ref())).collect();
    format!("[{}]", texts.join(", "))
}

/// A table of texts on one line.
pub(super) fn table(pairs: &[(String, String)]) -> String {
    let pairs: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{} = {}", key(name), quoted(value))).collect();
    format!("{{ {} }}", pairs.join(", "))
}

/// A key, in quotes where TOML wants them.
pub(super) fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    if bare { name.to_owned() } else { quoted(name) }
}

/// A name that an application can have, as near to `text` as there is one.
pub(super) fn app_name(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars().take(60) {
        let c = if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
        if c.is_ascii_alphanumeric() || name.ends_with(|last: char| last.is_ascii_alphanumeric()) {
            name.push(c);
        }
    }
    let name = name.trim_end_matches(['-', '_', '.']);
    if AppName::new(name).is_ok() { name.to_owned() } else { "web".to_owned() }
}

/// `90`, `1m30s`, `1500ms` in whole seconds, rounded up; what has no unit is in `unit`.
pub(super) fn seconds(text: &str, unit: &str) -> Option<u64> {
    let text = text.trim();
    let text = if text.parse::<f64>().is_ok() { format!("{text}{unit}") } else { text.to_owned() };
    u64::try_from(crate::duration::parse(&text).ok()?.as_millis().div_ceil(1000)).ok()
}

/// `512M`, `1.5gb`, `200MB`, `1073741824` as our sizes have it.
pub(super) fn size(text: &str) -> Option<String> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let factor: u64 = match unit.trim().trim_end_matches("ib").trim_end_matches('b') {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => return None,
    };
    // Sizes that people write have at most three places.
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let thousandths: u64 = format!("{part:0<3}").get(..3)?.parse().ok()?;
    let bytes = whole.parse::<u64>().ok()?.checked_mul(factor)? + thousandths * factor / 1000;
    Some(if bytes.is_multiple_of(1 << 20) {
        format!("{}m", bytes >> 20)
    } else {
        format!("{}m", (bytes >> 20) + 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_names_and_sizes() {
        assert_eq!(quoted("a\"b\\\n\u{1}"), "\"a\\\"b\\\\\\n\\u0001\"");
        for (text, name) in
            [("my app", "my-app"), ("@scope/api", "scope-api"), ("a--b_", "a-b"), ("é", "web")]
        {
            assert_eq!(app_name(text), name);
        }
        for (text, expected) in
            [("512M", "512m"), ("1.5gb", "1536m"), ("200MB", "200m"), ("1073741824", "1024m")]
        {
            assert_eq!(size(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(size("lots"), None);
        assert_eq!(
            (seconds("1m30s", "s"), seconds("5000", "ms"), seconds("1500ms", "s")),
            (Some(90), Some(5), Some(2))
        );
    }
}
