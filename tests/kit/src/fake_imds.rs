//! The instance metadata service, version 2, as an EC2 instance or a container on one sees it.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::Result;

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImdsMode {
    /// As on an instance with a role.
    Ok,
    /// As on an instance without a role.
    NoRole,
    /// Token requests are forbidden (403).
    V1Only,
    /// Token requests hang, as in a container behind a hop limit of 1.
    Hop,
}

/// A metadata service on loopback; ends on drop.
#[derive(Debug)]
pub struct FakeImds {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    requests: Arc<AtomicUsize>,
}

const TOKEN: &str = "imds-token";
const ROLE: &str = "bluegreen-role";

impl FakeImds {
    /// Starts it in this process.
    pub fn start(mode: ImdsMode) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (ended, requests) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (ending, counter) = (Arc::clone(&ended), Arc::clone(&requests));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ending.load(Ordering::SeqCst) {
                    return;
                }
                let (ending, counter) = (Arc::clone(&ending), Arc::clone(&counter));
                std::thread::spawn(move || serve(&stream, mode, &ending, &counter));
            }
        });
        Ok(Self { address, ended, requests })
    }

    /// For `AWS_EC2_METADATA_SERVICE_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests so far.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for FakeImds {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: &TcpStream, mode: ImdsMode, ended: &AtomicBool, requests: &AtomicUsize) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(n) if n > 0 => {}
                _ => return,
            }
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        requests.fetch_add(1, Ordering::SeqCst);
        let header = |name: &str| {
            lines.iter().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        let mut first = lines.first().map_or("", String::as_str).split(' ');
        let (method, path) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
        let ttl = header("x-aws-ec2-metadata-token-ttl-seconds");
        let (status, body) = match (method, path, &ttl) {
            ("PUT", "/latest/api/token", _) if mode == ImdsMode::Hop => {
                while !ended.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(50));
                }
                return;
            }
            ("PUT", "/latest/api/token", Some(_)) if mode == ImdsMode::V1Only => (403, String::new()),
            ("PUT", "/latest/api/token", Some(_)) => (200, TOKEN.to_owned()),
            ("PUT", ..) => (400, String::new()),
            _ if header("x-aws-ec2-metadata-token").as_deref() != Some(TOKEN) => (401, String::new()),
            _ => get(path, mode),
        };
        let mut reply = format!("HTTP/1.1 {status} .\r\ncontent-length: {}\r\n", body.len());
        if let (200, Some(ttl)) = (status, ttl) {
            // An SDK refuses a token that does not say how long it lives.
            reply += &format!("x-aws-ec2-metadata-token-ttl-seconds: {ttl}\r\n");
        }
        reply += &format!("\r\n{body}");
        if (&mut &*stream).write_all(reply.as_bytes()).is_err() {
            return;
        }
    }
}

fn get(path: &str, mode: ImdsMode) -> (u16, String) {
    let below = path.trim_end_matches('/').strip_prefix("/latest/meta-data/").unwrap_or_default();
    match below {
        "iam/security-credentials" if mode != ImdsMode::NoRole => (200, ROLE.to_owned()),
        "iam/security-credentials/bluegreen-role" if mode != ImdsMode::NoRole => {
            // Far enough away for any test, near enough for any parser.
            let json = serde_json::json!({
                "Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2024-01-01T00:00:00Z",
                "AccessKeyId": "ASIATEST", "SecretAccessKey": "test", "Token": "test",
                "Expiration": "2099-01-01T00:00:00Z",
            });
            (200, json.to_string())
        }
        "placement/region" => (200, "ap-northeast-2".to_owned()),
        "placement/availability-zone" => (200, "ap-northeast-2a".to_owned()),
        "instance-id" => (200, "i-0123456789abcdef0".to_owned()),
        _ => (404, String::new()),
    }
}
