//! The part of `[app.NAME]` that says how its containers are run.

use std::collections::BTreeMap;
use std::path::Path;

use bluegreen_core::model::{Mount, NetworkAttachment, RestartPolicy, RunOptions, Secret};

use super::env_file;
use super::reader::{Item, Section};
use crate::size;

const RESTART: [(&str, RestartPolicy); 4] = [
    ("unless-stopped", RestartPolicy::UnlessStopped),
    ("always", RestartPolicy::Always),
    ("on-failure", RestartPolicy::OnFailure),
    ("no", RestartPolicy::No),
];

/// Reads them. Files are looked for beside the configuration, in `base`.
pub(super) fn read(app: &Section<'_>, base: &Path) -> RunOptions {
    let mut options = RunOptions::default();
    options.env = environment(app, base);
    if let Some(item) = app.item("volumes") {
        options.mounts =
            item.one_or_many().iter().filter_map(|item| item.parsed::<Mount>("SOURCE:TARGET[:ro]")).collect();
    }
    networks(app, &mut options);
    options.extra_hosts = app.item("extra_hosts").map(|item| extra_hosts(&item)).unwrap_or_default();
    options.labels = app.item("labels").map(|item| labels(&item)).unwrap_or_default();
    options.restart = app.choice("restart", &RESTART).unwrap_or_default();
    options.memory = app.item("memory").and_then(|item| memory(&item));
    options.milli_cpus = app.item("cpus").and_then(|item| cpus(&item));
    options.user = text(app, "user", "a user, as \"1000:1000\" or \"www-data\"");
    options.read_only = app.flag("read_only").unwrap_or_default();
    options.tmpfs = app.item("tmpfs").map(|item| tmpfs(&item)).unwrap_or_default();
    options.cap_drop = owned(app.texts("cap_drop"));
    options.cap_add = owned(app.texts("cap_add"));
    options.no_new_privileges = app.flag("no_new_privileges").unwrap_or_default();
    options.init = app.flag("init").unwrap_or_default();
    if let Some(log) = app.section("log") {
        options.log_driver = text(&log, "driver", "a logging driver, as \"journald\"");
        let given = log.item("options").map(|item| strings(&item)).unwrap_or_default();
        options.log_options = given.into_iter().map(|(name, value)| (name, Secret::new(value))).collect();
        log.finish();
    }
    options.stop_signal = text(app, "stop_signal", "a signal, as \"SIGTERM\"");
    options.stop_timeout = app.duration("stop_timeout");
    options.command = app.item("command").and_then(|item| words(&item));
    options.entrypoint = app.item("entrypoint").and_then(|item| words(&item));
    options
}

/// `env_file` first, `env` over it: what is written nearer wins.
fn environment(app: &Section<'_>, base: &Path) -> BTreeMap<String, Secret> {
    let mut env = BTreeMap::new();
    let files = app.item("env_file").filter(|_| !app.cx.is_of_one());
    for item in files.iter().flat_map(Item::one_or_many) {
        let Some(file) = item.text("the path of a file") else { continue };
        match env_file::read(&base.join(file)) {
            Ok(entries) => env.extend(entries),
            Err(problem) => item.wrong(problem, "expected a readable file with lines of NAME=value"),
        }
    }
    let Some(table) = app.item("env") else { return env };
    for (name, item) in table.entries("a table of NAME = \"value\"") {
        if !env_file::is_name(name) {
            item.wrong("this is not a valid variable name", "expected one without `=`, spaces and tabs");
        } else if let Some(value) = item.text("a string: write numbers and booleans in quotes") {
            env.insert(name.to_owned(), Secret::new(value));
        }
    }
    env
}

