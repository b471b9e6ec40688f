//! `hallpass status`.

use crate::cli::{Context, Outcome};

pub(super) async fn run(context: &Context) -> Outcome {
    let answer = context.client()?.get("/admin/v1/status").await?;
    context.output.show(&answer, |output, answer| output.fields(answer));
    Ok(())
}
