//! Rounds of runs that are killed and runs that follow them, on one stage under one load.

use std::cell::Cell;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use bluegreen_testkit::load::{Handle, Mode};
use serde_json::Value;
use tokio::time::Instant;

use crate::luck::PATIENCE;
use crate::stage::{Kind, Ran, Stage};

const VERSIONS: [&str; 3] = ["a", "b", "c"];

/// Shorter than the sync that follows each write of the journal.
const LOOK_EVERY: Duration = Duration::from_micros(200);

/// Three versions that take turns, so that the next one is neither what serves nor what is kept beside it.
pub struct Rounds {
    pub kind: Kind,
    pub stage: Stage,
    /// How many there were.
    pub kills: Cell<usize>,
    images: [String; 3],
    last: usize,
}

/// What became of a command that was to be killed.
pub struct Cut {
    /// What it added to the journal.
    pub records: Vec<Value>,
    /// How it ended, when that was before the kill.
    pub ended: Option<Ran>,
}

impl Rounds {
    /// A stage with a release to go back to.
    pub fn new(kind: Kind) -> Self {
        let stage = Stage::live(kind);
        let images = VERSIONS.map(|version| stage.image_with(version, &[]));
        stage.bluegreen(&["deploy", "--image", &images[0]]).expect(0);
        let mut rounds = Self { kind, stage, kills: Cell::new(0), images, last: 0 };
        rounds.deploy_next().expect(0);
        rounds
    }

    /// Clients, of each kind that must not notice anything.
    pub fn load(&self) -> Handle {
        // A reload of this nginx closes connections that clients still have: there only those that open a
        // connection for each request can be promised anything.
        self.stage.light_load_of(match self.kind {
            Kind::ContainerRewrite => &[Mode::New],
            _ => &[Mode::New, Mode::Keepalive, Mode::Gaps, Mode::Naive, Mode::Post, Mode::Slow],
        })
    }

    /// The arguments that deploy the next version.
    pub fn next(&mut self) -> Vec<String> {
        self.last = (self.last + 1) % VERSIONS.len();
        ["deploy", "--image", &self.images[self.last]].map(str::to_owned).into()
    }

    /// Deploys the next version, to its end.
    pub fn deploy_next(&mut self) -> Ran {
        let arguments = self.next();
        self.stage.bluegreen(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn journal(&self) -> PathBuf {
        self.stage.dir().join("state").join(&self.stage.app).join("journal")
    }

    /// The journal's whole records behind `from`, and where the last of them ends.
    fn records_from(&self, from: u64) -> (Vec<Value>, u64) {
        let mut text = String::new();
        let mut file = File::open(self.journal()).expect("a journal");
        file.seek(SeekFrom::Start(from)).and_then(|_| file.read_to_string(&mut text)).expect("a journal");
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let record = |line: &str| {
            let json = line.splitn(3, ' ').nth(2).expect("version, checksum, record");
            serde_json::from_str::<Value>(json).expect("JSON")["record"].take()
        };
        (text[..whole].lines().map(record).collect(), from + whole as u64)
    }

    /// Starts the command and kills it by SIGKILL when `now` says so of the records that it has written.
    pub fn cut(&self, arguments: &[String], mut now: impl FnMut(usize) -> bool) -> Cut {
        let (_, from) = self.records_from(0);
        let err = self.stage.dir().join("cut.err");
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut command = self.stage.command(&arguments);
        command.stdout(Stdio::null()).stderr(File::create(&err).expect("a file"));
        let mut child = command.spawn().expect("the command starts");
        let began = Instant::now();
        let status = loop {
            if now(self.records_from(from).0.len()) {
                child.kill().expect("a child of ours");
                break child.wait().expect("a child of ours");
            }
            if let Some(status) = child.try_wait().expect("a child of ours") {
                break status;
            }
            assert!(began.elapsed() < PATIENCE, "it does not end: {arguments:?}");
            thread::sleep(LOOK_EVERY);
        };
        let killed = status.signal() == Some(9);
        self.kills.set(self.kills.get() + usize::from(killed));
        let said = || std::fs::read_to_string(&err).expect("what it said");
        let ended =
            (!killed).then(|| Ran { code: status.code().unwrap_or(-1), out: String::new(), err: said() });
        Cut { records: self.records_from(from).0, ended }
    }

    /// What must serve once the last run is settled, as the journal says: the candidate of the last run that was
    /// committed and not rolled back.
    fn owed(&self) -> &'static str {
        let (records, _) = self.records_from(0);
        let (mut candidate, mut owed) = (None, None);
        let mut before = None;
        for record in &records {
            match record["type"].as_str().expect("a type") {
                "begun" => (candidate, before) = (version_of(record), owed),
                "succeeded" if record["step"] == "verify" => owed = candidate,
                "ended" if record["outcome"] == "rolled-back" => owed = before,
                _ => {}
            }
        }
        owed.expect("a committed run")
    }

    /// What is not as it must be after a run that settled everything; `None` when one release serves and all is well.
    pub fn unsettled(&self) -> Option<String> {
        let (owed, serves) = (self.owed(), self.stage.version());
        if serves.as_deref() != Some(owed) {
            return Some(format!("{serves:?} serves and not {owed}"));
        }
        let (running, all) = (self.stage.running(), self.stage.containers(&[]));
        if running.len() != 1 || all.len() > 2 {
            return Some(format!("{running:?} run, and there are {all:?}"));
        }
        let status = self.stage.bluegreen(&["status"]);
        let quiet =
            status.code == 0 && !["UNFINISHED", "ATTENTION"].iter().any(|word| status.out.contains(word));
        (!quiet).then(|| format!("status says {}{}", status.out, status.err))
    }

    /// The same as a failure of the test.
    #[track_caller]
    pub fn settled(&self) {
        if let Some(what) = self.unsettled() {
            panic!("{what}");
        }
    }
}

/// Which of the versions a run was to make serve.
fn version_of(begun: &Value) -> Option<&'static str> {
    let text = begun["candidate"].to_string();
    VERSIONS.into_iter().find(|version| text.contains(&format!("/app:{version}")))
}