/// `network` may be one name or several; the first one is that of the creation and gets the aliases.
fn networks(app: &Section<'_>, options: &mut RunOptions) {
    let names = app.texts("network").unwrap_or_default();
    let aliases = owned(app.texts("aliases"));
    if let Some(item) = app.item("network") {
        if names.contains(&"host") {
            if names.len() > 1 {
                item.wrong("the host's network cannot be combined with others", "expected \"host\" alone");
            }
            options.host_network = true;
            return;
        }
        for name in &names {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(plain) {
                item.wrong(
                    format_args!("{name:?} is not a network's name"),
                    "expected letters, digits, `-`, `_`, `.`",
                );
            }
        }
    }
    options.networks = names.into_iter().map(NetworkAttachment::new).collect();
    match options.networks.first_mut() {
        Some(first) => first.aliases = aliases,
        None if !aliases.is_empty() => {
            if let Some(item) = app.item("aliases") {
                item.wrong("aliases need a network", "expected `network` as well");
            }
        }
        None => {}
    }
}

fn extra_hosts(item: &Item<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for item in item.one_or_many() {
        let Some(line) = item.text("\"name:address\"") else { continue };
        let sound = line.split_once(':').is_some_and(|(name, address)| {
            !name.is_empty() && (address == "host-gateway" || address.parse::<std::net::IpAddr>().is_ok())
        });
        if sound {
            lines.push(line.to_owned());
        } else {
            item.wrong(
                format_args!("{line:?} is not a valid host entry"),
                "expected \"name:address\", as \"db:10.0.0.5\"",
            );
        }
    }
    lines
}

fn labels(item: &Item<'_>) -> BTreeMap<String, String> {
    let mut labels = strings(item);
    for (name, item) in item.entries("a table of labels") {
        if name == "bluegreen" || name.starts_with("bluegreen.") {
            item.wrong("labels under `bluegreen.` are kept for bluegreen itself", "expected another name");
            labels.remove(name);
        }
    }
    labels
}

fn memory(item: &Item<'_>) -> Option<u64> {
    match size::parse(item.text(size::EXPECTED)?) {
        Ok(bytes) => Some(bytes),
        Err(problem) => {
            item.wrong(problem, "");
            None
        }
    }
}

fn cpus(item: &Item<'_>) -> Option<u32> {
    match size::milli_cpus(item.number()?) {
        Ok(milli) => Some(milli),
        Err(problem) => {
            item.wrong(problem, "");
            None
        }
    }
}

/// `"/run"` or `"/run:size=16m"`.
fn tmpfs(item: &Item<'_>) -> BTreeMap<String, String> {
    let mut mounts = BTreeMap::new();
    for item in item.one_or_many() {
        let Some(text) = item.text("\"/path\" or \"/path:options\"") else { continue };
        let (path, options) = text.split_once(':').unwrap_or((text, ""));
        if path.starts_with('/') {
            mounts.insert(path.to_owned(), options.to_owned());
        } else {
            item.wrong(
                format_args!("{path:?} is not an absolute path"),
                "expected \"/path\" or \"/path:size=16m\"",
            );
        }
    }
    mounts
}

/// A command: an array of words, or one line that is split as a shell would, without running one.
pub(super) fn words(item: &Item<'_>) -> Option<Vec<String>> {
    let words = match item.as_text() {
        Some(line) => shlex::split(line),
        None => Some(owned(Some(item.texts()))),
    };
    match words {
        Some(words) if !words.is_empty() => Some(words),
        Some(_) => {
            item.wrong("an empty command", "expected a program and its arguments");
            None
        }
        None => {
            item.wrong("a quote is not closed", "expected a command line, or an array of words");
            None
        }
    }
}

fn strings(item: &Item<'_>) -> BTreeMap<String, String> {
    let entries = item.entries("a table of strings");
    entries
        .into_iter()
        .filter_map(|(name, item)| Some((name.to_owned(), item.text("a string")?.to_owned())))
        .collect()
}

fn text(section: &Section<'_>, key: &'static str, expected: &str) -> Option<String> {
    section.text(key, expected).map(str::to_owned)
}

fn owned(texts: Option<Vec<&str>>) -> Vec<String> {
    texts.unwrap_or_default().into_iter().map(str::to_owned).collect()
}
