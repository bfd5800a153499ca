//! What the orchestrator itself costs: a whole run on fakes that answer at once, and the durable journal against the
//! bare write and sync that it cannot do without.
//!
//! ```text
//! cargo bench --bench orchestrator      200 runs, 500 records
//! ```

#![allow(clippy::disallowed_methods, reason = "a benchmark reads clocks and the environment")]

mod common;

use std::io::Write;
use std::time::{Duration, Instant};

use bluegreen_core::adapter::file::FileJournal;
use bluegreen_core::model::AppName;
use bluegreen_core::orchestrator::{Orchestrator, Request};
use bluegreen_core::plan::Step;
use bluegreen_core::port::Journal;
use bluegreen_core::state::Record;
use bluegreen_core::testing::World;
use common::{Table, median, ms, range};

const RUNS: usize = 200;
const RECORDS: usize = 500;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut table = Table::new(&["what", "median, ms", "range", "control", "ratio"]);

    let runs = runtime.block_on(runs());
    table.row(&[
        "a whole run on fakes, without the drain's wait for quiet".to_owned(),
        format!("{:.2}", median(&runs)),
        range(&runs),
        "–".to_owned(),
        "–".to_owned(),
    ]);

    // In the target directory: where people build is a disk, and /tmp is often memory.
    let root = bluegreen_testkit::cache_dir().expect("a directory");
    let dir = tempfile::Builder::new().prefix("bench-").tempdir_in(root).expect("a directory");
    let (ours, bare) = runtime.block_on(journal(dir.path()));
    let (of_ours, of_bare) = (median(&ours), median(&bare));
    table.row(&[
        "a journal record: append and sync".to_owned(),
        format!("{of_ours:.2}"),
        range(&ours),
        format!("{of_bare:.2} (bare write and fdatasync)"),
        format!("{:.2}", of_ours / of_bare),
    ]);
    table.print(&format!("The orchestrator by itself ({RUNS} runs, {RECORDS} records)"));
}

/// Runs that follow each other on one host in memory, in real time.
async fn runs() -> Vec<f64> {
    let world = World::new();
    world.publish("registry.test/web:1");
    world.publish("registry.test/web:2");
    let mut spec = world.spec();
    // It would be waited for, and says nothing about what the orchestrator costs.
    spec.drain.settle = Duration::ZERO;
    let orchestrator = Orchestrator::new(world.ports(), spec);
    let mut times = Vec::new();
    for run in 0..RUNS {
        let image = format!("registry.test/web:{}", 1 + run % 2).parse().expect("an image");
        let request = Request::new(image, format!("run-{run}").parse().expect("an id"));
        let began = Instant::now();
        orchestrator.deploy(request).await.expect("a run");
        times.push(ms(began.elapsed()));
    }
    times
}

/// Records of the journal, and the same number of bytes written and synced by hand, in turns.
async fn journal(dir: &std::path::Path) -> (Vec<f64>, Vec<f64>) {
    let journal = FileJournal::new(dir);
    let app = AppName::new("web").expect("a name");
    let record = |n: usize| match n % 2 {
        0 => Record::Started { step: Step::Pull },
        _ => Record::Succeeded { step: Step::Pull },
    };
    journal.append(&app, &record(0)).await.expect("a record");
    let line = std::fs::read(journal.path(&app)).expect("the journal");
    let mut file = std::fs::File::create(dir.join("bare")).expect("a file");
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for n in 1..RECORDS {
        let began = Instant::now();
        journal.append(&app, &record(n)).await.expect("a record");
        ours.push(ms(began.elapsed()));
        let began = Instant::now();
        file.write_all(&line).and_then(|()| file.sync_data()).expect("a write");
        bare.push(ms(began.elapsed()));
    }
    (ours, bare)
}
