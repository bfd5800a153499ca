//! What holds for every configuration. Run by `fuzz/` and by `tests/fuzz_corpus.rs`.

use std::path::Path;

use bluegreen_core::model::Color;
use toml::{Table, Value};

use super::{Config, ConfigError, diagnostic, env_file, parse};

/// What the corpus has where a secret is.
const SECRET: &str = "hunter2";

pub(crate) fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    environment(text);
    // A file that it names would be read, and this machine's are none of the input's.
    if text.contains("env_file") && (text.contains('/') || text.contains('\\')) {
        return;
    }
    match parse(text, Path::new("/nowhere")) {
        Ok(config) => sound(&config),
        Err(problems) => {
            assert!(!problems.is_empty());
            assert!(
                problems.iter().all(|problem| problem.at.start <= text.len() && !problem.message.is_empty())
            );
            let count = problems.len().min(diagnostic::SHOWN);
            let error = ConfigError::Invalid { path: "f.toml".into(), text: text.to_owned(), problems };
            let shown = error.details(false);
            drop(error.details(true));
            assert_eq!(places(&shown, text), count, "not every problem has its line:\n{shown}");
            assert!(!is_covered(text) || !shown.contains(SECRET), "a secret is shown:\n{shown}");
        }
    }
}

fn sound(config: &Config) {
    assert!(!config.apps.is_empty());
    for (name, app) in &config.apps {
        assert_eq!(*name, app.spec.name);
        let [blue, green] = Color::ALL.map(|color| app.spec.slots.of(color));
        assert!(blue.name != green.name && blue.endpoint != green.endpoint, "{name} has one place");
        if let Some(image) = &app.image {
            bluegreen_core::fuzzing::image_is_sound(image);
        }
        drop(app.nginx.site(&app.spec.slots));
        assert!(!format!("{config:?}").contains(SECRET) || app.spec.options.env.is_empty());
    }
}

/// How many problems are shown at a line that the text has.
fn places(shown: &str, text: &str) -> usize {
    let lines = text.lines().count().max(1) + 1;
    let place = |line: &str| {
        let (line, column) = line.trim_start().strip_prefix("--> f.toml:")?.split_once(':')?;
        let (line, column) = (line.parse::<usize>().ok()?, column.parse::<usize>().ok()?);
        Some((1..=lines).contains(&line) && column >= 1)
    };
    shown.lines().filter_map(place).filter(|is_there| *is_there).count()
}

/// Whether the secret stands only where secrets do.
fn is_covered(text: &str) -> bool {
    let Ok(table) = text.parse::<Table>() else { return false };
    let apps = table.get("app").and_then(Value::as_table).into_iter().flatten();
    let secrets = apps.flat_map(|(_, app)| {
        [app.get("env"), app.get("log").and_then(|log| log.get("options"))].into_iter().flatten()
    });
    let hidden: usize = secrets.map(count).sum();
    hidden > 0 && hidden == text.matches(SECRET).count()
}

fn count(value: &Value) -> usize {
    match value {
        Value::String(text) => text.matches(SECRET).count(),
        Value::Array(list) => list.iter().map(count).sum(),
        Value::Table(table) => table.values().map(count).sum(),
        _ => 0,
    }
}

/// A file in Docker's format: what is wrong is said by its line and without a value.
fn environment(text: &str) {
    match env_file::parse(text, Path::new("f.env"), |_| None) {
        Ok(entries) => {
            assert!(entries.keys().all(|name| env_file::is_name(name)));
            assert!(
                !format!("{entries:?}").contains(SECRET) || entries.keys().any(|name| name.contains(SECRET))
            );
        }
        Err(problem) => {
            let number = problem.strip_prefix("f.env line ").and_then(|rest| rest.split(' ').next());
            let number = number.and_then(|number| number.parse::<usize>().ok());
            assert!(
                number.is_some_and(|number| (1..=text.split('\n').count()).contains(&number)),
                "{problem}"
            );
        }
    }
}
