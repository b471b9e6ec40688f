//! Where audit records are read: in the database, which works on a copy and while the broker is down; or at a broker
//! elsewhere, where somebody is logged in.

use serde_json::Value;

use crate::cli::Failure;
use crate::cli::client::{AdminClient, segment};
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
                let answer = &client.get("/admin/v1/audit").await?;
                for one in answer["nodes"].as_array().into_iter().flatten() {
                    let name = one["node"].as_str().unwrap_or_default();
                    nodes.push((name.to_owned(), one["last"].as_i64().unwrap_or(0)));
                }
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
                let answer = &client.get(&format!("/admin/v1/audit/{}/records?after={after}", segment(node))).await?;
                let record = |one: &Value| Some((one["seq"].as_i64()?, one["body"].as_str()?.to_owned()));
                let page: Vec<_> = answer["records"].as_array().into_iter().flatten().filter_map(record).collect();
                // Whoever answers with what we have already would be asked without end.
                let mut before = after;
                match page.iter().all(|(seq, _)| std::mem::replace(&mut before, *seq) < *seq) {
                    true => Ok(page),
                    false => Err(Failure::Failed(format!("{} sends records out of order", client.place()))),
                }
            }
        }
    }

    /// The signed checkpoints of a node that come with its log.
    pub(super) async fn checkpoints(&self, node: &str) -> Result<Vec<StoredCheckpoint>, Failure> {
        match self {
            Self::Database(store) => store.checkpoints(node).await.map_err(unreadable),
            Self::Broker(client) => {
                let answer = &client.get(&format!("/admin/v1/audit/{}/checkpoints", segment(node))).await?;
                let one = |one: &Value| {
                    let (seq, at) = (one["seq"].as_i64()?, one["at"].as_i64()?);
                    Some(StoredCheckpoint { node: node.to_owned(), seq, at, jws: one["jws"].as_str()?.to_owned() })
                };
                Ok(answer["checkpoints"].as_array().into_iter().flatten().filter_map(one).collect())
            }
        }
    }

    pub(super) async fn close(self) {
        if let Self::Database(store) = self {
            store.close().await;
        }
    }
}

pub(super) fn unreadable(error: StoreError) -> Failure {
    Failure::Failed(error.to_string())
}
