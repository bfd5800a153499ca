use clap::Parser as _;

use super::*;
use crate::args::{Cli, Command};

/// A directory with the given files, and what a command line means in it.
struct Place(tempfile::TempDir);

impl Place {
    fn with(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let mut file = std::fs::File::create(dir.path().join(name)).unwrap();
            std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        }
        Self(dir)
    }

    /// `@name` is a file of this place.
    fn deployment(&self, line: &str) -> Result<(Target, ImageRef), SettingsError> {
        let line = line.replace('@', &format!("{}/", self.0.path().display()));
        let cli = Cli::try_parse_from(shlex::split(&format!("bluegreen deploy {line}")).unwrap()).unwrap();
        let Command::Deploy(args) = cli.command else { panic!("not a deploy") };
        deployment(&cli.global, &args.input.what)
    }

    fn refusal(&self, line: &str) -> String {
        let error = self.deployment(line).unwrap_err();
        let text = format!(
            "{error}\n  hint: {}",
            error.hint().map(|hint| hint.words().unwrap_or_default().to_owned()).unwrap_or_default()
        );
        text.replace(&format!("{}/", self.0.path().display()), "@")
    }
}

const TWO: &str = "[app.web]\nimage = \"r.io/web:0\"\n[app.api]\nports = { blue = 3001, green = 4001 }\n";
const ENTRY: &str = r#"[{"name":"web","imageUri":"r.io/web:1"}]"#;

#[test]
fn the_scripts_inputs_alone_mean_what_the_script_does() {
    let place = Place::with(&[("i.json", ENTRY), ("default.conf", "")]);
    let (target, image) = place.deployment("--image-definitions @i.json --nginx-conf @default.conf").unwrap();
    let spec = &target.app.spec;
    assert_eq!(image.to_string(), "r.io/web:1");
    let (blue, green) = (&spec.slots.blue, &spec.slots.green);
    assert_eq!((blue.name.as_str(), green.name.as_str()), ("web-3000", "web-4000"));
    assert_eq!(blue.endpoint.to_string(), "web-3000:3000");
    let publish = green.publish.unwrap();
    assert_eq!((publish.ip.to_string().as_str(), publish.port, green.port), ("::", 4000, 3000));
    assert_eq!(spec.options.networks, [NetworkAttachment::new("dev")]);
    assert_eq!(spec.gate.checks, [Check::Log(LogPattern::text("localhost:3000"))]);
    assert_eq!(spec.gate.deadline, Some(Duration::from_secs(30)));
    assert!(spec.adopt);
    assert_eq!(target.app.nginx.mode, Mode::Rewrite);
    assert!(target.app.nginx.in_container());
    assert!(target.warnings[0].to_string().contains("publish = \"127.0.0.1\""), "the safer setting is named");
    assert!(target.again.to_string().starts_with("web --nginx-conf /"), "{}", target.again);
}

#[test]
fn a_state_directory_that_is_typed_counts_and_goes_into_the_next_command() {
    let place = Place::with(&[("c.toml", "state_dir = \"/srv/written\"\n[app.web]\n"), ("default.conf", "")]);
    let of = |line: &str| place.deployment(&format!("web --image r.io/web:1 {line}")).unwrap().0;
    let written = of("--config @c.toml");
    assert_eq!(written.state_dir, Some(PathBuf::from("/srv/written")));
    assert!(!written.again.to_string().contains("--state-dir"), "{}", written.again);
    for line in ["--config @c.toml", "--nginx-conf @default.conf"] {
        let typed = of(&format!("{line} --state-dir /srv/typed"));
        assert_eq!(typed.state_dir, Some(PathBuf::from("/srv/typed")), "{line}");
        assert!(typed.again.to_string().ends_with(" --state-dir /srv/typed"), "{}", typed.again);
    }
}

#[test]
fn the_application_is_the_one_that_the_definitions_name() {
    let place = Place::with(&[("c.toml", TWO), ("i.json", ENTRY)]);
    let (target, image) = place.deployment("--config @c.toml --image-definitions @i.json").unwrap();
    assert_eq!((target.app.spec.name.as_str(), image.to_string().as_str()), ("web", "r.io/web:1"));
    let (_, image) = place.deployment("web --config @c.toml").unwrap();
    assert_eq!(image.to_string(), "r.io/web:0", "without anything else the configured one");
    let (_, image) = place.deployment("api --config @c.toml --image r.io/api:7").unwrap();
    assert_eq!(image.to_string(), "r.io/api:7");
}

