//! What the public pages point at is there, and the picture is that of its recorded run.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The public pages.
fn pages() -> Vec<PathBuf> {
    let docs = root().join("docs").read_dir().unwrap().map(|entry| entry.unwrap().path());
    let pages = docs.filter(|path| path.extension().is_some_and(|end| end == "md"));
    pages.chain(["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(|name| root().join(name))).collect()
}

#[test]
fn every_link_to_a_file_of_ours_leads_somewhere() {
    let mut links = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for rest in text.split("](").skip(1) {
            let target = rest.split([')', '#', ' ']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            links += 1;
            let path = page.parent().unwrap().join(target);
            assert!(path.exists(), "{} points at {target}, which is not there", page.display());
        }
    }
    assert!(links >= 5, "only {links} links were found: how they are looked for is wrong");
}

#[test]
#[ignore = "needs python3: ./scripts/test"]
fn the_picture_is_drawn_from_its_recorded_run() {
    let drawn = Command::new(root().join("scripts/draw-switch"))
        .arg(root().join("docs/switch.json"))
        .output()
        .expect("python3");
    assert!(drawn.status.success(), "{}", String::from_utf8_lossy(&drawn.stderr));
    let kept = std::fs::read(root().join("docs/switch.svg")).unwrap();
    assert!(drawn.stdout == kept, "scripts/draw-switch docs/switch.json > docs/switch.svg");
    // A browser reads it as XML, and shows nothing where it is none.
    let parsed = Command::new("python3")
        .args(["-c", "import sys, xml.dom.minidom as x; x.parse(sys.argv[1])"])
        .arg(root().join("docs/switch.svg"))
        .status()
        .expect("python3");
    assert!(parsed.success());
}
