//! What operators see: every metric, its labels, and nobody's name in any of them.

mod on_postgres {
    mod on_rabbitmq {
        use crate::{
            processes::{fleet::Fleet, phones::until_parameters},
            store::place::{On, run},
            trip::{harness::until, shop::pay_info, watched::Scraped},
        };

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn each_role_shows_its_own_part() {
            run(On::Postgres, |place| async move {
                let fleet = Fleet::start(&place).await;
                let order = fleet.enrolled.shop.new_order("A1").await;
                let phone = reqwest::Client::builder().no_proxy().build().unwrap();
                until_parameters(&phone, &fleet.fronts, &pay_info(&order, "WECHAT"), &fleet.code()).await;

                let all = async |numbers: &[usize], name: &str| {
                    let mut sum = 0.0;
                    for number in numbers {
                        sum += Scraped::of(&fleet.processes[*number].metrics_url()).await.sum(name, &[]);
                    }
                    sum
                };
                for name in ["prepay_accepted_total", "prepay_published_total", "prepay_answers_total"] {
                    assert!(all(&Fleet::FRONTS, name).await >= 1.0, "{name}");
                    assert_eq!(all(&Fleet::WORKERS, name).await, 0.0, "{name}");
                }
                for name in ["prepay_outcomes_total", "prepay_exchange_seconds", "prepay_prepay_seconds"] {
                    assert!(all(&Fleet::WORKERS, name).await >= 1.0, "{name}");
                    assert_eq!(all(&Fleet::FRONTS, name).await, 0.0, "{name}");
                }
                for process in &fleet.processes {
                    let consumers = async || {
                        let scraped = Scraped::of(&process.metrics_url()).await;
                        scraped.sum("prepay_queue_consumers", &[("queue", "orders")])
                    };
                    until("two workers take orders, and whoever is asked says so", async || consumers().await == 2.0)
                        .await;
                    let scraped = Scraped::of(&process.metrics_url()).await;
                    assert!(scraped.has("prepay_queue_ready") && scraped.has("prepay_clock_offset_ms"));
                }
                fleet.stop().await;
            })
            .await;
        }
    }
}

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use futures_util::future::join_all;
use prepay::telemetry::{Kind, METRICS, Metric};
use serde_json::json;

use super::{
    caller::{assert_ready, assert_refused},
    harness::{World, until},
    queue_gone::n,
    shop::pay_info,
    sides::Side,
};

/// One series as it was scraped.
#[derive(Debug)]
struct Series {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// What one operations listener said.
pub struct Scraped {
    text: String,
    series: Vec<Series>,
}

impl Scraped {
    /// Asks a role: all of one process share their metrics, whoever is asked.
    pub async fn from(world: &World, app: usize) -> Self {
        Self::of(&format!("http://{}/metrics", world.apps[app].operations_addr)).await
    }

    pub async fn of(url: &str) -> Self {
        let answer = reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let text = answer.text().await.unwrap();
        let series = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(series).collect();
        Self { text, series }
    }

    /// The sum of the series that have these labels among theirs; of a histogram, how often it was recorded.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |series: &&Series| {
            (series.name == name || series.name == format!("{name}_count"))
                && labels.iter().all(|(label, value)| series.labels.get(*label).is_some_and(|is| is == value))
        };
        self.series.iter().filter(has).map(|series| series.value).sum()
    }

    pub fn has(&self, name: &str) -> bool {
        self.series.iter().any(|series| series.name == name || series.name == format!("{name}_count"))
    }
}

fn series(line: &str) -> Series {
    let (key, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
    let (name, labels) = key.split_once('{').unwrap_or((key, "}"));
    let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()).map(|label| {
        let (name, value) = label.split_once('=').unwrap_or_else(|| panic!("{line}"));
        (name.to_owned(), value.trim_matches('"').to_owned())
    });
    Series { name: name.to_owned(), labels: labels.collect(), value: value.parse().unwrap() }
}

fn known(series: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| {
        let rest = series.strip_prefix(metric.name);
        match metric.kind {
            Kind::Histogram => rest.is_some_and(|rest| ["_bucket", "_sum", "_count"].contains(&rest)),
            Kind::Counter | Kind::Gauge => rest == Some(""),
        }
    })
}

