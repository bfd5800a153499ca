//! All files of a configuration, as `nginx -T` shows them, and what can be found in them. Pure.

use std::io;
use std::net::IpAddr;

use super::pattern::Pattern;
use super::syntax::{self, Directive};

/// How deep includes may lie in each other; a circle is refused by nginx itself.
const DEPTH: usize = 16;

/// How many included files are looked into in one walk. Those that include each other by patterns are soon more than
/// anybody waits for, and no configuration that nginx takes has so many.
const FILES: usize = 10_000;

/// All files of a configuration, the main one first.
#[derive(Debug)]
pub(super) struct Dump {
    files: Vec<File>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: String,
    pub(super) bytes: Vec<u8>,
    /// Empty when it could not be read.
    pub(super) directives: Vec<Directive>,
    /// Why it could not be read.
    pub(super) unread: Option<Unread>,
}

/// Why a file says nothing. That is never the same as a file in which there is nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unread {
    /// The line that could not be read, where it was a matter of one.
    pub(super) line: Option<usize>,
    /// Why.
    pub(super) reason: String,
    /// Whether we have not the right to.
    pub(super) denied: bool,
}

impl File {
    /// A file with these bytes.
    pub(super) fn of(path: impl Into<String>, bytes: Vec<u8>) -> Self {
        let mut file = Self { path: path.into(), bytes, directives: Vec::new(), unread: None };
        file.parse();
        file
    }

    /// A file that could not be opened.
    pub(super) fn closed(path: impl Into<String>, error: &io::Error) -> Self {
        let denied = error.kind() == io::ErrorKind::PermissionDenied;
        let unread = Some(Unread { line: None, reason: error.to_string(), denied });
        Self { path: path.into(), bytes: Vec::new(), directives: Vec::new(), unread }
    }

    fn parse(&mut self) {
        match syntax::parse(&syntax::ascii(&self.bytes)) {
            Ok(directives) => self.directives = directives,
            Err(error) => {
                let reason = error.reason.to_owned();
                self.unread = Some(Unread { line: Some(error.line), reason, denied: false });
            }
        }
    }
}

/// A virtual server that was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    /// Where it takes plain HTTP from anybody.
    pub(super) listens: Vec<(Option<IpAddr>, u16)>,
    /// Its first name that is a plain host name.
    pub(super) name: Option<String>,
    /// The path of the location in which it was found, when that is a plain prefix.
    pub(super) path: Option<String>,
}

/// How far a walk has followed includes.
#[derive(Default)]
struct Included {
    depth: usize,
    files: usize,
}

impl Dump {
    /// Reads nginx's output.
    pub(super) fn read(output: &str) -> Self {
        let mut files: Vec<File> = Vec::new();
        // What nginx says about itself, before the files or behind them as the two streams come.
        let said = |line: &&str| line.starts_with("nginx: [") || line.starts_with("nginx version: ");
        for line in output.split_inclusive('\n').filter(|line| !said(line)) {
            let path =
                line.trim_end().strip_prefix("# configuration file ").and_then(|path| path.strip_suffix(':'));
            match (path, files.last_mut()) {
                (Some(path), _) => {
                    files.push(File::of(path, Vec::new()));
                }
                (None, Some(file)) => file.bytes.extend_from_slice(line.as_bytes()),
                (None, None) => {}
            }
        }
        files.iter_mut().for_each(File::parse);
        Self::of(files)
    }

    /// These files, the main one first.
    pub(super) fn of(files: Vec<File>) -> Self {
        Self { files }
    }

    /// All of them.
    pub(super) fn files(&self) -> &[File] {
        &self.files
    }

    /// The path of the main file.
    pub(super) fn main(&self) -> &str {
        self.files.first().map_or("nginx.conf", |file| &file.path)
    }

    /// The files that could not be read, and why: what they say is not known.
    pub(super) fn unread(&self) -> impl Iterator<Item = (&str, &Unread)> {
        self.files.iter().filter_map(|file| Some((file.path.as_str(), file.unread.as_ref()?)))
    }

