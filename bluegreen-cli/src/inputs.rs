//! Image definitions: what CodeBuild hands to a deployment.
//!
//! Three shapes are told apart by themselves: CodePipeline's array of `{name, imageUri}`, the shell script's
//! single object of the same, and ECS's imageDetail.json with `ImageURI` and no name.

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;

use std::path::{Path, PathBuf};

use bluegreen_core::model::{ImageRef, ParseError};
use serde_json::{Map, Value};

use crate::{bounded, nearest};

/// CodePipeline's own limit.
const MAX_BYTES: u64 = 100 * 1024;

/// The shapes, for whoever wrote another one.
const SHAPES: &str = "[{\"name\": \"web\", \"imageUri\": \"…\"}], one such object, or {\"ImageURI\": \"…\"}";

/// One image, and the name that the file gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// `None` for imageDetail.json, which has no names.
    pub(crate) name: Option<String>,
    pub(crate) image: ImageRef,
}

/// Everything that a file says.
#[derive(Debug, Clone)]
pub(crate) struct Definitions {
    path: PathBuf,
    entries: Vec<Entry>,
}

/// What is wrong with image definitions: the file, and what was expected.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub(crate) struct InputError {
    path: PathBuf,
    problem: Problem,
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("the file does not exist")]
    Missing,
    #[error("this is a directory, expected a file of image definitions")]
    Directory,
    #[error("the file cannot be read: {0}")]
    Unreadable(String),
    #[error("larger than 100 KB, expected image definitions")]
    TooLarge,
    #[error("the file is empty, expected {SHAPES}")]
    Empty,
    #[error("not UTF-8 from byte {0} on, expected JSON in UTF-8")]
    NotText(usize),
    #[error("invalid JSON at line {line}, column {column}: {reason}")]
    Malformed { line: usize, column: usize, reason: String },
    #[error("{found} at the top, expected {SHAPES}")]
    Shape { found: &'static str },
    #[error("the list is empty, expected at least one {{\"name\", \"imageUri\"}}")]
    NoEntries,
    #[error("{place}: {found}, expected an object with \"name\" and \"imageUri\"")]
    EntryShape { place: String, found: &'static str },
    #[error("{place}: \"{field}\" is missing, expected {expected}{}", hint(found.as_deref()))]
    MissingField { place: String, field: &'static str, expected: &'static str, found: Option<String> },
    #[error("{place}: \"{field}\" is {found}, expected {expected}")]
    BadField { place: String, field: &'static str, found: &'static str, expected: &'static str },
    #[error("{place}: \"{field}\": {error}")]
    BadImage { place: String, field: &'static str, error: ParseError },
    #[error("two entries are named {0:?}, expected different names")]
    Twice(String),
    #[error("several entries ({}): choose one with --name", names.join(", "))]
    Ambiguous { names: Vec<String> },
    #[error("no entry is named {wanted:?}; there is {}{}", names.join(", "), did_you_mean(nearest.as_deref()))]
    NotFound { wanted: String, names: Vec<String>, nearest: Option<String> },
    #[error(
        "the only entry is for {found:?} and the application is {app:?}: if that is meant, add --name {found}"
    )]
    OtherApp { found: String, app: String },
    #[error("this is an imageDetail.json, which has no names: leave out --name")]
    Nameless,
}

fn hint(found: Option<&str>) -> String {
    found.map(|found| format!(" (found \"{found}\")")).unwrap_or_default()
}

fn did_you_mean(name: Option<&str>) -> String {
    name.map(|name| format!("; did you mean {name:?}?")).unwrap_or_default()
}

/// Reads a file of any of the three shapes.
///
/// # Errors
///
/// When it is not one of them, with the place and what was expected.
pub(crate) fn read(path: &Path) -> Result<Definitions, InputError> {
    let error = |problem| InputError { path: path.to_owned(), problem };
    let bytes = bytes(path).map_err(error)?;
    let entries = parse(&bytes).map_err(error)?;
    Ok(Definitions { path: path.to_owned(), entries })
}

fn bytes(path: &Path) -> Result<Vec<u8>, Problem> {
    use std::io::ErrorKind;
    bounded::bytes(path, MAX_BYTES).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Problem::Missing,
        ErrorKind::IsADirectory => Problem::Directory,
        ErrorKind::FileTooLarge => Problem::TooLarge,
        _ => Problem::Unreadable(error.to_string()),
    })
}

