//! `POST /pay`: the call that everything exists for.

use std::{sync::Arc, time::Duration};

use poem::{Request, Response, http::StatusCode};
use tokio::time::Instant;

use super::{
    Front,
    admission::{Place, Shed},
    answer, fields,
    fields::PhoneFields,
    request,
    wait::{Answer, JoinKey, Joined, Lead, Listener},
};
use crate::{
    domain::{
        command::{IdentifyId, Identity, PrepayCommand},
        id::CommandId,
        outcome::{Outcome, Refusal},
        payer::{LoginCode, PayerIp, looks_like_alipay_user_id},
        payinfo::PayInfo,
        wallet::Wallet,
    },
    queue::{Envelope, Published, RefusedBecause},
};

/// However long a reply says that a merchant's wallet is busy.
const BUSY_MAX_S: u64 = 60;

/// Answers a phone.
pub async fn pay(front: &Arc<Front>, mut request: Request) -> Response {
    let asked = match read(front, &mut request).await {
        Ok(asked) => asked,
        Err(refusal) => return answer::refusal(refusal),
    };
    let (info, health) = (&asked.info, front.broker.health());
    let place = match front.admission.admit(info.merchant, info.order, health, front.clock.now()) {
        Ok(place) => place,
        Err(why) => return shed(why),
    };
    let (order, wallet, generation) = (info.order, info.wallet, info.generation);
    let key = JoinKey { order, wallet, generation, identity: asked.identity.clone() };
    let listener = match front.waiters.join(key) {
        // Its own place, for as long as its phone holds the line.
        Joined::Waiting(listener) => return listen(listener, Some(place)).await,
        Joined::First(lead) => {
            let listener = lead.listener();
            // Spawned: a phone that hangs up drops its own wait, not the others' and not the order's.
            // The place is the wait's: hanging up does not make room for more.
            front.tracker.spawn(bring_to_answer(front.clone(), asked, lead, place));
            listener
        }
    };
    listen(listener, None).await
}

async fn listen(mut listener: Listener, place: Option<Place>) -> Response {
    let told = listener.wait_for(Option::is_some).await.ok().and_then(|told| told.clone());
    drop(place);
    match told {
        Some(Answer::Outcome(outcome)) => answer::outcome(&outcome),
        Some(Answer::Shed(why)) => shed(why),
        // A lead that died without a word leaves the outcome unknown.
        Some(Answer::Processing) | None => answer::processing(),
    }
}

/// What a phone asked for, as far as a front can check it.
pub struct Asked {
    pub info: PayInfo,
    pub identity: Identity,
    pub payer_ip: Option<PayerIp>,
}

async fn read(front: &Front, request: &mut Request) -> Result<Asked, Refusal> {
    let (fields, info) = read_link(front, request).await?;
    let referer = request.headers().get("referer").and_then(|value| value.to_str().ok());
    if wrong_wallet(info.wallet, referer, fields.identify_id.as_deref()) {
        return Err(Refusal::WrongWallet);
    }
    Ok(Asked { identity: identity(fields)?, payer_ip: payer_ip(front, request, &info), info })
}

/// Where the phone calls from, if that is public and an account may tell its wallet: it is personal data, and goes no further
/// than it has to. What a phone writes of itself is not believed, only what proxies of ours say.
fn payer_ip(front: &Front, request: &Request, info: &PayInfo) -> Option<PayerIp> {
    if !front.keyring.load().tells_payer_ip(info.merchant, info.wallet) {
        return None;
    }
    request::client_ip(request, &front.settings.trusted_proxies).and_then(PayerIp::new)
}

/// The body's fields and the link they name, its tag checked before anything else is done.
pub async fn read_link(front: &Front, request: &mut Request) -> Result<(PhoneFields, PayInfo), Refusal> {
    let body = request::body(request, fields::PHONE_BODY_MAX, front.settings.body_timeout).await;
    let mut fields = fields::read(&body.map_err(|_| Refusal::InvalidField)?)?;
    let text = fields.pay_info.take().ok_or(Refusal::MissingField)?;
    let info = front.keyring.load().pay_info.check(&text).map_err(|_| Refusal::InvalidLink)?;
    if front.clock.now() > info.expire_at.plus(PayInfo::ANSWERED_AFTER_EXPIRY) {
        return Err(Refusal::InvalidLink);
    }
    Ok((fields, info))
}