    /// The paths that end like this. Not whole paths: what nginx was told may go over a link.
    pub(super) fn ending(&self, end: &str) -> impl Iterator<Item = &str> {
        let end = format!("/{end}");
        let files = self.files.iter().filter(move |file| file.path.ends_with(&end));
        files.map(|file| file.path.as_str())
    }

    /// Whether a file has this content. nginx prints an empty line behind each, and bytes that are no text as they
    /// come.
    pub(super) fn contains(&self, bytes: &[u8]) -> bool {
        let text = String::from_utf8_lossy(bytes.trim_ascii_end());
        self.files.iter().any(|file| String::from_utf8_lossy(file.bytes.trim_ascii_end()) == text)
    }

    /// The file in which a directive of this dump stands: its path and its bytes.
    pub(super) fn file_of(&self, wanted: &Directive) -> Option<(&str, &[u8])> {
        let holds = |file: &&File| {
            let mut holds = false;
            for directive in &file.directives {
                directive.walk("", &mut |directive, _| holds |= std::ptr::eq(directive, wanted));
            }
            holds
        };
        self.files.iter().find(holds).map(|file| (file.path.as_str(), file.bytes.as_slice()))
    }

    /// The blocks named `upstream`.
    pub(super) fn upstreams(&self) -> impl Iterator<Item = &Directive> {
        let mut found = Vec::new();
        self.visit(&mut |directive, _| {
            if directive.name == "upstream" {
                found.push(directive);
            }
        });
        found.into_iter()
    }

    /// The first `http` block.
    pub(super) fn http(&self) -> Option<&Directive> {
        let mut found = None;
        self.visit(&mut |directive, stack| {
            if directive.name == "http" && stack.is_empty() && found.is_none() {
                found = Some(directive);
            }
        });
        found
    }

    /// Whether a file of this path would be included inside `http { }`, were it there.
    pub(super) fn takes(&self, path: &str) -> bool {
        let mut takes = false;
        self.visit(&mut |directive, stack| {
            takes |= directive.name == "include"
                && stack.last().is_some_and(|block| block.name == "http")
                && directive
                    .arg(0)
                    .is_some_and(|pattern| Pattern::new(&absolute(self.main(), pattern)).takes(path));
        });
        takes
    }

    /// The include, by a pattern, that would take this path for one of its files.
    pub(super) fn taking(&self, path: &str) -> Option<(&Directive, &str)> {
        let mut found = None;
        self.visit(&mut |directive, _| {
            if let ("include", Some(pattern)) = (directive.name.as_str(), directive.arg(0))
                && Pattern::new(&absolute(self.main(), pattern)).takes(path)
            {
                found = Some((directive, pattern));
            }
        });
        found
    }

    /// The paths that an include which was written as `pattern` takes.
    pub(super) fn included(&self, pattern: &str) -> impl Iterator<Item = &str> {
        self.matching(pattern).map(|file| file.path.as_str())
    }

    fn matching(&self, pattern: &str) -> impl Iterator<Item = &File> {
        let pattern = Pattern::new(&absolute(self.main(), pattern));
        self.files.iter().filter(move |file| pattern.takes(&file.path))
    }

    /// What a block of this dump says itself, includes followed.
    pub(super) fn level<'a>(&'a self, block: &'a Directive) -> Vec<&'a Directive> {
        let mut found = Vec::new();
        let included = &mut Included::default();
        self.visit_all(block.children(), &mut Vec::new(), included, &mut |directive, stack| {
            found.extend(stack.is_empty().then_some(directive));
        });
        found
    }

    /// Which one a directive is of all in its file, in the order of the text.
    pub(super) fn ordinal(&self, wanted: &Directive) -> Option<usize> {
        self.files.iter().find_map(|file| {
            let (mut at, mut found) = (0, None);
            for directive in &file.directives {
                directive.walk("", &mut |directive, _| {
                    found = found.or(std::ptr::eq(directive, wanted).then_some(at));
                    at += 1;
                });
            }
            found
        })
    }

