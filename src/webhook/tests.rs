//! Addresses that strangers would like us to call, and answers that they might give.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket},
};

use super::*;

/// Names that answer what a test says, a list a call; the last one stays.
struct Names(Mutex<VecDeque<Vec<IpAddr>>>);

impl Names {
    fn are(answers: &[&[&str]]) -> Arc<Self> {
        let parsed = answers.iter().map(|ips| ips.iter().map(|ip| ip.parse().unwrap()).collect());
        Arc::new(Self(Mutex::new(parsed.collect())))
    }
}

#[async_trait]
impl Lookup for Names {
    async fn lookup(&self, _: &str, _: Option<MerchantId>) -> io::Result<Vec<IpAddr>> {
        let mut answers = self.0.lock().unwrap();
        let now = answers.front().cloned().ok_or_else(|| io::Error::other("no such name"))?;
        if answers.len() > 1 {
            answers.pop_front();
        }
        Ok(now)
    }
}

/// A server on loopback that gives one answer and counts who came.
async fn server(answer: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, came) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = came.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let _read = stream.read(&mut [0; 8192]).await;
                let _wrote = stream.write_all(answer.as_bytes()).await;
                // An answer that never ends: hold the connection open.
                if answer.is_empty() || answer.contains("chunked") {
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    (addr, came)
}

/// A server on loopback that speaks TLS with a certificate of its own making, and counts who sent it anything over that.
async fn self_signed() -> (SocketAddr, Arc<AtomicUsize>) {
    let made = rcgen::generate_simple_self_signed(vec!["shop.example".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let tls =
        rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![made.cert.into()], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, heard) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = heard.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            if stream.read(&mut [0; 8192]).await.is_ok_and(|read| read > 0) {
                count.fetch_add(1, Ordering::SeqCst);
            }
            let _wrote = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nOK").await;
        }
    });
    (addr, heard)
}

fn settings(allow_private: bool) -> WebhookSettings {
    WebhookSettings { allow_private, timeout: Duration::from_secs(5), ..WebhookSettings::default() }
}

async fn tell(client: &WebhookClient, url: &str) -> Told {
    client.tell(Delivery { merchant: MerchantId(7), url, id: "id", timestamp: 1, signature: "v1,x", body: "{}" }).await
}

async fn told_here(answer: &'static str) -> Told {
    let (addr, _) = server(answer).await;
    tell(&WebhookClient::new(&settings(true)).unwrap(), &format!("http://{addr}/n")).await
}

