//! Alipay goes over to a certificate that nobody gave us, while orders come in.

mod on_postgres {
    mod on_rabbitmq {
        use std::{
            net::SocketAddr,
            sync::{
                Arc,
                atomic::{AtomicBool, AtomicUsize, Ordering},
            },
        };

        use simulator::{
            Simulator,
            alipay::{AppOptions, Mode, Press},
        };
        use tokio::task::JoinSet;

        use crate::{
            cli::deployment::field,
            processes::{fleet::Fleet, phones::until_parameters},
            store::place::{On, run},
            trip::{
                harness::until,
                shop::{Shop, order_body, pay_info},
            },
        };

        const SHOPPERS: usize = 4;

        struct Street {
            fronts: [SocketAddr; 2],
            sim: Simulator,
            app_id: String,
            shop: Shop,
            closing: AtomicBool,
            paid: AtomicUsize,
        }

        impl Street {
            /// Orders and pays, again and again. Any refusal is a panic.
            async fn shopper(self: Arc<Self>, number: usize) -> Vec<String> {
                let client = reqwest::Client::builder().no_proxy().build().unwrap();
                let mut bought = Vec::new();
                while !self.closing.load(Ordering::Relaxed) {
                    let order_no = format!("S{number}-{}", bought.len());
                    let order = self.shop.new_order(&order_no).await;
                    let user = self.sim.alipay().new_user().user_id;
                    let code = self.sim.alipay().new_auth_code(&self.app_id, &user).unwrap();
                    let data = until_parameters(&client, &self.fronts, &pay_info(&order, "ALIPAY"), &code).await;
                    let trade_no = data["tradeNo"].as_str().unwrap();
                    let pressed = self.sim.alipay().trade_pay(trade_no, &user, Press::Pay).await;
                    assert_eq!(pressed.as_str(), "9000", "{data:#}");
                    self.paid.fetch_add(1, Ordering::Relaxed);
                    bought.push(order_no);
                }
                bought
            }

            async fn goes_on(&self) {
                let enough = self.paid.load(Ordering::Relaxed) + 2 * SHOPPERS;
                until("orders go through", || async { self.paid.load(Ordering::Relaxed) >= enough }).await;
            }
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn its_certificate_gets_a_successor_under_load_without_one_failed_request() {
            run(On::Postgres, |place| async move {
                let mut fleet = Fleet::start_with(&place, &[("PREPAY_RELOAD_EVERY_MS", "300")]).await;
                fleet.at.ok(&["merchant", "add", "C2", "--name", "测试商户"]).await;
                let key = fleet.at.ok(&["merchant", "key", "add", "C2", "--hmac"]).await;
                let mut shop = Shop::new("C2", &field(&key, "key id"), &field(&key, "secret"));
                let certificates = AppOptions { mode: Mode::Certificate, ..AppOptions::default() };
                let app = fleet.at.enrol_alipay("C2", certificates).await;
                for front in fleet.fronts {
                    shop.base_url = format!("http://{front}");
                    until("a front takes the merchant's orders", || async {
                        shop.post("/api/v1/orders", &order_body("first")).await.1["code"] == "200"
                    })
                    .await;
                }
                let street = Arc::new(Street {
                    fronts: fleet.fronts,
                    sim: fleet.sim().clone(),
                    app_id: app.app_id.clone(),
                    shop: shop.clone(),
                    closing: AtomicBool::new(false),
                    paid: AtomicUsize::new(0),
                });
                let mut load = JoinSet::new();
                for number in 0..SHOPPERS {
                    load.spawn(street.clone().shopper(number));
                }
                street.goes_on().await;
                for _ in 0..2 {
                    fleet.sim().alipay().renew_alipay_cert(&app.app_id).unwrap();
                    street.goes_on().await;
                }
                street.closing.store(true, Ordering::Relaxed);
                for order_no in load.join_all().await.into_iter().flatten() {
                    until("the merchant sees the payment", || async {
                        shop.order(&order_no).await["payStatus"] == "SUCCESS"
                    })
                    .await;
                }
                place.assert_nothing_parked().await;
                fleet.at.assert_no_secret_printed();
                fleet.stop().await;
            })
            .await;
        }
    }
}
