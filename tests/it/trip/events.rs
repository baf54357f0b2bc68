//! What merchants are told of their orders.

use std::{
    num::NonZeroU32,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use prepay::{
    clock::Clock,
    domain::{
        event::EventState,
        id::{CustomerNo, KeyId, OrderId, OrderNo},
        order::{Order, OrderEvent, Step},
    },
    enrol::Enroller,
    gateway::http::{self, HttpSettings},
    keys::{Vault, vault::fresh_master_key},
    steps::{
        Registry, StepSettings, Steps,
        budget::BudgetSettings,
        deliver::{Deliverer, DeliverySettings},
    },
    store::{Commit, Committed},
    webhook::{WebhookClient, WebhookSettings},
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{
    harness::{Via, World},
    inbox::Inbox,
};
use crate::store::{self, place::On};

fn times(fast: u32) -> NonZeroU32 {
    NonZeroU32::new(fast).unwrap()
}

pub async fn a_payment_is_told_signed_within_a_second(world: World) -> World {
    let inbox = Inbox::open().await;
    let secret = world.webhook_secret(&world.shop, "w1").await;
    let made = world.paid_order_telling("A1", &inbox).await;
    let heard = inbox.until_heard(1).await.remove(0);
    assert!(heard.is_signed_with(&secret), "{heard:?}");
    let (event, order) = (heard.event(), world.shop.order("A1").await);
    assert_eq!(
        event,
        json!({
            "notifyId": heard.id, "eventType": "PAY", "sequence": 1, "customerNo": "C1", "orderNo": "A1",
            "serialNo": made["serialNo"], "payStatus": "SUCCESS", "orderAmount": 1999, "payAmount": 1999,
            "payType": "WECHAT", "payTime": order["payTime"], "channelTradeNo": order["channelTradeNo"], "attach": "桌 7",
        })
    );
    let told = world.until_notified("A1", "DELIVERED").await;
    assert_eq!((&told["notifyId"], &told["tries"], &told["lastStatus"]), (&event["notifyId"], &json!(1), &json!(200)));
    assert_eq!(inbox.heard().len(), 1);
    world
}

pub async fn a_close_is_told(world: World) -> World {
    let inbox = Inbox::open().await;
    world.webhook_secret(&world.shop, "w1").await;
    let made = world.shop.new_order("A1").await;
    let store = &world.place.store;
    let id = OrderId::parse(made["serialNo"].as_str().unwrap()).unwrap();
    let mut expired = store.load_order(id).await.unwrap().unwrap();
    expired.id = OrderId::fresh();
    expired.order_no = OrderNo::parse("A2").unwrap();
    expired.notify_url = inbox.url.clone();
    expired.expire_at = world.clock.now().minus(Order::SETTLED_AFTER_EXPIRY + Duration::from_secs(1));
    store.insert_order(&expired).await.unwrap();
    let event = inbox.until_heard(1).await[0].event();
    assert_eq!((&event["eventType"], &event["payStatus"]), (&json!("CLOSE"), &json!("CLOSE")));
    assert_eq!((&event["payAmount"], &event["payTime"], &event["attach"]), (&Value::Null, &Value::Null, &Value::Null));
    world
}

/// The first try waits for the secret: nothing is ever sent unsigned. Two live secrets both sign.
pub async fn secrets_are_rotated_and_nothing_goes_out_unsigned(world: World) -> World {
    let world = world.restart(|settings| settings.scheduler.events_speed_up = times(100)).await;
    let inbox = Inbox::open().await;
    world.paid_order_telling("A1", &inbox).await;
    super::harness::until("the event waits for a secret", || async {
        world.notifications("A1").await.first().is_some_and(|event| event["lastTrouble"] == "NO_SECRET")
    })
    .await;
    assert_eq!(inbox.heard().len(), 0);
    let old = world.webhook_secret(&world.shop, "w1").await;
    assert!(inbox.until_heard(1).await[0].is_signed_with(&old));
    let new = world.webhook_secret(&world.shop, "w2").await;
    super::harness::until("the scheduler knows both secrets", || async {
        let count = inbox.heard().len();
        let told = world.until_notified("A1", "DELIVERED").await;
        let resend = format!("/api/v1/notifications/{}/resend", told["notifyId"].as_str().unwrap());
        assert_eq!(world.shop.post(&resend, &json!({})).await.0, StatusCode::OK);
        let heard = inbox.until_heard(count + 1).await;
        let last = heard.last().unwrap();
        assert!(last.is_signed_with(&old));
        last.is_signed_with(&new)
    })
    .await;
    let events: Vec<Value> = inbox.heard().iter().map(super::inbox::Heard::event).collect();
    assert!(events.iter().all(|event| *event == events[0]), "the same event each time");
    world
}

/// What tries paused addresses again has a part of the places, however many of them one merchant has.
pub async fn silent_endpoints_that_are_tried_again_delay_no_other_merchant(world: World) -> World {
    const SILENT: u32 = 20;
    let inbox = Inbox::open().await;
    let world = world.restart(|settings| settings.scheduler.event_concurrency = 4).await;
    let (other, _, _) = world.another_shop("C2").await;
    for shop in [&world.shop, &other] {
        world.webhook_secret(shop, "w1").await;
    }
    // It takes connections, and never answers on them.
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tried, count) = tokio::sync::watch::channel(0);
    let silence = tokio::spawn(async move {
        let mut connections = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            connections.push(connection);
            tried.send_replace(connections.len());
        }
    });
    let store = &world.place.store;
    let [ours, theirs] = [&world.shop, &other].map(|shop| CustomerNo::parse(shop.customer_no.clone()).unwrap());
    let (ours, theirs) = (
        store.merchant_by_customer_no(&ours).await.unwrap().unwrap().id,
        store.merchant_by_customer_no(&theirs).await.unwrap().unwrap().id,
    );
    let close = async |merchant, url: String| {
        let order = Order { merchant, notify_url: url, created_at: world.clock.now(), ..store::shop::order() };
        store.insert_order(&order).await.unwrap();
        let Step::Moved(closed) = order.apply(OrderEvent::Closed, world.clock.now()).unwrap() else {
            panic!("it is closed")
        };
        let commit = Commit { moved: &closed, outcome: None, at: world.clock.now() };
        assert_eq!(store.commit(commit).await.unwrap(), Committed::Done);
    };
    for n in 1..=SILENT {
        let url = format!("http://127.0.0.{n}:{port}/");
        store.pause_endpoint(ours, &url, world.clock.now()).await.unwrap();
        close(ours, url).await;
    }
    super::harness::until("all of them are put aside", || async {
        let held = "SELECT COUNT(*) FROM merchant_events WHERE state = 'held'";
        world.place.number(held).await == i64::from(SILENT)
    })
    .await;
    let due = format!("UPDATE endpoints SET by_hand = (1 = 0), probe_at = {}", world.clock.now().ms());
    world.place.sql(&due).await;
    super::harness::until("they are tried again", || async { *count.borrow() > 0 }).await;
    let mut took = Vec::new();
    for n in 1..=3 {
        let closed = Instant::now();
        close(theirs, inbox.url.clone()).await;
        inbox.until_heard(n).await;
        took.push(closed.elapsed());
    }
    took.sort_unstable();
    assert!(took[1] < Duration::from_secs(3), "{took:?}");
    silence.abort();
    world
}

