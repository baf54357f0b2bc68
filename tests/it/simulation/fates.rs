//! What is in store for a call to a wallet.

use prepay::gateway::Refused;

use super::wallet::Books;

const REFUSALS: [Refused; 3] = [Refused::Order, Refused::Identity, Refused::Configuration];
const REFUND_REFUSALS: [Refused; 3] = [Refused::Order, Refused::NotEnough, Refused::Configuration];

/// What is in store for one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Answered,
    /// Never arrives, unless late.
    Lost,
    /// Takes effect, and nobody hears of it.
    AnswerLost,
    /// Takes effect, and a copy of it follows.
    Doubled,
    NotExecuted,
    Refused(Refused),
    /// Refused, in words that an earlier send may have caused.
    Denied,
}

/// What may go wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Risk {
    /// It is never refused.
    Plain,
    Prepay,
    Refund,
}

impl Books {
    pub fn fate(&mut self, risk: Risk) -> Fate {
        let fate = self.rolled(risk);
        if risk == Risk::Refund {
            self.count(match fate {
                Fate::Answered => "sends of refunds answered",
                Fate::Lost => "sends of refunds lost",
                Fate::AnswerLost => "sends of refunds whose answers are lost",
                Fate::Doubled => "sends of refunds doubled",
                Fate::NotExecuted | Fate::Refused(_) | Fate::Denied => "sends of refunds refused",
            });
        }
        fate
    }

    fn rolled(&mut self, risk: Risk) -> Fate {
        let roll = self.dice.below(100);
        match roll {
            _ if self.is_calm => Fate::Answered,
            _ if self.is_rough && risk == Risk::Refund => self.rough_fate(roll),
            0..=6 => Fate::Lost,
            7..=13 => Fate::AnswerLost,
            14..=16 => Fate::Doubled,
            17..=20 => Fate::NotExecuted,
            21..=23 if risk == Risk::Prepay => Fate::Refused(*self.dice.pick(&REFUSALS)),
            21..=23 if risk == Risk::Refund => Fate::Refused(*self.dice.pick(&REFUND_REFUSALS)),
            _ => Fate::Answered,
        }
    }

    fn rough_fate(&mut self, roll: usize) -> Fate {
        match roll {
            0..=21 => Fate::Lost,
            22..=33 => Fate::AnswerLost,
            34..=41 => Fate::Doubled,
            42..=45 => Fate::NotExecuted,
            46..=57 => Fate::Refused(Refused::Order),
            58..=61 => Fate::Refused(*self.dice.pick(&REFUND_REFUSALS)),
            62..=69 => Fate::Denied,
            _ => Fate::Answered,
        }
    }
}
