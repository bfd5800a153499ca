//! From files as people have them, and hosts as they are, to configurations that hold.
//!
//! `cases/` has shapes that are common in public, written anew.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use bluegreen_core::adapter::docker::{SeenContainer, SeenEndpoint, SeenNetwork};
use bluegreen_core::adapter::nginx::SeenNginx;
use yaml_rust2::YamlLoader;

use super::choose::{Chosen, choose};
use super::codedeploy::Project;
use super::look::{Facts, FoundProxy};
use super::source::parse;
use super::{create, document, written};
use crate::config;

fn cases(kind: &str) -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/commands/init/cases").join(kind);
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 5, "{kind}: {paths:?}");
    let read = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read_to_string(path).unwrap())
    };
    paths.iter().map(read).collect()
}

/// What would be written, which `config check` has nothing against.
fn accepted(name: &str, facts: &Facts) -> String {
    let chosen = choose(facts);
    let text = document::render(&chosen);
    if let Err(problems) = config::parse(&text, Path::new("/")) {
        panic!("{name}: {problems:#?}\n{text}");
    }
    text
}

#[test]
fn files_of_other_tools() {
    for kind in ["compose", "pm2", "kamal"] {
        for (name, text) in cases(kind) {
            let described = parse(&name, &text).unwrap_or_else(|error| panic!("{name}: {error}")).describe();
            let facts = Facts { described: vec![described], ..Facts::default() };
            let chosen = choose(&facts);
            let text = if chosen.apps.is_empty() { left(&chosen) } else { accepted(&name, &facts) };
            // Whatever is in the file and not in what is written has its line in what is left.
            assert!(text.contains(&format!("{name}:")), "{name}\n{text}");
            insta::assert_snapshot!(format!("{kind}_{name}"), text);
        }
    }
}

fn left(chosen: &Chosen) -> String {
    chosen.left.iter().map(|left| format!("{left}\n")).collect()
}

fn container(name: &str, image: &str, change: impl FnOnce(&mut SeenContainer)) -> SeenContainer {
    let mut container = SeenContainer::default();
    container.name = name.to_owned();
    container.image = image.to_owned();
    container.pid = Some(100);
    container.restart = Some("unless-stopped".to_owned());
    change(&mut container);
    container
}

fn publish(container: &mut SeenContainer, ip: Ipv4Addr, inside: u16, outside: u16) {
    container.ports.push((inside, IpAddr::V4(ip), outside));
}

fn on(container: &mut SeenContainer, network: &str, ip: [u8; 4], chosen: bool, aliases: &[&str]) {
    let mut endpoint = SeenEndpoint::default();
    endpoint.network = network.to_owned();
    endpoint.ip = Some(IpAddr::from(ip));
    endpoint.chosen = chosen;
    endpoint.aliases = aliases.iter().map(|alias| (*alias).to_owned()).collect();
    container.networks.push(endpoint);
}

fn nginx(site: &str) -> SeenNginx {
    let main = "user www-data;\npid /run/nginx.pid;\nhttp { include /etc/nginx/conf.d/*.conf; }\n";
    let files = [("/etc/nginx/nginx.conf", main), ("/etc/nginx/conf.d/default.conf", site)];
    SeenNginx::in_files(files.map(|(path, text)| (path.to_owned(), text.to_owned())).to_vec())
}

fn subnet(name: &str, range: &str) -> SeenNetwork {
    let mut network = SeenNetwork::default();
    network.name = name.to_owned();
    network.subnets = vec![range.to_owned()];
    network
}

#[test]
fn sites_of_nginx_on_the_host() {
    let local = |name: &str, inside, outside| {
        container(name, &format!("example/{name}:1"), |own| {
            publish(own, Ipv4Addr::LOCALHOST, inside, outside);
        })
    };
    for (name, site) in cases("nginx") {
        let containers = vec![
            local("shop", 3000, 3000),
            local("api-1", 8000, 5000),
            container("aa", "example/aa:1", |own| {
                publish(own, Ipv4Addr::UNSPECIFIED, 80, 4001);
                own.env = ["TOKEN".to_owned()].into();
                own.memory = Some(256 << 20);
                own.mounts = vec!["/srv/a:/data:ro".to_owned()];
                own.healthcheck = true;
            }),
            local("bb", 50051, 4002),
        ];
        let taken = containers.iter().flat_map(|own| &own.ports).map(|port| port.2).collect();
        let proxies = vec![FoundProxy { container: None, seen: nginx(&site) }];
        let facts = Facts { containers, proxies, taken, ..Facts::default() };
        insta::assert_snapshot!(format!("host_{name}"), accepted(&name, &facts));
    }
}

