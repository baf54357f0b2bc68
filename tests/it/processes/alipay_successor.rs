//! Alipay goes over to a certificate that nobody gave us, while orders come in.

mod on_postgres {
    mod on_rabbitmq {
        use simulator::alipay::{AppOptions, Mode};

        use crate::{
            cli::deployment::field,
            processes::{
                fleet::Fleet,
                street::{Street, With},
            },
            store::place::{On, run},
            trip::{
                harness::until,
                shop::{Shop, order_body},
            },
        };

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
                let with = With::Alipay { app_id: app.app_id.clone() };
                let (street, crowd) = Street::open(&fleet, with, shop, None).await;
                for _ in 0..2 {
                    fleet.sim().alipay().renew_alipay_cert(&app.app_id).unwrap();
                    street.goes_on().await;
                }
                street.close(crowd).await;
                // Notices name no certificate, and the key of this successor is the one before's: only answers named
                // what nobody knew yet.
                fleet.assert_no_notice_was_refused().await;
                place.assert_nothing_parked().await;
                fleet.at.assert_no_secret_printed();
                fleet.stop().await;
            })
            .await;
        }
    }
}
