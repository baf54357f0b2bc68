//! Secrets, codes, identities and signatures, looked for wherever they must not be.

mod desk;
mod keys;
mod phone;
mod servers;

use std::{collections::BTreeMap, fs, panic::resume_unwind};

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::{Method, StatusCode};
use sea_orm::{ConnectionTrait, DatabaseConnection, QueryResult, Statement};
use simulator::{Call, Fault, FaultKind, Reach, Wallet};

use self::{
    keys::{as_written, deployment_keys, older_keys, provided},
    phone::{Phone, Till},
    servers::{Road, Servers, Users},
};
use crate::{
    cli::deployment::{Deployment, field},
    store::place::{On, Place, run_empty},
    trip::{
        harness::{free_addr, until},
        inbox::Inbox,
    },
};

mod on_sqlite {
    mod on_embedded {
        use crate::{processes::canary, store::place::On};

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn no_secret_shows_in_logs_metrics_answers_or_the_database() {
            canary::watched(On::Sqlite, canary::Road::Embedded).await;
        }
    }
}

mod on_postgres {
    mod on_rabbitmq {
        use crate::{processes::canary, store::place::On};

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn no_secret_shows_in_logs_metrics_answers_or_the_database() {
            canary::watched(On::Postgres, canary::Road::Rabbitmq).await;
        }
    }
}

mod on_mariadb {
    mod on_embedded {
        use crate::{processes::canary, store::place::On};

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn no_secret_shows_in_logs_metrics_answers_or_the_database() {
            canary::watched(On::Mariadb, canary::Road::Embedded).await;
        }
    }
}

async fn watched(on: On, road: Road) {
    run_empty(on, |place| async move {
        let users = Users::of(&place, road).await;
        let ended = tokio::spawn(watch(place.clone(), users.servers.clone())).await;
        users.forget(&place).await;
        if let Err(failed) = ended {
            resume_unwind(failed.into_panic());
        }
    })
    .await;
}

async fn watch(place: Place, servers: Servers) {
    let mut at = Deployment::empty().await;
    let public = free_addr();
    for password in &servers.passwords {
        at.is_secret(password);
    }
    at.set("PREPAY_BROKER__URL", servers.broker_url);
    at.set("PREPAY_BROKER__PREFIX", servers.broker_prefix);
    at.set("PREPAY_DATABASE__URL", servers.database_url);
    at.set("PREPAY_FRONT__PUBLIC_URL", format!("http://{public}"));
    at.set("PREPAY_FRONT__ALLOW_PRIVATE_NOTIFY_URLS", "true");
    at.set_up().await;
    let mut enrolled = at.enrol().await;
    enrolled.shop.base_url = format!("http://{public}");
    older_keys(&mut at, &enrolled).await;
    let (mut second, program) = provided(&mut at).await;
    second.base_url.clone_from(&enrolled.shop.base_url);
    let webhook = at.ok(&["merchant", "key", "add", "C1", "--webhook"]).await;
    let webhook = field(&webhook, "secret").trim_start_matches("whsec_").to_owned();
    desk::refusals(&mut at).await;
    // As loud as it gets.
    let mut serve = at.start("serve", Some(public), &[("PREPAY_LOG__FILTER", "trace")]);
    serve.until_ready().await;

    let mut phone = Phone::at(public, &at.sim);
    let mut answers = String::new();
    let (wechat, alipay) = (&enrolled.wechat_app.appid, &enrolled.alipay_app.app_id);
    let tills = [
        Till { shop: &enrolled.shop, wallet: Wallet::Wechat, app_id: wechat, orders: "WECHAT" },
        Till { shop: &enrolled.shop, wallet: Wallet::Alipay, app_id: alipay, orders: "ALIPAY" },
        Till { shop: &second, wallet: Wallet::Alipay, app_id: &program.app_id, orders: "PROVIDED" },
    ];
    for till in &tills {
        let faults = [
            None,
            Some((Call::Exchange, FaultKind::CloseBefore)),
            Some((Call::Exchange, FaultKind::HtmlBefore)),
            Some((Call::Prepay, FaultKind::WrongSignature)),
            Some((Call::Prepay, FaultKind::TruncatedJson)),
            Some((Call::Prepay, FaultKind::LoseAnswer)),
            Some((Call::Query, FaultKind::UndecodableSignature)),
        ];
        for (n, fault) in faults.into_iter().enumerate() {
            let order = till.shop.new_order(&format!("{}{n}", till.orders)).await;
            if let Some((call, kind)) = fault {
                at.sim.faults().add(Fault::once(till.wallet, call, kind));
            }
            let [answer, again] = phone.tap(till, &order).await;
            assert!(n > 0 || answer["code"] == "200", "{answer:#}");
            answers += &format!("{answer}{again}");
        }
    }
    // Nobody answers: what libraries say of a connection names an address with everything in it.
    at.sim.set_main_reach(Reach::Refused);
    at.sim.set_backup_reach(Reach::Refused);
    for till in &tills {
        let order = till.shop.new_order(&format!("{}AWAY", till.orders)).await;
        answers += &phone.tap(till, &order).await[0].to_string();
    }
    at.sim.set_main_reach(Reach::Up);
    at.sim.set_backup_reach(Reach::Up);
    // A merchant's signature, right and wrong.
    let mut call = enrolled.shop.call(Method::GET, "/api/v1/orders/WECHAT0", b"");
    phone.heard.push(call.headers[4].1.clone());
    assert_eq!(enrolled.shop.send(call.clone()).await.0, StatusCode::OK);
    call.headers[3].1.push('x');
    let (status, refused) = enrolled.shop.send(call).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    answers += &refused.to_string();
    for till in &tills {
        let first = format!("{}0", till.orders);
        until("a payment was heard of", || async { till.shop.order(&first).await["payStatus"] == "SUCCESS" }).await;
    }
    let inbox = Inbox::open().await;
    answers += &desk::merchant_and_events(&at, &tills[0], &mut phone, &inbox).await;
    phone.heard.extend(inbox.heard().into_iter().map(|event| event.signature));
    desk::a_parked_notice(&at, &enrolled, &place, &tills[0], &mut phone).await;
    desk::bills(&at, &enrolled).await;

    let metrics = serve.metrics().await;
    assert_eq!(serve.terminate().await, 0);
    let logged = serve.logged();
    for loud in ["TRACE", "hyper", "a code was not exchanged"] {
        assert!(logged.contains(loud), "{loud} is missing in {}", logged.chars().take(2_000).collect::<String>());
    }
    let database = dumped(&place).await;
    assert!(database.contains("WECHAT0"), "the database is read where it is");
    let printed = at.printed();
    let mut keys = deployment_keys(&place, &at).await;
    keys.extend(at.secrets().iter().cloned());
    for bytes in [&enrolled.shop.secret, &second.secret, &STANDARD.decode(&webhook).unwrap()] {
        keys.extend(as_written(bytes));
    }
    for (place, text) in [("log", &logged), ("metrics", &metrics), ("answers", &answers), ("database", &database)] {
        for secret in &keys {
            assert!(!text.contains(secret.as_str()), "a key is in the {place}: {}", around(text, secret));
            // As a dump writes bytes.
            assert!(!text.contains(&hex(secret)), "a key is in the {place} as bytes");
        }
    }
    at.assert_no_secret_printed();
    for (place, text) in [("log", &logged), ("metrics", &metrics), ("commands", &printed)] {
        for told in phone.heard.iter().chain(&phone.payers) {
            assert!(!text.contains(told.as_str()), "it is in the {place}: {}", around(text, told));
        }
    }
    let codes = phone.heard.iter().filter(|told| !told.contains('='));
    assert!(!codes.clone().any(|code| database.contains(code.as_str())), "a code is in the database");
    at.stop().await;
}

