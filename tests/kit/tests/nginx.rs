//! Real nginx of each version, in a container and on the host, and the control of the whole method: under
//! reloads the load client must see losses where they are known to happen.

use std::time::Duration;

use bluegreen_testkit::docker::{AppImage, Run, docker};
use bluegreen_testkit::load::{Config, FailureKind, Handle, Mode, Report, Target};
use bluegreen_testkit::nginx::{HostNginx, Nginx, NginxBinary, NginxContainer, NginxVersion};
use bluegreen_testkit::process::{is_alive, wait_until};

fn conf(upstream: &str) -> String {
    format!(
        "upstream app {{ server {upstream}; }}\n\
         server {{ listen @PORT@; location / {{ proxy_pass http://app; proxy_http_version 1.1; \
         proxy_set_header Connection \"\"; proxy_buffering off; }} }}\n"
    )
}

fn every_mode(url: &str) -> Config {
    // Without a cap all of this opens 28,000 connections to one container in a minute, and the host has no port left.
    let config = Config::new(Target::parse(url).expect("a private address")).at_most(100.0);
    Mode::SHORT.into_iter().fold(config, |config, mode| config.with(mode, 2))
}

/// Load for a while, with so many reloads in it.
fn load(config: Config, nginx: &dyn Nginx, reloads: u32) -> Report {
    let load = Handle::spawn(config);
    assert!(load.wait_until(Duration::from_secs(5), |report| report.total.requests > 100));
    for _ in 0..reloads {
        let before = nginx.worker_pids().expect("workers");
        nginx.reload().expect("a reload");
        assert!(wait_until(Duration::from_secs(5), || {
            nginx.worker_pids().expect("workers").iter().any(|pid| !before.contains(pid))
        }));
        std::thread::sleep(Duration::from_millis(250));
    }
    if reloads == 0 {
        std::thread::sleep(Duration::from_secs(5));
    }
    load.stop()
}

fn app(run: &Run, network: Option<&str>) -> String {
    let image = run.app_image("app:v1", &AppImage::version("v1")).expect("an image");
    let options: Vec<_> = network.iter().flat_map(|name| ["--network", name]).collect();
    let app = run.start(&run.name("app"), &image, &options, &[]).expect("the app");
    format!("{}:3000", app.ip().expect("its address"))
}

#[test]
#[ignore = "needs Docker and a Debian mirror: ./scripts/test"]
fn each_version_in_a_container_serves_without_loss_and_its_reload_does_not() {
    let run = Run::new();
    let network = run.network("net").expect("a network");
    let upstream = app(&run, Some(&network.name));
    for version in NginxVersion::ALL {
        let name = run.name(&format!("nginx-{}", version.suite()));
        let site = conf(&upstream);
        let nginx = NginxContainer::start(&run, &name, version, Some(&network), &[("app.conf", &site)], &[])
            .expect("an nginx");
        let said = docker(["exec", &name, "sh", "-c", "nginx -v 2>&1 && cat /etc/nginx/conf.d/app.conf"]);
        assert!(said.as_ref().is_ok_and(|text| text.contains(version.number())), "{said:?}");
        assert_eq!(nginx.worker_pids().expect("workers").len(), 2);

        let published = load(every_mode(&nginx.url()), &nginx, 0);
        eprintln!("{version:?}, published port, no reload\n{published}\n");
        published.assert_lossless();
        let direct = load(every_mode(&nginx.direct_url()), &nginx, 10);
        eprintln!("{version:?}, own address, 10 reloads\n{direct}\n");
        expect_the_race(&direct);
    }
}

#[test]
#[ignore = "needs Docker and a Debian mirror: ./scripts/test"]
fn each_version_on_the_host_serves_without_loss_and_its_reload_does_not() {
    let run = Run::new();
    let upstream = app(&run, None);
    let binaries = [NginxBinary::System].into_iter().chain(NginxVersion::ALL.map(NginxBinary::Of));
    for binary in binaries {
        let nginx = HostNginx::start(&run, binary, &[("app.conf", &conf(&upstream))]).expect("an nginx");
        let (master, workers) = (nginx.master_pid().expect("a pid"), nginx.worker_pids().expect("workers"));
        assert_eq!(workers.len(), 2);
        let title = std::fs::read_to_string(format!("/proc/{master}/cmdline")).expect("a title");
        assert!(title.starts_with("nginx: master process"), "{title}");

        let quiet = load(every_mode(&nginx.url()), &nginx, 0);
        eprintln!("host {binary:?}, no reload\n{quiet}\n");
        quiet.assert_lossless();
        let reloaded = load(every_mode(&nginx.url()), &nginx, 10);
        eprintln!("host {binary:?}, 10 reloads\n{reloaded}\n");
        expect_the_race(&reloaded);

        assert!(wait_until(Duration::from_secs(5), || nginx.draining_pids().expect("workers").is_empty()));
        nginx.write_conf("broken.conf", "server { listen @PORT@ }").expect("a file");
        let error = nginx.call(&["-t"]).expect_err("a broken file").to_string();
        assert!(error.contains("broken.conf"), "{error}");
        assert!(nginx.error_log().expect("a log").contains("reconfiguring"));
        drop(nginx);
        assert!(
            !is_alive(master) && wait_until(Duration::from_secs(2), || !workers.iter().any(|w| is_alive(*w)))
        );
    }
}

/// Reused connections die at a reload, and nothing else does.
fn expect_the_race(report: &Report) {
    let naive = report.mode(Mode::Naive).failed + report.mode(Mode::Keepalive).failed;
    assert!(naive > 0, "ten reloads and no loss seen: the client is blind\n{report}");
    let race = report.count(FailureKind::EofWithoutAByte) + report.count(FailureKind::Reset);
    assert_eq!(report.total.failed, race, "{report}");
    assert!(report.failures.iter().all(|failure| failure.reused), "{report}");
}

#[test]
#[ignore = "needs Docker and a Debian mirror: ./scripts/test"]
fn a_flag_file_is_seen_by_workers_of_both_kinds() {
    let run = Run::new();
    let site = "server { listen @PORT@; set $c blue; if (-f @FLAGS@/app.green) { set $c green; } \
                location / { return 200 $c; } }";
    let container =
        NginxContainer::start(&run, &run.name("n"), NginxVersion::V1_22, None, &[("a.conf", site)], &[]);
    let container = container.expect("an nginx");
    let host = HostNginx::start(&run, NginxBinary::System, &[("a.conf", site)]).expect("an nginx");
    let both: [&dyn Nginx; 2] = [&container, &host];
    for nginx in both {
        let ask = || bluegreen_testkit::process::output("curl", ["-sS", "--max-time", "5", &nginx.url()]);
        assert_eq!(ask().expect("an answer"), "blue");
        std::fs::File::create(nginx.flag_dir().join("app.green")).expect("a flag");
        assert_eq!(ask().expect("an answer"), "green");
    }
}
