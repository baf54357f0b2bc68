//! Keys that are changed while the deployment lives.

use std::fs;

use prepay::{
    domain::time::Timestamp,
    keys::{Back, Place as Sealing, Vault},
    store::Parked,
};
use secrecy::{ExposeSecret, SecretString};

use crate::{cli::deployment::Deployment, store::place::Place};

/// So many messages are set aside that they are not read at once.
const PARKED: usize = 120;

/// Everything that is sealed opens with the new keys alone, the bodies of parked messages too.
async fn master_keys_are_changed_without_enrolling_anew(place: Place) {
    let mut at = Deployment::empty().await;
    at.set("PREPAY_DATABASE__URL", &place.url);
    at.set("PREPAY_BROKER__URL", "embedded");
    at.set("PREPAY_FRONT__PUBLIC_URL", "https://pay.example.com");
    at.set_up().await;
    at.enrol().await;
    for number in 0..PARKED {
        park(&place, &back_vault(&at, "back.key"), number).await;
    }
    assert!(at.ok(&["key", "reseal"]).await.contains("0 sealed anew"));
    for name in ["front", "back"] {
        let (old, new) = (format!("{name}.key"), format!("{name}.new"));
        at.ok(&["key", "master", "--out", &new]).await;
        let both = [fs::read_to_string(at.path(&new)).unwrap(), fs::read_to_string(at.path(&old)).unwrap()];
        fs::write(at.path(&old), both.concat()).unwrap();
    }
    let resealed = at.ok(&["key", "reseal"]).await;
    // Front: the merchant's key and the payInfo key. Back: the code-hash key, two accounts, two mini-programs.
    assert!(resealed.contains("front: 2 sealed anew, 0 were current"), "{resealed}");
    assert!(resealed.contains(&format!("back: {} sealed anew, 0 were current", 5 + PARKED)), "{resealed}");
    let again = at.ok(&["key", "reseal"]).await;
    assert!(again.contains(&format!("back: 0 sealed anew, {} were current", 5 + PARKED)), "{again}");
    at.set("PREPAY_KEYS__FRONT_FILE", "front.new");
    at.set("PREPAY_KEYS__BACK_FILE", "back.new");
    let report = at.run(&["doctor"]).await;
    assert_eq!(report.code, 0, "{}", report.out);
    let vault = back_vault(&at, "back.new");
    for number in 0..PARKED {
        let id = format!("parked-{number}");
        let sealed = place.store.parked(&id).await.unwrap().unwrap().body_sealed.unwrap();
        assert_eq!(vault.open(sealing(&id), &sealed).unwrap().expose_secret(), body(number).as_bytes());
    }
    at.assert_no_secret_printed();
    at.stop().await;
}

fn back_vault(at: &Deployment, file: &str) -> Vault {
    Vault::new(None, Some(&SecretString::from(fs::read_to_string(at.path(file)).unwrap()))).unwrap()
}

fn sealing(id: &str) -> Sealing<'_> {
    Sealing { table: "parked", column: "body_sealed", row: id }
}

fn body(number: usize) -> String {
    format!("the body of message {number}")
}

async fn park(place: &Place, vault: &Vault, number: usize) {
    let id = format!("parked-{number}");
    let sealed = vault.seal::<Back>(sealing(&id), body(number).as_bytes()).unwrap();
    let message = Parked {
        id,
        queue: "prepay.notifications".into(),
        kind: Some("notice".into()),
        order: None,
        reason: "a test".into(),
        body_masked: "{}".into(),
        body_sealed: Some(sealed),
        received_at: Timestamp::from_secs(1),
    };
    assert!(place.store.park(&message, Timestamp::from_secs(1)).await.unwrap());
}

mod on_postgres {
    use crate::store::place::{On, run};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn master_keys_are_changed_without_enrolling_anew() {
        run(On::Postgres, super::master_keys_are_changed_without_enrolling_anew).await;
    }
}

mod on_mariadb {
    use crate::store::place::{On, run};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn master_keys_are_changed_without_enrolling_anew() {
        run(On::Mariadb, super::master_keys_are_changed_without_enrolling_anew).await;
    }
}

mod on_sqlite {
    use simulator::{
        RsaKey,
        alipay::{AppOptions, Mode},
    };

