//! The ECR adapter against the API as moto plays it, and the SDK's own chain of credentials against a small
//! instance metadata service.
//!
//! The SDK reads the environment, which all tests of a process share; so each case runs in a child: this test
//! binary again, with [`child`] as its only test.
#![cfg(feature = "ecr")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on stops")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use bluegreen_core::adapter::ecr::Ecr;
use bluegreen_core::model::{Digest, ImageRef};
use bluegreen_core::port::{Registry as _, RegistryError};
use sha2::{Digest as _, Sha256};

const ACCOUNT: &str = "123456789012";
const REGION: &str = "ap-northeast-2";
const TASK: &str = "BLUEGREEN_TEST_ECR_IMAGE";

fn image(rest: &str) -> ImageRef {
    format!("{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{rest}").parse().unwrap()
}

/// The whole chain of an error, one line a link.
fn chain(error: &RegistryError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        write!(text, "\n<- {error}").unwrap();
        next = error.source();
    }
    text
}

/// Not a test of its own: resolves the image that it is given with the default chain, logs in, and prints what
/// came of it.
#[tokio::test]
#[ignore = "is run by the other tests, as a child"]
#[expect(clippy::disallowed_methods, reason = "a child is told its task in its environment")]
#[expect(clippy::print_stdout, reason = "and answers on its standard output")]
async fn child() {
    let Ok(image) = std::env::var(TASK) else { return };
    let ecr = Ecr::new();
    let outcome = async {
        let pinned = ecr.resolve(&image.parse().unwrap()).await?;
        let credentials = ecr.credentials(&pinned).await?.unwrap();
        let (user, password) = (&credentials.username, credentials.secret.expose());
        Ok::<_, RegistryError>(format!("{} {user} {password}", pinned.digest()))
    };
    match outcome.await {
        Ok(text) => println!("\nOK {text}"),
        Err(error) => println!("\nERROR {error:?}\n{}", chain(&error)),
    }
}

/// What a child said, and how long it took.
struct Answer {
    text: String,
    took: Duration,
}

/// Runs [`child`] with no `AWS_` variable but these.
fn ask(image: &ImageRef, environment: &[(&str, &str)]) -> Answer {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["child", "--exact", "--ignored", "--nocapture"]);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    command.env("HOME", home.path()).env(TASK, image.to_string()).envs(environment.iter().copied());
    let started = tokio::time::Instant::now();
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    Answer { text, took: started.elapsed() }
}

/// `moto_server`, gone when this is dropped.
struct Moto {
    process: Child,
    endpoint: String,
}

impl Moto {
    fn start() -> Self {
        // Free now, and most likely still free when moto wants it.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new("moto_server")
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .env("MOTO_ACCOUNT_ID", ACCOUNT)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("moto_server (PyPI: moto[server,ecr]) must be on the PATH");
        let moto = Self { process, endpoint: format!("http://127.0.0.1:{port}") };
        for _ in 0..600 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return moto;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("moto_server does not listen");
    }

    fn config(&self) -> SdkConfig {
        config(&self.endpoint)
    }

    /// Puts a manifest there under a tag; gives its digest.
    async fn put(&self, repository: &str, tag: &str, media_type: &str, manifest: &str) -> Digest {
        let config = self.config().into_builder().region(Region::new(REGION)).build();
        let client = aws_sdk_ecr::Client::new(&config);
        // It may be there from another tag.
        drop(client.create_repository().repository_name(repository).send().await);
        // moto's own digest of a manifest without layers is that of nothing; ECR takes one that matches as well.
        let digest: Digest = format!("sha256:{:x}", Sha256::digest(manifest)).parse().unwrap();
        client
            .put_image()
            .repository_name(repository)
            .image_tag(tag)
            .image_manifest(manifest)
            .image_digest(digest.as_str())
            .image_manifest_media_type(media_type)
            .send()
            .await
            .unwrap_or_else(|error| panic!("{}", aws_sdk_ecr::error::DisplayErrorContext(error)));
        digest
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn config(endpoint: &str) -> SdkConfig {
    let credentials = Credentials::new("test", "test", None, None, "test");
    SdkConfig::builder()
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .behavior_version(BehaviorVersion::v2026_01_12())
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url(endpoint)
        .build()
}

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn manifest(config: char) -> String {
    let config = config.to_string().repeat(64);
    let kind = "application/vnd.docker.container.image.v1+json";
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","layers":[],
            "config":{{"mediaType":"{kind}","size":1,"digest":"sha256:{config}"}}}}"#
    )
}