/// None of these may make us connect anywhere; every name resolves to this machine.
#[tokio::test]
async fn hostile_urls_connect_to_nothing() {
    let (addr, came) = server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nOK").await;
    let port = addr.port();
    let client =
        WebhookClient::with_lookup(&settings(false), Names::are(&[&["127.0.0.1", "::1", "169.254.169.254"]])).unwrap();
    let corpus = include_str!("hostile_urls.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let urls: Vec<String> = corpus.map(|line| line.replace("{port}", &port.to_string())).collect();
    assert!(urls.len() >= 60, "{}", urls.len());
    for url in &urls {
        let began = Instant::now();
        assert_eq!(tell(&client, url).await, Told::not(Trouble::Address), "{url}");
        assert!(began.elapsed() < Duration::from_secs(5), "{url} was tried");
    }
    assert_eq!(came.load(Ordering::SeqCst), 0);
}

/// Link-local, unspecified and multicast places stay out of reach where private ones are allowed: metadata live there.
#[tokio::test]
async fn a_deployment_that_allows_private_places_does_not_reach_metadata() {
    let client =
        WebhookClient::with_lookup(&settings(true), Names::are(&[&["169.254.169.254", "fe80::1", "0.0.0.0"]])).unwrap();
    for url in [
        "http://169.254.169.254/latest/meta-data/",
        "http://[fe80::1]/",
        "http://0.0.0.0/",
        "http://[::ffff:169.254.169.254]/",
        "http://metadata.example/",
        "https://metadata.example/",
        // Public places are told over TLS alone.
        "http://8.8.8.8/",
    ] {
        assert_eq!(tell(&client, url).await, Told::not(Trouble::Address), "{url}");
    }
}

#[tokio::test]
async fn a_name_that_turns_private_is_not_followed() {
    let names = Names::are(&[&["93.184.216.34"], &["127.0.0.1"]]);
    let resolver = GuardedResolver { lookup: names, reach: &[Reach::Public] };
    use reqwest::dns::Resolve;
    let first: Vec<_> = resolver.resolve("shop.example".parse().unwrap()).await.unwrap().collect();
    assert_eq!(first, [SocketAddr::from(([93, 184, 216, 34], 0))]);
    let second = resolver.resolve("shop.example".parse().unwrap()).await;
    assert!(second.err().unwrap().is::<NotReachable>());
}

/// Of several addresses of a name only those that may be reached are tried.
#[tokio::test]
async fn what_was_judged_is_what_is_connected_to() {
    let names = Names::are(&[&["10.0.0.1", "93.184.216.34", "::1", "2606:2800:220:1::1"]]);
    let resolver = GuardedResolver { lookup: names, reach: &[Reach::Public] };
    use reqwest::dns::Resolve;
    let admitted: Vec<_> =
        resolver.resolve("shop.example".parse().unwrap()).await.unwrap().map(|addr| addr.ip()).collect();
    assert_eq!(admitted, ["93.184.216.34".parse::<IpAddr>().unwrap(), "2606:2800:220:1::1".parse().unwrap()]);

    // A client has no other resolver than this one: the name does not exist, and the server is reached.
    let (addr, came) = server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nOK").await;
    let client = WebhookClient::with_lookup(&settings(true), Names::are(&[&["127.0.0.1"]])).unwrap();
    let told = tell(&client, &format!("http://shop.invalid:{}/n", addr.port())).await;
    assert_eq!((told, came.load(Ordering::SeqCst)), (Told::Accepted { status: 200 }, 1));
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_a_way() {
    let (inside, came) = server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nOK").await;
    for status in [301, 302, 303, 307, 308] {
        let away = format!("HTTP/1.1 {status} Away\r\nlocation: http://{inside}/\r\ncontent-length: 0\r\n\r\n");
        let told = told_here(Box::leak(away.into_boxed_str())).await;
        assert_eq!(told, Told::Not { trouble: Trouble::Status, status: Some(status), retry_after: None });
    }
    assert_eq!(came.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn only_a_plain_yes_is_accepted() {
    for yes in ["OK", "ok", " Ok\r\n", "SUCCESS", "success", "\n Success \t"] {
        assert!(is_yes(yes.as_bytes()), "{yes:?}");
    }
    for no in ["", "OK!", "\"OK\"", "{\"code\":\"OK\"}", "FAIL", "O K", "SUCCESSFUL", "ОК"] {
        assert!(!is_yes(no.as_bytes()), "{no:?}");
    }
    let declined = |status| Told::Not { trouble: Trouble::Answer, status: Some(status), retry_after: None };
    assert_eq!(told_here("HTTP/1.1 204 None\r\n\r\n").await, declined(204));
    assert_eq!(told_here("HTTP/1.1 200 Fine\r\ncontent-length: 4\r\n\r\nFAIL").await, declined(200));
    assert_eq!(
        told_here("HTTP/1.1 201 Made\r\ncontent-length: 9\r\n\r\n success\n").await,
        Told::Accepted { status: 201 }
    );
    let busy = told_here("HTTP/1.1 503 Busy\r\nretry-after: 60\r\ncontent-length: 2\r\n\r\nOK").await;
    assert_eq!(
        busy,
        Told::Not { trouble: Trouble::Status, status: Some(503), retry_after: Some(Duration::from_secs(60)) }
    );
}

#[tokio::test]
async fn an_endless_answer_is_not_read_to_its_end() {
    let long = format!("HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\nOK{}", " ".repeat(2000));
    let told = told_here(Box::leak(long.into_boxed_str())).await;
    assert_eq!(told, Told::Not { trouble: Trouble::Answer, status: Some(200), retry_after: None });
}

#[tokio::test]
async fn silence_ends_with_its_timeout() {
    let short = WebhookSettings { timeout: Duration::from_secs(2), ..settings(true) };
    let client = WebhookClient::new(&short).unwrap();
    for (answer, status) in
        [("", None), ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nOK\r\n", Some(200))]
    {
        let (addr, _) = server(answer).await;
        let began = Instant::now();
        let told = tell(&client, &format!("http://{addr}/")).await;
        assert_eq!(told, Told::Not { trouble: Trouble::Timeout, status, retry_after: None });
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    }
    // Nobody listens where somebody did.
    let kept = TcpSocket::new_v4().unwrap();
    kept.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let gone = kept.local_addr().unwrap();
    assert_eq!(tell(&client, &format!("http://{gone}/")).await, Told::not(Trouble::Connect));
}

/// Whose name it is reaches the resolver, and that it found no room is told apart from a merchant's troubles.
#[tokio::test]
async fn a_name_is_looked_up_on_behalf_of_its_merchant() {
    struct Full(Mutex<Vec<Option<MerchantId>>>);

    #[async_trait]
    impl Lookup for Full {
        async fn lookup(&self, _: &str, merchant: Option<MerchantId>) -> io::Result<Vec<IpAddr>> {
            self.0.lock().unwrap().push(merchant);
            Err(io::Error::other(Crowded))
        }
    }

    let full = Arc::new(Full(Mutex::default()));
    let client = WebhookClient::with_lookup(&settings(false), full.clone()).unwrap();
    assert_eq!(tell(&client, "https://shop.example/n").await, Told::not(Trouble::Crowded));
    assert_eq!(*full.0.lock().unwrap(), [Some(MerchantId(7))]);
}

/// TLS that does not verify is no connection, and nothing is sent over it.
#[tokio::test]
async fn a_certificate_of_ones_own_making_is_not_believed() {
    let (addr, heard) = self_signed().await;
    let port = addr.port();
    let client = WebhookClient::with_lookup(&settings(true), Names::are(&[&["127.0.0.1"]])).unwrap();
    assert_eq!(tell(&client, &format!("https://shop.example:{port}/n")).await, Told::not(Trouble::Connect));
    assert_eq!(heard.load(Ordering::SeqCst), 0, "nothing was sent over it");
}

/// A proxy would connect for us, wherever it likes. What names one is the environment, so this test runs itself in a child.
#[tokio::test]
async fn the_environments_proxies_are_not_used() {
    const URL: &str = "PREPAY_TEST_PAST_THE_PROXY";
    if let Ok(url) = std::env::var(URL) {
        let client = WebhookClient::with_lookup(&settings(true), Names::are(&[&["127.0.0.1"]])).unwrap();
        assert_eq!(tell(&client, &url).await, Told::Accepted { status: 200 });
        return;
    }
    const YES: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nOK";
    let ((addr, came), (proxy, proxied)) = (server(YES).await, server(YES).await);
    let child = tokio::task::spawn_blocking(move || {
        let proxy = format!("http://{proxy}");
        std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "webhook::client::tests::the_environments_proxies_are_not_used"])
            .envs(["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"].map(|name| (name, &proxy)))
            .env_remove("NO_PROXY")
            .env_remove("no_proxy")
            .env(URL, format!("http://shop.invalid:{}/n", addr.port()))
            .output()
            .unwrap()
    });
    let child = child.await.unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    assert_eq!((came.load(Ordering::SeqCst), proxied.load(Ordering::SeqCst)), (1, 0));
}