    use crate::{
        cli::deployment::Deployment,
        store::place::{On, run},
    };

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn master_keys_are_changed_without_enrolling_anew() {
        run(On::Sqlite, super::master_keys_are_changed_without_enrolling_anew).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_pay_info_key_verifies_before_it_signs() {
        let mut at = Deployment::empty().await;
        at.set("PREPAY_RELOAD_EVERY_MS", "60000");
        at.set_up().await;
        assert!(at.ok(&["key", "create", "payinfo"]).await.contains("key k2 verifies; it signs in 120 s"));
        assert!(at.fails(&["key", "retire", "payinfo", "k1"]).await.contains("no other payinfo key signs yet"));
        at.ok(&["key", "retire", "payinfo", "k2"]).await;
        assert!(at.ok(&["key", "create", "payinfo", "--now", "--id", "next"]).await.contains("key next signs"));
        at.ok(&["key", "retire", "payinfo", "k1"]).await;
        let list = at.ok(&["key", "list"]).await;
        let state = |id: &str| {
            let line = list.lines().find(|line| line.starts_with("payinfo") && line.contains(&format!(" {id} ")));
            line.unwrap().to_owned()
        };
        assert!(state("k1").contains("retired") && state("k2").contains("retired"), "{list}");
        assert!(state("next").contains("in use"), "{list}");
        at.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn keys_at_a_wallet_are_changed_and_the_old_ones_kept_beside() {
        let mut at = Deployment::empty().await;
        at.set("PREPAY_BROKER__URL", "embedded");
        at.set("PREPAY_FRONT__PUBLIC_URL", "https://pay.example.com");
        at.set_up().await;
        let enrolled = at.enrol().await;
        at.secret_file("apiv3.new", "0123456789abcdefghijklmnopqrstuv");
        at.ok(&["channel", "set-wechat", "1", "--apiv3-key-file", "apiv3.new"]).await;
        at.file("platform.pem", &enrolled.wechat.platform_certificate_pem);
        at.ok(&["channel", "set-wechat", "1", "--platform-certificate-file", "platform.pem"]).await;
        let shown = at.ok(&["channel", "show", "1"]).await;
        assert!(shown.contains(&enrolled.wechat.public_key_id) && shown.contains("platform certificate"), "{shown}");
        at.secret_file("secret.wrong", "00000000000000000000000000000000");
        at.ok(&["mini-program", "set-secret", "1", "--app-secret-file", "secret.wrong"]).await;
        let report = at.run(&["doctor"]).await;
        assert!(report.code == 1 && report.out.contains("40125"), "{}", report.out);
        at.ok(&["mini-program", "set-secret", "1", "--app-secret-file", "app.secret"]).await;
        for command in ["disable", "enable"] {
            at.ok(&["channel", command, "2"]).await;
            at.ok(&["mini-program", command, "2"]).await;
            at.ok(&["merchant", command, "C1"]).await;
        }
        at.assert_no_secret_printed();
        at.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn keys_at_alipay_are_used_beside_the_older_ones_until_those_are_dropped() {
        let mut at = Deployment::empty().await;
        at.set("PREPAY_BROKER__URL", "embedded");
        at.set("PREPAY_FRONT__PUBLIC_URL", "https://pay.example.com");
        at.set_up().await;
        let app_id = at.enrol().await.alipay_app.app_id;
        let (own, alipays) = (RsaKey::generate().unwrap(), RsaKey::generate().unwrap());
        at.secret_file("own.next", &own.private_key_pem());
        at.file("alipay.next", &alipays.public_key_base64());
        let set = ["channel", "set-alipay", "2", "--private-key-file"];
        let both = [&set[..], &["own.next", "--alipay-public-key-file", "alipay.next"]].concat();
        let (still, older) = ("takes the older private key still", "Alipay's older public key");
        // The same keys again change nothing: the wallet's are the older ones still.
        for _ in 0..2 {
            at.ok(&both).await;
            let report = at.run(&["doctor"]).await;
            assert!(report.code == 0 && report.out.contains(still), "{}", report.out);
            assert!(at.ok(&["channel", "show", "2"]).await.contains(older));
        }
        at.sim.alipay().set_app_key(&app_id, own.public().clone()).unwrap();
        at.sim.alipay().set_alipay_key(&app_id, alipays).unwrap();
        for drop_older in [false, true] {
            if drop_older {
                at.ok(&["channel", "set-alipay", "2", "--drop-older-keys"]).await;
            }
            let report = at.run(&["doctor"]).await;
            assert!(report.code == 0 && !report.out.contains(still), "{}", report.out);
            assert_eq!(at.ok(&["channel", "show", "2"]).await.contains(older), !drop_older);
        }
        assert_eq!(at.run(&[&both[..], &["--drop-older-keys"]].concat()).await.code, 2, "one or the other");

        // Dropped too early, the wallet has none of ours.
        at.secret_file("own.early", &RsaKey::generate().unwrap().private_key_pem());
        at.ok(&[&set[..], &["own.early"]].concat()).await;
        assert_eq!(at.run(&["doctor"]).await.code, 0);
        at.ok(&["channel", "set-alipay", "2", "--drop-older-keys"]).await;
        let report = at.run(&["doctor"]).await;
        assert!(report.code == 1 && report.out.contains("isv.invalid-signature"), "{}", report.out);
        // The one before, entered again, is beside it.
        at.ok(&both).await;
        assert_eq!(at.run(&["doctor"]).await.code, 0);

        // A certificate belongs to its key: nothing older stays, or it would be refused.
        let certified = at.sim.alipay().new_app(AppOptions { mode: Mode::Certificate, ..AppOptions::default() });
        at.secret_file("certified.pem", &certified.app_private_key_pem);
        at.file("app.crt", certified.app_cert_pem.as_ref().unwrap());
        at.file("alipay.crt", certified.alipay_cert_pem.as_ref().unwrap());
        at.file("root.crt", certified.alipay_root_cert_pem.as_ref().unwrap());
        let certificates = [
            "certified.pem",
            "--app-cert-file",
            "app.crt",
            "--alipay-cert-file",
            "alipay.crt",
            "--root-cert-file",
            "root.crt",
        ];
        at.ok(&[&set[..], &certificates].concat()).await;
        assert!(!at.ok(&["channel", "show", "2"]).await.contains("older"));
        at.assert_no_secret_printed();
        at.stop().await;
    }
}
