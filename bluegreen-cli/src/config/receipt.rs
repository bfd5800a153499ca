//! `[app.NAME.receipt]`: the availability probe of a run, and how many of its requests may fail.

use bluegreen_core::model::{Rate, ReceiptGate, ReceiptPolicy};

use super::reader::{Item, Section};

/// Reads the section. Without it, the probe runs with the core's defaults.
pub(super) fn read(section: Option<Section<'_>>) -> Option<ReceiptPolicy> {
    let mut policy = ReceiptPolicy::default();
    let Some(section) = section else { return Some(policy) };
    let enabled = section.flag("enabled").unwrap_or(true);
    policy.path = section.item("path").and_then(|item| super::health::path(&item, "a path like \"/health\""));
    policy.host = section.item("host").and_then(|item| host(&item));
    if let Some(item) = section.item("rate")
        && let Some(rate) = item.whole(1..=i64::from(Rate::MAX)).and_then(|rate: u16| Rate::new(rate).ok())
    {
        policy.rate = rate;
    }
    if let Some(item) = section.item("timeout")
        && let Some(timeout) = item.duration()
    {
        if timeout.is_zero() {
            item.wrong("zero leaves no time for an answer", "expected more than \"0s\"");
        }
        policy.timeout = timeout;
    }
    let max_failures = section.item("max_failures");
    if let (Some(item), false) = (&max_failures, enabled) {
        item.wrong("this has no effect while `enabled` is false", "expected without `max_failures`");
    }
    policy.gate = max_failures.and_then(|item| item.whole(0..=1_000_000_000)).map(ReceiptGate::new);
    if let Some(item) = section.item("bake")
        && let Some(bake) = item.duration()
    {
        match &mut policy.gate {
            Some(gate) => gate.bake = bake,
            None => {
                item.wrong("this has no effect without `max_failures`", "expected `max_failures` as well");
            }
        }
    }
    section.finish();
    enabled.then_some(policy)
}

fn host(item: &Item<'_>) -> Option<String> {
    let text = item.text("a host name, as clients send it")?;
    let fine = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    if !fine {
        item.wrong(
            format_args!("{text:?} is not a valid `Host` header"),
            "expected a host name with an optional port",
        );
    }
    fine.then(|| text.to_owned())
}
