//! `hallpass status`.

use crate::cli::{Context, Failure, Outcome};
use crate::manage::status::Status;

pub(super) async fn run(context: &Context) -> Outcome {
    let answer: Status = context.client()?.get("/admin/v1/status").await?;
    context.output.show(&answer, |output, answer| output.fields(answer));
    if !answer.audit_log_writable {
        return Err(Failure::Failed(
            "the audit log cannot be written, so the broker refuses tokens, calls and changes; look at the database and at \
             the log of 'hallpass serve'"
                .into(),
        ));
    }
    Ok(())
}
