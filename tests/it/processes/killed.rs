//! A process that is killed in the middle of an order.

mod on_sqlite {
    mod on_embedded {
        use simulator::{Call, Event, Fault, FaultKind, Wallet};

        use crate::{
            cli::deployment::Deployment,
            processes::{fleet::payable_by_order, phones::until_parameters},
            trip::{
                harness::{free_addr, until},
                shop::pay_info,
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
    }
}
