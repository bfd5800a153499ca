// The mocks of the ports are there with this feature only.
#![cfg(feature = "testing")]

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use futures_util::{StreamExt as _, stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::model::{HttpCheck, InstanceName, LogPattern};
use crate::port::{
    ExecOutput, HealthStatus, InstanceId, InstanceState, LineStream, MockContainerRuntime, RuntimeError,
};

const WITHIN: Duration = Duration::from_secs(2);
const SOON: Duration = Duration::from_millis(100);

fn instance() -> Instance {
    let name = InstanceName::new("web-blue").unwrap();
    let mut instance = Instance::new(InstanceId::new("c0ffee"), name, InstanceState::Running);
    instance.ip = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    instance.image = "shop/web:1".into();
    instance
}

fn nothing_is_asked() -> Probes {
    Probes::new(Arc::new(MockContainerRuntime::new()))
}

async fn ask(check: Check, within: Duration) -> Result<Health, ProbeError> {
    nothing_is_asked().probe(&check, &instance(), within).await
}

fn reason(health: Result<Health, ProbeError>) -> String {
    match health {
        Ok(Health::Unhealthy { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

fn impossible(health: Result<Health, ProbeError>) -> String {
    match health {
        Err(ProbeError::Impossible { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

/// A server that reads one request a connection and then does `then`; gives its port.
async fn server<F, R>(then: F) -> u16
where
    F: Fn(TcpStream, String) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap_or_default();
            then(stream, String::from_utf8_lossy(&request[..length]).into_owned()).await;
        }
    });
    port
}

/// A server that answers everything with the same bytes.
async fn answering(answer: impl Into<Vec<u8>>) -> u16 {
    let answer = answer.into();
    server(move |mut stream, _| {
        let answer = answer.clone();
        async move {
            stream.write_all(&answer).await.ok();
        }
    })
    .await
}

fn get(port: u16) -> HttpCheck {
    HttpCheck::get(port, "/health")
}

#[tokio::test]
async fn http_takes_the_statuses_that_it_was_told() {
    let port = answering("HTTP/1.1 204 x\r\n\r\n").await;
    assert_eq!(ask(Check::Http(get(port)), WITHIN).await.unwrap(), Health::Healthy);
    let port = answering("HTTP/1.1 500 x\r\nContent-Length: 4\r\n\r\noops").await;
    assert_eq!(reason(ask(Check::Http(get(port)), WITHIN).await), "status 500");
    let mut teapot = get(answering("HTTP/1.1 418 x\r\nContent-Length: 0\r\n\r\n").await);
    teapot.status = vec![401, 418];
    assert_eq!(ask(Check::Http(teapot), WITHIN).await.unwrap(), Health::Healthy);
}

#[tokio::test]
async fn http_names_a_redirect_and_does_not_follow_it() {
    let port =
        answering("HTTP/1.1 301 x\r\nLocation: https://shop.example/\r\nContent-Length: 0\r\n\r\n").await;
    let mut check = get(port);
    assert_eq!(
        reason(ask(Check::Http(check.clone()), WITHIN).await),
        "status 301, Location https://shop.example/"
    );
    check.status = vec![301];
    assert_eq!(ask(Check::Http(check), WITHIN).await.unwrap(), Health::Healthy);
}

#[tokio::test]
async fn http_looks_for_a_text_or_a_pattern_in_the_whole_body() {
    let chunked = "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nversi\r\n4\r\non 7\r\n0\r\n\r\n";
    let port = answering(chunked).await;
    for (pattern, healthy) in [
        (LogPattern::text("version 7"), true),
        (LogPattern::regex(r"(?i)VERSION \d+$"), true),
        (LogPattern::text("version 8"), false),
        (LogPattern::text("version ."), false),
    ] {
        let mut check = get(port);
        check.body = Some(pattern.clone());
        let health = ask(Check::Http(check), WITHIN).await.unwrap();
        assert_eq!(health == Health::Healthy, healthy, "{pattern:?}: {health:?}");
    }
    let mut check = get(port);
    check.body = Some(LogPattern::text("other"));
    assert_eq!(
        reason(ask(Check::Http(check), WITHIN).await),
        "status 200, but \"other\" is not in the 9 bytes of its body"
    );
}

#[tokio::test]
async fn http_sends_its_path_and_host_over_a_connection_of_its_own() {
    let port = server(|mut stream, request| async move {
        let request = request.to_lowercase();
        let good = request.starts_with("get /health?full=1 http/1.1\r\n")
            && request.contains("host: shop.example\r\n");
        let status = if good { 200 } else { 400 };
        stream.write_all(format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n").as_bytes()).await.ok();
    })
    .await;
    let mut check = HttpCheck::get(port, "/health?full=1");
    check.host = Some("shop.example".to_owned());
    // The server takes one request a connection.
    for _ in 0..3 {
        assert_eq!(ask(Check::Http(check.clone()), WITHIN).await.unwrap(), Health::Healthy);
    }
    assert_eq!(reason(ask(Check::Http(get(port)), WITHIN).await), "status 400");
}

#[tokio::test]
async fn http_says_how_an_application_failed_to_answer() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    assert_eq!(reason(ask(Check::Http(get(closed)), WITHIN).await), "connection refused");

    let silent = server(|stream, _| async move {
        tokio::time::sleep(WITHIN).await;
        drop(stream);
    })
    .await;
    assert_eq!(reason(ask(Check::Http(get(silent)), SOON).await), "no complete answer within 100ms");

    let slow = server(|mut stream, _| async move {
        stream.write_all(b"HTTP/1.1 200 x\r\nContent-Length: 1000\r\n\r\n").await.ok();
        while stream.write_all(b".").await.is_ok() {
            tokio::time::sleep(SOON / 4).await;
        }
    })
    .await;
    assert_eq!(reason(ask(Check::Http(get(slow)), SOON).await), "no complete answer within 100ms");

    let resetting = server(|stream, _| async move { reset(&stream) }).await;
    assert_eq!(reason(ask(Check::Http(get(resetting)), WITHIN).await), "connection reset");

    for half in ["", "HTTP/1.1 200 x\r\nContent-Len", "HTTP/1.1 200 x\r\nContent-Length: 9\r\n\r\nhalf"] {
        let port = answering(half).await;
        let reason = reason(ask(Check::Http(get(port)), WITHIN).await);
        assert!(
            reason.starts_with("connection closed") || reason.contains("end of file"),
            "{half:?}: {reason}"
        );
    }
    let port = answering("SSH-2.0-OpenSSH_9.2\r\n").await;
    let reason = reason(ask(Check::Http(get(port)), WITHIN).await);
    assert!(reason.starts_with("invalid HTTP answer"), "{reason}");
}

/// Closes a connection so that the peer sees a reset and not an end.
fn reset(stream: &TcpStream) {
    stream.set_zero_linger().unwrap();
}

#[tokio::test]
async fn http_reads_no_endless_body() {
    let port = server(|mut stream, _| async move {
        stream.write_all(b"HTTP/1.1 200 x\r\n\r\n").await.ok();
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
    })
    .await;
    let mut check = get(port);
    check.body = Some(LogPattern::text("y"));
    let reason = reason(ask(Check::Http(check), WITHIN).await);
    assert!(reason.starts_with("status 200, but \"y\" is not in the"), "{reason}");
}

#[tokio::test]
async fn what_can_never_work_is_impossible() {
    let mut check = get(1);
    check.body = Some(LogPattern::regex("(unclosed"));
    assert_eq!(
        impossible(ask(Check::Http(check), WITHIN).await),
        "\"(unclosed\" is not a regular expression: error: unclosed group"
    );
    impossible(ask(Check::Log(LogPattern::regex("[")), WITHIN).await);
    impossible(ask(Check::Command { command: Vec::new() }, WITHIN).await);
    impossible(ask(Check::Http(HttpCheck::get(1, "/a path")), WITHIN).await);
    let mut target = instance();
    target.ip = None;
    for check in [Check::Tcp { port: 1 }, Check::Http(get(1))] {
        let why = impossible(nothing_is_asked().probe(&check, &target, WITHIN).await);
        assert!(why.contains("web-blue runs and has no address"), "{why}");
        // Without an address because it does not run is another matter: it may be started again.
        let mut down = target.clone();
        down.state = InstanceState::Restarting { exit_code: 3, oom_killed: false };
        let health = nothing_is_asked().probe(&check, &down, WITHIN).await;
        assert_eq!(reason(health), "not running: restarting after exit code 3");
    }
}

#[tokio::test]
async fn they_keep_the_contract_of_the_port() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let open = Check::Tcp { port: listener.local_addr().unwrap().port() };
    let web = Check::Http(get(answering("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n").await));
    let target = instance();
    crate::testing::contract::probe(&nothing_is_asked(), (&open, &target), (&web, &target)).await.unwrap();
}

#[tokio::test]
async fn tcp_tells_open_from_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    assert_eq!(ask(Check::Tcp { port }, WITHIN).await.unwrap(), Health::Healthy);
    drop(listener);
    assert_eq!(reason(ask(Check::Tcp { port }, WITHIN).await), "connection refused");
}

#[tokio::test]
async fn tcp_gives_up_on_an_address_that_swallows() {
    // A full queue: the kernel drops what comes after.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(3 * SOON, TcpStream::connect(address)).await {
        held.push(stream);
    }
    assert_eq!(
        reason(ask(Check::Tcp { port: address.port() }, 3 * SOON).await),
        "no connection within 300ms"
    );
}

/// Probes of an instance that has printed these lines, and then prints nothing more or ends.
fn printing(lines: &'static [&'static str], ends: bool) -> Probes {
    printing_by(lines, ends, Some(instance()))
}

/// The same of an instance that is then found like this.
fn printing_by(lines: &'static [&'static str], ends: bool, now: Option<Instance>) -> Probes {
    let mut runtime = MockContainerRuntime::new();
    runtime.expect_follow_log().withf(|id| id.as_str() == "c0ffee").returning(move |_| {
        let lines = stream::iter(lines).map(|line| Ok((*line).to_owned()));
        let stream: LineStream = if ends { lines.boxed() } else { lines.chain(stream::pending()).boxed() };
        Ok(stream)
    });
    runtime.expect_find().returning(move |_| Ok(now.clone()));
    Probes::new(Arc::new(runtime))
}

