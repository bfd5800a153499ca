use std::os::unix::process::CommandExt as _;
use std::process::Command;

use bluegreen_core::adapter::docker::Docker;
use bluegreen_core::model::{Publish, RestartPolicy};
use bluegreen_core::port::{ContainerRuntime as _, InstanceState, RuntimeError};

use crate::bed::{Bed, cli, free_port, words};

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn a_container_that_is_not_ours_is_kept_unless_adopted() {
    let bed = Bed::new().await;
    let name = bed.name("blue");
    let theirs = cli(&["run", "-d", "--name", name.as_str(), bed.image.digest().as_str()]);
    assert!(bed.docker.find(&name).await.unwrap().unwrap().owned.is_none());
    assert_eq!(bed.docker.list(&bed.app()).await.unwrap(), []);
    let error = bed.refused(&bed.spec(|_| ())).await;
    assert!(matches!(error, RuntimeError::NameTaken { .. }), "{error:?}");
    assert_eq!(bed.docker.find(&name).await.unwrap().unwrap().id.as_str(), theirs);

    let adopted = bed.run(&bed.spec(|app| app.adopt = true)).await;
    assert!(adopted.id.as_str() != theirs && adopted.owned.is_some());
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn another_applications_container_is_never_adopted() {
    let bed = Bed::new().await;
    let name = bed.name("blue");
    let image = bed.image.digest().as_str();
    let theirs = cli(&["run", "-d", "--name", name.as_str(), "--label", "bluegreen.app=somebody", image]);
    let error = bed.refused(&bed.spec(|app| app.adopt = true)).await;
    assert!(matches!(error, RuntimeError::NameTaken { .. }), "{error:?}");
    assert_eq!(bed.docker.find(&name).await.unwrap().unwrap().id.as_str(), theirs);
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn a_taken_port_is_named_whoever_has_it() {
    let bed = Bed::new().await;
    let port = free_port();
    let spec = bed.spec(|app| app.slots.blue.publish = Some(Publish::loopback(port)));
    let publish = format!("127.0.0.1:{port}:80");
    let image = bed.image.digest().as_str();
    let holder = cli(&["run", "-d", "-p", &publish, image]);
    let error = bed.refused(&spec).await;
    let RuntimeError::PortTaken { port: named, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*named, format!("127.0.0.1:{port}"));
    assert!(words(&error).contains("port is already allocated"), "{}", words(&error));
    let left = bed.docker.find(&bed.name("blue")).await.unwrap().unwrap();
    assert_eq!(left.state, InstanceState::Created);

    cli(&["rm", "-f", &holder]);
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let error = bed.refused(&spec).await;
    let RuntimeError::PortTaken { port: named, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*named, format!("127.0.0.1:{port}"));
    assert!(words(&error).contains("address already in use"), "{}", words(&error));

    drop(listener);
    assert_eq!(bed.run(&spec).await.id, left.id, "what was left is started, not made again");
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn a_missing_command_is_refused_or_exits_with_127() {
    let bed = Bed::new().await;
    let spec = |init: bool| {
        bed.spec(|app| {
            app.options.command = Some(vec!["nope".to_owned()]);
            app.options.restart = RestartPolicy::No;
            app.options.init = init;
        })
    };
    let error = bed.refused(&spec(false)).await;
    assert!(matches!(error, RuntimeError::Rejected { .. }), "{error:?}");
    assert!(words(&error).contains("executable file not found"), "{}", words(&error));
    let left = bed.docker.find(&bed.name("blue")).await.unwrap().unwrap();
    bed.docker.ensure_removed(&left.id).await.unwrap();

    bed.run(&spec(true)).await;
    let ended = bed.wait(|found| !found.is_running()).await;
    assert!(matches!(ended.state, InstanceState::Exited { exit_code: 127, .. }), "{:?}", ended.state);
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn settings_that_the_engine_refuses() {
    let bed = Bed::new().await;
    let error = bed.refused(&bed.spec(|app| app.options.mounts = vec!["/nope-x:/x".parse().unwrap()])).await;
    assert!(matches!(error, RuntimeError::Rejected { .. }), "{error:?}");
    assert!(words(&error).contains("bind source path does not exist"), "{}", words(&error));

    let error = bed.refused(&bed.spec(|app| app.options.memory = Some(1))).await;
    assert!(matches!(error, RuntimeError::Rejected { .. }), "{error:?}");

    let error = bed.refused(&bed.spec(|app| app.options.command = Some(vec!["/etc".to_owned()]))).await;
    assert!(matches!(error, RuntimeError::Rejected { .. }), "{error:?}");
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn an_image_that_is_gone() {
    let bed = Bed::new().await;
    cli(&["rmi", "-f", bed.image.digest().as_str()]);
    let error = bed.refused(&bed.spec(|_| ())).await;
    assert!(matches!(error, RuntimeError::ImageNotFound { .. }), "{error:?}");
}

#[tokio::test]
async fn no_socket() {
    let error = Docker::connect(Some("unix:///nonexistent/docker.sock")).unwrap_err();
    let RuntimeError::Unreachable { address, denied, .. } = &error else { panic!("{error:?}") };
    assert_eq!((address.as_str(), denied), ("unix:///nonexistent/docker.sock", &false));
    assert!(words(&error).contains("is Docker running?"), "{}", words(&error));
    assert!(Docker::connect(Some("ssh://host")).is_err());
}

#[tokio::test]
async fn nobody_listens() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("docker.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let docker = Docker::connect(path.to_str()).unwrap();
    let error = docker.greet().await.unwrap_err();
    assert!(matches!(error, RuntimeError::Unreachable { denied: false, .. }), "{error:?}");
    assert!(words(&error).to_lowercase().contains("connection refused"), "{}", words(&error));

    let docker = Docker::connect(Some(&format!("tcp://127.0.0.1:{}", free_port()))).unwrap();
    let error = docker.greet().await.unwrap_err();
    assert!(words(&error).to_lowercase().contains("connection refused"), "{}", words(&error));
}

/// What a user who may not use Docker sees. This process may, so a copy of it is run as nobody.
#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn no_permission() {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open).unwrap();
    let output = Command::new(&copy)
        .args(["--exact", "failure::greet_as_whoever_this_is", "--include-ignored", "--nocapture"])
        .uid(65534)
        .gid(65534)
        .current_dir("/")
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.contains("denied: true"), "{output}");
    assert!(output.contains("Permission denied"), "{output}");
}

/// Half of [`no_permission`].
#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
#[expect(clippy::print_stdout, reason = "its output is what the other half reads")]
async fn greet_as_whoever_this_is() {
    if let Err(error) = Docker::connect(None).unwrap().greet().await {
        println!("{error:?}");
    }
}
