//! A way into the ECR API that a test can stand in: it passes requests on to the fake, unless it is told otherwise.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What becomes of a request.
pub enum Reply {
    /// The fake's own answer.
    Pass,
    /// This status and JSON instead.
    Say(u16, &'static str),
    /// None, and the connection stays open.
    Hang,
}

type Decide = dyn Fn(&str, usize) -> Reply + Send + Sync;

/// Listens on loopback until it is dropped.
pub struct Api {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    behind: String,
    decide: Box<Decide>,
    counts: Mutex<BTreeMap<String, usize>>,
    ended: AtomicBool,
}

impl Api {
    /// In front of `behind`. `decide` gets the action, such as `BatchGetImage`, and how many of it there were, this
    /// one included. Whatever it does before it answers is done before the request goes on.
    pub fn start(behind: &str, decide: impl Fn(&str, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            behind: behind.trim_start_matches("http://").trim_end_matches('/').to_owned(),
            decide: Box::new(decide),
            counts: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let of_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if of_thread.ended.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&of_thread);
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Self { address, shared }
    }

    /// For `AWS_ENDPOINT_URL`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How often this action was asked for.
    pub fn count(&self, action: &str) -> usize {
        self.shared.counts.lock().expect("nobody panicked").get(action).copied().unwrap_or(0)
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

impl Shared {
    /// One request, and the end of the connection: that keeps both sides simple.
    fn serve(&self, mut stream: TcpStream) {
        let Some((head, body)) = read(&stream) else { return };
        let field = |name: &str| {
            head.iter().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        let target = field("x-amz-target").unwrap_or_default();
        let action = target.rsplit('.').next().unwrap_or_default().to_owned();
        let count = {
            let mut counts = self.counts.lock().expect("nobody panicked");
            let count = counts.entry(action.clone()).or_default();
            *count += 1;
            *count
        };
        // A client that has gone away is its own business.
        let answer = match (self.decide)(&action, count) {
            Reply::Pass => self.pass(&head, &body).unwrap_or_default(),
            Reply::Say(status, json) => format!(
                "HTTP/1.1 {status} .\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: {}\r\n\
                 connection: close\r\n\r\n{json}",
                json.len()
            )
            .into_bytes(),
            Reply::Hang => {
                while !self.ended.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(20));
                }
                return;
            }
        };
        drop(stream.write_all(&answer));
    }

    fn pass(&self, head: &[String], body: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut behind = TcpStream::connect(&self.behind)?;
        let kept = head.iter().filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
        let head: String = kept.map(|line| format!("{line}\r\n")).collect();
        behind.write_all(format!("{head}connection: close\r\n\r\n").as_bytes())?;
        behind.write_all(body)?;
        let mut answer = Vec::new();
        behind.read_to_end(&mut answer)?;
        Ok(answer)
    }
}

fn read(stream: &TcpStream) -> Option<(Vec<String>, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        head.push(line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((head, body))
}