pub async fn a_silent_endpoint_delays_no_other(world: World) -> World {
    let (silent, other) = (Inbox::open().await, Inbox::open().await);
    silent.is_silent();
    world.webhook_secret(&world.shop, "w1").await;
    let world = world
        .restart(|settings| {
            settings.scheduler.events_per_endpoint_max = 2;
            settings.scheduler.event_concurrency = 4;
        })
        .await;
    for n in 1..=6 {
        world.paid_order_telling(&format!("S{n}"), &silent).await;
    }
    silent.until_heard(2).await;
    let mut took = Vec::new();
    for n in 1..=3 {
        world.paid_order_telling(&format!("A{n}"), &other).await;
        let paid = Instant::now();
        other.until_heard(n).await;
        took.push(paid.elapsed());
    }
    took.sort_unstable();
    assert!(took[1] < Duration::from_secs(4), "{took:?}");
    world
}

/// The endpoint is left alone after some failures, tried by one event at a time, and hears of everything once it answers.
pub async fn a_failing_endpoint_is_paused_and_resumes(world: World) -> World {
    let inbox = Inbox::open().await;
    inbox.says(500);
    world.webhook_secret(&world.shop, "w1").await;
    let world = world
        .restart(|settings| {
            settings.scheduler.events_speed_up = times(1_000);
            settings.scheduler.endpoint_failures_to_pause = 3;
            settings.scheduler.endpoint_pause_ms = 300;
            settings.scheduler.endpoint_pause_max_ms = 1_000;
        })
        .await;
    for n in 1..=5 {
        world.paid_order_telling(&format!("A{n}"), &inbox).await;
    }
    super::harness::until("the endpoint is paused and its events are put aside", || async {
        let endpoints = world.place.store.list_endpoints(10).await.unwrap();
        endpoints.iter().any(|endpoint| endpoint.paused && !endpoint.by_hand)
            && world.place.number("SELECT COUNT(*) FROM merchant_events WHERE state = 'held'").await > 0
    })
    .await;
    inbox.says(200);
    for n in 1..=5 {
        world.until_notified(&format!("A{n}"), "DELIVERED").await;
    }
    super::harness::until("the endpoint is as good as new", || async {
        let endpoints = world.place.store.list_endpoints(10).await.unwrap();
        endpoints.iter().all(|endpoint| !endpoint.paused && endpoint.failures == 0)
    })
    .await;
    world
}