async fn look(probes: &Probes, pattern: LogPattern) -> Result<Health, ProbeError> {
    probes.probe(&Check::Log(pattern), &instance(), WITHIN).await
}

#[tokio::test(start_paused = true)]
async fn log_finds_the_first_and_the_last_line_each_time_it_is_asked() {
    let probes = printing(&["App is now running", "connecting", "", "ready in 3 s"], false);
    for pattern in [
        LogPattern::text("App is now running"),
        LogPattern::text("ready in"),
        LogPattern::regex(r"^ready in \d+ s$"),
        LogPattern::text("App is now running"),
    ] {
        assert_eq!(look(&probes, pattern).await.unwrap(), Health::Healthy);
    }
    // Lines are looked at one by one, and a text is no pattern.
    for pattern in [LogPattern::regex("connecting.*ready"), LogPattern::text("ready in . s")] {
        assert!(reason(look(&probes, pattern).await).ends_with("was in none of 4 log lines within 2s"));
    }
}

#[tokio::test(start_paused = true)]
async fn log_ends_when_the_instance_does() {
    let probes = printing(&["starting", "cannot bind"], true);
    let started = tokio::time::Instant::now();
    assert_eq!(
        reason(look(&probes, LogPattern::text("running")).await),
        "the log ended after 2 lines and \"running\" was in none"
    );
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(look(&probes, LogPattern::text("cannot bind")).await.unwrap(), Health::Healthy);
}