/// nginx in a container, its conf.d a directory of the host.
fn in_container(site: &str, change: impl FnOnce(&mut SeenContainer)) -> FoundProxy {
    let own = container("nginx", "nginx:1.26", |own| {
        own.mounts = vec!["/srv/nginx/conf.d:/etc/nginx/conf.d:ro".to_owned()];
        publish(own, Ipv4Addr::UNSPECIFIED, 80, 80);
        change(own);
    });
    FoundProxy { container: Some(own), seen: nginx(site) }
}

#[test]
fn hosts_of_the_shell_script() {
    let direct = "server { listen 80; location / { proxy_pass http://web-3000:3000; } }\n";
    let upstream =
        "upstream app { server web-4000:3000; }\nserver { location / { proxy_pass http://app; } }\n";
    let variable =
        "server { resolver 127.0.0.11; set $a web-3000; location / { proxy_pass http://$a:3000; } }\n";
    let two = "server { server_name a; location / { proxy_pass http://web-3000:3000; } }\n\
               server { server_name b; location / { proxy_pass http://web-3000:3000; } }\n";
    for (name, site, port, stopped, ip) in [
        ("direct", direct, 3000, None, Ipv4Addr::UNSPECIFIED),
        ("upstream", upstream, 4000, None, Ipv4Addr::UNSPECIFIED),
        ("variable", variable, 3000, None, Ipv4Addr::LOCALHOST),
        ("two_servers", two, 3000, None, Ipv4Addr::UNSPECIFIED),
        ("one_is_left_stopped", direct, 3000, Some(4000), Ipv4Addr::UNSPECIFIED),
    ] {
        let place = |port: u16, pid| {
            container(&format!("web-{port}"), "123456789012.dkr.ecr.eu-west-1.amazonaws.com/web:41", |own| {
                own.pid = pid;
                own.restart = None;
                publish(own, ip, 3000, port);
                on(own, "dev", [172, 18, 0, 3], false, &[]);
            })
        };
        let proxy = in_container(site, |own| on(own, "dev", [172, 18, 0, 2], false, &[]));
        let mut containers = vec![proxy.container.clone().unwrap(), place(port, Some(7))];
        containers.extend(stopped.map(|port| place(port, None)));
        let facts = Facts {
            containers,
            networks: vec![subnet("dev", "172.18.0.0/16")],
            proxies: vec![proxy],
            ..Facts::default()
        };
        insta::assert_snapshot!(format!("script_{name}"), accepted(name, &facts));
    }
}

#[test]
fn composed_hosts_with_nginx_in_a_container() {
    let file =
        "services:\n  web:\n    image: example/web:1\n    expose: [3000]\n  nginx:\n    image: nginx\n";
    let site = "server { location / { proxy_pass http://web:3000; } }\n";
    for (name, chosen) in [("no_subnet", false), ("a_subnet", true)] {
        let proxy = in_container(site, |own| on(own, "app_default", [172, 30, 0, 2], chosen, &["nginx"]));
        let web = container("app-web-1", "example/web:1", |own| {
            on(own, "app_default", [172, 30, 0, 10], false, &["web"]);
            own.labels = [("com.docker.compose.project", "app"), ("com.docker.compose.service", "web")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into();
        });
        let facts = Facts {
            containers: vec![proxy.container.clone().unwrap(), web],
            networks: vec![subnet("app_default", "172.30.0.0/24"), subnet("bridge", "172.17.0.0/16")],
            proxies: vec![proxy],
            described: vec![parse("compose.yaml", file).unwrap().describe()],
            ..Facts::default()
        };
        let first: Vec<String> = choose(&facts).first.iter().map(|words| words.join(" ")).collect();
        let text = accepted(name, &facts);
        insta::assert_snapshot!(format!("composed_{name}"), format!("{first:#?}\n{text}"));
    }
}

#[test]
fn what_is_there_is_never_written_over_and_the_umask_counts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bluegreen.toml");
    let facts = Facts {
        containers: vec![container("web", "example/web:1", |own| {
            publish(own, Ipv4Addr::LOCALHOST, 3000, 3000);
        })],
        ..Facts::default()
    };
    let chosen = choose(&facts);
    assert_eq!(written(&chosen, &path, true, false).exit.code(), 0);
    assert!(!path.exists(), "it was only to be shown");
    assert_eq!(written(&chosen, &path, false, false).exit.code(), 0);
    let first = std::fs::read_to_string(&path).unwrap();
    assert_eq!(config::load(&path).unwrap().apps.len(), 1, "{first}");
    let again = written(&chosen, &path, false, false);
    assert_eq!(again.exit.code(), 10);
    assert!(again.error.unwrap().message.contains("exists"));
    // Nor through a link that leads nowhere.
    let link = dir.path().join("link.toml");
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), &link).unwrap();
    assert!(create(&link, "x", 0o666).is_err());
    assert!(!dir.path().join("elsewhere").exists());
    assert_eq!(written(&choose(&Facts::default()), &path, true, false).exit.code(), 10);
}

