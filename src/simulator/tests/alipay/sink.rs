//! A merchant's `notify_url`: keeps what arrives and answers what it is told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone)]
pub struct Sink {
    pub url: String,
    seen: Arc<Mutex<Vec<String>>>,
    answers: Arc<Mutex<VecDeque<&'static str>>>,
}

impl Sink {
    /// Answers these bodies in turn, then `success`.
    pub async fn start(answers: &[&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sink = Self {
            url: format!("http://{}/notify?m=1", listener.local_addr().unwrap()),
            seen: Arc::default(),
            answers: Arc::new(Mutex::new(answers.iter().copied().collect())),
        };
        let serving = sink.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        sink
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut bytes = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length: usize = head
                    .lines()
                    .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok())
                    .unwrap_or(0);
                if body.len() >= length {
                    assert!(head.to_ascii_lowercase().contains("application/x-www-form-urlencoded"), "{head}");
                    self.seen.lock().unwrap().push(body.to_owned());
                    break;
                }
            }
            let mut chunk = [0; 4096];
            match stream.read(&mut chunk).await {
                Ok(read) if read > 0 => bytes.extend_from_slice(&chunk[..read]),
                _ => return,
            }
        }
        let answer = self.answers.lock().unwrap().pop_front().unwrap_or("success");
        let length = answer.len();
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{answer}");
        stream.write_all(text.as_bytes()).await.ok();
    }

    pub fn seen(&self) -> Vec<BTreeMap<String, String>> {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|body| form_urlencoded::parse(body.as_bytes()).into_owned().collect()).collect()
    }

    /// Waits until so many notices have arrived.
    pub async fn arrived(&self, count: usize) -> Vec<BTreeMap<String, String>> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let seen = self.seen();
            if seen.len() >= count {
                return seen;
            }
            assert!(Instant::now() < deadline, "{} of {count} notices arrived", seen.len());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
