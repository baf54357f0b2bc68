//! Which channel accounts have questions or refunds whose time has come, and taking them fairly.
//!
//! Every look goes through the accounts and not through what is due, so a backlog costs its own account alone.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use sea_orm::{ConnectionTrait, QueryResult, Value};

use super::{
    error::StoreError,
    pace::Pace,
    pool::Store,
    queries::LeaseToken,
    rows::{self, In},
};
use crate::domain::{
    id::{AccountId, AttemptNo, OrderId, RefundId},
    time::Timestamp,
    wallet::Wallet,
};

/// So many accounts take turns in one lease; the others are next.
const ACCOUNTS_AT_ONCE: usize = 64;
/// So many rows are named in one statement.
const CHUNK: usize = 128;

/// What can be due for an account, and the columns that say so.
#[derive(Debug)]
pub struct Lane {
    table: &'static str,
    id: &'static str,
    /// What an id is only part of a key with.
    no: Option<&'static str>,
    due_at: &'static str,
    leased_until: &'static str,
    token: &'static str,
    /// Conditions that part it, the first goes before the second; an index begins with the account and each of them.
    ranks: &'static [&'static str],
}

impl Lane {
    pub const QUESTIONS: Self = Self {
        table: "attempts",
        id: "order_id",
        no: Some("no"),
        due_at: "next_query_at",
        leased_until: "query_leased_until",
        token: "query_token",
        ranks: &["query_wanted = TRUE AND", "query_wanted = FALSE AND"],
    };
    pub const REFUNDS: Self = Self {
        table: "refunds",
        id: "id",
        no: None,
        due_at: "next_at",
        leased_until: "leased_until",
        token: "lease_token",
        ranks: &[""],
    };

    /// Its time has come and nobody has it. Two values: now, twice.
    fn is_due(&self) -> String {
        let Self { due_at, leased_until, .. } = self;
        format!("{due_at} <= ? AND ({leased_until} IS NULL OR {leased_until} <= ?)")
    }

    /// One of these keys.
    fn is_one_of(&self, keys: &[Key]) -> (String, Vec<Value>) {
        let one = match self.no {
            Some(no) => format!("({} = ? AND {no} = ?)", self.id),
            None => format!("{} = ?", self.id),
        };
        let fill = keys.len().next_power_of_two() - keys.len();
        let filled_up: Vec<&Key> = keys.iter().chain(keys.last().into_iter().cycle().take(fill)).collect();
        let values = filled_up.iter().flat_map(|key| {
            let no = self.no.map(|_| Value::from(key.no));
            std::iter::once(Value::from(key.id.clone())).chain(no)
        });
        (format!("({})", vec![one; filled_up.len()].join(" OR ")), values.collect())
    }
}

/// A channel account for which something is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueAccount {
    pub account: AccountId,
    pub wallet: Wallet,
    /// Under which its wallet is called: a service provider's is shared by accounts of many merchants.
    pub number: String,
    /// The oldest was due then.
    pub since: Timestamp,
    free_at_us: Option<i64>,
}

/// What an account may be given of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    pub due: DueAccount,
    pub room: u32,
    /// What all accounts of its wallet may be given together.
    pub wallet_room: u32,
}

/// What was leased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased<T> {
    pub taken: Vec<(AccountId, T)>,
    /// More is due that may be taken soon: an account or its wallet had no room for it, or its number's pace none.
    pub held: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    id: String,
    no: i32,
}

/// An account's place in a lease.
struct Queue {
    account: AccountId,
    line: usize,
    room: u32,
    keys: VecDeque<Key>,
}

/// What a wallet may be given of a lease.
struct Bound {
    wallet: Wallet,
    room: u32,
    /// Its accounts: no more of them than can be picked.
    queues: u32,
    picked: u32,
}

/// A number's place in a lease.
struct Line {
    wallet: Wallet,
    /// The wallet's.
    bound: usize,
    number: String,
    known: bool,
    free: u32,
    /// Accounts that are called under it: no more of them than can be picked, the others' places are for other numbers.
    queues: u32,
    picked: u32,
}

/// All who have a place in a lease.
struct Places {
    queues: Vec<Queue>,
    lines: Vec<Line>,
    bounds: Vec<Bound>,
    /// Others may have one soon.
    held: bool,
}

