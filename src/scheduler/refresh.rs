//! The wallets' public keys, kept fresh in the store, where every role reads them.

use std::time::Duration;

use crate::steps::{Channel, Steps};

/// Every account is looked after this often (`wechat-pay.md` §3.4: below every 12 h), and at once when a front that met a
/// key it does not know asked for it.
const REGULARLY: Duration = Duration::from_secs(6 * 3600);

/// Refreshes the accounts whose turn it is; replicas share the turns through the store.
pub async fn refresh_keys(steps: &Steps) {
    for channel in steps.registry.channels() {
        if let Err(error) = refresh(steps, &channel).await {
            tracing::warn!(account = %channel.account.id, error, "the wallet's keys were not refreshed");
        }
    }
}

async fn refresh(steps: &Steps, channel: &Channel) -> Result<(), String> {
    let account = channel.account.id;
    let now = steps.clock.now();
    let claimed = steps.store.claim_key_check(account, now, REGULARLY).await.map_err(|e| e.to_string())?;
    if !claimed {
        return Ok(());
    }
    let gateway = channel.gateway().map_err(str::to_owned)?;
    match gateway.fetch_public_keys().await {
        Ok(None) => Ok(()),
        Ok(Some(public_keys)) => {
            let set = steps.store.set_public_keys(account, channel.version, public_keys, now).await;
            if set.map_err(|error| error.to_string())? {
                tracing::info!(%account, "the wallet's keys are fresh");
            } else {
                tracing::info!(%account, "the account changed meanwhile; its keys are looked after next time");
            }
            Ok(())
        }
        Err(error) => {
            // Not in six hours: at the next look.
            let again = steps.store.want_key_check(account, now, Duration::ZERO).await;
            again.map_err(|store| format!("{error}; and the store: {store}"))?;
            Err(error.to_string())
        }
    }
}
