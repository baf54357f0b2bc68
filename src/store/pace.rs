//! How often a wallet is asked: evenly paced per number, counted in the database for all schedulers together.

use std::num::NonZeroU32;

use sea_orm::{ActiveValue::Set, EntityTrait, QueryTrait};

use super::{
    entity::question_turns::{ActiveModel, Entity},
    error::StoreError,
    pool::Store,
};
use crate::domain::{time::Timestamp, wallet::Wallet};

/// Nothing is taken so far ahead, clocks a little apart included: a column that says more was written by a clock that was wrong,
/// and says nothing. Otherwise a number would not be asked about until that time comes.
const AHEAD_MAX_US: i64 = 10_000_000;

/// The questions that one number at a wallet is asked, at most. A quarter of a second's worth may be asked at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    pub per_second: NonZeroU32,
}

impl Pace {
    /// From one question to the next in microseconds: rounded up, for the pace is never passed.
    fn interval_us(self) -> i64 {
        1_000_000_u32.div_ceil(self.per_second.get()).into()
    }

    fn burst(self) -> u32 {
        (self.per_second.get() / 4).max(1)
    }

    /// What a number's column may be at most, so that `wanted` questions can be taken now.
    fn latest_us(self, wanted: u32, now: Timestamp) -> i64 {
        us(now) + (i64::from(self.burst()) - i64::from(wanted)) * self.interval_us()
    }

    /// How many may be asked now.
    pub(in crate::store) fn free(self, free_at_us: Option<i64>, now: Timestamp) -> u32 {
        let taken_until = free_at_us.filter(|until| *until <= believed_us(now)).unwrap_or(0).max(us(now));
        u32::try_from((self.latest_us(0, now) - taken_until) / self.interval_us()).unwrap_or(0)
    }
}

fn us(at: Timestamp) -> i64 {
    at.ms().saturating_mul(1000)
}

/// The latest that is believed of a column.
fn believed_us(now: Timestamp) -> i64 {
    us(now).saturating_add(AHEAD_MAX_US)
}

impl Store {
    /// A number that was never asked about is known from now on.
    pub(in crate::store) async fn know_turns(&self, wallet: Wallet, number: &str) -> Result<(), StoreError> {
        let row =
            ActiveModel { wallet: Set(wallet.as_str().to_owned()), number: Set(number.to_owned()), free_at_us: Set(0) };
        self.insert_if_absent(Entity::insert(row).into_query()).await?;
        Ok(())
    }

    /// Takes so many questions of a number's pace, all or none, in one statement: what others took meanwhile is seen. Answers
    /// whether they may be asked.
    ///
    /// Clocks that are apart by a second let through a second's worth more, once; the pace stays. One that went ahead by more than
    /// [`AHEAD_MAX_US`] and came back holds nobody up.
    pub(in crate::store) async fn take_turns(
        &self,
        wallet: Wallet,
        number: &str,
        wanted: u32,
        pace: Pace,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE question_turns \
             SET free_at_us = CASE WHEN free_at_us > ? AND free_at_us <= ? THEN free_at_us ELSE ? END + ? \
             WHERE wallet = ? AND number = ? AND (free_at_us <= ? OR free_at_us > ?)";
        let taken = i64::from(wanted) * pace.interval_us();
        let values = [
            us(now).into(),
            believed_us(now).into(),
            us(now).into(),
            taken.into(),
            wallet.as_str().into(),
            number.into(),
            pace.latest_us(wanted, now).into(),
            believed_us(now).into(),
        ];
        Ok(self.execute(self.sql(sql, values)).await? > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_at_first_and_then_one_after_each_interval() {
        let pace = Pace { per_second: NonZeroU32::new(40).unwrap() };
        let now = Timestamp::from_secs(1000);
        assert_eq!((pace.free(None, now), pace.free(Some(us(now)), now)), (10, 10));
        // All ten taken: the next comes after 25 ms.
        let taken = us(now) + 10 * 25_000;
        let at = |ms| pace.free(Some(taken), Timestamp::from_ms(now.ms() + ms));
        assert_eq!([at(0), at(24), at(25), at(49), at(50), at(250), at(10_000)], [0, 0, 1, 1, 2, 10, 10]);
        // Others with a later clock were here.
        assert_eq!(pace.free(Some(us(now) + 5_000_000), now), 0);
        // That clock was wrong.
        assert_eq!((pace.free(Some(believed_us(now)), now), pace.free(Some(believed_us(now) + 1), now)), (0, 10));
    }
}