impl Store {
    /// The accounts for which something is due, by account: one statement, two looks into an index for each account there is.
    pub async fn due_accounts(&self, lane: &Lane, now: Timestamp) -> Result<Vec<DueAccount>, StoreError> {
        let oldest = |rank: &str| {
            let Lane { table, due_at, .. } = lane;
            let due = lane.is_due();
            // Not EXISTS: a planner may turn that into a join that reads all that is due.
            format!("(SELECT {due_at} FROM {table} WHERE account_id = c.id AND {rank} {due} ORDER BY {due_at} LIMIT 1)")
        };
        let columns: Vec<_> =
            lane.ranks.iter().enumerate().map(|(at, rank)| format!("{} AS due_{at}", oldest(rank))).collect();
        let any: Vec<_> = (0..lane.ranks.len()).map(|at| format!("due_{at} IS NOT NULL")).collect();
        let sql = format!(
            "SELECT * FROM (SELECT c.id, c.wallet, c.number, t.free_at_us, {} FROM channel_accounts c \
             LEFT JOIN question_turns t ON t.wallet = c.wallet AND t.number = c.number) d WHERE {} ORDER BY id",
            columns.join(", "),
            any.join(" OR ")
        );
        let statement = self.sql(&sql, vec![Value::from(now.ms()); 2 * lane.ranks.len()]);
        let rows = self.read("channel_accounts", |db| async move { db.query_all_raw(statement).await }).await?;
        Ok(rows.iter().filter_map(|row| readable(due_account(row, lane))).collect())
    }

    /// Takes up to `limit` questions of these accounts, the earlier named ones first; nobody else gets them for `lease_for`.
    ///
    /// One of each account, then the second of each, and so on: three of waiting pages, then the oldest other, and never more
    /// than the account's room, its wallet's and its number's pace. What is over stays due, untouched. Statements: a look, one for
    /// the pace of each number, UPDATE with a token; one more where another scheduler was first. A lease ends with the commit that
    /// schedules the next question or settles the attempt, or with its time.
    pub async fn lease_due_questions(
        &self,
        shares: &[Share],
        limit: usize,
        now: Timestamp,
        lease_for: Duration,
        pace: Pace,
    ) -> Result<Leased<(OrderId, AttemptNo)>, StoreError> {
        let leased = self.lease(&Lane::QUESTIONS, shares, limit, now, lease_for, Some(pace)).await?;
        Ok(leased.parsed(|key| {
            let id = OrderId::parse(&key.id).map_err(|_| StoreError::corrupt("attempts", "order_id", &key.id))?;
            let no = u8::try_from(key.no).ok().and_then(AttemptNo::new);
            Ok((id, no.ok_or_else(|| StoreError::corrupt("attempts", "no", &key.id))?))
        }))
    }

    /// The same for refunds, which have no pace. A lease ends with the next commit of the refund, or with its time.
    pub async fn lease_due_refunds(
        &self,
        shares: &[Share],
        limit: usize,
        now: Timestamp,
        lease_for: Duration,
    ) -> Result<Leased<RefundId>, StoreError> {
        let leased = self.lease(&Lane::REFUNDS, shares, limit, now, lease_for, None).await?;
        let read = |key: &Key| RefundId::parse(&key.id).map_err(|_| StoreError::corrupt("refunds", "id", &key.id));
        Ok(leased.parsed(read))
    }

