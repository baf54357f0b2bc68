//! Measures whole trips through separate processes, on real servers:
//!
//! ```sh
//! cargo build --release
//! tests/run --services-only -- cargo run --release --example measure -- target/release/prepay 2000 64
//! ```
//!
//! Two fronts, two workers and a scheduler on RabbitMQ and PostgreSQL; the simulated wallets and the phones are this process, on
//! the same machine. Each phone opens a fresh order by code, closed loop, and comes again when it is told 503. Arguments: the
//! binary, orders, phones at once, wallet latency in ms (default 20). Prints orders/s, latencies, CPU per order of each process,
//! statements and commits per order; then pays some, and prints how long it took until the merchant was told, with and
//! without the wallet's notifications.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a measurement that cannot go on says so")]

use std::{
    env,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use prepay::{
    clock::Clock,
    domain::{
        id::{AppId, CustomerNo, KeyId},
        wallet::Wallet,
    },
    enrol::{AccountParts, Enroller, MiniProgramParts},
    gateway::wechat::WechatPublicKeys,
    keys::{Vault, vault::fresh_master_key},
    store::{Store, StoreSettings},
};
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, Statement};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use simulator::{
    Options, Simulator,
    wechat::{MerchantOptions, WechatApp},
};

#[path = "../../tests/it/trip/shop.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
mod shop;

mod merchant;
mod phones;

use merchant::Inbox;
use shop::Shop;

/// Orders that are paid for each figure about the merchant's events.
const PAID: usize = 300;

/// One process of ours, stopped by its own id.
struct Role {
    name: &'static str,
    child: Child,
    operations: String,
}

impl Role {
    fn start(binary: &str, name: &'static str, listen: Option<&str>, common: &[(String, String)]) -> Self {
        let operations = free_addr();
        let mut command = Command::new(binary);
        command.arg(name).env_clear().envs(common.iter().cloned()).stdout(Stdio::null()).stderr(Stdio::null());
        command.env("PREPAY_OPERATIONS__LISTEN", &operations);
        if let Some(listen) = listen {
            command.env("PREPAY_FRONT__LISTEN", listen);
        }
        Self { name, child: command.spawn().unwrap(), operations }
    }

    /// User and system time so far, in milliseconds: fields 14 and 15 of `/proc/PID/stat`, 10 ms each.
    fn cpu_ms(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let after_name = stat.rsplit(')').next().unwrap();
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10
    }

    fn rss_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    }

    fn stop(self) {
        drop(self);
    }
}

