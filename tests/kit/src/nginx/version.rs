//! Versions of nginx, as packages of Debian suites.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

use crate::docker::{self, docker};
use crate::process::output_of;
use crate::{Result, cache_dir, workspace_root};

/// The image's number: a change of what is below makes another image.
const EDITION: u32 = 1;

const CONF: &str = "\
user www-data;
worker_processes 2;
pid /run/nginx.pid;
error_log /dev/stderr notice;
events { worker_connections 4096; }
http {
    access_log off;
    # Answers as soon as nginx serves, whatever the test has put into conf.d.
    server { listen 8999; location / { return 200 \"ready\\n\"; } location /status { stub_status; } }
    include /etc/nginx/conf.d/*.conf;
}
";

/// An nginx that tests run against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NginxVersion {
    /// 1.18, of Debian 11 (bullseye).
    V1_18,
    /// 1.22, of Debian 12 (bookworm).
    V1_22,
    /// 1.26, of Debian 13 (trixie).
    V1_26,
    /// 1.30, of Debian 14 (forky): the first with `keepalive_min_timeout`, which came with 1.27.4.
    V1_30,
}

impl NginxVersion {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::V1_18, Self::V1_22, Self::V1_26, Self::V1_30];

    /// Debian's name of the suite it comes from.
    pub const fn suite(self) -> &'static str {
        match self {
            Self::V1_18 => "bullseye",
            Self::V1_22 => "bookworm",
            Self::V1_26 => "trixie",
            Self::V1_30 => "forky",
        }
    }

    /// What its version number starts with.
    pub const fn number(self) -> &'static str {
        match self {
            Self::V1_18 => "1.18.",
            Self::V1_22 => "1.22.",
            Self::V1_26 => "1.26.",
            Self::V1_30 => "1.30.",
        }
    }

    /// Its root file system, made from packages on first use.
    pub fn root(self) -> Result<PathBuf> {
        let cache = cache_dir()?;
        let suite = self.suite();
        // Tests are several processes: one makes it, the others wait.
        let lock = File::create(cache.join(format!("{suite}.lock")))?;
        lock.lock()?;
        let root = cache.join(format!("nginx-{suite}-{EDITION}"));
        if root.is_dir() {
            return Ok(root);
        }
        let scratch = cache.join(format!("nginx-{suite}.new"));
        if scratch.exists() {
            std::fs::remove_dir_all(&scratch)?;
        }
        let mut make = Command::new("python3");
        make.arg(workspace_root().join("tests/kit/py/mkroot.py"));
        make.arg(suite).arg(&scratch).arg(cache.join("debs"));
        make.args(["nginx", "dash", "coreutils", "sed", "grep"]);
        let packages = output_of(&mut make)?;
        std::fs::write(scratch.join("packages"), packages)?;
        std::fs::write(scratch.join("etc/nginx/nginx.conf"), CONF)?;
        std::fs::rename(&scratch, &root)?;
        Ok(root)
    }

    /// Its image, made from the root on first use; labelled as shared by all runs.
    pub fn image(self) -> Result<String> {
        let name = format!("bluegreen-testkit/nginx:{}-{EDITION}", self.suite());
        let exists = || docker(["image", "inspect", "--format", "{{.Id}}", &name]).is_ok();
        if exists() {
            return Ok(name);
        }
        let root = self.root()?;
        let lock = File::create(cache_dir()?.join(format!("{}.image.lock", self.suite())))?;
        lock.lock()?;
        if !exists() {
            let mut tar = Command::new("tar");
            tar.arg("-C").arg(&root).args(["--owner=0", "--group=0", "-cf", "-", "."]);
            let changes = [
                r#"CMD ["nginx", "-g", "daemon off;"]"#.to_owned(),
                "ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
                "EXPOSE 80".to_owned(),
                format!("LABEL {}={}", docker::LABEL, docker::CACHE),
            ];
            docker::import(&mut tar, &name, &changes)?;
        }
        Ok(name)
    }
}
