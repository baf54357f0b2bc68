//! Every key is changed while orders come in, and nobody notices.

mod on_postgres {
    mod on_rabbitmq {
        use std::{
            fs,
            time::{Duration, Instant},
        };

        use serde_json::json;
        use simulator::{Event, wechat::KeyMode};

        use crate::{
            cli::deployment::field,
            processes::{
                fleet::Fleet,
                phones::until_parameters,
                street::{Street, With},
            },
            store::place::{On, run},
            trip::{
                harness::until,
                inbox::Inbox,
                shop::{Shop, pay_info},
            },
        };

        const RELOAD_EVERY: Duration = Duration::from_millis(300);

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn every_key_is_changed_under_load_without_one_failed_request() {
            run(On::Postgres, |place| async move {
                let mut fleet =
                    Fleet::start_with(&place, &[("PREPAY_RELOAD_EVERY_MS", &RELOAD_EVERY.as_millis().to_string())])
                        .await;
                let told_with = fleet.at.ok(&["merchant", "key", "add", "C1", "--webhook"]).await;
                // Where the merchant is told of payments.
                let inbox = Inbox::open().await;
                let with = With::Wechat { appid: fleet.enrolled.wechat_app.appid.clone() };
                let shop = fleet.enrolled.shop.clone();
                let (street, crowd) = Street::open(&fleet, with, shop, Some(inbox.url.clone())).await;

                merchants_key(&fleet, &street).await;
                street.goes_on().await;
                let secrets = webhook_secret(&fleet, &inbox, &told_with).await;
                street.goes_on().await;
                pay_info_key(&fleet, &street).await;
                street.goes_on().await;
                merchants_certificate_at_the_wallet(&mut fleet, &street).await;
                street.goes_on().await;
                apiv3_key(&mut fleet).await;
                street.goes_on().await;
                wallets_own_key(&fleet, &street).await;
                master_keys(&mut fleet, &street).await;

                let bought = street.close(crowd).await;
                fleet.assert_no_notice_was_refused().await;
                // No call was made with a key that the wallet did not know yet, or any more.
                let refused = fleet.sim().ledger().entries().into_iter().filter(|entry| entry.event == Event::Refused);
                let unsigned: Vec<_> = refused.filter(|entry| entry.status == Some(401)).collect();
                assert!(unsigned.is_empty(), "{unsigned:?}");
                place.assert_nothing_parked().await;
                let all_told = || async { inbox.heard().len() >= bought.len() };
                until("the merchant was told of every payment", all_told).await;
                for heard in inbox.heard() {
                    assert!(secrets.iter().any(|secret| heard.is_signed_with(secret)), "{heard:?}");
                }
                fleet.at.assert_no_secret_printed();
                fleet.stop().await;
            })
            .await;
        }

        /// Two live keys, the merchant moves over, the old one goes.
        async fn merchants_key(fleet: &Fleet, street: &Street) {
            let added = fleet.at.ok(&["merchant", "key", "add", "C1", "--hmac"]).await;
            let old = street.shop.read().unwrap().clone();
            let mut new = Shop::new("C1", &field(&added, "key id"), &field(&added, "secret"));
            for front in fleet.fronts {
                new.base_url = format!("http://{front}");
                until("a front knows the new key", || async { new.get("/api/v1/orders/none").await.0 == 404 }).await;
            }
            *street.shop.write().unwrap() = new.clone();
            // Calls signed with the old key are on their way still.
            street.goes_on().await;
            fleet.at.ok(&["merchant", "key", "retire", "C1", &old.key_id]).await;
            for front in fleet.fronts {
                let mut old = old.clone();
                old.base_url = format!("http://{front}");
                until("the old key is refused", || async { old.get("/api/v1/orders/none").await.0 == 401 }).await;
            }
        }

        /// Two live secrets both sign; the merchant moves over, the old one goes.
        async fn webhook_secret(fleet: &Fleet, inbox: &Inbox, old: &str) -> [String; 2] {
            let new = fleet.at.ok(&["merchant", "key", "add", "C1", "--webhook"]).await;
            let secrets = [field(old, "secret"), field(&new, "secret")];
            until("both secrets sign", || async {
                let heard = inbox.heard();
                heard.last().is_some_and(|last| secrets.iter().all(|secret| last.is_signed_with(secret)))
            })
            .await;
            fleet.at.ok(&["merchant", "key", "retire", "C1", &field(old, "key id")]).await;
            until("the new secret alone signs", || async {
                inbox.heard().last().is_some_and(|last| !last.is_signed_with(&secrets[0]))
            })
            .await;
            secrets
        }

