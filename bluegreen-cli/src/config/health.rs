//! `[app.NAME.health]`: when a candidate is good enough for traffic; and how long things may take.

use bluegreen_core::model::{
    Check, DrainPolicy, GatePolicy, HttpCheck, Limits, LogPattern, LongLived, Retain,
};

use super::reader::{Item, Section};
use crate::{duration, size};

/// Reads `health`, which is a table or the word `none`. Without any check it is a connection to `port`.
pub(super) fn read(item: Option<Item<'_>>, port: u16) -> GatePolicy {
    let mut gate = GatePolicy::default();
    gate.checks.push(Check::Tcp { port });
    let Some(item) = item else { return gate };
    if item.as_text().is_some() {
        if item.choice(&[("none", ())]).is_some() {
            gate.checks.clear();
        }
        return gate;
    }
    let Some(section) = item.table("a table, or \"none\" for no check at all") else { return gate };
    let checks = checks(&section, port);
    if !checks.is_empty() {
        gate.checks = checks;
    }
    if let Some(deadline) = section.item("deadline")
        && let Some(duration) = deadline.duration()
    {
        if duration.is_zero() {
            deadline.wrong("zero leaves no time to become healthy", "expected more than \"0s\"");
        }
        gate.deadline = Some(duration);
    }
    if let Some(successes) = section.item("successes").and_then(|item| item.whole(1..=1000)) {
        gate.successes = successes;
    }
    gate.min_healthy = section.duration("min_healthy").unwrap_or(gate.min_healthy);
    if let Some(item) = section.item("attempt_timeout")
        && let Some(timeout) = item.duration()
    {
        if timeout.is_zero() {
            item.wrong("zero leaves no time for an attempt", "expected more than \"0s\"");
        }
        gate.attempt_timeout = timeout;
    }
    gate.interval = section.duration("interval");
    can_be_passed(&section, &gate);
    section.finish();
    gate
}

/// Figures that no candidate could meet. What an image's HEALTHCHECK adds is known only once the image is here.
fn can_be_passed(section: &Section<'_>, gate: &GatePolicy) {
    let Ok(deadline) = gate.time_for(None) else { return };
    let least = gate.least();
    let longest = if least > gate.min_healthy.saturating_mul(2) { "interval" } else { "min_healthy" };
    // Where the time is that of a HEALTHCHECK there is more of it than can be known here.
    let open = gate.deadline.is_none() && gate.checks.contains(&Check::Image);
    if least >= deadline
        && !open
        && let Some(item) = section.item(longest)
    {
        item.wrong(
            format_args!(
                "no candidate could ever pass: this takes {}, but the deadline is {}",
                duration::format(least),
                duration::format(deadline)
            ),
            "expected less, or a later `deadline`",
        );
    }
}

fn checks(section: &Section<'_>, port: u16) -> Vec<Check> {
    let mut checks = Vec::new();
    for item in section.item("http").iter().flat_map(Item::one_or_many) {
        checks.extend(http(&item, port).map(Check::Http));
    }
    if let Some(item) = section.item("tcp") {
        match item.as_flag() {
            Some(true) => checks.push(Check::Tcp { port }),
            Some(false) => {}
            None => checks.extend(item.whole(1..=65_535).map(|port| Check::Tcp { port })),
        }
    }
    for item in section.item("log").iter().flat_map(Item::one_or_many) {
        checks.extend(pattern(&item).map(Check::Log));
    }
    if section.flag("image") == Some(true) {
        checks.push(Check::Image);
    }
    if let Some(item) = section.item("command") {
        checks.extend(super::options::words(&item).map(|command| Check::Command { command }));
    }
    checks
}

