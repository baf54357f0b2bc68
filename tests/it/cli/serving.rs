//! `serve` as a process: it takes an order signed with the secret that was printed, and leaves when asked.

mod on_sqlite {
    mod on_embedded {
        use simulator::wechat::Press;

        use crate::{
            cli::deployment::Deployment,
            processes::phones::until_parameters,
            trip::{harness::free_addr, shop::pay_info},
        };

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn it_takes_a_signed_order_and_leaves_on_sigterm() {
            let mut at = Deployment::empty().await;
            let public = free_addr();
            at.set("PREPAY_BROKER__URL", "embedded");
            at.set("PREPAY_FRONT__PUBLIC_URL", format!("http://{public}"));
            at.set("PREPAY_FRONT__ALLOW_PRIVATE_NOTIFY_URLS", "true");
            at.set_up().await;
            let mut enrolled = at.enrol().await;
            let mut serve = at.start("serve", Some(public), &[]);
            serve.until_ready().await;

            enrolled.shop.base_url = format!("http://{public}");
            let order = enrolled.shop.new_order("A1").await;
            let openid = at.sim.wechat().new_openid(&enrolled.wechat_app.appid);
            let code = at.sim.wechat().new_code(&enrolled.wechat_app.appid, &openid);
            let phone = reqwest::Client::builder().no_proxy().build().unwrap();
            let data = until_parameters(&phone, &[public], &pay_info(&order, "WECHAT"), &code).await;
            at.sim.wechat().request_payment(&data, &openid, Press::Pay).unwrap();

            assert_eq!(serve.terminate().await, 0, "{}", serve.logged());
            assert!(serve.logged().contains("at work") && serve.logged().contains("left"), "{}", serve.logged());
            for secret in [openid.as_str(), code.as_str(), data["paySign"].as_str().unwrap()] {
                assert!(!serve.logged().contains(secret), "{}", serve.logged());
            }
            let shown = at.ok(&["order", "show", "A1", "--customer", "C1"]).await;
            assert!(shown.contains("wechat") && !shown.contains(&openid), "{shown}");
            at.assert_no_secret_printed();
            at.stop().await;
        }
    }
}
