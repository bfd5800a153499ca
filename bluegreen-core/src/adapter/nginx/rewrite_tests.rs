use proptest::prelude::*;

use super::*;
use crate::model::{Endpoint, InstanceName, Slot};

pub(crate) fn slots(blue: &str, green: &str) -> Slots {
    let slot = |color, endpoint: &str| {
        let name = InstanceName::new(format!("web-{color}")).unwrap();
        Slot::new(color, name, 3000, endpoint.parse::<Endpoint>().unwrap())
    };
    Slots { blue: slot(Color::Blue, blue), green: slot(Color::Green, green) }
}

fn web() -> Slots {
    slots("web-3000:3000", "web-4000:3000")
}

fn swapped(text: &str) -> String {
    let named = find(text.as_bytes(), &web()).unwrap_or_else(|unnamed| panic!("{text}: {unnamed:?}"));
    String::from_utf8(named.rename(text.as_bytes(), &web(), named.color.other())).unwrap()
}

fn why(text: &[u8]) -> String {
    match find(text, &web()).unwrap_err() {
        Unnamed::Unread { line, reason } => format!("line {line}: {reason}"),
        Unnamed::Other { found, expected } => format!("{found}; expected {expected}"),
    }
}

#[test]
fn the_forms_that_are_seen_are_rewritten() {
    for (before, after) in [
        (
            "location / { proxy_pass http://web-3000:3000; }",
            "location / { proxy_pass http://web-4000:3000; }",
        ),
        ("proxy_pass http://web-4000:3000/;", "proxy_pass http://web-3000:3000/;"),
        ("upstream app {\n\tserver web-3000:3000;\n}", "upstream app {\n\tserver web-4000:3000;\n}"),
        (
            "upstream a { server web-3000:3000 max_fails=0; keepalive 8; }",
            "upstream a { server web-4000:3000 max_fails=0; keepalive 8; }",
        ),
        ("set $up web-3000;", "set $up web-4000;"),
        ("set $up \"http://web-3000:3000\";", "set $up \"http://web-4000:3000\";"),
        ("set $up 'web-3000:3000';", "set $up 'web-4000:3000';"),
        ("proxy_pass http://web-3000$request_uri;", "proxy_pass http://web-4000$request_uri;"),
        ("fastcgi_pass web-3000:9000;", "fastcgi_pass web-4000:9000;"),
        ("grpc_pass grpc://web-3000:3000;", "grpc_pass grpc://web-4000:3000;"),
        ("uwsgi_pass web-3000:3000;", "uwsgi_pass web-4000:3000;"),
        ("map $a $b { default web-3000:3000; }", "map $a $b { default web-4000:3000; }"),
        ("upstream web-3000 { server web-3000:3000; }", "upstream web-4000 { server web-4000:3000; }"),
        // Only the host is the name; the same letters in a path are the user's.
        ("proxy_pass http://web-3000:3000/web-3000;", "proxy_pass http://web-4000:3000/web-3000;"),
        (
            "server { server_name web-3000; location / { proxy_pass http://web-3000:3000; } }",
            "server { server_name web-3000; location / { proxy_pass http://web-4000:3000; } }",
        ),
        (
            "# was web-4000\r\nproxy_pass http://web-3000:3000;\r\n",
            "# was web-4000\r\nproxy_pass http://web-4000:3000;\r\n",
        ),
        (
            "proxy_pass\n  http://web-3000:3000 # web-4000;\n;",
            "proxy_pass\n  http://web-4000:3000 # web-4000;\n;",
        ),
        (
            "set $note 'not web-4000'; proxy_pass http://web-3000:1;",
            "set $note 'not web-4000'; proxy_pass http://web-4000:1;",
        ),
    ] {
        assert_eq!(swapped(before), after);
    }
}