pub async fn a_restart_in_the_middle_of_a_delivery_tells_again_under_the_same_id(world: World) -> World {
    let inbox = Inbox::open().await;
    inbox.is_silent();
    world.webhook_secret(&world.shop, "w1").await;
    let world = world.restart(|settings| settings.scheduler.events_speed_up = times(100)).await;
    world.paid_order_telling("A1", &inbox).await;
    inbox.until_heard(1).await;
    let world = world.restart(|_| ()).await;
    inbox.says(200);
    let told = world.until_notified("A1", "DELIVERED").await;
    let heard = inbox.heard();
    assert!(heard.len() >= 2, "{heard:?}");
    assert!(heard.iter().all(|heard| told["notifyId"] == heard.id.as_str()), "{heard:?}");
    assert!(heard.iter().all(|one| one.body == heard[0].body), "{heard:?}");
    world
}

pub async fn after_its_last_try_an_event_is_parked_and_can_be_sent_again(world: World) -> World {
    let inbox = Inbox::open().await;
    inbox.says(503);
    world.webhook_secret(&world.shop, "w1").await;
    let world = world
        .restart(|settings| {
            settings.scheduler.events_speed_up = times(60_000);
            settings.scheduler.endpoint_failures_to_pause = 1_000;
        })
        .await;
    for order_no in ["A1", "A2"] {
        world.paid_order_telling(order_no, &inbox).await;
    }
    let parked = world.until_notified("A1", "PARKED").await;
    assert_eq!((&parked["lastStatus"], &parked["lastTrouble"]), (&json!(503), &json!("STATUS")));
    assert_eq!(parked["nextTime"], Value::Null);
    world.until_notified("A2", "PARKED").await;

    // Another merchant finds neither the order nor the event, and sends nothing of ours.
    let (stranger, _, _) = world.another_shop("C2").await;
    let id = parked["notifyId"].as_str().unwrap();
    let resend = format!("/api/v1/notifications/{id}/resend");
    assert_eq!(stranger.post(&resend, &json!({})).await.0, StatusCode::NOT_FOUND);
    assert_eq!(stranger.get("/api/v1/orders/A1/notifications").await.0, StatusCode::NOT_FOUND);
    let span = json!({ "from": "2020-01-01T00:00:00+08:00", "to": "2100-01-01T00:00:00+08:00" });
    let (_, nothing) = stranger.post("/api/v1/notifications/resend", &span).await;
    assert_eq!(nothing["data"], json!({ "resent": 0, "more": false }));
    for nonsense in
        ["/api/v1/notifications/x/resend", "/api/v1/notifications/0198f3a4-0000-7000-8000-000000000001/resend"]
    {
        assert_eq!(world.shop.post(nonsense, &json!({})).await.0, StatusCode::NOT_FOUND, "{nonsense}");
    }

    inbox.says(200);
    let before = inbox.heard().len();
    assert_eq!(world.shop.post(&resend, &json!({})).await.0, StatusCode::OK);
    world.until_notified("A1", "DELIVERED").await;
    assert_eq!(inbox.until_heard(before + 1).await[before].id, id);
    assert_eq!(world.notifications("A2").await[0]["state"], "PARKED");
    let (_, resent) = world.shop.post("/api/v1/notifications/resend", &span).await;
    assert_eq!(resent["data"], json!({ "resent": 1, "more": false }));
    world.until_notified("A2", "DELIVERED").await;
    for wrong in [json!({}), json!({ "from": "x", "to": "y" }), json!({ "from": span["to"], "to": span["from"] })] {
        let (status, answer) = world.shop.post("/api/v1/notifications/resend", &wrong).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer:#}");
    }
    world
}

