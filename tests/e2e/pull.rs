//! `--pull`: who is asked what a tag means.

use bluegreen_testkit::docker::{AppImage, docker};

use crate::ecr_stage::EcrStage;

/// v1 serves. The registry's `shop/web:live` is v3; this host has v2 under the same name.
fn two_of_one_name() -> (EcrStage, String, String) {
    let stage = EcrStage::new();
    stage.v1();
    let v3 = stage.push("v3", "shop/web:live");
    let local = stage.stage.image("v2", &AppImage::version("v2"));
    docker(["tag", &local, &v3.uri]).expect("a tag");
    let id = docker(["inspect", "--format", "{{.Id}}", &local]).expect("an id");
    (stage, v3.uri, id)
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn pull_always_is_the_default_and_takes_what_the_registry_has() {
    let (stage, uri, _) = two_of_one_name();
    stage.bluegreen(&["deploy", "--pull", "always", "--image", &uri]).expect(0);
    stage.stage.serves("v3");
    stage.deploy(&uri).expect(0).says(&["unchanged"]);
    stage.ecr.registry_down().expect("down");
    // The API still says that it is the image that is here: nothing to pull.
    stage.bluegreen(&["deploy", "--force", "--image", &uri]).expect(0);
    stage.stage.serves("v3");
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn pull_missing_takes_what_is_here_and_asks_only_for_what_is_not() {
    let (stage, uri, id) = two_of_one_name();
    let api = stage.api(|_, _| crate::api::Reply::Pass);
    stage.through(&api, &["deploy", "--pull", "missing", "--image", &uri]).expect(0);
    stage.stage.serves("v2");
    assert_eq!(api.count("BatchGetImage"), 0, "nobody was to be asked");
    let green = format!("{}-green", stage.stage.app);
    assert_eq!(docker(["inspect", "--format", "{{.Image}}", &green]).expect("it runs"), id);

    let v4 = stage.push("v4", "shop/web:v4");
    stage.through(&api, &["deploy", "--pull", "missing", "--image", &v4.uri]).expect(0);
    stage.stage.serves("v4");
    assert_eq!(api.count("BatchGetImage"), 1);
}

#[test]
#[ignore = "needs Docker, nginx and moto: ./scripts/test"]
fn pull_never_takes_what_is_here_and_refuses_what_is_not() {
    let (stage, uri, _) = two_of_one_name();
    let v4 = stage.push("v4", "shop/web:v4");
    let api = stage.api(|_, _| crate::api::Reply::Pass);
    stage.through(&api, &["deploy", "--pull", "never", "--image", &v4.uri]).expect(10).says(&[
        "shop/web:v4",
        "is not on this host, and pulling is off",
        "next: docker pull",
        "--pull missing",
    ]);
    stage.only_v1_serves();
    stage.through(&api, &["deploy", "--pull", "never", "--image", &uri]).expect(0);
    stage.stage.serves("v2");
    // And the way back from there needs nobody either.
    stage.through(&api, &["rollback"]).expect(0);
    stage.stage.serves("v1");
    assert_eq!((api.count("BatchGetImage"), api.count("GetAuthorizationToken")), (0, 0));
}
