//! `[nginx]` and `[app.NAME.nginx]`: where nginx is and how it is switched.

use std::num::NonZeroU16;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use bluegreen_core::adapter::nginx::{
    ChosenLine, HostNginx, Mode as CoreMode, NginxInstance, Protocol, PublicUrl, Site,
};
use bluegreen_core::model::{InstanceName, Slots};

use super::reader::{Item, Section};

/// How traffic is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A flag file that nginx looks at for every request.
    Live,
    /// The user's own file is rewritten and nginx reloaded.
    Rewrite,
}

/// nginx, as one application sees it; what is not said is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NginxSettings {
    /// Where it runs.
    pub(crate) place: NginxInstance,
    /// How it is switched.
    pub(crate) mode: Mode,
    /// Where the generated files are, on the host.
    pub(crate) dir: Option<PathBuf>,
    /// The user's own file, on the host.
    pub(crate) conf: Option<PathBuf>,
    /// The port on which nginx answers us and nobody else.
    pub(crate) control_port: u16,
    /// What a switch is proven with.
    pub(crate) url: Option<PublicUrl>,
    /// What nginx speaks to the application.
    pub(crate) protocol: Protocol,
    /// Idle connections that nginx keeps to each colour.
    pub(crate) keepalive: Option<NonZeroU16>,
    /// Lines that an install takes over because the command line says so.
    pub(crate) lines: Vec<ChosenLine>,
    /// How long a run of its command, a reload and a request may take.
    pub(crate) timeouts: [Option<Duration>; 3],
}

impl Default for NginxSettings {
    fn default() -> Self {
        Self {
            place: NginxInstance::host(),
            mode: Mode::Live,
            dir: None,
            conf: None,
            control_port: CoreMode::CONTROL_PORT,
            url: None,
            protocol: Protocol::Http,
            keepalive: None,
            lines: Vec::new(),
            timeouts: [None; 3],
        }
    }
}

/// Where Debian, Ubuntu, Amazon Linux and the official image have what is included inside `http { }`.
const HOST_DIR: &str = "/etc/nginx/conf.d";

impl NginxSettings {
    /// Whether nginx runs in a container.
    pub(crate) fn in_container(&self) -> bool {
        matches!(self.place, NginxInstance::Container { .. })
    }

    /// The adapter's own settings. The cross checks have made sure that the files are named.
    pub(crate) fn site(&self, slots: &Slots) -> Site {
        let mode = match self.mode {
            Mode::Live => CoreMode::Live {
                dir: self.dir.clone().unwrap_or_else(|| PathBuf::from(HOST_DIR)),
                control_port: self.control_port,
            },
            Mode::Rewrite => CoreMode::rewrite(self.conf.clone().unwrap_or_default()),
        };
        let mut site = Site::new(self.place.clone(), mode, slots.clone());
        site.public.clone_from(&self.url);
        site.protocol = self.protocol;
        site.keepalive = self.keepalive;
        site.lines.clone_from(&self.lines);
        let [command, reload, request] = self.timeouts;
        site.command_timeout = command.unwrap_or(site.command_timeout);
        site.reload_timeout = reload.unwrap_or(site.reload_timeout);
        site.request_timeout = request.unwrap_or(site.request_timeout);
        site
    }
}

/// The words of `mode`.
const MODES: [(&str, Mode); 2] = [("live", Mode::Live), ("rewrite", Mode::Rewrite)];

/// The words of `protocol`.
const PROTOCOLS: [(&str, Protocol); 2] = [("http", Protocol::Http), ("grpc", Protocol::Grpc)];

/// Reads one of the two sections over what it inherits. Also says where it is, for cross checks.
pub(super) fn read(
    section: Option<Section<'_>>,
    inherited: &NginxSettings,
) -> (NginxSettings, Option<Range<usize>>) {
    let mut settings = inherited.clone();
    let Some(section) = section else { return (settings, None) };
    place(&section, &mut settings);
    settings.mode = section.choice("mode", &MODES).unwrap_or(settings.mode);
    for (key, path) in [("dir", &mut settings.dir), ("conf", &mut settings.conf)] {
        if let Some(given) = section.item(key).and_then(|item| absolute(&item)) {
            *path = Some(given);
        }
    }
    settings.control_port = section.port("control_port").unwrap_or(settings.control_port);
    url(&section, &mut settings);
    settings.protocol = section.choice("protocol", &PROTOCOLS).unwrap_or(settings.protocol);
    if let Some(keepalive) = section.item("keepalive").and_then(|item| item.whole(0..=10_000)) {
        settings.keepalive = NonZeroU16::new(keepalive);
    }
    for (index, key) in ["command_timeout", "reload_timeout", "request_timeout"].into_iter().enumerate() {
        let Some(item) = section.item(key) else { continue };
        let Some(timeout) = item.duration() else { continue };
        if timeout.is_zero() {
            item.wrong("zero leaves no time for a call", "expected more than \"0s\"");
        }
        settings.timeouts[index] = Some(timeout);
    }
    let at = section.at.clone();
    section.finish();
    (settings, Some(at))
}

/// In a container, or on this host and then perhaps with files of its own.
fn place(section: &Section<'_>, settings: &mut NginxSettings) {
    let container = section.item("container");
    let on_host = ["binary", "main_config", "prefix", "pid_file"].map(|key| section.item(key));
    if container.is_some() {
        for item in on_host.iter().flatten() {
            item.wrong("this is for nginx on the host", "expected without `container`");
        }
    }
    if let Some(name) = container.and_then(|item| item.parsed::<InstanceName>("the name of a container")) {
        settings.place = NginxInstance::Container { name };
        return;
    }
    let [binary, main_config, prefix, pid_file] = on_host;
    if binary.is_none() && main_config.is_none() && prefix.is_none() && pid_file.is_none() {
        return;
    }
    let mut host = match &settings.place {
        NginxInstance::Host(host) => host.clone(),
        _ => HostNginx::default(),
    };
    if let Some(binary) = binary.and_then(|item| item.text("a program's name or absolute path")) {
        host.binary = PathBuf::from(binary);
    }
    host.config = main_config.and_then(|item| absolute(&item)).or(host.config);
    host.prefix = prefix.and_then(|item| absolute(&item)).or(host.prefix);
    host.pid_file = pid_file.and_then(|item| absolute(&item)).or(host.pid_file);
    settings.place = NginxInstance::Host(host);
}

fn url(section: &Section<'_>, settings: &mut NginxSettings) {
    if let Some(url) = section.parsed("url", "a URL like \"http://127.0.0.1/health\"") {
        settings.url = Some(url);
    }
    let Some(item) = section.item("host") else { return };
    let Some(host) = item.text("a host name, as clients send it") else { return };
    match settings.url.take().map(|url| url.with_host(host)) {
        Some(Ok(url)) => settings.url = Some(url),
        Some(Err(error)) => {
            item.wrong(
                format_args!("{host:?} is no `Host` header"),
                format!("expected {}", error.expected()),
            );
        }
        None => item.wrong("this has no effect without `url`", "expected `url` as well"),
    }
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
