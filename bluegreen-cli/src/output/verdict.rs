//! The end of a command: what happened, why, what serves now, and what to type next. In this order, because
//! only the last lines are sure to be kept.

use std::path::Path;

use serde_json::{Value, json};

use super::{Next, Out, json::VERSION, plain, report};
use crate::exit::Exit;
use crate::settings::Target;

/// Everything that there is to say at the end.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    /// The verb: `deploy`.
    pub(crate) command: &'static str,
    pub(crate) exit: Exit,
    /// The result for people, for stdout; several lines where it is a table or a plan.
    pub(crate) text: String,
    /// The result for machines.
    pub(crate) result: Value,
    /// What went wrong.
    pub(crate) error: Option<Explained>,
    /// What to do next.
    pub(crate) next: Option<Next>,
    /// What it is about.
    pub(crate) subject: Subject,
}

/// What a command was about, as far as that was known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Subject {
    pub(crate) app: Option<String>,
    pub(crate) deployment: Option<String>,
    pub(crate) image: Option<String>,
    /// What serves now, for machines.
    pub(crate) serving: Value,
    /// What clients saw, for machines.
    pub(crate) receipt: Value,
}

/// What went wrong.
#[derive(Debug, Clone, Default)]
pub(crate) struct Explained {
    /// The kind of it, for machines; empty where none is told apart.
    pub(crate) code: &'static str,
    /// In one line.
    pub(crate) message: String,
    /// The step, where there is one.
    pub(crate) step: Option<String>,
    /// What it was caused by, nearest first.
    pub(crate) causes: Vec<String>,
    /// Source lines with carets, or what a program printed: ready for people.
    pub(crate) details: String,
    /// The candidate's last log lines.
    pub(crate) log: Vec<String>,
    /// What clients saw, in lines.
    pub(crate) clients: Vec<String>,
    /// What serves now, in one line.
    pub(crate) serving: Option<String>,
}

/// One piece of the output, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// To stderr.
    Say(String),
    /// To stdout.
    Result(String),
}

impl Verdict {
    pub(crate) fn success(command: &'static str, text: impl Into<String>, result: Value) -> Self {
        let text = text.into();
        let subject = Subject::default();
        Self { command, exit: Exit::Success, text, result, error: None, next: None, subject }
    }

    pub(crate) fn failure(command: &'static str, exit: Exit, error: Explained, next: Option<Next>) -> Self {
        let (text, result, subject) = (String::new(), Value::Null, Subject::default());
        Self { command, exit, text, result, error: Some(error), next, subject }
    }

    /// What it is about, where it does not say so itself.
    pub(crate) fn about(mut self, target: &Target) -> Self {
        let subject = &mut self.subject;
        subject.app.get_or_insert_with(|| target.app.spec.name.to_string());
        subject.image = subject.image.take().or_else(|| target.image.as_ref().map(ToString::to_string));
        self
    }

    /// Prints it, writes the report, and says how the process ends.
    pub(crate) fn deliver(&self, out: &Out, report: Option<&Path>) -> Exit {
        if let Some(path) = report
            && let Err(error) = report::write(path, &format!("{:#}\n", self.json()))
        {
            // What was done is done: a report that cannot be written changes neither that nor the exit code.
            out.warn(&format!("the report {} could not be written: {error}", path.display()));
        }
        if out.is_json() {
            out.result(&self.json().to_string());
        } else {
            self.print(out);
        }
        self.exit
    }

    fn print(&self, out: &Out) {
        for line in self.lines(out.is_styled()) {
            match line {
                Line::Say(text) => out.say(&text),
                Line::Result(text) => out.result(&text),
            }
        }
    }

    /// All that a person gets to read, in its order.
    pub(crate) fn lines(&self, styled: bool) -> Vec<Line> {
        let mut lines = Vec::new();
        if let Some(error) = &self.error {
            lines.extend(error.lines(styled).into_iter().map(Line::Say));
            let serving = error.serving.iter().map(|serving| plain(&format!("serving now: {serving}")));
            lines.push(Line::Say(format!("exit code {}: {}", self.exit.code(), self.exit.meaning())));
            lines.extend(error.clients.iter().cloned().map(Line::Say));
            lines.extend(serving.map(Line::Say));
        }
        if !self.text.is_empty() {
            lines.push(Line::Result(self.text.trim_end().to_owned()));
        }
        lines.extend(self.next.iter().flat_map(Next::lines).map(Line::Say));
        lines
    }

    /// The report. It has the same fields whatever came of the command: docs/json.md, docs/report.schema.json.
    pub(crate) fn json(&self) -> Value {
        let cause = self.error.as_ref().map(|error| {
            json!({
                "code": Some(error.code).filter(|code| !code.is_empty()).unwrap_or("other"),
                "message": error.message,
                "step": error.step,
                "causes": error.causes,
                "details": Some(&error.details).filter(|details| !details.is_empty()),
                "candidate_log": error.log,
            })
        });
        let Subject { app, deployment, image, serving, receipt } = &self.subject;
        json!({
            "version": VERSION,
            "event": "report",
            "command": self.command,
            "app": app,
            "deployment": deployment,
            "image": image,
            "verdict": self.exit.name(),
            "exit_code": self.exit.code(),
            "meaning": self.exit.meaning(),
            "cause": cause,
            "serving": serving,
            "receipt": receipt,
            "result": self.result,
            "offer": self.next.as_ref().and_then(Next::offered),
            "todo": self.next.as_ref().and_then(Next::words),
            "next": self.next.as_ref().and_then(Next::command),
        })
    }
}

impl Explained {
    fn lines(&self, styled: bool) -> Vec<String> {
        let style = if styled { anstyle::AnsiColor::Red.on_default().bold() } else { anstyle::Style::new() };
        let mut lines: Vec<String> = self.details.trim_end().lines().map(str::to_owned).collect();
        if !self.log.is_empty() {
            lines.push("the candidate's last log lines:".to_owned());
            lines.extend(self.log.iter().map(|line| format!("  | {}", plain(line))));
        }
        lines.push(format!("{style}error:{style:#} {}", plain(&self.message)));
        lines.extend(self.causes.iter().map(|cause| format!("  caused by: {}", plain(cause))));
        lines
    }
}
