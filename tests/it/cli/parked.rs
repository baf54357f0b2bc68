//! Notifications that were set aside, applied once their reason is gone.

use std::time::Duration;

use serde_json::{Value, json};
use simulator::wechat::Press;

use crate::{
    cli::deployment::{Deployment, Enrolled, Process},
    processes::phones::until_parameters,
    store::place::Place,
    trip::{
        harness::{free_addr, until},
        shop::pay_info,
    },
};

const TABLES: [&str; 2] = ["orders", "attempts"];

/// One process in all roles on RabbitMQ.
struct Serving {
    at: Deployment,
    enrolled: Enrolled,
    serve: Process,
    prefix: String,
    public: std::net::SocketAddr,
}

impl Serving {
    async fn start(place: &Place) -> Self {
        let mut at = Deployment::empty().await;
        let (public, prefix) = (free_addr(), format!("parked-{}", uuid::Uuid::now_v7().simple()));
        at.set("PREPAY_DATABASE__URL", &place.url);
        at.set("PREPAY_BROKER__URL", crate::queue::rabbit::setting("PREPAY_TEST_AMQP_URL"));
        at.set("PREPAY_BROKER__PREFIX", &prefix);
        at.set("PREPAY_FRONT__PUBLIC_URL", format!("http://{public}"));
        at.set("PREPAY_FRONT__ALLOW_PRIVATE_NOTIFY_URLS", "true");
        // A busy broker is waited for nearly as long as the wallet waits for us.
        at.set("PREPAY_FRONT__PUBLISH_TIMEOUT_MS", "4500");
        // Nobody asks: what is paid here was told.
        at.set("PREPAY_SCHEDULER__LOOK_EVERY_MS", "60000");
        at.set_up().await;
        let mut enrolled = at.enrol().await;
        enrolled.shop.base_url = format!("http://{public}");
        at.sim.wechat().set_switches(|switches| switches.notices = false);
        let mut serve = at.start("serve", Some(public), &[]);
        serve.until_ready().await;
        Self { at, enrolled, serve, prefix, public }
    }

    /// An order that was paid at the wallet, and nobody was told. Its payer.
    async fn paid_unheard(&self, order_no: &str) -> (Value, String) {
        let order = self.enrolled.shop.new_order(order_no).await;
        let appid = &self.enrolled.wechat_app.appid;
        let openid = self.at.sim.wechat().new_openid(appid);
        let code = self.at.sim.wechat().new_code(appid, &openid);
        let phone = reqwest::Client::builder().no_proxy().build().unwrap();
        let data = until_parameters(&phone, &[self.public], &pay_info(&order, "WECHAT"), &code).await;
        self.at.sim.wechat().request_payment(&data, &openid, Press::Pay).unwrap();
        (order, openid)
    }

    /// The wallet tells now, and is told "received".
    async fn notify(&self, order: &Value) {
        let number = format!("{}01", serial(order));
        let told = self.at.sim.wechat().notify_now(&self.enrolled.wechat.mchid, &number, &[]).await.unwrap();
        assert_eq!(told.status, 200, "{}", String::from_utf8_lossy(&told.body));
    }

    async fn stop(mut self) {
        assert_eq!(self.serve.terminate().await, 0, "{}", self.serve.logged());
        crate::processes::delete_queues(&self.prefix).await;
        self.at.assert_no_secret_printed();
        self.at.stop().await;
    }
}

fn serial(order: &Value) -> &str {
    order["serialNo"].as_str().unwrap()
}

/// As after a restore from a backup: the rows of an order are not there, and the wallet tells of its payment.
pub async fn take_away(place: &Place, order: &Value) {
    for (table, id) in TABLES.into_iter().zip(["id", "order_id"]) {
        let serial = serial(order);
        place.sql(&format!("CREATE TABLE aside_{table} AS SELECT * FROM {table} WHERE {id} = '{serial}'")).await;
        place.sql(&format!("DELETE FROM {table} WHERE {id} = '{serial}'")).await;
    }
}

async fn bring_back(place: &Place) {
    for table in TABLES {
        place.sql(&format!("INSERT INTO {table} SELECT * FROM aside_{table}")).await;
    }
}

async fn parked_ids(place: &Place) -> Vec<String> {
    place.store.list_parked(100).await.unwrap().into_iter().map(|row| row.id).collect()
}

async fn a_notice_is_applied_once_its_reason_is_gone(place: Place) {
    let world = Serving::start(&place).await;
    let (order, openid) = world.paid_unheard("A1").await;
    take_away(&place, &order).await;
    world.notify(&order).await;
    until("the notice is set aside", || async { parked_ids(&place).await.len() == 1 }).await;
    let first = parked_ids(&place).await.remove(0);

    let listed = world.at.ok(&["parked", "list"]).await;
    assert!(listed.contains(&first) && listed.contains("no order has the number"), "{listed}");
    let shown = world.at.ok(&["parked", "show", &first]).await;
    assert!(shown.contains("kind: notice") && shown.contains(&format!("parked apply {first}")), "{shown}");

    // Its reason stands: it comes back, under a new name.
    world.at.ok(&["parked", "apply", &first]).await;
    until("it is set aside again", || async {
        let ids = parked_ids(&place).await;
        ids.len() == 1 && ids[0] != first
    })
    .await;
    assert!(world.at.fails(&["parked", "apply", &first]).await.contains("there is no parked message"));

    bring_back(&place).await;
    let none = world.at.ok(&["parked", "apply", "--reason", "no such reason"]).await;
    assert!(none.contains("0 notifications"), "{none}");
    // One that nobody can open stands before it by name, and does not stop it.
    let row = place.store.list_parked(1).await.unwrap().remove(0);
    let sealed = prepay::keys::Sealed::from_text("s1.gone.AAAA");
    let torn = prepay::store::Parked { id: "0-torn".into(), body_sealed: Some(sealed), ..row };
    place.store.park(&torn, torn.received_at).await.unwrap();
    let told = world.at.fails(&["parked", "apply", "--reason", "no order has the number"]).await;
    assert!(told.contains("1 messages stay parked"), "{told}");
    assert!(place.store.unpark("0-torn").await.unwrap(), "it is still there");
    until("the order is paid", || async { world.enrolled.shop.order("A1").await["payStatus"] == "SUCCESS" }).await;
    assert_eq!(parked_ids(&place).await, Vec::<String>::new());
    assert!(!world.at.printed().contains(&openid), "the payer stays masked");
    world.stop().await;
}

