use std::error::Error as _;

use super::*;

/// A config file and a directory of helpers.
struct Home(tempfile::TempDir);

impl Home {
    fn new(config: &str) -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        home.write("config.json", config);
        home
    }

    /// Has a shell write it: a file that this process held open for writing while another test forks could not
    /// be executed ("text file busy").
    fn write(&self, name: &str, text: &str) {
        let script = "printf %s \"$2\" > \"$1\" && chmod 755 \"$1\"";
        let written = std::process::Command::new("sh")
            .args(["-c", script, "sh"])
            .args([self.0.path().join(name).as_os_str(), text.as_ref()])
            .status();
        assert!(written.unwrap().success());
    }

    fn helper(self, name: &str, script: &str) -> Self {
        self.write(&format!("docker-credential-{name}"), &format!("#!/bin/sh\n{script}\n"));
        self
    }

    fn config(&self) -> DockerConfig {
        DockerConfig::at(self.0.path().join("config.json")).helpers_in(self.0.path())
    }

    async fn ask(&self, registry: &str) -> Result<Option<(String, String, bool)>, RegistryError> {
        let found = self.config().credentials(registry).await?;
        Ok(found.map(|found| (found.username, found.secret.expose().to_owned(), found.identity_token)))
    }
}

fn password(username: &str, password: &str) -> (String, String, bool) {
    (username.to_owned(), password.to_owned(), false)
}

fn words(error: &RegistryError) -> String {
    format!("{error:?} {error} {}", error.source().map(ToString::to_string).unwrap_or_default())
}

// `me:p:w`, `hub:secret`
const STORED: &str = r#"{"auths": {
    "r.example:5000": {"auth": "bWU6cDp3"},
    "https://old.example/v2/": {"auth": "bWU6cDp3"},
    "https://index.docker.io/v1/": {"auth": "aHViOnNlY3JldA=="},
    "token.example": {"auth": "bWU6", "identitytoken": "tok"},
    "plain.example": {"username": "u", "password": "p"},
    "empty.example": {},
    "broken.example": {"auth": "!!hunter2"}
}, "HttpHeaders": {"User-Agent": "Docker"}}"#;

#[tokio::test]
async fn what_docker_login_left() {
    let home = Home::new(STORED);
    assert_eq!(home.ask("r.example:5000").await.unwrap(), Some(password("me", "p:w")));
    assert_eq!(home.ask("old.example").await.unwrap(), Some(password("me", "p:w")));
    assert_eq!(home.ask("docker.io").await.unwrap(), Some(password("hub", "secret")));
    assert_eq!(home.ask("plain.example").await.unwrap(), Some(password("u", "p")));
    assert_eq!(home.ask("token.example").await.unwrap(), Some((String::new(), "tok".to_owned(), true)));
    assert_eq!(home.ask("empty.example").await.unwrap(), None);
    assert_eq!(home.ask("r.example").await.unwrap(), None);
    let error = home.ask("broken.example").await.unwrap_err();
    assert!(!words(&error).contains("hunter2"), "{}", words(&error));
    assert!(!format!("{:?}", home.config()).contains("bWU6"));
}

#[tokio::test]
async fn no_file_is_no_credentials_and_a_bad_one_does_not_show_what_it_has() {
    let missing = DockerConfig::at("/nonexistent/config.json");
    assert_eq!(missing.credentials("r.example").await.unwrap(), None);
    for bad in [r#"{"auths": {"r.example": "hunter2"}}"#, r#"{"auths": hunter2"#] {
        let error = Home::new(bad).ask("r.example").await.unwrap_err();
        assert!(!words(&error).contains("hunter2"), "{}", words(&error));
    }
}

#[tokio::test]
async fn a_file_that_says_nothing_is_as_none() {
    for nothing in [
        "",
        " \n",
        "null",
        "{}",
        r#"{"auths":null,"credHelpers":null}"#,
        r#"{"auths":{"r.example":null},"credsStore":null,"currentContext":null}"#,
        r#"{"auths":{},"credsStore":"","credHelpers":{"r.example":null}}"#,
        "{} and more",
    ] {
        let home = Home::new(nothing);
        assert_eq!(home.ask("r.example").await.unwrap(), None, "{nothing}");
        assert_eq!(home.config().current_context(), None, "{nothing}");
    }
    let named = Home::new(r#"{"currentContext":"far"}"#);
    assert_eq!(named.config().current_context().as_deref(), Some("far"));
}

#[tokio::test]
async fn helpers_are_asked_with_the_host_on_their_input() {
    let answer = r#"read host; printf '{"ServerURL":"%s","Username":"%s","Secret":"s"}' "$host" "$host-$1""#;
    let config =
        r#"{"credsStore": "all", "credHelpers": {"ecr.example": "ecr"}, "auths": {"all.example": {}}}"#;
    let home = Home::new(config).helper("ecr", answer).helper("all", "echo credentials not found; exit 1");
    assert_eq!(home.ask("ecr.example").await.unwrap(), Some(password("ecr.example-get", "s")));
    assert_eq!(home.ask("all.example").await.unwrap(), None);

    let home = Home::new(r#"{"credsStore": "all"}"#).helper("all", answer);
    assert_eq!(home.ask("docker.io").await.unwrap(), Some(password("https://index.docker.io/v1/-get", "s")));

    let token = r#"echo '{"Username":"<token>","Secret":"t"}'"#;
    let home = Home::new(r#"{"credsStore": "all"}"#).helper("all", token);
    assert_eq!(home.ask("r.example").await.unwrap(), Some((String::new(), "t".to_owned(), true)));
}

#[tokio::test]
async fn a_helpers_failure_names_it_and_shows_no_secret() {
    for (script, expected) in [
        ("echo no AWS credentials; exit 1", "no AWS credentials"),
        (r#"echo '{"Username":"u","Secret":"hunter2"}'; exit 3"#, "exit status: 3"),
        ("echo hunter2", "not understood"),
        (r#"echo '{"Username":"u","Secret":{"a":"hunter2"}}'"#, "not understood"),
    ] {
        let error =
            Home::new(r#"{"credsStore": "x"}"#).helper("x", script).ask("r.example").await.unwrap_err();
        let words = words(&error);
        assert!(words.contains("docker-credential-x") && words.contains(expected), "{words}");
        assert!(!words.contains("hunter2"), "{words}");
    }
    let error = Home::new(r#"{"credsStore": "gone"}"#).ask("r.example").await.unwrap_err();
    assert!(words(&error).contains("docker-credential-gone cannot be started"), "{}", words(&error));
    let error = Home::new(r#"{"credsStore": "../x"}"#).ask("r.example").await.unwrap_err();
    assert!(words(&error).contains("is not the name"), "{}", words(&error));
}

#[tokio::test(start_paused = true)]
async fn a_helper_that_does_not_end_is_given_up() {
    let home = Home::new(r#"{"credsStore": "slow"}"#).helper("slow", "exec sleep 600");
    let error = home.ask("r.example").await.unwrap_err();
    assert!(words(&error).contains("no answer within 20 s"), "{}", words(&error));
}