    /// Calls `visit` with each directive as nginx meets it, includes followed, and the blocks that it stands in,
    /// outermost first.
    pub(super) fn visit<'a>(&'a self, visit: &mut dyn FnMut(&'a Directive, &[&'a Directive])) {
        if let Some(main) = self.files.first() {
            self.visit_all(&main.directives, &mut Vec::new(), &mut Included::default(), visit);
        }
    }

    fn visit_all<'a>(
        &'a self,
        directives: &'a [Directive],
        stack: &mut Vec<&'a Directive>,
        included: &mut Included,
        visit: &mut dyn FnMut(&'a Directive, &[&'a Directive]),
    ) {
        for directive in directives {
            visit(directive, stack);
            if directive.block.is_some() {
                stack.push(directive);
                self.visit_all(directive.children(), stack, included, visit);
                stack.pop();
            } else if let ("include", Some(pattern)) = (directive.name.as_str(), directive.arg(0))
                && included.depth < DEPTH
                && included.files < FILES
            {
                included.depth += 1;
                for file in self.matching(pattern) {
                    included.files += 1;
                    self.visit_all(&file.directives, stack, included, visit);
                }
                included.depth -= 1;
            }
        }
    }

    /// The virtual servers with a directive that `wanted` says yes to; it also gets the name of the block.
    pub(super) fn servers(&self, wanted: &dyn Fn(&Directive, &str) -> bool) -> Vec<Server> {
        let mut found: Vec<(&Directive, Option<String>)> = Vec::new();
        self.visit(&mut |directive, stack| {
            if wanted(directive, stack.last().map_or("", |block| block.name.as_str()))
                && let Some(server) = stack.iter().find(|block| block.name == "server")
                && !found.iter().any(|(known, _)| std::ptr::eq(*known, *server))
            {
                let location = stack.iter().rfind(|block| block.name == "location");
                found.push((server, location.and_then(|location| prefix(location))));
            }
        });
        let of = |(server, path): (&Directive, Option<String>)| {
            let mut result = Server { listens: Vec::new(), name: None, path };
            let (mut listens, mut tls) = (0, false);
            let included = &mut Included::default();
            self.visit_all(server.children(), &mut Vec::new(), included, &mut |directive, stack| {
                match directive.name.as_str() {
                    "listen" if stack.is_empty() => {
                        listens += 1;
                        result.listens.extend(listen(directive));
                    }
                    "server_name" if stack.is_empty() && result.name.is_none() => {
                        let plain = |name: &&str| {
                            name.contains(|c: char| c.is_ascii_alphanumeric())
                                && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
                                && !name.starts_with('.')
                        };
                        let mut names = directive.args.iter().map(|word| word.value.as_str());
                        result.name = names.find(plain).map(str::to_owned);
                    }
                    "ssl" if stack.is_empty() => tls = directive.arg(0) == Some("on"),
                    _ => {}
                }
            });
            if listens == 0 {
                result.listens.push((None, 80));
            }
            if tls {
                result.listens.clear();
            }
            result
        };
        found.into_iter().map(of).collect()
    }
}

/// The plain prefix that a location stands for.
fn prefix(location: &Directive) -> Option<String> {
    let (("=" | "^~", Some(path)) | (path, None)) = (location.arg(0)?, location.arg(1)) else {
        return None;
    };
    let sendable = path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    sendable.then(|| path.to_owned())
}

/// Where a `listen` takes plain HTTP, `None` when it does not.
fn listen(directive: &Directive) -> Option<(Option<IpAddr>, u16)> {
    let takes_other = |word: &str| matches!(word, "ssl" | "quic" | "proxy_protocol");
    if directive.args.iter().any(|word| takes_other(&word.value)) {
        return None;
    }
    let at = directive.arg(0)?;
    if let Ok(port) = at.parse() {
        return Some((None, port));
    }
    let (host, port) = match at.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (at, 80),
    };
    match host {
        "*" => Some((None, port)),
        "localhost" => Some((Some(IpAddr::from([127, 0, 0, 1])), port)),
        _ => host.trim_matches(['[', ']']).parse().ok().map(|ip| (Some(ip), port)),
    }
}

