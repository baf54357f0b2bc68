//! A stand-in for WeChat's hosts in tests: answers from a list, signs with the published test key, remembers what it saw.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};

use super::sign::{answer_text, request_text};
use crate::keys::{
    RsaSigner, RsaVerifier,
    test_vectors::{read, wechat_json},
};

/// The moment of every derived vector.
pub(super) const NOW_S: i64 = 1_756_713_600;
pub(super) const NONCE: &str = "Zk3wAeQ1r8Yt5uP0";

pub(super) fn public_key_id() -> String {
    wechat_json("derived.json")["public_key_id"].as_str().unwrap().to_owned()
}

#[derive(Clone)]
pub(super) enum Reply {
    /// Signed as WeChat does.
    Signed(u16, String),
    /// Without a `Wechatpay-…` header.
    Unsigned(u16, String),
    /// With a header of this name replaced (or doubled, when `double`).
    Spoilt { status: u16, body: String, header: &'static str, value: &'static str, double: bool },
    /// A file, as it is.
    File(Vec<u8>),
    /// The connection ends instead of an answer.
    Drop,
}

#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Seen {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    /// The signature of the request, checked over what really arrived.
    pub fn assert_signed_by(&self, mchid: &str) {
        let header = self.header("authorization");
        let items = header.strip_prefix("WECHATPAY2-SHA256-RSA2048 ").unwrap();
        let item = |name: &str| {
            let (_, rest) = items.split_once(&format!("{name}=\"")).unwrap();
            rest.split('"').next().unwrap().to_owned()
        };
        assert_eq!(item("mchid"), mchid);
        assert_eq!(item("serial_no"), "5F1C72E2A8931B72A2E13AF8DEE92471EB397115");
        let text = request_text(&self.method, &self.path, &item("timestamp"), &item("nonce_str"), &self.body);
        let key = RsaVerifier::parse(&read("wechat/java/merchant_certificate.pem")).unwrap();
        key.verify(text.as_bytes(), &item("signature")).unwrap();
        assert_eq!(self.header("accept"), "application/json");
        assert!(!self.header("user-agent").is_empty());
    }
}

pub(super) struct Fake {
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    /// Answers the first request with the first reply and so on; when they are used up, connections end.
    pub async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::start_at(NOW_S, replies).await
    }

    /// The same, at another moment.
    pub async fn start_at(now_s: i64, replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let mut replies = replies.into_iter().collect::<Vec<_>>().into_iter();
        let notes = seen.clone();
        let own_url = url.clone();
        let signer = RsaSigner::parse(&read("wechat/java/wechat_pay_private_key.pem")).unwrap();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let Some(request) = read_request(&mut stream).await else { continue };
                notes.lock().unwrap().push(request);
                let Some(bytes) = replies.next().and_then(|reply| write_reply(&reply, &signer, now_s, &own_url)) else {
                    continue;
                };
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { url, seen, task }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// An address on which nothing listens, and the socket that keeps it so while it is held.
pub(super) fn closed_port() -> (String, TcpSocket) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    (format!("http://{}", socket.local_addr().unwrap()), socket)
}

async fn read_request(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let (head, rest) = loop {
        let mut chunk = [0; 4096];
        let n = stream.read(&mut chunk).await.ok().filter(|n| *n > 0)?;
        bytes.extend_from_slice(&chunk[..n]);
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break (String::from_utf8_lossy(&bytes[..at]).into_owned(), at + 4);
        }
    };
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
    while bytes.len() < rest + length {
        let mut chunk = [0; 4096];
        let n = stream.read(&mut chunk).await.ok().filter(|n| *n > 0)?;
        bytes.extend_from_slice(&chunk[..n]);
    }
    let body = String::from_utf8(bytes[rest..].to_vec()).unwrap();
    Some(Seen { method, path, headers, body })
}

/// `FAKE_URL` in a text is this stand-in's own address.
fn write_reply(reply: &Reply, signer: &RsaSigner, now_s: i64, own_url: &str) -> Option<Vec<u8>> {
    let text = |body: &str| body.replace("FAKE_URL", own_url).into_bytes();
    let (status, body, signed) = match reply {
        Reply::Signed(status, body) | Reply::Spoilt { status, body, .. } => (*status, text(body), true),
        Reply::Unsigned(status, body) => (*status, text(body), false),
        Reply::File(bytes) => (200, bytes.clone(), false),
        Reply::Drop => return None,
    };
    let mut headers: Vec<(&str, String)> = Vec::new();
    if signed {
        let at = now_s.to_string();
        headers.push(("Wechatpay-Signature", signer.sign(&answer_text(&at, NONCE, &body))));
        headers.push(("Wechatpay-Timestamp", at));
        headers.push(("Wechatpay-Nonce", NONCE.to_owned()));
        headers.push(("Wechatpay-Serial", public_key_id()));
    }
    if let Reply::Spoilt { header, value, double, .. } = reply {
        if !double {
            headers.retain(|(name, _)| name != header);
        }
        if !value.is_empty() {
            headers.push((header, (*value).to_owned()));
        }
    }
    let mut text = format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Type: application/json\r\n");
    if status != 204 {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    Some([text.into_bytes(), body].concat())
}
