//! `hallpass audit search`.

use clap::Args;

use crate::audit::Query;
use crate::cli::audit::filter::Filter;
use crate::cli::audit::print;
use crate::cli::records::Records;
use crate::cli::{Context, Outcome};

/// What is looked for.
#[derive(Debug, Args)]
pub(in crate::cli) struct Search {
    #[command(flatten)]
    filter: Filter,
    /// Only records of this operation (its id)
    #[arg(long)]
    operation: Option<String>,
    /// Only what was refused, or ended, for this reason (a stable code)
    #[arg(long, value_name = "CODE")]
    reason: Option<String>,
    /// Only records of this request (the id that its answer carries)
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// At most so many, the oldest; standard error says if there are more [default: all]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

impl Search {
    pub(super) async fn run(self, context: &Context, records: &Records) -> Outcome {
        let Self { filter, operation, reason, request, limit } = self;
        let Filter { since, until, agent, session, upstream, decision } = filter;
        let query = Query { since, until, agent, session, upstream, operation, decision, reason, request };
        let mut left = limit.unwrap_or(usize::MAX);
        for (node, _) in records.nodes().await? {
            let mut after = Some(0);
            while let Some(from) = after {
                let (found, next) = records.search(&node, from, &query).await?;
                for (_, body) in &found {
                    if left == 0 {
                        context
                            .output
                            .note("there are more: ask with a higher --limit, or --since the last one's time");
                        return Ok(());
                    }
                    print(context, body);
                    left -= 1;
                }
                if context.output.broken().is_some() {
                    return Ok(());
                }
                after = next;
            }
        }
        Ok(())
    }
}
