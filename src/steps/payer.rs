//! Who pays: known, told by the merchant, or bought with a login code, once.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{StepError, budget::NoRoom, prepay::Run, registry::Channel};
use crate::{
    domain::{
        account::MiniProgram,
        command::Identity,
        order::Order,
        outcome::{Outcome, Refusal},
        payer::{LoginCode, Payer, looks_like_alipay_user_id},
        wallet::Wallet,
    },
    gateway::ExchangeError,
    store::{CodeHash, Exchange},
};

/// An exchange that another command started longer ago than this died with its worker; its code is burnt.
const EXCHANGE_DEAD_AFTER: Duration = Duration::from_secs(30);

impl Run<'_> {
    /// The payer, or the outcome that the command is settled with instead.
    pub(super) async fn payer(
        &self,
        order: &Order,
        mini_program: &MiniProgram,
        channel: &Arc<Channel>,
    ) -> Result<Result<Payer, Outcome>, StepError> {
        let refused = match &self.command.identity {
            Identity::IdentifyId(id)
                if self.command.wallet == Wallet::WechatPay && looks_like_alipay_user_id(&id.0) =>
            {
                Refusal::WrongWallet
            }
            Identity::IdentifyId(id) => match Payer::from_identify_id(self.command.wallet, &id.0) {
                Ok(payer) => return Ok(Ok(payer)),
                Err(_) => Refusal::LoginExpired,
            },
            // Enrolled without AppSecret: only an identifyId is taken.
            Identity::Code(_) if !mini_program.takes_code => Refusal::LoginExpired,
            Identity::Code(_) if !channel.account.enabled => Refusal::OrderRefused,
            Identity::Code(code) => return self.exchange(order, mini_program, channel, code).await,
        };
        Ok(Err(self.settle(Outcome::refused(refused)).await?))
    }

    /// One exchange per code: its row is written before the call, and the payer in a commit of its own right after.
    async fn exchange(
        &self,
        order: &Order,
        mini_program: &MiniProgram,
        channel: &Arc<Channel>,
        code: &LoginCode,
    ) -> Result<Result<Payer, Outcome>, StepError> {
        let (steps, store, command) = (self.steps, &self.steps.store, self.command);
        let app = &mini_program.app_id;
        let Some(hash) = steps.registry.code_hash(app, code) else {
            tracing::error!("no code-hash key: make one with `prepay key create code-hash`");
            return Ok(Err(self.settle(Outcome::refused(Refusal::InternalError)).await?));
        };
        let waiting_since = steps.now();
        loop {
            let now = steps.now();
            // Before the row: a command that finds no room must leave the code good, and one whose payer is bought must not be
            // told afterwards that there is no room for the payment.
            let room = self.room_for_payment(order, channel).and_then(|()| channel.logins.admit(now));
            match store.begin_exchange(app, hash, order.id, command.id, now).await? {
                Exchange::Known(payer) => return Ok(Ok(payer)),
                Exchange::OtherOrder | Exchange::Refused => {
                    return Ok(Err(self.settle(Outcome::refused(Refusal::LoginExpired)).await?));
                }
                // Our own earlier life started it and died before the answer was kept: the code is spent, the payer unknown.
                Exchange::Burnt => return self.burn(mini_program, hash, Refusal::LoginExpired).await,
                Exchange::Running { since, .. } if now.since(since) > EXCHANGE_DEAD_AFTER => {
                    return Ok(Err(self.settle(Outcome::refused(Refusal::LoginExpired)).await?));
                }
                Exchange::Running { .. } if now.since(waiting_since) < steps.settings.wait_for_other => {
                    drop(room);
                    self.rooms.leave();
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Exchange::Running { .. } => return Ok(Err(self.settle(Outcome::Processing).await?)),
                Exchange::Started => {
                    let permit = match room {
                        Ok(permit) => permit,
                        Err(no_room) => {
                            store.abandon_exchange(app, hash, command.id).await?;
                            return Ok(Err(self.settle(Outcome::busy(no_room.retry_in)).await?));
                        }
                    };
                    let Ok(gateway) = channel.gateway() else {
                        store.abandon_exchange(app, hash, command.id).await?;
                        return Ok(Err(self.settle(Outcome::refused(Refusal::InternalError)).await?));
                    };
                    self.calls_wallet();
                    let started = Instant::now();
                    let answer = gateway.exchange(app, code).await;
                    metrics::histogram!("prepay_exchange_seconds", "wallet" => channel.account.wallet.as_str())
                        .record(started.elapsed());
                    return match answer {
                        Ok(payer) => {
                            permit.answered();
                            self.keep_payer(mini_program, hash, payer).await
                        }
                        Err(error) => self.not_exchanged(mini_program, hash, error, &permit).await,
                    };
                }
            }
        }
    }

    /// Places for every wallet call that may follow the exchange: at the account that is to be paid, and at that of a number
    /// which has to be closed first.
    fn room_for_payment(&self, order: &Order, channel: &Channel) -> Result<(), NoRoom> {
        self.room(channel)?;
        let open = order.payable_attempt().and_then(|attempt| self.steps.registry.channel(attempt.account));
        open.map_or(Ok(()), |open| self.room(&open).map(drop))
    }

    /// The payer is in hand and the code is spent: a store that fails is waited for right here, or the login would be lost.
    async fn keep_payer(
        &self,
        mini_program: &MiniProgram,
        hash: CodeHash,
        payer: Payer,
    ) -> Result<Result<Payer, Outcome>, StepError> {
        let (steps, command) = (self.steps, self.command.id);
        loop {
            match steps.store.finish_exchange(&mini_program.app_id, hash, command, Some(&payer), steps.now()).await {
                Ok(true) => return Ok(Ok(payer)),
                // A double of this command took the exchange for dead and settled it: its outcome stands, unless it was a
                // write of ours whose answer was lost.
                Ok(false) => {
                    let kept = steps.store.begin_exchange(
                        &mini_program.app_id,
                        hash,
                        self.command.order,
                        command,
                        steps.now(),
                    );
                    return match kept.await? {
                        Exchange::Known(known) if known == payer => Ok(Ok(payer)),
                        _ => Ok(Err(self.settle(Outcome::Processing).await?)),
                    };
                }
                Err(error) if error.is_passing() && !self.overdue() => {
                    tracing::warn!(%error, "an exchanged payer waits for the store");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn not_exchanged(
        &self,
        mini_program: &MiniProgram,
        hash: CodeHash,
        error: ExchangeError,
        permit: &super::budget::Permit,
    ) -> Result<Result<Payer, Outcome>, StepError> {
        match &error {
            ExchangeError::Configuration { .. } => {
                tracing::error!(app_id = %mini_program.app_id, %error, "the wallet refuses the mini-program's configuration");
            }
            _ => tracing::info!(app_id = %mini_program.app_id, %error, "a code was not exchanged"),
        }
        match error {
            ExchangeError::Unknown { .. } => permit.silent(self.steps.now()),
            ExchangeError::Busy { .. } => permit.throttled(self.steps.now(), Duration::from_secs(1)),
            _ => permit.answered(),
        }
        let refusal = match error {
            // Unknown too: an exchange that may have happened is never repeated, and the payer logs in again.
            ExchangeError::CodeRefused { .. } | ExchangeError::Unknown { .. } => Refusal::LoginExpired,
            ExchangeError::TooOften { .. } => Refusal::TooOften,
            ExchangeError::Blocked { .. } => Refusal::OrderRefused,
            ExchangeError::Configuration { .. } => Refusal::InternalError,
            ExchangeError::Busy { .. } => {
                // Surely not executed: the code stays good for the next try.
                self.steps.store.abandon_exchange(&mini_program.app_id, hash, self.command.id).await?;
                return Ok(Err(self.settle(Outcome::Processing).await?));
            }
        };
        self.burn(mini_program, hash, refusal).await
    }

    async fn burn(
        &self,
        mini_program: &MiniProgram,
        hash: CodeHash,
        refusal: Refusal,
    ) -> Result<Result<Payer, Outcome>, StepError> {
        let (store, now) = (&self.steps.store, self.steps.now());
        store.finish_exchange(&mini_program.app_id, hash, self.command.id, None, now).await?;
        Ok(Err(self.settle(Outcome::refused(refusal)).await?))
    }
}
