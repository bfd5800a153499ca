use std::fmt;

use serde::{Deserialize, Serialize};

use super::{ParseError, parsed_string};

parsed_string!(
    /// The content address of an image: `sha256:` and 64 hex digits.
    Digest,
    "image digest",
    "`sha256:` and 64 lowercase hex digits",
    |value| {
        value.strip_prefix("sha256:").is_some_and(|hex| {
            hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        })
    }
);

impl Digest {
    /// The first 12 hex digits, as people write it.
    pub fn short(&self) -> &str {
        &self.as_str()["sha256:".len()..][..12]
    }
}

/// An image as a person names it: registry, repository, and a tag, a digest or both.
///
/// The rules are those of the Engine's reference grammar. A reference without tag and digest means `latest`
/// here; it is never passed on bare, because the Engine would then pull *every* tag (seen on 20.10).
///
/// ```
/// use bluegreen_core::model::ImageRef;
/// let image: ImageRef = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/shop/web:42".parse().unwrap();
/// assert_eq!(image.registry(), "123456789012.dkr.ecr.eu-west-1.amazonaws.com");
/// assert_eq!(image.repository(), "shop/web");
/// assert_eq!(image.tag(), Some("42"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageRef {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// The registry that a reference without a host name means.
const DOCKER_HUB: &str = "docker.io";
/// What it was called before.
const OLD_DOCKER_HUB: &str = "index.docker.io";
/// Where Docker Hub keeps the images that have no owner.
const OFFICIAL: &str = "library/";

impl ImageRef {
    /// The registry's host name, with its port where it has one; `docker.io` when the reference names none.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository inside the registry, without a tag.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `latest` when the reference named neither tag nor digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, when the reference names one: then there is nothing to resolve.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Registry and repository without tag and digest, as the Engine takes it for a pull.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// This reference pinned to a digest that a registry gave for it.
    #[must_use]
    pub fn pin(&self, digest: Digest) -> PinnedImage {
        PinnedImage { image: self.clone(), digest, source: ImageSource::Registry }
    }

    /// This reference pinned to an image that is on this host only, by the Engine's image id.
    #[must_use]
    pub fn pin_local(&self, id: Digest) -> PinnedImage {
        PinnedImage { image: self.clone(), digest: id, source: ImageSource::Local }
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = match self.repository.strip_prefix(OFFICIAL) {
            Some(name) if !name.contains('/') => name,
            _ => &self.repository,
        };
        if self.registry != DOCKER_HUB {
            write!(f, "{}/{}", self.registry, self.repository)?;
        } else if short.split_once('/').is_some_and(|(owner, _)| is_host(owner)) {
            // Without its registry it would be read as another one's.
            write!(f, "{DOCKER_HUB}/{short}")?;
        } else {
            f.write_str(short)?;
        }
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl std::str::FromStr for ImageRef {
    type Err = ParseError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        let error = |expected| ParseError::new("image reference", value, expected);
        let (rest, digest) = match value.split_once('@') {
            Some((rest, digest)) => (rest, Some(Digest::new(digest).map_err(|e| error(e.expected()))?)),
            None => (value, None),
        };
        // A colon after the last slash starts a tag; before it, it belongs to the registry's port.
        let (rest, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(error("a tag of 1 to 128 letters, digits, `_`, `.` or `-`"));
        }
        let (registry, path) = match rest.split_once('/') {
            Some((host, path)) if is_host(host) => (host, path),
            _ => (DOCKER_HUB, rest),
        };
        // As the Engine does: the Hub's older name is the Hub, and what has no owner there is official.
        let registry = if registry == OLD_DOCKER_HUB { DOCKER_HUB } else { registry };
        let repository = if registry == DOCKER_HUB && !path.contains('/') {
            format!("{OFFICIAL}{path}")
        } else {
            path.to_owned()
        };
        // Branches are often taken for tags. What stands before the last slash is no tag, also behind a colon.
        let port = registry.split_once(':').map(|(_, port)| port);
        if path.contains(':') || port.is_some_and(|port| !port.bytes().all(|byte| byte.is_ascii_digit())) {
            return Err(error("a tag without `/`, like `feature-x`"));
        }
        if !is_registry(registry) {
            return Err(error(
                "a registry host name, with a port of 1 to 65535 or none, before the first `/`",
            ));
        }
        if repository.len() > 255 || !repository.split('/').all(is_path_component) {
            return Err(error("a repository of lowercase letters, digits and separators, like `shop/web`"));
        }
        let tag = tag.map(str::to_owned).or_else(|| digest.is_none().then(|| "latest".to_owned()));
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }
}

fn is_tag(tag: &str) -> bool {
    tag.len() <= 128
        && tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && tag.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// Whether the part before the first `/` means a registry and not an owner on Docker Hub.
fn is_host(part: &str) -> bool {
    part.contains(['.', ':']) || part == "localhost"
}

fn is_registry(host: &str) -> bool {
    let (name, port) = host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    host.len() <= 255 && name.split('.').all(label) && port.is_none_or(is_port)
}

/// 1 to 65535, as a number is written: reading it would also take `+1` and `01`.
fn is_port(port: &str) -> bool {
    port.starts_with(|c: char| matches!(c, '1'..='9'))
        && port.bytes().all(|byte| byte.is_ascii_digit())
        && port.parse::<u16>().is_ok()
}

/// `[a-z0-9]+((.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(component: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    alnum(*first)
        && alnum(*last)
        && component.split(|c: char| alnum(u8::try_from(c).unwrap_or(0))).all(|separator| {
            matches!(separator, "" | "." | "_" | "__") || separator.chars().all(|c| c == '-')
        })
}

impl TryFrom<String> for ImageRef {
    type Error = ParseError;
    fn try_from(value: String) -> Result<Self, Self::Error> {
        value.parse()
    }
}

impl From<ImageRef> for String {
    fn from(value: ImageRef) -> String {
        value.to_string()
    }
}

/// Where the bytes of a [`PinnedImage`] come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ImageSource {
    /// A registry: the digest is that of its manifest.
    Registry,
    /// This host only, built here: the digest is the Engine's image id, and nothing is pulled.
    Local,
}

