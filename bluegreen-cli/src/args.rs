//! What can be typed. Only shapes: what the values mean is decided in `settings` and `commands`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use bluegreen_core::adapter::nginx::ChosenLine;
use bluegreen_core::model::{AppName, DeploymentId, ImageRef};
use bluegreen_core::orchestrator::Goal;
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

use crate::{duration, exit};

const EXAMPLES: &str = "\
Examples:
  bluegreen deploy --image-definitions imagedefinitions.json --nginx-conf /srv/nginx/conf.d/default.conf
      Replace a deploy script: no configuration file needed
  bluegreen deploy web --image 123456789012.dkr.ecr.eu-west-1.amazonaws.com/web:42
      Deploy one application of ./bluegreen.toml
  bluegreen plan web --image …:42     Show each step and the nginx diff; touch nothing
  bluegreen status                    Show what serves now and what to type next
  bluegreen rollback web              Go back to the previous release";

/// Zero-downtime blue/green deployment of Docker containers on a plain host.
#[derive(Debug, Parser)]
#[command(
    name = "bluegreen",
    version,
    propagate_version = true,
    after_help = EXAMPLES,
    after_long_help = exit::help(EXAMPLES),
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Configuration file [default: ./bluegreen.toml, else /etc/bluegreen/bluegreen.toml]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// Output format: text for people, or JSON Lines with the report last
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t = Output::Human)]
    pub(crate) output: Output,
    /// Write the report as JSON to this file too, whatever the outcome (atomically, readable by its owner only)
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) report: Option<PathBuf>,
    /// Directory of the journal and the locks, one for all users of this host [default: /var/lib/bluegreen]
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) state_dir: Option<PathBuf>,
    /// Print only warnings, errors and the result
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Print more detail, such as each attempt of a check
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Whether to use colours in text output
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = When::Auto)]
    pub(crate) color: When,
    /// Show no progress bar on a terminal
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,
}

/// A format of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Human,
    Json,
}

/// When to do something that depends on the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    Auto,
    Always,
    Never,
}

/// When to pull an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PullArg {
    /// Ask the registry what the tag means now, and pull the image if it is not on this host
    Always,
    /// Use the image on this host; ask the registry only if there is none
    Missing,
    /// Use the image on this host, or fail
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Inspect this host and write a bluegreen.toml for it; overwrites no file and changes nothing else
    #[command(after_help = INIT_EXAMPLES, args_conflicts_with_subcommands = true)]
    Init(InitArgs),
    /// Start the new version beside the running one, check it, switch nginx to it, stop the previous one
    #[command(after_help = DEPLOY_EXAMPLES)]
    Deploy(Box<DeployArgs>),
    /// Go back to the previous release, with its recorded digest and options, by the steps of a deploy
    #[command(after_help = ROLLBACK_EXAMPLES)]
    Rollback(RollbackArgs),
    /// Show what serves now, since when, what a rollback would go to, and what to type next
    Status(AppArgs),
    /// List the runs: what each deployed, how it ended, and what the availability probe measured
    History(HistoryArgs),
    /// Ask the run in progress to stop and roll back, and wait until it has ended
    Cancel(CancelArgs),
    /// Recover an interrupted run: roll it back if it was not committed, finish it if it was
    Recover(RunArgs),
    /// Stop the previous release's container once `retain.warm` is over
    Retire(RetireArgs),
    /// Show what deploy would do, step by step, with the nginx diff; touches nothing
    Plan(Box<InputArgs>),
    /// Check everything that a deploy depends on and say how to fix what would stop it; touches nothing
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(Box<ImageArgs>),
    /// Prepare nginx for the live switch, check it, or undo that
    #[command(subcommand)]
    Nginx(NginxCommand),
    /// Check the configuration file
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the manual page (roff)
    Man,
    /// A word that is no verb, and what stands behind it.
    #[command(external_subcommand)]
    Unknown(Vec<OsString>),
}

impl Command {
    /// Whether it changes something on this host, and must not be stopped in its middle.
    pub(crate) const fn changes(&self) -> bool {
        matches!(
            self,
            Self::Deploy(_) | Self::Rollback(_) | Self::Recover(_) | Self::Retire(_) | Self::Nginx(_)
        )
    }
}

const INIT_EXAMPLES: &str = "\
Examples:
  bluegreen init --stdout             Show what would be written and what could not be carried over
  bluegreen init                      Use the containers, nginx and other tools' files found here
  bluegreen init --from deploy.yml    Use this Compose, PM2 or Kamal file instead
  bluegreen init codedeploy           Write the files and IAM policies for CodeDeploy";