/// Also when the measurement fails: nothing of it stays behind.
impl Drop for Role {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

fn free_addr() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[tokio::main]
async fn main() {
    let mut arguments = env::args().skip(1);
    let binary = arguments.next().expect("the prepay binary");
    let number = |text: Option<String>, default: usize| text.map_or(default, |text| text.parse().unwrap());
    let orders = number(arguments.next(), 2_000);
    let phones = number(arguments.next(), 64);
    let latency = Duration::from_millis(number(arguments.next(), 20) as u64);

    let server = env::var("PREPAY_TEST_POSTGRES_URL").expect("PREPAY_TEST_POSTGRES_URL");
    let name = format!("measure_{}", uuid::Uuid::now_v7().simple());
    let admin = Database::connect(&server).await.unwrap();
    admin.execute_unprepared(&format!("CREATE DATABASE {name}")).await.unwrap();
    let url = format!("{}/{name}", server.rsplit_once('/').unwrap().0);
    let watch = Database::connect(&url).await.unwrap();
    watch.execute_unprepared("CREATE EXTENSION pg_stat_statements").await.unwrap();

    let sim = Simulator::start(Options { latency, ..Options::default() }).await.unwrap();
    sim.wechat().set_switches(|switches| switches.prepays_per_second = None);
    let (front_key, back_key) = (fresh_master_key(), fresh_master_key());
    let (mut shop, app, mchid) = enrol(&url, &sim, &front_key, &back_key).await;

    let fronts = [free_addr(), free_addr()];
    shop.base_url = format!("http://{}", fronts[0]);
    let common: Vec<(String, String)> = [
        ("PREPAY_DATABASE__URL", url.clone()),
        ("PREPAY_BROKER__URL", env::var("PREPAY_TEST_AMQP_URL").expect("PREPAY_TEST_AMQP_URL")),
        ("PREPAY_BROKER__PREFIX", name.clone()),
        ("PREPAY_FRONT__PUBLIC_URL", shop.base_url.clone()),
        ("PREPAY_FRONT__ALLOW_PRIVATE_NOTIFY_URLS", "true".into()),
        ("PREPAY_FRONT__MERCHANT_PER_SECOND", "100000".into()),
        ("PREPAY_FRONT__MERCHANT_BURST", "100000".into()),
        ("PREPAY_FRONT__CALLS_PER_SECOND", "100000".into()),
        ("PREPAY_FRONT__CALLS_BURST", "100000".into()),
        ("PREPAY_KEYS__FRONT", front_key.expose_secret().to_owned()),
        ("PREPAY_KEYS__BACK", back_key.expose_secret().to_owned()),
        ("PREPAY_LOG__FILTER", "warn".into()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec();
    let began = Instant::now();
    let roles: Vec<Role> = vec![
        Role::start(&binary, "front", Some(&fronts[0]), &common),
        Role::start(&binary, "front", Some(&fronts[1]), &common),
        Role::start(&binary, "worker", None, &common),
        Role::start(&binary, "worker", None, &common),
        Role::start(&binary, "scheduler", None, &common),
    ];
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for role in &roles {
        let ready = format!("http://{}/readyz", role.operations);
        while !http.get(&ready).send().await.is_ok_and(|answer| answer.status().is_success()) {
            assert!(began.elapsed() < Duration::from_secs(30), "{} is not ready", role.name);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    println!("five processes ready after {} ms", began.elapsed().as_millis());
    for role in &roles {
        println!("  {:<10} idle {} MiB", role.name, role.rss_mib());
    }

    let inbox = Inbox::open().await;
    let links = phones::create_orders(&shop, &inbox.url, "M", orders, phones).await;
    watch.execute_unprepared("SELECT pg_stat_statements_reset()").await.unwrap();
    let commits = commits(&watch, &name).await;
    let cpu: Vec<u64> = roles.iter().map(Role::cpu_ms).collect();
    let began = Instant::now();
    let street = phones::Street { http: http.clone(), sim: sim.clone(), app, fronts };
    let opened = street.open_all(links, phones).await;
    let wall = began.elapsed();
    let mut took: Vec<Duration> = opened.iter().map(|opened| opened.took).collect();
    let shed: usize = opened.iter().map(|opened| opened.shed).sum();
    let cpu: Vec<u64> = roles.iter().zip(cpu).map(|(role, before)| role.cpu_ms() - before).collect();
    // The statistics are written a moment after the statements.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let statements = number_of(&watch, "SELECT COALESCE(SUM(calls),0)::bigint FROM pg_stat_statements").await;
    let commits = self::commits(&watch, &name).await - commits;

    took.sort_unstable();
    let at = |share: usize| took[(took.len() - 1) * share / 100].as_millis();
    println!("{orders} orders by code, {phones} phones at once, wallet latency {} ms", latency.as_millis());
    println!(
        "  {:.0} orders/s; answer p50 {} ms, p95 {} ms, p99 {} ms",
        orders as f64 / wall.as_secs_f64(),
        at(50),
        at(95),
        at(99)
    );
    println!("  {shed} times 503, and posted again");
    for (role, cpu) in roles.iter().zip(cpu) {
        println!("  {:<10} {:.2} ms CPU per order, {} MiB", role.name, cpu as f64 / orders as f64, role.rss_mib());
    }
    println!(
        "  {:.1} SQL statements, {:.1} transactions per order (scheduler's questions included)",
        statements as f64 / orders as f64,
        commits as f64 / orders as f64
    );
    let mut looked_up = 0;
    for role in &roles[..2] {
        let metrics =
            http.get(format!("http://{}/metrics", role.operations)).send().await.unwrap().text().await.unwrap();
        let line = metrics.lines().find(|line| line.starts_with("prepay_looked_up_total"));
        looked_up += line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
    }
    println!("  {looked_up} of {orders} answers came by the batched look");

    let paid: Vec<_> = opened.into_iter().take(PAID).collect();
    inbox.told_after("with the wallet's notifications", &street, &paid).await;
    let answered = street.answered(&mchid, &paid).await;
    let at = |share: usize| answered[(answered.len() - 1) * share / 100].as_micros();
    println!("  a notification is answered after p50 {} us, p99 {} us", at(50), at(99));
    sim.wechat().set_switches(|switches| switches.notices = false);
    let links = phones::create_orders(&shop, &inbox.url, "N", PAID, phones).await;
    let paid = street.open_all(links, 8).await;
    inbox.told_after("with every notification lost", &street, &paid).await;

    roles.into_iter().for_each(Role::stop);
    sim.shutdown().await;
    watch.close().await.unwrap();
    admin.execute_unprepared(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
}

async fn enrol(
    url: &str,
    sim: &Simulator,
    front_key: &SecretString,
    back_key: &SecretString,
) -> (Shop, WechatApp, String) {
    let store = Store::connect(&StoreSettings::at(url)).await.unwrap();
    store.migrate().await.unwrap();
    let vault = Vault::new(Some(front_key), Some(back_key)).unwrap();
    let clock = Clock::system();
    let enroller = Enroller { store: &store, vault: &vault, clock: &clock };
    let key_id = KeyId::parse("k1").unwrap();
    enroller.pay_info_key(&key_id, Duration::ZERO).await.unwrap();
    enroller.code_hash_key(&key_id).await.unwrap();
    let merchant = enroller.merchant(&CustomerNo::parse("C1").unwrap(), "测试商户", None).await.unwrap();
    let secret = enroller.hmac_key(merchant, &key_id).await.unwrap();
    enroller.webhook_key(merchant, &KeyId::parse("w1").unwrap()).await.unwrap();
    let theirs = sim.wechat().new_merchant(MerchantOptions::default()).unwrap();
    let app = sim.wechat().new_app(&theirs.mchid);
    let mut keys = WechatPublicKeys::default();
    keys.pin_public_key(&theirs.public_key_id, &theirs.public_key_pem).unwrap();
    let settings = json!({
        "mode": { "direct": { "mchid": theirs.mchid } },
        "serial_no": theirs.serial_no,
        "base_url": sim.base_url(),
    });
    let parts = AccountParts {
        merchant,
        wallet: Wallet::WechatPay,
        number: theirs.mchid.clone(),
        settings: settings.to_string(),
        public_keys: keys.to_json(),
        secrets: json!({ "private_key": theirs.private_key_pem, "apiv3_key": theirs.apiv3_key }).to_string().into(),
    };
    let account = enroller.account(parts).await.unwrap();
    let program = MiniProgramParts {
        account,
        app_id: AppId::parse(app.appid.clone()).unwrap(),
        original_id: None,
        path: "pages/pay/index".into(),
        query_template: None,
        env_version: None,
        secrets: Some(json!({ "app_secret": app.app_secret }).to_string().into()),
    };
    enroller.mini_program(program).await.unwrap();
    store.close().await;
    (Shop::new("C1", "k1", secret.expose_secret()), app, theirs.mchid)
}

async fn commits(watch: &DatabaseConnection, name: &str) -> i64 {
    number_of(watch, &format!("SELECT xact_commit FROM pg_stat_database WHERE datname = '{name}'")).await
}

async fn number_of(watch: &DatabaseConnection, sql: &str) -> i64 {
    let statement = Statement::from_string(watch.get_database_backend(), sql);
    watch.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap()
}
