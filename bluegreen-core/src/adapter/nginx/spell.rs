//! What a line of the user's says without saying it, spelled out for the line that stands in its place. Pure.
//!
//! nginx derives `Host` and `proxy_redirect` from the text of `proxy_pass`. That text becomes another one, so what was
//! derived from it is said. What cannot be said where the line stands is a reason to leave it alone.

use super::Protocol;
use super::dump::Dump;
use super::syntax::Directive;

/// What a proxy module's directive names as its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target<'d> {
    /// The scheme, with its slashes.
    pub(super) scheme: &'d str,
    /// Host and port.
    pub(super) authority: &'d str,
    /// What follows: the path that takes the place of the location's, or variables.
    pub(super) rest: &'d str,
}

impl<'d> Target<'d> {
    pub(super) fn of(value: &'d str) -> Self {
        let (scheme, rest) = value.find("://").map_or(("", value), |at| value.split_at(at + 3));
        let (authority, rest) = rest.split_at(rest.find(['/', '?', '$']).unwrap_or(rest.len()));
        Self { scheme, authority, rest }
    }
}

/// Why a line must not be exchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Why {
    pub(super) found: String,
    pub(super) expected: String,
}

impl Why {
    pub(super) fn new(found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { found: found.into(), expected: expected.into() }
    }
}

/// A line, and where nginx meets it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Met<'a, 'd> {
    pub(super) dump: &'d Dump,
    pub(super) directive: &'d Directive,
    /// The blocks, outermost first.
    pub(super) stack: &'a [&'d Directive],
    pub(super) protocol: Protocol,
}

