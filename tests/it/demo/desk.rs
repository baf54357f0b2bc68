//! The merchant's desk beside the phone: refunds, closes, the event log, and the ways of the wallets' notifications.

mod on_sqlite {
    mod on_embedded {
        use reqwest::StatusCode;
        use serde_json::{Value, json};

        use crate::demo::{Phone, start, until};

        const WALLETS: [&str; 2] = ["wechat", "alipay"];

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_payment_is_given_back_in_parts_and_never_more_than_it() {
            let demo = start(None).await;
            let phone = Phone::at(&demo.base_url);
            for wallet in WALLETS {
                let order = phone.order_paid_at_the_cashier(wallet).await;
                phone.until_paid(&order).await;
                let amount = phone.seen(&order).await["order"]["orderAmount"].as_i64().unwrap();

                let (status, first) = phone.refund(&order, 100).await;
                assert_eq!((status, &first["data"]["refundAmount"]), (StatusCode::OK, &json!(100)), "{first:#}");
                until("the part is settled", || async {
                    let seen = phone.seen(&order).await;
                    seen["order"]["refunds"][0]["refundStatus"] == "SUCCESS" && seen["order"]["refundedAmount"] == 100
                })
                .await;
                until("the merchant hears of the refund", || async {
                    let events = phone.events_of(&order).await;
                    events.iter().any(|event| event["eventType"] == "REFUND" && event["verified"] == true)
                })
                .await;
                let lines = phone.seen(&order).await["wallet"].clone();
                assert!(said(&lines, "refund", "refunded") > 0, "{lines:#}");

                let (status, refused) = phone.refund(&order, amount).await;
                assert!(status.is_client_error() && refused["data"].is_null(), "more than is left: {refused:#}");
                // The rest is taken, though its wallet may want a minute between two refunds: it holds what it asked for.
                let (status, rest) = phone.refund(&order, amount - 100).await;
                assert_eq!(status, StatusCode::OK, "{rest:#}");
                assert!(
                    ["PROCESSING", "SUCCESS"].contains(&rest["data"]["refundStatus"].as_str().unwrap()),
                    "{rest:#}"
                );
                let (status, refused) = phone.refund(&order, 1).await;
                assert!(status.is_client_error(), "nothing is left: {refused:#}");
            }
            demo.stop().await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_closed_order_can_no_longer_be_paid_and_the_merchant_hears_of_it() {
            let demo = start(None).await;
            let phone = Phone::at(&demo.base_url);
            for wallet in WALLETS {
                let order = phone.order(wallet).await;
                // A number is open at the wallet: it is closed there first.
                let answer = phone.pay(&order["payInfo"], &order["code"]).await;
                let (status, closed) = phone.close(&order).await;
                assert_eq!((status, &closed["data"]["status"]), (StatusCode::OK, &json!("CLOSE")), "{closed:#}");
                assert_eq!(phone.seen(&order).await["order"]["payStatus"], "CLOSE");

                let told = phone.cashier(wallet, &answer["data"], 1, "pay").await;
                assert!(told["checks"].as_array().unwrap().iter().any(|check| check["passed"] == false), "{told:#}");
                until("the merchant hears of the close", || async {
                    let events = phone.events_of(&order).await;
                    events.iter().any(|event| event["eventType"] == "CLOSE" && event["verified"] == true)
                })
                .await;
                let (_, refused) = phone.refund(&order, 1).await;
                assert!(refused["data"].is_null(), "nothing was paid: {refused:#}");
            }
            demo.stop().await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn an_event_is_believed_by_its_signature_alone() {
            let demo = start(None).await;
            let phone = Phone::at(&demo.base_url);
            let order = phone.order_paid_at_the_cashier("wechat").await;
            until("the merchant hears of the payment", || async { !phone.events_of(&order).await.is_empty() }).await;
            let event = phone.events_of(&order).await.remove(0);
            let body: Value = serde_json::from_str(event["body"].as_str().unwrap()).unwrap();
            assert_eq!((&event["eventType"], &event["sequence"]), (&json!("PAY"), &json!(1)), "{event:#}");
            assert_eq!((&event["verified"], &event["trouble"]), (&json!(true), &Value::Null), "{event:#}");
            assert_eq!((&body["notifyId"], &body["payStatus"]), (&event["webhookId"], &json!("SUCCESS")));

            let latest = event["nth"].as_u64().unwrap();
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            let forged = client
                .post(format!("{}/demo/notified", demo.base_url))
                .header("webhook-id", event["webhookId"].as_str().unwrap())
                .header("webhook-timestamp", event["atMs"].as_u64().unwrap() / 1_000)
                .header("webhook-signature", "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
                .body(event["body"].as_str().unwrap().to_owned());
            assert_eq!(forged.send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
            let news = phone.events(latest).await;
            assert_eq!(news.len(), 1, "{news:#?}");
            assert_eq!((&news[0]["verified"], &news[0]["trouble"]), (&json!(false), &json!("signature")));
            demo.stop().await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn whatever_befalls_the_notification_the_order_is_paid_once() {
            let demo = start(None).await;
            let phone = Phone::at(&demo.base_url);
            for mode in ["lost", "forged", "doubled", "usual"] {
                phone.travel(mode).await;
                let mut paid = Vec::new();
                for wallet in WALLETS {
                    paid.push((wallet, phone.order_paid_at_the_cashier(wallet).await));
                }
                for (wallet, order) in &paid {
                    // Nobody asks on the page: a lost one is found out by the scheduler alone.
                    until(&format!("{mode} {wallet}: the merchant hears of the payment"), || async {
                        !phone.events_of(order).await.is_empty()
                    })
                    .await;
                    let enough = |lines: &Value| match mode {
                        "lost" => said(lines, "notify", "notice_lost") > 0,
                        "forged" => said(lines, "notify", "notice_failed") > 0,
                        "doubled" => said(lines, "notify", "notice_accepted") >= 2,
                        _ => said(lines, "notify", "notice_accepted") == 1,
                    };
                    until(&format!("{mode} {wallet}: the wallet noted it"), || async {
                        enough(&phone.seen(order).await["wallet"])
                    })
                    .await;
                    let seen = phone.seen(order).await;
                    assert_eq!(seen["order"]["payStatus"], "SUCCESS", "{mode} {wallet}: {seen:#}");
                    if ["lost", "forged"].contains(&mode) {
                        assert_eq!(said(&seen["wallet"], "notify", "notice_accepted"), 0, "{mode} {wallet}: {seen:#}");
                    }
                    let events = phone.events_of(order).await;
                    let told: Vec<_> = events.iter().map(|event| (&event["eventType"], &event["verified"])).collect();
                    assert_eq!(told, [(&json!("PAY"), &json!(true))], "{mode} {wallet}");
                }
            }
            demo.stop().await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_late_notification_changes_nothing_any_more() {
            let demo = start(None).await;
            let phone = Phone::at(&demo.base_url);
            phone.travel("late").await;
            let order = phone.order_paid_at_the_cashier("wechat").await;
            phone.until_paid(&order).await;
            let before = phone.seen(&order).await;
            assert_eq!(said(&before["wallet"], "notify", "notice_accepted"), 0, "paid by asking: {before:#}");
            until("the late notification arrives", || async {
                said(&phone.seen(&order).await["wallet"], "notify", "notice_accepted") == 1
            })
            .await;
            assert_eq!(phone.seen(&order).await["order"], before["order"]);
            until("the merchant heard of it", || async { !phone.events_of(&order).await.is_empty() }).await;
            assert_eq!(phone.events_of(&order).await.len(), 1);
            demo.stop().await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn what_the_desk_cannot_do_is_said() {
            let demo = start(None).await;
            let phone = Phone::at(&demo.base_url);
            for (path, body, expected) in [
                ("/demo/notices", json!({ "mode": "eaten" }), 400),
                ("/demo/order/NO-SUCH/refund", json!({ "amount": 1 }), 404),
                ("/demo/order/NO-SUCH/refund", json!({ "amount": "1.00" }), 400),
                ("/demo/order/NO-SUCH/close", json!({}), 404),
                ("/demo/order/NO%2FSUCH/close", json!({}), 404),
                ("/demo/order/NO-SUCH/reopen", json!({}), 404),
            ] {
                let (status, answer) = phone.ask(path, body).await;
                assert_eq!(status.as_u16(), expected, "{path}: {answer:#}");
            }
            assert_eq!(phone.text("/demo/events?after=x").await.0, StatusCode::BAD_REQUEST);
            demo.stop().await;
        }

        /// How many of the wallet's notes say this.
        fn said(lines: &Value, call: &str, event: &str) -> usize {
            let lines = lines.as_array().unwrap();
            lines.iter().filter(|line| line["call"] == call && line["event"] == event).count()
        }
    }
}
