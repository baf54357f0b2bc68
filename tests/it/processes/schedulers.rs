//! Schedulers beside each other: what one of them held when it was killed is done by another, once.

mod on_postgres {
    mod on_rabbitmq {
        use std::{
            collections::BTreeSet,
            time::{Duration, Instant},
        };

        use serde_json::json;
        use simulator::{Call, Event, Fault, FaultKind, Match, Wallet, wechat::Press};

        use crate::{
            cli::deployment::Process,
            processes::{
                fleet::{Fleet, payable_by_order},
                phones::until_parameters,
            },
            store::place::{On, Place, run},
            trip::{
                inbox::Inbox,
                shop::{order_body, pay_info},
                watched::Scraped,
            },
        };

        /// Questions are held for 30 s and notifications for 10 s; then whoever looks has them.
        const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(90);

        /// What it had in hand: a question about a number, a question about a refund whose answer was lost, and a notification.
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn what_a_killed_scheduler_held_is_done_by_another_one_and_once() {
            run(On::Postgres, |place| async move {
                // Nothing is left alone here for being silent.
                let patient = [
                    ("PREPAY_WORKER__ACCOUNT_FAILURES_TO_OPEN", "1000"),
                    ("PREPAY_SCHEDULER__ENDPOINT_FAILURES_TO_PAUSE", "1000"),
                    ("PREPAY_SCHEDULER__EVENTS_SPEED_UP", "10"),
                ];
                let mut fleet = Fleet::start_with(&place, &patient).await;
                fleet.at.ok(&["merchant", "key", "add", "C1", "--webhook"]).await;
                let inbox = Inbox::open().await;
                let sim = fleet.sim().clone();
                sim.wechat().set_switches(|switches| (switches.notices, switches.refund_notices) = (false, false));
                let refunded = paid_unheard(&fleet, &inbox, "R").await;
                is_paid(&fleet, "R").await;

                let fault = |call, kind| Fault::once(Wallet::Wechat, call, kind);
                sim.faults().add(fault(Call::Refund, FaultKind::HtmlAfter).when(Match::any()));
                let hangs = FaultKind::HangBefore { ms: 60_000 };
                sim.faults().add(fault(Call::RefundQuery, hangs.clone()).when(Match::any()).always());
                let refund = json!({ "refundNo": "R1", "orderNo": "R", "refundAmount": 700 });
                fleet.enrolled.shop.post_unheard("/api/v1/refunds", &refund).await;
                inbox.is_silent();
                let mut orders = vec!["R".to_owned()];
                let begun = Instant::now();
                while !holds_all_three(&place).await {
                    assert!(begun.elapsed() < GIVEN_BACK_WITHIN, "it never held all three");
                    let order_no = format!("A{}", orders.len());
                    let number = paid_unheard(&fleet, &inbox, &order_no).await;
                    // Half of them are found out, and their merchant is told; about the others the wallet is silent.
                    if orders.len().is_multiple_of(2) {
                        let silent = fault(Call::Query, hangs.clone()).when(Match::prefix(&number));
                        sim.faults().add(silent.always());
                    }
                    orders.push(order_no);
                }
                fleet.processes[Fleet::SCHEDULER].kill().await;
                sim.faults().clear();
                inbox.says(200);
                let mut next = fleet.at.start("scheduler", None, &[]);
                next.until_ready().await;
                fleet.processes[Fleet::SCHEDULER] = next;

                let shop = &fleet.enrolled.shop;
                let refund = || async { shop.get("/api/v1/refunds/R1").await.1["data"]["refundStatus"].clone() };
                within("the money is back", || async { refund().await == "SUCCESS" }).await;
                assert_eq!(sim.ledger().refunded(&refunded).len(), 1);
                for order_no in &orders {
                    is_paid(&fleet, order_no).await;
                    assert_eq!(shop.order(order_no).await["anomalies"], json!([]), "{order_no}");
                }
                // Each payment and the refund, under its own id however often it is told.
                let ids = || inbox.heard().into_iter().map(|heard| heard.id).collect::<BTreeSet<_>>();
                within("the merchant heard of everything", || async { ids().len() == orders.len() + 1 }).await;
                assert!(payable_by_order(&sim).values().all(|numbers| *numbers == 1));
                fleet.at.assert_no_secret_printed();
                fleet.stop().await;
            })
            .await;
        }

