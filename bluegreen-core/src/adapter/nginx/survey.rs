//! The nginx that runs here, whoever set it up, and where its configuration sends requests: for who sets bluegreen up
//! on a host that is there already. Read from disk: nginx itself is not run, and nothing is touched.

use std::fs;
use std::path::{Path, PathBuf};

use super::dump::{self, Dump, absolute};
use super::syntax::Directive;
use super::{control, disk, process};

/// An nginx that runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeenNginx {
    /// Its first process.
    pub master: u32,
    /// Its program, when it runs on this host.
    pub binary: Option<PathBuf>,
    /// What its command line says: `-c` and `-p`.
    pub config: Option<PathBuf>,
    /// The same for its prefix.
    pub prefix: Option<PathBuf>,
    /// The file with its process id, where its configuration names one.
    pub pid_file: Option<PathBuf>,
    /// The directories of which it includes every `*.conf` inside `http { }`.
    pub dirs: Vec<PathBuf>,
    /// Where it sends requests.
    pub passes: Vec<SeenPass>,
    /// Whether its configuration could be read at all; as a plain user that of another's nginx cannot.
    pub readable: bool,
}

/// A directive that sends requests on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeenPass {
    /// Its file, as nginx sees it.
    pub path: PathBuf,
    /// Its line, counted from 1.
    pub line: usize,
    /// `proxy_pass`, `grpc_pass`, `fastcgi_pass` …
    pub directive: String,
    /// What it says.
    pub value: String,
    /// The hosts and ports behind it, whether named directly, by an upstream or by a variable that is set; none when
    /// that cannot be told.
    pub targets: Vec<(String, u16)>,
    /// The first name of its server.
    pub server_name: Option<String>,
    /// The words of its location, as `/api/`.
    pub location: String,
}

impl SeenNginx {
    /// Every nginx of this host that runs in no container.
    pub fn on_this_host() -> Vec<Self> {
        process::all_masters().into_iter().map(|master| of_master(master, true)).collect()
    }

    /// The nginx at or below a container's first process.
    pub fn below(pid: u32) -> Option<Self> {
        process::master_below(pid).map(|master| Self { binary: None, ..of_master(master, false) })
    }

    /// What these files say, the main one first: each a path and a text.
    pub fn in_files(files: Vec<(String, String)>) -> Self {
        let files = files.into_iter().map(|(path, text)| dump::File::of(path, text.into_bytes()));
        of_dump(&Dump::of(files.collect()))
    }
}

fn of_master(master: u32, on_host: bool) -> SeenNginx {
    let arguments = process::arguments(master);
    let given = |letter: char| {
        let mut found = arguments.iter().filter(|(known, _)| *known == letter);
        found.next_back().map(|(_, value)| PathBuf::from(value))
    };
    let prefix = given('p');
    let base = prefix.clone().unwrap_or_else(|| PathBuf::from("/etc/nginx"));
    let config = given('c').map(|config| base.join(config));
    let main = config.clone().unwrap_or_else(|| PathBuf::from(control::MAIN));
    let read = main.to_str().and_then(|main| disk::read(master, main, on_host)).map(|read| read.dump);
    let seen = read.as_ref().map(of_dump).unwrap_or_default();
    let pid_file = seen.pid_file.map(|file| base.join(file));
    let binary = fs::read_link(format!("/proc/{master}/exe")).ok();
    SeenNginx { master, binary, config, prefix, pid_file, ..seen }
}

fn of_dump(dump: &Dump) -> SeenNginx {
    let readable = dump.unread().next().is_none();
    let mut seen = SeenNginx { readable, ..SeenNginx::default() };
    dump.visit(&mut |directive, stack| {
        let parent = stack.last().map_or("", |block| block.name.as_str());
        match (directive.name.as_str(), parent, directive.arg(0)) {
            ("pid", "", Some(file)) => seen.pid_file = Some(PathBuf::from(file)),
            ("include", "http", Some(pattern)) => {
                let pattern = absolute(dump.main(), pattern);
                if let Some(dir) = pattern.strip_suffix("/*.conf") {
                    seen.dirs.push(PathBuf::from(dir));
                }
            }
            (name, _, Some(value)) if name.ends_with("_pass") => {
                let Some(server) = stack.iter().find(|block| block.name == "server") else { return };
                let Some((path, _)) = dump.file_of(directive) else { return };
                let locations: Vec<&Directive> =
                    stack.iter().filter(|block| block.name == "location").copied().collect();
                let words = |location: &&Directive| {
                    location.args.iter().map(|word| word.value.as_str()).collect::<Vec<_>>().join(" ")
                };
                seen.passes.push(SeenPass {
                    path: Path::new(path).to_owned(),
                    line: directive.line,
                    directive: name.to_owned(),
                    value: value.to_owned(),
                    targets: targets(dump, value),
                    server_name: server_name(server),
                    location: locations.last().map(words).unwrap_or_default(),
                });
            }
            _ => {}
        }
    });
    seen
}

