//! The fake ECR against the real dockerd: pulls with a token, and each way that a pull fails.

use std::path::Path;
use std::process::Command;

use bluegreen_testkit::docker::{AppImage, Run, docker};
use bluegreen_testkit::fake_ecr::FakeEcr;
use bluegreen_testkit::process::output_of;

fn pull(config: &Path, uri: &str) -> bluegreen_testkit::Result<String> {
    output_of(Command::new("docker").arg("--config").arg(config).args(["pull", "--quiet", uri]))
}

fn api(ecr: &FakeEcr, operation: &str, json: &str) -> String {
    let target = format!("X-Amz-Target: AmazonEC2ContainerRegistry_V20150921.{operation}");
    let scope = format!(
        "Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/{}/ecr/aws4_request, \
        SignedHeaders=host, Signature=0",
        ecr.region()
    );
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-X", "POST", ecr.endpoint(), "-H", &target, "-H", &scope]);
    output_of(curl.args(["-H", "Content-Type: application/x-amz-json-1.1", "-d", json])).expect("an answer")
}

#[test]
#[ignore = "needs root, Docker and docker-registry: ./scripts/test"]
fn pulls_fail_and_succeed_as_with_ecr() {
    let run = Run::new();
    let (v1, v2) = (AppImage::version("v1"), AppImage::version("v2").own_layer());
    let v1 = run.app_image("app:v1", &v1).expect("an image");
    let v2 = run.app_image("app:v2", &v2).expect("an image");
    let ecr = FakeEcr::start(&run).expect("a fake ECR");
    // Two at once, as two test processes would have.
    let other = FakeEcr::start(&run).expect("a second one");
    assert_ne!(ecr.host(), other.host());
    drop(other);

    let image = ecr.push(&v1, "team/app:v1").expect("a push");
    let config = ecr.docker_config().expect("a configuration");
    let nobody = tempfile::tempdir().expect("an empty configuration");
    let error = pull(nobody.path(), &image.uri).expect_err("no credentials").to_string();
    assert!(error.contains("no basic auth credentials"), "{error}");
    pull(config.path(), &image.uri).expect("a pull");
    let digests = docker(["inspect", "--format", "{{.RepoDigests}}", &image.uri]).expect("inspect");
    assert!(digests.contains(&image.digest), "{digests}");
    let described = api(&ecr, "DescribeImages", r#"{"repositoryName":"team/app"}"#);
    assert!(described.contains(&image.digest), "{described}");
    docker(["rmi", &image.uri]).expect("a removal");

    ecr.deny().expect("a refusal");
    let error = pull(config.path(), &image.uri).expect_err("refused").to_string();
    assert!(error.contains("unauthorized: authentication required"), "{error}");
    ecr.allow().expect("an admission");
    pull(config.path(), &image.uri).expect("a pull");
    docker(["rmi", &image.uri]).expect("a removal");

    ecr.registry_down().expect("down");
    let error = pull(config.path(), &image.uri).expect_err("down").to_string();
    assert!(error.contains("connection refused"), "{error}");
    ecr.registry_up().expect("up");

    let missing = image.uri.replace(":v1", ":v9");
    let error = pull(config.path(), &missing).expect_err("no such tag").to_string();
    assert!(error.contains("manifest unknown") || error.contains("not found"), "{error}");

    // A layer that is here already is not fetched: this one must be gone.
    let broken = ecr.push(&v2, "team/app:v2").expect("a push");
    ecr.break_layers("team/app:v2").expect("a break");
    docker(["rmi", "--force", &v1, &v2]).expect("a removal");
    let error = pull(config.path(), &broken.uri).expect_err("broken").to_string();
    assert!(error.contains("blob"), "{error}");

    ecr.forget_repository("team/app").expect("forgotten");
    let described = api(&ecr, "DescribeImages", r#"{"repositoryName":"team/app"}"#);
    assert!(described.contains("RepositoryNotFoundException"), "{described}");

    let host = ecr.host().to_owned();
    ecr.purge().expect("a purge");
    let hosts = std::fs::read_to_string("/etc/hosts").expect("/etc/hosts");
    assert!(!hosts.contains(&host), "{hosts}");
    assert!(!Path::new("/etc/docker/certs.d").join(&host).exists());
}
