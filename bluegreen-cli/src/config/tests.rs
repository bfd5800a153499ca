use std::collections::BTreeSet;
use std::time::Duration;

use bluegreen_core::model::{Check, Color, HttpCheck, LogPattern, ReceiptPolicy};
use toml::Value;

use super::*;

const EXAMPLE: &str = include_str!("../../../docs/bluegreen.example.toml");

fn good(text: &str) -> Config {
    parse(text, Path::new(".")).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn bad(text: &str) -> String {
    let problems = parse(text, Path::new("/nowhere")).unwrap_err();
    diagnostic::render("bluegreen.toml", text, &problems, false)
}

fn app(config: &Config, name: &str) -> App {
    config.apps[&AppName::new(name).unwrap()].clone()
}

/// All keys of a document, names that are the user's own as `*`.
fn keys(value: &Value, path: &str, known: &BTreeSet<String>, found: &mut BTreeSet<String>) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                let exact = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let free = format!("{path}.*");
                let is_free = known.iter().any(|name| *name == free || name.starts_with(&format!("{free}.")));
                let path = if is_free { free } else { exact };
                found.insert(path.clone());
                keys(value, &path, known, found);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| keys(value, path, known, found)),
        _ => {}
    }
}

#[test]
fn the_example_is_right_and_complete() {
    let cx = ConfigReader::default();
    let config = parse_into(&cx, EXAMPLE, Path::new("."));
    let known = cx.known();
    assert_eq!(cx.into_problems(), []);
    assert_eq!(config.apps.len(), 1);

    let mut found = BTreeSet::new();
    keys(&EXAMPLE.parse::<toml::Table>().map(Value::Table).unwrap(), "", &known, &mut found);
    // A key that the code asks for and the example does not show, not even in a comment, is undocumented.
    let undocumented: Vec<_> = known
        .iter()
        .filter(|key| !found.contains(*key))
        .filter(|key| {
            let last = key.rsplit('.').next().unwrap_or(key);
            !EXAMPLE.lines().any(|line| {
                line.trim_start().starts_with(&format!("# {last} = "))
                    || line.contains(&format!("{{ {last} = "))
            })
        })
        .filter(|key| !is_under_a_shared_section(key))
        .collect();
    assert_eq!(undocumented, Vec::<&String>::new());
}

/// `[app.NAME.nginx]` has the keys of `[nginx]`, which are documented there.
fn is_under_a_shared_section(key: &str) -> bool {
    key.starts_with("app.*.nginx.")
}

#[test]
fn the_example_means_what_it_says() {
    let config = good(EXAMPLE);
    let web = app(&config, "web");
    let (blue, green) = (&web.spec.slots.blue, &web.spec.slots.green);
    assert_eq!(
        (blue.endpoint.to_string(), green.endpoint.to_string()),
        ("172.30.0.10:3000".into(), "172.30.0.11:3000".into())
    );
    assert_eq!(
        green.publish.map(|publish| (publish.ip.to_string(), publish.port)),
        Some(("127.0.0.1".into(), 4000))
    );
    assert_eq!((blue.name.as_str(), blue.color), ("web-3000", Color::Blue));
    assert_eq!(web.spec.options.networks.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(), ["backend"]);
    assert_eq!(
        blue.network.as_ref().map(|n| (n.name.as_str(), n.aliases.clone())),
        Some(("web", vec!["web".into()]))
    );
    assert_eq!(web.spec.options.memory, Some(512 << 20));
    assert_eq!(web.spec.options.milli_cpus, Some(500));
    assert_eq!(web.spec.options.command, Some(vec!["node".into(), "server.js".into()]));
    let mut http = HttpCheck::get(3000, "/health");
    http.status = vec![200, 204];
    http.body = Some(LogPattern::regex("^ok"));
    http.host = Some("shop.example.com".into());
    assert_eq!(
        web.spec.gate.checks,
        [
            Check::Http(http),
            Check::Tcp { port: 3000 },
            Check::Log(LogPattern::text("listening on")),
            Check::Command { command: vec!["/app/ready".into()] },
        ]
    );
    assert_eq!(web.nginx.conf, Some("/etc/nginx/conf.d/web.conf".into()));
    assert_eq!(
        web.nginx.url.as_ref().map(ToString::to_string).as_deref(),
        Some("http://127.0.0.1:80/health (Host: shop.example.com)")
    );
}

#[test]
fn the_smallest_file_gets_the_safe_defaults() {
    let web = app(&good("[app.web]\n"), "web");
    let slots = &web.spec.slots;
    assert_eq!(slots.blue.endpoint.to_string(), "127.0.0.1:3000");
    assert_eq!(slots.green.endpoint.to_string(), "127.0.0.1:4000");
    assert!(slots.blue.publish.is_some_and(|publish| publish.ip.is_loopback()));
    assert_eq!((slots.blue.name.as_str(), slots.green.name.as_str()), ("web-blue", "web-green"));
    assert_eq!(web.spec.gate.checks, [Check::Tcp { port: 3000 }]);
    assert_eq!(web.spec.gate.deadline, None);
    assert_eq!(web.spec.gate.time_for(None), Ok(Duration::from_secs(30)));
    assert!(!web.spec.adopt);
    assert_eq!(web.nginx.mode, Mode::Live);
}