impl<'d> Met<'_, 'd> {
    /// What is to stand there for requests to go to `upstream`, with at most `tries`.
    ///
    /// # Errors
    ///
    /// Why that would not be the same.
    pub(super) fn spelled(&self, upstream: &str, tries: Option<&str>) -> Result<Vec<String>, Why> {
        let target = Target::of(self.directive.arg(0).unwrap_or_default());
        let mut said = self.next_upstream(tries)?;
        self.derived_names()?;
        self.unread()?;
        said.extend(self.headers(target)?);
        if self.protocol == Protocol::Http {
            said.extend(self.redirect(target)?);
        }
        // Nothing else may be said in an `if`, and none of it is handed on from there.
        if let Some(block) = self.stack.last().filter(|block| block.name != "location")
            && !said.is_empty()
        {
            let found = format!(
                "it stands in `{}`, and what follows from its address cannot be said there",
                block.name
            );
            return Err(Why::new(found, format!("in its location: {}", said.join(" "))));
        }
        let Self { directive, .. } = self;
        said.push(format!("{} {}{upstream}{};", directive.name, target.scheme, target.rest));
        Ok(said)
    }

    fn name(&self, end: &str) -> String {
        format!("{}_{end}", self.protocol.prefix())
    }

    /// What its blocks say, the innermost first.
    fn levels(&self) -> impl Iterator<Item = Vec<&'d Directive>> {
        self.stack.iter().rev().map(|block| self.dump.level(block))
    }

    /// What is in force of a directive that only counts where its own block has none: that block's distance, and all
    /// that it says.
    fn in_force(&self, name: &str) -> Option<(usize, Vec<&'d Directive>)> {
        self.levels().enumerate().find_map(|(distance, level)| {
            let said: Vec<_> = level.into_iter().filter(|directive| directive.name == name).collect();
            (!said.is_empty()).then_some((distance, said))
        })
    }

    /// A request goes to the other colour when there is no connection to the one that was chosen, and for nothing else.
    fn next_upstream(&self, tries: Option<&str>) -> Result<Vec<String>, Why> {
        let (next, count) = (self.name("next_upstream"), self.name("next_upstream_tries"));
        let mut said = Vec::new();
        match self.in_force(&next) {
            Some((0, own)) => {
                let kept = |word: &str| matches!(word, "error" | "timeout" | "off");
                if let Some(own) = own.iter().find(|own| own.args.iter().any(|word| !kept(&word.value))) {
                    let found = format!(
                        "its location says `{}` (line {}), and what one colour answers must not be asked of the other",
                        text(own),
                        own.line
                    );
                    return Err(Why::new(found, "nothing but error, timeout or off there"));
                }
            }
            // In an `if` what is in force is nginx's own.
            None if self.stack.last().is_some_and(|block| block.name != "location") => {}
            _ => said.push(format!("{next} error;")),
        }
        if let Some(tries) = tries {
            match self.in_force(&count) {
                Some((0, own)) if own.iter().all(|own| matches!(own.arg(0), Some("1" | "2"))) => {}
                Some((0, own)) => {
                    let own = own
                        .first()
                        .map_or(String::new(), |own| format!("`{}` (line {})", text(own), own.line));
                    return Err(Why::new(format!("its location says {own}"), "1 or 2 there"));
                }
                _ => said.push(tries.to_owned()),
            }
        }
        Ok(said)
    }

    /// The variables that repeat the text of `proxy_pass`.
    fn derived_names(&self) -> Result<(), Why> {
        for level in self.levels() {
            for directive in level.into_iter().filter(|directive| !directive.name.ends_with("log_format")) {
                let names = |word: &str| {
                    let word = word.replace(['{', '}'], "");
                    word.contains("$proxy_host") || word.contains("$proxy_port")
                };
                if directive.args.iter().any(|word| names(&word.value)) {
                    let found = format!(
                        "`{}` (line {}) repeats the address of this line, which becomes another",
                        text(directive),
                        directive.line
                    );
                    return Err(Why::new(found, "it written out there"));
                }
            }
        }
        Ok(())
    }

    /// `Host`, where nobody sets it. One header that is set switches all of the outer block's off.
    fn headers(&self, target: Target<'_>) -> Result<Vec<String>, Why> {
        let name = self.name("set_header");
        let in_force = self.in_force(&name);
        let sets = |directive: &&Directive| {
            directive.arg(0).is_some_and(|header| header.eq_ignore_ascii_case("host"))
        };
        if in_force.as_ref().is_some_and(|(_, said)| said.iter().any(sets)) {
            return Ok(Vec::new());
        }
        let host = match self.protocol {
            Protocol::Http => target.authority.strip_suffix(":80").unwrap_or(target.authority),
            Protocol::Grpc => target.authority,
        };
        let mut said = Vec::new();
        if let Some((1.., outer)) = in_force {
            for directive in outer {
                let bytes =
                    self.dump.file_of(directive).and_then(|(_, bytes)| bytes.get(directive.span.clone()));
                let same = bytes.filter(|bytes| bytes.is_ascii()).ok_or_else(|| {
                    let found = format!("`{}` (line {}) cannot be repeated", text(directive), directive.line);
                    Why::new(found, "ASCII letters there")
                })?;
                said.push(String::from_utf8_lossy(same).into_owned());
            }
        }
        said.push(format!("{name} Host {host};"));
        Ok(said)
    }

    /// Whether a location around this one has a default that is handed on.
    fn outer_default(&self) -> bool {
        let fixed = |said: &&Directive| {
            said.name == "proxy_pass" && said.arg(0).is_some_and(|value| !value.contains('$'))
        };
        self.levels().skip(1).any(|level| level.iter().any(fixed))
    }

    /// A request that nginx could not read comes to a named location past all that chooses a colour.
    fn unread(&self) -> Result<(), Why> {
        let Some(name) =
            self.stack.last().and_then(|block| block.arg(0)).filter(|name| name.starts_with('@'))
        else {
            return Ok(());
        };
        let early = |word: &str| matches!(word, "400" | "408" | "414" | "494" | "495" | "496" | "497");
        for level in self.levels().skip(1) {
            let leads = level.into_iter().find(|said| {
                said.name == "error_page"
                    && said.args.last().is_some_and(|word| word.value == name)
                    && said.args.iter().any(|word| early(&word.value))
            });
            if let Some(leads) = leads {
                let found = format!(
                    "`{}` (line {}) brings requests here that nginx could not read, before a colour is chosen",
                    text(leads),
                    leads.line
                );
                return Err(Why::new(found, "another page for those"));
            }
        }
        Ok(())
    }

    /// `proxy_redirect default`, where it is in force.
    fn redirect(&self, target: Target<'_>) -> Result<Vec<String>, Why> {
        let default = |directive: &&Directive| directive.arg(0) == Some("default");
        let says = match self.in_force("proxy_redirect") {
            Some((0, said)) => said.iter().any(default),
            Some(_) => false,
            // A location in another one has that one's.
            None => !self.outer_default(),
        };
        // nginx has no default for what has variables.
        if target.rest.contains('$') || !says {
            return Ok(Vec::new());
        }
        let Target { scheme, authority, rest } = target;
        if rest.is_empty() {
            return Ok(vec![format!("proxy_redirect {scheme}{authority}/ /;")]);
        }
        let location =
            self.stack.last().and_then(|block| Some(block.args.last()?.value.as_str())).unwrap_or_default();
        let plain = |text: &str| {
            text.starts_with('/')
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+@~%:,=&?".contains(&byte))
        };
        if !plain(location) || !plain(rest) {
            let found = format!(
                "what nginx makes of redirects to {rest} in location {location} cannot be said in plain words"
            );
            return Err(Why::new(found, "a proxy_redirect in its location"));
        }
        Ok(vec![format!("proxy_redirect {scheme}{authority}{rest} {location};")])
    }
}