#[tokio::test]
async fn log_does_not_take_the_word_of_the_dead() {
    let died = Instance {
        state: InstanceState::Exited { exit_code: 1, oom_killed: false, error: None },
        ..instance()
    };
    let other = Instance { id: InstanceId::new("other"), ..instance() };
    for (now, said) in [
        (Some(died), "\"ready\" was logged, but the container is no longer running: exited with code 1"),
        (Some(other), "\"ready\" was logged, but the container is gone"),
        (None, "\"ready\" was logged, but the container is gone"),
    ] {
        let probes = printing_by(&["ready"], true, now);
        assert_eq!(reason(look(&probes, LogPattern::text("ready")).await), said);
    }
}

fn broken() -> RuntimeError {
    RuntimeError::Other { operation: "asking the Engine", source: "broken pipe".into() }
}

#[tokio::test]
async fn a_runtime_that_fails_is_no_answer_of_the_instance() {
    let mut runtime = MockContainerRuntime::new();
    runtime
        .expect_follow_log()
        .returning(|_| Ok(stream::iter([Ok("first".to_owned()), Err(broken())]).boxed()));
    runtime.expect_find().returning(|_| Err(broken()));
    runtime.expect_exec().returning(|_, _, _| Err(broken()));
    let probes = Probes::new(Arc::new(runtime));
    for check in [
        Check::Log(LogPattern::text("second")),
        Check::Image,
        Check::Command { command: vec!["true".to_owned()] },
    ] {
        let error = probes.probe(&check, &instance(), WITHIN).await.unwrap_err();
        assert!(matches!(error, ProbeError::Other { .. }), "{error:?}");
        assert!(!error.to_string().contains("asking"), "the source is not repeated: {error}");
    }
}

