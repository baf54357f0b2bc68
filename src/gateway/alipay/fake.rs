//! A small wallet for the tests of this folder: it checks our signature and signs its answers.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::testing;
use crate::keys::rsa::{RsaSigner, RsaVerifier};

/// The parameters of one request, and `FAKE_SIGNER`: which of our keys signed it, `app` or `other`.
pub type Asked = BTreeMap<String, String>;

/// What the wallet does with the next request.
pub enum Answer {
    /// The node, signed with Alipay's key.
    Signed(&'static str),
    /// The node under another key, with a certificate number.
    Certified { node: String, key: &'static str, sn: String },
    /// A file, to a plain GET.
    File(Vec<u8>),
    /// Status and body as they are.
    Raw(u16, String),
    /// The connection ends without an answer.
    Nothing,
}

pub struct FakeWallet {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for FakeWallet {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl FakeWallet {
    pub async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own_url = format!("http://{}", listener.local_addr().unwrap());
        let url = format!("{own_url}/gateway.do");
        let mut answers: VecDeque<Answer> = answers.into_iter().collect();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&asked);
        let server = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = read_request(&mut stream).await;
                let form = if request.starts_with("GET ") { plain_get(&request) } else { checked_form(&request) };
                let method = form["method"].clone();
                kept.lock().unwrap().push(form);
                // `FAKE_URL` in a node is this wallet's own address.
                let signed = |method: &str, node: &str, key: &str, sn: Option<&str>| {
                    signed(method, &node.replace("FAKE_URL", &own_url), key, sn)
                };
                let (status, body) = match answers.pop_front().expect("an answer for every request") {
                    Answer::Signed(node) => {
                        (200, signed(&method, node, "keys/derived/alipay_private_pkcs8.pem", None).into_bytes())
                    }
                    Answer::Certified { node, key, sn } => (200, signed(&method, &node, key, Some(&sn)).into_bytes()),
                    Answer::File(bytes) => (200, bytes),
                    Answer::Raw(status, body) => (status, body.into_bytes()),
                    Answer::Nothing => continue,
                };
                let head = format!(
                    "HTTP/1.1 {status} X\r\ncontent-type: text/html;charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                stream.write_all(head.as_bytes()).await.unwrap();
                stream.write_all(&body).await.unwrap();
            }
        });
        Self { url, asked, server }
    }

    /// Every request so far, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn read_request(stream: &mut tokio::net::TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let mut part = [0; 4096];
        let length = stream.read(&mut part).await.unwrap();
        assert!(length > 0, "the request ended early");
        bytes.extend_from_slice(&part[..length]);
        let text = String::from_utf8(bytes.clone()).unwrap();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_ascii_lowercase();
        let told = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let told: usize = told.map_or(0, |told| told.trim().parse().unwrap());
        if body.len() == told {
            return text;
        }
    }
}

/// What is told of a GET: `method` GET and its `path`.
fn plain_get(request: &str) -> Asked {
    let path = request.split(' ').nth(1).unwrap();
    Asked::from([("method".to_owned(), "GET".to_owned()), ("path".to_owned(), path.to_owned())])
}

/// The form of a request whose signature verifies with a public key of the application.
fn checked_form(request: &str) -> Asked {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /gateway.do HTTP/1.1\r\n"), "nothing stands in the URL: {head}");
    assert!(head.contains("application/x-www-form-urlencoded;charset=utf-8"), "{head}");
    let mut form: Asked = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let pairs: Vec<String> =
        form.iter().filter(|(name, _)| *name != "sign").map(|(name, value)| format!("{name}={value}")).collect();
    let signer = ["app", "other"].into_iter().find(|name| {
        let key = RsaVerifier::parse(&testing::read(&format!("keys/derived/{name}_public.pem"))).unwrap();
        key.verify(pairs.join("&").as_bytes(), &form["sign"]).is_ok()
    });
    assert_eq!((form["charset"].as_str(), form["sign_type"].as_str()), ("utf-8", "RSA2"));
    form.insert("FAKE_SIGNER".to_owned(), signer.expect("a signature of ours").to_owned());
    form
}

fn signed(method: &str, node: &str, key: &str, sn: Option<&str>) -> String {
    let sign = RsaSigner::parse(&testing::read(key)).unwrap().sign(node.as_bytes());
    let name = if node.contains("code-invalid") {
        "error_response".to_owned()
    } else {
        format!("{}_response", method.replace('.', "_"))
    };
    let sn = sn.map(|sn| format!(r#""alipay_cert_sn":"{sn}","#)).unwrap_or_default();
    format!(r#"{{"{name}":{node},{sn}"sign":"{sign}"}}"#)
}
