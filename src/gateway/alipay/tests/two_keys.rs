//! Two private keys, while the wallet's console holds the public half of one of them.

use super::*;

const WRONG: Answer =
    Answer::Signed(r#"{"code":"40002","msg":"Invalid Arguments","sub_code":"isv.invalid-signature"}"#);
const NOT_EXIST: Answer = Answer::Signed(r#"{"code":"40004","sub_code":"ACQ.TRADE_NOT_EXIST"}"#);

/// An account with a new private key, `other` to the small wallet, and the one before, `app`.
fn two_keys(url: &str) -> AlipayGateway {
    let secrets = AlipaySecrets {
        private_key: testing::read("keys/derived/other_private_pkcs8.pem"),
        older_private_key: Some(testing::read("keys/derived/app_private_pkcs8.pem")),
        app_auth_token: None,
    };
    let apps = vec![app("2021000000000001", CodeExchange::CallingApp)];
    AlipayGateway::new(settings(url, ""), secrets, public_keys(), apps, http_client()).unwrap()
}

/// Which key signed each request so far.
fn signers(wallet: &FakeWallet) -> Vec<String> {
    wallet.asked().iter().map(|asked| asked["FAKE_SIGNER"].clone()).collect()
}

#[tokio::test]
async fn the_key_that_was_taken_goes_first() {
    let wallet = FakeWallet::start([WRONG, NOT_EXIST, NOT_EXIST, WRONG, NOT_EXIST, NOT_EXIST]).await;
    let gateway = two_keys(&wallet.url);
    for asked in [vec!["other", "app"], vec!["app"], vec!["app", "other"], vec!["other"]] {
        let before = wallet.asked().len();
        assert_eq!(gateway.query(&testing::number()).await.unwrap(), TradeState::NotExist);
        assert_eq!(signers(&wallet)[before..], asked);
    }
    let asked = wallet.asked();
    assert_eq!(asked[0]["biz_content"], asked[1]["biz_content"]);
}

#[tokio::test]
async fn a_code_is_exchanged_with_the_key_that_is_taken() {
    let token = Answer::Signed(r#"{"user_id":"2088102146225135"}"#);
    let wallet = FakeWallet::start([WRONG, token]).await;
    let code = LoginCode::parse("4b203fe6c11548bcabd8da5bb087a83b").unwrap();
    two_keys(&wallet.url).exchange(&AppId::parse("2021000000000001").unwrap(), &code).await.unwrap();
    assert_eq!(signers(&wallet), ["other", "app"]);
    let asked = wallet.asked();
    assert_eq!((asked[0]["code"].as_str(), asked[1]["code"].as_str()), (code.expose(), code.expose()));
}

#[tokio::test]
async fn a_call_refused_under_both_keys_is_not_sent_a_third_time() {
    let wallet = FakeWallet::start([WRONG, WRONG, WRONG, NOT_EXIST]).await;
    let gateway = two_keys(&wallet.url);
    let refused = gateway.query(&testing::number()).await;
    let Err(GatewayError::Refused { why: Refused::Configuration, code, .. }) = &refused else { panic!("{refused:?}") };
    assert_eq!(code, "isv.invalid-signature");
    assert_eq!(signers(&wallet), ["other", "app"]);
    assert_eq!(gateway.query(&testing::number()).await.unwrap(), TradeState::NotExist);
    assert_eq!(signers(&wallet), ["other", "app", "other", "app"], "neither was taken before");
}

#[tokio::test]
async fn no_answer_says_nothing_about_a_key() {
    let wallet = FakeWallet::start([WRONG, Answer::Nothing, WRONG, NOT_EXIST]).await;
    let gateway = two_keys(&wallet.url);
    assert!(matches!(gateway.query(&testing::number()).await, Err(GatewayError::Unknown { .. })));
    assert_eq!(gateway.query(&testing::number()).await.unwrap(), TradeState::NotExist);
    assert_eq!(signers(&wallet), ["other", "app", "other", "app"]);
}

#[tokio::test]
async fn any_other_failure_is_not_sent_again() {
    let wallet = FakeWallet::start([
        Answer::Signed(r#"{"code":"40002","sub_code":"isv.invalid-app-id"}"#),
        Answer::Signed(r#"{"code":"40004","sub_code":"ACQ.SYSTEM_ERROR"}"#),
        Answer::Signed(r#"{"code":"20000","sub_code":"isv.invalid-signature"}"#),
        Answer::Raw(502, "<html>bad gateway</html>".to_owned()),
        Answer::Raw(429, String::new()),
        Answer::Nothing,
    ])
    .await;
    let gateway = two_keys(&wallet.url);
    let frozen = gateway.freeze(&ask("2021000000000001")).unwrap();
    for count in 1..=6 {
        assert!(gateway.prepay(&testing::number(), &frozen).await.is_err());
        assert_eq!(wallet.asked().len(), count);
    }
    assert!(signers(&wallet).iter().all(|signer| signer == "other"));
}

#[tokio::test]
async fn one_key_alone_is_not_tried_twice() {
    let wallet = FakeWallet::start([WRONG]).await;
    assert!(matches!(gateway(&wallet.url).query(&testing::number()).await, Err(GatewayError::Refused { .. })));
    assert_eq!(signers(&wallet), ["app"]);
}

#[tokio::test]
async fn an_examination_tells_which_key_is_taken() {
    let refused_code = Answer::Signed(r#"{"code":"40002","sub_code":"isv.code-invalid"}"#);
    let wallet = FakeWallet::start([WRONG, NOT_EXIST, refused_code]).await;
    let lines = two_keys(&wallet.url).examine(OrderId::fresh()).await;
    let told = lines[0].result.as_ref().unwrap();
    assert!(told.contains("the older private key still") && lines[1].result.is_ok(), "{lines:?}");
}
