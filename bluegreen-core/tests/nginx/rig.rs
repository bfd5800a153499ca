use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bluegreen_core::adapter::nginx::{HostNginx, Mode, Nginx, NginxInstance, Site};
use bluegreen_core::model::{AppName, Color, Endpoint, InstanceName, Slot, Slots};
use bluegreen_core::port::{MockContainerRuntime, Proxy};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A port that was free a moment ago. Not one that the kernel gives to outgoing connections: under load they are so
/// many that one would soon be in the way of a listener.
pub(crate) fn free_port() -> u16 {
    use std::hash::{BuildHasher as _, RandomState};
    (0..1000)
        .map(|_| 10_000 + u16::try_from(RandomState::new().hash_one(0) % 20_000).unwrap())
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap()
}

#[expect(clippy::disallowed_methods, reason = "a test writes as an editor or a script does")]
pub(crate) fn write(path: impl AsRef<Path>, text: impl AsRef<[u8]>) {
    fs::write(path, text).unwrap();
}

/// An nginx of its own, with two applications behind it that answer with their colour.
pub(crate) struct Rig {
    pub(crate) dir: TempDir,
    pub(crate) port: u16,
    pub(crate) slots: Slots,
    pub(crate) app: AppName,
    nginx: Child,
}

impl Rig {
    /// Starts the applications; `confs` makes the files of `conf.d` before nginx starts.
    pub(crate) async fn start(confs: impl FnOnce(&Self)) -> Self {
        let dir = tempfile::Builder::new().prefix("bluegreen-nginx-").tempdir().unwrap();
        // nginx's workers are another user.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.path().join("conf.d")).unwrap();
        let slots = Slots { blue: slot(Color::Blue).await, green: slot(Color::Green).await };
        let app = AppName::new("web-api").unwrap();
        let idle = Command::new("true").spawn().unwrap();
        let mut rig = Self { dir, port: free_port(), slots, app, nginx: idle };
        let user = if rustix_is_root() { "user www-data;\n" } else { "" };
        let root = rig.path("");
        let root = root.display();
        let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .fold(String::new(), |out, kind| out + &format!("  {kind}_temp_path {root}/{kind};\n"));
        write(
            rig.path("nginx.conf"),
            format!(
                "{user}worker_processes 2;\npid {root}/nginx.pid;\nerror_log {root}/error.log notice;\n\
                 events {{ worker_connections 256; }}\nhttp {{\n  access_log off;\n{temp}\
                 include {root}/conf.d/*.conf;\n}}\n"
            ),
        );
        confs(&rig);
        rig.nginx = Command::new("nginx")
            .args(["-c", &rig.path("nginx.conf").display().to_string(), "-p"])
            .arg(rig.dir.path())
            .args(["-g", "daemon off;"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        for _ in 0..500 {
            if rig.path("nginx.pid").exists() && TcpStream::connect(("127.0.0.1", rig.port)).await.is_ok() {
                return rig;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nginx does not start: {}", rig.log());
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("error.log")).unwrap_or_default()
    }

    /// A server of the user's with these lines in its location.
    pub(crate) fn server(&self, lines: &str) -> String {
        let port = self.port;
        format!("server {{\n  listen 127.0.0.1:{port};\n  location / {{\n    {lines}\n  }}\n}}\n")
    }

    /// Debian's modules: its nginx loads them only where its configuration says so.
    pub(crate) fn load_lua(&self) {
        let module = |name: &str| format!("load_module /usr/lib/nginx/modules/{name}_module.so;\n");
        let main = fs::read_to_string(self.path("nginx.conf")).unwrap();
        write(self.path("nginx.conf"), module("ndk_http") + &module("ngx_http_lua") + &main);
    }

    pub(crate) fn site(&self, mode: Mode) -> Site {
        let mut host = HostNginx::default();
        host.config = Some(self.path("nginx.conf"));
        host.prefix = Some(self.path(""));
        Site::new(NginxInstance::Host(host), mode, self.slots.clone())
    }

    pub(crate) fn proxy_of(&self, site: Site) -> Nginx {
        let mut runtime = MockContainerRuntime::new();
        runtime.expect_find().returning(|_| Ok(None));
        Nginx::new(Arc::new(runtime), BTreeMap::from([(self.app.clone(), site)]))
    }

    pub(crate) fn live(&self, control: u16) -> Nginx {
        self.proxy_of(self.site(Mode::Live { dir: self.path("conf.d"), control_port: control }))
    }

    pub(crate) fn rewrite(&self) -> Nginx {
        self.proxy_of(self.site(Mode::rewrite(self.path("conf.d/default.conf"))))
    }

    pub(crate) fn reload(&self) {
        let config = self.path("nginx.conf");
        let prefix = self.path("");
        let ran =
            Command::new("nginx").arg("-c").arg(config).arg("-p").arg(prefix).args(["-s", "reload"]).output();
        let ran = ran.unwrap();
        assert!(ran.status.success(), "{ran:?}");
    }

    /// One fresh request: its status and body.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let mut client = Client::connect(self.port).await.unwrap();
        client.request("GET", path, "").await.unwrap()
    }

    /// The colour that a fresh request reaches.
    pub(crate) async fn color(&self) -> String {
        self.get("/").await.1
    }

    /// The switch, the proof, and what was there before.
    pub(crate) async fn go(&self, proxy: &Nginx, to: Color) {
        let backend = self.slots.of(to).backend();
        proxy.switch(&self.app, Some(backend.clone())).await.unwrap();
        proxy.verify(&self.app, &backend).await.unwrap();
    }

    /// The files below `conf.d` with what they hold.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        fn all(dir: &Path, root: &Path, out: &mut BTreeMap<String, Vec<u8>>) {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(root).unwrap().display().to_string();
                if path.is_dir() {
                    all(&path, root, out);
                    out.insert(name + "/", Vec::new());
                } else {
                    out.insert(name, fs::read(&path).unwrap());
                }
            }
        }
        let (root, mut out) = (self.path("conf.d"), BTreeMap::new());
        all(&root, &root, &mut out);
        out
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // A killed master would leave its workers behind.
        let asked = Command::new("kill").args(["-TERM", &self.nginx.id().to_string()]).status();
        asked.ok();
        self.nginx.wait().ok();
    }
}

