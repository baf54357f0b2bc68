//! Every way Alipay is signed with and codes are exchanged as, enrolled by commands and then used.

mod on_sqlite {
    mod on_embedded {
        use simulator::alipay::{AlipayApp, AppOptions, KeyFormat, Kind, Mode, Press};

        use crate::{
            cli::deployment::{Deployment, Done, field},
            processes::phones::until_parameters,
            trip::{
                harness::{free_addr, until},
                shop::{Shop, pay_info},
            },
        };

        async fn at() -> (Deployment, std::net::SocketAddr) {
            let (mut at, public) = (Deployment::empty().await, free_addr());
            at.set("PREPAY_BROKER__URL", "embedded");
            at.set("PREPAY_FRONT__PUBLIC_URL", format!("http://{public}"));
            at.set("PREPAY_FRONT__ALLOW_PRIVATE_NOTIFY_URLS", "true");
            at.set_up().await;
            (at, public)
        }

        /// A merchant with nothing but a key.
        async fn merchant(at: &Deployment, customer_no: &str) -> Shop {
            at.ok(&["merchant", "add", customer_no, "--name", "测试商户"]).await;
            let key = at.ok(&["merchant", "key", "add", customer_no, "--hmac"]).await;
            Shop::new(customer_no, &field(&key, "key id"), &field(&key, "secret"))
        }

        /// Runs a command that must succeed, with stdin.
        async fn given(at: &Deployment, args: &[&str], input: &str) -> String {
            let Done { code, out, err } = at.run_with_input(args, input).await;
            assert_eq!((code, err.as_str()), (0, ""), "{args:?}: {out}");
            out
        }

