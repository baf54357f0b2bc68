//! Every key is changed while orders come in, and nobody notices.

mod on_postgres {
    mod on_rabbitmq {
        use std::{
            fs,
            net::SocketAddr,
            sync::{
                Arc, RwLock,
                atomic::{AtomicBool, AtomicUsize, Ordering},
            },
            time::{Duration, Instant},
        };

        use reqwest::Method;
        use serde_json::{Value, json};
        use simulator::{
            Simulator,
            wechat::{KeyMode, Press},
        };
        use tokio::task::JoinSet;

        use crate::{
            cli::deployment::field,
            processes::{fleet::Fleet, phones::until_parameters},
            store::place::{On, run},
            trip::{
                harness::until,
                inbox::Inbox,
                shop::{Shop, order_body, pay_info},
            },
        };

        const SHOPPERS: usize = 4;

        /// What all shoppers share.
        struct Street {
            fronts: [SocketAddr; 2],
            sim: Simulator,
            appid: String,
            /// Signs with the key that is the merchant's own choice right now.
            shop: RwLock<Shop>,
            /// Where the merchant is told of payments.
            inbox: Inbox,
            closing: AtomicBool,
            paid: AtomicUsize,
        }

        impl Street {
            /// Orders and pays, again and again, at both fronts in turn. Any refusal is a panic.
            async fn shopper(self: Arc<Self>, number: usize) -> Vec<String> {
                let client = reqwest::Client::builder().no_proxy().build().unwrap();
                let mut bought = Vec::new();
                for at in 0.. {
                    if self.closing.load(Ordering::Relaxed) {
                        break;
                    }
                    let order_no = format!("S{number}-{at}");
                    let fronts =
                        if (number + at).is_multiple_of(2) { self.fronts } else { [self.fronts[1], self.fronts[0]] };
                    let order = self.order(&client, &fronts, &order_no).await;
                    let openid = self.sim.wechat().new_openid(&self.appid);
                    let code = self.sim.wechat().new_code(&self.appid, &openid);
                    let data = until_parameters(&client, &fronts, &pay_info(&order, "WECHAT"), &code).await;
                    let result = self.sim.wechat().request_payment(&data, &openid, Press::Pay).unwrap();
                    assert!(result.transaction_id.is_some(), "{}", result.err_msg);
                    self.paid.fetch_add(1, Ordering::Relaxed);
                    bought.push(order_no);
                }
                bought
            }

