//! Measures the matching of a day of a million rows per wallet, on SQLite:
//!
//! ```sh
//! cargo run --release --example million_rows            # or: … -- 200000 for fewer rows, … -- 1000000 99 for rows all known
//! ```
//!
//! The simulated wallets make the bills up and are a process of their own, so that the memory told is ours alone: the peak of the
//! resident set (`VmHWM`), before and after. One row of a hundred (or as many as the second argument says) is a payment that
//! is known here, and agrees; the others have numbers of our form that nobody knows, so every row is looked up. One of a hundred
//! is a refund.
//!
//! Seen on two cores that were busy with other things, an unoptimised build: a peak of 45 MB and 10,465 rows/s for WeChat Pay's
//! bill, then 49 MB and 5,929 rows/s for Alipay's.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a measurement that cannot go on says so")]

use std::{
    env, fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Instant,
};

use prepay::{
    clock::Clock,
    domain::{bill::BillDate, id::CustomerNo, time::Timestamp, wallet::Wallet},
    enrol::{AccountParts, Enroller},
    gateway::{
        http::{self, HttpSettings},
        wechat::WechatPublicKeys,
    },
    keys::{Vault, vault::fresh_master_key},
    steps::{
        Registry, StepSettings, Steps,
        budget::BudgetSettings,
        reconcile::{BillProgress, Reconciled},
    },
    store::{
        Store, StoreSettings,
        entity::{attempts, orders},
    },
};
use sea_orm::{ActiveValue::Set, Database, EntityTrait};
use serde_json::{Value, json};
use simulator::{Bills, Options, Simulator, SyntheticBill, alipay::AppOptions, wechat::MerchantOptions};

/// With the twelve digits of a row's place it is 28 characters: an order's id and its first attempt.
const PREFIX: &str = "0123456789abcd";
const SUFFIX: &str = "01";
const DAY: &str = "2026-03-01";
const HUNDRED: u64 = 100;

fn bill(rows: u64) -> SyntheticBill {
    SyntheticBill { prefix: PREFIX.to_owned(), suffix: SUFFIX.to_owned(), rows, refund_every: HUNDRED }
}

/// The wallets: what has to be enrolled goes to stdout as one line; then they serve until their stdin ends.
async fn wallets(rows: u64) {
    let sim = Simulator::start(Options::default()).await.unwrap();
    let merchant = sim.wechat().new_merchant(MerchantOptions::default()).unwrap();
    let app = sim.alipay().new_app(AppOptions::default());
    sim.wechat().set_switches(|switches| switches.bills = Bills::Ready);
    sim.alipay().set_switches(|switches| switches.bills = Bills::Ready);
    assert!(sim.wechat().set_synthetic_bill(&merchant.mchid, DAY, bill(rows)));
    assert!(sim.alipay().set_synthetic_bill(&app.seller_id, DAY, bill(rows)));
    let mut keys = WechatPublicKeys::default();
    keys.pin_public_key(&merchant.public_key_id, &merchant.public_key_pem).unwrap();
    let wechat = json!({
        "number": merchant.mchid,
        "settings": json!({
            "mode": { "direct": { "mchid": merchant.mchid } },
            "serial_no": merchant.serial_no,
            "base_url": sim.base_url(),
            "backup_url": sim.backup_url(),
        }).to_string(),
        "public_keys": keys.to_json(),
        "secrets": json!({ "private_key": merchant.private_key_pem, "apiv3_key": merchant.apiv3_key }).to_string(),
    });
    let alipay = json!({
        "number": app.app_id,
        "settings": json!({
            "app_id": app.app_id,
            "seller_id": app.seller_id,
            "gateway_url": format!("{}/gateway.do", sim.base_url()),
        }).to_string(),
        "public_keys": json!({ "alipay_public_key": app.alipay_public_key }).to_string(),
        "secrets": json!({ "private_key": app.app_private_key_pem }).to_string(),
    });
    println!("{}", json!([wechat, alipay]));
    tokio::task::spawn_blocking(|| std::io::stdin().lines().count()).await.unwrap();
}

/// Killed when this is dropped.
struct Theirs(Child);

impl Drop for Theirs {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Dots;

impl BillProgress for Dots {
    fn reading(&self, lines: u64) {
        println!("  fetched, {lines} lines; peak so far {} MB", peak_mb());
    }

