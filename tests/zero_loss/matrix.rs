//! What a switch costs, by version, place and way. Both colours run all the time: what is lost is the switch's own.

use std::time::Duration;

use bluegreen_core::model::Color;
use bluegreen_testkit::load::{FailureKind, Mode, Report};
use bluegreen_testkit::nginx::{NginxBinary, NginxVersion};

use crate::clients;
use crate::stage::{Kind, Stage};

/// How a cell is switched, and whether it must lose nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Live,
    Reload,
    ReloadThatWaits,
}

impl Way {
    const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Reload => "reload",
            Self::ReloadThatWaits => "reload, `keepalive_min_timeout 5s`",
        }
    }
}

/// Runs all cells. Gives the cells that lost what they must not, and those where a loss was expected and not seen.
pub async fn run(switches: u32) -> Vec<String> {
    let mut problems = Vec::new();
    println!("{switches} switches a cell; lost requests a switch, and of how many requests.\n");
    println!(
        "| nginx | where | switch | requests | 5xx | careful clients | naive clients | careful, 25 ms away |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for version in NginxVersion::ALL {
        for kind in [Kind::Host(NginxBinary::Of(version)), Kind::Container(version)] {
            for way in [Way::Live, Way::Reload, Way::ReloadThatWaits] {
                if way == Way::ReloadThatWaits && version != NginxVersion::V1_30 {
                    continue;
                }
                problems.extend(cell(version, kind, way, switches).await);
            }
        }
    }
    problems
}

async fn cell(version: NginxVersion, kind: Kind, way: Way, switches: u32) -> Option<String> {
    let http = if way == Way::ReloadThatWaits { "keepalive_min_timeout 5s;\n" } else { "" };
    let stage = Stage::start(kind, way == Way::Live, http).await;
    let (near, far) = clients::hurt_by_reloads(&stage);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut to = Color::Green;
    for _ in 0..switches {
        stage.switch(&stage.web, to).await;
        to = to.other();
        stage.drain(&stage.web, to, Duration::from_secs(10)).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (near, far) = (near.stop(), far.stop());
    let place = if matches!(kind, Kind::Host(_)) { "host" } else { "container" };
    let cell = format!("{}x | {place} | {}", version.number(), way.name());
    let naive = near.mode(Mode::Naive).failed;
    let careful = near.total.failed - naive;
    let errors = near.count(FailureKind::Status5xx) + far.count(FailureKind::Status5xx);
    let each = |lost: u64| format!("{:.2}", lost as f64 / f64::from(switches));
    println!(
        "| {cell} | {} | {errors} | {} | {} | {} |",
        near.total.requests + far.total.requests,
        each(careful),
        each(naive),
        each(far.total.failed)
    );
    let lost = |report: &Report| report.total.failed;
    let total = lost(&near) + lost(&far);
    if way != Way::Reload && total > 0 {
        return Some(format!("{cell}: {total} lost, expected none\n{near}\n{far}"));
    }
    if way == Way::Reload && total == 0 {
        return Some(format!("{cell}: nothing lost, so these clients cannot see a loss"));
    }
    None
}
