//! Whether a token was issued: the log knows, nothing else keeps the ids of tokens.

use serde::Deserialize;

use crate::model::Segment;
use crate::store::{Store, StoreError};
use crate::world::Millis;

/// Records that are read at once.
const PAGE: i64 = 2_000;

#[derive(Deserialize)]
struct Issued<'a> {
    at: Millis,
    #[serde(borrow)]
    kind: std::borrow::Cow<'a, str>,
    #[serde(borrow, default)]
    token: Option<std::borrow::Cow<'a, str>>,
}

/// When a token of this id was issued, by any node, if that was after `since`.
///
/// # Errors
/// The log cannot be read.
pub async fn issued_at(store: &Store, jti: &str, since: Millis) -> Result<Option<Millis>, StoreError> {
    let needle = memchr::memmem::Finder::new(jti);
    for node in store.audit_nodes().await? {
        let mut after = first_after(store, &node, since).await?;
        loop {
            let page = store.segments(&node, after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.last.max(after.saturating_add(1));
            for record in page.iter().flat_map(Segment::records) {
                if needle.find(record).is_none() {
                    continue;
                }
                // A record that cannot be read is for `audit verify`.
                let issued = serde_json::from_slice::<Issued<'_>>(record).ok();
                let issued = issued.filter(|one| one.kind == "token.issued" && one.token.as_deref() == Some(jti));
                if let Some(issued) = issued {
                    return Ok(Some(issued.at));
                }
            }
        }
    }
    Ok(None)
}

/// Behind which record to begin: all up to it are older than `since`. Time goes on along a chain, so a few looks find it.
pub(super) async fn first_after(store: &Store, node: &str, since: Millis) -> Result<i64, StoreError> {
    let (mut old, mut new) = (0, store.audit_last_seq(node).await?.saturating_add(1));
    while new - old > 1 {
        let middle = old + (new - old) / 2;
        match store.span_at(node, middle).await? {
            Some(span) if span.last_at < since => old = span.last.max(middle).min(new - 1),
            // A segment that is not there is for `audit verify`; here, more is read then.
            _ => new = middle,
        }
    }
    Ok(old)
}
