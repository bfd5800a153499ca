//! `init codedeploy`: what CodeBuild and CodeDeploy need to have an application deployed. The texts are pure.

use std::path::{Path, PathBuf};

use bluegreen_core::model::{AppName, ImageRef};
use serde_json::{Value, json};

use super::{create, exists};
use crate::args::InitCodedeployArgs;
use crate::commands::Context;
use crate::exit::Exit;
use crate::output::{Explained, Next, Verdict, typed};
use crate::{config, explain};

const COMMAND: &str = "init codedeploy";
/// How long the hook may take: a drain, a stop and a slow pull fit into it, and a hook that hangs is ended.
const TIMEOUT: u32 = 900;

/// What all of the files are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Project {
    pub(super) app: AppName,
    /// The account that the repository belongs to.
    pub(super) account: String,
    pub(super) region: String,
    pub(super) repository: String,
    /// The bucket that revisions are in; CodePipeline's own where none is named.
    pub(super) bucket: Option<String>,
}

/// A file to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) path: &'static str,
    pub(super) text: String,
    pub(super) mode: u32,
}

impl Project {
    /// Of an image in ECR.
    pub(super) fn of(app: AppName, image: &ImageRef, bucket: Option<String>) -> Option<Self> {
        let text = image.to_string();
        let (registry, rest) = text.split_once('/')?;
        let repository = rest.split(['@', ':']).next()?.to_owned();
        let mut parts = registry.split('.');
        let account = parts.next()?.to_owned();
        let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        if !is_account || (parts.next()?, parts.next()?) != ("dkr", "ecr") {
            return None;
        }
        Some(Self { app, account, region: parts.next()?.to_owned(), repository, bucket })
    }

