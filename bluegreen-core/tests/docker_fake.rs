//! The Docker adapter on an Engine that misbehaves on demand: a unix socket that speaks four endpoints. What a real
//! one does is in `docker/`; pulls from a real registry are in the end-to-end suite.
#![cfg(feature = "docker")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests too")]

use std::error::Error;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bluegreen_core::adapter::docker::{Docker, DockerConfig, DockerRegistry};
use bluegreen_core::model::{
    AppSpec, Color, Digest, Endpoint, ImageRef, InstanceSpec, PinnedImage, Secret, Slot, Slots,
};
use bluegreen_core::port::{
    ContainerRuntime as _, Credentials, PullObserver, PullProgress, Registry as _, RegistryError,
    RuntimeError,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

/// One answer of the fake.
#[derive(Clone)]
enum Answer {
    Json(u16, String),
    /// Lines under 200, each a chunk; cut off in the middle when `whole` is false.
    Stream {
        lines: Vec<&'static str>,
        whole: bool,
    },
    Nothing,
}

fn message(status: u16, text: &str) -> Answer {
    Answer::Json(status, serde_json::json!({ "message": text }).to_string())
}

type Route = dyn Fn(&str) -> Answer + Send + Sync;

struct Fake {
    docker: Docker,
    /// The requests, heads only.
    seen: Arc<Mutex<Vec<String>>>,
    _dir: tempfile::TempDir,
}

impl Fake {
    /// Answers by what `route` gives for `METHOD /path?query`; greetings are answered anyway.
    fn new(route: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker.sock");
        let (seen, route): (Arc<Mutex<Vec<String>>>, Arc<Route>) = (Arc::default(), Arc::new(route));
        let listener = UnixListener::bind(&path).unwrap();
        tokio::spawn({
            let seen = Arc::clone(&seen);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (seen, route) = (Arc::clone(&seen), Arc::clone(&route));
                    tokio::spawn(async move { serve(stream, &seen, &*route).await.ok() });
                }
            }
        });
        Self { docker: connect(&path), seen, _dir: dir }
    }

    fn seen(&self, part: &str) -> Vec<String> {
        self.seen.lock().unwrap().iter().filter(|head| head.contains(part)).cloned().collect()
    }
}

fn connect(path: &Path) -> Docker {
    Docker::connect(path.to_str()).unwrap()
}

async fn serve(mut stream: UnixStream, seen: &Mutex<Vec<String>>, route: &Route) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let what = head.split(" HTTP").next().unwrap_or_default().to_owned();
    seen.lock().unwrap().push(head);
    let answer = if what.contains("/version") {
        Answer::Json(200, r#"{"ApiVersion": "1.41"}"#.to_owned())
    } else {
        route(&what)
    };
    match answer {
        Answer::Json(status, body) => {
            let head =
                format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).await?;
        }
        Answer::Stream { lines, whole } => {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n")
                .await?;
            for line in lines {
                let chunk = format!("{:x}\r\n{line}\r\n\r\n", line.len() + 2);
                stream.write_all(chunk.as_bytes()).await?;
            }
            if whole {
                stream.write_all(b"0\r\n\r\n").await?;
            }
        }
        Answer::Nothing => tokio::time::sleep(Duration::from_hours(1)).await,
    }
    stream.shutdown().await
}

fn image() -> PinnedImage {
    let image: ImageRef = "r.example/shop:42".parse().unwrap();
    image.pin(Digest::new(format!("sha256:{}", "ab".repeat(32))).unwrap())
}