/// An image whose content is decided: what is pulled, run, recorded and rolled back to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PinnedImage {
    image: ImageRef,
    digest: Digest,
    source: ImageSource,
}

impl PinnedImage {
    /// The reference as it was asked for, kept for people.
    pub fn image(&self) -> &ImageRef {
        &self.image
    }

    /// The content address that was resolved.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Whether a registry has it or only this host.
    pub fn source(&self) -> ImageSource {
        self.source
    }

    /// What the Engine is told to run: `repository@digest`, or the image id of a local image.
    pub fn run_reference(&self) -> String {
        match self.source {
            ImageSource::Registry => format!("{}@{}", self.image.name(), self.digest),
            ImageSource::Local => self.digest.to_string(),
        }
    }
}

impl PinnedImage {
    /// What a container is made from: the same image, under the name that people know it by.
    ///
    /// An Engine looks only at the digest where there is one, and shows the tag.
    pub fn named_reference(&self) -> String {
        match (self.source, self.image.digest()) {
            (ImageSource::Local, _) => self.digest.to_string(),
            (ImageSource::Registry, Some(_)) => self.image.to_string(),
            (ImageSource::Registry, None) => format!("{}@{}", self.image, self.digest),
        }
    }
}

impl fmt::Display for PinnedImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.image, self.digest.short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str) -> ImageRef {
        value.parse().unwrap()
    }

    #[test]
    fn short_names_mean_docker_hub_and_read_back_short() {
        for (given, name, shown) in [
            ("nginx", "docker.io/library/nginx", "nginx:latest"),
            ("me/app:1", "docker.io/me/app", "me/app:1"),
            ("localhost:5000/app", "localhost:5000/app", "localhost:5000/app:latest"),
            ("ghcr.io/a/b.c__d--e:v1", "ghcr.io/a/b.c__d--e", "ghcr.io/a/b.c__d--e:v1"),
            ("docker.io/nginx", "docker.io/library/nginx", "nginx:latest"),
            ("index.docker.io/nginx:1", "docker.io/library/nginx", "nginx:1"),
            ("docker.io/library/nginx", "docker.io/library/nginx", "nginx:latest"),
            ("library/a/b", "docker.io/library/a/b", "library/a/b:latest"),
            ("docker.io/a.b/c", "docker.io/a.b/c", "docker.io/a.b/c:latest"),
            ("docker.io/localhost/c", "docker.io/localhost/c", "docker.io/localhost/c:latest"),
            ("r.io:65535/a", "r.io:65535/a", "r.io:65535/a:latest"),
        ] {
            assert_eq!(parse(given).name(), name);
            assert_eq!(parse(given).to_string(), shown);
            assert_eq!(parse(&parse(given).to_string()), parse(given));
            assert_eq!(parse(&parse(given).name()).name(), name);
        }
    }

    #[test]
    fn a_digest_needs_no_tag() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let image = parse(&format!("r.io/a@{digest}"));
        assert_eq!((image.tag(), image.digest().map(Digest::as_str)), (None, Some(digest.as_str())));
        assert_eq!(image.to_string(), format!("r.io/a@{digest}"));
    }

    #[test]
    fn what_the_engine_would_refuse_is_refused_here() {
        for bad in [
            "",
            "UPPER/x",
            "a b",
            "r.io/",
            "r.io/a:",
            "r.io/a:b c",
            "a@sha256:12",
            "-a/b",
            "r.io/a..b",
            "r.io/a___b",
            "host.:1/a",
            "null:",
            "r.io:/a",
            "r.io:+1/a",
            "r.io:-1/a",
            "r.io:0/a",
            "r.io:0443/a",
            "r.io:65536/a",
            "docker.io/",
        ] {
            assert!(bad.parse::<ImageRef>().is_err(), "{bad:?} was taken");
        }
    }
}
