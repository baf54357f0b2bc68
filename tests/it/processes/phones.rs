//! Phones: they post to any front, and again when they are told to come back.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// How long a phone keeps coming back.
const PATIENCE: Duration = Duration::from_secs(60);

/// Posts until there are parameters. A front that cannot be reached, or that says later, is left for the next one.
///
/// Panics on any other answer: it would have been an order lost.
pub async fn until_parameters(phone: &reqwest::Client, fronts: &[SocketAddr], pay_info: &str, code: &str) -> Value {
    let body = json!({ "payInfo": pay_info, "code": code });
    let deadline = Instant::now() + PATIENCE;
    let mut last = String::new();
    for front in fronts.iter().cycle() {
        assert!(Instant::now() < deadline, "no parameters came; last: {last}");
        last = match phone.post(format!("http://{front}/pay")).json(&body).send().await {
            Ok(answer) => {
                let (status, text) = (answer.status(), answer.text().await.unwrap_or_default());
                let answer: Value = serde_json::from_str(&text).unwrap_or_default();
                match answer["code"].as_str() {
                    Some("200") => return answer["data"].clone(),
                    Some("202" | "503") => {}
                    // An answer that broke off with its process.
                    None if text.is_empty() => {}
                    _ => panic!("{status} {text}"),
                }
                // Twice a second is what one order may ask.
                tokio::time::sleep(Duration::from_millis(500)).await;
                format!("{status} {text}")
            }
            Err(error) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                error.to_string()
            }
        };
    }
    unreachable!("fronts are cycled for ever")
}