        /// It verifies everywhere before it signs anywhere; links of the old one live on until it is retired, and are made anew then.
        async fn pay_info_key(fleet: &Fleet, street: &Street) {
            let mut shop = street.shop.read().unwrap().clone();
            shop.new_order("BEFORE").await;
            let list = fleet.at.ok(&["key", "list"]).await;
            let old =
                list.lines().find(|line| line.starts_with("payinfo")).and_then(|line| line.split_whitespace().nth(1));
            fleet.at.ok(&["key", "create", "payinfo", "--id", "next"]).await;
            until("the new payInfo key signs", || async {
                let list = fleet.at.ok(&["key", "list"]).await;
                list.lines().any(|line| line.contains(" next ") && line.contains("in use"))
            })
            .await;
            // Its hour comes without a change in the store, and every front knows it.
            for (at, front) in fleet.fronts.into_iter().enumerate() {
                shop.base_url = format!("http://{front}");
                let mut n = 0;
                until("a front signs with it", || {
                    n += 1;
                    let (shop, order_no) = (shop.clone(), format!("SIGNED-{at}-{n}"));
                    async move { pay_info(&shop.new_order(&order_no).await, "WECHAT").starts_with("v1.next.") }
                })
                .await;
            }
            // Orders of the old one that are under way are paid still.
            street.goes_on().await;
            fleet.at.ok(&["key", "retire", "payinfo", old.unwrap()]).await;
            for front in fleet.fronts {
                shop.base_url = format!("http://{front}");
                until("the old key's links are gone", || async { shop.order("BEFORE").await["links"] == json!([]) })
                    .await;
            }
            let (status, fresh) = shop.post("/api/v1/orders/BEFORE/links", &json!({})).await;
            assert_eq!(status, 200, "{fresh:#}");
            let again = shop.post("/api/v1/orders/BEFORE/links", &json!({})).await.1;
            assert_eq!(again["data"], fresh["data"], "they are made anew once");
            let phone = reqwest::Client::builder().no_proxy().build().unwrap();
            until_parameters(&phone, &fleet.fronts, &pay_info(&fresh["data"], "WECHAT"), &fleet.code()).await;
        }

        async fn merchants_certificate_at_the_wallet(fleet: &mut Fleet, street: &Street) {
            let mchid = fleet.enrolled.wechat.mchid.clone();
            let key = fleet.sim().wechat().new_merchant_key(&mchid).unwrap().unwrap();
            fleet.at.secret_file("next_key.pem", &key.private_key_pem);
            let set =
                ["channel", "set-wechat", "1", "--serial-no", &key.serial_no, "--private-key-file", "next_key.pem"];
            fleet.at.ok(&set).await;
            // Each worker has looked several times, and what it had signed before that has arrived.
            let old = fleet.enrolled.wechat.serial_no.clone();
            let (quiet, set_at) = (fleet.sim().ledger().written(), Instant::now());
            until("no worker signs with the old key", || async {
                fleet.sim().ledger().written() > quiet + 200 && set_at.elapsed() > 10 * RELOAD_EVERY
            })
            .await;
            street.goes_on().await;
            assert!(fleet.sim().wechat().revoke_merchant_key(&mchid, &old));
        }

        /// Entered here first, beside the one before; the wallet's console has it a moment later and seals with it from then on.
        async fn apiv3_key(fleet: &mut Fleet) {
            let key = uuid::Uuid::now_v7().simple().to_string();
            fleet.at.secret_file("apiv3.next", &key);
            fleet.at.ok(&["channel", "set-wechat", "1", "--apiv3-key-file", "apiv3.next"]).await;
            assert!(fleet.sim().wechat().set_apiv3_key(&fleet.enrolled.wechat.mchid, &key));
        }

        /// From platform certificates to the public key, through the time in which both sign.
        async fn wallets_own_key(fleet: &Fleet, street: &Street) {
            let wechat = &fleet.enrolled.wechat;
            fleet.at.file("platform.pem", &wechat.platform_certificate_pem);
            fleet.at.ok(&["channel", "set-wechat", "1", "--platform-certificate-file", "platform.pem"]).await;
            // A front that has not read it yet would tell the wallet to come again.
            fleet.fronts_have_read("C2").await;
            street.goes_on().await;
            for mode in [KeyMode::Certificate, KeyMode::Mixed, KeyMode::PublicKey] {
                assert!(fleet.sim().wechat().set_key_mode(&wechat.mchid, mode));
                street.goes_on().await;
            }
        }

        /// New in front of old in the files, every process replaced, all sealed anew, old ones gone, replaced again.
        async fn master_keys(fleet: &mut Fleet, street: &Street) {
            for name in ["front", "back"] {
                let (file, new) = (format!("{name}.key"), format!("{name}.new"));
                fleet.at.ok(&["key", "master", "--out", &new]).await;
                let both = [&new, &file].map(|name| fs::read_to_string(fleet.at.path(name)).unwrap()).concat();
                fs::write(fleet.at.path(&file), both).unwrap();
            }
            replace_all(fleet, street).await;
            let resealed = fleet.at.ok(&["key", "reseal"]).await;
            assert!(resealed.contains("front: ") && !resealed.contains(" 0 sealed anew"), "{resealed}");
            for name in ["front", "back"] {
                fs::copy(fleet.at.path(&format!("{name}.new")), fleet.at.path(&format!("{name}.key"))).unwrap();
            }
            replace_all(fleet, street).await;
        }

        async fn replace_all(fleet: &mut Fleet, street: &Street) {
            fleet.assert_no_notice_was_refused().await;
            for number in 0..fleet.processes.len() {
                fleet.replace(number).await;
                street.goes_on().await;
            }
        }
    }
}
