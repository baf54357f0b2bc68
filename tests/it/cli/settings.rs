//! A wrong setting is one clear line.

mod on_sqlite {
    use crate::cli::deployment::Deployment;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_wrong_setting_is_one_line_that_names_it() {
        let mut at = Deployment::empty().await;
        at.set_up().await;
        at.file("broken.toml", "[front\nwait_ms = 1\n");
        at.file("unknown.toml", "[front]\nwait_s = 1\n");
        let ours = at.variables.clone();
        for (variable, value, role, says) in [
            ("PREPAY_FRONT__WAIT_MS", "13000", "front", "front.wait_ms is 13000; it must be 500 to 12000"),
            ("PREPAY_FRONT__WAIT_MS", "soon", "front", "wait_ms"),
            ("PREPAY_FRONT__NO_SUCH", "1", "serve", "no_such"),
            ("PREPAY_DATABASE__URL", "oracle://x", "worker", "database.url must begin with"),
            ("PREPAY_DATABASE__URL", "sqlite:///no/such/folder/x.db", "worker", "database.url: cannot connect"),
            ("PREPAY_BROKER__URL", "http://x", "worker", "broker.url must be"),
            ("PREPAY_BROKER__URL", "embedded", "worker", "that is for `serve`"),
            ("PREPAY_FRONT__PUBLIC_URL", "http://pay.example.com", "front", "front.public_url"),
            ("PREPAY_LOG__FILTER", "prepay=loud", "front", "log filter"),
            ("PREPAY_KEYS__FRONT_FILE", "nowhere", "front", "keys.front_file: nowhere cannot be read"),
            ("PREPAY_KEYS__BACK_FILE", "broken.toml", "worker", "back master key 1"),
            ("PREPAY_KEYS__FRONT", "a:b", "front", "both set"),
            ("PREPAY_SETTINGS", "broken.toml", "front", "settings"),
            ("PREPAY_SETTINGS", "unknown.toml", "front", "wait_s"),
            ("PREPAY_SETTINGS", "nowhere.toml", "front", "settings file nowhere.toml"),
            ("PREPAY_FRONT__LISTEN", "192.0.2.1:80", "serve", "front.listen"),
        ] {
            at.variables.clone_from(&ours);
            at.set("PREPAY_LOG__FILTER", "off");
            at.set("PREPAY_BROKER__URL", "embedded");
            if role != "serve" {
                at.set("PREPAY_BROKER__URL", "amqp://127.0.0.1:1/%2f");
            }
            at.set("PREPAY_FRONT__PUBLIC_URL", "https://pay.example.com");
            at.set("PREPAY_OPERATIONS__LISTEN", "127.0.0.1:0");
            at.set("PREPAY_FRONT__LISTEN", "127.0.0.1:0");
            at.set(variable, value);
            let error = at.fails(&[role]).await;
            assert!(error.starts_with("prepay: ") && error.contains(says), "{variable}={value}: {error}");
        }
        at.assert_no_secret_printed();
        at.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_password_in_an_address_is_not_repeated() {
        let mut at = Deployment::empty().await;
        for (variable, value) in [
            ("PREPAY_DATABASE__URL", "postgres://prepay:hunter2@127.0.0.1:1/prepay"),
            ("PREPAY_BROKER__URL", "amqp://prepay:hunter2@127.0.0.1:1/%2f"),
        ] {
            at.set(variable, value);
        }
        at.set("PREPAY_DATABASE__ACQUIRE_TIMEOUT_MS", "200");
        for args in [&["doctor"][..], &["migrate"], &["merchant", "list"], &["queue", "depth"]] {
            let done = at.run(args).await;
            assert_eq!(done.code, 1, "{args:?}: {done:?}");
        }
        assert!(!at.printed().contains("hunter2"), "{}", at.printed());
        at.stop().await;
    }
}
