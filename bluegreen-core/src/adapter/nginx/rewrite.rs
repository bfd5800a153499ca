//! Rewrite mode, the text: finding the one colour that a user's file names, and naming the other. Pure.

use std::ops::Range;

use crate::model::{Color, Slots};

use super::syntax::{self, Directive};

/// A file that names exactly one colour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    /// The colour.
    pub(super) color: Color,
    /// Where its name stands.
    spans: Vec<Range<usize>>,
}

/// Why no one colour is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unnamed {
    /// The file could not be read.
    Unread { line: usize, reason: &'static str },
    /// It says something else.
    Other { found: String, expected: String },
}

impl Named {
    /// Whether one of its places lies in this part of the text.
    pub(super) fn is_in(&self, part: &Range<usize>) -> bool {
        self.spans.iter().any(|span| part.start <= span.start && span.end <= part.end)
    }

    /// The text with the name of `to` in each place. Every other byte stays.
    pub(super) fn rename(&self, text: &[u8], slots: &Slots, to: Color) -> Vec<u8> {
        let new = name(slots, to);
        let mut out = Vec::with_capacity(text.len() + self.spans.len());
        let mut from = 0;
        for span in &self.spans {
            out.extend_from_slice(text.get(from..span.start).unwrap_or_default());
            out.extend_from_slice(new.as_bytes());
            from = span.end;
        }
        out.extend_from_slice(text.get(from..).unwrap_or_default());
        out
    }
}

/// What stands for a colour in the file: its host name, or host and port where only the port differs.
pub(super) fn name(slots: &Slots, color: Color) -> String {
    let endpoint = &slots.of(color).endpoint;
    if slots.blue.endpoint.host() == slots.green.endpoint.host() {
        endpoint.to_string()
    } else {
        endpoint.host().to_owned()
    }
}

/// Finds the colour that `text` names.
///
/// # Errors
///
/// What was found instead, with its lines, and what was expected.
pub(super) fn find(text: &[u8], slots: &Slots) -> Result<Named, Unnamed> {
    let text = &syntax::ascii(text);
    let directives =
        syntax::parse(text).map_err(|error| Unnamed::Unread { line: error.line, reason: error.reason })?;
    let names = Color::ALL.map(|color| (color, name(slots, color)));
    let mut found: Vec<(Color, Range<usize>, usize)> = Vec::new();
    for directive in &directives {
        directive.walk("", &mut |directive, parent| {
            let Some(word) = place(directive, parent).and_then(|index| directive.args.get(index)) else {
                return;
            };
            for (color, name) in &names {
                if let Some(span) = host(&word.value, name) {
                    let start = word.span.start;
                    found.push((*color, start + span.start..start + span.end, word.line));
                }
            }
        });
    }
    let lines = |color: Color| -> Vec<usize> {
        found.iter().filter(|(at, ..)| *at == color).map(|(_, _, line)| *line).collect()
    };
    let [(_, blue), (_, green)] = &names;
    match (lines(Color::Blue), lines(Color::Green)) {
        (blue_lines, green_lines) if blue_lines.is_empty() && green_lines.is_empty() => Err(Unnamed::Other {
            found: format!("it names neither {blue} nor {green}{}", near(text, &[blue, green])),
            expected: "exactly one of them as the host in proxy_pass, fastcgi_pass, grpc_pass, uwsgi_pass, `server` \
                       in an upstream, or the value of set"
                .to_owned(),
        }),
        (blue_lines, green_lines) if !blue_lines.is_empty() && !green_lines.is_empty() => Err(Unnamed::Other {
            found: format!(
                "it names both {blue} ({}) and {green} ({})",
                show(&blue_lines),
                show(&green_lines)
            ),
            expected: "only the one that is served now".to_owned(),
        }),
        (blue_lines, _) => {
            let color = if blue_lines.is_empty() { Color::Green } else { Color::Blue };
            let mut spans: Vec<_> = found.into_iter().map(|(_, span, _)| span).collect();
            spans.sort_by_key(|span| span.start);
            Ok(Named { color, spans })
        }
    }
}

/// Whether a directive sends traffic to the host `name`.
pub(super) fn goes_to(directive: &Directive, parent: &str, name: &str) -> bool {
    let word = place(directive, parent).and_then(|index| directive.args.get(index));
    word.is_some_and(|word| host(&word.value, name).is_some())
}

/// Which argument of a directive is a place where traffic goes.
fn place(directive: &Directive, parent: &str) -> Option<usize> {
    match directive.name.as_str() {
        // With a block it is a virtual server.
        "server" if directive.block.is_none() => Some(0),
        // An upstream that has the container's name is what proxy_pass means by that name.
        "proxy_pass" | "fastcgi_pass" | "grpc_pass" | "uwsgi_pass" | "scgi_pass" | "upstream" => Some(0),
        "set" => Some(1),
        _ if matches!(parent, "map" | "geo" | "split_clients") => directive.args.len().checked_sub(1),
        // What an answer is changed by names the place that it comes from.
        name if name.ends_with("_redirect") => Some(0),
        _ => None,
    }
}

/// Where in a value `name` stands as the whole host, `None` when it does not.
fn host(value: &str, name: &str) -> Option<Range<usize>> {
    let start = value.find("://").map_or(0, |at| at + 3);
    let rest = value.get(start..)?.strip_prefix(name)?;
    // After a host and port only a path may follow. Variables other than these could go on with the name.
    let ends = rest.is_empty()
        || rest.starts_with(['/', '?'])
        || (rest.starts_with(':') && !name.contains(':'))
        || ["$request_uri", "$uri"].iter().any(|variable| rest.starts_with(variable));
    ends.then(|| start..start + name.len())
}

/// The lines that contain a name anywhere, for a person who wonders why it does not count.
fn near(text: &str, names: &[&str]) -> String {
    let lines: Vec<usize> = (1..)
        .zip(text.lines())
        .filter(|(_, line)| names.iter().any(|name| line.contains(name)))
        .map(|(number, _)| number)
        .collect();
    if lines.is_empty() {
        String::new()
    } else {
        format!(" where it counts ({} has it in a comment, a longer name or another directive)", show(&lines))
    }
}

fn show(lines: &[usize]) -> String {
    let mut lines: Vec<_> = lines.iter().map(usize::to_string).collect();
    lines.dedup();
    format!("{} {}", if lines.len() == 1 { "line" } else { "lines" }, lines.join(", "))
}

#[cfg(test)]
#[path = "rewrite_tests.rs"]
pub(super) mod tests;
