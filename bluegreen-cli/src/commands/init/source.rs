//! The files of other tools that describe applications.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::draft::{Draft, Left};
use super::tree::{self, Node};
use super::{compose, js, kamal, pm2};
use crate::bounded;

/// Where each tool keeps its file; the first that is there counts. Their order is that in which their tools look.
const PLACES: [&[&str]; 3] = [
    &["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"],
    &["config/deploy.yml", "config/deploy.yaml"],
    &[
        "ecosystem.config.js",
        "ecosystem.config.cjs",
        "ecosystem.config.mjs",
        "ecosystem.config.json",
        "ecosystem.json",
        "ecosystem.config.yml",
        "ecosystem.config.yaml",
        "process.json",
        "pm2.json",
    ],
];

/// A file, read.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// As it is named to a person.
    pub(super) name: String,
    pub(super) root: Node,
    /// Its directory, as a whole path.
    pub(super) dir: PathBuf,
    /// What is set in `.env` beside it.
    pub(super) vars: BTreeMap<String, String>,
    /// The files beside it that it may name and that are there.
    pub(super) present: BTreeSet<PathBuf>,
    /// Lines of ERB that were left out.
    pub(super) erb: Vec<usize>,
}

/// What a file describes.
#[derive(Debug, Clone, Default)]
pub(super) struct Described {
    pub(super) drafts: Vec<Draft>,
    pub(super) left: Vec<Left>,
    /// What Compose calls the project of a file, by which its containers are found again.
    pub(super) project: Option<String>,
}

impl Source {
    pub(super) fn at(&self, node: &Node) -> String {
        self.line(node.line)
    }

    pub(super) fn line(&self, line: usize) -> String {
        format!("{}:{line}", self.name)
    }

    /// A path that the file names, as a whole one.
    pub(super) fn path(&self, text: &str) -> PathBuf {
        self.dir.join(text.strip_prefix("./").unwrap_or(text))
    }

    /// What it describes: whose file it is shows by its keys.
    pub(super) fn describe(&self) -> Described {
        if self.root.get("services").is_some() {
            compose::read(self)
        } else if self.root.get("service").is_some() {
            kamal::read(self)
        } else if self.root.get("apps").is_some() || matches!(self.root.value, tree::Value::List(_)) {
            pm2::read(self)
        } else {
            let left = Left::new(
                &self.name,
                "the file",
                "it has none of `services` (Compose), `service` (Kamal), `apps` (PM2)",
                "name another with --from",
            );
            Described { left: vec![left], ..Described::default() }
        }
    }
}

/// The files that are named, or those of `dir` where none is; and what of them could not be read.
pub(super) fn find(dir: &Path, named: &[PathBuf]) -> (Vec<Source>, Vec<Left>) {
    let (mut sources, mut left) = (Vec::new(), Vec::new());
    let found: Vec<PathBuf> = if named.is_empty() {
        let first = |places: &&[&str]| places.iter().map(PathBuf::from).find(|name| dir.join(name).is_file());
        PLACES.iter().filter_map(first).collect()
    } else {
        named.to_vec()
    };
    for name in found {
        match load(dir, &name) {
            Ok(source) => sources.push(source),
            Err(error) => {
                left.push(Left::new(name.display().to_string(), "the file", error, "carry it over by hand"));
            }
        }
    }
    (sources, left)
}

fn load(dir: &Path, name: &Path) -> Result<Source, String> {
    let path = dir.join(name);
    let text = bounded::text(&path, bounded::MIB).map_err(|error| format!("cannot be read: {error}"))?;
    let parent = path.parent().unwrap_or(Path::new(".")).to_owned();
    let parent = std::path::absolute(&parent).unwrap_or(parent);
    let mut source = parse(&name.display().to_string(), &text)?;
    let vars = bounded::text(&parent.join(".env"), bounded::MIB).unwrap_or_default();
    source.vars = variables(&vars);
    source.present = files(&parent);
    source.dir = parent;
    Ok(source)
}

/// A file's text. Where it lies is not known yet.
pub(super) fn parse(name: &str, text: &str) -> Result<Source, String> {
    let is_js = name.ends_with("js");
    let (text, erb) = if is_js { (text.to_owned(), Vec::new()) } else { without_erb(text) };
    let root = if is_js { js::read(&text)? } else { tree::yaml(&text)? };
    Ok(Source {
        name: name.to_owned(),
        root,
        dir: PathBuf::from("/srv/app"),
        vars: BTreeMap::new(),
        present: BTreeSet::new(),
        erb,
    })
}

/// Kamal's files are templates: lines that are code only are taken out, values that are code are kept in quotes.
fn without_erb(text: &str) -> (String, Vec<usize>) {
    let mut lines = Vec::new();
    let mut erb = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        if trimmed.starts_with("<%") && !trimmed.starts_with("<%=") {
            erb.push(index + 1);
            lines.push(String::new());
            continue;
        }
        match (line.find("<%="), line.contains(['"', '\'']) && line.trim_end().ends_with(['"', '\''])) {
            // Not in quotes yet: what is in it may mean something in YAML.
            (Some(at), false) if line.trim_end().ends_with("%>") => {
                let (head, code) = line.split_at(at);
                let start = head.rfind([' ', '\t']).map_or(0, |space| space + 1);
                let value = format!("{}{}", &head[start..], code.trim_end()).replace('\'', "''");
                lines.push(format!("{}'{value}'", &head[..start]));
            }
            _ => lines.push(line.to_owned()),
        }
    }
    (lines.join("\n"), erb)
}

fn variables(text: &str) -> BTreeMap<String, String> {
    let one = |line: &str| {
        let (name, value) = line.trim().trim_start_matches("export ").split_once('=')?;
        let value = value.trim();
        let inner = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
        (!name.starts_with('#')).then(|| (name.trim().to_owned(), inner.unwrap_or(value).to_owned()))
    };
    text.lines().filter_map(one).collect()
}

fn files(dir: &Path) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect()
}
