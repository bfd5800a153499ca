//! The patterns of an `include`: those of glob(3), as nginx hands them to it, in the C locale. Pure.

/// Whether nginx takes it for a pattern. Any other name is of one file, whatever its bytes.
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// A pattern of whole paths, read once.
pub(super) struct Pattern(Vec<Part>);

/// What stands between two slashes.
enum Part {
    Plain(String),
    Units(Vec<Unit>),
}

impl Pattern {
    pub(super) fn new(pattern: &str) -> Self {
        let part = |part: &str| {
            if is_pattern(part) { Part::Units(units(part.as_bytes())) } else { Part::Plain(part.to_owned()) }
        };
        Self(pattern.split('/').filter(|part| !part.is_empty()).map(part).collect())
    }

    /// Whether a path is what an include of it takes. Two slashes are one.
    pub(super) fn takes(&self, path: &str) -> bool {
        let mut names = path.split('/').filter(|part| !part.is_empty());
        let all = self.0.iter().all(|part| {
            names.next().is_some_and(|name| match part {
                Part::Plain(plain) => plain == name,
                Part::Units(wanted) => matches(wanted, name.as_bytes()),
            })
        });
        all && names.next().is_none()
    }
}

/// Whether a name between two slashes matches.
pub(super) fn part(pattern: &str, name: &str) -> bool {
    matches(&units(pattern.as_bytes()), name.as_bytes())
}

/// No wildcard takes a leading dot.
fn matches(wanted: &[Unit], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && !matches!(wanted.first(), Some(Unit::Byte(b'.'))) {
        return false;
    }
    // With a step back to the last `*` only, so that many of them take no more time than their number.
    let (mut at, mut of, mut star) = (0, 0, None);
    while let Some(byte) = name.get(of) {
        match wanted.get(at) {
            Some(Unit::Any) => {
                star = Some((at, of));
                at += 1;
            }
            Some(unit) if unit.takes(*byte) => {
                at += 1;
                of += 1;
            }
            _ => {
                let Some((star_at, taken)) = star else { return false };
                star = Some((star_at, taken + 1));
                (at, of) = (star_at + 1, taken + 1);
            }
        }
    }
    wanted.iter().skip(at).all(|unit| matches!(unit, Unit::Any))
}

/// What a pattern is made of.
enum Unit {
    /// `*`
    Any,
    /// `?`
    One,
    Byte(u8),
    /// `[…]`: the bytes from one to another, or all but these.
    Set {
        but: bool,
        ranges: Vec<(u8, u8)>,
    },
}

impl Unit {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Any => false,
            Self::One => true,
            Self::Byte(wanted) => *wanted == byte,
            Self::Set { but, ranges } => {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&byte)) != *but
            }
        }
    }
}

fn units(mut rest: &[u8]) -> Vec<Unit> {
    let mut units = Vec::new();
    while let [first, after @ ..] = rest {
        rest = after;
        units.push(match first {
            b'*' => Unit::Any,
            b'?' => Unit::One,
            b'[' => match set(after) {
                Some((set, after)) => {
                    rest = after;
                    set
                }
                // Not closed: a bracket like any other byte.
                None => Unit::Byte(b'['),
            },
            b'\\' if !after.is_empty() => {
                rest = &after[1..];
                Unit::Byte(after[0])
            }
            byte => Unit::Byte(*byte),
        });
    }
    units
}

/// A set, from behind its bracket, and what comes after it.
fn set(text: &[u8]) -> Option<(Unit, &[u8])> {
    let but = matches!(text.first(), Some(b'!' | b'^'));
    let mut rest = if but { text.get(1..)? } else { text };
    let mut ranges = Vec::new();
    loop {
        match rest {
            // In the first place it stands for itself.
            [b']', after @ ..] if !ranges.is_empty() => return Some((Unit::Set { but, ranges }, after)),
            [b'[', b':', after @ ..] => {
                let end = after.windows(2).position(|two| two == b":]")?;
                ranges.extend(class(after.get(..end)?)?);
                rest = after.get(end + 2..)?;
            }
            _ => {
                let (first, after) = member(rest)?;
                match after {
                    [b'-', last, ..] if *last != b']' => {
                        let (last, after) = member(after.get(1..)?)?;
                        ranges.push((first, last));
                        rest = after;
                    }
                    _ => {
                        ranges.push((first, first));
                        rest = after;
                    }
                }
            }
        }
    }
}

/// A byte of a set, and what comes after it.
fn member(text: &[u8]) -> Option<(u8, &[u8])> {
    match text {
        [b'\\', byte, rest @ ..] | [byte, rest @ ..] => Some((*byte, rest)),
        [] => None,
    }
}

fn class(name: &[u8]) -> Option<Vec<(u8, u8)>> {
    Some(match name {
        b"alnum" => vec![(b'0', b'9'), (b'A', b'Z'), (b'a', b'z')],
        b"alpha" => vec![(b'A', b'Z'), (b'a', b'z')],
        b"digit" => vec![(b'0', b'9')],
        b"lower" => vec![(b'a', b'z')],
        b"upper" => vec![(b'A', b'Z')],
        b"xdigit" => vec![(b'0', b'9'), (b'A', b'F'), (b'a', b'f')],
        b"punct" => vec![(b'!', b'/'), (b':', b'@'), (b'[', b'`'), (b'{', b'~')],
        b"space" => vec![(b'\t', b'\r'), (b' ', b' ')],
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_glob() {
        for (pattern, path, expected) in [
            ("/a/*.conf", "/a/b.conf", true),
            ("/a/*.conf", "/a/b.conf.x", false),
            ("/a/*", "/a/b/c", false),
            ("/a/*", "/a/.b", false),
            ("/a/.*", "/a/.b", true),
            ("/a/?b", "/a/.b", false),
            ("/a/[.]b", "/a/.b", false),
            ("/*/?.c", "/a/b.c", true),
            ("/a//b", "/a/b", true),
            ("/a/*b*c", "/a/xbyc", true),
            ("/a/b*", "/a/b", true),
            ("/a/*b", "/a/bab", true),
            ("/a/*?b", "/a/b", false),
            ("/a/[!_]*.conf", "/a/web.conf", true),
            ("/a/[!_]*.conf", "/a/_web.conf", false),
            ("/a/[^_]*.conf", "/a/_web.conf", false),
            ("/a/[0-9][0-9]-*", "/a/10-web", true),
            ("/a/[0-9][0-9]-*", "/a/1-web", false),
            ("/a/[]x]", "/a/]", true),
            ("/a/[!]x]", "/a/]", false),
            ("/a/[a-]", "/a/-", true),
            ("/a/[[:alpha:]_]?", "/a/_b", true),
            ("/a/[[:digit:]]*", "/a/web", false),
            ("/[ab]/*/c.conf", "/b/x/c.conf", true),
            (r"/a/\*[x]", "/a/*x", true),
            (r"/a/\*[x]", "/a/bx", false),
            ("/a/[b", "/a/[b", true),
            ("/a/b{c,d}", "/a/bc", false),
            (&format!("/a/{}c", "*b".repeat(60)), &format!("/a/{}", "b".repeat(200)), false),
        ] {
            assert_eq!(Pattern::new(pattern).takes(path), expected, "{pattern} {path}");
        }
    }
}