/// The line in which something was found.
fn around<'a>(text: &'a str, found: &str) -> &'a str {
    let at = text.find(found).unwrap();
    let from = text[..at].rfind('\n').map_or(0, |from| from + 1);
    text[from..].lines().next().unwrap_or_default()
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// Every value of every table, as text. SQLite's whole file, with what was deleted from it.
async fn dumped(place: &Place) -> String {
    if place.on == On::Sqlite {
        let file = place.url.trim_start_matches("sqlite://");
        let bytes = ["", "-wal"].map(|end| fs::read(format!("{file}{end}")).unwrap_or_default()).concat();
        return String::from_utf8_lossy(&bytes).into_owned();
    }
    let db = place.raw().await;
    let schema = if place.on == On::Postgres { "current_schema()" } else { "DATABASE()" };
    let columns = format!(
        "SELECT CAST(table_name AS CHAR(64)), CAST(column_name AS CHAR(64)) FROM information_schema.columns \
         WHERE table_schema = {schema} ORDER BY 1, 2"
    );
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in look(&db, columns).await {
        let text = |at| row.try_get_by_index::<String>(at).unwrap().trim_end().to_owned();
        tables.entry(text(0)).or_default().push(text(1));
    }
    assert!(tables.contains_key("orders") && tables.len() > 15, "{:?}", tables.keys());
    let mut dump = String::new();
    for (table, columns) in tables {
        let line = if place.on == On::Postgres {
            format!("SELECT convert_to(whole::text, 'UTF8') FROM \"{table}\" AS whole")
        } else {
            let values = columns.iter().map(|column| format!("COALESCE(CAST(`{column}` AS BINARY), '')"));
            format!("SELECT CONCAT_WS('|', {}) FROM `{table}`", values.collect::<Vec<_>>().join(", "))
        };
        for row in look(&db, line).await {
            dump += &String::from_utf8_lossy(&row.try_get_by_index::<Vec<u8>>(0).unwrap());
            dump.push('\n');
        }
    }
    db.close().await.unwrap();
    dump
}

async fn look(db: &DatabaseConnection, sql: String) -> Vec<QueryResult> {
    db.query_all_raw(Statement::from_string(db.get_database_backend(), sql)).await.unwrap()
}