/// A broker that does not confirm leaves the row where it is; sent twice, it is applied once.
async fn a_notice_that_is_sent_twice_is_applied_once(place: Place) {
    let mut world = Serving::start(&place).await;
    let (order, _) = world.paid_unheard("A1").await;
    take_away(&place, &order).await;
    world.notify(&order).await;
    until("the notice is set aside", || async { parked_ids(&place).await.len() == 1 }).await;
    let row = place.store.list_parked(1).await.unwrap().remove(0);

    let broker = world.at.variables["PREPAY_BROKER__URL"].clone();
    world.at.set("PREPAY_BROKER__URL", "amqp://127.0.0.1:1/%2f");
    assert!(world.at.fails(&["parked", "apply", &row.id]).await.contains("prepay doctor"));
    assert_eq!(parked_ids(&place).await, std::slice::from_ref(&row.id));
    world.at.set("PREPAY_BROKER__URL", broker);

    bring_back(&place).await;
    for _ in 0..2 {
        // As if the process had died between the confirm and the row.
        place.store.park(&row, row.received_at).await.unwrap();
        world.at.ok(&["parked", "apply", &row.id]).await;
    }
    until("the order is paid", || async { world.enrolled.shop.order("A1").await["payStatus"] == "SUCCESS" }).await;
    until("both were worked off", || async {
        world.at.ok(&["queue", "depth"]).await.lines().all(|line| !line.contains(" 2 "))
    })
    .await;
    let order = world.enrolled.shop.order("A1").await;
    assert_eq!(order["anomalies"], json!([]));
    assert_eq!(parked_ids(&place).await, Vec::<String>::new());
    world.stop().await;
}

mod on_postgres {
    mod on_rabbitmq {
        use crate::store::place::{On, run};

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_notice_is_applied_once_its_reason_is_gone() {
            run(On::Postgres, super::super::a_notice_is_applied_once_its_reason_is_gone).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_notice_that_is_sent_twice_is_applied_once() {
            run(On::Postgres, super::super::a_notice_that_is_sent_twice_is_applied_once).await;
        }
    }
}

mod on_mariadb {
    mod on_rabbitmq {
        use crate::store::place::{On, run};

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_notice_is_applied_once_its_reason_is_gone() {
            run(On::Mariadb, super::super::a_notice_is_applied_once_its_reason_is_gone).await;
        }
    }
}

mod on_sqlite {
    use prepay::{domain::time::Timestamp, keys::Sealed, store::Parked};

    use super::*;
    use crate::store::place::{On, run};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_cannot_be_applied_is_one_line() {
        run(On::Sqlite, |place| async move {
            let mut at = Deployment::empty().await;
            at.set("PREPAY_DATABASE__URL", &place.url);
            at.set("PREPAY_BROKER__URL", "amqp://127.0.0.1:1/%2f");
            at.set_up().await;
            let at_once = Duration::from_secs(1);
            for (id, kind, sealed) in [
                ("cmd", Some("prepay"), true),
                ("rubbish", None, true),
                ("old", Some("notice"), false),
                ("new", Some("notice"), true),
            ] {
                let row = Parked {
                    id: id.into(),
                    queue: "prepay.orders".into(),
                    kind: kind.map(str::to_owned),
                    order: None,
                    reason: "a reason".into(),
                    body_masked: r#"{"bytes":3}"#.into(),
                    body_sealed: sealed.then(|| Sealed::from_text("s1.k.x")),
                    received_at: Timestamp::from_ms(0).plus(at_once),
                };
                assert!(place.store.park(&row, Timestamp::from_secs(2)).await.unwrap());
            }
            for (id, says) in [
                ("cmd", "it is an order command"),
                ("rubbish", "no message of ours"),
                ("old", "its body was not kept"),
                ("none", "there is no parked message none"),
            ] {
                // One that could go does not go before the one that cannot was named.
                assert!(at.fails(&["parked", "apply", "new", id]).await.contains(says), "{id}");
            }
            assert!(
                at.ok(&["parked", "show", "cmd"]).await.contains("cannot be applied again: it is an order command")
            );
            assert_eq!(at.run(&["parked", "apply"]).await.code, 2, "one or a reason, but not everything by accident");
            assert_eq!(at.run(&["parked", "apply", "new", "--reason", "x"]).await.code, 2);
            assert_eq!(at.run(&["parked", "apply", "--reason", ""]).await.code, 2);
            at.set("PREPAY_BROKER__URL", "embedded");
            assert!(at.fails(&["parked", "apply", "new"]).await.contains("its queues live inside `serve`"));
            assert_eq!(parked_ids(&place).await.len(), 4);
            at.stop().await;
        })
        .await;
    }
}