/// `"/health"`, or a table with more.
fn http(item: &Item<'_>, port: u16) -> Option<HttpCheck> {
    let expected = "a path like \"/health\", or a table";
    if !item.is_table() {
        return path(item, expected).map(|path| HttpCheck::get(port, path));
    }
    let section = item.table(expected)?;
    let target = section.item("path").and_then(|item| path(&item, "a path like \"/health\""));
    let mut check = HttpCheck::get(port, target.unwrap_or_else(|| "/".to_owned()));
    if let Some(port) = section.port("port") {
        check.port = port;
    }
    for status in section.item("status").iter().flat_map(Item::one_or_many) {
        check.status.extend(status.whole::<u16>(100..=599));
    }
    check.body = section.item("body").and_then(|item| pattern(&item));
    check.host = section.text("host", "a host name").map(str::to_owned);
    section.finish();
    Some(check)
}

pub(super) fn path(item: &Item<'_>, expected: &str) -> Option<String> {
    let text = item.text(expected)?;
    if text.starts_with('/') && !text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Some(text.to_owned());
    }
    item.wrong(
        format_args!("{text:?} is not a path"),
        "expected a path that starts with `/`, without spaces",
    );
    None
}

/// `"text"`, or `{ regex = "…" }`.
fn pattern(item: &Item<'_>) -> Option<LogPattern> {
    let expected = "a text, or a table with `regex`";
    if !item.is_table() {
        let text = item.text(expected)?;
        if text.is_empty() {
            item.wrong("an empty text matches every line", format!("expected {expected}"));
            return None;
        }
        return Some(LogPattern::text(text));
    }
    let section = item.table(expected)?;
    let regex = section.text("regex", "a regular expression").map(LogPattern::regex);
    if regex.is_none() && section.item("regex").is_none() {
        item.wrong("has no pattern", format!("expected {expected}"));
    }
    section.finish();
    regex
}

/// Reads `[app.NAME.drain]`.
pub(super) fn drain(section: Option<Section<'_>>) -> DrainPolicy {
    let mut drain = DrainPolicy::default();
    let Some(section) = section else { return drain };
    drain.timeout = section.duration("timeout").unwrap_or(drain.timeout);
    drain.settle = section.duration("settle").unwrap_or(drain.settle);
    let words = [("wait", LongLived::Wait), ("cut", LongLived::Cut)];
    drain.long_lived = section.choice("long_lived", &words).unwrap_or(drain.long_lived);
    section.finish();
    drain
}

/// Reads `[app.NAME.retain]`.
pub(super) fn retain(section: Option<Section<'_>>) -> Retain {
    let mut retain = Retain::default();
    let Some(section) = section else { return retain };
    if let Some(releases) = section.item("releases").and_then(|item| item.whole(0..=1000)) {
        retain.releases = releases;
    }
    retain.keep_stopped = section.flag("keep_stopped").unwrap_or(retain.keep_stopped);
    // No time at all is the same as stopped at once.
    retain.warm = section.duration("warm").filter(|warm| !warm.is_zero());
    if let Some(item) = section.item("min_free")
        && let Some(text) = item.text(size::EXPECTED)
    {
        match size::bytes(text) {
            Ok(bytes) => retain.min_free = bytes,
            Err(problem) => item.wrong(problem, format!("expected {}", size::EXPECTED)),
        }
    }
    section.finish();
    retain
}

/// Reads `[app.NAME.limits]`.
pub(super) fn limits(section: Option<Section<'_>>) -> Limits {
    let mut limits = Limits::default();
    let Some(section) = section else { return limits };
    for (key, limit) in [
        ("registry", &mut limits.registry),
        ("pull", &mut limits.pull),
        ("runtime", &mut limits.runtime),
        ("proxy", &mut limits.proxy),
        ("journal", &mut limits.journal),
    ] {
        let Some(item) = section.item(key) else { continue };
        let Some(duration) = item.duration() else { continue };
        if duration.is_zero() {
            item.wrong("zero leaves no time for a call", "expected more than \"0s\"");
        }
        *limit = duration;
    }
    section.finish();
    limits
}