        /// Writes an application's public side as files, and answers the arguments that name them.
        fn public_side<'a>(at: &Deployment, app: &AlipayApp, names: &'a [String; 4]) -> Vec<&'a str> {
            let [key, own, alipay, root] = names;
            match app.mode {
                Mode::PublicKey => {
                    at.file(key, &app.alipay_public_key);
                    vec!["--alipay-public-key-file", key]
                }
                Mode::Certificate => {
                    at.file(own, app.app_cert_pem.as_ref().unwrap());
                    at.file(alipay, app.alipay_cert_pem.as_ref().unwrap());
                    at.file(root, app.alipay_root_cert_pem.as_ref().unwrap());
                    vec!["--app-cert-file", own, "--alipay-cert-file", alipay, "--root-cert-file", root]
                }
            }
        }

        fn names(of: &str) -> [String; 4] {
            ["key", "app.crt", "alipay.crt", "root.crt"].map(|kind| format!("{of}-{kind}"))
        }

        /// Enrols an account, its private key from stdin. Answers its number.
        async fn account(at: &mut Deployment, customer_no: &str, app: &AlipayApp, more: &[&str]) -> String {
            at.is_secret(&app.app_private_key_pem);
            let (names, gateway) = (names(customer_no), format!("{}/gateway.do", at.sim.base_url()));
            let mut args = vec!["channel", "add-alipay", customer_no, "--app-id", &app.app_id];
            args.extend(["--private-key-file", "-", "--gateway-url", &gateway]);
            args.extend(public_side(at, app, &names));
            args.extend(more);
            field(&given(at, &args, &app.app_private_key_pem).await, "channel account")
        }

        async fn program(at: &Deployment, customer_no: &str, channel: &str, app_id: &str, how: &[&str], input: &str) {
            let mut args = vec!["mini-program", "add", customer_no, "--channel", channel, "--app-id", app_id];
            args.extend(["--path", "pages/pay/index", "--exchange"]);
            args.extend(how);
            given(at, &args, input).await;
        }

        /// A third party's application and the merchant's mini-program that it may collect in.
        fn provider(at: &Deployment, options: AppOptions, mini_program: AppOptions) -> (AlipayApp, AlipayApp, String) {
            let alipay = at.sim.alipay();
            let provider = alipay.new_app(AppOptions { kind: Kind::ThirdParty, ..options });
            let mini_program = alipay.new_app(mini_program);
            alipay.bind_op_app(&mini_program.app_id, &mini_program.app_id).unwrap();
            alipay.bind_op_app(&provider.app_id, &mini_program.app_id).unwrap();
            let token = alipay.new_app_auth_token(&provider.app_id, &mini_program.app_id).unwrap();
            (provider, mini_program, token)
        }

        /// The doctor finds nothing, and a payer pays: code, trade, notice.
        async fn works(at: Deployment, public: std::net::SocketAddr, mut shop: Shop, mini_program: &AlipayApp) {
            let report = at.run(&["doctor"]).await;
            let exchanged = format!("alipay.system.oauth.token for mini-program {}: a false code", mini_program.app_id);
            assert!(report.out.contains(&exchanged), "{}", report.out);
            let own = report.out.lines().filter(|line| line[7.min(line.len())..].starts_with("channel account"));
            let wrong: Vec<_> = own.filter(|line| !line.starts_with("ok") && !line.starts_with("hint")).collect();
            assert_eq!(wrong, Vec::<&str>::new(), "{}", report.out);

            let mut serve = at.start("serve", Some(public), &[]);
            serve.until_ready().await;
            shop.base_url = format!("http://{public}");
            let order = shop.new_order("A1").await;
            let user = at.sim.alipay().new_user();
            let code = at.sim.alipay().new_auth_code(&mini_program.app_id, &user.user_id).unwrap();
            let phone = reqwest::Client::builder().no_proxy().build().unwrap();
            let data = until_parameters(&phone, &[public], &pay_info(&order, "ALIPAY"), &code).await;
            let trade_no = data["tradeNo"].as_str().unwrap();
            let paid = at.sim.alipay().trade_pay(trade_no, &user.user_id, Press::Pay).await;
            assert_eq!(paid.as_str(), "9000");
            until("the merchant sees the payment", || async { shop.order("A1").await["payStatus"] == "SUCCESS" }).await;
            assert_eq!(serve.terminate().await, 0, "{}", serve.logged());
            at.assert_no_secret_printed();
            at.stop().await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn certificates() {
            let (mut at, public) = at().await;
            let shop = merchant(&at, "C1").await;
            let options = AppOptions { mode: Mode::Certificate, key_format: KeyFormat::Pkcs1, ..AppOptions::default() };
            let app = at.sim.alipay().new_app(options);
            let channel = account(&mut at, "C1", &app, &["--seller-id", &app.seller_id]).await;
            program(&at, "C1", &channel, &app.app_id, &["calling-app"], "").await;
            let shown = at.ok(&["channel", "show", &channel]).await;
            assert!(shown.to_lowercase().contains("certificate"), "{shown}");
            works(at, public, shop, &app).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_provider_whose_codes_are_exchanged_by_token() {
            let (mut at, public) = at().await;
            let shop = merchant(&at, "C1").await;
            let (provider, mini_program, token) = provider(&at, AppOptions::default(), AppOptions::default());
            at.secret_file("token", &token);
            let more = ["--provider", "--app-auth-token-file", "token", "--merchant-app-id", &mini_program.app_id];
            let channel = account(&mut at, "C1", &provider, &more).await;
            let how = ["app-auth-token", "--app-auth-token-file", "-"];
            program(&at, "C1", &channel, &mini_program.app_id, &how, &token).await;
            works(at, public, shop, &mini_program).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_provider_in_certificate_mode_for_a_mini_program_with_its_own_key() {
            let (mut at, public) = at().await;
            let shop = merchant(&at, "C1").await;
            let certificates = AppOptions { mode: Mode::Certificate, ..AppOptions::default() };
            let (provider, mini_program, token) = provider(&at, certificates, AppOptions::default());
            at.secret_file("token", &token);
            let channel = account(&mut at, "C1", &provider, &["--provider", "--app-auth-token-file", "token"]).await;
            let names = names("own");
            let mut how = vec!["own-key", "--private-key-file", "-"];
            how.extend(public_side(&at, &mini_program, &names));
            at.is_secret(&mini_program.app_private_key_pem);
            program(&at, "C1", &channel, &mini_program.app_id, &how, &mini_program.app_private_key_pem).await;
            works(at, public, shop, &mini_program).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_mini_program_with_its_own_certificates() {
            let (mut at, public) = at().await;
            let shop = merchant(&at, "C1").await;
            let certificates = AppOptions { mode: Mode::Certificate, ..AppOptions::default() };
            let (provider, mini_program, token) = provider(&at, AppOptions::default(), certificates);
            at.is_secret(&token);
            at.secret_file("token", &token);
            let channel = account(&mut at, "C1", &provider, &["--provider", "--app-auth-token-file", "token"]).await;
            let names = names("own");
            at.secret_file("own.pem", &mini_program.app_private_key_pem);
            let mut how = vec!["own-key", "--private-key-file", "own.pem"];
            how.extend(public_side(&at, &mini_program, &names));
            program(&at, "C1", &channel, &mini_program.app_id, &how, "").await;
            works(at, public, shop, &mini_program).await;
        }

        /// The wrong file is found before anything is written, or by the doctor at the latest.
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn half_a_mode_or_somebody_elses_is_refused() {
            let (mut at, _) = at().await;
            merchant(&at, "C1").await;
            let certificates = AppOptions { mode: Mode::Certificate, ..AppOptions::default() };
            let (app, other) = (at.sim.alipay().new_app(certificates.clone()), at.sim.alipay().new_app(certificates));
            at.secret_file("app.pem", &app.app_private_key_pem);
            at.secret_file("token", "201501BBd0000000000000000000000000000X01");
            let (own, theirs) = (names("own"), names("theirs"));
            let (own, theirs) = (public_side(&at, &app, &own), public_side(&at, &other, &theirs));
            let start = ["channel", "add-alipay", "C1", "--app-id", &app.app_id, "--private-key-file", "app.pem"];
            let with = |more: &[&str]| [&start[..], more].concat().into_iter().map(str::to_owned).collect::<Vec<_>>();
            let run = async |args: Vec<String>| at.run(&args.iter().map(String::as_str).collect::<Vec<_>>()).await;

            assert_eq!(run(with(&own[..4])).await.code, 2, "the root is missing");
            let no_token = [&own[..], &["--provider"]].concat();
            assert_eq!(run(with(&no_token)).await.code, 2, "a provider has a token");
            let token_alone = [&own[..], &["--app-auth-token-file", "token"]].concat();
            assert_eq!(run(with(&token_alone)).await.code, 2, "a token is a provider's");
            let refused = run(with(&theirs)).await;
            assert!(refused.code == 1 && refused.err.lines().count() == 1, "another application's: {refused:?}");
            let refused = run(with(&[])).await;
            assert!(refused.code == 1 && refused.err.contains("--alipay-public-key-file"), "{refused:?}");
            assert_eq!(at.ok(&["channel", "list"]).await.lines().count(), 1, "only the heading");
            at.assert_no_secret_printed();
            at.stop().await;
        }
    }
}
