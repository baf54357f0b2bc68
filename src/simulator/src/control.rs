//! The HTTP control API under `/_sim/`, for tests in other processes: what the Rust API can do, as JSON.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::Simulator;
use crate::faults::{Fault, FaultId};
use crate::server::Reach;
use crate::wire::{Answer, Reply, WireRequest};

/// Why a control request was refused.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No such route: 404.
    #[error("no control route {0}")]
    Unknown(String),
    /// The body does not fit: 400.
    #[error("{0}")]
    Body(String),
    /// The simulator refused: 409.
    #[error("{0}")]
    Refused(String),
}

/// Reads a control body.
pub(crate) fn read<T: DeserializeOwned>(body: Value) -> Result<T, ControlError> {
    serde_json::from_value(body).map_err(|error| ControlError::Body(error.to_string()))
}

/// Writes a control answer.
pub(crate) fn write(value: impl serde::Serialize) -> Result<Value, ControlError> {
    serde_json::to_value(value).map_err(|error| ControlError::Refused(error.to_string()))
}

pub(crate) async fn handle(simulator: &Simulator, request: WireRequest) -> Reply {
    let body = if request.body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&request.body) };
    let outcome = match body {
        Ok(body) => route(simulator, &request, body).await,
        Err(error) => Err(ControlError::Body(error.to_string())),
    };
    let (status, value) = match outcome {
        Ok(value) => (200, value),
        Err(error) => {
            let status = match error {
                ControlError::Unknown(_) => 404,
                ControlError::Body(_) => 400,
                ControlError::Refused(_) => 409,
            };
            (status, json!({ "error": error.to_string() }))
        }
    };
    Answer::new(status, "application/json", value.to_string()).into()
}

async fn route(simulator: &Simulator, request: &WireRequest, body: Value) -> Result<Value, ControlError> {
    let path = request.path.trim_start_matches("/_sim/");
    if let Some(path) = path.strip_prefix("wechat/") {
        return simulator.wechat().control(path, body).await;
    }
    if let Some(path) = path.strip_prefix("alipay/") {
        return simulator.alipay().control(path, body).await;
    }
    let number = |name: &str, default: u64| {
        let pairs = request.query_pairs();
        pairs.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.parse().ok()).unwrap_or(default)
    };
    match (request.method.as_str(), path) {
        ("GET", "health") => Ok(
            json!({ "base_url": simulator.base_url(), "backup_url": simulator.backup_url(), "control_url": simulator.control_url() }),
        ),
        ("GET", "ledger") => {
            let limit = usize::try_from(number("limit", 10_000)).unwrap_or(usize::MAX);
            write(simulator.ledger().entries_from(number("from", 0), limit))
        }
        ("GET", "faults") => {
            let list = simulator.faults().list().into_iter();
            Ok(list.map(|(id, fault, struck)| json!({ "id": id, "fault": fault, "struck": struck })).collect())
        }
        ("POST", "faults") => write(simulator.faults().add(read::<Fault>(body)?)),
        ("DELETE", "faults") => {
            simulator.faults().clear();
            Ok(Value::Null)
        }
        ("DELETE", path) if path.starts_with("faults/") => {
            let id =
                path.trim_start_matches("faults/").parse().map_err(|_| ControlError::Body("no fault id".into()))?;
            Ok(json!(simulator.faults().remove(FaultId(id))))
        }
        ("GET", "clock") => Ok(
            json!({ "now_ms": simulator.clock().now_ms(), "offset_ms": simulator.clock().offset_ms(), "schedule_scale": simulator.clock().schedule_scale() }),
        ),
        ("POST", "clock") => {
            #[derive(serde::Deserialize)]
            #[serde(deny_unknown_fields)]
            struct Set {
                offset_ms: Option<i64>,
                advance_ms: Option<u64>,
                schedule_scale: Option<f64>,
            }
            let set: Set = read(body)?;
            if let Some(offset_ms) = set.offset_ms {
                simulator.clock().set_offset_ms(offset_ms);
            }
            if let Some(advance_ms) = set.advance_ms {
                simulator.clock().advance(std::time::Duration::from_millis(advance_ms));
            }
            if let Some(scale) = set.schedule_scale {
                simulator.clock().set_schedule_scale(scale);
            }
            Ok(Value::Null)
        }
        ("POST", "latency") => {
            let ms: u64 = read(body)?;
            simulator.set_latency(std::time::Duration::from_millis(ms));
            Ok(Value::Null)
        }
        ("POST", "reach") => {
            #[derive(serde::Deserialize)]
            #[serde(deny_unknown_fields)]
            struct Set {
                main: Option<Reach>,
                backup: Option<Reach>,
            }
            let set: Set = read(body)?;
            // Sent to an address it shuts, this request loses its answer: use the control address.
            if let Some(reach) = set.backup {
                simulator.set_backup_reach(reach);
            }
            if let Some(reach) = set.main {
                simulator.set_main_reach(reach);
            }
            Ok(Value::Null)
        }
        _ => Err(ControlError::Unknown(path.to_owned())),
    }
}