/// npm brings the library; `tests/run` sees to Node.
async fn the_standards_own_library_verifies(world: World) -> World {
    let inbox = Inbox::open().await;
    let secrets = [world.webhook_secret(&world.shop, "w1").await, world.webhook_secret(&world.shop, "w2").await];
    world.paid_order_telling("A1", &inbox).await;
    let heard = inbox.until_heard(1).await.remove(0);
    let run = tokio::task::spawn_blocking(move || {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("standardwebhooks");
        std::fs::create_dir_all(&folder).unwrap();
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/standardwebhooks");
        for file in ["package.json", "package-lock.json", "verify.mjs"] {
            std::fs::copy(sources.join(file), folder.join(file)).unwrap();
        }
        let ci = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"];
        let install = || Command::new("npm").args(ci).current_dir(&folder).stdout(Stdio::null()).output();
        // The registry may not answer at this moment.
        let mut installed = install().expect("npm is installed: run tests/run");
        for _ in 0..2 {
            if !installed.status.success() {
                installed = install().unwrap();
            }
        }
        assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
        let case = json!({
            "secrets": secrets,
            "heard": {
                "id": heard.id, "timestamp": heard.timestamp, "signature": heard.signature, "body": heard.body,
            },
        });
        std::fs::write(folder.join("case.json"), case.to_string()).unwrap();
        Command::new("node").args(["verify.mjs", "case.json"]).current_dir(&folder).output().unwrap()
    });
    let output = run.await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_merchants_are_told_verifies_by_the_standards_own_library() {
    World::run(On::Sqlite, Via::Embedded, the_standards_own_library_verifies).await;
}

/// Whoever was slow to begin would tell it beside, or after, somebody else's try of what comes next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_try_that_would_outlast_its_lease_is_not_made() {
    store::place::run(On::Sqlite, |place| async move {
        let (inbox, clock) = (Inbox::open().await, Clock::manual(store::shop::NOW));
        let vault = Arc::new(Vault::new(Some(&fresh_master_key()), Some(&fresh_master_key())).unwrap());
        let enroller = Enroller { store: &place.store, vault: &vault, clock: &clock };
        let merchant = enroller.merchant(&CustomerNo::parse("C1").unwrap(), "shop", None).await.unwrap();
        enroller.code_hash_key(&KeyId::parse("k1").unwrap()).await.unwrap();
        enroller.webhook_key(merchant, &KeyId::parse("w1").unwrap()).await.unwrap();
        let order = Order { merchant, notify_url: inbox.url.clone(), ..store::shop::order() };
        place.store.insert_order(&order).await.unwrap();
        store::shop::step(&place.store, &order, OrderEvent::Closed).await;

        let http = http::client(&HttpSettings::default()).unwrap();
        let registry =
            Registry::new(place.store.clone(), vault.clone(), http, clock.clone(), BudgetSettings::default());
        let steps =
            Steps { store: place.store.clone(), registry, clock: clock.clone(), settings: StepSettings::default() };
        let webhooks = WebhookSettings { allow_private: true, ..WebhookSettings::default() };
        let client = WebhookClient::new(&webhooks).unwrap();
        let deliverer = Deliverer::new(&steps, client, DeliverySettings::default());
        let event = deliverer.lease(10).await.unwrap().remove(0);
        clock.advance(Duration::from_secs(6));
        deliverer.deliver(event).await;
        let row = place.store.events_of_order(order.id).await.unwrap().remove(0);
        assert_eq!((inbox.heard().len(), row.tries, row.state), (0, 0, EventState::Pending));

        clock.advance(Duration::from_secs(5));
        let event = deliverer.lease(10).await.unwrap().remove(0);
        clock.advance(Duration::from_secs(4));
        deliverer.deliver(event).await;
        let heard = inbox.heard();
        assert_eq!((heard.len(), &heard[0].timestamp), (1, &clock.now().secs().to_string()));
    })
    .await;
}
