//! Notifications: what arrives, what ends them, how they lie.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use base64::Engine;
use bytes::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

use super::{Got, Shop};
use crate::wechat::{AssociatedData, MerchantOptions};
use crate::{Call, Event, Fault, FaultKind, Match, Options, Wallet};

/// A merchant's server that remembers what it got and answers in turn.
pub(super) struct Mailbox {
    pub url: String,
    pub got: Arc<Mutex<Vec<Got>>>,
}

impl Mailbox {
    /// `answers` in turn, the last one for ever.
    pub async fn open(answers: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/notify", listener.local_addr().expect("an address"));
        let got: Arc<Mutex<Vec<Got>>> = Arc::default();
        let (kept, answers) = (got.clone(), answers.to_vec());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, answers) = (kept.clone(), answers.clone());
                let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    let (kept, answers) = (kept.clone(), answers.clone());
                    async move {
                        let (head, body) = request.into_parts();
                        let body = crate::server::whole(body).await.expect("a body").to_vec();
                        let mut kept = kept.lock().expect("no panic");
                        let status = *answers.get(kept.len()).or(answers.last()).expect("an answer");
                        kept.push(Got { status: 0, headers: head.headers, body });
                        let answer = crate::Answer::new(status, "text/plain", Bytes::new());
                        Ok::<_, std::convert::Infallible>(crate::wire::to_http(answer, false))
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { url, got }
    }

    fn count(&self) -> usize {
        self.got.lock().expect("no panic").len()
    }

    pub async fn wait_for(&self, count: usize) {
        until(|| self.count() >= count).await;
    }
}

pub(super) async fn until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "not in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(super) async fn shop_with(mailbox: &Mailbox) -> Shop {
    let options = Options { schedule_scale: 0.001, ..Options::default() };
    let mut shop = Shop::open_with(options, MerchantOptions::default()).await;
    shop.notify_url.clone_from(&mailbox.url);
    shop
}

pub(super) fn decrypt(shop: &Shop, body: &Value) -> Value {
    let resource = &body["resource"];
    let text = |name: &str| resource[name].as_str().unwrap_or_default().to_owned();
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, shop.merchant.apiv3_key.as_bytes()).expect("a key"));
    let mut sealed = base64::engine::general_purpose::STANDARD.decode(text("ciphertext")).expect("Base64");
    let nonce = Nonce::try_assume_unique_for_key(text("nonce").as_bytes()).expect("12 bytes");
    let plain = key.open_in_place(nonce, Aad::from(text("associated_data").as_bytes()), &mut sealed).expect("opens");
    serde_json::from_slice(plain).expect("JSON")
}

#[tokio::test]
async fn a_payment_is_told_until_it_is_taken() {
    // A redirect is a failure as well.
    let mailbox = Mailbox::open(&[500, 302, 204]).await;
    let shop = shop_with(&mailbox).await;
    let wechat = shop.simulator.wechat();
    for associated_data in [AssociatedData::Transaction, AssociatedData::Empty, AssociatedData::Absent] {
        wechat.set_switches(|switches| switches.associated_data = associated_data);
        let number = format!("T-{associated_data:?}");
        shop.prepay_id(&number).await;
        let before = mailbox.count();
        let transaction_id = wechat.pay(&shop.merchant.mchid, &number).expect("payable");
        until(|| shop.simulator.ledger().count(&number, Call::Notify, Event::NoticeAccepted) == 1).await;
        let got = mailbox.got.lock().expect("no panic");
        let told = got.last().expect("a notification");
        assert!(told.is_signed_by(&shop.merchant.public_key_pem));
        let body = told.json();
        assert_eq!(
            (&body["event_type"], &body["resource"]["original_type"]),
            (&"TRANSACTION.SUCCESS".into(), &"transaction".into())
        );
        assert_eq!(
            body["resource"].get("associated_data").and_then(Value::as_str),
            match associated_data {
                AssociatedData::Absent => None,
                AssociatedData::Empty => Some(""),
                AssociatedData::Transaction => Some("transaction"),
            }
        );
        let plain = decrypt(&shop, &body);
        assert_eq!(
            (plain["transaction_id"].as_str(), plain["trade_state"].as_str(), plain["amount"]["total"].as_i64()),
            (Some(transaction_id.as_str()), Some("SUCCESS"), Some(1999))
        );
        if before == 0 {
            // Three deliveries: the same id, never the same signature.
            assert_eq!(got.len(), 3);
            assert_eq!(got[0].json()["id"], got[2].json()["id"]);
            assert_ne!(got[0].header("Wechatpay-Signature"), got[2].header("Wechatpay-Signature"));
        }
    }
}

