//! Where audit records are read: in the database, which works on a copy and while the broker is down; or at a broker
//! elsewhere, where somebody is logged in.

use crate::audit::{Query, search};
use crate::cli::Failure;
use crate::cli::client::{AdminClient, segment};
use crate::manage::audit::{AuditFound, AuditNodes, AuditPage, Checkpoints};
use crate::store::{Store, StoreError, StoredCheckpoint};

/// Records of one page.
const PAGE: i64 = 1_000;

/// The audit log.
pub(super) enum Records {
    Database(Store),
    Broker(AdminClient),
}

impl Records {
    /// The nodes that keep a log, and the number of the last record of each.
    pub(super) async fn nodes(&self) -> Result<Vec<(String, i64)>, Failure> {
        let mut nodes = Vec::new();
        match self {
            Self::Database(store) => {
                for node in store.audit_nodes().await.map_err(unreadable)? {
                    let last = store.audit_last_seq(&node).await.map_err(unreadable)?;
                    nodes.push((node, last));
                }
            }
            Self::Broker(client) => {
                let answer: AuditNodes = client.get("/admin/v1/audit").await?;
                nodes.extend(answer.nodes.into_iter().map(|one| (one.node, one.last)));
            }
        }
        Ok(nodes)
    }

    /// The records after `after`, some of them: number, and text byte for byte as it was hashed. Empty at the end.
    pub(super) async fn page(&self, node: &str, after: i64) -> Result<Vec<(i64, String)>, Failure> {
        match self {
            Self::Database(store) => {
                let page = store.audit_page(node, after, PAGE).await.map_err(unreadable)?;
                Ok(page.into_iter().map(|row| (row.seq, row.body)).collect())
            }
            Self::Broker(client) => {
                let path = format!("/admin/v1/audit/{}/records?after={after}", segment(node));
                let answer: AuditPage = client.get(&path).await?;
                let page: Vec<_> = answer.records.into_iter().map(|one| (one.seq, one.body)).collect();
                // Whoever answers with what we have already would be asked without end.
                let mut before = after;
                match page.iter().all(|(seq, _)| std::mem::replace(&mut before, *seq) < *seq) {
                    true => Ok(page),
                    false => Err(Failure::Failed(format!("{} sends records out of order", client.place()))),
                }
            }
        }
    }

    /// Records after `after` that fit, some of them; and where to go on, if there may be more.
    pub(super) async fn search(
        &self,
        node: &str,
        after: i64,
        query: &Query,
    ) -> Result<(Vec<(i64, String)>, Option<i64>), Failure> {
        match self {
            Self::Database(store) => {
                let found = search(store, node, after, query).await.map_err(unreadable)?;
                Ok((found.records.into_iter().map(|row| (row.seq, row.body)).collect(), found.next))
            }
            Self::Broker(client) => {
                let path = format!("/admin/v1/audit/{}/search?after={after}{}", segment(node), parameters(query));
                let AuditFound { records, next } = client.get(&path).await?;
                match next {
                    // Whoever answers with where we are would be asked without end.
                    Some(next) if next <= after => {
                        Err(Failure::Failed(format!("{} does not go on in its log", client.place())))
                    }
                    next => Ok((records.into_iter().map(|one| (one.seq, one.body)).collect(), next)),
                }
            }
        }
    }

    /// The signed checkpoints of a node that come with its log.
    pub(super) async fn checkpoints(&self, node: &str) -> Result<Vec<StoredCheckpoint>, Failure> {
        match self {
            Self::Database(store) => store.checkpoints(node).await.map_err(unreadable),
            Self::Broker(client) => {
                let path = format!("/admin/v1/audit/{}/checkpoints", segment(node));
                let answer: Checkpoints = client.get(&path).await?;
                let all = answer.checkpoints.into_iter();
                Ok(all
                    .map(|one| StoredCheckpoint { node: node.to_owned(), seq: one.seq, at: one.at, jws: one.jws })
                    .collect())
            }
        }
    }

    pub(super) async fn close(self) {
        if let Self::Database(store) = self {
            store.close().await;
        }
    }
}

/// `&name=value` for each thing that is searched for.
fn parameters(query: &Query) -> String {
    let Query { since, until, agent, session, upstream, operation, decision, reason, request } = query;
    let times = [("since", since), ("until", until)].map(|(name, time)| (name, time.map(|time| time.to_string())));
    let texts = [
        ("agent", agent),
        ("session", session),
        ("upstream", upstream),
        ("operation", operation),
        ("decision", decision),
        ("reason", reason),
        ("request", request),
    ];
    let all = times.into_iter().chain(texts.map(|(name, text)| (name, text.clone())));
    all.filter_map(|(name, value)| Some(format!("&{name}={}", segment(&value?)))).collect()
}

pub(super) fn unreadable(error: StoreError) -> Failure {
    Failure::Failed(error.to_string())
}
