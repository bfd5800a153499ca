//! The fake metadata service, asked as an SDK asks.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bluegreen_testkit::fake_imds::{FakeImds, ImdsMode};

/// None when there is no answer within 300 ms.
fn ask(imds: &FakeImds, request: &str, header: &str) -> Option<String> {
    let endpoint = imds.endpoint();
    let mut stream = TcpStream::connect(endpoint.trim_start_matches("http://")).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    write!(stream, "{request} HTTP/1.1\r\nhost: x\r\n{header}\r\n\r\n").expect("a request");
    let mut answer = [0; 2048];
    let n = stream.read(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer[..n]).into_owned())
}

const TTL: &str = "X-aws-ec2-metadata-token-ttl-seconds: 60";
const TOKEN: &str = "X-aws-ec2-metadata-token: imds-token";
const ROLE: &str = "GET /latest/meta-data/iam/security-credentials/";

#[test]
fn each_mode() {
    let ok = FakeImds::start(ImdsMode::Ok).expect("a service");
    let token = ask(&ok, "PUT /latest/api/token", TTL).expect("a token");
    assert!(token.contains("token-ttl-seconds: 60") && token.ends_with("imds-token"), "{token}");
    assert!(ask(&ok, ROLE, "x: y").expect("an answer").contains(" 401 "));
    assert!(ask(&ok, ROLE, TOKEN).expect("an answer").ends_with("bluegreen-role"));
    let keys = ask(&ok, &format!("{ROLE}bluegreen-role"), TOKEN).expect("keys");
    assert!(keys.contains("ASIATEST"), "{keys}");
    assert_eq!(ok.requests(), 4);

    let no_role = FakeImds::start(ImdsMode::NoRole).expect("a service");
    assert!(ask(&no_role, ROLE, TOKEN).expect("an answer").contains(" 404 "));
    let v1_only = FakeImds::start(ImdsMode::V1Only).expect("a service");
    assert!(ask(&v1_only, "PUT /latest/api/token", TTL).expect("an answer").contains(" 403 "));
    let hop = FakeImds::start(ImdsMode::Hop).expect("a service");
    assert_eq!(ask(&hop, "PUT /latest/api/token", TTL), None);
}