        async fn holds_all_three(place: &Place) -> bool {
            let now = place.store.now().await.unwrap().ms();
            for held in
                ["attempts WHERE query_leased_until", "refunds WHERE leased_until", "merchant_events WHERE lease_until"]
            {
                if place.number(&format!("SELECT COUNT(*) FROM {held} > {now}")).await == 0 {
                    return false;
                }
            }
            true
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn two_schedulers_share_the_questions() {
            run(On::Postgres, |place| async move {
                let mut fleet = Fleet::start(&place).await;
                fleet.at.ok(&["merchant", "key", "add", "C1", "--webhook"]).await;
                let inbox = Inbox::open().await;
                fleet.sim().wechat().set_switches(|switches| switches.notices = false);
                // So long that their looks meet within it.
                let slow = Fault::once(Wallet::Wechat, Call::Query, FaultKind::DelayAnswer { ms: 2_000 });
                fleet.sim().faults().add(slow.when(Match::any()).always());
                let mut second = fleet.at.start("scheduler", None, &[]);
                second.until_ready().await;
                fleet.processes.push(second);
                let both = [Fleet::SCHEDULER, Fleet::SCHEDULER + 1].map(|number| &fleet.processes[number]);
                let mut numbers = Vec::new();
                let begun = Instant::now();
                while asked_by(both[0]).await == 0.0 || asked_by(both[1]).await == 0.0 {
                    assert!(begun.elapsed() < GIVEN_BACK_WITHIN, "one of them does nothing");
                    numbers.push(paid_unheard(&fleet, &inbox, &format!("B{}", numbers.len())).await);
                }
                for at in 0..numbers.len() {
                    is_paid(&fleet, &format!("B{at}")).await;
                }
                within("the merchant heard of each", || async { inbox.heard().len() >= numbers.len() }).await;
                for number in &numbers {
                    let lines = fleet.sim().ledger().of_number(number);
                    let since_paid = lines.iter().skip_while(|line| line.event != Event::Paid);
                    let asked = since_paid.filter(|line| (line.call, line.event) == (Call::Query, Event::Request));
                    // A main host that is slow is asked again at the backup.
                    let asked = asked.filter(|line| line.note.as_deref() != Some("backup"));
                    assert!(asked.count() <= 1, "nobody asks beside the other: {lines:#?}");
                }
                fleet.stop().await;
            })
            .await;
        }

        async fn asked_by(scheduler: &Process) -> f64 {
            Scraped::of(&scheduler.metrics_url()).await.sum("prepay_query_seconds", &[])
        }

        /// An order that its payer paid and nobody was told of. Its number.
        async fn paid_unheard(fleet: &Fleet, inbox: &Inbox, order_no: &str) -> String {
            let mut body = order_body(order_no);
            body["notifyUrl"] = json!(inbox.url);
            let order = fleet.enrolled.shop.create(&body).await;
            let (wallet, appid) = (fleet.sim().wechat(), &fleet.enrolled.wechat_app.appid);
            let openid = wallet.new_openid(appid);
            let code = wallet.new_code(appid, &openid);
            let phone = reqwest::Client::builder().no_proxy().build().unwrap();
            let data = until_parameters(&phone, &fleet.fronts, &pay_info(&order, "WECHAT"), &code).await;
            wallet.request_payment(&data, &openid, Press::Pay).unwrap();
            format!("{}01", order["serialNo"].as_str().unwrap())
        }

        async fn is_paid(fleet: &Fleet, order_no: &str) {
            let paid = || async { fleet.enrolled.shop.order(order_no).await["payStatus"] == "SUCCESS" };
            within(&format!("{order_no} is paid"), paid).await;
        }

        async fn within<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
            let begun = Instant::now();
            while !holds().await {
                assert!(begun.elapsed() < GIVEN_BACK_WITHIN, "did not happen: {what}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
