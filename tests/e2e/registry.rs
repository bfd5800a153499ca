//! Images from Amazon ECR: what a tag means is decided once, and each way that a registry fails leaves the previous
//! version serving.

use bluegreen_testkit::docker::docker;
use bluegreen_testkit::fake_ecr::FakeEcr;
use bluegreen_testkit::load::{Config, Handle, Mode, Target};
use serde_json::Value;

use crate::api::Reply;
use crate::ecr_stage::EcrStage;

/// A little of each kind of client.
fn light_load(url: &str) -> Handle {
    let config = Config::new(Target::parse(url).expect("loopback"))
        .with(Mode::New, 1)
        .with(Mode::Keepalive, 1)
        .with(Mode::Post, 1)
        .at_most(200.0)
        .lasting(std::time::Duration::from_secs(300));
    let load = Handle::spawn(config);
    assert!(load.wait_until(std::time::Duration::from_secs(10), |seen| seen.total.requests > 20), "no load");
    load
}

fn inspect(container: &str, format: &str) -> String {
    docker(["inspect", "--format", format, container]).expect("a container")
}

fn report(stage: &EcrStage, arguments: &[&str]) -> Value {
    let file = stage.stage.dir().join("report.json");
    let path = file.display().to_string();
    stage.bluegreen(&[arguments, &["--report", &path]].concat()).expect(0);
    serde_json::from_slice(&std::fs::read(file).expect("a report")).expect("JSON")
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn a_deploy_by_tag_runs_and_records_the_digest_that_was_pushed() {
    let stage = EcrStage::new();
    stage.v1();
    let load = light_load(&stage.stage.nginx.url());
    let v2 = stage.push("v2", "shop/web:v2");
    let report = report(&stage, &["deploy", "--image", &v2.uri, "--deployment-id", "d-ECR2"]);
    stage.stage.serves("v2");
    load.stop().assert_lossless();
    assert_eq!(report["result"]["digest"], v2.digest.as_str(), "{report:#}");
    assert_eq!(report["result"]["image"], v2.uri.as_str(), "{report:#}");
    let green = format!("{}-green", stage.stage.app);
    assert_eq!(inspect(&green, "{{.Config.Image}}"), format!("{}@{}", v2.uri, v2.digest));
    for (label, value) in [
        ("app", stage.stage.app.as_str()),
        ("color", "green"),
        ("deployment", "d-ECR2"),
        ("digest", v2.digest.as_str()),
    ] {
        let format = format!("{{{{index .Config.Labels \"bluegreen.{label}\"}}}}");
        assert_eq!(inspect(&green, &format), value, "label {label}");
    }
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn a_tag_that_moved_after_the_plan_is_deployed_as_it_is_then_and_rolled_back_to_as_it_was() {
    let stage = EcrStage::new();
    let first = stage.push("v1", "shop/web:live");
    let plan = report(&stage, &["plan", "--image", &first.uri]);
    assert_eq!(plan["result"]["digest"], first.digest.as_str(), "{plan:#}");
    assert_eq!(stage.stage.containers(&[]), [""; 0], "a plan touches nothing");

    let second = stage.push("v2", "shop/web:live");
    assert_ne!(first.digest, second.digest);
    let deployed = report(&stage, &["deploy", "--image", &first.uri]);
    assert_eq!(deployed["result"]["digest"], second.digest.as_str(), "{deployed:#}");
    stage.stage.serves("v2");
    stage.deploy(&first.uri).expect(0).says(&["unchanged"]);

    let third = stage.push("v3", "shop/web:live");
    let deployed = report(&stage, &["deploy", "--image", &first.uri]);
    assert_eq!(deployed["result"]["digest"], third.digest.as_str(), "{deployed:#}");
    stage.stage.serves("v3");
    let back = report(&stage, &["rollback"]);
    assert_eq!(back["result"]["digest"], second.digest.as_str(), "the record counts, not the tag: {back:#}");
    stage.stage.serves("v2");
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn a_rollback_needs_neither_the_registry_nor_credentials_nor_the_earlier_container() {
    let stage = EcrStage::new();
    let v1 = stage.v1();
    let v2 = stage.push("v2", "shop/web:v2");
    stage.deploy(&v2.uri).expect(0);
    stage.ecr.registry_down().expect("down");
    docker(["rm", &format!("{}-blue", stage.stage.app)]).expect("the earlier container is stopped");
    let mut rollback = stage.bare(&["rollback"]);
    rollback.env("AWS_EC2_METADATA_DISABLED", "true").env("AWS_ENDPOINT_URL", "http://127.0.0.1:9");
    crate::stage::ran(&mut rollback).expect(0).says(&["rolled back on request", &v1.uri]);
    stage.stage.serves("v1");
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn an_image_that_ecr_does_not_have_is_refused_with_its_whole_address() {
    let stage = EcrStage::new();
    let v1 = stage.v1();
    let host = stage.ecr.host();
    let account = host.split('.').next().expect("an account");
    let place = format!("account {account}, region {}", stage.ecr.region());
    stage.deploy(&v1.uri.replace(":v1", ":v9")).expect(10).says(&[
        "tag v9 of repository shop/web",
        &place,
        "ImageNotFound",
        "to do: check that it was pushed under this name and tag",
    ]);
    stage.deploy(&format!("{host}/shop/none:v1")).expect(10).says(&[
        "repository shop/none",
        &place,
        "RepositoryNotFoundException",
        "to do: check that it was pushed",
    ]);
    let digest = format!("sha256:{}", "0".repeat(64));
    stage.deploy(&format!("{host}/shop/web@{digest}")).expect(10).says(&[&digest, "repository shop/web"]);
    stage.only_v1_serves();
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn what_a_policy_forbids_is_named_with_the_permission_that_is_missing() {
    let stage = EcrStage::new();
    stage.v1();
    let v2 = stage.push("v2", "shop/web:v2");
    for (action, exit, cause) in [
        ("BatchGetImage", 10, "the policy does not allow ecr:BatchGetImage on tag v2 of repository shop/web"),
        ("GetAuthorizationToken", 20, "the policy does not allow ecr:GetAuthorizationToken on resource *"),
    ] {
        let api = stage.api(move |asked, _| match asked == action {
            true => Reply::Say(400, r#"{"__type":"AccessDeniedException","Message":"not authorized"}"#),
            false => Reply::Pass,
        });
        let ran = stage.through(&api, &["deploy", "--image", &v2.uri]);
        ran.expect(exit)
            .says(&[cause, "to do: allow the role or user to pull: ecr:GetAuthorizationToken on *"]);
        assert_eq!(api.count(action), 1, "a refusal is not asked for again");
        stage.only_v1_serves();
    }
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn a_token_that_is_refused_in_mid_run_is_fetched_anew_and_the_deploy_goes_on() {
    let stage = EcrStage::new();
    stage.v1();
    let v2 = stage.push("v2", "shop/web:v2");
    let (deny, allow) = (stage.later(FakeEcr::deny), stage.later(FakeEcr::allow));
    let api = stage.api(move |action, count| {
        match (action, count) {
            ("GetAuthorizationToken", 1) => deny(),
            ("GetAuthorizationToken", 2) => allow(),
            _ => {}
        }
        Reply::Pass
    });
    stage.through(&api, &["deploy", "--image", &v2.uri]).expect(0);
    assert_eq!((api.count("BatchGetImage"), api.count("GetAuthorizationToken")), (1, 2));
    stage.stage.serves("v2");
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn a_token_that_stays_refused_ends_the_deploy_and_the_previous_version_serves() {
    let stage = EcrStage::new();
    stage.v1();
    let v2 = stage.push("v2", "shop/web:v2");
    let deny = stage.later(FakeEcr::deny);
    let api = stage.api(move |action, count| {
        if (action, count) == ("GetAuthorizationToken", 1) {
            deny();
        }
        Reply::Pass
    });
    stage.through(&api, &["deploy", "--image", &v2.uri]).expect(20).says(&[
        "pull failed",
        "the registry refused the pull of",
        "unauthorized: authentication required",
        "serving now: blue",
        "to do: allow the role or user to pull: ecr:GetAuthorizationToken on *",
    ]);
    assert_eq!(api.count("GetAuthorizationToken"), 2, "once more with a token of its own");
    stage.only_v1_serves();
    stage.ecr.allow().expect("allowed");
    stage.deploy(&v2.uri).expect(0);
    stage.stage.serves("v2");
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn a_registry_that_is_down_is_tried_again_and_then_given_up() {
    let stage = EcrStage::new();
    stage.v1();
    let v2 = stage.push("v2", "shop/web:v2");
    stage.ecr.registry_down().expect("down");
    let api = stage.api(|_, _| Reply::Pass);
    let ran = stage.through(&api, &["deploy", "--image", &v2.uri]).expect(20).says(&[
        "connection refused; trying 3 more times",
        "the registry of",
        "cannot be reached",
        "serving now: blue",
        "to do: check the network between this host and the registry",
    ]);
    assert_eq!(ran.err.matches("trying 3 more times").count(), 1, "it is said once: {}", ran.err);
    assert_eq!(api.count("GetAuthorizationToken"), 4, "each attempt has a token of its own");
    stage.only_v1_serves();
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn a_registry_that_comes_back_while_it_is_tried_again_serves_the_deploy() {
    let stage = EcrStage::new();
    stage.v1();
    let v2 = stage.push("v2", "shop/web:v2");
    stage.ecr.registry_down().expect("down");
    let up = stage.later(FakeEcr::registry_up);
    let api = stage.api(move |action, count| {
        if (action, count) == ("GetAuthorizationToken", 2) {
            up();
        }
        Reply::Pass
    });
    stage.through(&api, &["deploy", "--image", &v2.uri]).expect(0).says(&["trying 3 more times"]);
    stage.stage.serves("v2");
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn an_ecr_api_that_is_not_there_is_tried_again_and_nothing_is_touched() {
    let stage = EcrStage::new();
    let v1 = stage.v1();
    let mut deploy = stage.command(&["deploy", "--image", &v1.uri]);
    // The port that nobody listens on.
    crate::stage::ran(deploy.env("AWS_ENDPOINT_URL", "http://127.0.0.1:9")).expect(10).says(&[
        "trying 3 more times",
        "cannot be reached",
        "BatchGetImage of the ECR API in ap-northeast-2",
        "to do: check the network between this host and the registry",
    ]);
    stage.only_v1_serves();
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn a_layer_that_the_registry_lost_fails_the_pull_in_mid_stream() {
    let stage = EcrStage::new();
    stage.v1();
    let v2 = stage.push("v2", "shop/web:v2");
    stage.ecr.break_layers("shop/web:v2").expect("broken");
    stage.deploy(&v2.uri).expect(20).says(&[
        "pull failed",
        "lost one of its layers; push the image again",
        "unknown blob",
        "serving now: blue",
        "to do: ",
    ]);
    stage.only_v1_serves();
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn a_previous_release_that_is_down_is_not_said_to_serve_when_the_pull_fails() {
    let stage = EcrStage::new();
    stage.v1();
    let v2 = stage.push("v2", "shop/web:v2");
    stage.ecr.break_layers("shop/web:v2").expect("broken");
    docker(["stop", "--time", "1", &stage.stage.place("blue")]).expect("it ran");
    // Nothing was started, so nothing is to be rolled back, and still nobody serves.
    stage.deploy(&v2.uri).expect(30).says(&[
        "pull failed",
        "manual action is needed",
        "serving now: blue",
        "ITS CONTAINER IS NOT RUNNING",
        "to do: ",
    ]);
    stage.stage.bluegreen(&["status"]).expect(51).says(&["ATTENTION"]);
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn a_certificate_that_docker_does_not_know_is_told_with_the_file_that_is_missing() {
    let stage = EcrStage::new();
    stage.v1();
    let v2 = stage.push("v2", "shop/web:v2");
    let certificate = format!("/etc/docker/certs.d/{}/ca.crt", stage.ecr.host());
    let kept = std::fs::read(&certificate).expect("the fake's own");
    std::fs::remove_file(&certificate).expect("it goes with the fake");
    stage.deploy(&v2.uri).expect(20).says(&[
        "does not trust the registry's certificate",
        "/etc/docker/certs.d/",
        "x509: certificate signed by unknown authority",
        "serving now: blue",
    ]);
    stage.only_v1_serves();
    crate::ecr_stage::write(certificate.as_ref(), kept);
    stage.deploy(&v2.uri).expect(0);
    stage.stage.serves("v2");
}
