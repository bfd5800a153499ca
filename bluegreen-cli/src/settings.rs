//! What a command line, a configuration file and image definitions add up to: one application, ready to be
//! handed to the core. Nothing is touched and nobody is asked here.

use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bluegreen_core::adapter::file::FileJournal;
use bluegreen_core::adapter::nginx::NginxInstance;
use bluegreen_core::model::{
    AppName, AppSpec, Check, Color, Endpoint, ImageRef, InstanceName, LogPattern, NetworkAttachment,
    ParseError, Publish, Slot, Slots,
};
use bluegreen_core::port::JournalError;

use clap::ValueEnum as _;

use crate::args::{AppArgs, Global, ImageArgs, PullArg};
use crate::config::{self, App, Config, ConfigError, DEFAULT_GREEN, DEFAULT_PORT, Mode, NginxSettings};
use crate::env;
use crate::inputs::{self, Entry, InputError};
use crate::nearest;
use crate::output::{self, Next};
pub(crate) use memory::{FirstRun, Origin};

mod memory;

/// One application and where its world is.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) app: App,
    /// The Engine's address, when it is configured.
    pub(crate) docker_host: Option<String>,
    /// Where the journal is, when it is configured.
    pub(crate) state_dir: Option<PathBuf>,
    /// Things that a person should know before it starts.
    pub(crate) warnings: Vec<Warning>,
    /// What was done with the inputs that a person would not expect.
    pub(crate) notes: Vec<String>,
    /// Where all this is from.
    pub(crate) origin: Origin,
    /// What to type after a verb to mean this application again.
    pub(crate) again: Again,
    /// The image that was asked for.
    pub(crate) image: Option<ImageRef>,
    /// What to tell `deploy` besides, to mean the same again. Empty where no image was asked for.
    pub(crate) input: Vec<String>,
}

/// Arguments that mean one application. Shown as a shell takes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Again(pub(crate) Vec<String>);

impl std::fmt::Display for Again {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&output::typed(&self.0))
    }
}

impl Target {
    /// One of our commands for this application, to be typed as it stands.
    pub(crate) fn command(&self, verb: &str) -> Vec<String> {
        let words = std::iter::once("bluegreen").chain(verb.split(' ')).map(str::to_owned);
        words.chain(self.again.0.iter().cloned()).collect()
    }

    /// What to do next is this command of ours.
    pub(crate) fn run(&self, verb: &str) -> Next {
        Next::run(self.command(verb))
    }

    /// The deploy that was asked for, once more; none where it is not known which image is meant.
    pub(crate) fn deploy(&self) -> Option<Vec<String>> {
        let known = !self.input.is_empty() || self.app.image.is_some();
        known.then(|| self.command("deploy").into_iter().chain(self.input.iter().cloned()).collect())
    }
}

impl Target {
    /// Where the journal and the lock are.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.state_dir.clone().unwrap_or_else(|| PathBuf::from(env::STATE_DIR))
    }
}

