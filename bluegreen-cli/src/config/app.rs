//! `[app.NAME]`: one application, its two places and everything else the core wants to know.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::path::Path;

use bluegreen_core::model::{
    AppName, AppSpec, Check, Color, Endpoint, ImageRef, InstanceName, NetworkAttachment, Publish,
    RestartPolicy, RunOptions, Slot, Slots,
};

use super::nginx::{self, Mode, NginxSettings};
use super::reader::{Item, Section};
use super::{health, options, receipt};
use crate::args::PullArg;

/// One application, ready for use.
#[derive(Debug, Clone)]
pub(crate) struct App {
    /// What the orchestrator needs.
    pub(crate) spec: AppSpec,
    /// What to deploy when the command line does not say.
    pub(crate) image: Option<ImageRef>,
    /// When to pull.
    pub(crate) pull: Option<PullArg>,
    /// Its nginx.
    pub(crate) nginx: NginxSettings,
}

/// Where an application's values stand in the file, for the cross checks.
#[derive(Debug, Clone)]
pub(super) struct Marks {
    pub(super) nginx: Range<usize>,
    pub(super) reach: Reach,
    pub(super) reach_at: Range<usize>,
    pub(super) ports: [Range<usize>; 2],
    pub(super) ips: [Range<usize>; 2],
    pub(super) names: [Range<usize>; 2],
}

/// How nginx gets to an application's containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// By the port that is published on the host.
    Port,
    /// By fixed addresses on a network.
    Ip,
    /// By the container's name, as Docker's own name server knows it.
    Name,
}

const REACH: [(&str, Reach); 3] = [("port", Reach::Port), ("ip", Reach::Ip), ("name", Reach::Name)];
const PULL: [(&str, PullArg); 3] =
    [("always", PullArg::Always), ("missing", PullArg::Missing), ("never", PullArg::Never)];

/// The container port, and blue's host port, when the file does not say. The shell script's.
pub(crate) const DEFAULT_PORT: u16 = 3000;
/// Green's host port when the file does not say.
pub(crate) const DEFAULT_GREEN: u16 = 4000;

/// Reads one application. `None` when it is too wrong to go on; what is wrong is in the context then.
pub(super) fn read(
    name: &str,
    item: &Item<'_>,
    inherited: &NginxSettings,
    base: &Path,
) -> Option<(App, Marks)> {
    let app = item.table("a table of settings, as [app.web]")?;
    let parsed = AppName::new(name);
    if let Err(error) = &parsed {
        item.wrong("this is not a valid application name", format!("expected {}", error.expected()));
    }
    let image = app.cx.for_a_deploy(|| app.parsed("image", "an image, as \"registry.example.com/web:1\""));
    let pull = app.choice("pull", &PULL);
    let (nginx, nginx_at) = nginx::read(app.section("nginx"), inherited);
    let port = app.port("port").unwrap_or(DEFAULT_PORT);
    // What an earlier release ran with is in the journal.
    let mut options = app.cx.for_a_deploy(|| options::read(&app, base));
    let (slots, marks) = slots(&app, name, port, &nginx, nginx_at, &mut options)?;
    let mut spec = AppSpec::new(parsed.ok()?, slots);
    spec.options = options;
    spec.gate = health::read(app.item("health"), port);
    readable_log(&app, &spec);
    spec.drain = health::drain(app.section("drain"));
    spec.receipt = receipt::read(app.section("receipt"));
    spec.retain = health::retain(app.section("retain"));
    stays_stopped(&app, &spec);
    spec.limits = health::limits(app.section("limits"));
    spec.adopt = app.flag("adopt").unwrap_or_default();
    app.cx.for_a_deploy(|| app.unknown_keys());
    Some((App { spec, image, pull, nginx }, marks))
}

/// Whether a log check will find anything to read. What the Engine's own default is says only the Engine.
fn readable_log(app: &Section<'_>, spec: &AppSpec) {
    if spec.options.unreadable_log(None).is_some()
        && spec.gate.checks.iter().any(|check| matches!(check, Check::Log(_)))
        && let Some(item) = app.item("log")
    {
        item.wrong(
            "Docker cannot read this log back, and `health.log` waits for a line of it",
            "expected another check, or a driver as \"json-file\", \"local\" or \"journald\"",
        );
    }
}

/// Whether what is to be kept stopped would stay so: the core removes it instead.
fn stays_stopped(app: &Section<'_>, spec: &AppSpec) {
    let asked = app.section("retain").and_then(|retain| retain.flag("keep_stopped")) == Some(true);
    if asked
        && spec.options.restart == RestartPolicy::Always
        && let Some(item) = app.item("restart")
    {
        item.wrong(
            "with \"always\" Docker would start again what `retain.keep_stopped` keeps, so it is not kept",
            "expected \"unless-stopped\", or no `keep_stopped`",
        );
    }
}

