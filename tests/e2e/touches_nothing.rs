//! What only looks leaves everything as it was: owner, mode, times and bytes of all that nginx uses, its processes,
//! containers, images and networks. With nginx run by root, by a plain user and in a container whose command gives up
//! root; and the command run by root and by a plain user.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bluegreen_testkit::docker::{Network, Run, docker, free_port};
use bluegreen_testkit::nginx::NginxVersion;
use bluegreen_testkit::process::{children, wait_until};

use crate::stage::{Ran, program, ran};

/// A user without a name, as nginx's and as the command's.
const PLAIN: &str = "1234";

const VERBS: [&[&str]; 9] = [
    &["doctor"],
    &["--output", "json", "doctor"],
    &["nginx", "check"],
    &["plan", "--image", "unused:1"],
    &["status"],
    &["nginx", "install", "--dry-run"],
    &["nginx", "remove", "--dry-run"],
    &["config", "check"],
    &["history"],
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Root,
    Plain,
    Container,
}

struct Site {
    run: Run,
    dir: tempfile::TempDir,
    who: Who,
    /// nginx's own, when it runs in a container.
    network: Option<Network>,
    host: Option<Child>,
    container: String,
}

fn write(path: &Path, text: &str) {
    fs::File::create(path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
        .expect("a file");
}

impl Site {
    fn start(who: Who) -> Self {
        let run = Run::new();
        let dir = tempfile::Builder::new().prefix("bluegreen-e2e-").tempdir().expect("a directory");
        let root = dir.path().canonicalize().expect("a directory");
        for name in ["nginx", "nginx/conf.d", "nginx/logs", "nginx/tmp", "state-0", "state-1234"] {
            fs::create_dir(root.join(name)).expect("a directory");
        }
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).expect("its mode");
        let container = run.name("nginx");
        let (port, [blue, green], control) = (free_port(), [free_port(), free_port()], free_port());
        let prefix = root.join("nginx").display().to_string();
        let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .fold(String::new(), |all, kind| all + &format!("{kind}_temp_path {prefix}/tmp/{kind};\n"));
        write(
            &root.join("nginx/nginx.conf"),
            &format!(
                "pid {prefix}/nginx.pid;\nerror_log {prefix}/logs/error.log;\nworker_processes 1;\nevents {{ }}\n\
                 http {{\naccess_log {prefix}/logs/access.log;\n{temp}include {prefix}/conf.d/[!_]*.conf;\n}}\n"
            ),
        );
        // Two of one name: nginx warns of it each time that it reads this, in the log that it begins with.
        let network = (who == Who::Container).then(|| run.network("net").expect("a network"));
        let (reach, at) = match &network {
            Some(network) => {
                let [blue, green] = [10, 11].map(|last| network.ip(last).to_string());
                let ips = format!("ips = {{ blue = \"{blue}\", green = \"{green}\" }}");
                (format!("network = \"{}\"\nreach = \"ip\"\n{ips}", network.name), format!("{blue}:3000"))
            }
            None => (format!("ports = {{ blue = {blue}, green = {green} }}"), format!("127.0.0.1:{blue}")),
        };
        write(
            &root.join("nginx/conf.d/site.conf"),
            &format!(
                "server {{ listen {port}; server_name a;\n location / {{ proxy_pass http://{at}; }} }}\n\
                 server {{ listen {port}; server_name a; }}\n"
            ),
        );
        write(&root.join("nginx/conf.d/_off.conf"), "this is no configuration");
        let place = match who {
            Who::Container => format!("container = \"{container}\""),
            _ => format!(
                "control_port = {control}\nmain_config = \"{prefix}/nginx.conf\"\nprefix = \"{prefix}\"\npid_file = \"{prefix}/nginx.pid\""
            ),
        };
        write(
            &root.join("bluegreen.toml"),
            &format!(
                "[nginx]\n{place}\ndir = \"{prefix}/conf.d\"\n[app.web]\nimage = \"unused\"\n\
                 pull = \"never\"\n{reach}\n"
            ),
        );
        let owned = Command::new("chown").args(["-R", PLAIN]).arg(root.join("state-1234")).status();
        assert!(owned.expect("chown").success());
        if who != Who::Root {
            let owned = Command::new("chown").args(["-R", &format!("{PLAIN}:{PLAIN}"), &prefix]).status();
            assert!(owned.expect("chown").success());
        }
        let mut site = Self { run, dir, who, network, host: None, container };
        let config = format!("{prefix}/nginx.conf");
        // Where it logs what it says before it has read any configuration; what only looks must not write there.
        let log = format!("{prefix}/logs/start");
        let nginx = ["nginx", "-c", &config, "-p", &prefix, "-e", &log, "-g", "daemon off;"];
        let become_plain = ["setpriv", "--reuid", PLAIN, "--regid", PLAIN, "--clear-groups"];
        match site.network.as_ref().map(|network| network.name.clone()) {
            Some(network) => {
                let image = NginxVersion::V1_22.image().expect("an image");
                let volume = format!("{prefix}:{prefix}");
                // Begun as root, as the Engine runs whatever is asked of this container, and root no more.
                let user = format!("--userspec={PLAIN}:{PLAIN}");
                let options = ["--volume", &volume, "--network", &network, "--entrypoint", "chroot"];
                let line: Vec<&str> = [user.as_str(), "/"].into_iter().chain(nginx).collect();
                site.run.start(&site.container, &image, &options, &line).expect("an nginx");
            }
            None => {
                let line: Vec<&str> = match who {
                    Who::Plain => become_plain.iter().chain(&nginx).copied().collect(),
                    _ => nginx.to_vec(),
                };
                let child =
                    Command::new(line[0]).args(&line[1..]).stdin(Stdio::null()).stderr(Stdio::null()).spawn();
                site.host = Some(child.expect("nginx"));
            }
        }
        let ready = || site.master().is_some_and(|master| !children(master).is_empty());
        assert!(wait_until(Duration::from_secs(20), ready), "nginx does not start");
        site
    }

    fn nginx(&self) -> PathBuf {
        self.dir.path().canonicalize().expect("a directory").join("nginx")
    }

    /// Its number on this host.
    fn master(&self) -> Option<u32> {
        match &self.host {
            Some(child) => Some(child.id()).filter(|_| self.nginx().join("nginx.pid").exists()),
            None => {
                docker(["inspect", "--format", "{{.State.Pid}}", &self.container]).ok()?.trim().parse().ok()
            }
        }
    }

    /// Runs the command as root, or as the plain user.
    fn bluegreen(&self, plain: bool, arguments: &[&str]) -> Ran {
        let mut command = Command::new(if plain { "setpriv" } else { "env" });
        if plain {
            let docker = fs::metadata("/var/run/docker.sock").map_or(0, |meta| meta.gid()).to_string();
            command.args(["--reuid", PLAIN, "--regid", PLAIN, "--groups", &docker]);
        }
        let state = self.dir.path().join(if plain { "state-1234" } else { "state-0" });
        command.arg(program()).arg("--state-dir").arg(state).args(arguments);
        ran(command.current_dir(self.dir.path()).stdin(Stdio::null()))
    }

    /// All that must stay.
    fn world(&self) -> BTreeMap<String, String> {
        let mut world = BTreeMap::new();
        tree(&self.nginx(), &mut world);
        let master = self.master().expect("nginx runs");
        for pid in std::iter::once(master).chain(children(master)) {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let start = stat
                .rsplit_once(')')
                .and_then(|(_, rest)| rest.split_whitespace().nth(19))
                .map(str::to_owned);
            world.insert(format!("process {pid}"), start.unwrap_or_default());
        }
        for (what, arguments) in [
            ("containers", &["ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.State}}"][..]),
            ("images", &["images", "--no-trunc", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}"]),
            ("networks", &["network", "ls", "--format", "{{.ID}} {{.Name}}"]),
        ] {
            world.insert(what.to_owned(), docker(arguments.iter().copied()).expect("docker"));
        }
        world
    }

    #[track_caller]
    fn stays(&self, before: &BTreeMap<String, String>, what: &str) {
        let after = self.world();
        let changed: Vec<_> = before
            .iter()
            .filter(|(name, was)| after.get(*name) != Some(was))
            .map(|(name, was)| format!("{name}: {was} -> {:?}", after.get(name)))
            .chain(
                after.keys().filter(|name| !before.contains_key(*name)).map(|name| format!("{name} is new")),
            )
            .collect();
        assert!(changed.is_empty(), "{:?}, {what}: {changed:#?}", self.who);
    }

    fn verbs_touch_nothing(&self, state: &str) {
        for plain in [false, true] {
            for verb in VERBS {
                let before = self.world();
                let ran = self.bluegreen(plain, verb);
                let what =
                    format!("{state}, plain user {plain}, {verb:?}: {}\n{}\n{}", ran.code, ran.out, ran.err);
                assert!(matches!(ran.code, 0..=30 | 50 | 51), "{what}");
                self.stays(&before, &what);
            }
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(child) = &mut self.host {
            Command::new("kill").arg(child.id().to_string()).status().ok();
            child.wait().ok();
        }
        self.run.clean().ok();
    }
}

/// Owner, mode, times of change and bytes of everything below.
fn tree(path: &Path, into: &mut BTreeMap<String, String>) {
    let meta = fs::symlink_metadata(path).expect("it is there");
    let bytes = if meta.is_file() { fs::read(path).expect("its bytes") } else { Vec::new() };
    let times = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
    let mut seen = format!("{}:{} {:o}", meta.uid(), meta.gid(), meta.mode());
    // A request that is sent to look is in nginx's own logs, as a client's is.
    if !(meta.is_file() && path.extension().is_some_and(|extension| extension == "log")) {
        seen.push_str(&format!(" {times:?} {}", bytes.escape_ascii()));
    }
    into.insert(path.display().to_string(), seen);
    if meta.is_dir() {
        for entry in fs::read_dir(path).expect("a directory") {
            tree(&entry.expect("an entry").path(), into);
        }
    }
}

fn nothing_is_touched(who: Who) {
    let site = Site::start(who);
    site.verbs_touch_nothing("as it was started");
    // Changed since: what lies there is not what runs, and nginx itself has to say whether it is sound.
    let conf = site.nginx().join("conf.d/site.conf");
    let text = fs::read_to_string(&conf).expect("the site");
    write(&conf, &format!("{text}# a note\n"));
    site.verbs_touch_nothing("edited");
    site.bluegreen(false, &["nginx", "check"]).expect(10).says(&["site.conf:2", "proxy_pass"]);

    // What does change something leaves nginx's own directories to nginx.
    let mut before = BTreeMap::new();
    tree(&site.nginx().join("tmp"), &mut before);
    site.bluegreen(false, &["nginx", "install"]).expect(0);
    let mut after = BTreeMap::new();
    tree(&site.nginx().join("tmp"), &mut after);
    assert_eq!(before, after, "{who:?}");
    site.verbs_touch_nothing("installed");

    // This can fail: nginx's own command, run by root as people do, is seen.
    let before = site.world();
    let conf = site.nginx().join("nginx.conf").display().to_string();
    match who {
        Who::Container => drop(docker(["exec", "--user", "0", &site.container, "nginx", "-t", "-c", &conf])),
        _ => {
            let log = site.nginx().join("logs/start").display().to_string();
            let test = ["-t", "-q", "-c", &conf, "-e", &log, "-p"];
            drop(Command::new("nginx").args(test).arg(site.nginx()).output());
        }
    }
    assert_ne!(before, site.world(), "the comparison sees nothing");
}

#[test]
#[ignore = "needs Docker, nginx and root: ./scripts/test"]
fn what_only_looks_touches_nothing_where_root_runs_nginx() {
    nothing_is_touched(Who::Root);
}

#[test]
#[ignore = "needs Docker, nginx and root: ./scripts/test"]
fn what_only_looks_touches_nothing_where_a_plain_user_runs_nginx() {
    nothing_is_touched(Who::Plain);
}

#[test]
#[ignore = "needs Docker, nginx and root: ./scripts/test"]
fn what_only_looks_touches_nothing_where_nginx_runs_in_a_container() {
    nothing_is_touched(Who::Container);
}

#[test]
#[ignore = "needs Docker, nginx and root: ./scripts/test"]
fn a_file_that_may_not_be_read_is_named_with_the_right_and_nothing_is_changed() {
    for who in [Who::Root, Who::Plain] {
        let site = Site::start(who);
        site.bluegreen(false, &["nginx", "install"]).expect(0);
        // It has our lines, and is somebody's who lets nobody look.
        let conf = site.nginx().join("conf.d/site.conf");
        std::os::unix::fs::chown(&conf, Some(0), Some(0)).expect("root can");
        fs::set_permissions(&conf, fs::Permissions::from_mode(0o600)).expect("its mode");
        let named = conf.display().to_string();
        let to_do = format!("to do: run as a user who may read {named}");
        for verb in [
            &["nginx", "remove"][..],
            &["nginx", "remove", "--dry-run"],
            &["nginx", "install"],
            &["nginx", "install", "--dry-run"],
            &["nginx", "check"],
        ] {
            let mut before = BTreeMap::new();
            tree(&site.nginx(), &mut before);
            let ran = site.bluegreen(true, verb).expect(10);
            ran.says(&[&named, "Permission denied", &to_do]);
            let mut after = BTreeMap::new();
            tree(&site.nginx(), &mut after);
            assert_eq!(before, after, "{verb:?}");
        }
    }
}
