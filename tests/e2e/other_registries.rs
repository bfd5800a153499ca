//! Registries that are not ECR: asked by way of the Engine, with what `docker login` left.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use crate::ecr_stage::{EcrStage, write};
use crate::stage::{Ran, ran};

/// The fake's registry under its address, which makes it somebody's own registry.
struct Own {
    ecr: EcrStage,
    address: String,
    certs: PathBuf,
}

impl Own {
    fn new() -> Self {
        let ecr = EcrStage::new();
        let hosts = std::fs::read_to_string("/etc/hosts").expect("/etc/hosts");
        let line = hosts.lines().find(|line| line.contains(ecr.ecr.host())).expect("the fake's line");
        let address = line.split_whitespace().next().expect("an address").to_owned();
        let certs = PathBuf::from("/etc/docker/certs.d").join(&address);
        let own = Self { ecr, address, certs };
        std::fs::create_dir_all(&own.certs).expect("a directory for the certificate");
        let known = format!("/etc/docker/certs.d/{}/ca.crt", own.ecr.ecr.host());
        std::fs::copy(known, own.certs.join("ca.crt")).expect("a certificate");
        own
    }

    /// The same image under this registry's name.
    fn push(&self, version: &str) -> String {
        self.ecr.push(version, &format!("shop/web:{version}")).uri.replace(self.ecr.ecr.host(), &self.address)
    }

    fn login(&self, config: &serde_json::Value) {
        write(&self.ecr.stage.dir().join("docker/config.json"), config.to_string());
    }

    fn auth(&self) -> String {
        let mut base64 = Command::new("sh");
        base64.args(["-c", "printf 'AWS:%s' \"$0\" | base64 -w0", self.ecr.ecr.password()]);
        ran(&mut base64).expect(0).out
    }

    /// A deploy with no AWS credentials at all: they are not what counts here.
    fn command(&self, uri: &str) -> Command {
        let mut command = self.ecr.bare(&["deploy", "--image", uri]);
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        command
    }

    fn deploy(&self, uri: &str) -> Ran {
        ran(&mut self.command(uri))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.certs) {
            eprintln!("{}: {error}", self.certs.display());
        }
    }
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn a_registry_without_a_login_is_refused_and_with_one_it_serves() {
    let own = Own::new();
    own.ecr.v1();
    let v2 = own.push("v2");
    let login = format!("next: docker login {}", own.address);
    own.deploy(&v2).expect(10).says(&[&format!("access to {} was denied", own.address), &login]);
    own.ecr.only_v1_serves();

    // A login that the registry does not take.
    own.login(&serde_json::json!({"auths": {&own.address: {"auth": "QVdTOndyb25n"}}}));
    let refused = own.deploy(&v2).expect(10).says(&["was denied", &login]);
    assert!(!refused.err.contains("wrong"), "the password is nobody's business: {}", refused.err);
    own.ecr.only_v1_serves();

    own.login(&serde_json::json!({"auths": {&own.address: {"auth": own.auth()}}}));
    own.deploy(&v2.replace(":v2", ":v9")).expect(10).says(&[
        "does not exist",
        "shop/web:v9",
        "to do: check that",
    ]);
    own.ecr.only_v1_serves();
    own.deploy(&v2).expect(0).says(&[&v2]);
    own.ecr.stage.serves("v2");
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn credential_helpers_on_the_path_are_asked_and_their_failures_are_told() {
    let own = Own::new();
    own.ecr.v1();
    let bin = own.ecr.stage.dir().join("bin");
    std::fs::create_dir(&bin).expect("a directory");
    let asked = own.ecr.stage.dir().join("asked");
    let helper = |name: &str, body: &str| {
        let file = bin.join(format!("docker-credential-{name}"));
        write(&file, format!("#!/bin/sh\n{body}\n"));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("executable");
    };
    let answer = format!(
        "read server; echo \"$1 $server\" >>'{}'; printf '{{\"Username\":\"AWS\",\"Secret\":\"%s\"}}' '{}'",
        asked.display(),
        own.ecr.ecr.password()
    );
    helper("good", &answer);
    helper("locked", "echo 'the keychain is locked' >&2; exit 1");
    #[expect(clippy::disallowed_methods, reason = "the helper comes first on the path that is there")]
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").expect("a path"));
    let deploy = |uri: &str| ran(own.command(uri).env("PATH", &path));

    let v2 = own.push("v2");
    own.login(&serde_json::json!({"credsStore": "locked"}));
    deploy(&v2).expect(10).says(&[
        "there are no credentials for",
        "docker-credential-locked failed",
        "the keychain is locked",
        "next: docker login",
    ]);
    own.login(&serde_json::json!({"credsStore": "none-such"}));
    deploy(&v2).expect(10).says(&["docker-credential-none-such cannot be started", "to do: fix that helper"]);
    own.ecr.only_v1_serves();

    own.login(&serde_json::json!({"credsStore": "good"}));
    deploy(&v2).expect(0);
    own.ecr.stage.serves("v2");
    // One for this registry comes before the one for all.
    let v3 = own.push("v3");
    own.login(&serde_json::json!({"credsStore": "locked", "credHelpers": {&own.address: "good"}}));
    deploy(&v3).expect(0);
    own.ecr.stage.serves("v3");
    let asked = std::fs::read_to_string(asked).expect("the helper was asked");
    assert!(asked.lines().all(|line| line == format!("get {}", own.address)), "{asked}");
}
