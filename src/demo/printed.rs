//! What the demo prints: where it is, and a call of each wallet to paste.

use std::{fmt, net::SocketAddr, time::Duration};

use serde_json::{Value, json};

use super::data::Data;
use crate::domain::wallet::Wallet;

/// Displays as the text on stdout.
pub struct Printed<'a> {
    pub base_url: &'a str,
    pub operations: SocketAddr,
    /// The address on which others than this machine may come.
    pub open_to_others: Option<SocketAddr>,
    pub latency: Duration,
    pub data: &'a Data,
    /// Each wallet's order, as the merchant was told it, and a login code.
    pub calls: Vec<(Wallet, Value, String)>,
}

impl fmt::Display for Printed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base_url = self.base_url;
        writeln!(
            f,
            "\nprepay demo: a merchant (示例咖啡馆), its WeChat and Alipay mini-programs, and both wallets, simulated."
        )?;
        writeln!(f, "HTTP and signatures are real; the money is not.\n")?;
        writeln!(f, "  Page       {base_url}/demo")?;
        writeln!(f, "  Interface  {base_url}/pay")?;
        writeln!(f, "  New order  {base_url}/demo/order?wallet=wechat   (or alipay: payInfo, a login code, links)")?;
        writeln!(f, "  Metrics    http://{}/metrics", self.operations)?;
        let kept = if self.data.temporary { "removed at the end; --data DIR keeps it" } else { "kept" };
        writeln!(f, "  Data       {} ({kept})", self.data.folder.display())?;
        if !self.latency.is_zero() {
            writeln!(f, "  Wallets    take {} ms for each call", self.latency.as_millis())?;
        }
        if let Some(addr) = self.open_to_others {
            writeln!(f, "\nWARNING: {addr} is open to the network, and the demo asks nobody who they are.")?;
            writeln!(f, "         Whoever reaches it can make orders and pay them with play money.")?;
            writeln!(
                f,
                "         From elsewhere the page is http://THIS-MACHINE:{}/demo; links name 127.0.0.1.",
                addr.port()
            )?;
        }
        writeln!(
            f,
            "\nA mini-program's call, ready to paste (a login code lives for a few minutes, and is good once):"
        )?;
        for (wallet, order, code) in &self.calls {
            let (title, lives) = match wallet {
                Wallet::WechatPay => ("微信支付 WeChat Pay", 5),
                Wallet::Alipay => ("支付宝 Alipay", 3),
            };
            let link = &order["links"][0];
            let body = json!({ "payInfo": link["payInfo"], "code": code });
            let (order_no, url) = (text(&order["orderNo"]), text(&link["interfaceUrl"]));
            writeln!(f, "\n# {title}: order {order_no}, code good for {lives} minutes")?;
            // Neither payInfo nor code holds a quote: the body stays one argument of every shell.
            writeln!(f, "curl -sS {url} -H 'Content-Type: application/json; charset=utf-8' -d '{body}'")?;
        }
        writeln!(f, "\nCtrl-C ends it.")
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_opens_it_to_the_network_is_warned() {
        let data = Data::open(None).unwrap();
        let text = |open_to_others| {
            let (base_url, latency) = ("http://127.0.0.1:8080", Duration::ZERO);
            let operations = SocketAddr::from(([127, 0, 0, 1], 9090));
            Printed { base_url, operations, open_to_others, latency, data: &data, calls: Vec::new() }.to_string()
        };
        assert!(!text(None).contains("WARNING"));
        let warned = text(Some(SocketAddr::from(([0, 0, 0, 0], 8080))));
        assert!(warned.contains("WARNING: 0.0.0.0:8080 is open to the network"), "{warned}");
        assert!(warned.contains("http://THIS-MACHINE:8080/demo"), "{warned}");
    }
}