#[tokio::test]
#[ignore = "needs moto (PyPI): ./scripts/test"]
async fn tags_digests_and_passwords_come_from_the_api() {
    let moto = Moto::start();
    let first = moto.put("shop/web", "1", MANIFEST, &manifest('1')).await;
    let second = moto.put("shop/web", "2", MANIFEST, &manifest('2')).await;
    assert_ne!(first, second);
    let ecr = Ecr::from_sdk_config(moto.config());

    assert_eq!(ecr.resolve(&image("shop/web:1")).await.unwrap().digest(), &first);
    let pinned = ecr.resolve(&image("shop/web:2")).await.unwrap();
    assert_eq!(pinned.digest(), &second);
    // A digest is looked up by itself, whatever the tag beside it.
    let both = image(&format!("shop/web:2@{first}"));
    assert_eq!(ecr.resolve(&both).await.unwrap().digest(), &first);
    let credentials = ecr.credentials(&pinned).await.unwrap().unwrap();
    assert_eq!(credentials.username, "AWS");
    assert_eq!(credentials.secret.expose(), format!("{ACCOUNT}-auth-token"));

    for missing in ["shop/web:3", "shop/none:1", &format!("shop/web@sha256:{}", "e".repeat(64))] {
        let error = ecr.resolve(&image(missing)).await.unwrap_err();
        assert!(matches!(error, RegistryError::ImageNotFound { .. }), "{missing}: {error:?}");
        let text = chain(&error);
        for part in ["repository shop/", ACCOUNT, REGION] {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
    }
}

#[tokio::test]
#[ignore = "needs moto (PyPI): ./scripts/test"]
async fn the_tag_of_an_index_gives_the_digest_of_the_index() {
    let moto = Moto::start();
    let member = moto.put("shop/web", "member", MANIFEST, &manifest('1')).await;
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{{"mediaType":"{MANIFEST}","size":1,
            "digest":"{member}","platform":{{"architecture":"amd64","os":"linux"}}}}]}}"#
    );
    let index = moto.put("shop/web", "multi", INDEX, &text).await;
    assert_ne!(index, member);
    let ecr = Ecr::from_sdk_config(moto.config());
    assert_eq!(ecr.resolve(&image("shop/web:multi")).await.unwrap().digest(), &index);
}

