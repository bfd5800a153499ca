//! What to do next. A command is a list of arguments: it can be typed as it stands, and a machine can run it. What
//! cannot be typed is said in words, and never looks like a command.

use serde::Serialize;

use super::plain;

/// What to do next: something that only a person can do, a command, or first the one and then the other; or something
/// that may be done and need not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Next {
    todo: Option<String>,
    /// What it is good for, where nothing has to be done.
    offer: Option<String>,
    #[serde(rename = "next")]
    command: Option<Vec<String>>,
}

impl<T: Into<String>> From<T> for Next {
    fn from(text: T) -> Self {
        Self::todo(text)
    }
}

impl Next {
    /// A command that can be typed as it stands.
    pub(crate) fn run(command: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { todo: None, offer: None, command: Some(command.into_iter().map(Into::into).collect()) }
    }

    /// What a person has to do, in words.
    pub(crate) fn todo(text: impl Into<String>) -> Self {
        Self { todo: Some(text.into()), offer: None, command: None }
    }

    /// The same with something to be said first.
    pub(crate) fn saying(mut self, text: impl Into<String>) -> Self {
        self.todo = Some(text.into());
        self
    }

    /// Something that need not be done.
    pub(crate) fn offer(text: impl Into<String>) -> Self {
        Self { todo: None, offer: Some(text.into()), command: None }
    }

    /// The same, where it need not be done: what it would do.
    pub(crate) fn offering(mut self, text: impl Into<String>) -> Self {
        self.offer = Some(text.into());
        self
    }

    /// What it would do, where nothing has to be done.
    pub(crate) fn offered(&self) -> Option<&str> {
        self.offer.as_deref()
    }

    /// In words, without a command.
    pub(crate) fn words(&self) -> Option<&str> {
        self.todo.as_deref()
    }

    /// The command, argument by argument.
    pub(crate) fn command(&self) -> Option<&[String]> {
        self.command.as_deref()
    }

    /// For people: what to do, and what to type. A command is never cut: half of one does something else.
    pub(crate) fn lines(&self) -> Vec<String> {
        let todo = self.todo.iter().map(|text| plain(&format!("to do: {text}")));
        let offer = self.offer.iter().map(|text| plain(&format!("optional: {text}")));
        let command = self.command.iter().map(|command| format!("next: {}", typed(command)));
        todo.chain(offer).chain(command).collect()
    }
}

/// Arguments as a shell takes them.
pub(crate) fn typed(command: &[String]) -> String {
    shlex::try_join(command.iter().map(String::as_str)).unwrap_or_else(|_| command.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_what_a_shell_takes_apart_again() {
        let long = format!("/srv/{}", "x".repeat(500));
        let arguments =
            ["bluegreen", "status", "web", "--config", "/srv/a b/it's.toml", "--state-dir", &long];
        let lines = Next::run(arguments).saying("look").lines();
        assert_eq!(lines[0], "to do: look");
        let line = lines[1].strip_prefix("next: ").unwrap();
        assert_eq!(shlex::split(line).unwrap(), arguments);
    }
}
