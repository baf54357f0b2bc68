//! Secrets, codes, identities and signatures, looked for wherever they must not be.

use std::{collections::BTreeMap, fs, net::SocketAddr};

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::{Method, StatusCode};
use sea_orm::{ConnectionTrait, DatabaseConnection, QueryResult, Statement};
use serde_json::{Value, json};
use simulator::{Call, Fault, FaultKind, Reach, Wallet};

use super::canary_secrets::{DatabaseUser, deployment_keys, merchants_and_people, more_secrets};
use crate::{
    cli::deployment::{Deployment, Enrolled, field},
    store::place::{On, Place, run_empty},
    trip::{
        harness::{free_addr, until},
        shop::pay_info,
    },
};

const WALLETS: [(Wallet, &str); 2] = [(Wallet::Wechat, "WECHAT"), (Wallet::Alipay, "ALIPAY")];

/// A phone, its payers, and everything of theirs that nobody may read in a log.
struct Phone<'a> {
    at: &'a Deployment,
    enrolled: &'a Enrolled,
    front: SocketAddr,
    client: reqwest::Client,
    heard: Vec<String>,
    payers: Vec<String>,
}

impl Phone<'_> {
    fn code(&mut self, wallet: Wallet) -> (String, String) {
        let sim = &self.at.sim;
        let (user, named, code) = match wallet {
            Wallet::Wechat => {
                let appid = &self.enrolled.wechat_app.appid;
                let openid = sim.wechat().new_openid(appid);
                let code = sim.wechat().new_code(appid, &openid);
                (openid.clone(), openid, code)
            }
            Wallet::Alipay => {
                let app_id = &self.enrolled.alipay_app.app_id;
                let user = sim.alipay().new_user().user_id;
                let open_id = sim.alipay().open_id(app_id, &user).unwrap();
                let code = sim.alipay().new_auth_code(app_id, &user).unwrap();
                (user, open_id, code)
            }
        };
        self.heard.push(code.clone());
        self.payers.extend([user.clone(), named]);
        (user, code)
    }

    async fn post(&mut self, body: &Value) -> Value {
        let posted = self.client.post(format!("http://{}/pay", self.front)).json(body).send().await.unwrap();
        let answer: Value = posted.json().await.unwrap();
        let data = &answer["data"];
        self.heard.extend(["paySign", "package"].iter().filter_map(|key| Some(data[*key].as_str()?.to_owned())));
        answer
    }
}

mod on_sqlite {
    mod on_embedded {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn no_secret_shows_in_logs_metrics_answers_or_the_database() {
            super::super::watched(crate::store::place::On::Sqlite).await;
        }
    }
}

mod on_postgres {
    mod on_embedded {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn no_secret_shows_in_logs_metrics_answers_or_the_database() {
            super::super::watched(crate::store::place::On::Postgres).await;
        }
    }
}

mod on_mariadb {
    mod on_embedded {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn no_secret_shows_in_logs_metrics_answers_or_the_database() {
            super::super::watched(crate::store::place::On::Mariadb).await;
        }
    }
}

async fn watched(on: On) {
    run_empty(on, |place| async move { watch(&place).await }).await;
}

async fn watch(place: &Place) {
    let mut at = Deployment::empty().await;
    let public = free_addr();
    at.set("PREPAY_BROKER__URL", "embedded");
    let user = DatabaseUser::of(place, &mut at).await;
    at.set("PREPAY_DATABASE__URL", &user.url);
    at.set("PREPAY_FRONT__PUBLIC_URL", format!("http://{public}"));
    at.set("PREPAY_FRONT__ALLOW_PRIVATE_NOTIFY_URLS", "true");
    at.set_up().await;
    let mut enrolled = at.enrol().await;
    enrolled.shop.base_url = format!("http://{public}");
    more_secrets(&mut at, &enrolled).await;
    let webhook = at.ok(&["merchant", "key", "add", "C1", "--webhook"]).await;
    let webhook = field(&webhook, "secret").trim_start_matches("whsec_").to_owned();
    // As loud as it gets.
    let mut serve = at.start("serve", Some(public), &[("PREPAY_LOG__FILTER", "trace")]);
    serve.until_ready().await;

    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let (heard, payers) = (Vec::new(), Vec::new());
    let mut phone = Phone { at: &at, enrolled: &enrolled, front: public, client, heard, payers };
    let mut answers = String::new();
    for (wallet, name) in WALLETS {
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
            let order = enrolled.shop.new_order(&format!("{name}{n}")).await;
            if let Some((call, kind)) = fault {
                at.sim.faults().add(Fault::once(wallet, call, kind));
            }
            let (user, code) = phone.code(wallet);
            let body = json!({ "payInfo": pay_info(&order, name), "code": code });
            let answer = phone.post(&body).await;
            if answer["code"] == "200" && wallet == Wallet::Wechat {
                at.sim.wechat().request_payment(&answer["data"], &user, simulator::wechat::Press::Pay).unwrap();
            }
            answers += &answer.to_string().replace("prepay_id", "");
            answers += &phone.post(&body).await["msg"].to_string();
        }
    }
    // Nobody answers: what libraries say of a connection names an address with everything in it.
    at.sim.set_main_reach(Reach::Refused);
    at.sim.set_backup_reach(Reach::Refused);
    for (wallet, name) in WALLETS {
        let order = enrolled.shop.new_order(&format!("{name}away")).await;
        let (_, code) = phone.code(wallet);
        answers += &phone.post(&json!({ "payInfo": pay_info(&order, name), "code": code })).await.to_string();
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
    until("a payment was heard of", || async { enrolled.shop.order("WECHAT0").await["payStatus"] == "SUCCESS" }).await;

    answers += &merchants_and_people(&at, &enrolled).await;

    let metrics = serve.metrics().await;
    assert_eq!(serve.terminate().await, 0);
    let logged = serve.logged();
    for loud in ["TRACE", "hyper", "a code was not exchanged"] {
        assert!(logged.contains(loud), "{loud} is missing in {}", logged.chars().take(2_000).collect::<String>());
    }
    let database = dumped(place).await;
    assert!(database.contains("WECHAT0"), "the database is read where it is");
    at.assert_no_secret_printed();
    let mut keys = deployment_keys(place, &at).await;
    keys.extend(at.secrets().iter().cloned().chain([STANDARD.encode(&enrolled.shop.secret), webhook]));
    for (place, text) in [("log", &logged), ("metrics", &metrics), ("answers", &answers), ("database", &database)] {
        for secret in &keys {
            assert!(!text.contains(secret.as_str()), "a key is in the {place}: {}", around(text, secret));
            // As a dump writes bytes.
            assert!(!text.contains(&hex(secret)), "a key is in the {place} as bytes");
        }
    }
    for (place, text) in [("log", &logged), ("metrics", &metrics)] {
        for told in phone.heard.iter().chain(&phone.payers) {
            assert!(!text.contains(told.as_str()), "it is in the {place}: {}", around(text, told));
        }
    }
    let codes = phone.heard.iter().filter(|told| !told.contains('='));
    assert!(!codes.clone().any(|code| database.contains(code.as_str())), "a code is in the database");
    at.stop().await;
    user.forget(place).await;
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