    fn partition(&self) -> &'static str {
        match self.region.get(..3) {
            Some("cn-") => "aws-cn",
            _ if self.region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        }
    }

    fn registry(&self) -> String {
        let end = if self.partition() == "aws-cn" { ".cn" } else { "" };
        format!("{}.dkr.ecr.{}.amazonaws.com{end}", self.account, self.region)
    }

    fn arn(&self, service: &str, what: &str) -> String {
        format!("arn:{}:{service}:{}:{}:{what}", self.partition(), self.region, self.account)
    }

    fn bucket(&self) -> String {
        let name = self.bucket.clone().unwrap_or_else(|| format!("codepipeline-{}-*", self.region));
        format!("arn:{}:s3:::{name}/*", self.partition())
    }

    pub(super) fn files(&self) -> Vec<File> {
        let file = |path, text, mode| File { path, text, mode };
        let policy = |value: Value| format!("{value:#}\n");
        vec![
            file("appspec.yml", self.appspec(), 0o666),
            file("buildspec.yml", self.buildspec(), 0o666),
            file("scripts/deploy.sh", self.hook(), 0o777),
            file("iam/instance-policy.json", policy(self.instance_policy()), 0o666),
            file("iam/codebuild-policy.json", policy(self.codebuild_policy()), 0o666),
        ]
    }

    fn appspec(&self) -> String {
        format!(
            "# What CodeDeploy's agent does with a revision on the instance.\n\
             version: 0.0\n\
             os: linux\n\
             files:\n  \
               - source: /\n    \
                 destination: /opt/{app}\n\
             # The revision before this one has put the same files there.\n\
             file_exists_behavior: OVERWRITE\n\
             hooks:\n  \
               # No ApplicationStop: that hook runs the previous revision's script, and one that fails there stops every\n  \
               # later deployment.\n  \
               ApplicationStart:\n    \
                 - location: scripts/deploy.sh\n      \
                   # bluegreen reads this: what is not committed in time is taken back before the agent's signal comes.\n      \
                   timeout: {TIMEOUT}\n      \
                   runas: root\n",
            app = self.app,
        )
    }

    fn buildspec(&self) -> String {
        format!(
            "# What CodeBuild does: build the image, push it, and say in the revision which one it is.\n\
             # The project needs privileged mode, as it runs Docker.\n\
             version: 0.2\n\
             env:\n  \
               variables:\n    \
                 REGISTRY: {registry}\n    \
                 REPOSITORY: {registry}/{repository}\n\
             phases:\n  \
               pre_build:\n    \
                 commands:\n      \
                   - aws ecr get-login-password --region {region} | docker login --username AWS --password-stdin \"$REGISTRY\"\n      \
                   # A tag that is never used twice: what was tested is what runs.\n      \
                   - TAG=$(printf '%.12s' \"$CODEBUILD_RESOLVED_SOURCE_VERSION\")-$CODEBUILD_BUILD_NUMBER\n  \
               build:\n    \
                 commands:\n      \
                   - docker build --tag \"$REPOSITORY:$TAG\" .\n  \
               post_build:\n    \
                 commands:\n      \
                   # This phase runs also when the build failed.\n      \
                   - test \"$CODEBUILD_BUILD_SUCCEEDING\" = 1\n      \
                   - docker push \"$REPOSITORY:$TAG\"\n      \
                   - >-\n        \
                     printf '[{{\"name\":\"{app}\",\"imageUri\":\"%s\"}}]' \"$REPOSITORY:$TAG\" > imagedefinitions.json\n\
             artifacts:\n  \
               files:\n    \
                 - appspec.yml\n    \
                 - bluegreen.toml\n    \
                 - imagedefinitions.json\n    \
                 - scripts/deploy.sh\n",
            registry = self.registry(),
            repository = self.repository,
            region = self.region,
            app = self.app,
        )
    }

    fn hook(&self) -> String {
        format!(
            "#!/bin/sh\n\
             # CodeDeploy's ApplicationStart. The id of the deployment and the time that is left are known to bluegreen:\n\
             # a hook that runs twice is one deployment. The last lines of its output say what serves and what to do.\n\
             set -eu\n\
             exec bluegreen deploy {app} --config /opt/{app}/bluegreen.toml --image-definitions /opt/{app}/imagedefinitions.json\n",
            app = self.app,
        )
    }

    /// What the instance may do: pull this one image, and fetch revisions.
    fn instance_policy(&self) -> Value {
        let agent = format!("arn:{}:s3:::aws-codedeploy-{}/*", self.partition(), self.region);
        policy(&[
            statement("EcrToken", &["ecr:GetAuthorizationToken"], &["*".to_owned()]),
            statement(
                "PullTheImage",
                &["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
                &[self.arn("ecr", &format!("repository/{}", self.repository))],
            ),
            statement(
                "FetchRevisionsAndTheAgent",
                &["s3:GetObject", "s3:GetObjectVersion"],
                &[self.bucket(), agent],
            ),
        ])
    }

    /// What the build may do: push this one image, log, and hand on revisions.
    fn codebuild_policy(&self) -> Value {
        let logs = format!("log-group:/aws/codebuild/{}", self.app);
        policy(&[
            statement(
                "Log",
                &["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"],
                &[self.arn("logs", &logs), self.arn("logs", &format!("{logs}:*"))],
            ),
            statement("EcrToken", &["ecr:GetAuthorizationToken"], &["*".to_owned()]),
            statement(
                "PushTheImage",
                &[
                    "ecr:BatchCheckLayerAvailability",
                    "ecr:CompleteLayerUpload",
                    "ecr:InitiateLayerUpload",
                    "ecr:PutImage",
                    "ecr:UploadLayerPart",
                ],
                &[self.arn("ecr", &format!("repository/{}", self.repository))],
            ),
            statement(
                "HandOnRevisions",
                &["s3:GetObject", "s3:GetObjectVersion", "s3:PutObject"],
                &[self.bucket()],
            ),
        ])
    }
}

fn policy(statements: &[Value]) -> Value {
    json!({ "Version": "2012-10-17", "Statement": statements })
}