/// Why it is not known what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Input(#[from] InputError),
    #[error("no configuration file found; looked for {} and {}", config::DEFAULT_PATHS[0], config::DEFAULT_PATHS[1])]
    NoConfig,
    #[error("the configuration has no application {wanted}; it has {}", names.join(", "))]
    UnknownApp { wanted: String, names: Vec<String>, nearest: Option<String> },
    #[error("the configuration has several applications ({}): name one of them", names.join(", "))]
    WhichApp { names: Vec<String> },
    #[error("there is no image to deploy for {app}")]
    NoImage { app: AppName },
    #[error("the image definitions name no application")]
    NoName,
    #[error("{text:?} in the image definitions names no application")]
    BadName {
        text: String,
        #[source]
        source: ParseError,
    },
    #[error("{} cannot be used", path.display())]
    ConfPath {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl SettingsError {
    /// What to do about it, in one line.
    pub(crate) fn hint(&self) -> Option<Next> {
        let text = match self {
            Self::Config(_) | Self::Input(_) | Self::ConfPath { .. } => return None,
            Self::NoConfig => "name a file with --config, or create one with bluegreen init".to_owned(),
            Self::UnknownApp { nearest, .. } => format!("did you mean {}?", nearest.as_deref()?),
            Self::WhichApp { names } => {
                format!("add the application's name to the command, for example {}", names.first()?)
            }
            Self::NoImage { .. } => {
                "give --image REF or --image-definitions FILE, or `image` in the configuration".to_owned()
            }
            Self::NoName | Self::BadName { .. } => "add the application's name to the command".to_owned(),
        };
        Some(Next::todo(text))
    }
}

/// The application that `status`, `rollback` and the like are about. Of the configuration only its own table is read, and
/// of that what these verbs use; where that is broken or there is none, what it was deployed with counts.
///
/// # Errors
///
/// When neither tells, or several applications could be meant.
pub(crate) fn target(global: &Global, args: &AppArgs) -> Result<Target, SettingsError> {
    if let (Some(conf), Some(app), None) = (&args.nginx_conf, &args.app, &global.config) {
        return as_the_script(global, app.clone(), conf, None);
    }
    let path = config::locate(global.config.as_deref());
    let app = args.app.clone().map_or_else(|| only_one(global, path.as_deref()), Ok)?;
    let Some(path) = path else {
        return remembered(global, &app, None).unwrap_or(Err(SettingsError::NoConfig));
    };
    let read = config::load_one(&path, &app).map_err(SettingsError::from).and_then(|config| {
        let mut app =
            config.apps.get(&app).cloned().ok_or_else(|| unknown_app(&app, config::names(&path)))?;
        if let Some(conf) = &args.nginx_conf {
            app.nginx.conf = Some(on_this_host(conf)?);
        }
        let conf = app.nginx.conf.clone().filter(|_| args.nginx_conf.is_some());
        let mut target = within(global, &path, config, app);
        target.again.0.extend(conf_again(conf.as_deref()));
        Ok(target)
    });
    let Err(error) = &read else { return read };
    remembered(global, &app, Some((&path, error))).unwrap_or(read)
}

/// All applications of this host, where none is named: those of the configuration, and those that something is on record
/// of.
///
/// # Errors
///
/// When the state directory cannot be read.
pub(crate) fn all(global: &Global) -> Result<Vec<AppName>, JournalError> {
    let path = config::locate(global.config.as_deref());
    let mut apps = path.as_deref().map(config::names).unwrap_or_default();
    apps.extend(FileJournal::new(state_dir_now(global)).on_record()?);
    apps.sort();
    apps.dedup();
    Ok(apps)
}

/// The application that is meant where none is named: the only one of the configuration; without one, that is on record.
fn only_one(global: &Global, path: Option<&Path>) -> Result<AppName, SettingsError> {
    let mut apps = path.map(config::names).unwrap_or_default();
    if apps.is_empty() {
        // That it cannot be read is said by whoever uses it.
        apps = FileJournal::new(state_dir_now(global)).on_record().unwrap_or_default();
    }
    match (&apps[..], path) {
        ([app], _) => Ok(app.clone()),
        ([], Some(path)) => Err(config::load(path).err().map_or(SettingsError::NoConfig, Into::into)),
        ([], None) => Err(SettingsError::NoConfig),
        _ => Err(SettingsError::WhichApp { names: apps.iter().map(ToString::to_string).collect() }),
    }
}

/// Where the state is, when a configuration may not be readable but for that.
fn state_dir_now(global: &Global) -> PathBuf {
    let configured = || config::locate(global.config.as_deref()).and_then(|path| config::state_dir(&path));
    state_dir(global).or_else(configured).unwrap_or_else(|| PathBuf::from(env::STATE_DIR))
}

/// What the application was deployed with, if that is on record, instead of a configuration that does not tell.
fn remembered(
    global: &Global,
    app: &AppName,
    instead_of: Option<(&Path, &SettingsError)>,
) -> Option<Result<Target, SettingsError>> {
    let origin = Origin::recall(&state_dir_now(global), app).ok().flatten()?;
    let mut target = match &origin {
        Origin::Script { nginx_conf } => as_the_script(global, app.clone(), nginx_conf, None),
        Origin::Config { path, text } => {
            config::one_of(text, path, app).map_err(SettingsError::from).and_then(|config| {
                let app = choose(&config, Some(app))?.clone();
                Ok(within(global, path, config, app))
            })
        }
    };
    // That an application has no table there is no fault of the file.
    let is_broken = instead_of.filter(|(_, error)| !matches!(error, SettingsError::UnknownApp { .. }));
    if let (Ok(target), Some((path, error))) = (&mut target, is_broken) {
        let path = path.display();
        target.notes.push(format!(
            "{path} cannot be used ({error}); using the settings that {app} was last deployed with"
        ));
    }
    Some(target)
}

/// The application and the image that `deploy` and `plan` are about.
///
/// # Errors
///
/// As [`target`], and when the image definitions are wrong.
pub(crate) fn deployment(global: &Global, input: &ImageArgs) -> Result<(Target, ImageRef), SettingsError> {
    let definitions = input.image_definitions.as_deref().map(inputs::read).transpose()?;
    let select = |app: Option<&AppName>| -> Result<Option<Entry>, InputError> {
        let app = app.map(AppName::as_str);
        definitions.as_ref().map(|all| all.select(input.name.as_deref(), app).cloned()).transpose()
    };
    // A file of nginx's own and no configuration that was asked for: the shell script's inputs. A bluegreen.toml
    // that happens to lie about must not change what they mean.
    if let (Some(conf), None) = (&input.nginx_conf, &global.config) {
        let entry = select(input.app.as_ref())?;
        let name = match (&input.app, entry.as_ref().and_then(|entry| entry.name.clone())) {
            (Some(app), _) => app.clone(),
            (None, Some(text)) => {
                AppName::new(text.as_str()).map_err(|source| SettingsError::BadName { text, source })?
            }
            (None, None) => return Err(SettingsError::NoName),
        };
        let image = input.image.clone().or(entry.map(|entry| entry.image));
        let image = image.ok_or_else(|| SettingsError::NoImage { app: name.clone() })?;
        let mut target = as_the_script(global, name, conf, input.pull)?;
        target.input = input_again(input, &image);
        target.image = Some(image.clone());
        if let Some(path) = config::locate(None) {
            let path = path.display();
            target.notes.push(format!(
                "{path} is ignored because --nginx-conf was given; to use it as well, add --config {path}"
            ));
        }
        return Ok((target, image));
    }
    let path = config::locate(global.config.as_deref()).ok_or(SettingsError::NoConfig)?;
    let config = config::load(&path)?;
    let named = match &input.app {
        Some(app) => Some(app.clone()),
        // With several applications it is the image definitions that say which one.
        None if config.apps.len() > 1 => {
            select(None)?.and_then(|entry| entry.name).and_then(|name| AppName::new(name).ok())
        }
        None => None,
    };
    let mut app = choose(&config, named.as_ref())?.clone();
    let entry = select(Some(&app.spec.name))?;
    let image = input.image.clone().or(entry.map(|entry| entry.image)).or_else(|| app.image.clone());
    let image = image.ok_or_else(|| SettingsError::NoImage { app: app.spec.name.clone() })?;
    app.pull = input.pull.or(app.pull);
    if let Some(conf) = &input.nginx_conf {
        app.nginx.conf = Some(on_this_host(conf)?);
    }
    let conf = app.nginx.conf.clone().filter(|_| input.nginx_conf.is_some());
    let mut target = within(global, &path, config, app);
    target.again.0.extend(conf_again(conf.as_deref()));
    target.input = input_again(input, &image);
    target.image = Some(image.clone());
    Ok((target, image))
}

/// What was said of the image, to be said again. A file that names it may be another one by then.
fn input_again(input: &ImageArgs, image: &ImageRef) -> Vec<String> {
    let mut again = vec!["--image".to_owned(), image.to_string()];
    if let Some(pull) = input.pull.and_then(|pull| pull.to_possible_value()) {
        again.extend(["--pull".to_owned(), pull.get_name().to_owned()]);
    }
    again
}

/// nginx's own file as it was given, to be given again.
fn conf_again(conf: Option<&Path>) -> Vec<String> {
    conf.map(|conf| vec!["--nginx-conf".to_owned(), conf.display().to_string()]).unwrap_or_default()
}

fn within(global: &Global, path: &Path, config: Config, app: App) -> Target {
    let mut warnings = Vec::new();
    let open = |slot: &Slot| slot.publish.is_some_and(|publish| publish.ip.is_unspecified());
    if Color::ALL.iter().any(|color| open(app.spec.slots.of(*color))) {
        warnings.push(OPEN_PORTS);
    }
    let mut again = vec![app.spec.name.to_string()];
    if let Some(path) = &global.config {
        again.extend(["--config".to_owned(), path.display().to_string()]);
    }
    again.extend(state_dir_again(global));
    let state_dir = state_dir(global).or(config.state_dir);
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    Target {
        app,
        docker_host: config.docker_host,
        state_dir,
        warnings,
        notes: Vec::new(),
        origin: Origin::Config { path, text: config.text },
        again: Again(again),
        image: None,
        input: Vec::new(),
    }
}

/// What the command line says, as a whole path: its parent is looked for when it is made.
fn state_dir(global: &Global) -> Option<PathBuf> {
    let given = global.state_dir.as_ref()?;
    Some(std::path::absolute(given).unwrap_or_else(|_| given.clone()))
}

/// What the command line says, to be said again: another directory has another journal and another lock.
fn state_dir_again(global: &Global) -> Vec<String> {
    let again = |dir: &PathBuf| vec!["--state-dir".to_owned(), dir.display().to_string()];
    global.state_dir.as_ref().map(again).unwrap_or_default()
}

/// Something that works and could be safer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Warning {
    pub(crate) found: &'static str,
    pub(crate) safer: &'static str,
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; safer: {}", self.found, self.safer)
    }
}

