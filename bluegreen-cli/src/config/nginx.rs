//! `[nginx]` and `[app.NAME.nginx]`: where nginx is and how it is switched.

use std::ops::Range;
use std::path::PathBuf;

use super::reader::{Item, Section};

/// Where nginx runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a container of that name.
    Container(String),
    /// On the host, as this program.
    Binary(String),
}

/// How traffic is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A flag file that nginx looks at for every request.
    Live,
    /// The user's own file is rewritten and nginx reloaded.
    Rewrite,
}

/// nginx, as one application sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NginxSettings {
    /// Where it runs.
    pub(crate) place: Place,
    /// How it is switched.
    pub(crate) mode: Mode,
    /// Where the generated files are, on the host.
    pub(crate) dir: Option<PathBuf>,
    /// The user's own file, on the host.
    pub(crate) conf: Option<PathBuf>,
    /// The loopback port of the internal location that says which colour is served.
    pub(crate) control_port: Option<u16>,
    /// Where a client would ask: what a switch is proven with.
    pub(crate) url: Option<String>,
}

impl Default for NginxSettings {
    fn default() -> Self {
        Self {
            place: Place::Binary("nginx".to_owned()),
            mode: Mode::Live,
            dir: None,
            conf: None,
            control_port: None,
            url: None,
        }
    }
}

/// The words of `mode`.
const MODES: [(&str, Mode); 2] = [("live", Mode::Live), ("rewrite", Mode::Rewrite)];

/// Reads one of the two sections over what it inherits. Also says where it is, for cross checks.
pub(super) fn read(
    section: Option<Section<'_>>,
    inherited: &NginxSettings,
) -> (NginxSettings, Option<Range<usize>>) {
    let mut settings = inherited.clone();
    let Some(section) = section else { return (settings, None) };
    let container = section.item("container");
    let binary = section.item("binary");
    if let (Some(_), Some(binary)) = (&container, &binary) {
        binary.wrong("nginx is either in a container or on the host", "expected only one of `container` and `binary`");
    }
    if let Some(name) = container.and_then(|item| container_name(&item)) {
        settings.place = Place::Container(name);
    } else if let Some(program) = binary.and_then(|item| item.text("a program's name or absolute path")) {
        settings.place = Place::Binary(program.to_owned());
    }
    if let Some(mode) = section.choice("mode", &MODES) {
        settings.mode = mode;
    }
    if let Some(dir) = section.item("dir").and_then(|item| absolute(&item)) {
        settings.dir = Some(dir);
    }
    if let Some(conf) = section.item("conf").and_then(|item| absolute(&item)) {
        settings.conf = Some(conf);
    }
    if let Some(port) = section.port("control_port") {
        settings.control_port = Some(port);
    }
    if let Some(url) = section.item("url").and_then(|item| http_url(&item)) {
        settings.url = Some(url);
    }
    let at = section.at.clone();
    section.finish();
    (settings, Some(at))
}

/// A path that means the same wherever the command is started.
pub(super) fn absolute(item: &Item<'_>) -> Option<PathBuf> {
    let text = item.text("an absolute path")?;
    if text.starts_with('/') && !text.contains('\0') {
        return Some(PathBuf::from(text));
    }
    item.wrong(format_args!("{text:?} is not an absolute path"), "expected a path that starts with `/`");
    None
}

fn container_name(item: &Item<'_>) -> Option<String> {
    use bluegreen_core::model::InstanceName;
    item.parsed::<InstanceName>("the name of a container").map(|name| name.to_string())
}

fn http_url(item: &Item<'_>) -> Option<String> {
    let expected = "a URL like \"http://127.0.0.1/health\"";
    let text = item.text(expected)?;
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let sound = rest.is_some_and(|rest| {
        !rest.is_empty() && !rest.starts_with('/') && !text.contains(|c: char| c.is_whitespace() || c.is_control())
    });
    if sound {
        return Some(text.to_owned());
    }
    item.wrong(format_args!("{text:?} is not a URL"), format!("expected {expected}"));
    None
}
