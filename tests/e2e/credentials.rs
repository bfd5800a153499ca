//! Who we are to AWS, by each way that the command finds it, and what it says when there is none. And no secret is
//! ever seen where others can read.
#![expect(clippy::disallowed_methods, reason = "these tests time the command and read its files")]

use std::io::Read as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bluegreen_testkit::fake_imds::{FakeImds, ImdsMode};

use crate::api::Reply;
use crate::ecr_stage::{Beside, EcrStage, write};
use crate::stage::{Ran, ran};

/// What no credential at all is answered with.
const NEXT: &str = "to do: give this host AWS credentials: attach an instance profile to the instance (in a container: \
                    metadata hop limit 2), or set AWS_PROFILE";

fn timed(command: &mut Command) -> (Ran, Duration) {
    let began = Instant::now();
    let ran = ran(command);
    (ran, began.elapsed())
}

fn with_metadata(stage: &EcrStage, imds: &FakeImds, uri: &str) -> Command {
    let mut command = stage.bare(&["deploy", "--image", uri]);
    command.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds.endpoint());
    command
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn a_profile_of_the_shared_files_is_enough_for_a_deploy() {
    let stage = EcrStage::new();
    stage.v1();
    let v2 = stage.push("v2", "shop/web:v2");
    let (config, credentials) = (stage.stage.dir().join("config"), stage.stage.dir().join("credentials"));
    write(&config, "[profile deployer]\nregion = eu-west-1\n");
    write(&credentials, "[deployer]\naws_access_key_id = AKIAPROFILE\naws_secret_access_key = test\n");
    let mut deploy = stage.bare(&["deploy", "--image", &v2.uri]);
    deploy
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", &config)
        .env("AWS_SHARED_CREDENTIALS_FILE", &credentials);
    // The same files and nobody in them: the profile is what made the difference.
    ran(&mut deploy).expect(10).says(&["there are no credentials for", NEXT]);
    stage.only_v1_serves();
    ran(deploy.env("AWS_PROFILE", "deployer")).expect(0);
    stage.stage.serves("v2");
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn the_role_of_the_instance_is_enough_for_a_deploy() {
    let stage = EcrStage::new();
    stage.v1();
    let v2 = stage.push("v2", "shop/web:v2");
    let imds = FakeImds::start(ImdsMode::Ok).expect("metadata");
    ran(&mut with_metadata(&stage, &imds, &v2.uri)).expect(0);
    assert!(imds.requests() >= 3, "token, role, credentials");
    stage.stage.serves("v2");
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn an_instance_without_a_usable_role_is_refused_soon_and_told_what_to_attach() {
    let stage = EcrStage::new();
    stage.v1();
    let v2 = stage.push("v2", "shop/web:v2");
    for (mode, cause, seconds) in [
        (ImdsMode::NoRole, "no AWS credentials were found for ecr:BatchGetImage", 5),
        (ImdsMode::V1Only, "AWS credentials could not be loaded for ecr:BatchGetImage", 5),
        (ImdsMode::Hop, "for ecr:BatchGetImage; looked in: the environment", 15),
    ] {
        let imds = FakeImds::start(mode).expect("metadata");
        let (ran, took) = timed(&mut with_metadata(&stage, &imds, &v2.uri));
        eprintln!("{mode:?}, {took:?}:\n{}", ran.err);
        ran.expect(10).says(&["there are no credentials for", cause, "the EC2 instance role", NEXT]);
        assert!(imds.requests() > 0, "{mode:?} was not asked");
        assert!(took < Duration::from_secs(seconds), "{mode:?}: {took:?}");
        stage.only_v1_serves();
    }
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn no_credentials_anywhere_is_refused_at_once() {
    let stage = EcrStage::new();
    let v1 = stage.v1();
    let mut deploy = stage.bare(&["deploy", "--image", &v1.uri]);
    let (ran, took) = timed(deploy.env("AWS_EC2_METADATA_DISABLED", "true"));
    ran.expect(10).says(&[
        "no AWS credentials were found for ecr:BatchGetImage; looked in: the environment, the shared config",
        "exit code 10",
        NEXT,
    ]);
    assert!(took < Duration::from_secs(5), "{took:?}");
    stage.only_v1_serves();
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn credentials_that_aws_does_not_know_are_not_taken_for_missing_ones() {
    let stage = EcrStage::new();
    let v1 = stage.v1();
    for (json, cause) in [
        (
            r#"{"__type":"UnrecognizedClientException","message":"The security token included in the request is invalid."}"#,
            "AWS does not know the credentials for ecr:BatchGetImage",
        ),
        (
            r#"{"__type":"ExpiredTokenException","message":"The security token included in the request is expired"}"#,
            "the AWS credentials for ecr:BatchGetImage are no longer valid",
        ),
    ] {
        let api = stage.api(move |_, _| Reply::Say(400, json));
        stage.through(&api, &["deploy", "--image", &v1.uri]).expect(10).says(&[
            "was denied",
            cause,
            "to do: allow the role or user to pull",
        ]);
        assert_eq!(api.count("BatchGetImage"), 1);
    }
    stage.only_v1_serves();
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn an_api_that_takes_the_question_and_never_answers_is_given_up() {
    let stage = EcrStage::new();
    let v1 = stage.v1();
    let api = stage.api(|_, _| Reply::Hang);
    let mut deploy = stage.command(&["deploy", "--image", &v1.uri]);
    let (ran, took) = timed(deploy.env("AWS_ENDPOINT_URL", api.endpoint()));
    ran.expect(10).says(&[
        "trying 3 more times",
        "cannot be reached",
        "to do: check the network between this host and the registry",
    ]);
    assert!(took > Duration::from_secs(5) && took < Duration::from_secs(45), "{took:?}");
    assert!(api.count("BatchGetImage") >= 3, "a lost packet must not decide");
    stage.only_v1_serves();
}

/// Every file below `dir`, as one text.
fn contents(dir: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            text += &contents(&path);
        } else {
            text += &String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default());
        }
    }
    text
}

/// The arguments of every process on the machine, as one text.
fn arguments_of_all() -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        if let Ok(mut file) = std::fs::File::open(entry.path().join("cmdline")) {
            let mut bytes = Vec::new();
            // Gone by now is fine.
            drop(file.read_to_end(&mut bytes));
            text += &String::from_utf8_lossy(&bytes).replace('\0', " ");
            text.push('\n');
        }
    }
    text
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn no_secret_is_printed_recorded_or_passed_as_an_argument() {
    const SECRET: &str = "aws-secret-key-0123456789";
    const SESSION: &str = "aws-session-token-9876543210";
    let stage = EcrStage::new();
    stage.v1();
    let v2 = stage.push("v2", "shop/web:v2");
    let password = stage.ecr.password().to_owned();
    let secrets = |text: &str| [SECRET, SESSION, &password].map(|secret| text.contains(secret));
    let report = stage.stage.dir().join("report.json").display().to_string();
    let deny = stage.later(bluegreen_testkit::fake_ecr::FakeEcr::deny);
    let api = stage.api(move |action, count| {
        if (action, count) == ("GetAuthorizationToken", 1) {
            deny();
        }
        Reply::Pass
    });
    // Once refused, with all that there is to say about it, and once well.
    for (exit, output) in [(20, "human"), (0, "json")] {
        let mut command =
            stage.command(&["-v", "--output", output, "--report", &report, "deploy", "--image", &v2.uri]);
        command
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
            .env("AWS_SESSION_TOKEN", SESSION)
            .env("AWS_ENDPOINT_URL", api.endpoint());
        let mut beside = Beside::start(&mut command);
        let (mut arguments, mut looks) = (String::new(), 0);
        while beside.is_running() {
            arguments += &arguments_of_all();
            looks += 1;
            std::thread::sleep(Duration::from_millis(5));
        }
        let ran = beside.end().expect(exit);
        assert!(looks > 3 && arguments.contains(&v2.uri), "the command itself was not seen in {looks} looks");
        assert_eq!(secrets(&arguments), [false; 3], "in the arguments of a process");
        assert_eq!(secrets(&ran.out), [false; 3], "on stdout: {}", ran.out);
        assert_eq!(secrets(&ran.err), [false; 3], "on stderr: {}", ran.err);
        let kept = contents(stage.stage.dir());
        assert!(kept.contains(&v2.digest), "neither journal nor report was read: {kept}");
        assert_eq!(secrets(&kept), [false; 3], "in the journal or the report: {kept}");
        let made = bluegreen_testkit::docker::docker(["inspect", &stage.stage.containers(&[])[0]]);
        assert_eq!(secrets(&made.expect("a container")), [false; 3], "in the container");
        stage.ecr.allow().expect("allowed");
    }
    assert!(api.count("GetAuthorizationToken") >= 3, "the password was never under way");
    stage.stage.serves("v2");
}