    async fn lease(
        &self,
        lane: &Lane,
        shares: &[Share],
        limit: usize,
        now: Timestamp,
        lease_for: Duration,
        pace: Option<Pace>,
    ) -> Result<Leased<Key>, StoreError> {
        let Places { mut queues, mut lines, mut bounds, mut held } = queued(shares, now, pace);
        self.fill(lane, &mut queues, limit, now).await?;
        let full = |queue: &Queue| queue.keys.len() >= usize::try_from(queue.room).unwrap_or(limit).min(limit);
        held |= queues.iter().any(full);
        let mut picked = take_in_turn(&mut queues, &mut lines, &mut bounds, limit);
        held |= queues.iter().any(|queue| !queue.keys.is_empty());
        if let Some(pace) = pace {
            for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.picked > 0) {
                if !line.known {
                    self.know_turns(line.wallet, &line.number).await?;
                }
                if !self.take_turns(line.wallet, &line.number, line.picked, pace, now).await? {
                    picked.retain(|(queue, _)| queues[*queue].line != at);
                    held = true;
                }
            }
        }
        let keys: Vec<Key> = picked.iter().map(|(_, key)| key.clone()).collect();
        let ours = self.lease_keys(lane, keys, now, lease_for).await?;
        let taken = picked.into_iter().filter(|(_, key)| ours.contains(key));
        Ok(Leased { taken: taken.map(|(queue, key)| (queues[queue].account, key)).collect(), held })
    }

    /// Reads what each queue may be given at most, in the order of its going.
    async fn fill(&self, lane: &Lane, queues: &mut [Queue], limit: usize, now: Timestamp) -> Result<(), StoreError> {
        if queues.is_empty() {
            return Ok(());
        }
        let Lane { table, id, due_at, .. } = lane;
        let (no, due) = (lane.no.unwrap_or("0"), lane.is_due());
        let (mut heads, mut values) = (Vec::new(), Vec::new());
        // Filled up to a power of two with nobody's number: each length is a statement of its own in the connection's cache.
        for at in 0..queues.len().next_power_of_two() {
            let (account, most) = queues.get(at).map_or((-1, 1), |queue| {
                (i64::from(queue.account.0), i64::from(queue.room).min(i64::try_from(limit).unwrap_or(i64::MAX)))
            });
            for (rank, condition) in lane.ranks.iter().enumerate() {
                heads.push(format!(
                    "SELECT * FROM (SELECT account_id, {id} AS id, {no} AS no, {rank} AS place, {due_at} AS due_at \
                     FROM {table} WHERE account_id = ? AND {condition} {due} ORDER BY {due_at} LIMIT ?) h{at}_{rank}"
                ));
                values.extend([account, now.ms(), now.ms(), most].map(Value::from));
            }
        }
        let statement = self.sql(&heads.join(" UNION ALL "), values);
        let rows = self.read(lane.table, |db| async move { db.query_all_raw(statement).await }).await?;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            let key = Key { id: row.try_get("", "id")?, no: row.try_get("", "no")? };
            let place = (row.try_get::<i32>("", "place")?, row.try_get::<i64>("", "due_at")?);
            found.push((row.try_get::<i64>("", "account_id")?, place, key));
        }
        found.sort_by(|a, b| (a.1, &a.2.id).cmp(&(b.1, &b.2.id)));
        let fourth = usize::try_from(scattered(now) % 4).unwrap_or(0);
        let mut before: HashMap<(i64, i32), usize> = HashMap::new();
        let mut placed = Vec::with_capacity(found.len());
        for (account, (rank, _), key) in found {
            let nth = before.entry((account, rank)).or_default();
            placed.push((place_of(rank, *nth, fourth), account, key));
            *nth += 1;
        }
        placed.sort_by_key(|(place, ..)| *place);
        for (_, account, key) in placed {
            if let Some(queue) = queues.iter_mut().find(|queue| i64::from(queue.account.0) == account) {
                queue.keys.push_back(key);
            }
        }
        Ok(())
    }

    /// Takes those that nobody took meanwhile.
    async fn lease_keys(
        &self,
        lane: &Lane,
        mut keys: Vec<Key>,
        now: Timestamp,
        lease_for: Duration,
    ) -> Result<Vec<Key>, StoreError> {
        // Everybody takes rows in the same order, or two who take the same ones may wait for each other.
        keys.sort_unstable_by(|a, b| (&a.id, a.no).cmp(&(&b.id, b.no)));
        let Lane { table, id, token, leased_until, .. } = lane;
        let ours = LeaseToken::fresh().text();
        let mut taken = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(CHUNK) {
            let (named, ids) = lane.is_one_of(chunk);
            let sql = format!("UPDATE {table} SET {token} = ?, {leased_until} = ? WHERE {named} AND {}", lane.is_due());
            let mut values = vec![Value::from(ours.clone()), now.plus(lease_for).ms().into()];
            values.extend(ids.clone());
            values.extend([now.ms().into(), now.ms().into()]);
            let changed = self.execute(self.sql(&sql, values)).await?;
            if usize::try_from(changed).is_ok_and(|changed| changed == chunk.len()) {
                taken.extend_from_slice(chunk);
                continue;
            }
            let no = lane.no.unwrap_or("0");
            let sql = format!("SELECT {id} AS id, {no} AS no FROM {table} WHERE {named} AND {token} = ?");
            let statement = self.sql(&sql, ids.into_iter().chain([Value::from(ours.clone())]));
            for row in &self.read(lane.table, |db| async move { db.query_all_raw(statement).await }).await? {
                taken.push(Key { id: row.try_get("", "id")?, no: row.try_get("", "no")? });
            }
        }
        Ok(taken)
    }
}

