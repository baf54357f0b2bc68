//! What we depend on in poem 3.1.12, hyper 1.12.0 and reqwest 0.13.5, each claim held against the version in `Cargo.lock`.
//!
//! lapin's claims: `queue/on_rabbitmq/lapin_claims.rs`. sqlx's (a dropped `begin`, 0.9.0): `store/cancelled.rs`.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use poem::{Body, Request, Response, endpoint::make, error::ReadBodyError};
use prepay::{
    gateway::http::{HttpSettings, SendError, client, send_error},
    listen::{ListenSettings, Listening},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(20);

/// The versions these claims were read and tried on: another one in the lock file asks for another look.
#[test]
fn claims_are_about_the_versions_in_the_lock_file() {
    let lock = include_str!("../../Cargo.lock");
    for (name, version) in [
        ("poem", "3.1.12"),
        ("hyper", "1.12.0"),
        ("reqwest", "0.13.5"),
        ("lapin", "4.12.3"),
        ("sqlx", "0.9.0"),
        ("sea-orm", "2.0.4"),
    ] {
        let entry = format!("name = \"{name}\"\nversion = \"{version}\"\n");
        assert!(lock.contains(&entry), "{name} is not {version} any more: look at its claims again");
    }
}

#[tokio::test]
async fn poem_bounds_a_body_without_trusting_its_length() {
    let body = |bytes: usize| Body::from(vec![b'x'; bytes]);
    assert_eq!(body(8192).into_bytes_limit(8192).await.unwrap().len(), 8192);
    assert!(matches!(body(8193).into_bytes_limit(8192).await, Err(ReadBodyError::PayloadTooLarge)));
    // Chunked: no length is said at all.
    let chunks = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b'x'; 1024]));
    let endless = Body::from_bytes_stream(chunks);
    assert!(matches!(endless.into_bytes_limit(8192).await, Err(ReadBodyError::PayloadTooLarge)));
}

async fn listening(header_timeout: Duration) -> (Listening, CancellationToken) {
    let soft = CancellationToken::new();
    let settings = ListenSettings { header_timeout, ..ListenSettings::on(SocketAddr::from(([127, 0, 0, 1], 0))) };
    let endpoint = make(|_: Request| async { Response::builder().body("ok") });
    (Listening::start(settings, endpoint, soft.clone()).await.unwrap(), soft)
}

/// hyper drops its own header timeout unless a timer is set; our accept loop sets one.
#[tokio::test]
async fn hyper_ends_a_header_that_does_not_come() {
    let (listening, soft) = listening(Duration::from_millis(300)).await;
    let mut slow = TcpStream::connect(listening.addr).await.unwrap();
    slow.write_all(b"POST /pay HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.unwrap();
    let began = Instant::now();
    let mut rest = Vec::new();
    timeout(SOON, slow.read_to_end(&mut rest)).await.expect("the connection is ended").unwrap();
    assert!(began.elapsed() < Duration::from_secs(5));
    soft.cancel();
    listening.finished().await;
}

#[tokio::test]
async fn an_idle_kept_alive_connection_ends_as_well_and_leaving_waits_for_nobody_idle() {
    let (listening, soft) = listening(Duration::from_secs(60)).await;
    let mut idle = TcpStream::connect(listening.addr).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 16];
    timeout(SOON, idle.read_exact(&mut answer)).await.unwrap().unwrap();
    soft.cancel();
    timeout(SOON, listening.finished()).await.expect("an idle connection does not hold us");
}

/// A server that does one thing to every connection and counts them.
async fn server(answer: &'static [u8]) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/secret-path?secret=s3cr3t", listener.local_addr().unwrap());
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut request = [0; 4096];
            let _ = socket.read(&mut request).await;
            let _ = socket.write_all(answer).await;
        }
    });
    (url, seen)
}

#[tokio::test]
async fn reqwest_sends_once_and_tells_no_address() {
    let (url, seen) = server(b"").await;
    let error = client(&HttpSettings::default()).unwrap().get(&url).send().await.unwrap_err();
    let error = send_error(error);
    assert!(matches!(error, SendError::NoAnswer(_)), "it may have arrived: {error}");
    assert!(!error.to_string().contains("s3cr3t") && !error.to_string().contains("secret-path"), "{error}");
    assert_eq!(seen.load(Ordering::SeqCst), 1, "no retry");
}

#[tokio::test]
async fn reqwest_tells_a_connection_that_never_came_about() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let http = client(&HttpSettings::default()).unwrap();
    let error = http.get(format!("http://{nobody}/?secret=s3cr3t")).send().await.unwrap_err();
    let error = send_error(error);
    assert!(matches!(error, SendError::NotSent(_)), "{error}");
    assert!(!error.to_string().contains("s3cr3t"));
}

#[tokio::test]
async fn reqwest_follows_no_redirect() {
    let (url, seen) = server(b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n").await;
    let answer = client(&HttpSettings::default()).unwrap().get(&url).send().await.unwrap();
    assert_eq!(answer.status(), 302);
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}