/// Makes `key.pem` and `cert.pem`.
pub(crate) fn certificate(rig: &Rig) {
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=a.example", "-keyout"])
        .arg(rig.path("key.pem"))
        .arg("-out")
        .arg(rig.path("cert.pem"))
        .output();
    let made = made.unwrap();
    assert!(made.status.success(), "{made:?}");
}

fn rustix_is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// An application that answers with its colour, after 600 ms at `/slow`.
async fn slot(color: Color) -> Slot {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::from_ip(IpAddr::from([127, 0, 0, 1]), listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, color));
        }
    });
    let name = InstanceName::new(format!("web-{color}")).unwrap();
    Slot::new(color, name, endpoint.port(), endpoint)
}

async fn answer(mut stream: TcpStream, color: Color) {
    let mut read = Vec::new();
    loop {
        let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            if !matches!(stream.read_buf(&mut read).await, Ok(1..)) {
                return;
            }
            continue;
        };
        let head = String::from_utf8_lossy(&read[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let whole = end + 4 + length.unwrap_or(0_usize);
        while read.len() < whole {
            if !matches!(stream.read_buf(&mut read).await, Ok(1..)) {
                return;
            }
        }
        if head.starts_with("get /slow") {
            tokio::time::sleep(Duration::from_millis(600)).await;
        }
        let body = color.as_str();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(answer.as_bytes()).await.is_err() || head.contains("connection: close") {
            return;
        }
        read.drain(..whole);
    }
}

/// A client that never repeats a request, and knows when nginx has said that it will close.
pub(crate) struct Client {
    stream: TcpStream,
    pub(crate) closing: bool,
}

impl Client {
    pub(crate) async fn connect(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        Ok(Self { stream, closing: false })
    }

    pub(crate) async fn request(
        &mut self,
        method: &str,
        path: &str,
        body: &str,
    ) -> std::io::Result<(u16, String)> {
        let length = body.len();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}");
        self.stream.write_all(request.as_bytes()).await?;
        let mut read = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&read);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length =
                    head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
                self.closing = head.contains("\r\nConnection: close");
                if body.len() >= length.unwrap_or(0_usize) {
                    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
                    return Ok((status.unwrap_or(0), body.to_owned()));
                }
            }
            if self.stream.read_buf(&mut read).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Clients that ask, with short pauses, until they are told to end.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Load {
    /// `(method, keep-alive, how many)`.
    pub(crate) fn start(port: u16, kinds: &[(&'static str, bool, usize)]) -> Self {
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = Vec::new();
        for (method, keep, count) in kinds.iter().copied() {
            for _ in 0..count {
                let (stop, asked) = (stop.clone(), asked.clone());
                tasks.push(tokio::spawn(async move {
                    let (mut failures, mut client) = (Vec::new(), None);
                    while !stop.load(Ordering::Relaxed) {
                        let mut open = match client.take() {
                            Some(open) => open,
                            None => Client::connect(port).await.unwrap(),
                        };
                        asked.fetch_add(1, Ordering::Relaxed);
                        match open.request(method, "/", if method == "POST" { "hello" } else { "" }).await {
                            Ok((200, body)) if body == "blue" || body == "green" => {
                                client = (keep && !open.closing).then_some(open);
                            }
                            other => failures.push(format!("{method} keep-alive={keep}: {other:?}")),
                        }
                        // A machine that does nothing else shows only how busy it is.
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                    failures
                }));
            }
        }
        Self { stop, asked, tasks }
    }

    /// How many were asked, and what failed.
    pub(crate) async fn end(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        for task in self.tasks {
            failures.extend(task.await.unwrap());
        }
        (self.asked.load(Ordering::Relaxed), failures)
    }
}
