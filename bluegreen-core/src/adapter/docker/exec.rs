use std::borrow::Cow;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::exec::StartExecResults;
use bollard::models::ExecConfig;
use futures_util::TryStreamExt as _;

use super::Docker;
use crate::port::{ExecOutput, ExecUser, RuntimeError};

/// How much of a command's output is kept: its end. `nginx -T` prints all of a configuration, which must be whole.
const KEPT: usize = 1024 * 1024;

impl Docker {
    pub(super) async fn run_inside(
        &self,
        id: &str,
        command: &[String],
        user: Option<ExecUser>,
    ) -> Result<ExecOutput, RuntimeError> {
        const OPERATION: &str = "running a command in the container";
        let client = self.engine().await?;
        let failed = |error| self.other(OPERATION, error);
        let config = ExecConfig {
            cmd: Some(command.to_vec()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            user: user.map(|user| format!("{}:{}", user.uid, user.gid)),
            ..ExecConfig::default()
        };
        let exec = client.create_exec(id, config).await.map_err(failed)?;
        let (mut output, mut stdout) = (Vec::new(), Vec::new());
        if let StartExecResults::Attached { output: mut frames, input: _input } =
            client.start_exec(&exec.id, None).await.map_err(failed)?
        {
            while let Some(frame) = frames.try_next().await.map_err(failed)? {
                keep(&mut output, frame.as_ref());
                if matches!(frame, LogOutput::StdOut { .. }) {
                    keep(&mut stdout, frame.as_ref());
                }
            }
        }
        // The end of the output is not the end of the command: that is noted a moment later, or much later when
        // it closed its output itself.
        let mut pause = Duration::from_millis(2);
        let exit_code = loop {
            let seen = client.inspect_exec(&exec.id).await.map_err(failed)?;
            if let (Some(false) | None, Some(exit_code)) = (seen.running, seen.exit_code) {
                break exit_code;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        };
        Ok(ExecOutput::new(exit_code, end(&output)).with_stdout(end(&stdout)))
    }
}

/// Adds to what is kept, and lets go of its beginning when it becomes much too long.
fn keep(kept: &mut Vec<u8>, more: &[u8]) {
    kept.extend_from_slice(more);
    if kept.len() > 2 * KEPT {
        kept.drain(..kept.len() - KEPT);
    }
}

fn end(kept: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(&kept[kept.len().saturating_sub(KEPT)..])
}
