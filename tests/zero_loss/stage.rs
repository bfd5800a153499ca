//! An nginx in front of two pairs of colours that both run, switched by the library's own adapter.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bluegreen_core::adapter::docker::Docker;
use bluegreen_core::adapter::nginx::{HostNginx, Mode, Nginx as Adapter, NginxInstance, Site};
use bluegreen_core::adapter::nginx::{Protocol, PublicUrl};
use bluegreen_core::model::{AppName, Color, Endpoint, InstanceName, Slot, Slots};
use bluegreen_core::port::Proxy as _;
use bluegreen_testkit::docker::{AppImage, Network, Run, free_port};
use bluegreen_testkit::nginx::{self as kit, Nginx, NginxBinary, NginxContainer, NginxVersion};
use tokio::time::Instant;

/// Which nginx.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Host(NginxBinary),
    Container(NginxVersion),
}

/// The ports that the site listens on, by what is spoken there.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    pub plain: u16,
    pub tls: u16,
    pub h2c: u16,
    pub grpc: u16,
    pub long: u16,
}

pub struct Stage {
    // The order is that of the clean-up: nginx before the containers and the network that it needs.
    pub nginx: Box<dyn Nginx>,
    pub proxy: Adapter,
    pub web: AppName,
    pub rpc: AppName,
    pub long: AppName,
    pub ports: Ports,
    /// Where clients reach it.
    pub host: std::net::IpAddr,
    slots: BTreeMap<AppName, Slots>,
    _run: Run,
    _network: Option<Network>,
}

fn name(text: &str) -> AppName {
    AppName::new(text).expect("a name")
}

impl Stage {
    /// Live mode, or rewrite mode for the application `web` alone. `http` are further lines inside `http { }`.
    pub async fn start(kind: Kind, live: bool, http: &str) -> Self {
        let run = Run::new();
        let (web, rpc, long) = (name("web"), name("rpc"), name("long"));
        let network = matches!(kind, Kind::Container(_)).then(|| run.network("net").expect("a network"));
        let pair = |first: u8, part: &str| {
            let slot = |color: Color, last: u8| slot(&run, network.as_ref(), part, color, last);
            Slots { blue: slot(Color::Blue, first), green: slot(Color::Green, first + 1) }
        };
        let (short_slots, long_slots) = (pair(10, "short"), pair(20, "long"));
        let slots = BTreeMap::from([
            (web.clone(), short_slots.clone()),
            (rpc.clone(), short_slots),
            (long.clone(), long_slots),
        ]);
        let (nginx, host, place): (Box<dyn Nginx>, std::net::IpAddr, NginxInstance) = match kind {
            Kind::Host(binary) => {
                let nginx = kit::HostNginx::start(&run, binary, &[]).expect("an nginx");
                let mut host = HostNginx::default();
                host.binary = nginx.command().to_owned();
                host.pid_file = Some(nginx.prefix().join("nginx.pid"));
                (Box::new(nginx), [127, 0, 0, 1].into(), NginxInstance::Host(host))
            }
            Kind::Container(version) => {
                let name = run.name("nginx");
                let nginx = NginxContainer::start(&run, &name, version, network.as_ref(), &[], &[]);
                let nginx = nginx.expect("an nginx");
                let (ip, name) = (nginx.ip(), InstanceName::new(name).expect("a name"));
                (Box::new(nginx), ip.into(), NginxInstance::Container { name })
            }
        };
        // Its own address has every port free; loopback is shared with everybody.
        let port = |fixed: u16| if host.is_loopback() { free_port() } else { fixed };
        let plain = nginx.listen_port();
        let ports = Ports { plain, tls: port(443), h2c: port(81), grpc: port(82), long: port(83) };
        let mode = if live {
            Mode::Live { dir: nginx.conf_dir().to_owned(), control_port: port(8989) }
        } else {
            Mode::rewrite(nginx.conf_dir().join("site.conf"))
        };
        let docker: Arc<Docker> = Arc::new(Docker::connect(None).expect("Docker"));
        let sites = slots.iter().map(|(app, slots)| {
            let mut site = Site::new(place.clone(), mode.clone(), slots.clone());
            if *app == rpc {
                site.protocol = Protocol::Grpc;
            }
            let port = if *app == long { ports.long } else { ports.plain };
            site.public = Some(PublicUrl::new(Endpoint::from_ip(host, port)));
            (app.clone(), site)
        });
        let proxy = Adapter::new(docker, sites.collect());
        let stage = Self { nginx, proxy, web, rpc, long, ports, host, slots, _run: run, _network: network };
        stage.nginx.write_conf("http.conf", http).expect("a file");
        if live {
            stage.install().await
        } else {
            stage.plain()
        }
        stage
    }