/// The two places: names, ports, addresses, and where nginx reaches them.
fn slots(
    app: &Section<'_>,
    name: &str,
    port: u16,
    nginx: &NginxSettings,
    nginx_at: Option<Range<usize>>,
    options: &mut RunOptions,
) -> Option<(Slots, Marks)> {
    let (ports, ports_at) = pair(app, "ports", |item| item.whole::<u16>(1..=65_535));
    let (ips, ips_at) = pair(app, "ips", |item| item.parsed::<Ipv4Addr>("an address, as \"172.30.0.10\""));
    let (names, names_at) = pair(app, "names", |item| item.parsed::<InstanceName>("a container's name"));
    let publish = app.item("publish").and_then(|item| publish_address(&item));
    let reach_item = app.item("reach");
    let reach = reach_item
        .as_ref()
        .and_then(|item| item.choice(&REACH))
        .unwrap_or_else(|| default_reach(nginx, ips[0].is_some() || ips[1].is_some()));
    let reach_at = reach_item.as_ref().map_or(app.at.clone(), Item::span);

    // Published when it is needed or was spoken of; and then on loopback unless told otherwise.
    let spoken_of = reach == Reach::Port || ports.iter().any(Option::is_some) || publish.is_some();
    let address = match publish {
        Some(Published::Nowhere) => None,
        Some(Published::On(address)) => Some(address),
        None => (spoken_of && !options.host_network).then_some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
    };
    if reach == Reach::Port && address.is_none() && !options.host_network {
        app.cx.report(
            reach_at.clone(),
            format!("`{}`: nginx cannot reach a port that is not published", app.path),
            "expected an address in `publish`, or `reach = \"ip\"`",
        );
    }
    let network = (reach == Reach::Ip && !options.networks.is_empty()).then(|| options.networks.remove(0));
    if reach == Reach::Ip && network.is_none() {
        app.cx.report(
            reach_at.clone(),
            format!("`{}`: fixed addresses need a network of their own", app.path),
            "expected `network`: one that was made with a subnet",
        );
    }
    let build = |color: Color| -> Option<Slot> {
        let index = usize::from(color == Color::Green);
        let container = match names[index].clone() {
            Some(container) => container,
            None => InstanceName::new(format!("{name}-{color}")).ok()?,
        };
        let host_port = ports[index].unwrap_or([DEFAULT_PORT, DEFAULT_GREEN][index]);
        let inside = if options.host_network { host_port } else { port };
        let endpoint = match reach {
            Reach::Port => Endpoint::from_ip(reachable(address), host_port),
            Reach::Name => Endpoint::new(container.as_str(), inside).ok()?,
            Reach::Ip => {
                if ips[index].is_none() {
                    app.cx.report(
                        reach_at.clone(),
                        format!("`{}`: {color} has no address", app.path),
                        "expected `ips = { blue = \"…\", green = \"…\" }`",
                    );
                }
                Endpoint::from_ip(IpAddr::V4(ips[index]?), inside)
            }
        };
        let mut slot = Slot::new(color, container, inside, endpoint);
        slot.publish = address.map(|address| Publish::on(address, host_port));
        slot.network = match (&network, ips[index]) {
            (Some(network), Some(ip)) => Some(NetworkAttachment::clone(network).with_ip(ip)),
            (network, _) => network.clone(),
        };
        Some(slot)
    };
    let (blue, green) = (build(Color::Blue), build(Color::Green));
    let marks = Marks {
        nginx: nginx_at.unwrap_or_else(|| app.at.clone()),
        reach,
        reach_at,
        ports: ports_at,
        ips: ips_at,
        names: names_at,
    };
    Some((Slots { blue: blue?, green: green? }, marks))
}

/// How nginx gets there when the file does not say.
fn default_reach(nginx: &NginxSettings, has_addresses: bool) -> Reach {
    match (nginx.in_container(), nginx.mode) {
        _ if has_addresses => Reach::Ip,
        (false, _) => Reach::Port,
        (true, Mode::Rewrite) => Reach::Name,
        // A container's loopback is not the host's, and a name in an upstream that does not resolve keeps
        // nginx from starting: fixed addresses are what is left.
        (true, Mode::Live) => Reach::Ip,
    }
}

/// Where the host reaches what is published on `address`.
fn reachable(address: Option<IpAddr>) -> IpAddr {
    address.filter(|address| !address.is_unspecified()).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

enum Published {
    Nowhere,
    On(IpAddr),
}

fn publish_address(item: &Item<'_>) -> Option<Published> {
    let expected = "an address of this host, as \"127.0.0.1\", or \"none\"";
    match item.text(expected)? {
        "none" => Some(Published::Nowhere),
        text => {
            let address = text.parse().ok();
            if address.is_none() {
                item.wrong(format_args!("{text:?} is not an address"), format!("expected {expected}"));
            }
            address.map(Published::On)
        }
    }
}

/// A value for each colour: `{ blue = …, green = … }`.
fn pair<T>(
    app: &Section<'_>,
    key: &'static str,
    read: impl Fn(&Item<'_>) -> Option<T>,
) -> ([Option<T>; 2], [Range<usize>; 2]) {
    let nowhere = || [app.at.clone(), app.at.clone()];
    let Some(item) = app.item(key) else { return ([None, None], nowhere()) };
    let Some(section) = item.table("a table, as { blue = …, green = … }") else {
        return ([None, None], nowhere());
    };
    let mut places = [item.span(), item.span()];
    let values = [("blue", 0), ("green", 1)].map(|(color, index)| {
        let value = section.item(color);
        if let Some(value) = &value {
            places[index] = value.span();
        } else {
            item.wrong(format_args!("{color} is missing"), "expected both `blue` and `green`");
        }
        value.and_then(|value| read(&value))
    });
    section.finish();
    (values, places)
}