#[test]
fn no_check_is_only_none_when_it_is_said() {
    assert_eq!(app(&good("[app.web]\nhealth = \"none\"\n"), "web").spec.gate.checks, []);
    let zero = app(&good("[app.web.drain]\ntimeout = \"0s\"\n"), "web").spec.drain;
    assert_eq!(zero.timeout, Duration::ZERO);
}

#[test]
fn several_applications_share_the_nginx_and_differ_in_the_rest() {
    let text = "[nginx]\ncontainer = \"nginx\"\nmode = \"rewrite\"\nconf = \"/c/a.conf\"\n\
        [app.a]\nnetwork = \"dev\"\n[app.b]\nnetwork = \"dev\"\nnginx.conf = \"/c/b.conf\"\n";
    let config = good(text);
    let (a, b) = (app(&config, "a"), app(&config, "b"));
    assert_eq!(a.nginx.place, b.nginx.place);
    assert_eq!(b.nginx.conf, Some("/c/b.conf".into()));
    assert_eq!(a.spec.slots.blue.endpoint.to_string(), "a-blue:3000");
    assert_eq!(a.spec.slots.blue.publish, None, "a name needs no published port");
}

/// Each with its name, so that a snapshot says what it is about.
const BAD: [(&str, &str); 40] = [
    ("unknown_top_key", "statedir = \"/x\"\n[app.web]\n"),
    ("unknown_app_key", "[app.web]\nimgae = \"r.io/a:1\"\n"),
    ("unknown_nested_key", "[app.web.health]\ndeadlin = \"30s\"\n"),
    ("unknown_key_in_inline_table", "[app.web]\nhealth = { http = { pth = \"/\" } }\n"),
    ("unknown_key_without_neighbour", "[docker]\nzzz = 1\n[app.web]\n"),
    ("wrong_section_name", "[apps.web]\nimage = \"r.io/a:1\"\n"),
    ("unknown_enum_value", "[app.web]\nrestart = \"unless_stopped\"\n"),
    ("unknown_nested_enum_value", "[app.web.drain]\nlong_lived = \"never\"\n"),
    ("duration_without_unit", "[app.web.health]\ndeadline = 30\n"),
    ("duration_as_text_without_unit", "[app.web.health]\ndeadline = \"30\"\n"),
    ("duration_with_wrong_unit", "[app.web.drain]\ntimeout = \"5min\"\n"),
    ("zero_deadline", "[app.web.health]\ndeadline = \"0s\"\n"),
    ("min_healthy_beyond_deadline", "[app.web.health]\ndeadline = \"5s\"\nmin_healthy = \"10s\"\n"),
    ("min_healthy_beyond_the_default_deadline", "[app.web.health]\nmin_healthy = \"30s\"\n"),
    (
        "successes_beyond_deadline",
        "[app.web.health]\ndeadline = \"20s\"\nsuccesses = 3\ninterval = \"8s\"\nmin_healthy = \"4s\"\n",
    ),
    ("no_time_for_an_attempt", "[app.web.health]\nattempt_timeout = \"0s\"\n"),
    ("a_log_that_is_nowhere", "[app.web]\nhealth = { log = \"ready\" }\nlog = { driver = \"none\" }\n"),
    (
        "a_log_that_is_not_kept",
        "[app.web]\nhealth = { log = \"ready\" }\n[app.web.log]\ndriver = \"syslog\"\noptions = { cache-disabled = \"true\" }\n",
    ),
    ("stopped_and_started_again", "[app.web]\nrestart = \"always\"\nretain = { keep_stopped = true }\n"),
    ("size_without_unit", "[app.web]\nmemory = \"512\"\ncpus = 0\n"),
    ("port_out_of_range", "[app.web]\nport = 70000\n"),
    ("wrong_types", "[app.web]\nimage = 5\nport = \"3000\"\ninit = \"yes\"\nlog = \"json-file\"\n"),
    ("bad_image", "[app.web]\nimage = \"Registry.io/Web:1\"\n"),
    ("bad_app_name", "[app.\"web;x\"]\n"),
    ("equal_ports", "[app.web]\nports = { blue = 3000, green = 3000 }\n"),
    ("one_port_missing", "[app.web]\nports = { blue = 3000 }\n"),
    ("ports_of_two_apps", "[app.a]\n[app.b]\n"),
    (
        "names_of_two_apps",
        "[app.a]\nnames = { blue = \"x1\", green = \"x2\" }\n[app.b]\nports = { blue = 1, green = 2 }\nnames = { blue = \"x2\", green = \"x3\" }\n",
    ),
    ("ips_equal", "[app.a]\nnetwork = \"n\"\nips = { blue = \"10.0.0.1\", green = \"10.0.0.1\" }\n"),
    ("rewrite_without_conf", "[nginx]\nmode = \"rewrite\"\n[app.web]\n"),
    ("live_by_name", "[app.web]\nreach = \"name\"\nnetwork = \"dev\"\n"),
    ("live_in_container_needs_addresses", "[nginx]\ncontainer = \"nginx\"\n[app.web]\n"),
    ("unpublished_but_by_port", "[app.web]\npublish = \"none\"\n"),
    ("label_of_ours", "[app.web]\nlabels = { \"bluegreen.app\" = \"x\" }\n"),
    (
        "relative_paths",
        "state_dir = \"state\"\n[nginx]\nconf = \"conf.d/a.conf\"\n[app.web]\nvolumes = \"data:relative\"\n",
    ),
    ("env_file_missing", "[app.web]\nenv_file = \"web.env\"\nenv = { A = 1, PASSWORD = \"hunter2\" }\n"),
    ("no_toml", "[app.web\nimage = \"r.io/a:1\"\nenv = { PASSWORD = \"hunter2 }\n"),
    (
        "host_settings_for_a_container",
        "[nginx]\ncontainer = \"nginx\"\nbinary = \"nginx\"\n[app.web]\nreach = \"port\"\n",
    ),
    ("url_with_tls", "[nginx]\nurl = \"https://a/\"\nhost = \"a b\"\n[app.web]\n"),
    ("nothing", ""),
];