    fn looking(&self) {
        println!("  compared; peak so far {} MB", peak_mb());
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("wallets") => runtime.block_on(wallets(arguments[1].parse().unwrap())),
        rows => {
            let rows = rows.map_or(1_000_000, |rows| rows.parse().unwrap());
            let known = arguments.get(1).map_or(1, |of_hundred| of_hundred.parse().unwrap());
            runtime.block_on(measure(rows, known));
        }
    }
}

async fn measure(rows: u64, known_of_hundred: u64) {
    let mut child = Command::new(env::current_exe().unwrap());
    child.arg("wallets").arg(rows.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut theirs = Theirs(child.spawn().unwrap());
    let mut told = String::new();
    BufReader::new(theirs.0.stdout.take().unwrap()).read_line(&mut told).unwrap();
    let told: Value = serde_json::from_str(&told).unwrap();

    let folder = tempfile::TempDir::new().unwrap();
    let url = format!("sqlite://{}/bills.db", folder.path().display());
    let store = Store::connect(&StoreSettings::at(&url)).await.unwrap();
    store.migrate().await.unwrap();
    let (clock, vault) =
        (Clock::system(), Arc::new(Vault::new(Some(&fresh_master_key()), Some(&fresh_master_key())).unwrap()));
    let enroller = Enroller { store: &store, vault: &vault, clock: &clock };
    let merchant = enroller.merchant(&CustomerNo::parse("C1").unwrap(), "测量", None).await.unwrap();
    let date = BillDate::parse(DAY).unwrap();
    let mut accounts = Vec::new();
    for (wallet, told) in Wallet::ALL.into_iter().zip(told.as_array().unwrap()) {
        let text = |name: &str| told[name].as_str().unwrap().to_owned();
        let parts = AccountParts {
            merchant,
            wallet,
            number: text("number"),
            settings: text("settings"),
            public_keys: text("public_keys"),
            secrets: text("secrets").into(),
        };
        accounts.push((wallet, enroller.account(parts).await.unwrap()));
    }
    let http = http::client(&HttpSettings::default()).unwrap();
    let registry = Registry::new(store.clone(), vault, http, clock.clone(), BudgetSettings::default());
    registry.reload().await.unwrap();
    let settings = StepSettings { bills_dir: folder.path().to_owned(), ..StepSettings::default() };
    let steps = Steps { store: store.clone(), registry, clock, settings };

    for (wallet, account) in accounts {
        let known = know(&url, rows, known_of_hundred, i64::from(account.0), wallet, date).await;
        println!("{wallet}: {rows} rows, {known} of them known here; resident {} MB before", resident_mb());
        let began = Instant::now();
        let came = steps.reconcile(account, date, &Dots).await.unwrap();
        let took = began.elapsed();
        let Reconciled::Done(run) = came else { panic!("{came:?}") };
        println!("  {}: {:?}", run.state.as_str(), run.totals);
        println!("  {took:.1?} in all, {} rows/s; peak {} MB", u128::from(rows) * 1000 / took.as_millis(), peak_mb());
        // The same numbers are the other wallet's next.
        forget(&url).await;
    }
    store.close().await;
}

/// Writes the payments of so many rows of each hundred as if they had been heard of. Answers how many.
async fn know(url: &str, rows: u64, of_hundred: u64, account: i64, wallet: Wallet, date: BillDate) -> u64 {
    let db = Database::connect(url).await.unwrap();
    let row = |k: &u64| bill(rows).row(*k, date.begin().ms());
    let known: Vec<u64> = (0..rows).filter(|k| k % HUNDRED < of_hundred && row(k).out_refund_no.is_empty()).collect();
    for page in known.chunks(500) {
        let made = page.iter().map(|k| orders::ActiveModel {
            id: Set(row(k).out_trade_no[..26].to_owned()),
            merchant_id: Set(1),
            order_no: Set(format!("{}-{k}", wallet.as_str())),
            fingerprint: Set(vec![0; 32]),
            amount_fen: Set(row(k).amount_fen),
            good_name: Set("测量".to_owned()),
            good_no: Set(None),
            attach: Set(None),
            notify_url: Set("https://shop.example.com/notify".to_owned()),
            wechat_mini_program_id: Set(None),
            alipay_mini_program_id: Set(None),
            created_at: Set(date.begin().ms()),
            expire_at: Set(date.end().ms()),
            link_generation: Set(0),
            link_key_id: Set("k1".to_owned()),
            state: Set("paid".to_owned()),
            paid_by: Set(Some(1)),
            closed_at: Set(None),
            version: Set(1),
            lease_command_id: Set(None),
            lease_until: Set(None),
            asked_at: Set(None),
            close_wanted_at: Set(None),
        });
        orders::Entity::insert_many(made).exec_without_returning(&db).await.unwrap();
        let paid = page.iter().map(|k| attempts::ActiveModel {
            order_id: Set(row(k).out_trade_no[..26].to_owned()),
            no: Set(1),
            wallet: Set(wallet.as_str().to_owned()),
            account_id: Set(account),
            mini_program_id: Set(1),
            app_id: Set("wx0000000000000000".to_owned()),
            payer_kind: Set("openid".to_owned()),
            payer_id: Set("o000000000000000000000000000".to_owned()),
            frozen_body: Set("{}".to_owned()),
            frozen_notify_url: Set(String::new()),
            state: Set("paid".to_owned()),
            trade_no: Set(Some(row(k).trade_no)),
            paid_at: Set(Some(Timestamp::from_ms(row(k).at_ms).ms())),
            started_at: Set(date.begin().ms()),
            sends: Set(1),
            refusals: Set(0),
            queries: Set(0),
            refund_reserved_fen: Set(0),
            refunded_fen: Set(0),
            refund_count: Set(0),
            ..Default::default()
        });
        attempts::Entity::insert_many(paid).exec_without_returning(&db).await.unwrap();
    }
    db.close().await.unwrap();
    known.len() as u64
}

async fn forget(url: &str) {
    let db = Database::connect(url).await.unwrap();
    attempts::Entity::delete_many().exec(&db).await.unwrap();
    orders::Entity::delete_many().exec(&db).await.unwrap();
    db.close().await.unwrap();
}

fn peak_mb() -> u64 {
    from_status("VmHWM:")
}

fn resident_mb() -> u64 {
    from_status("VmRSS:")
}

fn from_status(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}
