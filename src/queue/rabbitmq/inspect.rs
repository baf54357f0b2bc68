//! A look at a broker for a person: which of our queues stand, as what, and whether it takes messages. It makes no queue.

use std::time::Duration;

use lapin::{
    BasicProperties, Channel as AmqpChannel, Confirmation, ErrorKind,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    protocol::{AMQPErrorKind, AMQPSoftError},
};
use tokio::time::timeout;

use super::{
    declare,
    settings::RabbitSettings,
    supervisor::{DialError, Wire, dial},
};
use crate::queue::{Depth, topology::QueueDeclaration};

/// What a broker that is asked does within this, or not at all.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What stands at a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Each durable queue of the topology by its name, parked first.
    pub queues: Vec<(String, Standing)>,
    pub publishing: Publishing,
}

/// How a queue stands to what we declare of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Every role that needs it makes it.
    Missing,
    /// As we declare it.
    AsDeclared(Depth),
    /// The roles cannot work with it. In the broker's words.
    Otherwise { depth: Depth, differs: String },
    /// The broker does not let us look. In its words.
    Refused(String),
}

impl Standing {
    pub const fn depth(&self) -> Option<Depth> {
        match self {
            Self::AsDeclared(depth) | Self::Otherwise { depth, .. } => Some(*depth),
            Self::Missing | Self::Refused(_) => None,
        }
    }
}

/// What became of a message to nowhere, which the broker hands back at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Publishing {
    Works,
    /// No answer: that is how a memory or disk alarm looks to a publisher.
    Silent,
    Refused(String),
}

/// Nobody to look at.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error("cannot connect: {0}")]
    Dial(String),
    #[error("the connection broke off")]
    Lost,
}

/// Connects once, looks, leaves.
///
/// A queue that stands is then declared as our roles declare it, which changes nothing and is the one way to hear of other
/// arguments. Errors: [`InspectError`]; no text of it holds a password.
pub async fn inspect(settings: &RabbitSettings) -> Result<Inspection, InspectError> {
    let wire = dial(settings, "looking").await.map_err(|error| InspectError::Dial(told_of_dialling(&error)))?;
    let looked = async {
        let mut queues = Vec::new();
        for queue in settings.topology.declarations() {
            let name = queue.name.clone();
            queues.push((name, standing(&wire, queue).await?));
        }
        // Last: a broker with an alarm reads nothing more on a connection that has published.
        let publishing = publishing(&wire, &settings.topology.prefix).await?;
        Ok(Inspection { queues, publishing })
    };
    let looked = looked.await;
    let _ = timeout(Duration::from_secs(1), wire.connection.close(200, "OK".into())).await;
    wire.cut();
    looked
}

/// A channel of its own for each question: what is refused closes it.
async fn channel(wire: &Wire) -> Result<AmqpChannel, InspectError> {
    let opened = timeout(ANSWER_MAX, wire.connection.create_channel()).await;
    opened.map_err(|_| InspectError::Lost)?.map_err(|_| InspectError::Lost)
}

async fn standing(wire: &Wire, queue: QueueDeclaration) -> Result<Standing, InspectError> {
    let asked = channel(wire).await?;
    let depth = match timeout(ANSWER_MAX, declare::look(&asked, &queue.name)).await {
        Err(_) => return Err(InspectError::Lost),
        Ok(Ok((ready, consumers))) => Depth { ready, consumers },
        Ok(Err(error)) => {
            return Ok(match refusal(&error).ok_or(InspectError::Lost)? {
                (AMQPSoftError::NOTFOUND, _) => Standing::Missing,
                (_, words) => Standing::Refused(words),
            });
        }
    };
    let asked = channel(wire).await?;
    match timeout(ANSWER_MAX, declare::one(&asked, queue)).await {
        Err(_) => Err(InspectError::Lost),
        Ok(Ok(())) => Ok(Standing::AsDeclared(depth)),
        Ok(Err(error)) => match refusal(&error).ok_or(InspectError::Lost)? {
            (AMQPSoftError::PRECONDITIONFAILED, differs) => Ok(Standing::Otherwise { depth, differs }),
            (_, words) => Ok(Standing::Refused(words)),
        },
    }
}

/// `mandatory` to a queue that cannot be: confirmed and handed back, and nothing is left of it.
///
/// Twice: with an alarm the broker still takes a connection's first message, and reads nothing after it (RabbitMQ 3.10.8).
async fn publishing(wire: &Wire, prefix: &str) -> Result<Publishing, InspectError> {
    let asked = channel(wire).await?;
    let nowhere = format!("{prefix}.nowhere.{}", uuid::Uuid::now_v7().simple());
    let sent = async {
        asked.confirm_select(ConfirmSelectOptions::default()).await?;
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let publish =
            || asked.basic_publish("".into(), nowhere.as_str().into(), options, b"", BasicProperties::default());
        publish().await?.await?;
        publish().await?.await
    };
    Ok(match timeout(ANSWER_MAX, sent).await {
        Err(_) => Publishing::Silent,
        Ok(Ok(Confirmation::Ack(_))) => Publishing::Works,
        Ok(Ok(_)) => Publishing::Refused("it was not confirmed".to_owned()),
        Ok(Err(error)) => match refusal(&error) {
            Some((_, words)) => Publishing::Refused(words),
            None => Publishing::Silent,
        },
    })
}

/// The broker's own words on a question it refused; they name queues, arguments and users, never a password.
fn refusal(error: &lapin::Error) -> Option<(AMQPSoftError, String)> {
    let ErrorKind::ProtocolError(error) = error.kind() else { return None };
    match error.kind() {
        AMQPErrorKind::Soft(kind) => Some((kind.clone(), error.get_message().to_string())),
        AMQPErrorKind::Hard(_) => None,
    }
}

fn told_of_dialling(error: &DialError) -> String {
    match error {
        DialError::Refused(refused) => match refused.kind() {
            ErrorKind::ProtocolError(error) => error.get_message().to_string(),
            _ => error.to_string(),
        },
        _ => error.to_string(),
    }
}
