use std::time::Duration;

use bluegreen_core::model::RestartPolicy;
use bluegreen_core::port::{ContainerRuntime as _, InstanceId, LineStream};
use futures_util::StreamExt as _;

use crate::bed::{Bed, cli, sh, words};

async fn all(lines: LineStream) -> Vec<String> {
    let all = lines.map(|line| line.unwrap()).collect();
    tokio::time::timeout(Duration::from_secs(30), all).await.expect("the stream does not end")
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn every_line_comes_once_and_the_stream_ends_with_the_instance() {
    let bed = Bed::new().await;
    let spec = bed.spec(|app| {
        let script = "echo first; printf part; sleep 0.2; echo ial; head -c 40000 /dev/zero | busybox tr '\\0' x; \
            echo; seq 1 500; echo to-err >&2; printf last";
        app.options.command = Some(sh(script));
        app.options.restart = RestartPolicy::No;
    });
    let instance = bed.run(&spec).await;
    let lines = all(bed.docker.follow_log(&instance.id).await.unwrap()).await;
    let mut expected = vec!["first".to_owned(), "partial".to_owned(), "x".repeat(40000)];
    expected.extend((1..=500).map(|n: u32| n.to_string()));
    expected.push("last".to_owned());
    // The order between the two streams is not kept by the Engine.
    let (err, out): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| line == "to-err");
    assert_eq!(err.len(), 1);
    assert_eq!(out, expected);

    // The same afterwards.
    assert_eq!(all(bed.docker.follow_log(&instance.id).await.unwrap()).await.len(), expected.len() + 1);
    let tail = bed.docker.log_tail(&instance.id, 3).await.unwrap();
    assert!(tail.len() == 3 && tail.contains(&"last".to_owned()), "{tail:?}");
    assert_eq!(bed.docker.log_tail(&instance.id, 0).await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn only_the_present_run_is_followed() {
    let bed = Bed::new().await;
    let spec = bed.shell("echo ready; echo ready-err >&2; exec sleep 600");
    let first = bed.run(&spec).await;
    for round in 0..5 {
        let mut lines = bed.docker.follow_log(&first.id).await.unwrap();
        let mut seen = vec![lines.next().await.unwrap().unwrap(), lines.next().await.unwrap().unwrap()];
        seen.sort();
        assert_eq!(seen, ["ready", "ready-err"], "round {round}");
        bed.docker.ensure_stopped(&first.id, Some(Duration::ZERO)).await.unwrap();
        assert_eq!(all(lines).await, Vec::<String>::new(), "round {round}");
        assert_eq!(bed.run(&spec).await.id, first.id);
    }
    // The last run has begun, and may not have said its two lines yet.
    let mut lines = bed.docker.follow_log(&first.id).await.unwrap();
    for _ in 0..2 {
        lines.next().await.unwrap().unwrap();
    }
    assert_eq!(bed.docker.log_tail(&first.id, 100).await.unwrap().len(), 12);
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn the_end_of_the_log_is_not_lost() {
    let bed = Bed::new().await;
    let script = "sleep 0.2; seq 1 3000; printf last";
    let expected: Vec<_> = (1..=3000).map(|n: u32| n.to_string()).chain(["last".to_owned()]).collect();
    for round in 0..20 {
        let id = InstanceId::new(cli(&["run", "-d", bed.image.digest().as_str(), "sh", "-c", script]));
        let lines = all(bed.docker.follow_log(&id).await.unwrap()).await;
        assert!(lines == expected, "round {round}: {} lines, last {:?}", lines.len(), lines.last());
        bed.docker.ensure_removed(&id).await.unwrap();
    }
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn a_crash_loop_is_followed_one_run_at_a_time() {
    let bed = Bed::new().await;
    let instance = bed.run(&bed.shell("echo up; sleep 0.5; exit 1")).await;
    bed.wait(|found| found.restarts >= 1 && found.is_running()).await;
    let lines = all(bed.docker.follow_log(&instance.id).await.unwrap()).await;
    assert_eq!(lines, ["up"]);
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn a_terminal_has_one_stream() {
    let bed = Bed::new().await;
    let script = "printf 'one\\ntwo\\nthree\\n'";
    let id = cli(&["run", "-dt", bed.image.digest().as_str(), "sh", "-c", script]);
    let id = InstanceId::new(id);
    assert_eq!(all(bed.docker.follow_log(&id).await.unwrap()).await, ["one", "two", "three"]);
    assert_eq!(bed.docker.log_tail(&id, 2).await.unwrap(), ["two", "three"]);
    cli(&["start", id.as_str()]);
    cli(&["wait", id.as_str()]);
    assert_eq!(bed.docker.log_tail(&id, 100).await.unwrap().len(), 6);
}

#[tokio::test]
#[ignore = "needs Docker: ./scripts/test"]
async fn no_container_no_log() {
    let bed = Bed::new().await;
    let id = InstanceId::new("nothing-of-this-name");
    let error = bed.docker.log_tail(&id, 5).await.unwrap_err();
    assert!(words(&error).contains("No such container"), "{}", words(&error));
    assert!(bed.docker.follow_log(&id).await.is_err());
    assert!(bed.docker.exec(&id, &sh("true"), None).await.is_err());
}
