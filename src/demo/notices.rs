//! How the simulated wallets' notifications travel: as usual, or with the harm that the page chose.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use simulator::{Call, Fault, FaultId, FaultKind, Simulator, Wallet};

/// How long a late notification is held back, in milliseconds: longer than the page takes to ask.
const LATE_MS: u64 = 8_000;

/// What befalls each notification of a payment or a refund, of both wallets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// At once, once, signed by the wallet.
    Usual,
    /// It leaves [`LATE_MS`] later.
    Late,
    /// It never leaves, nor does any repetition of it meanwhile.
    Lost,
    /// It leaves twice at the same time.
    Doubled,
    /// It is signed by somebody else.
    Forged,
}

impl Mode {
    const fn harm(self) -> Option<FaultKind> {
        match self {
            Self::Usual => None,
            Self::Late => Some(FaultKind::Delay { ms: LATE_MS }),
            Self::Lost => Some(FaultKind::Lose),
            Self::Doubled => Some(FaultKind::Double),
            Self::Forged => Some(FaultKind::WrongSignature),
        }
    }
}

/// The page's switch; it holds for deliveries from now on, repetitions of earlier notifications included.
pub struct Notices {
    simulator: Simulator,
    set: Mutex<(Mode, Vec<FaultId>)>,
}

impl Notices {
    pub fn new(simulator: &Simulator) -> Self {
        Self { simulator: simulator.clone(), set: Mutex::new((Mode::Usual, Vec::new())) }
    }

    pub fn mode(&self) -> Mode {
        self.set.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    pub fn set(&self, mode: Mode) {
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        let faults = self.simulator.faults();
        for id in set.1.drain(..) {
            faults.remove(id);
        }
        set.0 = mode;
        let Some(harm) = mode.harm() else { return };
        for wallet in [Wallet::Wechat, Wallet::Alipay] {
            for call in [Call::Notify, Call::RefundNotify] {
                set.1.push(faults.add(Fault::once(wallet, call, harm.clone()).always()));
            }
        }
    }
}
