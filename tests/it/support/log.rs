//! The audit log behind the broker's back: its segments, read and written by SQL, as an attacker or a disk would.

use hallpass::model::append_record;
use ring::digest::{SHA256, digest};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _, SqliteConnection};

use super::database::{execute, on_either};

/// A row of `audit_segments`, its records one by one.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) node: String,
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) at: (i64, i64),
    pub(crate) bodies: Vec<String>,
    pub(crate) hash: Vec<u8>,
    pub(crate) root: Vec<u8>,
}

impl Row {
    /// What somebody who has no key can make fit: the hash, the Merkle root and the times of its segment.
    pub(crate) fn make_fit(&mut self) {
        let at = |body: &String| serde_json::from_str::<serde_json::Value>(body).ok()?["at"].as_i64();
        self.at.0 = self.bodies.first().and_then(at).unwrap_or(self.at.0);
        self.at.1 = self.bodies.last().and_then(at).unwrap_or(self.at.1);
        self.hash = sha256(self.bodies.last().map_or("", String::as_str));
        let leaves: Vec<&[u8]> = self.bodies.iter().map(String::as_bytes).collect();
        self.root = root(&leaves);
    }
}

/// All segments of all nodes, in order.
pub(crate) async fn rows(url: &str) -> Vec<Row> {
    let sql =
        "SELECT node, first, last, first_at, last_at, records, hash, root FROM audit_segments ORDER BY node, first";
    on_either!(url, connection => {
        let rows = sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_all(&mut connection).await.unwrap();
        let row = |row: &_| from_columns(
            sqlx::Row::get(row, 0), (sqlx::Row::get(row, 1), sqlx::Row::get(row, 2)),
            (sqlx::Row::get(row, 3), sqlx::Row::get(row, 4)), sqlx::Row::get(row, 5), sqlx::Row::get(row, 6),
            sqlx::Row::get(row, 7),
        );
        rows.iter().map(row).collect()
    })
}

fn from_columns(
    node: String,
    (first, last): (i64, i64),
    at: (i64, i64),
    records: Vec<u8>,
    hash: Vec<u8>,
    root: Vec<u8>,
) -> Row {
    let segment = hallpass::model::Segment { first, last, first_at: at.0, last_at: at.1, records, hash, root };
    let bodies = segment.records().map(|record| String::from_utf8_lossy(record).into_owned()).collect();
    Row { node, first, last, at, bodies, hash: segment.hash, root: segment.root }
}

/// These rows instead of all that are there.
pub(crate) async fn replace(url: &str, rows: &[Row]) {
    execute(url, "DELETE FROM audit_segments").await;
    for row in rows {
        let mut records = Vec::new();
        for body in &row.bodies {
            let write = |out: &mut Vec<u8>| std::io::Write::write_all(out, body.as_bytes());
            append_record(&mut records, write).unwrap();
        }
        let sql = "INSERT INTO audit_segments (node, first, last, first_at, last_at, records, hash, root) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        on_either!(url, connection => {
            let query = sqlx::query(sql).bind(&row.node).bind(row.first).bind(row.last).bind(row.at.0).bind(row.at.1);
            query.bind(&records).bind(&row.hash).bind(&row.root).execute(&mut connection).await.unwrap();
        });
    }
}

/// Every record of every node, in order.
pub(crate) async fn bodies(url: &str) -> Vec<String> {
    rows(url).await.into_iter().flat_map(|row| row.bodies).collect()
}

/// How many records there are that have all of these words in them.
pub(crate) async fn count(url: &str, words: &[&str]) -> i64 {
    let bodies = bodies(url).await;
    let found = bodies.iter().filter(|body| words.iter().all(|word| body.contains(word))).count();
    i64::try_from(found).unwrap()
}

/// How many records of a kind there are.
pub(crate) async fn count_kind(url: &str, kind: &str) -> i64 {
    count(url, &[&format!("\"kind\":\"{kind}\"")]).await
}

/// The record of a number; of the only node.
pub(crate) async fn body(url: &str, seq: i64) -> String {
    let place = usize::try_from(seq).unwrap() - 1;
    bodies(url).await.remove(place)
}

/// Changes the segment that this record is in; gives its place there.
pub(crate) async fn change(url: &str, seq: i64, change: impl FnOnce(&mut Row, usize)) {
    let mut all = rows(url).await;
    let row = all.iter_mut().find(|row| (row.first..=row.last).contains(&seq)).expect("a segment with this record");
    let place = usize::try_from(seq - row.first).unwrap();
    change(row, place);
    all.retain(|row| !row.bodies.is_empty());
    replace(url, &all).await;
}

/// Puts another text in a record's place. `fits`: with a hash and a root that fit.
pub(crate) async fn set_body(url: &str, seq: i64, body: &str, fits: bool) {
    change(url, seq, |row, place| {
        body.clone_into(&mut row.bodies[place]);
        if fits {
            row.make_fit();
        }
    })
    .await;
}

/// Takes all records behind this one away, with hashes that fit.
pub(crate) async fn cut_behind(url: &str, seq: i64) {
    let mut all = rows(url).await;
    all.retain(|row| row.first <= seq);
    if let Some(row) = all.last_mut().filter(|row| row.last > seq) {
        row.bodies.truncate(usize::try_from(seq - row.first + 1).unwrap());
        row.last = seq;
        row.make_fit();
    }
    replace(url, &all).await;
}

/// The chain's end is said to be at this record.
pub(crate) async fn set_end(url: &str, seq: i64) {
    let hash = super::database::blob(url, &sha256(&body(url, seq).await));
    execute(url, &format!("UPDATE audit_heads SET seq = {seq}, hash = {hash}")).await;
}

pub(crate) fn sha256(text: &str) -> Vec<u8> {
    digest(&SHA256, text.as_bytes()).as_ref().to_vec()
}

/// RFC 6962 §2.1, word for word.
fn root(leaves: &[&[u8]]) -> Vec<u8> {
    let hash = |parts: &[&[u8]]| digest(&SHA256, &parts.concat()).as_ref().to_vec();
    match leaves {
        [] => hash(&[]),
        [leaf] => hash(&[&[0], leaf]),
        many => {
            let (left, right) = many.split_at(1 << (many.len() - 1).ilog2());
            hash(&[&[1], &root(left), &root(right)])
        }
    }
}
