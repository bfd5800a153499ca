//! How far a pull is, from the Engine's lines about single layers.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::CreateImageInfo;
use tokio::time::Instant;

use crate::port::PullProgress;

/// How often an observer is told, at most.
const EVERY: Duration = Duration::from_millis(100);

/// Adds up the layers of one pull.
#[derive(Debug, Default)]
pub(super) struct Progress {
    layers: HashMap<String, Layer>,
    told: Option<(Instant, PullProgress)>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Layer {
    bytes: u64,
    total: u64,
    done: bool,
}

impl Progress {
    /// Takes one line; a snapshot when it is time to tell somebody.
    pub(super) fn line(&mut self, info: &CreateImageInfo) -> Option<PullProgress> {
        let (id, status) = (info.id.as_deref()?, info.status.as_deref()?);
        let detail = info.progress_detail.as_ref();
        let number = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).unwrap_or(0);
        let current = number(detail.and_then(|detail| detail.current));
        let total = number(detail.and_then(|detail| detail.total));
        match status {
            "Pulling fs layer" | "Waiting" => {
                self.layers.entry(id.to_owned()).or_default();
            }
            "Downloading" => {
                let layer = self.layers.entry(id.to_owned()).or_default();
                (layer.bytes, layer.total) = (current, total.max(layer.total).max(current));
            }
            "Verifying Checksum" | "Download complete" | "Extracting" => {
                let layer = self.layers.entry(id.to_owned()).or_default();
                layer.bytes = layer.total;
            }
            "Already exists" | "Pull complete" => {
                let layer = self.layers.entry(id.to_owned()).or_default();
                layer.bytes = layer.total;
                layer.done = true;
            }
            // The first line has the tag for an id ("Pulling from shop/web"), and the last ones have none.
            _ => return None,
        }
        let now = Instant::now();
        if self.told.is_some_and(|(at, _)| now.duration_since(at) < EVERY) {
            return None;
        }
        self.tell(now)
    }

    /// What is left to tell at the end.
    pub(super) fn end(&mut self) -> Option<PullProgress> {
        self.tell(Instant::now())
    }

    fn tell(&mut self, now: Instant) -> Option<PullProgress> {
        let snapshot = self.layers.values().fold(PullProgress::default(), |sum, layer| {
            PullProgress::new(
                sum.layers_done + usize::from(layer.done),
                sum.layers + 1,
                sum.bytes + layer.bytes,
                sum.total_bytes + layer.total,
            )
        });
        if snapshot.layers == 0 || self.told.is_some_and(|(_, told)| told == snapshot) {
            return None;
        }
        self.told = Some((now, snapshot));
        Some(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(json: &str) -> CreateImageInfo {
        serde_json::from_str(json).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn layers_are_added_up_and_told_at_times() {
        let mut progress = Progress::default();
        let mut told = Vec::new();
        for json in [
            r#"{"id":"42","status":"Pulling from shop/web"}"#,
            r#"{"id":"a","status":"Already exists","progressDetail":{}}"#,
            r#"{"id":"b","status":"Pulling fs layer","progressDetail":{}}"#,
            r#"{"id":"b","status":"Downloading","progressDetail":{"current":10,"total":100}}"#,
            r#"{"id":"b","status":"Downloading","progressDetail":{"current":60,"total":100}}"#,
            r#"{"id":"b","status":"Verifying Checksum"}"#,
            r#"{"id":"b","status":"Extracting","progressDetail":{"current":5,"total":100}}"#,
            r#"{"id":"b","status":"Pull complete"}"#,
            r#"{"status":"Digest: sha256:00"}"#,
            r#"{"status":"Status: Downloaded newer image for shop/web:42"}"#,
        ] {
            tokio::time::advance(Duration::from_millis(40)).await;
            told.extend(progress.line(&line(json)));
        }
        told.extend(progress.end());
        told.extend(progress.end());
        assert_eq!(
            told,
            [
                PullProgress::new(1, 1, 0, 0),
                PullProgress::new(1, 2, 60, 100),
                PullProgress::new(2, 2, 100, 100),
            ]
        );
    }
}