/// What an include's pattern means in the configuration with this main file.
pub(super) fn absolute(main: &str, pattern: &str) -> String {
    let dir = main.rsplit_once('/').map_or("", |(dir, _)| dir);
    if pattern.starts_with('/') { pattern.to_owned() } else { format!("{dir}/{pattern}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
nginx: [warn] something\n\
# configuration file /etc/nginx/nginx.conf:\n\
user www-data;\n\
http {\n  include mime.types;\n  include /etc/nginx/conf.d/*.conf;\n}\n\
# configuration file /etc/nginx/mime.types:\n\
types { text/html html; }\n\
# configuration file /etc/nginx/conf.d/a.conf:\n\
server {\n listen 443 ssl;\n listen 127.0.0.1:8080;\n listen [::]:8081 default_server;\n listen unix:/x;\n\
 server_name _ *.x ~^a b.example;\n location /api { if ($a) { return 1; } include conf.d/in/x.location; }\n}\n\
server { location ~ \\.php$ { include /etc/nginx/conf.d/in/x.location; } }\n\
# configuration file /etc/nginx/conf.d/in/x.location:\n\
proxy_pass http://u;\n\
# configuration file /etc/nginx/conf.d/b.conf:\n\
server { ssl on; location / { proxy_pass http://u; } }\n";

    #[test]
    fn servers_are_found_through_includes() {
        let dump = Dump::read(OUTPUT);
        assert_eq!(dump.main(), "/etc/nginx/nginx.conf");
        assert_eq!(dump.included("conf.d//?.conf").count(), 2);
        let servers =
            dump.servers(&|directive, parent| directive.name == "proxy_pass" && parent == "location");
        let at = |ip: &str, port| (Some(ip.parse().unwrap()), port);
        assert_eq!(
            servers,
            [
                Server {
                    listens: vec![at("127.0.0.1", 8080), at("::", 8081)],
                    name: Some("b.example".to_owned()),
                    path: Some("/api".to_owned()),
                },
                Server { listens: vec![(None, 80)], name: None, path: None },
                Server { listens: vec![], name: None, path: Some("/".to_owned()) },
            ]
        );
    }

    #[test]
    fn the_text_of_a_file_is_kept() {
        let dump = Dump::read(OUTPUT);
        assert!(dump.takes("/etc/nginx/conf.d/new.conf") && !dump.takes("/etc/nginx/conf.d/new.txt"));
        let mut homes = Vec::new();
        dump.visit(&mut |directive, _| homes.extend(dump.file_of(directive).map(|(path, _)| path)));
        assert_eq!(homes.first(), Some(&"/etc/nginx/nginx.conf"));
        assert!(homes.contains(&"/etc/nginx/conf.d/in/x.location"));
        assert!(dump.contains(b"proxy_pass http://u;"));
        assert_eq!(dump.ending("in/x.location").count(), 1);
        assert_eq!(Dump::read("").main(), "nginx.conf");
    }

    #[test]
    fn what_cannot_be_read_is_not_empty() {
        let dump = Dump::read("# configuration file /a:\ninclude /b;\n# configuration file /b:\n\na b\n");
        let unread: Vec<_> = dump.unread().collect();
        assert_eq!(unread.len(), 1);
        assert_eq!((unread[0].0, unread[0].1.line), ("/b", Some(2)));
        let bytes = b"server { # caf\xe9\n listen 80; }";
        let dump = Dump::of(vec![File::of("/a", bytes.to_vec())]);
        assert_eq!(dump.unread().count(), 0);
        assert!(dump.contains(bytes) && !dump.contains(b"server { listen 80; }"));
    }

    #[test]
    fn an_include_of_itself_ends() {
        let dump = Dump::read("# configuration file /a:\ninclude /a;\n");
        let mut seen = 0;
        dump.visit(&mut |_, _| seen += 1);
        assert_eq!(seen, DEPTH + 1);
    }

    #[test]
    fn files_that_all_include_each_other_end() {
        let text = "include *;\n".repeat(3);
        let files = (0..4).map(|n| File::of(format!("/d/{n}"), text.clone().into_bytes()));
        let mut seen = 0;
        Dump::of(files.collect()).visit(&mut |_, _| seen += 1);
        assert!(seen < 2 * 3 * FILES, "{seen}");
    }
}
