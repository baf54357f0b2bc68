//! What travels on a queue: a version, an id, a kind, a deadline, a trace context, a body.

use serde::{Deserialize, Serialize};

use super::Reply;
use crate::domain::{
    command::PrepayCommand,
    id::{AccountId, CommandId, OrderId},
    outcome::Outcome,
    time::Timestamp,
    wallet::Wallet,
};

/// The version written. A reader also takes the one before; a new version is written one release after it is first read.
pub const VERSION: u16 = 1;

/// A notification of a wallet, raw: it is verified again by the worker.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeMessage {
    pub account: AccountId,
    pub wallet: Wallet,
    /// `gateway::RawNotice` as JSON text; the queue does not look into it.
    pub raw: String,
}

impl std::fmt::Debug for NoticeMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NoticeMessage({} {}, {} bytes)", self.wallet, self.account, self.raw.len())
    }
}

/// The kinds of message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "body", rename_all = "snake_case")]
pub enum Message {
    Prepay(PrepayCommand),
    Notice(NoticeMessage),
}

impl Message {
    /// The label of metrics, and the AMQP `type`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Prepay(_) => "prepay",
            Self::Notice(_) => "notice",
        }
    }
}

/// One message with what every hop needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    pub version: u16,
    /// Command id of an order command; a fresh id for a notification. Also the AMQP `message_id`.
    pub id: CommandId,
    /// For spreading orders over queues by hash.
    pub order: Option<OrderId>,
    pub not_after: Option<Timestamp>,
    /// W3C `traceparent`, when there is one.
    pub traceparent: Option<String>,
    #[serde(flatten)]
    pub message: Message,
}

/// Bytes that are not a message of ours. The text holds no byte of the message: it may be a code or an openid.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    #[error("message of version {0}; this release reads {VERSION}")]
    Version(u16),
    #[error("not an envelope: {0}")]
    Shape(String),
}

impl Envelope {
    /// A command of a front, under the command's own id.
    pub fn prepay(command: PrepayCommand) -> Self {
        Self {
            version: VERSION,
            id: command.id,
            order: Some(command.order),
            not_after: Some(command.not_after),
            traceparent: None,
            message: Message::Prepay(command),
        }
    }

    /// A notification as it came in, under a fresh id; it has no deadline.
    pub fn notice(notice: NoticeMessage) -> Self {
        Self {
            version: VERSION,
            id: CommandId::fresh(),
            order: None,
            not_after: None,
            traceparent: None,
            message: Message::Notice(notice),
        }
    }

    pub fn with_traceparent(mut self, traceparent: Option<String>) -> Self {
        self.traceparent = traceparent;
        self
    }

    /// JSON.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an envelope is made of strings and numbers under string keys")
    }

    /// Errors: [`EnvelopeError::Version`] for one we do not read, whatever else it holds; else [`EnvelopeError::Shape`].
    pub fn decode(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        check_version(bytes)?;
        serde_json::from_slice(bytes).map_err(shape)
    }
}

#[derive(Serialize, Deserialize)]
struct ReplyOnTheWire {
    version: u16,
    command: CommandId,
    outcome: Outcome,
}

impl Reply {
    /// JSON, with the same version as an envelope.
    pub fn encode(&self) -> Vec<u8> {
        let wire = ReplyOnTheWire { version: VERSION, command: self.command, outcome: self.outcome.clone() };
        serde_json::to_vec(&wire).expect("a reply is made of strings and numbers under string keys")
    }

    /// Errors: as [`Envelope::decode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        check_version(bytes)?;
        let wire: ReplyOnTheWire = serde_json::from_slice(bytes).map_err(shape)?;
        Ok(Self { command: wire.command, outcome: wire.outcome })
    }
}

/// The version is read by itself first: a newer message need not have the shape that we know.
fn check_version(bytes: &[u8]) -> Result<(), EnvelopeError> {
    #[derive(Deserialize)]
    struct Head {
        version: u16,
    }
    let head: Head = serde_json::from_slice(bytes).map_err(shape)?;
    if head.version == VERSION { Ok(()) } else { Err(EnvelopeError::Version(head.version)) }
}

