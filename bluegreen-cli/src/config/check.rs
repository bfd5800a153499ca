//! What no single value shows: two places that are one, settings that exclude each other.

use std::net::IpAddr;
use std::ops::Range;

use bluegreen_core::model::{Color, Slot};

use super::app::{App, Marks, Reach};
use super::nginx::Mode;
use super::reader::ConfigReader;

/// Complains about everything that does not go together.
pub(super) fn all(cx: &ConfigReader, apps: &[(App, Marks)]) {
    for (app, marks) in apps {
        proxy(cx, app, marks);
    }
    shared(cx, apps);
}

/// The way nginx is switched, and the way it reaches the containers.
fn proxy(cx: &ConfigReader, app: &App, marks: &Marks) {
    let name = &app.spec.name;
    let help = "see docs/bluegreen.example.toml";
    match app.nginx.mode {
        Mode::Rewrite if app.nginx.conf.is_none() => cx.report_with(
            marks.nginx.clone(),
            format!("`app.{name}`: rewrite mode has no file to rewrite"),
            "expected `conf`: nginx's own file, on this host",
            help,
        ),
        Mode::Live if marks.reach == Reach::Name => cx.report_with(
            marks.reach_at.clone(),
            format!("`app.{name}`: the live switch cannot use container names"),
            "expected \"port\" or \"ip\"",
            "a name that does not resolve keeps nginx from starting",
        ),
        Mode::Live if app.nginx.dir.is_none() && app.nginx.in_container() => cx.report_with(
            marks.nginx.clone(),
            format!(
                "`app.{name}`: the live switch needs a directory that is mounted into the nginx container"
            ),
            "expected `dir`: that directory's path on this host",
            help,
        ),
        Mode::Live | Mode::Rewrite => {}
    }
    if app.spec.options.host_network && marks.reach != Reach::Port {
        cx.report(
            marks.reach_at.clone(),
            format!("`app.{name}`: containers on the host's network have neither name nor address"),
            "expected `reach = \"port\"`",
        );
    }
    if marks.reach == Reach::Name && app.spec.options.networks.is_empty() {
        cx.report(
            marks.reach_at.clone(),
            format!("`app.{name}`: container names resolve only on a user-defined network"),
            "expected `network`: the one that nginx's container is on",
        );
    }
}

/// One place of the file that claims something on the host.
struct Claim<'a> {
    app: &'a str,
    color: Color,
    at: Range<usize>,
    slot: &'a Slot,
    marks: [Range<usize>; 3],
}

/// Every two places that claim the same port, address or name.
fn shared(cx: &ConfigReader, apps: &[(App, Marks)]) {
    let mut claims: Vec<Claim<'_>> = Vec::new();
    for (app, marks) in apps {
        for (index, color) in Color::ALL.into_iter().enumerate() {
            let marks = [&marks.ports, &marks.ips, &marks.names].map(|places| places[index].clone());
            let slot = app.spec.slots.of(color);
            claims.push(Claim { app: app.spec.name.as_str(), color, at: 0..0, slot, marks });
        }
    }
    for (index, later) in claims.iter().enumerate() {
        for earlier in &claims[..index] {
            for (what, mark, same) in [
                ("host port", 0, same_port(earlier.slot, later.slot)),
                ("address", 1, same_address(earlier.slot, later.slot)),
                (
                    "container name",
                    2,
                    (earlier.slot.name == later.slot.name).then(|| later.slot.name.to_string()),
                ),
            ] {
                let Some(value) = same else { continue };
                let at = later.marks.get(mark).unwrap_or(&later.at).clone();
                let message = if earlier.app == later.app {
                    format!("`app.{}`: blue and green have the same {what} {value}", later.app)
                } else {
                    format!(
                        "`app.{}`: {} has the {what} {value}, which is {}'s of `app.{}`",
                        later.app, later.color, earlier.color, earlier.app
                    )
                };
                cx.report(at, message, format!("expected another {what}"));
            }
        }
    }
}

fn same_port(a: &Slot, b: &Slot) -> Option<String> {
    let at = |slot: &Slot| slot.publish.map(|publish| (publish.ip, publish.port));
    // On the host's network the port inside is the host's.
    let at = |slot: &Slot| {
        at(slot)
            .or_else(|| slot.endpoint.ip().filter(IpAddr::is_loopback).map(|ip| (ip, slot.endpoint.port())))
    };
    let ((ip_a, port_a), (ip_b, port_b)) = (at(a)?, at(b)?);
    let overlap = ip_a == ip_b || ip_a.is_unspecified() || ip_b.is_unspecified();
    (port_a == port_b && overlap).then(|| port_a.to_string())
}

fn same_address(a: &Slot, b: &Slot) -> Option<String> {
    let (a, b) = (a.network.as_ref()?, b.network.as_ref()?);
    (a.name == b.name && a.ip.is_some() && a.ip == b.ip)
        .then(|| a.ip.map(|ip| ip.to_string()).unwrap_or_default())
}