const DEPLOY_EXAMPLES: &str = "\
Examples:
  bluegreen deploy --image-definitions imagedefinitions.json --nginx-conf /srv/nginx/conf.d/default.conf
  bluegreen deploy web --image-definitions imagedefinitions.json --report /var/log/web-deploy.json
  bluegreen deploy web --image registry.example.com/web:42 --wait 10m

In a CodeDeploy hook, the id comes from DEPLOYMENT_ID and the deadline from `timeout` in appspec.yml.";

const ROLLBACK_EXAMPLES: &str = "\
Examples:
  bluegreen rollback web                        To what served before; repeat to go further back
  bluegreen rollback web --list                 List what it could go back to
  bluegreen rollback web --to 1a2b3c4d5e6f      To this digest, or to a deployment's id";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  bluegreen doctor web                          Check everything but the image
  bluegreen doctor web --image …:42             Check the registry, its credentials and the image too
  bluegreen doctor web --output json            For scripts: exit code 10 when a deploy would fail";

/// `init`.
#[derive(Debug, Clone, Args)]
pub(crate) struct InitArgs {
    #[command(subcommand)]
    pub(crate) command: Option<InitCommand>,
    /// Show what would be written, and write nothing
    #[arg(long, visible_alias = "dry-run")]
    pub(crate) stdout: bool,
    /// Read this Compose, PM2 or Kamal file instead of those in this directory; may be repeated
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) from: Vec<PathBuf>,
}

/// `init …`.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum InitCommand {
    /// Write what CodeBuild and CodeDeploy need: appspec.yml, buildspec.yml, the hook and minimal IAM policies
    Codedeploy(InitCodedeployArgs),
}

/// `init codedeploy`.
#[derive(Debug, Clone, Args)]
pub(crate) struct InitCodedeployArgs {
    /// The application [default: the only one of the configuration]
    pub(crate) app: Option<AppName>,
    /// Its image in ECR [default: the configuration's]
    #[arg(long, value_name = "REF")]
    pub(crate) image: Option<ImageRef>,
    /// The bucket of the revisions [default: CodePipeline's own]
    #[arg(long, value_name = "NAME")]
    pub(crate) bucket: Option<String>,
    /// Directory to write the files to [default: this directory]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) dir: Option<PathBuf>,
    /// Show what would be written, and write nothing
    #[arg(long, visible_alias = "dry-run")]
    pub(crate) stdout: bool,
}

/// Which application.
#[derive(Debug, Clone, Args)]
pub(crate) struct AppArgs {
    /// The application; optional if the configuration has only one
    pub(crate) app: Option<AppName>,
    /// As given to `deploy`, if that was used without a configuration file; requires APP
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "app")]
    pub(crate) nginx_conf: Option<PathBuf>,
}

/// Which application and which image.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ImageArgs {
    /// The application; optional if the configuration has only one or the image definitions name it
    pub(crate) app: Option<AppName>,
    /// The image to deploy
    #[arg(long, value_name = "REF", conflicts_with = "image_definitions")]
    pub(crate) image: Option<ImageRef>,
    /// Take the image from this file: imagedefinitions.json (an array or a single object) or imageDetail.json
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) image_definitions: Option<PathBuf>,
    /// The entry of the image definitions to use, if there are several [default: APP]
    #[arg(long, value_name = "NAME", requires = "image_definitions")]
    pub(crate) name: Option<String>,
    /// The nginx file that names <app>-3000 or <app>-4000, to be rewritten; replaces the configuration file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) nginx_conf: Option<PathBuf>,
    /// When to pull the image [default: always]
    #[arg(long, value_enum, value_name = "WHEN")]
    pub(crate) pull: Option<PullArg>,
}

/// What to deploy.
#[derive(Debug, Clone, Args)]
pub(crate) struct InputArgs {
    #[command(flatten)]
    pub(crate) what: ImageArgs,
    /// The id of this deployment; the same id twice is one deployment [default: CodeDeploy's, or a new one]
    #[arg(long, value_name = "ID")]
    pub(crate) deployment_id: Option<DeploymentId>,
    /// Deploy even if this version serves already
    #[arg(long)]
    pub(crate) force: bool,
}

/// How long a run may wait and take.
#[derive(Debug, Clone, Args)]
pub(crate) struct TimeArgs {
    /// Wait this long for another run of this application to end, such as 90s or 10m
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, conflicts_with = "no_wait")]
    pub(crate) wait: Option<Duration>,
    /// Refuse at once when another run of this application is in progress; this is the default
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Roll back if the run is not committed after this long [default: in a CodeDeploy hook, its own limit less
    /// the time for a drain and a stop]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) deadline: Option<Duration>,
}

