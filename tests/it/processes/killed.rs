//! A process that is killed in the middle of an order, or of telling its merchant.

mod on_sqlite {
    mod on_embedded {
        use serde_json::json;
        use simulator::{Call, Event, Fault, FaultKind, Wallet, wechat::Press};

        use crate::{
            cli::deployment::Deployment,
            processes::{fleet::payable_by_order, phones::until_parameters},
            trip::{
                harness::{free_addr, until},
                inbox::Inbox,
                shop::{order_body, pay_info},
            },
        };

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn the_same_pay_info_gets_its_parameters_from_the_next_process() {
            let mut at = Deployment::empty().await;
            let public = free_addr();
            at.set("PREPAY_BROKER__URL", "embedded");
            at.set("PREPAY_FRONT__PUBLIC_URL", format!("http://{public}"));
            at.set("PREPAY_FRONT__ALLOW_PRIVATE_NOTIFY_URLS", "true");
            at.set_up().await;
            let mut enrolled = at.enrol().await;
            enrolled.shop.base_url = format!("http://{public}");
            let mut serve = at.start("serve", Some(public), &[]);
            serve.until_ready().await;
            let order = enrolled.shop.new_order("A1").await;
            let appid = &enrolled.wechat_app.appid;
            let code = at.sim.wechat().new_code(appid, &at.sim.wechat().new_openid(appid));

            // The wallet has made the number, and its answer never comes.
            at.sim.faults().add(Fault::once(Wallet::Wechat, Call::Prepay, FaultKind::HangAfter { ms: 60_000 }));
            let (info, spent) = (pay_info(&order, "WECHAT"), code.clone());
            let phone = tokio::spawn(async move {
                let phone = reqwest::Client::builder().no_proxy().build().unwrap();
                until_parameters(&phone, &[public], &info, &spent).await
            });
            let created = || at.sim.ledger().entries().iter().filter(|entry| entry.event == Event::Created).count();
            until("the wallet makes the number", || async { created() == 1 }).await;
            serve.kill().await;
            let mut next = at.start("serve", Some(public), &[]);
            next.until_ready().await;

            let parameters = phone.await.unwrap();
            assert!(parameters["package"].as_str().unwrap().starts_with("prepay_id="));
            assert_eq!(at.sim.ledger().exchanges_of(&code), 1);
            assert_eq!(payable_by_order(&at.sim).into_values().collect::<Vec<_>>(), [1]);
            assert_eq!(next.terminate().await, 0, "{}", next.logged());
            at.stop().await;
        }

        /// Killed while the wallet has its refund, and while it has not: whoever comes next asks before it sends, and the money
        /// goes back once.
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_refund_goes_back_once_whoever_is_killed() {
            let mut at = Deployment::empty().await;
            let public = free_addr();
            at.set("PREPAY_BROKER__URL", "embedded");
            at.set("PREPAY_FRONT__PUBLIC_URL", format!("http://{public}"));
            at.set("PREPAY_FRONT__ALLOW_PRIVATE_NOTIFY_URLS", "true");
            at.set("PREPAY_SCHEDULER__WECHAT_REFUND_SPACING_MS", "1000");
            at.set_up().await;
            let mut enrolled = at.enrol().await;
            enrolled.shop.base_url = format!("http://{public}");
            let shop = enrolled.shop.clone();
            at.sim.wechat().set_switches(|switches| switches.refund_spacing_ms = 0);
            let mut serve = at.start("serve", Some(public), &[]);
            serve.until_ready().await;
            let phone = reqwest::Client::builder().no_proxy().build().unwrap();
            let asked = |number: &str| at.sim.ledger().refunds_of(number);
            for (order_no, notices, kind) in [
                // Nobody tells: only whoever asks hears of it.
                ("A1", false, FaultKind::HangAfter { ms: 60_000 }),
                ("A2", true, FaultKind::HangBefore { ms: 60_000 }),
            ] {
                at.sim.wechat().set_switches(|switches| switches.refund_notices = notices);
                let order = shop.new_order(order_no).await;
                let appid = &enrolled.wechat_app.appid;
                let openid = at.sim.wechat().new_openid(appid);
                let code = at.sim.wechat().new_code(appid, &openid);
                let data = until_parameters(&phone, &[public], &pay_info(&order, "WECHAT"), &code).await;
                at.sim.wechat().request_payment(&data, &openid, simulator::wechat::Press::Pay).unwrap();
                let paid = || async { shop.order(order_no).await["payStatus"] == "SUCCESS" };
                until("the order is paid", paid).await;

                let number = format!("{}01", order["serialNo"].as_str().unwrap());
                at.sim.faults().add(Fault::once(Wallet::Wechat, Call::Refund, kind));
                let body = serde_json::json!({ "refundNo": order_no, "orderNo": order_no, "refundAmount": 700 });
                let merchant = tokio::spawn({
                    let shop = shop.clone();
                    async move { shop.post_unheard("/api/v1/refunds", &body).await }
                });
                until("the wallet hears of the refund", || async { asked(&number) == 1 }).await;
                serve.kill().await;
                merchant.await.unwrap();
                serve = at.start("serve", Some(public), &[]);
                serve.until_ready().await;
                let target = format!("/api/v1/refunds/{order_no}");
                until("the money is back", || async { shop.get(&target).await.1["data"]["refundStatus"] == "SUCCESS" })
                    .await;
                assert_eq!(at.sim.ledger().refunded(&number).len(), 1, "{order_no}");
                assert_eq!(shop.order(order_no).await["refundedAmount"], 700);
            }
            assert_eq!(serve.terminate().await, 0, "{}", serve.logged());
            at.stop().await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn the_merchant_is_told_by_the_next_process() {
            let mut at = Deployment::empty().await;
            let (public, inbox) = (free_addr(), Inbox::open().await);
            inbox.is_silent();
            at.set("PREPAY_BROKER__URL", "embedded");
            at.set("PREPAY_FRONT__PUBLIC_URL", format!("http://{public}"));
            at.set("PREPAY_FRONT__ALLOW_PRIVATE_NOTIFY_URLS", "true");
            at.set_up().await;
            let mut enrolled = at.enrol().await;
            at.ok(&["merchant", "key", "add", "C1", "--webhook"]).await;
            enrolled.shop.base_url = format!("http://{public}");
            let mut serve = at.start("serve", Some(public), &[]);
            serve.until_ready().await;
            let mut body = order_body("A1");
            body["notifyUrl"] = json!(inbox.url);
            let order = enrolled.shop.create(&body).await;
            let openid = at.sim.wechat().new_openid(&enrolled.wechat_app.appid);
            let code = at.sim.wechat().new_code(&enrolled.wechat_app.appid, &openid);
            let phone = reqwest::Client::builder().no_proxy().build().unwrap();
            let data = until_parameters(&phone, &[public], &pay_info(&order, "WECHAT"), &code).await;
            at.sim.wechat().request_payment(&data, &openid, Press::Pay).unwrap();

            let first = inbox.until_heard(1).await.remove(0);
            serve.kill().await;
            inbox.says(200);
            let mut next = at.start("serve", Some(public), &[]);
            next.until_ready().await;
            let second = inbox.until_heard(2).await.remove(1);
            assert_eq!((&second.id, &second.body), (&first.id, &first.body));
            until("the delivery is written down", || async { at.ok(&["event", "list"]).await.contains("delivered") })
                .await;
            assert_eq!(next.terminate().await, 0, "{}", next.logged());
            assert!(!next.logged().contains(&first.signature), "{}", next.logged());
            at.assert_no_secret_printed();
            at.stop().await;
        }
    }
}
