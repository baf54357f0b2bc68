//! Both wallets behind one face, so that a promise that holds for both is written once.

use reqwest::StatusCode;
use serde_json::{Value, json};
use simulator::{Call, Event, Fault, FaultId, FaultKind, Match};

use super::{harness::World, shop::pay_info};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Wechat,
    Alipay,
}

/// A person with one of the wallets.
#[derive(Debug, Clone)]
pub struct Person {
    pub side: Side,
    /// As the merchant's server knows them: openid, or open id.
    pub identify_id: String,
    /// As the wallet knows them.
    user: String,
}

impl Side {
    pub const BOTH: [Self; 2] = [Self::Wechat, Self::Alipay];

    pub fn name(self) -> &'static str {
        match self {
            Self::Wechat => "WECHAT",
            Self::Alipay => "ALIPAY",
        }
    }

    pub fn sim(self) -> simulator::Wallet {
        match self {
            Self::Wechat => simulator::Wallet::Wechat,
            Self::Alipay => simulator::Wallet::Alipay,
        }
    }

    /// What the answer's parameters name the payment with.
    pub fn ticket(self, data: &Value) -> String {
        let key = match self {
            Self::Wechat => "package",
            Self::Alipay => "tradeNo",
        };
        data[key].as_str().unwrap_or_else(|| panic!("no {key}: {data:#}")).to_owned()
    }
}

impl World {
    pub fn person(&self, side: Side) -> Person {
        match side {
            Side::Wechat => {
                let openid = self.sim.wechat().new_openid(&self.wechat.app.appid);
                Person { side, identify_id: openid.clone(), user: openid }
            }
            Side::Alipay => {
                let user = self.sim.alipay().new_user().user_id;
                let identify_id = self.sim.alipay().open_id(&self.alipay.app.app_id, &user).unwrap();
                Person { side, identify_id, user }
            }
        }
    }

    /// A fresh login of theirs.
    pub fn code_of(&self, person: &Person) -> String {
        match person.side {
            Side::Wechat => self.sim.wechat().new_code(&self.wechat.app.appid, &person.user),
            Side::Alipay => self.sim.alipay().new_auth_code(&self.alipay.app.app_id, &person.user).unwrap(),
        }
    }

    /// What their phone posts after a fresh login.
    pub fn login_body(&self, order: &Value, person: &Person) -> Value {
        json!({ "payInfo": pay_info(order, person.side.name()), "code": self.code_of(person) })
    }

    /// They open the link and tap: a fresh login, then the call.
    pub async fn tap(&self, order: &Value, person: &Person) -> (StatusCode, Value) {
        self.pay(self.login_body(order, person)).await
    }

    /// They tap and are given parameters; the same call again when the machine was too slow for an answer.
    pub async fn tap_ready(&self, order: &Value, person: &Person) -> Value {
        self.pay_patiently(&self.login_body(order, person)).await
    }

    /// They pay with what their phone was given. `Err` is what the cashier said instead.
    pub async fn press_pay(&self, data: &Value, person: &Person) -> Result<(), String> {
        self.press(data, person, true).await
    }

    pub async fn press_cancel(&self, data: &Value, person: &Person) {
        self.press(data, person, false).await.unwrap_err();
    }

    async fn press(&self, data: &Value, person: &Person, pay: bool) -> Result<(), String> {
        match person.side {
            Side::Wechat => {
                use simulator::wechat::Press;
                let press = if pay { Press::Pay } else { Press::Cancel };
                let result = self.sim.wechat().request_payment(data, &person.user, press);
                let result = result.map_err(|error| error.to_string())?;
                if result.transaction_id.is_some() { Ok(()) } else { Err(result.err_msg) }
            }
            Side::Alipay => {
                use simulator::alipay::Press;
                let press = if pay { Press::Pay } else { Press::Cancel };
                let result = self.sim.alipay().trade_pay(&Side::Alipay.ticket(data), &person.user, press).await;
                if result.as_str() == "9000" { Ok(()) } else { Err(result.as_str().to_owned()) }
            }
        }
    }

    /// A number is paid past the page, as in a race.
    pub fn pay_number(&self, side: Side, number: &str) -> Option<String> {
        match side {
            Side::Wechat => self.sim.wechat().pay(&self.wechat.merchant.mchid, number),
            Side::Alipay => self.sim.alipay().pay_number(&self.alipay.app.app_id, number),
        }
    }

    /// From now on neither wallet tells of a payment by itself.
    pub fn lose_all_notices(&self) {
        self.sim.wechat().set_switches(|switches| switches.notices = false);
        self.sim.alipay().set_switches(|switches| switches.notify = false);
    }

    /// One fault of the next such call about this order.
    pub fn fault(&self, side: Side, call: Call, order: &Value, kind: FaultKind) -> FaultId {
        self.sim.faults().add(Fault::once(side.sim(), call, kind).when(Match::prefix(serial(order))))
    }

    /// The same of every such call about this order, until faults are cleared.
    pub fn fault_always(&self, side: Side, call: Call, order: &Value, kind: FaultKind) -> FaultId {
        self.sim.faults().add(Fault::once(side.sim(), call, kind).when(Match::prefix(serial(order))).always())
    }

    /// How many numbers of an order the wallets know or knew.
    pub fn numbers_created(&self, order: &Value) -> usize {
        (1..=99).filter(|n| self.sim.ledger().count(&number(order, *n), Call::Prepay, Event::Created) > 0).count()
    }

    /// Numbers of an order that could be paid at one time, at most; any more than one is a double charge to come.
    pub fn payable_at_once_max(&self, order: &Value) -> usize {
        self.sim.ledger().payable_at_once_max(serial(order))
    }

    /// How many of a code's exchanges gave a payer; more than one cannot be.
    pub fn exchanged(&self, code: &str) -> usize {
        self.sim.ledger().of_code(code).iter().filter(|line| line.event == Event::Exchanged).count()
    }
}

fn serial(order: &Value) -> &str {
    order["serialNo"].as_str().unwrap()
}

/// The order's n-th number at the wallets.
pub fn number(order: &Value, n: usize) -> String {
    format!("{}{n:02}", serial(order))
}