fn project(image: &str, bucket: Option<&str>) -> Option<Project> {
    Project::of("web-api".parse().unwrap(), &image.parse().unwrap(), bucket.map(str::to_owned))
}

#[test]
fn what_codedeploy_and_codebuild_get_is_read_by_real_parsers() {
    let image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/web:latest";
    let files = project(image, None).unwrap().files();
    let text = |path: &str| files.iter().find(|file| file.path == path).unwrap().text.clone();
    let yaml = |path: &str| YamlLoader::load_from_str(&text(path)).unwrap().remove(0);
    let appspec = yaml("appspec.yml");
    assert_eq!(appspec["os"].as_str(), Some("linux"));
    assert_eq!(appspec["hooks"]["ApplicationStart"][0]["location"].as_str(), Some("scripts/deploy.sh"));
    assert!(appspec["hooks"]["ApplicationStop"].is_badvalue());
    let dir = tempfile::tempdir().unwrap();
    create(&dir.path().join("appspec.yml"), &text("appspec.yml"), 0o666).unwrap();
    let limit = crate::hook::limit(dir.path(), "ApplicationStart", Some("scripts/deploy.sh"));
    assert_eq!(limit.map(|limit| limit.as_secs()), Some(900), "our own reader of appspec.yml");
    let buildspec = yaml("buildspec.yml");
    let mut commands = Vec::new();
    for phase in ["pre_build", "build", "post_build"] {
        let listed = buildspec["phases"][phase]["commands"].as_vec().unwrap();
        commands.extend(listed.iter().map(|command| command.as_str().unwrap().to_owned()));
    }
    commands.push(text("scripts/deploy.sh"));
    for command in commands {
        for shell in ["sh", "bash"] {
            let checked = std::process::Command::new(shell).args(["-n", "-c", &command]).status().unwrap();
            assert!(checked.success(), "{shell}: {command}");
        }
    }
    // What the build writes is what deploy reads.
    let last = buildspec["phases"]["post_build"]["commands"][2].as_str().unwrap();
    let script = format!("cd {} && REPOSITORY=r.example/web TAG=1 && {last}", dir.path().display());
    assert!(std::process::Command::new("sh").args(["-c", &script]).status().unwrap().success());
    let definitions = crate::inputs::read(&dir.path().join("imagedefinitions.json")).unwrap();
    let entry = definitions.select(None, Some("web-api")).unwrap();
    assert_eq!(entry.image.to_string(), "r.example/web:1");
    for file in ["iam/instance-policy.json", "iam/codebuild-policy.json"] {
        let policy: serde_json::Value = serde_json::from_str(&text(file)).unwrap();
        assert_eq!(policy["Version"], "2012-10-17");
        for statement in policy["Statement"].as_array().unwrap() {
            let actions = statement["Action"].as_array().unwrap();
            assert!(
                !actions.is_empty() && actions.iter().all(|action| !action.as_str().unwrap().contains('*'))
            );
            // The least: everything but the token is for one thing only.
            let all = statement["Resource"].as_array().unwrap().contains(&"*".into());
            assert_eq!(all, statement["Sid"] == "EcrToken", "{statement:#}");
        }
    }
    insta::assert_snapshot!(
        "codedeploy",
        files.iter().map(|file| format!("---- {}\n{}", file.path, file.text)).collect::<String>()
    );
}

#[test]
fn other_partitions_and_other_registries() {
    for (image, has) in [
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/web:1", Some("arn:aws-cn:ecr:cn-north-1:")),
        ("123456789012.dkr.ecr.us-gov-west-1.amazonaws.com/web:1", Some("arn:aws-us-gov:ecr:us-gov-west-1:")),
        ("registry.example.com/web:1", None),
        ("web:1", None),
    ] {
        let policy = project(image, Some("revisions")).map(|project| project.files()[3].text.clone());
        match (policy, has) {
            (Some(policy), Some(arn)) => {
                assert!(policy.contains(arn) && policy.contains(":s3:::revisions/*"));
            }
            (policy, arn) => assert_eq!(policy.is_none(), arn.is_none(), "{image}"),
        }
    }
}