/// Both sent: `identifyId` wins, because the merchant has probably spent the code.
fn identity(fields: PhoneFields) -> Result<Identity, Refusal> {
    match (fields.identify_id, fields.code) {
        (Some(id), _) => {
            let shaped =
                (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
            if shaped { Ok(Identity::IdentifyId(IdentifyId(id))) } else { Err(Refusal::InvalidField) }
        }
        (None, Some(code)) => LoginCode::parse(code).map(Identity::Code).map_err(|_| Refusal::InvalidField),
        (None, None) => Err(Refusal::LoginExpired),
    }
}

/// Whether a hint shows that this link was opened in the other wallet (`mini-program.md`, 3). Neither hint is ever required.
fn wrong_wallet(wallet: Wallet, referer: Option<&str>, identify_id: Option<&str>) -> bool {
    match wallet {
        Wallet::WechatPay => identify_id.is_some_and(looks_like_alipay_user_id),
        Wallet::Alipay => referer.is_some_and(|referer| referer.starts_with("https://servicewechat.com/")),
    }
}

/// Publishes the command and waits for its outcome, for everyone who joined.
async fn bring_to_answer(front: Arc<Front>, asked: Asked, lead: Lead, place: Place) {
    let deadline = Instant::now() + front.settings.wait;
    let command = PrepayCommand {
        id: CommandId::fresh(),
        order: asked.info.order,
        merchant: asked.info.merchant,
        wallet: asked.info.wallet,
        generation: asked.info.generation,
        identity: asked.identity,
        not_after: front.clock.now().plus(front.settings.wait),
        payer_ip: asked.payer_ip,
    };
    // Listen before the publish, or the reply slips between the two.
    let mut listening = front.waiters.listen(command.id);
    let published = front.broker.publish(&Envelope::prepay(command.clone()), front.settings.publish_patience).await;
    let answer = match published {
        Published::Refused(because) => Answer::Shed(Shed::from(because)),
        // Unknown: it may be executed, so it is waited for like any other and never called failed.
        Published::Kept | Published::Unknown => match listening.until(deadline, &front.looks).await {
            Some(outcome) => Answer::Outcome(outcome),
            None => Answer::Processing,
        },
    };
    count(&command, &published, &answer);
    if let Answer::Outcome(Outcome::Busy { retry_after_s }) = &answer {
        let until = front.clock.now().plus(Duration::from_secs(u64::from(*retry_after_s).min(BUSY_MAX_S)));
        front.admission.merchant_busy(command.merchant, until);
    }
    drop(place);
    lead.tell(answer);
}

fn count(command: &PrepayCommand, published: &Published, answer: &Answer) {
    let wallet = command.wallet.as_str();
    let outcome = match published {
        Published::Kept => {
            metrics::counter!("prepay_accepted_total", "wallet" => wallet).increment(1);
            "kept"
        }
        Published::Refused(because) => because.as_str(),
        Published::Unknown => "unknown",
    };
    metrics::counter!("prepay_published_total", "outcome" => outcome).increment(1);
    let class = match answer {
        Answer::Outcome(outcome) => outcome.class(),
        Answer::Processing => "processing",
        Answer::Shed(_) => "shed",
    };
    metrics::counter!("prepay_answers_total", "wallet" => wallet, "class" => class).increment(1);
}

impl From<RefusedBecause> for Shed {
    fn from(because: RefusedBecause) -> Self {
        match because {
            RefusedBecause::Full => Self::BrokerFull,
            RefusedBecause::Blocked => Self::BrokerBlocked,
            RefusedBecause::Unroutable => Self::BrokerUnroutable,
            RefusedBecause::NotConnected => Self::BrokerDown,
        }
    }
}

/// The answer to a call that is not let in.
pub fn shed(why: Shed) -> Response {
    metrics::counter!("prepay_shed_total", "reason" => why.as_str()).increment(1);
    match why {
        Shed::OrderRate => answer::refusal(Refusal::TooOften),
        Shed::MerchantRate => answer::busy(StatusCode::TOO_MANY_REQUESTS, 1),
        Shed::MerchantBusy { retry_after_s } => answer::busy(StatusCode::SERVICE_UNAVAILABLE, retry_after_s),
        Shed::InFlight | Shed::BrokerFull | Shed::BrokerBlocked | Shed::BrokerDown | Shed::BrokerUnroutable => {
            answer::busy(StatusCode::SERVICE_UNAVAILABLE, 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(code: Option<&str>, identify_id: Option<&str>) -> PhoneFields {
        let own = |text: &str| text.to_owned();
        PhoneFields { pay_info: None, code: code.map(own), identify_id: identify_id.map(own) }
    }

    #[test]
    fn an_identify_id_wins_over_a_code_and_nobody_is_told_to_log_in() {
        let both = identity(fields(Some("c"), Some("o")));
        assert_eq!(both, Ok(Identity::IdentifyId(IdentifyId("o".into()))));
        assert_eq!(identity(fields(None, None)), Err(Refusal::LoginExpired));
        assert_eq!(identity(fields(Some(&"c".repeat(129)), None)), Err(Refusal::InvalidField));
        assert_eq!(identity(fields(None, Some("o😀"))), Err(Refusal::InvalidField));
        assert_eq!(identity(fields(Some("a\u{1}"), None)), Err(Refusal::InvalidField));
    }

    #[test]
    fn only_a_hint_of_the_other_wallet_is_told_to_change_apps() {
        let wechat = Some("https://servicewechat.com/wx1/1/page-frame.html");
        assert!(wrong_wallet(Wallet::Alipay, wechat, None));
        assert!(!wrong_wallet(Wallet::WechatPay, wechat, None));
        assert!(wrong_wallet(Wallet::WechatPay, None, Some("2088102146225135")));
        assert!(!wrong_wallet(Wallet::Alipay, None, Some("2088102146225135")));
    }
}
