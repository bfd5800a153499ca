//! Site files as people have them: what clients and the application see is asked before an install, after it, after
//! switches, after a rollback, with nothing of ours serving, and after a removal. It must be the same every time, or the
//! install must have been refused before anything was touched.
//!
//! Each file of `sites/` begins with what is asked of it: `#? METHOD PATH [Header: value]`, with `TLS` in front where
//! that is meant; or with `#? refused TEXT`.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bluegreen_core::adapter::nginx::{Mode, Nginx};
use bluegreen_core::model::{Color, Endpoint, InstanceName, Slot, Slots};
use bluegreen_core::port::{Proxy as _, ProxyError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::rig::{Rig, certificate, free_port, write};

/// What an application was sent, in the order in which it came.
type Seen = Arc<Mutex<Vec<String>>>;

/// An application that answers with what it was sent.
struct Echo {
    port: u16,
    seen: Seen,
}

impl Echo {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, seen) = (listener.local_addr().unwrap().port(), Seen::default());
        let keep = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(echo(stream, keep.clone()));
            }
        });
        Self { port, seen }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    fn slot(&self, color: Color) -> Slot {
        let name = InstanceName::new(format!("web-{color}")).unwrap();
        Slot::new(color, name, self.port, Endpoint::from_ip(IpAddr::from([127, 0, 0, 1]), self.port))
    }
}

async fn echo(mut stream: TcpStream, seen: Seen) {
    let mut read = Vec::new();
    let end = loop {
        if let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end;
        }
        if !matches!(stream.read_buf(&mut read).await, Ok(1..)) {
            return;
        }
    };
    let head = String::from_utf8_lossy(&read[..end]).into_owned();
    let header = |name: &str| {
        let mut lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    let length: usize = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let chunked = header("transfer-encoding").is_some();
    while read.len() < end + 4 + length || chunked && !read.ends_with(b"0\r\n\r\n") {
        if !matches!(stream.read_buf(&mut read).await, Ok(1..)) {
            return;
        }
    }
    let text = format!("{head}\r\n\r\n{}", String::from_utf8_lossy(&read[end + 4..]));
    seen.lock().unwrap().push(text.clone());
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let has = |what: &str| path.contains(what);
    let host = header("host").unwrap_or_default();
    let folder =
        path.split('?').next().and_then(|path| path.rsplit_once('/')).map_or("", |(folder, _)| folder);
    let status = match () {
        () if has("redirect") => format!("302 Found\r\nLocation: http://{host}{folder}/next"),
        () if has("missing") => "404 Not Found".to_owned(),
        () if has("fail") => "500 Internal Server Error".to_owned(),
        () if has("accel") => "200 OK\r\nX-Accel-Redirect: /files/hello.txt".to_owned(),
        () if header("x-deny").is_some() || has("check") && text.contains("deny") => {
            "403 Forbidden".to_owned()
        }
        () => "200 OK\r\nX-Who: ann".to_owned(),
    };
    let body = if has("/ssi") {
        "a <!--# include virtual=\"/part\" --> b".to_owned()
    } else {
        format!("path {text}")
    };
    let length = body.len();
    let body = if method == "HEAD" { String::new() } else { body };
    let answer = format!(
        "HTTP/1.1 {status}\r\nServer: echo\r\nX-Powered-By: echo\r\nContent-Type: text/html\r\n\
         Set-Cookie: s=1; Domain=app.internal; Path=/\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).await.ok();
}

/// One site file.
pub(crate) struct File {
    pub(crate) name: String,
    text: String,
    asks: Vec<String>,
    refused: Option<String>,
}

impl File {
    pub(crate) fn all() -> Vec<Self> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nginx/sites");
        let mut paths: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let asked = text.lines().filter_map(|line| line.strip_prefix("#? "));
        let (refused, asks): (Vec<&str>, Vec<&str>) = asked.partition(|ask| ask.starts_with("refused "));
        Self {
            name: path.file_stem().unwrap().to_string_lossy().into_owned(),
            asks: asks.into_iter().map(str::to_owned).collect(),
            refused: refused.first().map(|why| why["refused ".len()..].to_owned()),
            text,
        }
    }
}

/// A site file in an nginx of its own.
pub(crate) struct Stage {
    pub(crate) rig: Rig,
    tls: u16,
    blue: Echo,
    green: Echo,
    elsewhere: Echo,
    pub(crate) site: PathBuf,
    /// The site's text as nginx has it.
    pub(crate) text: String,
}

