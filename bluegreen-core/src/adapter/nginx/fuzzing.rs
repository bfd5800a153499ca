//! What holds for every text that is taken for nginx's. Run by `fuzz/` and by `tests/fuzz_corpus.rs`.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use crate::model::{Color, Endpoint, InstanceName, Slot, Slots};

use super::dump::Dump;
use super::rewrite;
use super::syntax::{self, Directive};
use super::ways;

/// Reads the bytes as a user's file, and as what `nginx -T` prints.
pub(crate) fn nginx_rewrite(bytes: &[u8]) {
    grammar(bytes);
    for [blue, green] in
        [[("web-3000", 3000), ("web-4000", 3000)], [("127.0.0.1", 3000), ("127.0.0.1", 4000)]]
    {
        if let Some(slots) = slots(blue, green) {
            exchange(bytes, &slots);
            lead(&String::from_utf8_lossy(bytes), &slots);
        }
    }
    dump(&String::from_utf8_lossy(bytes));
}

/// Every way that is found stands in the text, once, leads somewhere, and is none where the files are ours.
fn lead(text: &str, slots: &Slots) {
    let dump = Dump::read(text);
    let found = ways::find(&dump, slots, &|_| false);
    for (at, way) in found.iter().enumerate() {
        assert!(!way.colors.is_empty(), "{way:?}");
        assert!(dump.file_of(way.directive).is_some_and(|(path, _)| path == way.path), "{way:?}");
        assert!(found.iter().take(at).all(|known| !std::ptr::eq(known.directive, way.directive)), "{way:?}");
        assert!(way.used || way.kind != ways::Kind::Pass, "{way:?}");
    }
    // A place that a directive names by itself is a way, whatever else there is.
    dump.visit(&mut |directive, stack| {
        let table = stack.last().is_some_and(|block| matches!(&*block.name, "map" | "geo" | "split_clients"));
        if directive.name != "proxy_pass" || directive.args.len() != 1 || table {
            return;
        }
        let color = directive.arg(0).and_then(|word| ways::place(slots, word.strip_prefix("http://")?, 80));
        let listed = |way: &&ways::Way<'_>| std::ptr::eq(way.directive, directive);
        if let Some(color) = color {
            assert!(
                found.iter().find(listed).is_some_and(|way| way.colors.contains(&color)),
                "{directive:?}"
            );
        }
    });
    assert!(ways::find(&dump, slots, &|_| true).is_empty());
}

fn slots(blue: (&str, u16), green: (&str, u16)) -> Option<Slots> {
    let slot = |color: Color, (host, port): (&str, u16)| {
        let name = InstanceName::new(format!("web-{color}")).ok()?;
        let endpoint = match host.parse::<Ipv4Addr>() {
            Ok(ip) => Endpoint::from_ip(IpAddr::V4(ip), port),
            Err(_) => Endpoint::new(host, port).ok()?,
        };
        Some(Slot::new(color, name, 3000, endpoint))
    };
    Some(Slots { blue: slot(Color::Blue, blue)?, green: slot(Color::Green, green)? })
}

/// Every word is where it says, and what is inside a block lies inside it, in order.
fn grammar(bytes: &[u8]) {
    let text = syntax::ascii(bytes);
    assert_eq!(text.len(), bytes.len());
    match syntax::parse(&text) {
        Ok(directives) => inside(&text, &directives, 0..text.len()),
        Err(error) => {
            let lines = text.matches('\n').count() + 1;
            assert!((1..=lines).contains(&error.line), "line {} of {lines}", error.line);
        }
    }
}

fn inside(text: &str, directives: &[Directive], outer: Range<usize>) {
    let mut from = outer.start;
    for directive in directives {
        assert!(from <= directive.span.start && directive.span.end <= outer.end, "{directive:?}");
        from = directive.span.end;
        let own = text.get(directive.span.clone()).unwrap_or_default();
        assert!(own.starts_with(&directive.name) && own.ends_with([';', '}']), "{own:?}");
        for word in &directive.args {
            assert_eq!(text.get(word.span.clone()), Some(word.value.as_str()));
        }
        inside(text, directive.children(), directive.span.clone());
    }
}

/// There and back gives the same bytes, and on the way only the names are others.
fn exchange(bytes: &[u8], slots: &Slots) {
    let Ok(named) = rewrite::find(bytes, slots) else { return };
    let (from, to) = (named.color, named.color.other());
    assert_eq!(named.rename(bytes, slots, from), bytes);
    let there = named.rename(bytes, slots, to);
    let (old, new) = (rewrite::name(slots, from), rewrite::name(slots, to));
    let (mut before, mut after, mut exchanged) = (bytes, there.as_slice(), 0);
    while !before.is_empty() || !after.is_empty() {
        let (a, b) = (before.strip_prefix(old.as_bytes()), after.strip_prefix(new.as_bytes()));
        if let (Some(a), Some(b)) = (a, b) {
            (before, after, exchanged) = (a, b, exchanged + 1);
        } else {
            assert!(before.first() == after.first(), "another byte was changed");
            (before, after) = (&before[1..], &after[1..]);
        }
    }
    assert!(exchanged > 0);
    match rewrite::find(&there, slots) {
        Ok(back) => {
            assert_eq!(back.color, to);
            assert_eq!(back.rename(&there, slots, from), bytes);
        }
        Err(reason) => panic!("what was written is not found again: {reason:?}"),
    }
}

/// Nothing that a dump is asked for takes forever, and what it tells of is in it.
fn dump(text: &str) {
    let dump = Dump::read(text);
    let mut seen: Vec<&Directive> = Vec::new();
    dump.visit(&mut |directive, stack| {
        assert!(stack.iter().all(|block| block.block.is_some()));
        if seen.len() < 50 {
            seen.push(directive);
        }
    });
    for directive in seen {
        assert!(dump.file_of(directive).is_some());
    }
    for path in dump.included("conf.d/*.conf") {
        assert!(dump.ending(path.trim_start_matches('/')).count() > 0 || !path.starts_with('/'));
    }
    for server in dump.servers(&|directive, parent| rewrite::goes_to(directive, parent, "web-3000")) {
        assert!(server.path.is_none_or(|path| path.starts_with('/')));
        assert!(server.name.is_none_or(|name| !name.is_empty() && name.is_ascii()));
    }
    assert!(dump.upstreams().all(|upstream| upstream.name == "upstream"));
    assert!(dump.http().is_none_or(|http| http.name == "http"));
    dump.takes(&format!("{}/x", dump.main()));
}
