//! How the broker is reached. The address holds a password, so it shows itself without.

use std::{fmt, path::PathBuf};

use lapin::uri::{AMQPScheme, AMQPUri};
use serde::Deserialize;

use crate::queue::topology::TopologySettings;

/// `amqp://user:password@host:port/vhost`, or `amqps://` for TLS. `Debug` and `Display` show neither user nor password.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct BrokerUrl(AMQPUri);

/// A text that is no broker address; it is not repeated, for it may hold a password.
#[derive(Debug, thiserror::Error)]
#[error("not an address of a broker; expected amqp://USER:PASSWORD@HOST:PORT/VHOST or amqps://…")]
pub struct BrokerUrlError;

impl BrokerUrl {
    /// Errors: [`BrokerUrlError`].
    pub fn parse(text: &str) -> Result<Self, BrokerUrlError> {
        text.parse().map(Self).map_err(|_| BrokerUrlError)
    }

    /// With our heartbeat, unless the address asks for a quicker one: the pulse of a dead peer is missed after twice this.
    pub(super) fn with_heartbeat(&self, seconds: u16) -> AMQPUri {
        let mut uri = self.0.clone();
        let asked = uri.query.heartbeat.filter(|asked| *asked > 0).unwrap_or(seconds);
        uri.query.heartbeat = Some(asked.min(seconds));
        uri
    }
}

impl TryFrom<String> for BrokerUrl {
    type Error = BrokerUrlError;
    fn try_from(text: String) -> Result<Self, BrokerUrlError> {
        Self::parse(&text)
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.0.scheme == AMQPScheme::AMQPS { "amqps" } else { "amqp" };
        write!(f, "{scheme}://{}:{}/{}", self.0.authority.host, self.0.authority.port, self.0.vhost)
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BrokerUrl({self})")
    }
}

/// Everything about one process' use of RabbitMQ.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RabbitSettings {
    pub url: BrokerUrl,
    /// A file of PEM certificates that `amqps` trusts besides the system's. Read at each connect, so it can be replaced.
    pub ca_file: Option<PathBuf>,
    /// What the connections are called in the broker's management pages.
    pub connection_name: String,
    pub topology: TopologySettings,
    /// 1 to 10.
    pub heartbeat_s: u16,
    pub connect_timeout_ms: u64,
    /// The longest pause between two tries to connect. They never end.
    pub reconnect_max_ms: u64,
    /// Publishes under way at once, each on a channel of its own. 1 to 1000.
    pub publish_channels: u16,
    /// A channel whose confirm has not come for so long is closed and replaced.
    pub confirm_max_ms: u64,
    /// Replies that this process may have under way at once; more are dropped.
    pub replies_in_flight_max: u16,
    /// How long closing waits for held deliveries to be settled.
    pub settle_max_ms: u64,
}

impl Default for RabbitSettings {
    fn default() -> Self {
        Self {
            url: BrokerUrl(AMQPUri::default()),
            ca_file: None,
            connection_name: "prepay".to_owned(),
            topology: TopologySettings::default(),
            heartbeat_s: 10,
            connect_timeout_ms: 5_000,
            reconnect_max_ms: 2_000,
            publish_channels: 32,
            confirm_max_ms: 30_000,
            replies_in_flight_max: 1_024,
            settle_max_ms: 30_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_shows_no_password() {
        let url = BrokerUrl::parse("amqps://worker:hunter2@mq.example:5671/%2fpay").unwrap();
        assert_eq!(url.to_string(), "amqps://mq.example:5671//pay");
        assert!(!format!("{:?}", RabbitSettings { url, ..RabbitSettings::default() }).contains("hunter2"));
        assert!(!BrokerUrl::parse("http://u:hunter2@h").unwrap_err().to_string().contains("hunter2"));
    }

    #[test]
    fn the_heartbeat_is_ours_or_quicker() {
        let heartbeat = |url: &str| BrokerUrl::parse(url).unwrap().with_heartbeat(10).query.heartbeat;
        assert_eq!(heartbeat("amqp://h/%2f"), Some(10));
        assert_eq!(heartbeat("amqp://h/%2f?heartbeat=3"), Some(3));
        assert_eq!(heartbeat("amqp://h/%2f?heartbeat=60"), Some(10));
        assert_eq!(heartbeat("amqp://h/%2f?heartbeat=0"), Some(10));
    }
}