#[test]
fn other_names_are_left_alone() {
    for text in [
        "proxy_pass http://my-web-3000:3000;",
        "proxy_pass http://web-30001:3000;",
        "proxy_pass http://web-3000-old:3000;",
        "proxy_pass http://web-3000.internal:3000;",
        "proxy_pass http://web-3000_a:3000;",
        "proxy_pass http://web-3000${x}:3000;",
        "proxy_pass http://web-3000$x;",
        "proxy_pass http://other/web-3000;",
        "proxy_pass http://$host/web-3000;",
        "# proxy_pass http://web-3000:3000;",
        "server_name web-3000;",
        "access_log /var/log/web-3000.log;",
        "add_header X 'proxy_pass http://web-3000:3000;';",
    ] {
        let reason = why(text.as_bytes());
        assert!(reason.contains("neither web-3000 nor web-4000"), "{text}: {reason}");
        assert!(reason.contains("line 1 has it"), "{text}: {reason}");
    }
}

#[test]
fn a_refusal_says_what_and_where() {
    let both = "upstream a {\n server web-3000:3000;\n server web-4000:3000 backup;\n}\n";
    let reason = why(both.as_bytes());
    assert_eq!(
        reason,
        "it names both web-3000 (line 2) and web-4000 (line 3); expected only the one that is served now"
    );
    assert!(why(b"").contains("neither"));
    assert!(why(b"a {\n").contains("line 1: its `}` is missing"));
}

#[test]
fn bytes_that_are_no_utf8_stay() {
    let text = b"# caf\xe9 \xc3\xa9\nproxy_pass http://web-3000:3000;";
    let there = find(text, &web()).unwrap().rename(text, &web(), Color::Green);
    assert_eq!(there, b"# caf\xe9 \xc3\xa9\nproxy_pass http://web-4000:3000;");
}

#[test]
fn where_only_the_port_differs_the_port_belongs_to_the_name() {
    let slots = slots("127.0.0.1:3000", "127.0.0.1:4000");
    let text = "proxy_pass http://127.0.0.1:3000; # and http://127.0.0.1:9000";
    let named = find(text.as_bytes(), &slots).unwrap();
    assert_eq!(
        String::from_utf8(named.rename(text.as_bytes(), &slots, Color::Green)).unwrap(),
        "proxy_pass http://127.0.0.1:4000; # and http://127.0.0.1:9000"
    );
    assert!(find(b"proxy_pass http://127.0.0.1:30001;", &slots).is_err());
    assert!(find(b"proxy_pass http://127.0.0.1:9000;", &slots).is_err());
}

/// A file of many directives, of which some name one colour.
fn file() -> impl Strategy<Value = String> {
    let noise = prop::sample::select(vec![
        "# web-4000 was here\n",
        "listen 80;\r\n",
        "  server_name web-4000.example;\n",
        "\tset $x 'a b';\n",
        "proxy_pass http://my-web-3000:1;\n",
        "location ~ \\.php$ { return 204; }\n",
        "\n",
    ]);
    let named = prop::sample::select(vec![
        "proxy_pass http://web-3000:3000;",
        "upstream u { server web-3000:3000 weight=2; }\r\n",
        "set $u \"http://web-3000:3000/x\";\n",
    ]);
    prop::collection::vec(prop_oneof![3 => noise, 1 => named], 1..12)
        .prop_map(|lines| lines.concat())
        .prop_filter("names a colour", |text| find(text.as_bytes(), &web()).is_ok())
}

proptest! {
    #[test]
    fn twice_is_once_back_and_other_bytes_stay(text in file()) {
        let there = swapped(&text);
        prop_assert_ne!(&there, &text);
        prop_assert_eq!(swapped(&there), text.clone());
        let changed: Vec<_> = text.bytes().zip(there.bytes()).filter(|(a, b)| a != b).collect();
        prop_assert!(changed.iter().all(|pair| *pair == (b'3', b'4')));
        prop_assert_eq!(text.len(), there.len());
    }

    #[test]
    fn any_text_is_named_or_refused(text in "(web-3000|web-4000|[ -~\\n]){0,40}") {
        if let Ok(named) = find(text.as_bytes(), &web()) {
            let there = named.rename(text.as_bytes(), &web(), named.color.other());
            prop_assert_eq!(find(&there, &web()).unwrap().color, named.color.other());
        }
    }
}
