//! The receipt for people: what clients saw of a run, in a line or two.

use bluegreen_core::model::{Measurement, Receipt, Segment, Slowdown};

use super::plain;
use crate::duration;

/// One line; a second one when something would help.
pub(crate) fn lines(receipt: &Receipt) -> Vec<String> {
    match receipt {
        Receipt::Measured(seen) => {
            let hint = seen.hint.iter().map(|hint| plain(&format!("hint: {hint}")));
            std::iter::once(line(seen)).chain(seen.slowed.as_ref().map(slowed)).chain(hint).collect()
        }
        Receipt::NotMeasured { reason } => {
            vec![plain(&format!("availability probe: not measured: {reason}"))]
        }
        // What the core learns later is in the JSON.
        _ => Vec::new(),
    }
}

fn line(seen: &Measurement) -> String {
    let noun = if seen.requests == 1 { "request" } else { "requests" };
    let mut line = format!("availability probe: {} {noun}, ", seen.requests);
    if seen.failed == 0 {
        line.push_str("0 failed");
    } else {
        line.push_str(&format!("{} FAILED ({}", seen.failed, seen.failures));
        if seen.keep_alive.failed > 0 {
            line.push_str(&format!(
                "; {} on reused connections, where a browser would retry",
                seen.keep_alive.failed
            ));
        }
        line.push(')');
    }
    if seen.unfinished > 0 {
        line.push_str(&format!(", {} unanswered when the run ended", seen.unfinished));
    }
    line.push_str(&format!(", longest gap {}", duration::precise(seen.longest_gap)));
    let parts: Vec<String> = [("before", &seen.before), ("during", &seen.during), ("after", &seen.after)]
        .into_iter()
        .filter_map(|(name, segment)| p99(name, segment))
        .collect();
    if !parts.is_empty() {
        line.push_str(&format!(", p99 {}", parts.join(", ")));
    }
    line
}

/// Why there were fewer requests than asked for.
fn slowed(slowed: &Slowdown) -> String {
    let interval = duration::precise(slowed.interval);
    match slowed.let_through {
        Some(limit) => format!(
            "probe slowed to one request every {interval}: nginx allows about {limit} requests a minute there (limit_req, limit_conn)"
        ),
        None => format!(
            "probe slowed to one request every {interval}: requests were rejected (429, 503) or timed out"
        ),
    }
}

fn p99(name: &str, segment: &Segment) -> Option<String> {
    let latency = segment.latency?;
    Some(format!("{} {name}", duration::precise(latency.p99)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(changes: &serde_json::Value) -> Receipt {
        let mut json = serde_json::json!({
            "kind": "measured", "target": "http://127.0.0.1:80/", "rate": 50, "requests": 412, "failed": 0,
            "unfinished": 0, "longest_gap_us": 21_300,
            "failures": { "refused": 0, "reset": 0, "eof": 0, "timeout": 0, "5xx": 0, "other_status": 0, "other": 0 },
            "before": { "color": "blue", "requests": 300, "failed": 0, "latency": { "p50_us": 300, "p99_us": 940 } },
            "during": { "color": null, "requests": 0, "failed": 0, "latency": null },
            "after": { "color": "green", "requests": 112, "failed": 0, "latency": { "p50_us": 280, "p99_us": 1_900 } },
            "keep_alive": { "requests": 206, "failed": 0 }, "hint": null
        });
        for (key, value) in changes.as_object().unwrap() {
            json[key] = value.clone();
        }
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_receipt_is_a_line() {
        let well = measured(&serde_json::json!({}));
        let ill = measured(&serde_json::json!({
            "failed": 3, "unfinished": 2, "longest_gap_us": 1_312_000, "keep_alive": { "requests": 206, "failed": 1 },
            "failures": { "refused": 0, "reset": 1, "eof": 0, "timeout": 0, "5xx": 2, "other_status": 0, "other": 0 },
            "hint": "the live switch"
        }));
        let blind = Receipt::NotMeasured { reason: "only TLS\nis spoken".to_owned() };
        let slow =
            measured(&serde_json::json!({ "slowed": { "interval_us": 2_000_000, "let_through": 600 } }));
        let away =
            measured(&serde_json::json!({ "slowed": { "interval_us": 1_000_000, "let_through": null } }));
        let lines: Vec<String> = [well, ill, blind, slow, away].iter().flat_map(lines).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