#[tokio::test]
#[ignore = "needs moto (PyPI): ./scripts/test"]
async fn the_default_chain_finds_credentials_in_each_place() {
    let moto = Moto::start();
    let digest = moto.put("shop/web", "1", MANIFEST, &manifest('1')).await;
    let image = image("shop/web:1");
    let expected = format!("OK {digest} AWS {ACCOUNT}-auth-token");
    let files = tempfile::tempdir().unwrap();
    let credentials =
        file(files.path(), "credentials", "[deploy]\naws_access_key_id=AKIATEST\naws_secret_access_key=s\n");
    // The endpoint from a file as well, and a region that must not count.
    let api = moto.endpoint.as_str();
    let settings = format!(
        "[profile deploy]\nregion=us-east-1\nservices=local\n[services local]\necr=\n  endpoint_url={api}\n"
    );
    let settings = file(files.path(), "config", &settings);
    let metadata = Metadata::start(Mode::Role);
    let off = ("AWS_EC2_METADATA_DISABLED", "true");
    let api = ("AWS_ENDPOINT_URL", api);
    for environment in [
        vec![
            off,
            api,
            ("AWS_ACCESS_KEY_ID", "AKIATEST"),
            ("AWS_SECRET_ACCESS_KEY", "s"),
            ("AWS_REGION", "us-east-1"),
        ],
        vec![
            off,
            ("AWS_PROFILE", "deploy"),
            ("AWS_SHARED_CREDENTIALS_FILE", credentials.as_str()),
            ("AWS_CONFIG_FILE", settings.as_str()),
        ],
        vec![api, ("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.endpoint.as_str())],
    ] {
        let answer = ask(&image, &environment);
        assert!(answer.text.contains(&expected), "{environment:?}: {}", answer.text);
        assert!(answer.took < Duration::from_secs(5), "{:?}", answer.took);
    }
    let asked = metadata.asked.lock().unwrap();
    let role = asked.get("/latest/meta-data/iam/security-credentials/deployer");
    assert_eq!(role, Some(&1), "two calls, one load: {asked:?}");
    assert!(!asked.keys().any(|path| path.contains("placement")), "the image names the region: {asked:?}");
}

fn file(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The cases in which there is nothing to sign with, and how soon that must be known.
#[test]
fn without_credentials_the_refusal_names_the_chain_and_the_action() {
    for (mode, said) in [
        (Mode::NoRole, "no AWS credentials were found for ecr:BatchGetImage"),
        (Mode::Forbidden, "AWS credentials could not be loaded for ecr:BatchGetImage"),
    ] {
        assert_refused(&ask_metadata(mode), said, 4);
    }
    let answer = ask(&image("shop/web:1"), &[("AWS_EC2_METADATA_DISABLED", "true")]);
    assert_refused(&answer, "no AWS credentials were found for ecr:BatchGetImage", 4);
}

/// As in a container behind a metadata hop limit of 1.
#[test]
#[ignore = "takes 5 s: ./scripts/test"]
fn metadata_that_never_answers_is_given_up_on() {
    assert_refused(&ask_metadata(Mode::Hangs), "for ecr:BatchGetImage", 12);
}

#[tokio::test]
#[ignore = "takes 15 s: ./scripts/test"]
async fn an_api_that_never_answers_is_given_up_on() {
    // The kernel accepts; nobody reads.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ecr = Ecr::from_sdk_config(config(&format!("http://{}", listener.local_addr().unwrap())));
    let started = tokio::time::Instant::now();
    let error = ecr.resolve(&image("shop/web:1")).await.unwrap_err();
    assert!(error.is_transient(), "{}", chain(&error));
    assert!(started.elapsed() < Duration::from_secs(17), "{:?}", started.elapsed());
}

/// A server that gives every request the same answer and counts them.
fn answering(status: u16, body: &'static str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&count);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = BufReader::new(stream.try_clone().unwrap());
            let mut length = 0;
            let mut line = String::new();
            while request.read_line(&mut line).is_ok_and(|read| read > 2) {
                let (name, value) = line.split_once(':').unwrap_or_default();
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            request.read_exact(&mut vec![0; length]).ok();
            counter.fetch_add(1, Ordering::Relaxed);
            let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close", body.len());
            stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).ok();
        }
    });
    (endpoint, count)
}