const SITE: &str = "conf.d/site.conf";

impl Stage {
    pub(crate) async fn start(file: &File) -> Self {
        let (blue, green, elsewhere) = (Echo::start().await, Echo::start().await, Echo::start().await);
        let tls = free_port();
        let mut text = String::new();
        let mut rig = Rig::start(|rig| {
            let dir = rig.path("");
            let dir = dir.display().to_string();
            let put = |text: &str| {
                [
                    ("@PORT@", rig.port),
                    ("@TLS@", tls),
                    ("@BLUE@", blue.port),
                    ("@GREEN@", green.port),
                    ("@OTHER@", elsewhere.port),
                ]
                .iter()
                .fold(text.replace("@DIR@", dir.trim_end_matches('/')), |text, (name, port)| {
                    text.replace(name, &port.to_string())
                })
            };
            text = put(&file.text);
            fs::create_dir(rig.path("www")).unwrap();
            write(rig.path("www/hello.txt"), "hello\n");
            write(rig.path("users"), "ann:{PLAIN}secret\n");
            write(
                rig.path("proxy_params"),
                "proxy_set_header Host $http_host;\nproxy_set_header X-Real-IP $remote_addr;\n",
            );
            write(rig.path("proxy.inc"), "proxy_next_upstream error timeout;\nproxy_connect_timeout 240;\n");
            write(rig.path("app.inc"), put("location / {\n    proxy_pass http://127.0.0.1:@BLUE@;\n}\n"));
            if file.text.contains("@TLS@") {
                certificate(rig);
            }
            if file.text.contains("_by_lua_block") {
                rig.load_lua();
            }
            write(rig.path(SITE), &text);
        })
        .await;
        rig.slots = Slots { blue: blue.slot(Color::Blue), green: green.slot(Color::Green) };
        let site = rig.path(SITE);
        Self { rig, tls, blue, green, elsewhere, site, text }
    }

    pub(crate) fn nginx(&self) -> Nginx {
        let mut site = self.rig.site(Mode::Live { dir: self.rig.path("conf.d"), control_port: free_port() });
        for (at, line) in self.text.lines().enumerate().filter(|(_, line)| line.ends_with("# take")) {
            assert!(line.contains("proxy_pass"));
            site.lines.push(format!("{}:{}", self.site.display(), at + 1).parse().unwrap());
        }
        self.rig.proxy_of(site)
    }

    /// What clients and applications see, and how many requests each of blue, green and the third had.
    pub(crate) async fn ask(&self, file: &File) -> (Vec<String>, [usize; 3]) {
        let mut seen = Vec::new();
        // What an install or a proof has asked is no client's.
        for app in [&self.blue, &self.green, &self.elsewhere] {
            drop(app.take());
        }
        for ask in &file.asks {
            let answer = match ask.strip_prefix("TLS ") {
                Some(ask) => over_tls(self.tls, ask).await,
                None => plain(self.rig.port, ask).await,
            };
            seen.push(format!("{ask} -> {}", same(&answer)));
        }
        // A mirrored request is nobody's to wait for.
        tokio::time::sleep(Duration::from_millis(30)).await;
        let sent = [&self.blue, &self.green, &self.elsewhere].map(Echo::take);
        let counts = [sent[0].len(), sent[1].len(), sent[2].len()];
        let mut sent: Vec<String> =
            sent.into_iter().flatten().map(|text| format!("application: {text}")).collect();
        sent.sort();
        seen.extend(sent);
        (seen, counts)
    }
}

/// What stays of an answer: all but the time.
fn same(answer: &str) -> String {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let time = |line: &&str| {
        !["date: ", "expires: ", "last-modified: ", "etag: "]
            .iter()
            .any(|name| line.to_lowercase().starts_with(name))
    };
    format!("{}\n\n{body}", head.lines().filter(time).collect::<Vec<_>>().join("\n"))
}

