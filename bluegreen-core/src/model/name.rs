use super::parsed_string;

parsed_string!(
    /// The name of an application on this host.
    ///
    /// It becomes part of container names, file names and nginx identifiers, so it is held to what all of
    /// them take unchanged: nothing is ever escaped. Separators never stand side by side, which lets
    /// [`AppName::as_identifier`] be reversible, so that two applications never share an nginx variable.
    ///
    /// ```
    /// use bluegreen_core::model::AppName;
    /// assert!(AppName::new("web-api").is_ok());
    /// assert!(AppName::new("web;rm -rf").is_err());
    /// ```
    AppName,
    "application name",
    "1 to 63 letters, digits and single `-`, `_` or `.` between them",
    |value| {
        let plain = |c: char| c.is_ascii_alphanumeric();
        value.len() <= 63
            && value.starts_with(plain)
            && value.ends_with(plain)
            && value.chars().all(|c| plain(c) || "-_.".contains(c))
            && !value.as_bytes().windows(2).any(|pair| pair.iter().all(|byte| b"-_.".contains(byte)))
    }
);

impl AppName {
    /// The name as an identifier of letters, digits and underscores, different for different names.
    ///
    /// `-` becomes `_`, `_` becomes `__` and `.` becomes `___`; as separators stand alone in a name, the
    /// length of a run of underscores tells which one it was.
    ///
    /// ```
    /// use bluegreen_core::model::AppName;
    /// assert_eq!(AppName::new("a-b_c").unwrap().as_identifier(), "a_b__c");
    /// ```
    pub fn as_identifier(&self) -> String {
        self.as_str().replace('_', "__").replace('-', "_").replace('.', "___")
    }
}

parsed_string!(
    /// What one deployment is known by, from its begin to its place in the history.
    ///
    /// CodeDeploy's `DEPLOYMENT_ID` where there is one, so that the same deployment run twice is one.
    DeploymentId,
    "deployment id",
    "1 to 64 letters, digits, `-`, `_` or `.`, not starting with a separator",
    |value| {
        value.len() <= 64
            && value.starts_with(|c: char| c.is_ascii_alphanumeric())
            && value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    }
);

parsed_string!(
    /// The name of one instance (a container) on its host.
    ///
    /// The Engine takes `[a-zA-Z0-9][a-zA-Z0-9_.-]+`: a name of one character is refused by it (seen on 20.10).
    InstanceName,
    "container name",
    "2 to 128 letters, digits, `-`, `_` or `.`, not starting with a separator",
    |value| {
        (2..=128).contains(&value.len())
            && value.starts_with(|c: char| c.is_ascii_alphanumeric())
            && value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_reach_nginx_as_syntax_are_refused() {
        for bad in ["", "-a", "a-", "a--b", "a_-b", "a b", "a;b", "a$b", "a/b", "..", "a{", "ä", "a\nb"] {
            assert!(AppName::new(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn identifiers_of_different_names_differ() {
        let names = ["a-b", "a_b", "a.b", "ab", "a-b-c", "a_b-c", "a.b.c"];
        let ids: std::collections::BTreeSet<_> =
            names.iter().map(|name| AppName::new(*name).unwrap().as_identifier()).collect();
        assert_eq!(ids.len(), names.len());
    }
}