/// The accounts that may be given something now, the numbers they are called under and those numbers' wallets.
fn queued(shares: &[Share], now: Timestamp, pace: Option<Pace>) -> Places {
    let (mut queues, mut lines, mut bounds, mut held) = (Vec::new(), Vec::<Line>::new(), Vec::<Bound>::new(), false);
    let mut known: HashMap<(Wallet, &str), usize> = HashMap::new();
    for Share { due, room, wallet_room } in shares {
        let bound = bounds.iter().position(|bound| bound.wallet == due.wallet).unwrap_or_else(|| {
            bounds.push(Bound { wallet: due.wallet, room: *wallet_room, queues: 0, picked: 0 });
            bounds.len() - 1
        });
        let free = pace.map_or(u32::MAX, |pace| pace.free(due.free_at_us, now)).min(bounds[bound].room);
        if free == 0 || *room == 0 || bounds[bound].queues == bounds[bound].room || queues.len() == ACCOUNTS_AT_ONCE {
            held = true;
            continue;
        }
        let line = *known.entry((due.wallet, due.number.as_str())).or_insert_with(|| {
            lines.push(Line {
                wallet: due.wallet,
                bound,
                number: due.number.clone(),
                known: due.free_at_us.is_some(),
                free,
                queues: 0,
                picked: 0,
            });
            lines.len() - 1
        });
        if lines[line].queues == free {
            held = true;
            continue;
        }
        lines[line].queues += 1;
        bounds[bound].queues += 1;
        queues.push(Queue { account: due.account, line, room: (*room).min(free), keys: VecDeque::new() });
    }
    Places { queues, lines, bounds, held }
}

/// Which place the nth of its rank has in a queue: those of the first rank go before, but every fourth place is another's if there
/// are others, or a crowd of waiting pages would keep all other questions of their account waiting. `fourth`: which of four it
/// is, now the first and now the last: a busy account may be given one place at a time.
fn place_of(rank: i32, nth: usize, fourth: usize) -> usize {
    if rank == 0 { nth / 3 * 4 + nth % 3 + usize::from(nth % 3 >= fourth) } else { 4 * nth + fourth }
}

/// A moment as a number that has nothing to do with the one before it: looks that are always as far apart begin everywhere.
pub(in crate::store) fn scattered(now: Timestamp) -> u64 {
    u64::try_from(now.ms()).unwrap_or(0).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
}

/// The first of every queue, the second of every queue, and so on.
fn take_in_turn(queues: &mut [Queue], lines: &mut [Line], bounds: &mut [Bound], limit: usize) -> Vec<(usize, Key)> {
    let mut picked = Vec::new();
    loop {
        let before = picked.len();
        for (at, queue) in queues.iter_mut().enumerate() {
            let line = &mut lines[queue.line];
            let bound = &mut bounds[line.bound];
            if picked.len() == limit || queue.room == 0 || line.picked == line.free || bound.picked == bound.room {
                continue;
            }
            if let Some(key) = queue.keys.pop_front() {
                queue.room -= 1;
                line.picked += 1;
                bound.picked += 1;
                picked.push((at, key));
            }
        }
        if picked.len() == before {
            return picked;
        }
    }
}

impl Leased<Key> {
    fn parsed<T>(self, read: impl Fn(&Key) -> Result<T, StoreError>) -> Leased<T> {
        let taken = self.taken.iter().filter_map(|(account, key)| Some((*account, readable(read(key))?)));
        Leased { taken: taken.collect(), held: self.held }
    }
}

/// What cannot be read keeps nobody else waiting.
fn readable<T>(read: Result<T, StoreError>) -> Option<T> {
    read.inspect_err(|error| tracing::error!(%error, "what is due for a row that cannot be read waits for a person"))
        .ok()
}

fn due_account(row: &QueryResult, lane: &Lane) -> Result<DueAccount, StoreError> {
    let id: i64 = row.try_get("", "id")?;
    let wallet: String = row.try_get("", "wallet")?;
    let mut since: Option<i64> = None;
    for at in 0..lane.ranks.len() {
        let due: Option<i64> = row.try_get("", &format!("due_{at}"))?;
        since = since.into_iter().chain(due).min();
    }
    let (number, free_at_us) = (row.try_get("", "number")?, row.try_get("", "free_at_us")?);
    let read = || {
        Ok(DueAccount {
            account: rows::account_id(id)?,
            wallet: Wallet::parse(&wallet).at("wallet")?,
            number,
            since: Timestamp::from_ms(since.at(lane.due_at)?),
            free_at_us,
        })
    };
    read().map_err(|column: rows::Column| column.of("channel_accounts", id.to_string()))
}