/// A directive in one line.
fn text(directive: &Directive) -> String {
    let words = directive.args.iter().map(|word| word.value.as_str());
    std::iter::once(directive.name.as_str()).chain(words).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(http: &str, server: &str, location: &str) -> String {
        let text =
            format!("# configuration file /n.conf:\nhttp {{ {http}\nserver {{ {server}\n{location} }} }}\n");
        let dump = Dump::read(&text);
        let mut found = String::new();
        dump.visit(&mut |directive, stack| {
            if directive.name == "proxy_pass" {
                let met = Met { dump: &dump, directive, stack, protocol: Protocol::Http };
                let spelled = met.spelled("u", None);
                found.push_str(
                    &spelled.map_or_else(|why| format!("! {}", why.found), |lines| lines.join(" ")),
                );
            }
        });
        found
    }

    #[test]
    fn what_is_derived_is_said() {
        let plain = "proxy_next_upstream error; ";
        for (http, server, location, expected) in [
            (
                "",
                "",
                "location / { proxy_pass http://h:80; }",
                "proxy_set_header Host h; proxy_redirect http://h:80/ /; proxy_pass http://u;",
            ),
            (
                "",
                "",
                "location /api/ { proxy_pass http://h:81/v1/; }",
                "proxy_set_header Host h:81; proxy_redirect http://h:81/v1/ /api/; proxy_pass http://u/v1/;",
            ),
            (
                "",
                "proxy_set_header HOST $host;",
                "location = /x { proxy_redirect off; proxy_pass http://h:81; }",
                "proxy_pass http://u;",
            ),
            (
                "proxy_set_header X-A  'b c';",
                "",
                "location / { proxy_pass http://h:81$request_uri; }",
                "proxy_set_header X-A  'b c'; proxy_set_header Host h:81; proxy_pass http://u$request_uri;",
            ),
            (
                "proxy_set_header Host a;",
                "",
                "location / { proxy_set_header X b; proxy_redirect off; proxy_pass http://h; }",
                "proxy_set_header Host h; proxy_pass http://u;",
            ),
            (
                "proxy_set_header Host a; proxy_redirect off;",
                "",
                "location / { location /b { proxy_pass http://h; } }",
                "proxy_pass http://u;",
            ),
        ] {
            assert_eq!(spelled(http, server, location), format!("{plain}{expected}"), "{location}");
        }
        let set = "proxy_set_header Host a; proxy_redirect off;";
        assert_eq!(
            spelled("", set, "location / { if ($a) { proxy_pass http://h; } }"),
            "proxy_pass http://u;"
        );
        assert_eq!(
            spelled("", set, "location / { proxy_next_upstream off; proxy_pass http://h; }"),
            "proxy_pass http://u;"
        );
    }

    #[test]
    fn what_cannot_be_said_is_refused_with_the_line() {
        for (location, expected) in [
            ("location / { if ($a) { proxy_pass http://h; } }", "stands in `if`"),
            ("location / { proxy_next_upstream error http_503; proxy_pass http://h; }", "(line 3)"),
            ("location / { proxy_set_header Host $proxy_host; proxy_pass http://h; }", "repeats the address"),
            ("error_page 400 = @a; location @a { proxy_pass http://h; }", "could not read"),
            ("location '/a b' { proxy_pass http://h/; }", "plain words"),
        ] {
            let found = spelled("", "", location);
            assert!(found.starts_with("! ") && found.contains(expected), "{location}: {found}");
        }
    }
}
