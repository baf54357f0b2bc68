//! What an account adds to its prepays, as an operator turns it on and off.

mod on_sqlite {
    use crate::cli::deployment::{Deployment, field};

    /// The settings of an account, as they are shown.
    async fn settings(at: &Deployment, id: &str) -> String {
        field(&at.ok(&["channel", "show", id]).await, "settings")
    }

    const ON: [&str; 8] = ["--profit-sharing", "on", "--goods-detail", "on", "--no-credit", "on", "--payer-ip", "on"];
    const SHOWN: &str = r#""extras":{"profit_sharing":true,"goods_detail":true,"no_credit":true,"payer_ip":true}"#;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn each_is_turned_on_shown_and_leaves_nothing_behind_when_it_is_off() {
        let mut at = Deployment::empty().await;
        at.set_up().await;
        at.enrol().await;
        for (command, id) in [("set-wechat", "1"), ("set-alipay", "2")] {
            let set = ["channel", command, id];
            let before = settings(&at, id).await;
            assert!(!before.contains("extras"), "{before}");
            at.ok(&[&set[..], &ON].concat()).await;
            assert!(settings(&at, id).await.contains(SHOWN), "{}", settings(&at, id).await);
            // What is not named stays.
            at.ok(&[&set[..], &["--no-credit", "off", "--payer-ip", "off"]].concat()).await;
            assert!(settings(&at, id).await.contains(r#""extras":{"profit_sharing":true,"goods_detail":true}"#));
            at.ok(&[&set[..], &["--profit-sharing", "off", "--goods-detail", "off"]].concat()).await;
            assert_eq!(settings(&at, id).await, before);
            let wrong = at.run(&[&set[..], &["--payer-ip", "yes"]].concat()).await;
            assert!(wrong.code == 2 && wrong.err.contains("`on` or `off`"), "{wrong:?}");
        }
        let before = settings(&at, "1").await;
        at.ok(&["channel", "set-wechat", "1", "--goods-tag", "SPRING"]).await;
        assert!(settings(&at, "1").await.ends_with(r#","goods_tag":"SPRING"}"#));
        let long = "9".repeat(33);
        let refused = at.fails(&["channel", "set-wechat", "1", "--goods-tag", &long]).await;
        assert!(refused.contains("goods_tag must be 1 to 32 characters"), "{refused}");
        at.ok(&["channel", "set-wechat", "1", "--goods-tag", ""]).await;
        assert_eq!(settings(&at, "1").await, before);
        let alipay = at.run(&["channel", "set-alipay", "2", "--goods-tag", "SPRING"]).await;
        assert_eq!(alipay.code, 2, "Alipay has no goods tag: {alipay:?}");
        at.assert_no_secret_printed();
        at.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_account_is_enrolled_with_them() {
        let mut at = Deployment::empty().await;
        at.set_up().await;
        let theirs = at.enrol().await;
        at.ok(&["merchant", "add", "C2", "--name", "x"]).await;
        at.secret_file("apiv3.txt", &theirs.wechat.apiv3_key);
        let mut wechat = vec!["channel", "add-wechat", "C2", "--mchid", &theirs.wechat.mchid];
        wechat.extend(["--serial-no", &theirs.wechat.serial_no, "--private-key-file", "apiclient_key.pem"]);
        wechat.extend(["--apiv3-key-file", "apiv3.txt", "--public-key-id", &theirs.wechat.public_key_id]);
        wechat.extend(["--public-key-file", "pub_key.pem", "--goods-tag", "SPRING"]);
        let mut alipay = vec!["channel", "add-alipay", "C2", "--app-id", &theirs.alipay_app.app_id];
        alipay.extend(["--private-key-file", "C1-alipay-app_key.pem"]);
        alipay.extend(["--alipay-public-key-file", "C1-alipay-public.txt"]);
        for (mut args, tag) in [(wechat, r#","goods_tag":"SPRING"}"#), (alipay, "}")] {
            args.extend(ON);
            let id = field(&at.ok(&args).await, "channel account");
            let shown = settings(&at, &id).await;
            assert!(shown.ends_with(&format!("{SHOWN}{tag}")), "{shown}");
        }
        at.assert_no_secret_printed();
        at.stop().await;
    }
}