/// Method, path, and the headers with those that were asked for.
fn parts(ask: &str) -> (&str, &str, Vec<String>, &'static str) {
    let mut words = ask.splitn(3, ' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let own = words.next().map(str::to_owned);
    let mut headers: Vec<String> = own.into_iter().collect();
    let has = |headers: &[String], name: &str| headers.iter().any(|header| header.starts_with(name));
    if !has(&headers, "Host") {
        headers.push("Host: a.example".to_owned());
    }
    if !has(&headers, "Accept-Encoding") {
        headers.push("Accept-Encoding: gzip".to_owned());
    }
    headers.push(
        if has(&headers, "Upgrade") { "Connection: upgrade, close" } else { "Connection: close" }.to_owned(),
    );
    let body = if matches!(method, "POST" | "PUT") { "hello" } else { "" };
    (method, path, headers, body)
}

async fn plain(port: u16, ask: &str) -> String {
    let (method, path, headers, body) = parts(ask);
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\n{}\r\nContent-Length: {length}\r\n\r\n{body}",
        headers.join("\r\n")
    );
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    let whole = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut read)).await;
    let end = if whole.is_err() { "\r\n(no end)" } else { "" };
    String::from_utf8_lossy(&read).into_owned() + end
}

async fn over_tls(port: u16, ask: &str) -> String {
    let (method, path, headers, body) = parts(ask);
    let mut curl = tokio::process::Command::new("curl");
    curl.args(["-sik", "--http1.1", "--max-time", "10", "-X", method]);
    for header in &headers {
        curl.args(["-H", header]);
    }
    if !body.is_empty() {
        curl.args(["-d", body]);
    }
    let ran = curl.arg(format!("https://127.0.0.1:{port}{path}")).output().await.unwrap();
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

/// What differs, in words.
pub(crate) fn differs(stage: &str, before: &[String], after: &[String]) -> Vec<String> {
    let pairs = before.iter().zip(after).filter(|(before, after)| before != after);
    let mut found: Vec<String> =
        pairs.map(|(before, after)| format!("{stage}:\n- {before:?}\n+ {after:?}")).collect();
    if before.len() != after.len() {
        found.push(format!(
            "{stage}: {} before, {} after: {before:#?} {after:#?}",
            before.len(),
            after.len()
        ));
    }
    found
}

/// What is wrong with one file, and how many requests were compared.
async fn run(file: &File) -> (Vec<String>, usize) {
    let stage = Stage::start(file).await;
    let (rig, proxy) = (&stage.rig, stage.nginx());
    let files = rig.files();
    if let Some(why) = &file.refused {
        let planned = proxy.installation(&rig.app).await.map(drop);
        let installed = proxy.install(&rig.app).await.map(drop);
        let mut wrong = Vec::new();
        for (what, result) in [("preview", planned), ("install", installed)] {
            match result {
                Err(ProxyError::Unrecognized { .. } | ProxyError::SecondWay { .. }) => {
                    let error = format!("{result:?}");
                    // The place of a second way is a value of its own.
                    let error = error.replace("site.conf\", line: Some(", "site.conf:");
                    if !error.contains(why) || !error.contains("site.conf:") && !error.contains("app.inc:") {
                        wrong.push(format!("{what}: refused with other words: {error}"));
                    }
                }
                other => wrong.push(format!("{what}: not refused: {other:?}")),
            }
        }
        if rig.files() != files {
            wrong.push("a refusal has changed files".to_owned());
        }
        return (wrong, 0);
    }
    match compared(file, &stage, &proxy, &files).await {
        Ok(found) => found,
        Err(error) => {
            (vec![format!("{error:?}; {}", rig.log().lines().rev().take(3).collect::<String>())], 0)
        }
    }
}

async fn compared(
    file: &File,
    stage: &Stage,
    proxy: &Nginx,
    files: &BTreeMap<String, Vec<u8>>,
) -> Result<(Vec<String>, usize), ProxyError> {
    let (rig, app) = (&stage.rig, &stage.rig.app);
    let (before, at_first) = stage.ask(file).await;
    assert!(!file.asks.is_empty() && at_first.iter().sum::<usize>() > 0, "{}: asks nothing", file.name);
    let (mut wrong, mut count) = (Vec::new(), file.asks.len());
    // There and back at once leaves no trace.
    let planned = proxy.installation(app).await?.changes;
    if proxy.install(app).await? != planned {
        wrong.push("the preview has promised something else".to_owned());
    }
    proxy.remove(app).await?;
    if rig.files() != *files {
        wrong.push(format!("a removal leaves something: {:?}", rig.files().keys()));
    }
    proxy.install(app).await?;
    let mut look = async |name: &str, serves: Option<usize>| {
        let (after, counts) = stage.ask(file).await;
        count += file.asks.len();
        wrong.extend(differs(name, &before, &after));
        // The third is asked by some sites on its own account.
        let by = serves.map_or(at_first, |color| {
            let taken = file.text.contains("# take");
            let mut by = [0, 0, if taken { 0 } else { at_first[2] }];
            by[color] = at_first[0] + at_first[1] + if taken { at_first[2] } else { 0 };
            by
        });
        if counts != by {
            wrong.push(format!("{name}: blue, green and the third had {counts:?}, not {by:?}"));
        }
    };
    look("after install", None).await;
    for (name, color) in
        [("first deploy", Color::Green), ("second deploy", Color::Blue), ("rollback", Color::Green)]
    {
        proxy.check(app).await?;
        proxy.switch(app, Some(rig.slots.of(color).backend())).await?;
        look(name, Some(usize::from(color == Color::Green))).await;
    }
    proxy.switch(app, None).await?;
    look("nothing of ours", None).await;
    let other = if at_first[0] > 0 { Color::Green } else { Color::Blue };
    proxy.switch(app, Some(rig.slots.of(other).backend())).await?;
    proxy.verify(app, &rig.slots.of(other).backend()).await?;
    proxy.remove(app).await?;
    let kept: Vec<_> = rig.files().into_keys().collect();
    if kept != ["site.conf"] {
        wrong.push(format!("a removal leaves {kept:?}"));
    }
    // What the application was sent names the place that serves now, where the site's own text does.
    let (after, _) = stage.ask(file).await;
    let named = |text: &String| {
        [&stage.blue, &stage.green, &stage.elsewhere]
            .iter()
            .fold(text.clone(), |text, app| text.replace(&app.port.to_string(), "PORT"))
    };
    let [before, after] = [&before, &after].map(|seen| {
        let mut seen: Vec<String> = seen.iter().map(named).collect();
        seen.sort();
        seen
    });
    wrong.extend(differs("after remove", &before, &after));
    Ok((wrong, count + file.asks.len()))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
#[expect(clippy::disallowed_methods, reason = "a person asks for one file alone")]
async fn whatever_people_have_stays_what_it_is_or_is_refused() {
    let only = std::env::var("BLUEGREEN_SITE").ok();
    let (room, mut tasks) = (Arc::new(Semaphore::new(4)), JoinSet::new());
    for file in File::all().into_iter().filter(|file| only.as_ref().is_none_or(|only| file.name == *only)) {
        let room = room.clone();
        tasks.spawn(async move {
            let _turn = room.acquire_owned().await.unwrap();
            let (wrong, requests) = run(&file).await;
            (file, wrong, requests)
        });
    }
    let (mut files, mut asked, mut refused, mut bad) = (0, 0, 0, Vec::new());
    while let Some(done) = tasks.join_next().await {
        let (file, wrong, requests) = done.unwrap();
        files += 1;
        asked += requests;
        refused += usize::from(file.refused.is_some());
        bad.extend((!wrong.is_empty()).then(|| format!("== {}\n{}", file.name, wrong.join("\n"))));
    }
    eprintln!("{files} site files, {asked} requests compared, {refused} files refused, {} differ", bad.len());
    assert!(bad.is_empty(), "{}", bad.join("\n\n"));
    assert!(only.is_some() || files >= 70 && asked > 1_500, "{files} files, {asked} requests");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn an_install_that_is_wrong_would_be_noticed() {
    // What the comparison is worth: the same site with one thing left out of our file.
    let files = File::all();
    let file = files.iter().find(|file| file.name == "strip").unwrap();
    for left_out in ["proxy_set_header Host", "proxy_redirect", "proxy_pass http://bluegreen_web_api/;"] {
        let stage = Stage::start(file).await;
        let (before, _) = stage.ask(file).await;
        stage.nginx().install(&stage.rig.app).await.unwrap();
        let mut found = false;
        for number in 1..=2 {
            let path = stage.rig.path(&format!("conf.d/bluegreen/web-api.line-{number}"));
            let text = fs::read_to_string(&path).unwrap();
            let kept =
                text.lines().filter(|line| !line.starts_with(left_out)).map(|line| format!("{line}\n"));
            let mut kept: String = kept.collect();
            if kept != text && left_out.starts_with("proxy_pass") {
                kept += "proxy_pass http://bluegreen_web_api;\n";
            }
            found |= kept != text;
            write(path, kept);
        }
        assert!(found, "{left_out}");
        stage.rig.reload();
        tokio::time::sleep(Duration::from_millis(400)).await;
        let (after, _) = stage.ask(file).await;
        assert!(!differs("", &before, &after).is_empty(), "{left_out} was not missed");
    }
}
