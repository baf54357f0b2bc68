//! The keys of an application and of Alipay are changed while orders come in, and nobody notices.

mod on_postgres {
    mod on_rabbitmq {
        use simulator::RsaKey;

        use crate::{
            processes::{
                fleet::Fleet,
                street::{Street, With},
            },
            store::place::{On, run},
            trip::harness::until,
        };

        const OLDER: &str = "Alipay takes the older private key still";
        const NEW: &str = "Alipay takes the new private key now";

        /// Each key here first, beside the one before, and at the wallet when every process has it; then the older ones go.
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn keys_of_both_sides_are_changed_under_load_without_one_failed_request() {
            run(On::Postgres, |place| async move {
                let mut fleet = Fleet::start_with(&place, &[("PREPAY_RELOAD_EVERY_MS", "300")]).await;
                let app_id = fleet.enrolled.alipay_app.app_id.clone();
                let (own, alipays) = (RsaKey::generate().unwrap(), RsaKey::generate().unwrap());
                fleet.at.secret_file("own.next", &own.private_key_pem());
                fleet.at.file("alipay.next", &alipays.public_key_base64());
                let with = With::Alipay { app_id: app_id.clone() };
                let (street, crowd) = Street::open(&fleet, with, fleet.enrolled.shop.clone(), None).await;

                set(&fleet, &["--private-key-file", "own.next"]).await;
                workers_say(&fleet, OLDER, 1).await;
                street.goes_on().await;
                // Read anew, a worker tries the new private key first once more: that tells that it knows all of it.
                set(&fleet, &["--alipay-public-key-file", "alipay.next"]).await;
                workers_say(&fleet, OLDER, 2).await;
                fleet.fronts_have_read("C2").await;
                street.goes_on().await;

                fleet.sim().alipay().set_app_key(&app_id, own.public().clone()).unwrap();
                workers_say(&fleet, NEW, 1).await;
                street.goes_on().await;
                fleet.sim().alipay().set_alipay_key(&app_id, alipays).unwrap();
                street.goes_on().await;

                // Nothing that was signed with an older key is on its way any more.
                street.is_told().await;
                set(&fleet, &["--drop-older-keys"]).await;
                fleet.fronts_have_read("C3").await;
                street.goes_on().await;

                street.close(crowd).await;
                fleet.assert_no_notice_was_refused().await;
                place.assert_nothing_parked().await;
                fleet.at.assert_no_secret_printed();
                fleet.stop().await;
            })
            .await;
        }

        async fn set(fleet: &Fleet, more: &[&str]) {
            fleet.at.ok(&[&["channel", "set-alipay", "2"][..], more].concat()).await;
        }

        async fn workers_say(fleet: &Fleet, words: &str, times: usize) {
            for number in Fleet::WORKERS {
                let worker = &fleet.processes[number];
                until(words, || async { worker.logged().matches(words).count() >= times }).await;
            }
        }
    }
}
