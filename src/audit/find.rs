//! Whether a token was issued: the log knows, nothing else keeps the ids of tokens.

use serde::Deserialize;

use crate::audit::Link;
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
    for node in store.audit_nodes().await? {
        let mut after = first_after(store, &node, since).await?;
        loop {
            let page = store.audit_page_raw(&node, after, PAGE).await?;
            if page.is_empty() {
                break;
            }
            for at in 0..page.len() {
                let Some(record) = page.record(at)? else { continue };
                after = record.seq;
                if !record.body.contains(jti) {
                    continue;
                }
                // A record that cannot be read is for `audit verify`.
                let issued = serde_json::from_str::<Issued<'_>>(record.body).ok();
                let issued = issued.filter(|one| one.kind == "token.issued" && one.token.as_deref() == Some(jti));
                if let Some(issued) = issued {
                    return Ok(Some(issued.at));
                }
            }
        }
    }
    Ok(None)
}

/// The last record of a node that is older than `since`: time goes on along a chain, so a few looks find it.
async fn first_after(store: &Store, node: &str, since: Millis) -> Result<i64, StoreError> {
    let (mut old, mut new) = (0, store.audit_last_seq(node).await?.saturating_add(1));
    while new - old > 1 {
        let middle = old + (new - old) / 2;
        let page = store.audit_page(node, middle - 1, 1).await?;
        // A record that is missing or cannot be read is for `audit verify`; here, more is read then.
        let link = page.first().and_then(|row| serde_json::from_str::<Link<'_>>(&row.body).ok());
        if link.is_some_and(|link| link.at < since) { old = middle } else { new = middle }
    }
    Ok(old)
}