#[test]
fn what_is_not_clear_is_refused_with_a_way_on() {
    let place = Place::with(&[
        ("c.toml", TWO),
        ("i.json", ENTRY),
        ("other.json", r#"[{"name":"shop","imageUri":"r.io/shop:1"}]"#),
        ("detail.json", r#"{"ImageURI":"r.io/web:1"}"#),
        ("bad.json", r#"[{"name":"a b","imageUri":"r.io/web:1"}]"#),
        ("default.conf", ""),
    ]);
    let lines = [
        "--config @c.toml",
        "wep --config @c.toml",
        "api --config @c.toml",
        "--config @none.toml",
        "--config @c.toml --image-definitions @other.json",
        "api --config @c.toml --image-definitions @i.json",
        "--image-definitions @detail.json --nginx-conf @default.conf",
        "--image-definitions @bad.json --nginx-conf @default.conf",
        "--image-definitions @i.json --nginx-conf @none.conf",
        "--image-definitions @none.json --nginx-conf @default.conf",
        "web --nginx-conf @default.conf",
    ];
    let report: Vec<String> = lines.iter().map(|line| format!("{line}\n  {}", place.refusal(line))).collect();
    insta::assert_snapshot!(report.join("\n"));
}

/// The verbs after a deploy read one table only, and know the others' names all the same.
#[test]
fn a_slip_in_a_name_is_answered_with_the_names_that_there_are() {
    let place = Place::with(&[("c.toml", TWO)]);
    let at = |name: &str| place.0.path().join(name).display().to_string();
    let (config, state) = (at("c.toml"), at("state"));
    let line = ["bluegreen", "status", "wep", "--config", &config, "--state-dir", &state];
    let cli = Cli::try_parse_from(line).unwrap();
    let Command::Status(args) = cli.command else { panic!("not a status") };
    let error = target(&cli.global, &args).unwrap_err();
    assert!(["web, api", "api, web"].iter().any(|names| error.to_string().ends_with(names)), "{error}");
    assert_eq!(error.hint().unwrap().lines(), ["to do: did you mean web?"]);
}

#[test]
fn the_state_directory_of_the_command_line_wins_and_is_named_again() {
    let place = Place::with(&[
        ("c.toml", "state_dir = \"/from/the/file\"\n[app.web]\nimage = \"r.io/web:0\"\n"),
        ("i.json", ENTRY),
        ("default.conf", ""),
    ]);
    let (target, _) = place.deployment("--config @c.toml").unwrap();
    assert_eq!(target.state_dir.as_deref(), Some(Path::new("/from/the/file")));
    for line in ["--config @c.toml", "--image-definitions @i.json --nginx-conf @default.conf"] {
        let (target, _) = place.deployment(&format!("{line} --state-dir /given")).unwrap();
        assert_eq!(target.state_dir.as_deref(), Some(Path::new("/given")), "{line}");
        assert!(target.again.to_string().ends_with(" --state-dir /given"), "{}", target.again);
        let (target, _) = place.deployment(&format!("{line} --state-dir here")).unwrap();
        assert!(target.state_dir.unwrap().is_absolute(), "{line}");
    }
}

/// What `line` means to the verbs that come after a deploy.
fn later(place: &Place, line: &str) -> Result<Target, SettingsError> {
    let line = line.replace('@', &format!("{}/", place.0.path().display()));
    let cli = Cli::try_parse_from(shlex::split(&format!("bluegreen status {line}")).unwrap()).unwrap();
    let Command::Status(args) = cli.command else { panic!("not a status") };
    target(&cli.global, &args)
}

#[test]
fn nginx_own_file_counts_for_the_verbs_after_a_deploy_too_and_is_named_again() {
    let place = Place::with(&[
        (
            "c.toml",
            "[app.web]\nimage = \"r.io/web:0\"\n[nginx]\nmode = \"rewrite\"\nconf = \"/written.conf\"\n",
        ),
        ("default.conf", ""),
    ]);
    let conf = place.0.path().join("default.conf").canonicalize().unwrap();
    let line = "web --config @c.toml --nginx-conf @default.conf --state-dir @state";
    for found in [later(&place, line).unwrap(), place.deployment(line).unwrap().0] {
        assert_eq!(found.app.nginx.conf.as_deref(), Some(conf.as_path()));
        let again = found.again.to_string();
        assert_eq!(again.matches("--nginx-conf").count(), 1, "{again}");
        assert!(again.contains(&conf.display().to_string()), "{again}");
        let deploy = found.deploy().unwrap_or_default();
        assert!(deploy.iter().filter(|word| *word == "--nginx-conf").count() < 2, "{deploy:?}");
    }
    let written = later(&place, "web --config @c.toml --state-dir @state").unwrap();
    assert_eq!(written.app.nginx.conf.as_deref(), Some(Path::new("/written.conf")));
}
