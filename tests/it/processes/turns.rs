//! Every role leaves in turn while orders come in.

mod on_postgres {
    mod on_rabbitmq {
        use std::{
            sync::{
                Arc,
                atomic::{AtomicUsize, Ordering},
            },
            time::Duration,
        };

        use tokio::{sync::Semaphore, task::JoinSet};

        use crate::{
            processes::{
                fleet::{Fleet, payable_by_order},
                phones::until_parameters,
            },
            store::place::{On, run},
            trip::{harness::until, shop::pay_info},
        };

        const ORDERS: usize = 100;
        const AT_ONCE: usize = 10;

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_role_that_leaves_loses_nothing() {
            run(On::Postgres, |place| async move {
                let mut fleet = Fleet::start(&place).await;
                // Long enough that whoever leaves holds something.
                fleet.sim().set_latency(Duration::from_millis(150));
                let mut calls = Vec::new();
                for number in 0..ORDERS {
                    let order = fleet.enrolled.shop.new_order(&format!("A{number}")).await;
                    calls.push((pay_info(&order, "WECHAT"), fleet.code()));
                }
                let done = Arc::new(AtomicUsize::new(0));
                let load = tokio::spawn(pay_all(calls.clone(), fleet.fronts, done.clone()));
                let turns =
                    [Fleet::FRONTS[0], Fleet::WORKERS[0], Fleet::WORKERS[1], Fleet::FRONTS[1], Fleet::SCHEDULER];
                for (turn, number) in (1..).zip(turns) {
                    let reached = turn * ORDERS / (turns.len() + 1);
                    until("the load goes on", || async {
                        done.load(Ordering::Relaxed) >= reached || load.is_finished()
                    })
                    .await;
                    fleet.replace(number).await;
                }
                load.await.unwrap();

                let orders = payable_by_order(fleet.sim());
                assert_eq!(orders.len(), ORDERS);
                assert!(orders.values().all(|numbers| *numbers == 1), "{orders:?}");
                for (_, code) in &calls {
                    assert_eq!(fleet.sim().ledger().exchanges_of(code), 1);
                }
                fleet.stop().await;
            })
            .await;
        }

        async fn pay_all(calls: Vec<(String, String)>, fronts: [std::net::SocketAddr; 2], done: Arc<AtomicUsize>) {
            let phone = reqwest::Client::builder().no_proxy().build().unwrap();
            let places = Arc::new(Semaphore::new(AT_ONCE));
            let mut phones = JoinSet::new();
            for (number, (info, code)) in calls.into_iter().enumerate() {
                let place = places.clone().acquire_owned().await.unwrap();
                let (phone, done) = (phone.clone(), done.clone());
                // Half of the phones begin at the other front.
                let fronts = if number % 2 == 0 { fronts } else { [fronts[1], fronts[0]] };
                phones.spawn(async move {
                    let _place = place;
                    until_parameters(&phone, &fronts, &info, &code).await;
                    done.fetch_add(1, Ordering::Relaxed);
                });
            }
            while let Some(ended) = phones.join_next().await {
                ended.unwrap();
            }
        }
    }
}