pub async fn metrics_say_what_happens_and_name_nobody(world: World) -> World {
    let world =
        world.restart(|settings| (settings.front.order_per_second, settings.front.order_burst) = (n(1), n(3))).await;
    let mut names = vec![world.wechat.app.appid.clone(), world.alipay.app.app_id.clone()];
    names.push(world.wechat.merchant.mchid.clone());
    for side in Side::BOTH {
        let order_no = format!("watched-{}", side.name());
        let (order, person) = (world.shop.new_order(&order_no).await, world.person(side));
        let body = world.login_body(&order, &person);
        let said = world.pay(body.clone()).await;
        assert_ready(&said);
        world.press_pay(&said.1["data"], &person).await.unwrap();
        world.until_status(&order_no, "SUCCESS").await;
        names.extend([order_no, person.identify_id, pay_info(&order, side.name())]);
        names.extend([&order["serialNo"], &body["code"]].map(|text| text.as_str().unwrap().to_owned()));

        let stranger = world.shop.new_order(&format!("stranger-{}", side.name())).await;
        let body = json!({ "payInfo": pay_info(&stranger, side.name()), "code": "nobodys" });
        assert_refused(&world.pay(body.clone()).await, "3002");
        let answers = join_all((0..12).map(|_| world.pay(body.clone()))).await;
        assert!(answers.iter().any(|(_, answer)| answer["errCode"] == "3005"), "{answers:#?}");
    }

    let queues = ["orders", "notifications", "parked"];
    for app in 0..world.apps.len() {
        // What a process counts when it has an answer, and what it asks its broker for each time.
        until("all of it is shown", async || {
            let scraped = Scraped::from(&world, app).await;
            let kept = |wallet| scraped.sum("prepay_notices_total", &[("wallet", wallet), ("verdict", "kept")]) >= 1.0;
            ["wechat", "alipay"].into_iter().all(kept) && queues.into_iter().all(|queue| shows_queue(&scraped, queue))
        })
        .await;
        let scraped = Scraped::from(&world, app).await;
        for wallet in ["wechat", "alipay"] {
            let counted = |name: &str, more: &[(&str, &str)]| {
                let labels = [&[("wallet", wallet)], more].concat();
                assert!(scraped.sum(name, &labels) >= 1.0, "{name} {labels:?}\n{}", scraped.text);
            };
            counted("prepay_accepted_total", &[]);
            counted("prepay_outcomes_total", &[("class", "ready")]);
            counted("prepay_outcomes_total", &[("class", "login_expired")]);
            counted("prepay_answers_total", &[("class", "ready")]);
            counted("prepay_notices_total", &[("verdict", "kept")]);
            counted("prepay_exchange_seconds", &[]);
            counted("prepay_prepay_seconds", &[]);
        }
        for (name, labels) in [
            ("prepay_shed_total", &[("reason", "order_rate")][..]),
            ("prepay_published_total", &[("outcome", "kept")]),
            ("prepay_replies_total", &[("waited", "yes")]),
        ] {
            assert!(scraped.sum(name, labels) >= 1.0, "{name}\n{}", scraped.text);
        }
        assert!(scraped.has("prepay_waiting") && scraped.has("prepay_clock_offset_ms"), "{}", scraped.text);
        assert_only_what_is_written_down(&scraped);
        for name in &names {
            assert!(!scraped.text.contains(name.as_str()), "{name} is in\n{}", scraped.text);
        }
    }
    world
}

fn shows_queue(scraped: &Scraped, queue: &str) -> bool {
    let of = |name: &str| scraped.series.iter().any(|s| s.name == name && s.labels["queue"] == queue);
    of("prepay_queue_ready") && of("prepay_queue_consumers")
}

/// Names, labels, kinds and help as the table says; and no value of a label that could be anybody's.
fn assert_only_what_is_written_down(scraped: &Scraped) {
    for series in &scraped.series {
        let metric = known(&series.name).unwrap_or_else(|| panic!("{} is not in METRICS", series.name));
        let labels: BTreeSet<_> = series.labels.keys().map(String::as_str).filter(|label| *label != "le").collect();
        assert_eq!(labels, metric.labels.iter().copied().collect(), "{}", series.name);
        for (label, value) in &series.labels {
            let word = !value.is_empty() && value.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            let bound = label == "le" && (value == "+Inf" || value.parse::<f64>().is_ok());
            assert!(word || bound, "{}: {label} is {value:?}, not one of a few words", series.name);
        }
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        assert!(scraped.text.contains(&format!("# TYPE {} {kind}\n", metric.name)), "{}", metric.name);
        assert!(scraped.text.contains(&format!("# HELP {} {}\n", metric.name, metric.help)), "{}", metric.name);
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// `(name, labels)` of every metric that the sources record.
fn recorded(under: &Path, found: &mut BTreeSet<(String, Vec<String>)>) {
    for path in fs::read_dir(under).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            recorded(&path, found);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        for opens in ["metrics::counter!(", "metrics::gauge!(", "metrics::histogram!("] {
            for (at, _) in text.match_indices(opens) {
                let call = &text[at + opens.len()..];
                let call = &call
                    [..[".increment(", ".set(", ".record("].iter().filter_map(|end| call.find(end)).min().unwrap()];
                let mut words = call.split('"').skip(1).step_by(2);
                let name = words.next().unwrap().to_owned();
                let label = |(at, _): (usize, &str)| call[..at].rsplit('"').next().unwrap().to_owned();
                found.insert((name, call.match_indices("\" =>").map(label).collect()));
            }
        }
    }
}

#[test]
fn the_table_of_metrics_is_what_the_sources_record() {
    let mut found = BTreeSet::new();
    recorded(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    let table = METRICS.iter().map(|metric| {
        (metric.name.to_owned(), metric.labels.iter().map(|label| (*label).to_owned()).collect::<Vec<_>>())
    });
    assert_eq!(found, table.collect());
}

/// A page that names a metric names one there is; a page with a table of them has all, with their labels.
#[test]
fn the_pages_name_the_metrics_that_there_are() {
    for page in ["README.md", "k8s/README.md"] {
        let text = read(page);
        for (at, _) in text.match_indices("`prepay_") {
            let name = text[at + 1..].split(|c: char| !(c.is_ascii_lowercase() || c == '_')).next().unwrap();
            assert!(METRICS.iter().any(|metric| metric.name == name), "{page} names {name}");
        }
        let rows: BTreeMap<_, _> = text.lines().filter_map(|line| row(line.strip_prefix("| `prepay_")?)).collect();
        let wanted = METRICS.iter().map(|metric| (metric.name.to_owned(), metric.labels.join(", ")));
        assert!(rows.is_empty() || rows == wanted.collect(), "{page} has other metrics than there are: {rows:#?}");
    }
}

/// Name and labels of a row "| `NAME` | `label`, `label` | … |", its beginning taken off.
fn row(rest: &str) -> Option<(String, String)> {
    let mut cells = rest.split('|');
    let name = format!("prepay_{}", cells.next()?.trim().trim_end_matches('`'));
    Some((name, cells.next()?.trim().replace('`', "")))
}