fn parse(bytes: &[u8]) -> Result<Vec<Entry>, Problem> {
    let text = std::str::from_utf8(bytes).map_err(|error| Problem::NotText(error.valid_up_to()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err(Problem::Empty);
    }
    let value: Value = serde_json::from_str(text).map_err(|error| {
        let reason = error.to_string();
        // serde_json repeats the place at the end of its text.
        let reason = reason.split(" at line ").next().unwrap_or_default().to_owned();
        Problem::Malformed { line: error.line(), column: error.column(), reason }
    })?;
    match &value {
        Value::Array(list) if list.is_empty() => Err(Problem::NoEntries),
        Value::Array(list) => {
            let mut entries: Vec<Entry> = Vec::new();
            for (index, value) in list.iter().enumerate() {
                let place = format!("entry {}", index + 1);
                let Value::Object(object) = value else {
                    return Err(Problem::EntryShape { place, found: kind(value) });
                };
                let entry = named(object, &place)?;
                if entries.iter().any(|earlier| earlier.name == entry.name) {
                    return Err(Problem::Twice(entry.name.unwrap_or_default()));
                }
                entries.push(entry);
            }
            Ok(entries)
        }
        Value::Object(object) if object.contains_key("ImageURI") && !object.contains_key("imageUri") => {
            let image = image(object, "ImageURI", "the object")?;
            Ok(vec![Entry { name: None, image }])
        }
        Value::Object(object) => Ok(vec![named(object, "the object")?]),
        other => Err(Problem::Shape { found: kind(other) }),
    }
}

fn named(object: &Map<String, Value>, place: &str) -> Result<Entry, Problem> {
    let name = field(object, "name", place, "the application's name")?.to_owned();
    Ok(Entry { name: Some(name), image: image(object, "imageUri", place)? })
}

fn image(object: &Map<String, Value>, name: &'static str, place: &str) -> Result<ImageRef, Problem> {
    let text = field(object, name, place, "the image to deploy")?;
    text.parse().map_err(|error| Problem::BadImage { place: place.to_owned(), field: name, error })
}

fn field<'v>(
    object: &'v Map<String, Value>,
    name: &'static str,
    place: &str,
    expected: &'static str,
) -> Result<&'v str, Problem> {
    let place = place.to_owned();
    match object.get(name) {
        None => {
            let found = nearest::name(name, object.keys().map(String::as_str)).map(str::to_owned);
            Err(Problem::MissingField { place, field: name, expected, found })
        }
        Some(Value::String(text)) if text.trim().is_empty() => {
            Err(Problem::BadField { place, field: name, found: "empty", expected })
        }
        // What `jq` prints for a field that is not there, and a template for a variable that is not set.
        Some(Value::String(text)) if text == "null" => {
            Err(Problem::BadField { place, field: name, found: "the word null", expected })
        }
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(Problem::BadField { place, field: name, found: kind(other), expected }),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

impl Definitions {
    /// The entry that is meant: the one of that `name` when the user says one, else the one of the application
    /// when that is known, else the only one.
    ///
    /// # Errors
    ///
    /// When there is none or several. An entry of another name is never taken silently for an application.
    pub(crate) fn select(&self, name: Option<&str>, app: Option<&str>) -> Result<&Entry, InputError> {
        let error = |problem| Err(InputError { path: self.path.clone(), problem });
        let names: Vec<String> = self.entries.iter().filter_map(|entry| entry.name.clone()).collect();
        if names.is_empty() {
            return match self.entries.first() {
                Some(entry) if name.is_none() => Ok(entry),
                Some(_) => error(Problem::Nameless),
                None => error(Problem::NoEntries),
            };
        }
        let Some(wanted) = name.or(app) else {
            let [entry] = &self.entries[..] else { return error(Problem::Ambiguous { names }) };
            return Ok(entry);
        };
        if let Some(entry) = self.entries.iter().find(|entry| entry.name.as_deref() == Some(wanted)) {
            return Ok(entry);
        }
        if let ([found], None) = (&names[..], name) {
            return error(Problem::OtherApp { found: found.clone(), app: wanted.to_owned() });
        }
        let nearest = nearest::name(wanted, names.iter().map(String::as_str)).map(str::to_owned);
        error(Problem::NotFound { wanted: wanted.to_owned(), names, nearest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Vec<Entry>, String> {
        parse(text.as_bytes()).map_err(|problem| problem.to_string())
    }

    fn definitions(text: &str) -> Definitions {
        Definitions { path: "f.json".into(), entries: of(text).unwrap() }
    }

    #[test]
    fn all_three_shapes_and_a_byte_order_mark() {
        let entry = Entry { name: Some("web".into()), image: "r.io/web:1".parse().unwrap() };
        for text in [
            r#"[{"name":"web","imageUri":"r.io/web:1"}]"#,
            r#"{"name":"web","imageUri":"r.io/web:1"}"#,
            "\u{feff}[{\"name\":\"web\",\"imageUri\":\"r.io/web:1\",\"more\":[1]}]\r\n",
        ] {
            assert_eq!(of(text).unwrap(), std::slice::from_ref(&entry), "{text}");
        }
        let detail = of(r#"{"ImageURI":"r.io/web:1","Version":"1.0"}"#).unwrap();
        assert_eq!(detail, [Entry { name: None, ..entry }]);
    }

    #[test]
    fn what_is_wrong_says_where_and_what_was_expected() {
        let mut report = String::new();
        for text in [
            "",
            "  \n",
            "null",
            "42",
            "[]",
            "{}",
            "[1]",
            "[null]",
            "[{\"name\":\"web\",\"imageUri\":\"r.io/web:1\"}",
            "{\"name\":\"web\",\"imageUri\":\"r.io/web:1\"}}",
            r#"[{"name":"web","imageUri":null}]"#,
            r#"[{"name":"web","imageUri":""}]"#,
            r#"[{"name":"web","imageUri":"null"}]"#,
            r#"[{"name":"web","imageUri":"r.io/web:"}]"#,
            r#"[{"name":"web","imageUri":"UPPER/x:1"}]"#,
            r#"[{"name":"web","imageURI":"r.io/web:1"}]"#,
            r#"[{"imageUri":"r.io/web:1"}]"#,
            r#"[{"name":5,"imageUri":"r.io/web:1"}]"#,
            r#"{"name":"","imageUri":"r.io/web:1"}"#,
            r#"{"ImageURI":["r.io/web:1"]}"#,
            r#"[{"name":"a","imageUri":"r.io/a:1"},{"name":"a","imageUri":"r.io/a:2"}]"#,
        ] {
            report.push_str(&format!("{text:?}\n    {}\n", of(text).unwrap_err()));
        }
        insta::assert_snapshot!(report);
    }

    #[test]
    fn an_entry_is_never_taken_for_another_application() {
        let one = definitions(r#"[{"name":"web","imageUri":"r.io/web:1"}]"#);
        let two =
            definitions(r#"[{"name":"web","imageUri":"r.io/web:1"},{"name":"api","imageUri":"r.io/api:1"}]"#);
        let detail = definitions(r#"{"ImageURI":"r.io/web:1"}"#);
        let name = |entry: &Entry| entry.name.clone();
        assert_eq!(name(one.select(None, None).unwrap()), Some("web".into()));
        assert_eq!(name(one.select(Some("web"), Some("shop")).unwrap()), Some("web".into()));
        assert_eq!(name(two.select(None, Some("api")).unwrap()), Some("api".into()));
        assert_eq!(name(two.select(Some("web"), Some("api")).unwrap()), Some("web".into()));
        assert_eq!(name(detail.select(None, Some("api")).unwrap()), None);
        let refused = [
            one.select(None, Some("shop")),
            two.select(None, None),
            two.select(Some("wep"), None),
            two.select(None, Some("shop")),
            detail.select(Some("web"), None),
        ];
        let report: Vec<String> = refused.into_iter().map(|result| result.unwrap_err().to_string()).collect();
        insta::assert_snapshot!(report.join("\n"));
    }

    #[test]
    fn files_that_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let of = |path: &Path| read(path).unwrap_err().problem.to_string();
        assert!(of(dir.path()).contains("a directory"));
        assert!(of(&dir.path().join("none.json")).contains("does not exist"));
        assert!(of(Path::new("/dev/zero")).contains("100 KB"));
        let large = tempfile::NamedTempFile::new().unwrap();
        large.as_file().set_len(MAX_BYTES + 1).unwrap();
        assert!(of(large.path()).contains("100 KB"));
        large.as_file().set_len(MAX_BYTES).unwrap();
        assert!(of(large.path()).contains("invalid JSON"), "NUL bytes are no JSON");
    }
}
