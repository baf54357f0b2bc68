//! The wallets' own SDKs, unmodified, against the simulator: npm brings them. Needs Node 18; `tests/run` sees to it.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test says by its panic what went wrong")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use simulator::alipay::{AppOptions, IdMode, KeyFormat, Mode};
use simulator::wechat::MerchantOptions;
use simulator::{Options, Simulator};

/// Where the SDKs are installed and the credentials lie: below the target folder, never in the sources.
fn workshop() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sdk");
    std::fs::create_dir_all(&folder).unwrap();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/sdk");
    for file in ["package.json", "package-lock.json", "run.mjs", "alipay.mjs", "wechat.mjs"] {
        std::fs::copy(sources.join(file), folder.join(file)).unwrap();
    }
    let ci = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"];
    let install =
        || Command::new("npm").args(ci).current_dir(&folder).status().expect("npm is installed: run tests/run");
    // The registry may not answer at this moment.
    assert!((0..3).any(|_| install().success()), "npm ci failed three times");
    folder
}

fn alipay_accounts(simulator: &Simulator) -> Vec<Value> {
    let alipay = simulator.alipay();
    [
        (Mode::PublicKey, IdMode::OpenId, KeyFormat::Pkcs8),
        (Mode::PublicKey, IdMode::UserId, KeyFormat::Pkcs1),
        (Mode::Certificate, IdMode::OpenId, KeyFormat::Pkcs1),
    ]
    .into_iter()
    .map(|(mode, id_mode, key_format)| {
        let app = alipay.new_app(AppOptions { mode, id_mode, key_format, ..AppOptions::default() });
        let user = alipay.new_user();
        let code = alipay.new_auth_code(&app.app_id, &user.user_id).unwrap();
        json!({ "app": app, "auth_code": code, "user_id": user.user_id })
    })
    .collect()
}

fn wechat_accounts(simulator: &Simulator) -> Vec<Value> {
    let wechat = simulator.wechat();
    let merchant = wechat.new_merchant(MerchantOptions::default()).unwrap();
    let app = wechat.new_app(&merchant.mchid);
    let openid = wechat.new_openid(&app.appid);
    vec![json!({ "merchant": merchant, "appid": app.appid, "openid": openid })]
}

#[tokio::test(flavor = "multi_thread")]
async fn unmodified_sdks_do_their_round() {
    let folder = workshop();
    let simulator = Simulator::start(Options::default()).await.unwrap();
    let credentials = json!({
        "alipay": alipay_accounts(&simulator),
        "wechat": wechat_accounts(&simulator),
    });
    let file = folder.join("credentials.json");
    std::fs::write(&file, credentials.to_string()).unwrap();
    let base_url = simulator.base_url();
    let run = tokio::task::spawn_blocking(move || {
        Command::new("node").arg("run.mjs").arg(base_url).arg(file).current_dir(folder).output().unwrap()
    });
    let output = run.await.unwrap();
    println!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success());
}