/// Where and what kind, without serde's own text: that one quotes the value it did not like.
fn shape(error: serde_json::Error) -> EnvelopeError {
    EnvelopeError::Shape(format!("{:?} error at column {}", error.classify(), error.column()).to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        command::{IdentifyId, Identity},
        id::MerchantId,
        outcome::Refusal,
        payer::PayerIp,
    };

    fn command() -> PrepayCommand {
        PrepayCommand {
            id: CommandId::parse("01890000-0000-7000-8000-000000000001").unwrap(),
            order: OrderId::parse("01h0000000e00800000000000a").unwrap(),
            merchant: MerchantId(7),
            wallet: Wallet::Alipay,
            generation: 3,
            identity: Identity::IdentifyId(IdentifyId("2088102146225135".to_owned())),
            not_after: Timestamp::from_ms(1_772_337_600_123),
            payer_ip: None,
        }
    }

    #[test]
    fn messages_survive_the_wire() {
        let notice =
            NoticeMessage { account: AccountId(4), wallet: Wallet::WechatPay, raw: "{\"body\":\"…\"}".into() };
        for envelope in [
            Envelope::prepay(command()),
            Envelope::prepay(command())
                .with_traceparent(Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into())),
            Envelope::notice(notice),
        ] {
            assert_eq!(Envelope::decode(&envelope.encode()), Ok(envelope));
        }
        let reply = Reply { command: command().id, outcome: Outcome::refused(Refusal::AlreadyPaid) };
        let read = Reply::decode(&reply.encode()).unwrap();
        assert_eq!((read.command, read.outcome), (reply.command, reply.outcome));
    }

    /// A message outlives the code that wrote it: this text stays readable until its version is dropped on purpose.
    #[test]
    fn version_1_is_written_as_ever() {
        insta::assert_snapshot!(String::from_utf8(Envelope::prepay(command()).encode()).unwrap(), @r#"{"version":1,"id":"01890000-0000-7000-8000-000000000001","order":"01h0000000e00800000000000a","not_after":1772337600123,"traceparent":null,"kind":"prepay","body":{"id":"01890000-0000-7000-8000-000000000001","order":"01h0000000e00800000000000a","merchant":7,"wallet":"ALIPAY","generation":3,"identity":{"kind":"identify_id","value":"2088102146225135"},"not_after":1772337600123}}"#);
    }

    /// Workers of the release before take what they know of it: no field of a body is refused for being new.
    #[test]
    fn a_payers_address_rides_in_version_1_and_shows_nowhere() {
        let named = Envelope::prepay(PrepayCommand { payer_ip: PayerIp::new([1, 1, 1, 1].into()), ..command() });
        let text = String::from_utf8(named.encode()).unwrap();
        assert_eq!(Envelope::decode(text.as_bytes()).as_ref(), Ok(&named));
        assert!(text.ends_with(r#""not_after":1772337600123,"payer_ip":"1.1.1.1"}}"#), "{text}");
        assert!(!format!("{named:?}").contains("1.1.1.1"));
        let newer = text.replace("payer_ip", "payer_shoe_size");
        assert_eq!(Envelope::decode(newer.as_bytes()), Ok(Envelope::prepay(command())));
        let private = text.replace("1.1.1.1", "10.9.8.7");
        let error = Envelope::decode(private.as_bytes()).unwrap_err();
        assert!(!error.to_string().contains("10.9"), "{error}");
    }

    #[test]
    fn a_newer_version_is_told_from_rubbish() {
        assert_eq!(Envelope::decode(br#"{"version":2,"all":"else"}"#), Err(EnvelopeError::Version(2)));
        assert_eq!(Reply::decode(br#"{"version":9}"#).err(), Some(EnvelopeError::Version(9)));
        for rubbish in [&b""[..], b"\xff\xfe", b"[]", b"{}", br#"{"version":1}"#, br#"{"version":"1"}"#] {
            assert!(matches!(Envelope::decode(rubbish), Err(EnvelopeError::Shape(_))), "{rubbish:?}");
        }
    }

    #[test]
    fn an_error_quotes_nothing() {
        let mut text = String::from_utf8(Envelope::prepay(command()).encode()).unwrap();
        text = text.replace("\"identify_id\"", "\"2088-secret\"");
        let error = Envelope::decode(text.as_bytes()).unwrap_err();
        assert!(!error.to_string().contains("2088"), "{error}");
    }
}
