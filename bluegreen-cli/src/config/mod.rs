//! `bluegreen.toml`: read, checked completely, and turned into the core's own types.
//!
//! Everything that is wrong is reported at once, each with its place and what was expected. Nothing here
//! touches anything but the files that it reads.

mod app;
mod check;
mod covered;
mod diagnostic;
mod env_file;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod health;
mod nginx;
mod options;
mod reader;
mod receipt;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bluegreen_core::model::AppName;
use toml::de::DeTable;

use crate::bounded;

pub(crate) use app::{App, DEFAULT_GREEN, DEFAULT_PORT};
pub(crate) use nginx::{Mode, NginxSettings};
use reader::{ConfigReader, Problem, Section};

/// Where a configuration is looked for when none is named.
pub(crate) const DEFAULT_PATHS: [&str; 2] = ["bluegreen.toml", "/etc/bluegreen/bluegreen.toml"];

/// A whole configuration.
#[derive(Debug, Clone, Default)]
pub(crate) struct Config {
    /// The Engine's socket.
    pub(crate) docker_host: Option<String>,
    /// Where journal and locks are.
    pub(crate) state_dir: Option<PathBuf>,
    /// The applications by name.
    pub(crate) apps: BTreeMap<AppName, App>,
    /// The text that all this was read from.
    pub(crate) text: String,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read at all.
    #[error("the configuration {} cannot be read", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// It is far too large.
    #[error("the configuration {} is larger than 1 MiB", path.display())]
    TooLarge { path: PathBuf },
    /// Something in it is wrong.
    #[error("{}", counted(path, problems.len()))]
    Invalid { path: PathBuf, text: String, problems: Vec<Problem> },
}

impl ConfigError {
    /// The problems with their source lines; empty when there is nothing to show but the error itself.
    pub(crate) fn details(&self, styled: bool) -> String {
        match self {
            Self::Invalid { path, text, problems } => {
                diagnostic::render(&path.display().to_string(), text, problems, styled)
            }
            Self::Unreadable { .. } | Self::TooLarge { .. } => String::new(),
        }
    }
}

fn counted(path: &Path, count: usize) -> String {
    let problems = if count == 1 { "1 problem".to_owned() } else { format!("{count} problems") };
    format!("{problems} in {}; nothing was touched", path.display())
}

/// The file that is meant: the named one, or the first default that exists.
pub(crate) fn locate(named: Option<&Path>) -> Option<PathBuf> {
    match named {
        Some(path) => Some(path.to_owned()),
        None => DEFAULT_PATHS.into_iter().map(PathBuf::from).find(|path| path.exists()),
    }
}

/// Reads a file.
///
/// # Errors
///
/// See [`ConfigError`].
pub(crate) fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = text(path)?;
    match parse(&text, beside(path)) {
        Ok(config) => Ok(Config { text, ..config }),
        Err(problems) => Err(ConfigError::Invalid { path: path.to_owned(), text, problems }),
    }
}

/// Reads of a file what concerns one application, and of that what is needed after it was deployed: no other table and no
/// file that is for a deploy.
///
/// # Errors
///
/// See [`ConfigError`].
pub(crate) fn load_one(path: &Path, app: &AppName) -> Result<Config, ConfigError> {
    one_of(&text(path)?, path, app)
}

/// The same of its text.
///
/// # Errors
///
/// See [`ConfigError`].
pub(crate) fn one_of(text: &str, path: &Path, app: &AppName) -> Result<Config, ConfigError> {
    let cx = ConfigReader::of_one(app);
    let config = parse_into(&cx, text, beside(path));
    let (problems, text) = (cx.into_problems(), text.to_owned());
    if problems.is_empty() {
        return Ok(Config { text, ..config });
    }
    Err(ConfigError::Invalid { path: path.to_owned(), text, problems })
}

/// The applications that a file has tables of, whatever is wrong with them.
pub(crate) fn names(path: &Path) -> Vec<AppName> {
    let text = text(path).unwrap_or_default();
    let (table, _) = DeTable::parse_recoverable(&text);
    let apps = table.get_ref().get("app").and_then(|apps| apps.get_ref().as_table());
    let names = apps.into_iter().flat_map(|apps| apps.keys());
    names.filter_map(|name| AppName::new(name.get_ref().as_ref()).ok()).collect()
}

/// Where a file has the state, whatever else is wrong with it.
pub(crate) fn state_dir(path: &Path) -> Option<PathBuf> {
    let text = text(path).ok()?;
    let (table, _) = DeTable::parse_recoverable(&text);
    let cx = ConfigReader::default();
    Section::root(&cx, &table).item("state_dir").and_then(|item| nginx::absolute(&item))
}

fn text(path: &Path) -> Result<String, ConfigError> {
    bounded::text(path, bounded::MIB).map_err(|source| match source.kind() {
        ErrorKind::FileTooLarge => ConfigError::TooLarge { path: path.to_owned() },
        _ => ConfigError::Unreadable { path: path.to_owned(), source },
    })
}

fn beside(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

/// Reads a text. Files that it names are looked for in `base`.
///
/// # Errors
///
/// Everything that is wrong with it, in its order.
pub(crate) fn parse(text: &str, base: &Path) -> Result<Config, Vec<Problem>> {
    let cx = ConfigReader::default();
    let config = parse_into(&cx, text, base);
    let problems = cx.into_problems();
    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

fn parse_into(cx: &ConfigReader, text: &str, base: &Path) -> Config {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = error.span().unwrap_or(text.len()..text.len());
        let (message, expected) = error.message().split_once(", expected ").unwrap_or((error.message(), ""));
        let expected = if expected.is_empty() { String::new() } else { format!("expected {expected}") };
        cx.report(at, format!("invalid TOML: {message}"), expected);
    }
    if !errors.is_empty() {
        // What could be read of it would only add errors that are none.
        return Config::default();
    }
    read_root(&Section::root(cx, &table), base)
}

fn read_root(root: &Section<'_>, base: &Path) -> Config {
    let mut config = Config {
        state_dir: root.item("state_dir").and_then(|item| nginx::absolute(&item)),
        ..Config::default()
    };
    if let Some(docker) = root.section("docker") {
        config.docker_host = docker.item("host").and_then(|item| docker_host(&item));
        docker.finish();
    }
    let (defaults, _) = nginx::read(root.section("nginx"), &NginxSettings::default());
    let mut apps = Vec::new();
    let entries = root.item("app").map(|item| item.entries("tables, as [app.web]")).unwrap_or_default();
    if entries.is_empty() {
        root.cx.report(root.at.clone(), "no application is configured", "expected a table [app.NAME]");
    }
    // A name that is not there is the caller's to complain about; then there is nothing to read.
    for (name, item) in entries.into_iter().filter(|(name, _)| root.cx.is_about(name)) {
        apps.extend(app::read(name, &item, &defaults, base));
    }
    check::all(root.cx, &apps);
    if !root.cx.is_of_one() {
        root.unknown_keys();
    }
    config.apps = apps.into_iter().map(|(app, _)| (app.spec.name.clone(), app)).collect();
    config
}

fn docker_host(item: &reader::Item<'_>) -> Option<String> {
    let expected = "the Engine's address, as \"unix:///var/run/docker.sock\"";
    let text = item.text(expected)?;
    if ["unix://", "tcp://", "http://"].iter().any(|scheme| text.starts_with(scheme)) {
        return Some(text.to_owned());
    }
    item.wrong(format_args!("{text:?} is not an address of an Engine"), format!("expected {expected}"));
    None
}

#[cfg(test)]
mod tests;
