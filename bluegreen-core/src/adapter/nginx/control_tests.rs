use super::*;
use crate::adapter::nginx::Mode;
use crate::adapter::nginx::rewrite::tests::slots;
use crate::model::InstanceName;
use crate::port::{InstanceId, InstanceState, MockContainerRuntime};

fn site() -> Site {
    let place = NginxInstance::Container { name: InstanceName::new("nginx").unwrap() };
    Site::new(place, Mode::rewrite("/x"), slots("web-3000:3000", "web-4000:3000"))
}

fn instance(mounts: &[(&str, &str)]) -> Instance {
    let name = InstanceName::new("nginx").unwrap();
    let mut instance = Instance::new(InstanceId::new("1"), name, InstanceState::Running);
    instance.mounts = mounts.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
    instance
}

fn runtime(found: Option<Instance>, ran: ExecOutput) -> Arc<dyn ContainerRuntime> {
    let mut runtime = MockContainerRuntime::new();
    runtime.expect_find().returning(move |_| Ok(found.clone()));
    runtime.expect_exec().returning(move |_, command, _| {
        let said = "nginx version: nginx/1.22.1\nconfigure arguments: --prefix=/p";
        Ok(if command.iter().any(|word| word == "-V") { ExecOutput::new(0, said) } else { ran.clone() })
    });
    Arc::new(runtime)
}

#[tokio::test]
async fn a_container_that_does_not_run_is_told() {
    let mut exited = instance(&[]);
    exited.state = InstanceState::Exited { exit_code: 1, oom_killed: false, error: None };
    for (found, expected) in
        [(None, "no container named nginx"), (Some(exited), "nginx is exited with code 1")]
    {
        let runtime = runtime(found, ExecOutput::default());
        let error = Control::open(&runtime, &site()).await.map(drop).unwrap_err();
        assert!(matches!(&error, ProxyError::NotRunning { detail } if detail.contains(expected)), "{error}");
    }
}

#[tokio::test]
async fn a_path_is_found_inside_by_the_longest_mount() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    std::fs::create_dir(root.join("conf.d")).unwrap();
    std::fs::File::create(root.join("single.conf")).unwrap();
    let path = |name: &str| root.join(name).display().to_string();
    let mounts = [
        (path(""), "/all".to_owned()),
        (path("conf.d"), "/etc/nginx/conf.d".to_owned()),
        (path("single.conf"), "/etc/nginx/single.conf".to_owned()),
    ];
    let mounts: Vec<_> = mounts.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
    let (runtime, site) = (runtime(Some(instance(&mounts)), ExecOutput::default()), site());
    let control = Control::open(&runtime, &site).await.unwrap();
    let inside = |name: &str| control.inside(&root.join(name)).map(|path| path.display().to_string());
    assert_eq!(inside("conf.d/default.conf").unwrap(), "/etc/nginx/conf.d/default.conf");
    assert_eq!(inside("conf.d").unwrap(), "/etc/nginx/conf.d");
    assert_eq!(inside("other/a").unwrap(), "/all/other/a");
    assert!(inside("single.conf").unwrap_err().to_string().contains("single file"));
    let outside = control.inside(Path::new("/nowhere/a")).unwrap_err().to_string();
    assert!(outside.contains("no mount that contains it"), "{outside}");
}

#[tokio::test]
async fn what_the_command_says_is_kept_apart_from_whether_it_ran() {
    let site = site();
    let output = "nginx: [emerg] unexpected end of file in /etc/nginx/nginx.conf:3\n";
    let broken = runtime(Some(instance(&[])), ExecOutput::new(1, output));
    let control = Control::open(&broken, &site).await.unwrap();
    assert_eq!(control.test().await.unwrap(), Err(output.trim().to_owned()));
    assert!(
        matches!(control.dump().await, Err(ProxyError::Broken { output, .. }) if output.contains("[emerg]"))
    );
    let missing = runtime(Some(instance(&[])), ExecOutput::new(127, "no such file"));
    let control = Control::open(&missing, &site).await.unwrap();
    assert!(matches!(control.reload().await, Err(ProxyError::Other { .. })));
    assert!(matches!(control.master().await, Err(ProxyError::NotRunning { .. })));
}

#[tokio::test]
async fn a_configuration_is_whole_where_a_warning_was_printed_into_the_middle_of_it() {
    let stdout = "# configuration file /etc/nginx/nginx.conf:\nhttp { server { listen 80; } }\n\n";
    let mixed = stdout.replace("/etc/nginx/nginx.conf", "nginx: [warn] x\n/etc/nginx/nginx.conf");
    let runtime = runtime(Some(instance(&[])), ExecOutput::new(0, mixed).with_stdout(stdout));
    let site = site();
    let (dump, version) = Control::open(&runtime, &site).await.unwrap().dump().await.unwrap();
    assert_eq!((dump.main(), version), ("/etc/nginx/nginx.conf", Version(1, 22, 1)));
}

#[test]
fn versions_are_read_and_ordered() {
    for (printed, version) in [
        ("nginx version: nginx/1.22.1\n", Some(Version(1, 22, 1))),
        ("warning\nnginx version: nginx/1.18.0 (Ubuntu)\n", Some(Version(1, 18, 0))),
        ("nginx version: openresty/1.21.4.1\n", Some(Version(1, 21, 4))),
        (
            "# configuration file nginx version: nginx/1.22.1\n/etc/nginx/nginx.conf:\n",
            Some(Version(1, 22, 1)),
        ),
        ("nginx version: nginx/1\n", None),
        ("sh: nginx: not found", None),
    ] {
        assert_eq!(Version::read(printed), version);
    }
    assert!(Version(1, 27, 4) > Version(1, 22, 10));
}

#[tokio::test]
async fn addresses_are_those_that_this_host_can_reach() {
    let mut own = instance(&[]);
    own.ip = Some([127, 0, 0, 9].into());
    own.networks.insert("dev".to_owned(), [127, 0, 0, 9].into());
    let (site, own) = (site(), runtime(Some(own), ExecOutput::default()));
    let control = Control::open(&own, &site).await.unwrap();
    let reach = |address: Option<&str>, port| {
        control.reach(address.map(|address| address.parse().unwrap()), port).map(|at| at.to_string())
    };
    assert_eq!(reach(None, 80).unwrap(), "127.0.0.9:80");
    assert_eq!(reach(Some("0.0.0.0"), 80).unwrap(), "127.0.0.9:80");
    assert_eq!(reach(Some("127.0.0.1"), 80), None);
    assert_eq!(control.callers().unwrap().len(), 1);
    let host = Site::new(NginxInstance::host(), Mode::rewrite("/x"), site.slots.clone());
    let control = Control::open(&own, &host).await.unwrap();
    assert_eq!(control.reach(Some("::".parse().unwrap()), 81).unwrap().to_string(), "127.0.0.1:81");
    assert_eq!(control.reach(Some("10.0.0.1".parse().unwrap()), 81).unwrap().to_string(), "10.0.0.1:81");
}