#[tokio::test]
async fn sixteen_failures_are_the_end() {
    let mailbox = Mailbox::open(&[500]).await;
    let shop = shop_with(&mailbox).await;
    shop.simulator.clock().set_schedule_scale(0.0);
    shop.prepay_id("T00001").await;
    shop.simulator.wechat().pay(&shop.merchant.mchid, "T00001").expect("payable");
    until(|| shop.simulator.ledger().count("T00001", Call::Notify, Event::NoticeGivenUp) == 1).await;
    assert_eq!((mailbox.count(), shop.simulator.ledger().notices_of("T00001")), (16, 16));
}

#[tokio::test]
async fn doubles_probes_and_losses_come_on_demand() {
    let mailbox = Mailbox::open(&[200]).await;
    let shop = shop_with(&mailbox).await;
    let (wechat, ledger) = (shop.simulator.wechat(), shop.simulator.ledger());
    let pay = |number: &'static str| {
        let shop = &shop;
        async move {
            shop.prepay_id(number).await;
            shop.simulator.wechat().pay(&shop.merchant.mchid, number).expect("payable");
        }
    };
    wechat.set_switches(|switches| switches.notice_doubled = true);
    pay("T00001").await;
    until(|| ledger.count("T00001", Call::Notify, Event::NoticeAccepted) == 2).await;

    // The probe is refused by whoever checks signatures; this mailbox takes everything, which the ledger tells.
    wechat.set_switches(|switches| (switches.notice_doubled, switches.notice_probe) = (false, true));
    pay("T00002").await;
    until(|| ledger.count("T00002", Call::Notify, Event::NoticeAccepted) == 1).await;
    assert_eq!(ledger.count("T00002", Call::Notify, Event::ProbeAccepted), 1);
    let probe = &mailbox.got.lock().expect("no panic")[2].header("Wechatpay-Signature").to_owned();
    assert!(probe.starts_with("WECHATPAY/SIGNTEST/"));

    wechat.set_switches(|switches| switches.notice_probe = false);
    shop.simulator
        .faults()
        .add(Fault::once(Wallet::Wechat, Call::Notify, FaultKind::Lose).when(Match::number("T00003")).times(2));
    shop.simulator.faults().add(
        Fault::once(Wallet::Wechat, Call::Notify, FaultKind::WrongAmount { fen: 1 }).when(Match::number("T00003")),
    );
    pay("T00003").await;
    until(|| ledger.count("T00003", Call::Notify, Event::NoticeAccepted) == 1).await;
    assert_eq!((ledger.count("T00003", Call::Notify, Event::NoticeLost), ledger.notices_of("T00003")), (2, 1));

    wechat.set_switches(|switches| switches.notices = false);
    pay("T00004").await;
    let lies = [FaultKind::WrongSignature];
    let answer = wechat.notify_now(&shop.merchant.mchid, "T00004", &lies).await.expect("an answer");
    assert_eq!((answer.status, ledger.notices_of("T00004")), (200, 1));
    mailbox.wait_for(6).await;
    let got = mailbox.got.lock().expect("no panic");
    assert!(!got.last().expect("one").is_signed_by(&shop.merchant.public_key_pem));
}
