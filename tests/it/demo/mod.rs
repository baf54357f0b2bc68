//! The demo as a stranger starts it: in one process, on port 0, in a folder of its own; called over HTTP alone.

mod bills;
mod desk;
mod phone;

use std::{path::Path, time::Duration};

use phone::Phone;
use prepay::demo::{Demo, DemoOptions};
use tokio::time::Instant;

/// What a test waits for comes within this, on a busy machine too.
const SOON: Duration = Duration::from_secs(20);

async fn start(data: Option<&Path>) -> Demo {
    let options =
        DemoOptions { listen: ([127, 0, 0, 1], 0).into(), data: data.map(Path::to_owned), latency: Duration::ZERO };
    Demo::start(options).await.unwrap()
}

async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + SOON;
    while !holds().await {
        assert!(Instant::now() < deadline, "did not happen: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

mod on_sqlite {
    mod on_embedded {
        use reqwest::StatusCode;
        use serde_json::{Value, json};
        use tempfile::TempDir;

        use crate::demo::{Phone, start, until};

        const WALLETS: [&str; 2] = ["wechat", "alipay"];

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn an_order_of_each_wallet_is_paid_and_the_second_press_says_so() {
            let demo = start(None).await;
            let phone = Phone::at(&demo.base_url);
            for wallet in WALLETS {
                let order = phone.order(wallet).await;
                assert_eq!(order["interfaceUrl"], format!("{}/pay", demo.base_url));
                let mut keys: Vec<&String> = order.as_object().unwrap().keys().collect();
                keys.sort();
                assert_eq!(keys, ["code", "interfaceUrl", "links", "orderNo", "payInfo"]);

                let answer = phone.pay(&order["payInfo"], &order["code"]).await;
                assert_eq!(answer["code"], "200", "{answer:#}");
                let told = phone.cashier(wallet, &answer["data"], 1, "pay").await;
                assert_eq!(
                    told["checks"].as_array().unwrap().iter().filter(|check| check["passed"] != true).count(),
                    0
                );
                assert_eq!(result(&told), success(wallet), "{told:#}");
                phone.until_paid(&order).await;

                let code = phone.login(wallet, 1).await;
                let again = phone.pay(&order["payInfo"], &code).await;
                assert_eq!((&again["code"], &again["msg"]), (&json!("400"), &json!("订单已支付成功")));
            }
            demo.stop().await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn the_notification_arrives_and_is_shown() {
            let demo = start(None).await;
            let phone = Phone::at(&demo.base_url);
            for wallet in WALLETS {
                let order = phone.order(wallet).await;
                let answer = phone.pay(&order["payInfo"], &order["code"]).await;
                phone.cashier(wallet, &answer["data"], 1, "pay").await;
                until("the wallet's notification is accepted", || async {
                    let seen = phone.seen(&order).await;
                    let lines = seen["wallet"].as_array().unwrap();
                    lines.iter().any(|line| line["event"] == "notice_accepted")
                        && seen["order"]["payStatus"] == "SUCCESS"
                })
                .await;
            }
            demo.stop().await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_cancelled_payment_is_paid_later_with_the_same_pay_info() {
            let demo = start(None).await;
            let phone = Phone::at(&demo.base_url);
            for wallet in WALLETS {
                let order = phone.order(wallet).await;
                let first = phone.pay(&order["payInfo"], &order["code"]).await;
                let told = phone.cashier(wallet, &first["data"], 1, "cancel").await;
                let cancelled = if wallet == "wechat" { "requestPayment:fail cancel" } else { "6001" };
                assert_eq!(result(&told), cancelled);

                let code = phone.login(wallet, 1).await;
                let second = phone.pay(&order["payInfo"], &code).await;
                let ticket = |answer: &Value| (answer["data"]["package"].clone(), answer["data"]["tradeNo"].clone());
                assert_eq!(ticket(&first), ticket(&second), "the payer keeps the ticket it has");
                let told = phone.cashier(wallet, &second["data"], 1, "pay").await;
                assert_eq!(result(&told), success(wallet), "{told:#}");
                phone.until_paid(&order).await;
            }
            demo.stop().await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn another_person_on_the_same_link_gets_parameters_of_their_own() {
            let demo = start(None).await;
            let phone = Phone::at(&demo.base_url);
            for wallet in WALLETS {
                let order = phone.order(wallet).await;
                let first = phone.pay(&order["payInfo"], &order["code"]).await;
                let told = phone.cashier(wallet, &first["data"], 2, "pay").await;
                assert_ne!(result(&told), success(wallet), "another person pays with parameters that are not theirs");

                let code = phone.login(wallet, 2).await;
                let second = phone.pay(&order["payInfo"], &code).await;
                assert_eq!(second["code"], "200", "{second:#}");
                assert_ne!(first["data"], second["data"]);
                let told = phone.cashier(wallet, &first["data"], 1, "pay").await;
                assert_ne!(result(&told), success(wallet), "two people hold payable parameters: {told:#}");
                assert!(told["checks"].as_array().unwrap().iter().any(|check| check["passed"] == false), "{told:#}");
                let told = phone.cashier(wallet, &second["data"], 2, "pay").await;
                assert_eq!(result(&told), success(wallet), "{told:#}");
                phone.until_paid(&order).await;
            }
            demo.stop().await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn page_and_printed_calls_work_as_they_are() {
            let demo = start(None).await;
            let phone = Phone::at(&demo.base_url);
            let (status, page) = phone.text("/demo").await;
            assert_eq!(status, StatusCode::OK);
            assert!(page.contains("选择钱包"));
            for foreign in ["http://", "https://", "innerHTML", "src="] {
                assert!(!page.contains(foreign), "the page must stand alone: {foreign}");
            }
            for (path, expected) in
                [("/demo/nothing", 404), ("/demo/order/NO-SUCH", 404), ("/demo/order?wallet=cash", 400)]
            {
                let (status, answer) = phone.text(path).await;
                assert_eq!(status.as_u16(), expected, "{path}: {answer}");
            }
            // The front's own answers stay what they are.
            let (status, answer) = phone.text("/demonstration").await;
            assert_eq!((status, answer.contains("接口不存在")), (StatusCode::NOT_FOUND, true));

            let printed = demo.text().await.unwrap();
            assert!(printed.contains(&format!("{}/demo\n", demo.base_url)), "{printed}");
            let bodies: Vec<&str> = printed.lines().filter(|line| line.starts_with("curl ")).collect();
            assert_eq!(bodies.len(), 2, "{printed}");
            for line in bodies {
                let body = line.split("-d '").nth(1).unwrap().trim_end_matches('\'');
                let body: Value = serde_json::from_str(body).unwrap();
                let answer = phone.pay(&body["payInfo"], &body["code"]).await;
                assert_eq!(answer["code"], "200", "{line}\n{answer:#}");
            }
            demo.stop().await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_kept_folder_serves_again_and_earlier_orders_can_be_read() {
            let folder = TempDir::new().unwrap();
            let mut earlier = Vec::new();
            for run in 0..3 {
                let demo = start(Some(folder.path())).await;
                let phone = Phone::at(&demo.base_url);
                for (order, status) in &earlier {
                    let seen = phone.seen(order).await;
                    assert_eq!(seen["order"]["payStatus"], *status, "run {run}: {seen:#}");
                }
                for wallet in WALLETS {
                    let open = phone.order(wallet).await;
                    let order = phone.order(wallet).await;
                    let answer = phone.pay(&order["payInfo"], &order["code"]).await;
                    assert_eq!(answer["code"], "200", "run {run}: {answer:#}");
                    let told = phone.cashier(wallet, &answer["data"], 1, "pay").await;
                    assert_eq!(result(&told), success(wallet), "run {run}: {told:#}");
                    phone.until_paid(&order).await;
                    earlier.extend([(open, "WAITPAY"), (order, "SUCCESS")]);
                }
                demo.stop().await;
            }
            #[cfg(unix)]
            for key in ["front.key", "back.key"] {
                use std::os::unix::fs::PermissionsExt;
                let mode = std::fs::metadata(folder.path().join(key)).unwrap().permissions().mode();
                assert_eq!(mode & 0o777, 0o600, "{key}");
            }
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn what_keeps_it_from_starting_is_one_clear_line() {
            use prepay::demo::{Demo, DemoOptions};

            let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let folder = TempDir::new().unwrap();
            let running = start(Some(folder.path())).await;
            let refused = |listen: &str| DemoOptions {
                listen: listen.parse().unwrap(),
                data: Some(folder.path().to_owned()),
                latency: std::time::Duration::ZERO,
            };
            for (options, says) in [
                (refused(&taken.local_addr().unwrap().to_string()), "--listen 127.0.0.1:"),
                (refused("192.0.2.1:8080"), "0.0.0.0:PORT"),
                (refused("127.0.0.1:0"), "another demo is using"),
            ] {
                let Err(error) = Demo::start(options).await else { panic!("it started: {says}") };
                let error = format!("{error:#}");
                assert!(error.contains(says) && !error.contains('\n'), "{error}");
            }
            running.stop().await;
        }

        fn result(told: &Value) -> &str {
            told["errMsg"].as_str().or_else(|| told["resultCode"].as_str()).unwrap()
        }

        fn success(wallet: &str) -> &'static str {
            if wallet == "wechat" { "requestPayment:ok" } else { "9000" }
        }
    }
}