#[test]
fn what_is_wrong_is_shown_in_its_place() {
    let mut report = String::new();
    for (name, text) in BAD {
        let shown = bad(text);
        assert!(!shown.contains("hunter2"), "a secret is shown: {shown}");
        for line in shown.lines() {
            assert!(line.chars().count() <= 160, "{name} has a long line: {line}");
        }
        report.push_str(&format!("=== {name}\n{shown}"));
    }
    insta::assert_snapshot!(report);
}

#[test]
fn many_problems_are_counted_and_not_all_shown() {
    let text = (0..20).fold("[app.web]\n".to_owned(), |text, n| text + &format!("zzz{n} = 1\n"));
    assert!(bad(&text).contains("… and 12 more"));
}

#[test]
fn files_that_are_none() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().join("none.toml"), dir.path().to_owned()] {
        let error = load(&path).unwrap_err();
        assert!(matches!(error, ConfigError::Unreadable { .. }), "{error}");
    }
    let endless = load(Path::new("/dev/zero")).unwrap_err();
    assert!(matches!(endless, ConfigError::TooLarge { .. }), "{endless}");
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "(\\[app\\.web\\]\n)?[ -~\n]{0,80}") {
        if let Err(problems) = parse(&text, Path::new("/nowhere")) {
            drop(diagnostic::render("f", &text, &problems, false));
        }
    }
}

#[test]
fn a_receipt_is_on_unless_it_is_switched_off_and_its_slips_are_shown() {
    let receipt = |text: &str| app(&good(&format!("[app.web.receipt]\n{text}")), "web").spec.receipt;
    assert_eq!(app(&good("[app.web]\n"), "web").spec.receipt, Some(ReceiptPolicy::default()));
    assert_eq!(receipt("enabled = false\nrate = 3\n"), None);
    let gate = receipt("max_failures = 2\nbake = \"0s\"\n").unwrap().gate.unwrap();
    assert_eq!((gate.max_failures, gate.bake), (2, Duration::ZERO));
    for (text, part) in [
        ("rate = 0", "from 1 to 500"),
        ("rate = 501", "from 1 to 500"),
        ("timeout = \"0s\"", "more than \"0s\""),
        ("bake = \"1s\"", "expected `max_failures` as well"),
        ("enabled = false\nmax_failures = 0", "without `max_failures`"),
        ("max_failures = -1", "out of range"),
        ("path = \"health\"", "starts with `/`"),
        ("host = \"a b\"", "not a valid `Host` header"),
        ("max_failure = 1", "did you mean `max_failures`?"),
    ] {
        let shown = bad(&format!("[app.web.receipt]\n{text}\n"));
        assert!(shown.contains(part), "{text}: {shown}");
    }
}

#[test]
fn what_is_retained_may_be_warm_and_wants_room() {
    let retain = |text: &str| app(&good(&format!("[app.web.retain]\n{text}")), "web").spec.retain;
    let kept = retain("warm = \"10m\"\nmin_free = \"1g\"\n");
    assert_eq!((kept.warm, kept.min_free), (Some(Duration::from_mins(10)), 1 << 30));
    assert_eq!((retain("").warm, retain("warm = \"0s\"\n").warm), (None, None));
    assert_eq!((retain("").min_free, retain("min_free = \"0b\"\n").min_free), (500_000_000, 0));
    assert!(bad("[app.web.retain]\nmin_free = \"5\"\n").contains("has no unit"));
    assert!(bad("[app.web.retain]\nwarm = 10\n").contains("a number has no unit"));
}
