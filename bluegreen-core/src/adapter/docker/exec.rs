use std::time::Duration;

use bollard::exec::StartExecResults;
use bollard::models::ExecConfig;
use futures_util::TryStreamExt as _;

use super::Docker;
use crate::port::{ExecOutput, RuntimeError};

/// How much of a command's output is kept: its end. `nginx -T` prints all of a configuration, which must be whole.
const KEPT: usize = 1024 * 1024;

impl Docker {
    pub(super) async fn run_inside(&self, id: &str, command: &[String]) -> Result<ExecOutput, RuntimeError> {
        const OPERATION: &str = "running a command in the container";
        let client = self.engine().await?;
        let failed = |error| self.other(OPERATION, error);
        let config = ExecConfig {
            cmd: Some(command.to_vec()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..ExecConfig::default()
        };
        let exec = client.create_exec(id, config).await.map_err(failed)?;
        let mut output = Vec::new();
        if let StartExecResults::Attached { output: mut frames, input: _input } =
            client.start_exec(&exec.id, None).await.map_err(failed)?
        {
            while let Some(frame) = frames.try_next().await.map_err(failed)? {
                output.extend_from_slice(frame.as_ref());
                if output.len() > 2 * KEPT {
                    output.drain(..output.len() - KEPT);
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
        let end = &output[output.len().saturating_sub(KEPT)..];
        Ok(ExecOutput::new(exit_code, String::from_utf8_lossy(end)))
    }
}