fn server_name(server: &Directive) -> Option<String> {
    let named = server.children().iter().find(|child| child.name == "server_name")?;
    let plain = |name: &&str| !name.is_empty() && !name.starts_with(['_', '~', '*', '.']);
    named.args.iter().map(|word| word.value.as_str()).find(plain).map(str::to_owned)
}

/// What a `…_pass` leads to.
fn targets(dump: &Dump, value: &str) -> Vec<(String, u16)> {
    let (scheme, rest) = value.split_once("://").unwrap_or(("http", value));
    let default = if matches!(scheme, "https" | "grpcs") { 443 } else { 80 };
    let authority = rest.split('/').next().unwrap_or_default();
    let authority = variables_set(dump, authority);
    if authority.contains('$') || authority.is_empty() || authority.starts_with("unix:") {
        return Vec::new();
    }
    match dump.upstreams().find(|upstream| upstream.arg(0) == Some(&authority)) {
        None => address(&authority, default).into_iter().collect(),
        Some(upstream) => {
            let servers = upstream.children().iter().filter(|child| child.name == "server");
            servers.filter_map(|server| address(server.arg(0)?, 80)).collect()
        }
    }
}

/// A text with the variables in it that are set to one plain value only.
fn variables_set(dump: &Dump, text: &str) -> String {
    let mut result = text.to_owned();
    dump.visit(&mut |directive, _| {
        if let ("set", Some(name), Some(value)) =
            (directive.name.as_str(), directive.arg(0), directive.arg(1))
            && !value.contains('$')
        {
            let braced = format!("${{{}}}", name.trim_start_matches('$'));
            result = result.replace(&braced, value);
            // A longer name may begin like this one.
            let ends = |at: usize| {
                !result[at + name.len()..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            };
            if let Some(at) = result.find(name).filter(|at| name.len() > 1 && ends(*at)) {
                result.replace_range(at..at + name.len(), value);
            }
        }
    });
    result
}

fn address(text: &str, default: u16) -> Option<(String, u16)> {
    if text.starts_with("unix:") {
        return None;
    }
    match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => Some((host.to_owned(), port.parse().ok()?)),
        _ => Some((text.to_owned(), default)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(http: &str) -> SeenNginx {
        let main =
            format!("pid /run/nginx.pid; http {{ include conf.d/*.conf; include mime.types; {http} }}");
        SeenNginx::in_files(vec![("/etc/nginx/nginx.conf".to_owned(), main)])
    }

    #[test]
    fn where_requests_go_is_followed_through_upstreams_and_variables() {
        for (http, targets) in [
            ("server { location / { proxy_pass http://127.0.0.1:3000; } }", vec![("127.0.0.1", 3000)]),
            ("server { location / { proxy_pass https://api.example; } }", vec![("api.example", 443)]),
            (
                "upstream u { server a:1; server b:2 backup; } server { location /x/ { proxy_pass http://u/y; } }",
                vec![("a", 1), ("b", 2)],
            ),
            (
                "server { set $app web-3000; set $a x; location / { proxy_pass http://$app:3000; } }",
                vec![("web-3000", 3000)],
            ),
            ("server { location / { set $p 80; proxy_pass http://w:${p}80; } }", vec![("w", 8080)]),
            ("server { location / { proxy_pass http://$host; } }", vec![]),
            ("server { location / { fastcgi_pass unix:/run/php.sock; } }", vec![]),
        ] {
            let seen = seen(http);
            let found: Vec<_> = seen.passes.iter().flat_map(|pass| &pass.targets).collect();
            let found: Vec<_> = found.into_iter().map(|(host, port)| (host.as_str(), *port)).collect();
            assert_eq!(found, targets, "{http}");
            assert_eq!(seen.passes.len(), 1, "{http}");
        }
    }

    #[test]
    fn its_files_and_places_are_told() {
        let seen = seen("server { server_name _ shop.example; location ~ ^/a { grpc_pass grpc://a:1; } }");
        assert_eq!(seen.dirs, [PathBuf::from("/etc/nginx/conf.d")]);
        assert_eq!(seen.pid_file.as_deref(), Some(Path::new("/run/nginx.pid")));
        let pass = &seen.passes[0];
        assert_eq!((pass.line, pass.directive.as_str(), pass.location.as_str()), (1, "grpc_pass", "~ ^/a"));
        assert_eq!(pass.server_name.as_deref(), Some("shop.example"));
        assert_eq!(pass.path, Path::new("/etc/nginx/nginx.conf"));
    }
}
