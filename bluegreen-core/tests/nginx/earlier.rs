//! Lines that a person wrote for an earlier version: an include that chooses the colour and passes requests on in one.

use std::fs;
use std::time::Duration;

use bluegreen_core::model::Color;
use bluegreen_core::port::Proxy as _;

use crate::rig::write;
use crate::sites::{File, Stage, differs};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx: ./scripts/test"]
async fn a_line_of_the_earlier_form_becomes_what_an_install_would_have_made() {
    let files = File::all();
    let file = files.iter().find(|file| file.name == "plain").unwrap();
    for serves in [None, Some(Color::Green)] {
        let stage = Stage::start(file).await;
        let (rig, proxy) = (&stage.rig, stage.nginx());
        let (before, _) = stage.ask(file).await;
        let load = async |text: &str| {
            write(&stage.site, text);
            rig.reload();
            tokio::time::sleep(Duration::from_millis(400)).await;
        };
        // As a person did it: our files first, then our line.
        let line = format!("proxy_pass http://{};", rig.slots.blue.endpoint);
        load(&stage.text.replace(&line, "return 204;")).await;
        proxy.install(&rig.app).await.unwrap();
        let include = proxy.installation(&rig.app).await.unwrap().include_line;
        load(&stage.text.replace(&line, &include)).await;
        proxy.switch(&rig.app, serves.map(|color| rig.slots.of(color).backend())).await.unwrap();
        let (earlier, _) = stage.ask(file).await;
        assert!(!differs("", &before, &earlier).is_empty(), "then there is nothing to mend");
        proxy.check(&rig.app).await.unwrap();

        let planned = proxy.installation(&rig.app).await.unwrap().changes;
        assert_eq!(proxy.install(&rig.app).await.unwrap(), planned);
        let text = fs::read_to_string(&stage.site).unwrap();
        assert!(!text.contains(&include) && text.contains("web-api.line-1;"), "{text}");
        assert_eq!(proxy.install(&rig.app).await.unwrap(), []);
        assert_eq!(proxy.active(&rig.app).await.unwrap().color, serves);
        assert!(proxy.examine(&rig.app).await.unwrap().findings.is_empty());
        for to in [serves, Some(Color::Green), Some(Color::Blue), None] {
            proxy.check(&rig.app).await.unwrap();
            proxy.switch(&rig.app, to.map(|color| rig.slots.of(color).backend())).await.unwrap();
            let (after, _) = stage.ask(file).await;
            let named = rig.slots.of(serves.unwrap_or(Color::Blue)).endpoint.to_string();
            let after: Vec<_> =
                after.iter().map(|seen| seen.replace(&named, &rig.slots.blue.endpoint.to_string())).collect();
            assert_eq!(differs(&format!("{to:?}"), &before, &after), Vec::<String>::new());
        }
        proxy.remove(&rig.app).await.unwrap();
        let kept: Vec<_> = rig.files().into_keys().collect();
        assert_eq!(kept, ["site.conf"]);
    }
}
