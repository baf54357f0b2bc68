//! What shows the trip without a deployment: `simulator` and `demo` as processes of their own.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Instant,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::trip::harness::SOON;

/// A process that prints where it is. Dropped, it is killed.
struct Show {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Show {
    fn start(args: &[&str], folder: &TempDir) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_prepay"));
        command.args(args).env_clear().current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        Self { child, lines }
    }

    /// What stands after these words on the first line that has them.
    fn told(&mut self, words: &str) -> String {
        let deadline = Instant::now() + SOON;
        loop {
            let line = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            let line = line.unwrap_or_else(|_| panic!("{words} was not told"));
            if let Some(rest) = line.trim().strip_prefix(words) {
                return rest.trim().to_owned();
            }
        }
    }

    /// Its exit code once it was asked to leave.
    async fn terminate(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not end");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Show {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(SOON).build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simulated_wallets_run_by_themselves_and_leave_on_sigterm() {
    let folder = TempDir::new().unwrap();
    let listen = ["--listen", "127.0.0.1:0", "--control-listen", "127.0.0.1:0", "--ledger", "ledger.jsonl"];
    let mut show = Show::start(&[&["simulator"][..], &listen].concat(), &folder);
    let (base, backup, control) = (show.told("base"), show.told("backup"), show.told("control"));
    let client = client();

    let merchant = client.post(format!("{control}/_sim/wechat/merchants")).json(&json!({})).send().await.unwrap();
    let merchant: Value = merchant.json().await.unwrap();
    assert!(merchant["mchid"].is_string(), "a merchant is enrolled from outside: {merchant:#}");
    for host in [&base, &backup] {
        let refused = client.get(format!("{host}/v3/certificates")).send().await.unwrap();
        assert!(refused.status().is_client_error(), "an unsigned call is refused");
        assert!(refused.json::<Value>().await.unwrap()["code"].is_string(), "in WeChat's form");
    }
    let alipay = client.post(format!("{base}/gateway.do")).body("method=alipay.trade.query").send().await.unwrap();
    assert_eq!(alipay.status(), 200, "Alipay refuses in its answer");
    let elsewhere = client.get(format!("{control}/v3/certificates")).send().await.unwrap();
    assert_eq!(elsewhere.status(), 404, "the control address is no wallet");

    assert_eq!(show.terminate().await, Some(0));
    assert!(client.get(format!("{base}/v3/certificates")).send().await.is_err(), "nobody listens any more");
    assert!(folder.path().join("ledger.jsonl").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_taken_is_one_line() {
    let folder = TempDir::new().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_prepay"));
    command.args(["simulator", "--listen", &addr]).env_clear().current_dir(folder.path()).stdin(Stdio::null());
    let ended = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let told = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.code() == Some(1) && told.lines().count() == 1 && told.contains(&addr), "{told}");
}

mod on_sqlite {
    mod on_embedded {
        use super::super::*;

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn the_demo_runs_by_itself_and_leaves_on_sigterm() {
            let folder = TempDir::new().unwrap();
            let mut show = Show::start(&["demo", "--listen", "127.0.0.1:0", "--latency-ms", "0"], &folder);
            let page = show.told("Page");
            let client = client();
            assert!(client.get(&page).send().await.unwrap().text().await.unwrap().contains("选择钱包"));
            let order = client.get(format!("{page}/order?wallet=wechat")).send().await.unwrap();
            let order: Value = order.json().await.unwrap();
            let body = json!({ "payInfo": order["payInfo"], "code": order["code"] });
            let url = order["interfaceUrl"].as_str().unwrap();
            let answer: Value = client.post(url).json(&body).send().await.unwrap().json().await.unwrap();
            assert_eq!(answer["code"], "200", "{answer:#}");
            assert_eq!(show.terminate().await, Some(0));
        }
    }
}
