//! From an empty folder to a deployment that lacks nothing.

mod on_sqlite {
    use simulator::wechat::MerchantOptions;

    use crate::cli::deployment::Deployment;

    /// The lines of a report that are not good.
    fn not_ok(report: &str) -> Vec<&str> {
        report.lines().filter(|line| line.starts_with("lacks") || line.starts_with("failed")).collect()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_merchant_is_enrolled_and_the_doctor_lacks_nothing() {
        let mut at = Deployment::empty().await;
        at.file("prepay.toml", "[front]\npublic_url = 'https://pay.example.com'\n[broker]\nurl = 'embedded'\n");
        at.set("PREPAY_SETTINGS", "prepay.toml");
        at.set_up().await;
        let enrolled = at.enrol().await;
        let report = at.run(&["doctor"]).await;
        assert_eq!((report.code, not_ok(&report.out), report.err.as_str()), (0, vec![], ""), "{}", report.out);
        for proven in [
            format!("mchid {}, serial_no and private key: accepted, and the answer verified", enrolled.wechat.mchid),
            format!("AppSecret of {}: accepted", enrolled.wechat_app.appid),
            format!("alipay.trade.query as {}: gateway, APPID, signature", enrolled.alipay_app.app_id),
            format!("alipay.system.oauth.token for mini-program {}", enrolled.alipay_app.app_id),
            "nothing is lacking".to_owned(),
        ] {
            assert!(report.out.contains(&proven), "{proven}: {}", report.out);
        }

        for (args, shows) in [
            (&["merchant", "list"][..], "测试商户"),
            (&["merchant", "set", "C1", "--late-payment", "refund"], "late payments: refund, second payments: refund"),
            (&["merchant", "set", "C1", "--second-payment", "keep"], "late payments: refund, second payments: keep"),
            (&["refund", "list", "--state", "abnormal"], "REFUND_NO"),
            (&["merchant", "key", "list", "C1"], "hmac"),
            (&["channel", "list"], enrolled.wechat.mchid.as_str()),
            (&["channel", "show", "1"], enrolled.wechat.public_key_id.as_str()),
            (&["channel", "show", "2"], "Alipay's public key"),
            (&["mini-program", "list"], enrolled.wechat_app.appid.as_str()),
            (&["key", "list"], "in use"),
            (&["parked", "list"], "REASON"),
            (&["queue", "definitions"], "max-length"),
        ] {
            let out = at.ok(args).await;
            assert!(out.contains(shows), "{args:?}: {out}");
        }
        at.assert_no_secret_printed();
        let secret = crate::cli::deployment::field(&at.printed(), "secret");
        assert_eq!(at.printed().matches(&secret).count(), 1, "the merchant's secret is shown once");
        at.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_doctor_says_what_comes_next() {
        let mut at = Deployment::empty().await;
        at.set("PREPAY_BROKER__URL", "embedded");
        let report = at.run(&["doctor"]).await;
        assert_eq!(report.code, 1);
        for lacking in
            ["lacks keys.front_file", "lacks keys.back_file", "lacks front.public_url", "run `prepay migrate`"]
        {
            assert!(report.out.replace("  ", " ").contains(lacking), "{lacking}: {}", report.out);
        }
        at.set("PREPAY_FRONT__PUBLIC_URL", "https://pay.example.com");
        at.ok(&["migrate"]).await;
        let report = at.run(&["doctor"]).await.out;
        for lacking in ["prepay key create payinfo", "prepay key create code-hash", "prepay merchant add"] {
            assert!(report.contains(lacking), "{lacking}: {report}");
        }
        at.set("PREPAY_FRONT__WAIT_MS", "99999");
        let report = at.run(&["doctor"]).await;
        assert!(report.code == 1 && report.out.contains("front.wait_ms is 99999"), "{report:?}");
        at.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_doctor_finds_a_key_of_somebody_else() {
        let mut at = Deployment::empty().await;
        at.set("PREPAY_BROKER__URL", "embedded");
        at.set("PREPAY_FRONT__PUBLIC_URL", "https://pay.example.com");
        at.set_up().await;
        at.enrol().await;
        let other = at.sim.wechat().new_merchant(MerchantOptions::default()).unwrap();
        at.secret_file("other.pem", &other.private_key_pem);
        at.ok(&["channel", "set-wechat", "1", "--serial-no", &other.serial_no, "--private-key-file", "other.pem"])
            .await;
        let report = at.run(&["doctor"]).await;
        assert!(report.code == 1 && not_ok(&report.out)[0].contains("SIGN_ERROR"), "{}", report.out);
        let offline = at.run(&["doctor", "--offline"]).await;
        assert_eq!(offline.code, 0, "{}", offline.out);
        at.assert_no_secret_printed();
        at.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_a_gateway_would_not_take_is_not_written() {
        let mut at = Deployment::empty().await;
        at.set_up().await;
        at.ok(&["merchant", "add", "C1", "--name", "x"]).await;
        let theirs = at.sim.wechat().new_merchant(MerchantOptions::default()).unwrap();
        at.secret_file("key.pem", &theirs.private_key_pem);
        at.secret_file("short", "not-thirty-two-characters");
        let mut args = vec!["channel", "add-wechat", "C1", "--mchid", "1900000109", "--serial-no", "5F1C"];
        args.extend(["--private-key-file", "key.pem", "--apiv3-key-file", "short"]);
        assert!(at.fails(&args).await.contains("apiv3_key must be 32 characters"));
        args[10] = "nowhere";
        assert!(at.fails(&args).await.contains("--apiv3-key-file: nowhere cannot be read"));
        args[8] = "-";
        args[10] = "-";
        let refused = at.run_with_input(&args, &theirs.private_key_pem).await;
        assert!(refused.code == 1 && refused.err.contains("stdin is read once"), "{refused:?}");
        assert_eq!(at.ok(&["channel", "list"]).await.lines().count(), 1, "only the heading");
        for (args, says) in [
            (&["merchant", "add", "C1", "--name", "x"][..], "exists already"),
            (&["merchant", "key", "add", "C9", "--hmac"], "there is no merchant C9"),
            (&["channel", "show", "7"], "there is no channel account 7"),
            (&["order", "show", "A1", "--customer", "C1"], "has no order A1"),
            (&["order", "close", "A1", "--customer", "C1"], "has no order A1"),
            (&["refund", "show", "R1", "--customer", "C1"], "has no refund R1"),
            (&["refund", "retry", "R1", "--customer", "C1"], "has no refund R1"),
            (&["key", "retire", "payinfo", "k1"], "no other payinfo key signs"),
            (&["key", "master", "--out", "front.key"], "front.key exists"),
            (&["queue", "depth"], "broker.url: no connection"),
        ] {
            at.set("PREPAY_BROKER__URL", "amqp://127.0.0.1:1/%2f");
            let error = at.fails(args).await;
            assert!(error.contains(says), "{args:?}: {error}");
        }
        at.assert_no_secret_printed();
        at.stop().await;
    }
}
