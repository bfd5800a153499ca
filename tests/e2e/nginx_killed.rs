//! nginx killed at each step of a deploy, master and workers, and started again: at once, or when the deploy is over.
//! Whoever asks while it is away gets nothing; nothing else may come of it.

use crate::interrupted::{STEPS, Turns, VERSIONS};
use crate::luck::Running;
use crate::nginx_life::{self, side_by_side};
use crate::stage::Kind;

/// When nginx is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Back {
    AtOnce,
    WhenTheDeployIsOver,
}

fn killed_at_each_step(kind: Kind, back: Back) {
    let mut turns = Turns::new(kind);
    // What is in flight to a dead nginx cannot be known: then it is waited for as long as may be.
    turns.stage.configure("[app.WEB.drain]\ntimeout = \"3s\"");
    for step in STEPS {
        let of = format!("{kind:?}: nginx killed at {step}, back {back:?}");
        let candidate = turns.candidate();
        let began = tokio::time::Instant::now();
        let mut run = Running::deploy(&turns.stage, &turns.images[candidate], &[]);
        run.until("step-started", Some(step));
        // Held for the moment that it takes, so that it is this step that finds nginx dead.
        run.signal("STOP");
        nginx_life::kill(&turns.stage, kind);
        if back == Back::AtOnce {
            nginx_life::start(&turns.stage, kind);
        }
        run.signal("CONT");
        let ran = run.end();
        if back == Back::WhenTheDeployIsOver {
            nginx_life::start(&turns.stage, kind);
        }
        let committed = run.saw("step-succeeded", "verify");
        eprintln!("{of}: {} after {:.0?}, committed {committed}", ran.code, began.elapsed());
        // Committed: 0, or 40 when the previous one could not be let go of. Else rolled back, or left to the next run.
        let codes: &[i32] = if committed { &[0, 40] } else { &[20, 30] };
        assert!(codes.contains(&ran.code), "{of}: {}\n{}\n{}", ran.code, ran.out, ran.err);
        // The moment it is there again one of the two serves, and the command knows which.
        let serves = turns.stage.version().unwrap_or_else(|| panic!("{of}: nothing serves\n{}", ran.err));
        if committed || ran.code == 20 {
            assert_eq!(serves, VERSIONS[if committed { candidate } else { turns.serving }], "{of}");
        }
        let standing = if [30, 40].contains(&ran.code) { 50 } else { 0 };
        let status = turns.stage.bluegreen(&["status"]).expect(standing).says(&[&format!("app:{serves}")]);
        let unsettled = ["UNFINISHED", "ATTENTION"].iter().any(|word| status.out.contains(word));
        assert_eq!(unsettled, [30, 40].contains(&ran.code), "{of}\n{}", status.out);
        // And simply the next deploy does what this one was to do.
        let deploy = ["deploy", "--image", &turns.images[candidate]];
        turns.stage.watched(&VERSIONS, || turns.stage.bluegreen(&deploy).expect(0));
        turns.settled_on(candidate, &of);
        let status = turns.stage.bluegreen(&["status"]).expect(0);
        assert!(!["UNFINISHED", "ATTENTION"].iter().any(|word| status.out.contains(word)), "{}", status.out);
    }
}

#[test]
#[ignore = "needs Docker and nginx: ./scripts/test"]
fn an_nginx_that_is_killed_at_each_step_and_started_again_is_settled_by_the_next_deploy() {
    let all = [
        (Kind::HostLive, Back::AtOnce),
        (Kind::HostLive, Back::WhenTheDeployIsOver),
        (Kind::ContainerLive, Back::AtOnce),
        (Kind::ContainerLive, Back::WhenTheDeployIsOver),
    ];
    side_by_side(&all, |(kind, back)| killed_at_each_step(kind, back));
}