#[tokio::test]
async fn image_passes_on_what_the_healthcheck_says() {
    async fn found(now: Option<Instance>) -> Result<Health, ProbeError> {
        let mut runtime = MockContainerRuntime::new();
        runtime.expect_find().withf(|name| name.as_str() == "web-blue").return_once(|_| Ok(now));
        Probes::new(Arc::new(runtime)).probe(&Check::Image, &instance(), WITHIN).await
    }
    let with = |health| Instance { health: Some(health), ..instance() };
    assert_eq!(found(Some(with(HealthStatus::Healthy))).await.unwrap(), Health::Healthy);
    assert_eq!(reason(found(Some(with(HealthStatus::Starting))).await), "HEALTHCHECK says starting");
    let failing = HealthStatus::Unhealthy { output: "try 1\ncurl: (7) refused\n\n".to_owned() };
    assert_eq!(reason(found(Some(with(failing))).await), "HEALTHCHECK says unhealthy: curl: (7) refused");
    assert_eq!(impossible(found(Some(instance())).await), "the image shop/web:1 has no HEALTHCHECK");
    assert_eq!(reason(found(None).await), "the container is gone");
    let other = Instance { id: InstanceId::new("other"), ..with(HealthStatus::Healthy) };
    assert_eq!(reason(found(Some(other)).await), "another container has its name now");
    let down = Instance {
        state: InstanceState::Exited { exit_code: 137, oom_killed: true, error: None },
        ..with(HealthStatus::Healthy)
    };
    assert!(reason(found(Some(down)).await).starts_with("not running: killed for lack of memory"));
}

#[tokio::test]
async fn command_is_judged_by_its_exit_code() {
    let mut runtime = MockContainerRuntime::new();
    runtime.expect_exec().returning(|id, command, _| {
        assert_eq!(id.as_str(), "c0ffee");
        let code = command[1].parse().unwrap();
        Ok(ExecOutput::new(code, "one\n\u{1b}[31mtwo\u{1b}[0m\n"))
    });
    let probes = Probes::new(Arc::new(runtime));
    let run = |code: &str| Check::Command { command: vec!["exit".to_owned(), code.to_owned()] };
    assert_eq!(probes.probe(&run("0"), &instance(), WITHIN).await.unwrap(), Health::Healthy);
    assert_eq!(reason(probes.probe(&run("127"), &instance(), WITHIN).await), "exit code 127: [31mtwo[0m");
}

/// A runtime that never answers: mocks answer at once, so this one is written out.
mod stuck {
    use super::*;
    use crate::model::{AppName, InstanceSpec, PinnedImage, RunOptions, Slot};
    use crate::port::{Credentials, Described, Foreseen, PullObserver};

    #[derive(Debug)]
    struct Stuck;

    #[async_trait]
    impl ContainerRuntime for Stuck {
        async fn ensure_image(
            &self,
            _: &PinnedImage,
            _: Option<Credentials>,
            _: PullObserver,
        ) -> Result<(), RuntimeError> {
            std::future::pending().await
        }
        async fn has_image(&self, _: &PinnedImage) -> Result<bool, RuntimeError> {
            std::future::pending().await
        }
        async fn foresee(&self, _: &PinnedImage, _: &RunOptions) -> Result<Option<Foreseen>, RuntimeError> {
            std::future::pending().await
        }
        async fn listens_on(&self, _: &Instance) -> Result<Vec<SocketAddr>, RuntimeError> {
            std::future::pending().await
        }
        async fn free_space(&self) -> Result<Option<u64>, RuntimeError> {
            std::future::pending().await
        }
        async fn ensure_running(&self, _: &InstanceSpec) -> Result<Instance, RuntimeError> {
            std::future::pending().await
        }
        async fn list(&self, _: &AppName) -> Result<Vec<Instance>, RuntimeError> {
            std::future::pending().await
        }
        async fn find(&self, _: &InstanceName) -> Result<Option<Instance>, RuntimeError> {
            std::future::pending().await
        }
        async fn describe(&self, _: &InstanceId, _: &Slot) -> Result<Option<Described>, RuntimeError> {
            std::future::pending().await
        }
        async fn ensure_stopped(&self, _: &InstanceId, _: Option<Duration>) -> Result<(), RuntimeError> {
            std::future::pending().await
        }
        async fn ensure_removed(&self, _: &InstanceId) -> Result<(), RuntimeError> {
            std::future::pending().await
        }
        async fn ensure_image_removed(&self, _: &PinnedImage) -> Result<(), RuntimeError> {
            std::future::pending().await
        }
        async fn log_tail(&self, _: &InstanceId, _: u16) -> Result<Vec<String>, RuntimeError> {
            std::future::pending().await
        }
        async fn follow_log(&self, _: &InstanceId) -> Result<LineStream, RuntimeError> {
            std::future::pending().await
        }
        async fn exec(
            &self,
            _: &InstanceId,
            _: &[String],
            _: Option<crate::port::ExecUser>,
        ) -> Result<ExecOutput, RuntimeError> {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_kind_keeps_to_its_time() {
        let probes = Probes::new(Arc::new(Stuck));
        for check in [
            Check::Log(LogPattern::text("x")),
            Check::Image,
            Check::Command { command: vec!["true".to_owned()] },
        ] {
            let started = tokio::time::Instant::now();
            let health = probes.probe(&check, &instance(), WITHIN).await;
            assert!(!matches!(health, Ok(Health::Healthy)), "{check}");
            assert!(started.elapsed() <= WITHIN + SOON, "{check}: {:?}", started.elapsed());
        }
    }
}