    async fn install(&self) {
        self.certificate();
        for app in [&self.web, &self.rpc, &self.long] {
            self.proxy.install(app).await.expect("an install");
        }
        let inside = |app: &AppName| {
            let dir = self.inside();
            format!("location / {{ include {dir}/bluegreen/{app}.location; }}")
        };
        let (web, rpc, long) = (inside(&self.web), inside(&self.rpc), inside(&self.long));
        let (Ports { plain, tls, h2c, grpc, long: at, .. }, dir) = (self.ports, self.inside());
        // The default of 1000 requests a connection would have nginx say goodbye to an HTTP/2 connection while three
        // more requests are on their way: nginx's own limit, not the switch's.
        let text = format!(
            "keepalive_requests 1000000;\n\
             server {{ listen {plain}; {web} }}\n\
             server {{ listen {tls} ssl http2; ssl_certificate {dir}/cert.pem; ssl_certificate_key {dir}/key.pem; {web} }}\n\
             server {{ listen {h2c} http2; {web} }}\n\
             server {{ listen {grpc} http2; {rpc} }}\n\
             server {{ listen {at}; {long} }}\n"
        );
        self.nginx.write_conf("site.conf", &text).expect("the site");
        self.nginx.reload().expect("a reload");
        // The workers before it take connections for another 100 ms.
        tokio::time::sleep(Duration::from_millis(400)).await;
        for app in [&self.web, &self.rpc, &self.long] {
            self.switch(app, Color::Blue).await;
        }
    }

    fn plain(&self) {
        let blue = &self.slots[&self.web].blue.endpoint;
        let text =
            format!("server {{ listen {}; location / {{ proxy_pass http://{blue}; }} }}\n", self.ports.plain);
        self.nginx.write_conf("site.conf", &text).expect("the site");
        self.nginx.reload().expect("a reload");
        std::thread::sleep(Duration::from_millis(400));
    }

    /// The directory of its files as nginx sees it.
    fn inside(&self) -> String {
        if self.host.is_loopback() {
            self.nginx.conf_dir().display().to_string()
        } else {
            "/etc/nginx/conf.d".to_owned()
        }
    }

    fn certificate(&self) {
        let dir = self.nginx.conf_dir();
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .args(["-days", "2", "-subj", "/CN=localhost", "-keyout"])
            .arg(dir.join("key.pem"))
            .arg("-out")
            .arg(dir.join("cert.pem"))
            .output()
            .expect("openssl");
        assert!(made.status.success(), "{made:?}");
    }

    pub fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::from((self.host, port))
    }

    /// The library's switch and proof. Gives how long each took.
    pub async fn switch(&self, app: &AppName, to: Color) -> (Duration, Duration) {
        let backend = self.slots[app].of(to).backend();
        let began = Instant::now();
        self.proxy.switch(app, Some(backend.clone())).await.expect("a switch");
        let switched = began.elapsed();
        self.proxy.verify(app, &backend).await.expect("a proof");
        (switched, began.elapsed())
    }

    /// Waits until nothing is in flight to a colour, at most that long. Gives whether it was so.
    pub async fn drain(&self, app: &AppName, from: Color, cap: Duration) -> bool {
        let (backend, began) = (self.slots[app].of(from).backend(), Instant::now());
        loop {
            if self.proxy.in_flight(app, &backend).await.expect("a count").is_none() {
                return true;
            }
            if began.elapsed() > cap {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A colour that runs: on the host's own network for nginx there, at a fixed address of nginx's network otherwise.
fn slot(run: &Run, network: Option<&Network>, part: &str, color: Color, last: u8) -> Slot {
    let name = run.name(&format!("{part}-{color}"));
    let image = run.app_image(&format!("app:{color}"), &AppImage::version(color.as_str())).expect("an image");
    let (endpoint, options): (Endpoint, Vec<String>) = match network {
        Some(network) => {
            let ip = network.ip(last);
            let options = ["--network", &network.name, "--ip", &ip.to_string()].map(str::to_owned);
            (Endpoint::from_ip(ip.into(), 3000), options.into())
        }
        None => {
            let port = free_port();
            let options = ["--network", "host", "--env", &format!("PORT={port}"), "--env", "HOST=127.0.0.1"];
            (Endpoint::from_ip([127, 0, 0, 1].into(), port), options.map(str::to_owned).into())
        }
    };
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    run.start(&name, &image, &options, &[]).expect("a colour");
    let up = || std::net::TcpStream::connect((endpoint.host(), endpoint.port())).is_ok();
    assert!(bluegreen_testkit::process::wait_until(Duration::from_secs(15), up), "{name} does not listen");
    Slot::new(color, InstanceName::new(name).expect("a name"), endpoint.port(), endpoint)
}
