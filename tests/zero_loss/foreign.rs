//! Load tools that are not ours.

use std::process::{Output, Stdio};
use std::time::Duration;

use bluegreen_core::model::Color;
use bluegreen_testkit::nginx::{NginxBinary, NginxVersion};
use tokio::process::Command;

use crate::stage::{Kind, Stage};

/// The tools.
const TOOLS: [&str; 3] = ["wrk", "ab", "oha"];

/// What a tool saw.
#[derive(Debug, Default)]
struct Seen {
    requests: u64,
    errors: u64,
}

/// Runs all of them. Gives what saw an error that must not, and the controls that saw none.
pub async fn run(switches: u32) -> Vec<String> {
    let mut problems = Vec::new();
    println!("| where | tool | method | changes | requests | errors |");
    println!("|---|---|---|---|---|---|");
    for kind in [Kind::Host(NginxBinary::System), Kind::Container(NginxVersion::V1_22)] {
        let place = if matches!(kind, Kind::Host(_)) { "host" } else { "container" };
        let stage = Stage::start(kind, true, "").await;
        for tool in TOOLS {
            for post in [false, true] {
                let method = if post { "POST" } else { "GET" };
                let (seen, made) = over(&stage, tool, post, switches, true).await;
                let Seen { requests, errors } = seen;
                println!("| {place} | {tool} | {method} | {made} live switches | {requests} | {errors} |");
                if errors > 0 || requests == 0 || made < switches {
                    problems.push(format!("{place}, {tool}, {method}: {errors} errors, {made} switches"));
                }
            }
        }
        let mut seen_by_any = 0;
        for tool in TOOLS {
            let (Seen { requests, errors }, made) = over(&stage, tool, true, 10, false).await;
            println!("| {place} | {tool} | POST | control: {made} plain reloads | {requests} | {errors} |");
            seen_by_any += errors;
        }
        if seen_by_any == 0 {
            problems.push(format!("{place}: no tool saw the plain reloads"));
        }
    }
    problems
}

/// Runs a tool, and changes until it ends. Gives what it saw and how many changes there were.
async fn over(stage: &Stage, tool: &str, post: bool, changes: u32, live: bool) -> (Seen, u32) {
    let seconds = changes / 5 + 4;
    let scratch = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = scratch.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let url = format!("http://{}/{}", stage.address(stage.ports.plain), if post { "echo" } else { "" });
    let seconds_text = seconds.to_string();
    let mut command = Command::new(tool);
    match tool {
        "wrk" => {
            command.args(["-t", "1", "-c", "16", "-d", &seconds_text]);
            if post {
                command.arg("-s").arg(file("post.lua", "wrk.method = \"POST\"\nwrk.body = \"posted\"\n"));
            }
        }
        "ab" => {
            // -l: the two versions' answers differ in length; -r: go on after an error, and count it.
            command.args(["-q", "-k", "-l", "-r", "-c", "16", "-t", &seconds_text, "-n", "5000000"]);
            if post {
                command.arg("-p").arg(file("body", "posted"));
            }
        }
        _ => {
            // -w: what is under way at the end is waited for, not counted as an error.
            command.args(["--no-tui", "-w", "-c", "16", "--output-format", "json"]);
            command.arg("-z").arg(format!("{seconds}s"));
            if post {
                command.args(["-m", "POST", "-d", "posted"]);
            }
        }
    }
    command.arg(&url).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let tool_ended = command.output();
    tokio::pin!(tool_ended);
    let (mut made, mut to) = (0, Color::Green);
    let output = loop {
        tokio::select! {
            output = &mut tool_ended => break output.unwrap_or_else(|error| panic!("{tool}: {error}")),
            () = tokio::time::sleep(Duration::from_millis(if live { 60 } else { 300 })) => {}
        }
        if live {
            stage.switch(&stage.web, to).await;
            to = to.other();
        } else {
            stage.nginx.reload().expect("a reload");
        }
        made += 1;
    };
    if live && to == Color::Blue {
        stage.switch(&stage.web, Color::Blue).await;
    }
    (read(tool, &output), made)
}

fn read(tool: &str, output: &Output) -> Seen {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = || format!("{tool}: {}\n{text}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", said());
    let numbers = |line: &str| -> Vec<u64> {
        line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
    };
    let sum_after = |label: &str| -> u64 {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(label));
        line.map_or(0, |rest| numbers(rest).iter().sum())
    };
    match tool {
        "wrk" => Seen {
            requests: text
                .lines()
                .find(|line| line.contains(" requests in "))
                .and_then(|line| numbers(line).first().copied())
                .unwrap_or_else(|| panic!("{}", said())),
            errors: sum_after("Socket errors:") + sum_after("Non-2xx or 3xx responses:"),
        },
        "ab" => Seen {
            requests: sum_after("Complete requests:"),
            errors: sum_after("Failed requests:") + sum_after("Non-2xx responses:"),
        },
        _ => {
            let json: serde_json::Value =
                serde_json::from_str(&text).unwrap_or_else(|_| panic!("{}", said()));
            let sum = |key: &str, wanted: &dyn Fn(&str) -> bool| -> u64 {
                let entries = json[key].as_object().into_iter().flatten();
                entries.filter(|(name, _)| wanted(name)).filter_map(|(_, n)| n.as_u64()).sum()
            };
            let good = sum("statusCodeDistribution", &|status| status.starts_with('2'));
            let bad = sum("statusCodeDistribution", &|status| !status.starts_with('2'));
            let errors = bad + sum("errorDistribution", &|_| true);
            Seen { requests: good + errors, errors }
        }
    }
}