#[tokio::test]
async fn a_failing_api_is_asked_three_times_and_a_refusing_one_once() {
    let (endpoint, count) = answering(500, r#"{"__type":"ServerException","message":"internal"}"#);
    let error = Ecr::from_sdk_config(config(&endpoint)).resolve(&image("shop/web:1")).await.unwrap_err();
    assert!(error.is_transient(), "{}", chain(&error));
    assert_eq!(count.load(Ordering::Relaxed), 3);

    let (endpoint, count) = answering(400, r#"{"__type":"AccessDeniedException","message":"no"}"#);
    let error = Ecr::from_sdk_config(config(&endpoint)).resolve(&image("shop/web:1")).await.unwrap_err();
    assert!(matches!(error, RegistryError::AccessDenied { .. }), "{}", chain(&error));
    assert_eq!(count.load(Ordering::Relaxed), 1);
}

/// AWS credentials that are counted when they load.
#[derive(Debug, Clone, Default)]
struct Counted(Arc<AtomicUsize>);

impl ProvideCredentials for Counted {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        self.0.fetch_add(1, Ordering::Relaxed);
        future::ProvideCredentials::ready(Ok(Credentials::new("test", "test", None, None, "test")))
    }
}

#[tokio::test]
async fn after_a_refusal_the_aws_credentials_are_loaded_anew() {
    for (body, expected) in [
        (r#"{"__type":"ExpiredTokenException","message":"expired"}"#, 2),
        (r#"{"__type":"InvalidParameterException","message":"bad"}"#, 1),
    ] {
        let (endpoint, _) = answering(400, body);
        let loads = Counted::default();
        let provider = SharedCredentialsProvider::new(loads.clone());
        let config = config(&endpoint).into_builder().credentials_provider(provider).build();
        let ecr = Ecr::from_sdk_config(config);
        for _ in 0..2 {
            assert!(ecr.resolve(&image("shop/web:1")).await.is_err());
        }
        assert_eq!(loads.0.load(Ordering::Relaxed), expected, "{body}");
    }
}

fn ask_metadata(mode: Mode) -> Answer {
    let metadata = Metadata::start(mode);
    ask(&image("shop/web:1"), &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.endpoint.as_str())])
}

fn assert_refused(answer: &Answer, said: &str, within: u64) {
    let Answer { text, took } = answer;
    for part in
        ["ERROR NoCredentials", said, "looked in: the environment, the shared config", "EC2 instance role"]
    {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
    assert!(*took < Duration::from_secs(within), "{took:?}: {text}");
}

/// What an instance's metadata service does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Gives the credentials of a role.
    Role,
    /// Has no role.
    NoRole,
    /// Refuses to give a session token.
    Forbidden,
    /// Takes the question and never answers.
    Hangs,
}

/// An instance metadata service, version 2. Its thread ends with the test process.
struct Metadata {
    endpoint: String,
    /// How often each path was asked.
    asked: Arc<Mutex<BTreeMap<String, u32>>>,
}

impl Metadata {
    fn start(mode: Mode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::<Mutex<BTreeMap<String, u32>>>::default();
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let log = Arc::clone(&log);
                std::thread::spawn(move || serve(stream, mode, &log));
            }
        });
        Self { endpoint, asked }
    }
}

fn serve(mut stream: TcpStream, mode: Mode, log: &Mutex<BTreeMap<String, u32>>) {
    const ROLE: &str = "/latest/meta-data/iam/security-credentials";
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let path = request.split(' ').nth(1).unwrap_or_default().trim_end_matches('/').to_owned();
    *log.lock().unwrap().entry(path.clone()).or_default() += 1;
    if mode == Mode::Hangs {
        std::thread::sleep(Duration::from_mins(1));
        return;
    }
    let authorized =
        headers.iter().any(|line| line.eq_ignore_ascii_case("x-aws-ec2-metadata-token: session"));
    let (status, body) = match path.strip_prefix(ROLE) {
        _ if path == "/latest/api/token" && mode == Mode::Forbidden => (403, ""),
        _ if path == "/latest/api/token" => (200, "session"),
        _ if !authorized => (401, ""),
        Some("") if mode == Mode::Role => (200, "deployer"),
        Some("/deployer") if mode == Mode::Role => (
            200,
            r#"{"Code":"Success","LastUpdated":"2026-01-01T00:00:00Z","Type":"AWS-HMAC",
                "AccessKeyId":"ASIATEST","SecretAccessKey":"s","Token":"t","Expiration":"2099-01-01T00:00:00Z"}"#,
        ),
        _ => (404, ""),
    };
    let head = format!(
        "HTTP/1.1 {status} x\r\nx-aws-ec2-metadata-token-ttl-seconds: 21600\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).ok();
}
