//! Two fronts, two workers and a scheduler on one database and one RabbitMQ.

use std::{net::SocketAddr, time::Duration};

use simulator::Simulator;

use crate::{
    cli::deployment::{Deployment, Enrolled, Process, field},
    store::place::Place,
    trip::{
        harness::{free_addr, until},
        shop::Shop,
        watched::Scraped,
    },
};

pub struct Fleet {
    pub at: Deployment,
    pub enrolled: Enrolled,
    pub fronts: [SocketAddr; 2],
    /// Fronts, workers, scheduler, in this order.
    pub processes: Vec<Process>,
    prefix: String,
}

impl Fleet {
    pub const FRONTS: [usize; 2] = [0, 1];
    pub const WORKERS: [usize; 2] = [2, 3];
    pub const SCHEDULER: usize = 4;

    pub async fn start(place: &Place) -> Self {
        Self::start_with(place, &[]).await
    }

    /// With further settings.
    pub async fn start_with(place: &Place, more: &[(&str, &str)]) -> Self {
        let mut at = Deployment::empty().await;
        let fronts = [free_addr(), free_addr()];
        let prefix = format!("fleet-{}", uuid::Uuid::now_v7().simple());
        at.set("PREPAY_DATABASE__URL", &place.url);
        at.set("PREPAY_DATABASE__MAX_CONNECTIONS", "6");
        at.set("PREPAY_DATABASE__ACQUIRE_TIMEOUT_MS", "10000");
        at.set(
            "PREPAY_BROKER__URL",
            std::env::var("PREPAY_TEST_AMQP_URL").expect("PREPAY_TEST_AMQP_URL: run tests/run"),
        );
        at.set("PREPAY_BROKER__PREFIX", &prefix);
        at.set("PREPAY_FRONT__PUBLIC_URL", format!("http://{}", fronts[0]));
        at.set("PREPAY_FRONT__ALLOW_PRIVATE_NOTIFY_URLS", "true");
        for (variable, value) in more {
            at.set(variable, *value);
        }
        at.set_up().await;
        let mut enrolled = at.enrol().await;
        enrolled.shop.base_url = format!("http://{}", fronts[0]);
        let mut fleet = Self { at, enrolled, fronts, processes: Vec::new(), prefix };
        for number in 0..5 {
            let process = fleet.spawn(number);
            fleet.processes.push(process);
        }
        for process in &mut fleet.processes {
            process.until_ready().await;
        }
        fleet
    }

    fn spawn(&self, number: usize) -> Process {
        match number {
            0 | 1 => self.at.start("front", Some(self.fronts[number]), &[]),
            2 | 3 => self.at.start("worker", None, &[]),
            _ => self.at.start("scheduler", None, &[]),
        }
    }

    /// Asks a process to leave, waits until it has, and starts its successor.
    pub async fn replace(&mut self, number: usize) {
        let code = self.processes[number].terminate().await;
        assert_eq!(code, 0, "{}", self.processes[number].logged());
        self.processes[number] = self.spawn(number);
        self.processes[number].until_ready().await;
    }

    /// A front that takes a fresh merchant's key has read the accounts after everything that was changed before it.
    pub async fn fronts_have_read(&self, customer_no: &str) {
        self.at.ok(&["merchant", "add", customer_no, "--name", "测试商户"]).await;
        let key = self.at.ok(&["merchant", "key", "add", customer_no, "--hmac"]).await;
        let mut shop = Shop::new(customer_no, &field(&key, "key id"), &field(&key, "secret"));
        for front in self.fronts {
            shop.base_url = format!("http://{front}");
            until("a front knows the new merchant", || async { shop.get("/api/v1/orders/none").await.0 == 404 }).await;
        }
    }

    /// Notices came, and the fronts of now refused none for its key or signature. Orders would become paid all the same:
    /// the scheduler asks. A front that is replaced takes its counts along, so whoever replaces one looks before.
    pub async fn assert_no_notice_was_refused(&self) {
        let mut kept = 0.0;
        for number in Self::FRONTS {
            let scraped = Scraped::of(&self.processes[number].metrics_url()).await;
            let of = |verdict: &str| scraped.sum("prepay_notices_total", &[("verdict", verdict)]);
            assert_eq!((of("forged"), of("unknown_key")), (0.0, 0.0), "{}", self.processes[number].logged());
            kept += of("kept");
        }
        assert!(kept >= 1.0, "no notice came");
    }

    pub fn sim(&self) -> &Simulator {
        &self.at.sim
    }

    /// A fresh code of a fresh payer in the WeChat mini-program.
    pub fn code(&self) -> String {
        let appid = &self.enrolled.wechat_app.appid;
        let openid = self.sim().wechat().new_openid(appid);
        self.sim().wechat().new_code(appid, &openid)
    }

    pub async fn stop(mut self) {
        for process in &mut self.processes {
            assert_eq!(process.terminate().await, 0, "{}", process.logged());
        }
        delete_queues(&self.prefix).await;
        self.at.stop().await;
    }
}

pub async fn delete_queues(prefix: &str) {
    let Ok(admin) = std::env::var("PREPAY_TEST_AMQP_ADMIN_URL") else { return };
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build().unwrap();
    for queue in ["orders", "notifications", "parked"] {
        let _ = client.delete(format!("{admin}/api/queues/%2f/{prefix}.{queue}")).send().await;
    }
}

/// How many numbers each order had at the wallet that could be paid, by order.
pub fn payable_by_order(sim: &Simulator) -> std::collections::BTreeMap<String, usize> {
    let mut orders = std::collections::BTreeMap::new();
    for number in sim.ledger().payable_numbers("") {
        // out_trade_no is the order's id and two digits of the attempt.
        *orders.entry(number[..26].to_owned()).or_default() += 1;
    }
    orders
}