/// `deploy`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DeployArgs {
    #[command(flatten)]
    pub(crate) input: InputArgs,
    #[command(flatten)]
    pub(crate) time: TimeArgs,
}

/// `rollback`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RollbackArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Go back to this release: a deployment's id, a digest, or a digest's first twelve digits
    #[arg(long, value_name = "DEPLOYMENT|DIGEST")]
    pub(crate) to: Option<Goal>,
    /// List the releases it could go back to, newest first; touches nothing
    #[arg(long, conflicts_with_all = ["to", "deployment_id", "wait", "no_wait", "deadline"])]
    pub(crate) list: bool,
}

/// `recover`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) app: AppArgs,
    /// The id of this run [default: a new one]
    #[arg(long, value_name = "ID")]
    pub(crate) deployment_id: Option<DeploymentId>,
    #[command(flatten)]
    pub(crate) time: TimeArgs,
}

/// `history`.
#[derive(Debug, Clone, Args)]
pub(crate) struct HistoryArgs {
    #[command(flatten)]
    pub(crate) app: AppArgs,
    /// Show the journal itself, record by record
    #[arg(long)]
    pub(crate) journal: bool,
    /// Show at most this many, the newest; 0 shows all
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) limit: usize,
}

/// `cancel`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CancelArgs {
    #[command(flatten)]
    pub(crate) app: AppArgs,
    /// Wait this long for it to end, such as 90s or 10m
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "10m")]
    pub(crate) wait: Duration,
}

/// `nginx install`.
#[derive(Debug, Clone, Args)]
pub(crate) struct InstallArgs {
    #[command(flatten)]
    pub(crate) nginx: NginxArgs,
    /// Take over this `proxy_pass` too, which leads to where the application runs now; may be repeated
    #[arg(long = "line", value_name = "FILE:LINE")]
    pub(crate) lines: Vec<ChosenLine>,
}

/// `nginx remove`, and most of `nginx install`.
#[derive(Debug, Clone, Args)]
pub(crate) struct NginxArgs {
    #[command(flatten)]
    pub(crate) app: AppArgs,
    /// Show what would be changed, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `retire`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RetireArgs {
    #[command(flatten)]
    pub(crate) app: AppArgs,
    /// Stop it even if `retain.warm` is not over yet
    #[arg(long)]
    pub(crate) now: bool,
    /// Wait this long for another run of this application to end, such as 90s or 10m
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) wait: Option<Duration>,
}

/// `nginx …`.
#[derive(Debug, Subcommand)]
pub(crate) enum NginxCommand {
    /// Write the include files and take over each line that leads to the application; show the diff, test, reload. What
    /// clients and the application see stays the same, or nothing is changed. Everything is restored on failure
    Install(InstallArgs),
    /// Undo the install: restore your lines, naming what serves now, and remove the files; restored on failure
    Remove(NginxArgs),
    /// Say whether this nginx can switch, and if not, why and what to change; touches nothing
    Check(AppArgs),
}

/// `config …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Read the configuration and report all its errors
    Check,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    /// The help of one command, at a fixed width.
    fn help(path: &[&str], long: bool) -> String {
        let mut command = Cli::command().term_width(100);
        command.build();
        let mut at = &mut command;
        for name in path {
            at = at.find_subcommand_mut(name).unwrap();
        }
        if long { at.render_long_help().to_string() } else { at.render_help().to_string() }
    }

    #[test]
    fn clap_finds_nothing_wrong() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_is_as_reviewed() {
        insta::assert_snapshot!("help", help(&[], false));
        insta::assert_snapshot!("help_long", help(&[], true));
        insta::assert_snapshot!("help_deploy", help(&["deploy"], false));
        insta::assert_snapshot!("help_rollback", help(&["rollback"], false));
        insta::assert_snapshot!("help_nginx", help(&["nginx"], false));
        insta::assert_snapshot!("help_init", help(&["init"], false));
    }

    #[test]
    fn what_excludes_each_other_is_refused() {
        for line in [
            "bluegreen deploy --image a:1 --image-definitions f.json",
            "bluegreen deploy --wait 5s --no-wait",
            "bluegreen deploy --wait 5",
            "bluegreen deploy --name x",
            "bluegreen deploy --image UPPER/x",
            "bluegreen deploy --pull sometimes",
            "bluegreen deploy a b",
            "bluegreen deploy 'a;b'",
            "bluegreen -q -v status",
            "bluegreen",
        ] {
            assert!(Cli::try_parse_from(shlex::split(line).unwrap()).is_err(), "{line} was taken");
        }
    }
}
