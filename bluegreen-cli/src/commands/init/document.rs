//! The text of a bluegreen.toml. Pure.

use super::choose::Chosen;
use super::draft::{Draft, Left, Setting, key, quoted};

/// The tables below an application's own, in the order in which they are written.
const TABLES: [&str; 4] = ["health", "drain", "receipt", "retain"];

/// What is written.
pub(super) fn render(chosen: &Chosen) -> String {
    let mut text = "# Written by `bluegreen init` from what it found on this host. Every setting, and what holds without it:\n\
                    # docs/bluegreen.example.toml. Check it after a change: bluegreen config check\n"
        .to_owned();
    text.push_str(&comments("Not carried over:", &chosen.left));
    text.push_str("\n[nginx]\n");
    text.push_str(&lines(&chosen.nginx));
    if chosen.live {
        text.push_str(
            "# nginx looks at a flag file for each request: no reload, no lost request.\nmode = \"live\"\n",
        );
    }
    for app in &chosen.apps {
        text.push_str(&application(app));
    }
    text
}

fn comments(title: &str, left: &[Left]) -> String {
    if left.is_empty() {
        return String::new();
    }
    let lines: String = left.iter().map(|left| format!("# - {}\n", one_line(&left.to_string()))).collect();
    format!("#\n# {title}\n{lines}")
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn application(app: &Draft) -> String {
    let name = key(&app.name);
    let mut text = format!("\n# {}\n[app.{name}]\n", one_line(&app.from));
    match &app.image {
        Some(image) => {
            text.push_str("# What is deployed when the command line names nothing.\n");
            text.push_str(&format!("image = {}\n", quoted(image)));
        }
        None => text.push_str("# No image is known: name it with --image, or here as `image`.\n"),
    }
    if let Some(port) = app.port {
        text.push_str(&format!("port = {port}  # inside the container\n"));
    }
    let of = |table: &str| {
        app.settings.iter().filter(|setting| setting.table == table).cloned().collect::<Vec<_>>()
    };
    text.push_str(&lines(&of("")));
    for table in TABLES {
        let settings = of(table);
        if !settings.is_empty() {
            text.push_str(&format!("\n[app.{name}.{table}]\n{}", lines(&settings)));
        }
    }
    if of("health").is_empty() {
        text.push_str(&format!(
            "\n# A candidate that takes a connection gets traffic. Better, if it answers such a path:\n\
             # [app.{name}.health]\n# http = \"/health\"\n"
        ));
    }
    text
}

fn lines(settings: &[Setting]) -> String {
    let one = |Setting { key, value, why, .. }: &Setting| {
        let line = format!("{key} = {value}");
        match why.as_str() {
            "" => format!("{line}\n"),
            why if line.len() + why.len() < 100 => format!("{line}  # {why}\n"),
            why => format!("# {why}\n{line}\n"),
        }
    };
    settings.iter().map(one).collect()
}
