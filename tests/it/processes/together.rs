//! Two fronts beside each other.

mod on_postgres {
    mod on_rabbitmq {
        use crate::{
            processes::{
                fleet::{Fleet, payable_by_order},
                phones::until_parameters,
            },
            store::place::{On, run},
            trip::shop::pay_info,
        };

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn one_code_at_two_fronts_is_one_exchange_and_one_prepay() {
            run(On::Postgres, |place| async move {
                let fleet = Fleet::start(&place).await;
                let order = fleet.enrolled.shop.new_order("A1").await;
                let (info, code) = (pay_info(&order, "WECHAT"), fleet.code());
                let phone = reqwest::Client::builder().no_proxy().build().unwrap();
                let [one, other] = fleet.fronts.map(|front| [front]);
                let (first, second) = tokio::join!(
                    until_parameters(&phone, &one, &info, &code),
                    until_parameters(&phone, &other, &info, &code),
                );
                assert_eq!(first["package"], second["package"]);
                let ledger = fleet.sim().ledger();
                assert_eq!(ledger.exchanges_of(&code), 1);
                assert_eq!(payable_by_order(fleet.sim()).into_values().collect::<Vec<_>>(), [1]);
                let number = ledger.payable_numbers("").remove(0);
                assert_eq!(ledger.prepays_of(&number), 1);
                fleet.stop().await;
            })
            .await;
        }
    }
}
