//! `hallpass status`.

use serde_json::Value;

use crate::cli::{Context, Failure, Outcome};

pub(super) async fn run(context: &Context) -> Outcome {
    let answer = context.client()?.get("/admin/v1/status").await?;
    context.output.show(&answer, |output, answer| output.fields(answer));
    match answer.get("audit_log_writable").and_then(Value::as_bool) {
        Some(false) => Err(Failure::Failed(
            "the audit log cannot be written, so the broker refuses tokens, calls and changes; look at the database and at \
             the log of 'hallpass serve'"
                .into(),
        )),
        _ => Ok(()),
    }
}
