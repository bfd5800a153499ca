//! Journals that a released version wrote must be read for ever, and mean the same.
//!
//! `tests/fixtures/journal/vN/` holds files as that version wrote them. They are never changed; a later version adds a
//! directory.

use bluegreen_core::adapter::file::FileJournal;
use bluegreen_core::model::AppName;
use bluegreen_core::port::Journal as _;
use bluegreen_core::state::AppState;

/// What a journal says, in lines that a person can check.
async fn meaning(fixture: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("web")).unwrap();
    std::fs::copy(format!("tests/fixtures/journal/{fixture}"), directory.path().join("web/journal")).unwrap();
    let app = AppName::new("web").unwrap();
    let entries = FileJournal::new(directory.path()).load(&app).await.unwrap();
    let state = AppState::replay(&entries).unwrap();
    let mut lines: Vec<String> = state
        .runs
        .iter()
        .map(|run| {
            let ended = run.outcome.map_or("open".to_owned(), |outcome| format!("{outcome:?}"));
            format!(
                "{} {}: {} in {}, {ended}; next: {:?}; failure: {:?}",
                run.verb,
                run.deployment,
                run.candidate.image(),
                run.candidate.color(),
                run.resume(),
                run.failure
            )
        })
        .collect();
    lines.push(format!("serves: {:?}", state.current().map(|release| release.deployment().as_str())));
    lines.push(format!("rollback to: {:?}", state.rollback_target().map(|r| r.deployment().as_str())));
    let options = &state.runs[0].candidate.spec.options;
    lines.push(format!("first release's options: {options:?}"));
    lines.join("\n")
}

/// A script's container was adopted, gone back to over two releases in two steps, and a last run was cut off.
#[tokio::test]
async fn version_2() {
    insta::assert_snapshot!(meaning("v2/a-script-and-a-rollback.journal").await);
}

#[tokio::test]
async fn version_1() {
    insta::assert_snapshot!(meaning("v1/deploys-and-a-crash.journal").await);
}
