//! The log of `serve`, on standard error. Whatever becomes of that, the broker goes on: a disk that is full, a pipe that
//! nobody reads any more, a terminal that was stopped. Lines that cannot be written are counted, and the log says how many
//! there were once it can be written again.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::fmt::MakeWriter;

use crate::cli::Failure;
use crate::config::{Log, LogFormat, LogLevel};
use crate::supervise::panic_text;

/// A pipe that is ready takes so much without a wait (PIPE_BUF).
const AT_ONCE: usize = 4096;

/// How long a line waits for a reader that is behind. The thread that writes it has other work.
const PATIENCE: Duration = Duration::from_millis(20);

/// Lines that could not be written and were not told of yet.
static UNTOLD: AtomicU64 = AtomicU64::new(0);

/// Whether the reader did not come in time for the last line: the next does not wait for it again.
static IS_STUCK: AtomicBool = AtomicBool::new(false);

/// Whether the last line was cut off in its middle.
static IS_CUT: AtomicBool = AtomicBool::new(false);

/// Changes the level of the log while it is written.
pub(super) struct LogControl {
    set: Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>,
    level: LogLevel,
}

impl std::fmt::Debug for LogControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LogControl({})", self.level.as_str())
    }
}

impl LogControl {
    /// Sets another level; whether it was another.
    pub(super) fn set_level(&mut self, level: LogLevel) -> Result<bool, String> {
        if self.level.as_str() == level.as_str() {
            return Ok(false);
        }
        (self.set)(filter(level).map_err(|Problem(text)| text)?)?;
        self.level = level;
        Ok(true)
    }

    /// Says how many lines were lost, if some were and the log can be written again.
    pub(super) fn tell_lost(&self) {
        let lost = UNTOLD.load(Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(lost, "log lines could not be written to standard error; now they can be again");
            // A line more that is lost is this very one.
            if UNTOLD.load(Ordering::Relaxed) == lost {
                UNTOLD.fetch_sub(lost, Ordering::Relaxed);
                metrics::counter!("hallpass_log_lines_lost_total").increment(lost);
            }
        }
    }
}

struct Problem(String);

/// Libraries are kept at `info`: at `trace` some of them would print what goes over their connections.
fn filter(level: LogLevel) -> Result<EnvFilter, Problem> {
    let level = level.as_str();
    let others = if matches!(level, "error" | "warn") { level } else { "info" };
    EnvFilter::try_new(format!("{others},hallpass={level},hallpass_verify={level},sqlx=warn"))
        .map_err(|error| Problem(error.to_string()))
}

/// Begins the log; panics stand in it, too.
pub(super) fn log_to_stderr(log: &Log) -> Result<LogControl, Failure> {
    let filter = filter(log.level).map_err(|Problem(text)| Failure::Failed(text))?;
    // The subscriber tells of a line that cannot be written by `eprintln!`, which panics where standard error is the trouble.
    let builder = fmt().with_writer(Stderr).log_internal_errors(false);
    let set: Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync> = match log.format {
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_env_filter(filter).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.init();
            Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()))
        }
        LogFormat::Human => {
            let builder = builder.with_ansi(io::IsTerminal::is_terminal(&io::stderr()));
            let builder = builder.with_env_filter(filter).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.init();
            Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()))
        }
    };
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, text = panic_text(info.payload()), "a task panicked; this is a fault of Hallpass");
    }));
    Ok(LogControl { set, level: log.level })
}

/// Standard error, by lines. Writing never fails, and never waits for long.
struct Stderr;

impl MakeWriter<'_> for Stderr {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Held, so that no two lines mix.
        let stderr = io::stderr().lock();
        let is_behind_a_cut = IS_CUT.load(Ordering::Relaxed);
        let is_written = (!is_behind_a_cut || put(&stderr, b"\n").is_ok()) && {
            let outcome = put(&stderr, line);
            IS_CUT.store(matches!(outcome, Err(1..)), Ordering::Relaxed);
            outcome.is_ok()
        };
        if !is_written {
            UNTOLD.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes all of it, or says how much it was.
fn put(to: &impl std::os::fd::AsFd, text: &[u8]) -> Result<(), usize> {
    let mut written = 0;
    while let Some(rest) = text.get(written..).filter(|rest| !rest.is_empty()) {
        let piece = rest.get(..AT_ONCE).unwrap_or(rest);
        if !is_ready(to) {
            return Err(written);
        }
        match rustix::io::write(to, piece) {
            Ok(count @ 1..) => written += count,
            Err(rustix::io::Errno::INTR) => {}
            Ok(_) | Err(_) => return Err(written),
        }
    }
    Ok(())
}

/// Whether a write will not wait: for a reader who is away, every thread would come to stand here in turn.
fn is_ready(to: &impl std::os::fd::AsFd) -> bool {
    let patience = if IS_STUCK.load(Ordering::Relaxed) { Duration::ZERO } else { PATIENCE };
    // None waits without end; a second fits into any Timespec.
    let patience = Timespec::try_from(patience).ok();
    let mut asked = [PollFd::new(to, PollFlags::OUT)];
    // What cannot be asked is written to: the answer is an error then, at once.
    let is_ready = poll(&mut asked, patience.as_ref()).map_or(true, |ready| ready > 0);
    IS_STUCK.store(!is_ready, Ordering::Relaxed);
    is_ready
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::monotonic;

    #[test]
    fn a_reader_who_is_away_holds_up_nobody() {
        let (reader, writer) = io::pipe().unwrap();
        let line = vec![b'x'; 3 * AT_ONCE];
        while put(&writer, &line).is_ok() {}
        let begun = monotonic();
        for _ in 0..1000 {
            assert_eq!(put(&writer, &line), Err(0));
        }
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        drop(reader);
        assert!(put(&writer, b"x").is_err());
        let (_reader, writer) = io::pipe().unwrap();
        assert!(put(&writer, b"x").is_ok());
    }
}