pub(crate) const OPEN_PORTS: Warning = Warning {
    found: "the containers' ports are open to every network, bypassing the host's firewall",
    safer: "`publish = \"127.0.0.1\"` in bluegreen.toml",
};

fn choose<'c>(config: &'c Config, wanted: Option<&AppName>) -> Result<&'c App, SettingsError> {
    let names = || config.apps.keys().map(ToString::to_string).collect();
    let Some(wanted) = wanted else {
        let mut apps = config.apps.values();
        return match (apps.next(), apps.next()) {
            (Some(app), None) => Ok(app),
            _ => Err(SettingsError::WhichApp { names: names() }),
        };
    };
    config.apps.get(wanted).ok_or_else(|| unknown_app(wanted, config.apps.keys().cloned()))
}

/// An application that the configuration does not have, and those that it has.
fn unknown_app(wanted: &AppName, names: impl IntoIterator<Item = AppName>) -> SettingsError {
    let names: Vec<String> = names.into_iter().map(|name| name.to_string()).collect();
    let nearest = nearest::name(wanted.as_str(), names.iter().map(String::as_str)).map(str::to_owned);
    SettingsError::UnknownApp { wanted: wanted.to_string(), names, nearest }
}

/// The file as a whole path: the working directory is not the same when nginx's container is looked into.
fn on_this_host(conf: &Path) -> Result<PathBuf, SettingsError> {
    conf.canonicalize().map_err(|source| SettingsError::ConfPath { path: conf.to_owned(), source })
}

