//! A phone and whatever else calls a front over the wire: answers whole, and the published words to hold them against.

use std::time::Duration;

use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use simulator::Call;
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::harness::{SOON, World};

/// An answer with everything a client sees of it.
#[derive(Debug)]
pub struct Said {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Said {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub fn pair(&self) -> (StatusCode, Value) {
        (StatusCode::from_u16(self.status).unwrap(), self.json())
    }

    /// Overload: nothing was accepted, and when to come again is said.
    pub fn assert_busy(&self, status: u16) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.json(), json!({ "code": "503", "msg": "系统繁忙，请稍后重试" }));
        assert!(self.header("retry-after").parse::<u32>().is_ok_and(|s| s >= 1), "{self:?}");
    }
}

impl World {
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Said {
        let url = format!("{}{path}", self.settings.front.public_url);
        let mut request = self.phone.request(method, url).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Said { status, headers, text: answer.text().await.unwrap() }
    }

    /// A phone's call with everything of its answer.
    pub async fn pay_said(&self, body: &Value) -> Said {
        self.ask(Method::POST, "/pay", &[("content-type", "application/json")], body.to_string()).await
    }

    /// A client that posts the same again for as long as it is told to: the parameters at the end.
    pub async fn pay_patiently(&self, body: &Value) -> Value {
        let deadline = Instant::now() + SOON;
        loop {
            let (status, answer) = self.pay(body.clone()).await;
            if answer["code"] == "200" {
                return answer["data"].clone();
            }
            let may_go_on = is_processing(status, &answer) || status == StatusCode::SERVICE_UNAVAILABLE;
            assert!(may_go_on, "{status} {answer:#}");
            assert!(Instant::now() < deadline, "no parameters came: {answer:#}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.settings.front.listen).await.unwrap()
    }

    /// How many lines the wallets have of calls about orders and payers; keys are fetched whatever phones do.
    pub fn wallet_lines(&self) -> usize {
        let calls = [Call::Exchange, Call::Prepay, Call::Query, Call::Close];
        self.sim.ledger().entries().iter().filter(|line| calls.contains(&line.call)).count()
    }
}

/// Everything a connection brings until its other end closes it or its answer is whole.
pub async fn read_answer(stream: &mut (impl AsyncReadExt + Unpin), within: Duration) -> Option<String> {
    let mut bytes = Vec::new();
    let read = timeout(within, async {
        let mut piece = [0; 4096];
        loop {
            match stream.read(&mut piece).await {
                Ok(0) | Err(_) => return,
                Ok(n) => bytes.extend_from_slice(&piece[..n]),
            }
            if is_whole(&bytes) {
                return;
            }
        }
    });
    read.await.ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    length.is_some_and(|length: usize| body.len() >= length)
}

/// The published table: the words an old client shows for each `errCode`.
fn msg_of(err_code: &str) -> &'static str {
    match err_code {
        "2101" => "订单已支付成功",
        "3102" => "订单已退款",
        "3101" => "订单已关闭或过期",
        "2106" => "支付链接无效，请重新打开",
        "1003" | "1008" => "请求参数有误",
        "3002" => "登录已失效，请重新进入",
        "3004" => "请用正确的应用打开",
        "3005" => "操作过于频繁，请稍后再试",
        "2002" => "下单失败",
        "1001" => "系统异常，请稍后重试",
        other => panic!("{other} is not in the published table"),
    }
}

/// A business error: HTTP 200, these three keys and nothing else.
#[track_caller]
pub fn assert_refused((status, answer): &(StatusCode, Value), err_code: &str) {
    let wanted = json!({ "code": "400", "msg": msg_of(err_code), "errCode": err_code });
    assert_eq!((*status, answer), (StatusCode::OK, &wanted));
}

#[track_caller]
pub fn assert_ready((status, answer): &(StatusCode, Value)) {
    assert_eq!((*status, &answer["code"]), (StatusCode::OK, &json!("200")), "{answer:#}");
}

#[track_caller]
pub fn assert_processing((status, answer): &(StatusCode, Value)) {
    assert!(is_processing(*status, answer), "{status} {answer:#}");
}

pub fn is_processing(status: StatusCode, answer: &Value) -> bool {
    let wanted = json!({ "code": "202", "msg": "订单处理中，请稍后重试", "errCode": "2102" });
    status == StatusCode::OK && *answer == wanted
}

/// As an old client writes a form.
pub fn form(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}