            /// A merchant's server: it comes again only when nobody answered at all.
            async fn order(&self, client: &reqwest::Client, fronts: &[SocketAddr], order_no: &str) -> Value {
                let mut body = order_body(order_no);
                body["notifyUrl"] = json!(self.inbox.url);
                let body = body.to_string();
                let deadline = Instant::now() + Duration::from_secs(30);
                for front in fronts.iter().cycle() {
                    let call = self.shop.read().unwrap().call(Method::POST, "/api/v1/orders", body.as_bytes());
                    let mut request = client.post(format!("http://{front}{}", call.target)).body(call.body);
                    for (name, value) in call.headers {
                        request = request.header(name, value);
                    }
                    match request.send().await {
                        Ok(answer) => {
                            let (status, text) = (answer.status(), answer.text().await.unwrap_or_default());
                            if let Ok(answer) = serde_json::from_str::<Value>(&text) {
                                assert_eq!(answer["code"], "200", "{status} {answer:#}");
                                return answer["data"].clone();
                            }
                        }
                        Err(error) => assert!(Instant::now() < deadline, "{error}"),
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                unreachable!("fronts are cycled for ever")
            }

            /// Some more orders went through, on whatever keys there are now.
            async fn goes_on(&self) {
                let before = self.paid.load(Ordering::Relaxed);
                let enough = || self.paid.load(Ordering::Relaxed) >= before + 2 * SHOPPERS;
                until("orders go through", || async { enough() }).await;
            }
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn every_key_is_changed_under_load_without_one_failed_request() {
            run(On::Postgres, |place| async move {
                let mut fleet = Fleet::start_with(&place, &[("PREPAY_RELOAD_EVERY_MS", "300")]).await;
                let told_with = fleet.at.ok(&["merchant", "key", "add", "C1", "--webhook"]).await;
                let street = Arc::new(Street {
                    fronts: fleet.fronts,
                    sim: fleet.sim().clone(),
                    appid: fleet.enrolled.wechat_app.appid.clone(),
                    shop: RwLock::new(fleet.enrolled.shop.clone()),
                    inbox: Inbox::open().await,
                    closing: AtomicBool::new(false),
                    paid: AtomicUsize::new(0),
                });
                let mut load = JoinSet::new();
                for number in 0..SHOPPERS {
                    load.spawn(street.clone().shopper(number));
                }
                street.goes_on().await;

                merchants_key(&fleet, &street).await;
                street.goes_on().await;
                let secrets = webhook_secret(&fleet, &street, &told_with).await;
                street.goes_on().await;
                pay_info_key(&fleet).await;
                street.goes_on().await;
                merchants_certificate_at_the_wallet(&mut fleet).await;
                street.goes_on().await;
                apiv3_key(&mut fleet).await;
                street.goes_on().await;
                wallets_own_key(&fleet, &street).await;
                master_keys(&mut fleet, &street).await;

                street.closing.store(true, Ordering::Relaxed);
                let bought: Vec<String> = load.join_all().await.into_iter().flatten().collect();
                let shop = street.shop.read().unwrap().clone();
                for order_no in &bought {
                    until("the merchant sees the payment", || async {
                        shop.order(order_no).await["payStatus"] == "SUCCESS"
                    })
                    .await;
                }
                place.assert_nothing_parked().await;
                let all_told = || async { street.inbox.heard().len() >= bought.len() };
                until("the merchant was told of every payment", all_told).await;
                for heard in street.inbox.heard() {
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
                until("a front knows the new key", || async { new.get("/api/v1/orders/none").await.0 != 401 }).await;
            }
            *street.shop.write().unwrap() = new.clone();
            // Calls signed with the old key are on their way still.
            let signed_with_old = street.paid.load(Ordering::Relaxed) + 2 * SHOPPERS;
            until("the old key's calls are over", || async { street.paid.load(Ordering::Relaxed) >= signed_with_old })
                .await;
            fleet.at.ok(&["merchant", "key", "retire", "C1", &old.key_id]).await;
            for front in fleet.fronts {
                let mut old = old.clone();
                old.base_url = format!("http://{front}");
                until("the old key is refused", || async { old.get("/api/v1/orders/none").await.0 == 401 }).await;
            }
        }

        /// Two live secrets both sign; the merchant moves over, the old one goes.
        async fn webhook_secret(fleet: &Fleet, street: &Street, old: &str) -> [String; 2] {
            let new = fleet.at.ok(&["merchant", "key", "add", "C1", "--webhook"]).await;
            let secrets = [field(old, "secret"), field(&new, "secret")];
            until("both secrets sign", || async {
                let heard = street.inbox.heard();
                heard.last().is_some_and(|last| secrets.iter().all(|secret| last.is_signed_with(secret)))
            })
            .await;
            fleet.at.ok(&["merchant", "key", "retire", "C1", &field(old, "key id")]).await;
            until("the new secret alone signs", || async {
                street.inbox.heard().last().is_some_and(|last| !last.is_signed_with(&secrets[0]))
            })
            .await;
            secrets
        }

        /// It verifies everywhere before it signs anywhere; links of the old one live on until it is retired.
        async fn pay_info_key(fleet: &Fleet) {
            fleet.at.ok(&["key", "create", "payinfo", "--id", "next"]).await;
            until("the new payInfo key signs", || async {
                let list = fleet.at.ok(&["key", "list"]).await;
                list.lines().any(|line| line.contains(" next ") && line.contains("in use"))
            })
            .await;
        }

        async fn merchants_certificate_at_the_wallet(fleet: &mut Fleet) {
            let mchid = fleet.enrolled.wechat.mchid.clone();
            let key = fleet.sim().wechat().new_merchant_key(&mchid).unwrap().unwrap();
            fleet.at.secret_file("next_key.pem", &key.private_key_pem);
            let set =
                ["channel", "set-wechat", "1", "--serial-no", &key.serial_no, "--private-key-file", "next_key.pem"];
            fleet.at.ok(&set).await;
            // Two reloads and the calls under way.
            let old = fleet.enrolled.wechat.serial_no.clone();
            let quiet = fleet.sim().ledger().written();
            until("no worker signs with the old key", || async { fleet.sim().ledger().written() > quiet + 200 }).await;
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
            for number in 0..fleet.processes.len() {
                fleet.replace(number).await;
                street.goes_on().await;
            }
        }
    }
}