/// What the shell script does, under its own names, so that either can follow the other.
fn as_the_script(
    global: &Global,
    name: AppName,
    conf: &Path,
    pull: Option<PullArg>,
) -> Result<Target, SettingsError> {
    let conf = on_this_host(conf)?;
    let place = |color: Color, host_port: u16| -> Result<Slot, ParseError> {
        let container = InstanceName::new(format!("{name}-{host_port}"))?;
        let endpoint = Endpoint::new(container.as_str(), DEFAULT_PORT)?;
        let mut slot = Slot::new(color, container, DEFAULT_PORT, endpoint);
        slot.publish = Some(Publish::on(IpAddr::V6(Ipv6Addr::UNSPECIFIED), host_port));
        Ok(slot)
    };
    let bad_name = |source| SettingsError::BadName { text: name.to_string(), source };
    let slots = Slots {
        blue: place(Color::Blue, DEFAULT_PORT).map_err(bad_name)?,
        green: place(Color::Green, DEFAULT_GREEN).map_err(bad_name)?,
    };
    let container = InstanceName::new("nginx").map_err(bad_name)?;
    let mut spec = AppSpec::new(name, slots);
    spec.options.networks = vec![NetworkAttachment::new("dev")];
    spec.gate.checks = vec![Check::Log(LogPattern::text("localhost:3000"))];
    spec.gate.deadline = Some(Duration::from_secs(30));
    spec.adopt = true;
    let nginx = NginxSettings {
        place: NginxInstance::Container { name: container },
        mode: Mode::Rewrite,
        conf: Some(conf),
        ..NginxSettings::default()
    };
    let conf_path = nginx.conf.clone().unwrap_or_default();
    let mut again = vec![spec.name.to_string()];
    again.extend(nginx.conf.iter().flat_map(|conf| ["--nginx-conf".to_owned(), conf.display().to_string()]));
    again.extend(state_dir_again(global));
    let app = App { spec, image: None, pull, nginx };
    Ok(Target {
        app,
        docker_host: None,
        state_dir: state_dir(global),
        warnings: vec![OPEN_PORTS],
        notes: Vec::new(),
        origin: Origin::Script { nginx_conf: conf_path },
        again: Again(again),
        image: None,
        input: Vec::new(),
    })
}

#[cfg(test)]
mod tests;
