use std::future::poll_fn;

use futures_util::stream;
use http_body::Frame;

use super::*;
use crate::broker::outcome::SharedMeter;

#[tokio::test]
async fn an_upload_whose_next_piece_is_always_there_gives_way_after_each_budget() {
    let pieces = (0..16).map(|_| Ok(Frame::data(Bytes::from_static(&[0; BUDGET / 4]))));
    let limits = BodyLimits {
        response_timeout: Duration::from_secs(1),
        idle_timeout: Duration::from_secs(1),
        max_request_bytes: u64::MAX,
        max_response_bytes: u64::MAX,
        yields: YieldQueue::start(&crate::supervise::Supervisor::new()),
    };
    let inner = StreamBody::new(http_body_util::StreamBody::new(stream::iter(pieces)));
    let (right, _) = crate::broker::right::tests::right(60_000);
    let mut upload = Upload::new(CallBody::Stream(inner), &limits, SharedMeter::new(), &right);
    let (mut bytes, mut ways) = (0, 0);
    loop {
        let frame = poll_fn(|cx| {
            let frame = Pin::new(&mut upload).poll_frame(cx);
            ways += usize::from(frame.is_pending());
            frame
        });
        let Some(frame) = frame.await else { break };
        bytes += frame.unwrap().into_data().unwrap().len();
    }
    assert_eq!((bytes, ways), (4 * BUDGET, 4));
}