/// An Engine that does not have the image until it was pulled, and answers the pull so.
fn pulling(lines: Vec<&'static str>, whole: bool, arrives: bool) -> Fake {
    let pulled = Mutex::new(false);
    Fake::new(move |what| match what {
        _ if what.starts_with("POST /images/create") => {
            *pulled.lock().unwrap() = arrives;
            Answer::Stream { lines: lines.clone(), whole }
        }
        _ if *pulled.lock().unwrap() => Answer::Json(200, r#"{"Id": "sha256:00"}"#.to_owned()),
        _ => message(404, "No such image: r.example/shop"),
    })
}

async fn pull(fake: &Fake, auth: Option<Credentials>) -> (Result<(), RuntimeError>, Vec<PullProgress>) {
    let told: Arc<Mutex<Vec<PullProgress>>> = Arc::default();
    let observer: PullObserver = {
        let told = Arc::clone(&told);
        Arc::new(move |progress| told.lock().unwrap().push(progress))
    };
    let outcome = fake.docker.ensure_image(&image(), auth, observer).await;
    let told = told.lock().unwrap().clone();
    (outcome, told)
}

fn words(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {}", words(source)))
}

const LAYER: &str = r#"{"id":"a","status":"Downloading","progressDetail":{"current":5,"total":10}}"#;

#[tokio::test]
async fn a_pull_is_by_digest_and_told_of() {
    let lines = vec![
        r#"{"id":"sha256:ab","status":"Pulling from shop"}"#,
        LAYER,
        r#"{"id":"a","status":"Pull complete"}"#,
    ];
    let fake = pulling(lines, true, true);
    let (outcome, told) = pull(&fake, None).await;
    outcome.unwrap();
    assert_eq!(told.last(), Some(&PullProgress::new(1, 1, 10, 10)));
    let asked = &fake.seen("POST /images/create")[0];
    let digest = format!("tag=sha256%3A{}", "ab".repeat(32));
    assert!(asked.contains("fromImage=r.example%2Fshop&") && asked.contains(&digest), "{asked}");
    assert!(!asked.to_lowercase().contains("x-registry-auth"), "{asked}");

    // It is here now: nothing more is pulled.
    pull(&fake, None).await.0.unwrap();
    assert_eq!(fake.seen("POST /images/create").len(), 1);
}

#[tokio::test]
async fn an_error_in_the_middle_of_a_pull_is_an_error() {
    let error = |text: &'static str| {
        let fake = pulling(vec![LAYER, text], true, false);
        async move { pull(&fake, None).await.0.unwrap_err() }
    };
    let full =
        error(r#"{"errorDetail":{"message":"write /x: no space left on device"},"error":"write /x"}"#).await;
    assert!(matches!(full, RuntimeError::DiskFull { .. }), "{full:?}");
    let broken = error(r#"{"errorDetail":{"message":"unexpected EOF"},"error":"unexpected EOF"}"#).await;
    assert!(matches!(broken, RuntimeError::RegistryUnreachable { .. }), "{broken:?}");
    let lost = error(r#"{"errorDetail":{"message":"unknown blob"},"error":"unknown blob"}"#).await;
    assert!(words(&lost).contains("push the image again: unknown blob"), "{}", words(&lost));
}

#[tokio::test]
async fn a_pull_that_is_cut_off_or_brings_nothing_is_an_error() {
    let (cut, _) = pull(&pulling(vec![LAYER], false, false), None).await;
    assert!(matches!(cut, Err(RuntimeError::Unreachable { .. })), "{cut:?}");
    let (nothing, _) = pull(&pulling(vec![LAYER], true, false), None).await;
    assert!(words(&nothing.unwrap_err()).contains("the image is not here"));
}

#[tokio::test]
async fn refused_credentials_are_told_and_not_shown() {
    let fake = Fake::new(|what| match what {
        _ if what.starts_with("POST") => {
            message(500, "Head \"https://r.example/v2/\": no basic auth credentials")
        }
        _ => message(404, "No such image"),
    });
    // These two characters are what the two alphabets of base64 differ by, at one of three offsets.
    for secret in ["hunter2>?~>?~", "hunter2x>?~>?~", "hunter2xy>?~>?~"] {
        let auth = Credentials::password("r.example", "me", Secret::new(secret));
        let error = pull(&fake, Some(auth)).await.0.unwrap_err();
        assert!(matches!(error, RuntimeError::PullDenied { .. }), "{error:?}");
        assert!(!format!("{error:?} {} {:?}", words(&error), fake.docker).contains("hunter2"));
    }
    let headers: Vec<_> = fake.seen("POST").iter().map(|head| head.to_lowercase()).collect();
    assert!(headers.iter().all(|head| head.contains("x-registry-auth: ")));
    let value = |head: &String| {
        let line = head.lines().find(|line| line.starts_with("x-registry-auth: ")).unwrap_or_default();
        line["x-registry-auth: ".len()..].to_owned()
    };
    assert!(headers.iter().all(|head| !value(head).contains(['+', '/'])), "not the URL-safe alphabet");
    assert!(headers.iter().any(|head| value(head).contains(['-', '_'])), "this test tests nothing");
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_hangs_is_known_within_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("docker.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let begin = tokio::time::Instant::now();
    let error = connect(&path).list(&"shop".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Unreachable { denied: false, .. }), "{error:?}");
    assert!(words(&error).contains("does not answer") && begin.elapsed() < Duration::from_secs(6));
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_hangs_later_is_given_up_too() {
    let fake = Fake::new(|_| Answer::Nothing);
    let error = fake.docker.find(&"shop-blue".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Unreachable { .. }), "{error:?}");
    assert_eq!(fake.seen("/version").len(), 1);
}

fn spec() -> InstanceSpec {
    let slot = |color: Color| {
        let name = format!("shop-{color}").parse().unwrap();
        Slot::new(color, name, 80, Endpoint::new("127.0.0.1", 80).unwrap())
    };
    let slots = Slots { blue: slot(Color::Blue), green: slot(Color::Green) };
    AppSpec::new("shop".parse().unwrap(), slots).instance(Color::Blue, image(), "d".parse().unwrap())
}

/// The Engine makes what a killed run had asked for behind our look: the name is taken before anything can be seen.
#[tokio::test]
async fn a_container_that_a_killed_run_had_asked_for_is_found_where_its_name_is_taken() {
    for (app, ours) in [("shop", true), ("other", false)] {
        let labels = serde_json::json!({
            "bluegreen.app": app, "bluegreen.color": "blue", "bluegreen.deployment": "d-killed",
            "bluegreen.digest": image().digest().as_str(), "bluegreen.fingerprint": spec().fingerprint().as_str(),
        });
        let container = serde_json::json!({
            "Id": "c1", "Name": "/shop-blue", "Config": { "Labels": labels, "Image": "x" },
            "State": { "Status": "running", "Running": true, "Pid": 7 },
        });
        let tries = Mutex::new(0);
        let fake = Fake::new(move |what| match what {
            _ if what.starts_with("POST /containers/create") => {
                *tries.lock().unwrap() += 1;
                let says =
                    "Conflict. The container name \"/shop-blue\" is already in use by container \"c1\".";
                message(409, says)
            }
            _ if what.starts_with("GET /containers/") && *tries.lock().unwrap() > 1 => {
                Answer::Json(200, container.to_string())
            }
            _ => message(404, "No such container: shop-blue"),
        });
        let outcome = fake.docker.ensure_running(&spec()).await;
        assert_eq!(fake.seen("POST /containers/create").len(), 2);
        if ours {
            assert_eq!(outcome.unwrap().id.as_str(), "c1");
        } else {
            assert!(matches!(outcome, Err(RuntimeError::NameTaken { .. })), "{outcome:?}");
        }
    }
}

#[tokio::test]
async fn a_tag_is_resolved_by_the_registry_that_has_it() {
    let digest = image().digest().to_string();
    let fake = Fake::new(move |what| match what {
        "GET /distribution/r.example/shop:42/json" => {
            let answer = serde_json::json!({"Descriptor": {"digest": digest}, "Platforms": []});
            Answer::Json(200, answer.to_string())
        }
        "GET /distribution/r.example/shop:43/json" => message(404, "manifest unknown: manifest unknown"),
        _ => message(401, "errors:\ndenied: requested access to the resource is denied\n"),
    });
    let registry = DockerRegistry::new(fake.docker.clone(), DockerConfig::default());
    let resolve = |image: &str| {
        let image: ImageRef = image.parse().unwrap();
        let registry = registry.clone();
        async move { registry.resolve(&image).await }
    };
    assert_eq!(resolve("r.example/shop:42").await.unwrap(), image());
    let error = resolve("r.example/shop:43").await.unwrap_err();
    assert!(matches!(error, RegistryError::ImageNotFound { .. }), "{error:?}");
    let error = resolve("r.example/other:1").await.unwrap_err();
    assert!(matches!(error, RegistryError::AccessDenied { .. }), "{error:?}");
}

#[tokio::test]
async fn a_helper_that_is_not_installed_matters_to_a_registry_that_wants_a_login() {
    let digest = image().digest().to_string();
    let fake = Fake::new(move |what| match what {
        "GET /distribution/r.example/shop:42/json" => {
            let answer = serde_json::json!({"Descriptor": {"digest": digest}, "Platforms": []});
            Answer::Json(200, answer.to_string())
        }
        _ => message(401, "errors:\ndenied: requested access to the resource is denied\n"),
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    let write =
        |text: &str| std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), text.as_bytes());
    let config = DockerConfig::at(&path).helpers_in(dir.path());
    let registry = DockerRegistry::new(fake.docker.clone(), config);
    let image_of = |name: &str| name.parse::<ImageRef>().unwrap();
    for text in [r#"{"auths":{},"credsStore":"desktop"}"#, "no config file"] {
        write(text).unwrap();
        assert_eq!(registry.resolve(&image_of("r.example/shop:42")).await.unwrap(), image());
        assert_eq!(registry.credentials(&image()).await.unwrap(), None, "the pull goes without, too");
        for error in [
            registry.resolve(&image_of("r.example/other:1")).await.unwrap_err(),
            registry
                .credentials(&image_of("r.example/other:1").pin(image().digest().clone()))
                .await
                .unwrap_err(),
        ] {
            let names_it = if text.contains("desktop") { "docker-credential-desktop" } else { "config.json" };
            assert!(words(&error).contains(names_it), "{}", words(&error));
        }
    }
    write("").unwrap();
    let error = registry.resolve(&image_of("r.example/other:1")).await.unwrap_err();
    assert!(matches!(error, RegistryError::AccessDenied { .. }), "{error:?}");
}