fn statement(sid: &str, actions: &[&str], resources: &[String]) -> Value {
    json!({ "Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources })
}

/// The verb.
pub(super) fn init(cx: &Context, args: &InitCodedeployArgs) -> Verdict {
    let project = match project(cx, args) {
        Ok(project) => project,
        Err(verdict) => return *verdict,
    };
    let files = project.files();
    let dir = args.dir.clone().unwrap_or_else(|| PathBuf::from("."));
    if args.stdout {
        let all: String = files.iter().map(|file| format!("# ---- {}\n{}\n", file.path, file.text)).collect();
        let texts: serde_json::Map<String, Value> =
            files.iter().map(|file| (file.path.to_owned(), json!(file.text))).collect();
        return Verdict::success(COMMAND, all, json!({ "written": [], "files": texts }));
    }
    let there: Vec<PathBuf> =
        files.iter().map(|file| dir.join(file.path)).filter(|path| path.symlink_metadata().is_ok()).collect();
    if !there.is_empty() {
        return exists(
            COMMAND,
            &there,
            Next::run(["bluegreen", "init", "codedeploy", "--dir", "codedeploy"]),
        );
    }
    let mut written = Vec::new();
    for file in &files {
        let path = dir.join(file.path);
        let made = path
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| create(&path, &file.text, file.mode));
        if let Err(error) = made {
            // All or none: what was made a moment ago is nobody's yet.
            for path in &written {
                drop(std::fs::remove_file(path));
            }
            return explain::other(
                COMMAND,
                Exit::Refused,
                format!("{} cannot be written", path.display()),
                &error,
            );
        }
        written.push(path);
    }
    to_verdict(&project, &written)
}

fn to_verdict(project: &Project, written: &[PathBuf]) -> Verdict {
    let mut said: String = written.iter().map(|path| format!("{} is written\n", path.display())).collect();
    let add = |text: &str, file: &str| {
        let path = written.iter().find(|path| path.ends_with(file)).map_or(Path::new(file), PathBuf::as_path);
        let document = format!("file://{}", path.display());
        let name =
            Path::new(file).file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let policy = format!("{}-{}", project.app, name.trim_end_matches("-policy"));
        let words = ["aws", "iam", "create-policy", "--policy-name", &policy, "--policy-document", &document];
        format!("  {}  # {text}\n", typed(&words.map(str::to_owned)))
    };
    said.push_str("then: commit appspec.yml, buildspec.yml, scripts/deploy.sh and bluegreen.toml, and\n");
    said.push_str(&add("for the role of the instance", "iam/instance-policy.json"));
    said.push_str(&add("for the role of the CodeBuild project", "iam/codebuild-policy.json"));
    if project.bucket.is_none() {
        said.push_str("the policies name CodePipeline's own bucket; for another one: --bucket NAME\n");
    }
    let result = json!({ "written": written, "app": project.app, "repository": project.repository });
    let mut verdict = Verdict::success(COMMAND, said, result);
    verdict.next = Some(Next::run(["bluegreen", "config", "check"]));
    verdict
}

fn project(cx: &Context, args: &InitCodedeployArgs) -> Result<Project, Box<Verdict>> {
    let refuse = |message: String, next: &str| {
        let explained = Explained { message, ..Explained::default() };
        Box::new(Verdict::failure(COMMAND, Exit::Usage, explained, Some(Next::todo(next))))
    };
    let mut app = args.app.clone();
    let mut image = args.image.clone();
    // What is typed is enough; what is not is looked up.
    if app.is_none() || image.is_none() {
        let path = config::locate(cx.global.config.as_deref());
        let config = path.map(|path| config::load(&path)).transpose();
        let config = config
            .map_err(|error| Box::new(explain::settings(COMMAND, &error.into(), cx.out.is_styled())))?;
        if let Some(config) = config {
            let found = match &app {
                Some(app) => config.apps.get(app),
                None if config.apps.len() == 1 => config.apps.values().next(),
                None => None,
            };
            app = app.or_else(|| found.map(|found| found.spec.name.clone()));
            image = image.or_else(|| found.and_then(|found| found.image.clone()));
        }
    }
    let next = "bluegreen init codedeploy APP --image ACCOUNT.dkr.ecr.REGION.amazonaws.com/REPOSITORY";
    let Some(app) = app else {
        return Err(refuse("it is not known which application is meant".to_owned(), next));
    };
    let Some(image) = image else { return Err(refuse(format!("no image of {app} is known"), next)) };
    Project::of(app.clone(), &image, args.bucket.clone())
        .ok_or_else(|| refuse(format!("{image} is not in ECR, and the policies are for ECR"), next))
}
