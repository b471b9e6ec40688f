//! What a database's driver says, in words for operators: what, and what to do.

use std::io;

/// One sentence. It never shows the URL, which may hold a password.
pub(super) fn plain(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::PoolTimedOut => {
            "no connection came in time; is the database running, and reachable from here?".into()
        }
        sqlx::Error::PoolClosed => "it was closed".into(),
        sqlx::Error::Io(error) => format!("it cannot be reached ({error}){}", of_io(error)),
        sqlx::Error::Tls(error) => {
            format!("TLS to it failed ({error}); see sslmode and sslrootcert in database.url")
        }
        sqlx::Error::Configuration(error) => {
            format!("database.url cannot be used ({error}); write postgres://USER:PASSWORD@HOST/NAME")
        }
        sqlx::Error::Database(error) => {
            let (code, message) = (error.code().unwrap_or_default(), error.message());
            let fix = of_code(&code);
            if code.is_empty() { format!("{message}{fix}") } else { format!("{message} [{code}]{fix}") }
        }
        sqlx::Error::Protocol(text) => format!(
            "what answers does not speak PostgreSQL as it should ({text}); is there a pooler or another service in between?"
        ),
        other => other.to_string(),
    }
}

fn of_io(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "; nothing listens there: start the database, or mend host and port in database.url"
        }
        io::ErrorKind::NotFound => {
            "; there is no socket at this path: start the database, or mend host in database.url"
        }
        io::ErrorKind::PermissionDenied => "; give the broker's user access to it",
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => "; it closed the connection",
        _ => "",
    }
}

/// PostgreSQL's five characters, or SQLite's number.
fn of_code(code: &str) -> &'static str {
    match code {
        // Statements are prepared once for a connection, and locks held by it: a pooler must not hand it on.
        "26000" | "42P05" | "08P01" => {
            "; is a pooler in between (PgBouncer)? Hallpass takes one connection for itself: name PostgreSQL itself in \
             database.url, or set pool_mode = session"
        }
        "28P01" | "28000" => "; mend user and password in database.url, or what pg_hba.conf allows",
        "3D000" => "; create the database (CREATE DATABASE), or mend its name in database.url",
        "42501" => "; grant this user the right to create and use tables in its schema",
        "25006" => "; it is a read-only standby: name the primary in database.url",
        "53300" => "; it takes no more connections: raise its max_connections, or lower database.max_connections",
        "57P01" | "57P02" | "57P03" => "; it is starting or stopping",
        "42P01" => "; a table is missing: it was made by something else, or a backup was restored in part",
        "5" | "6" | "261" | "517" => "; another process holds the database locked: end it (a SQLite shell, a backup)",
        "8" | "1032" => "; it cannot be written: look at the mode and owner of the file and of its folder",
        "13" => "; the disk is full: make room",
        "10" | "266" | "778" | "522" => "; the disk fails or is full",
        "14" => "; it cannot be opened: look at the mode and owner of the file and of its folder",
        "11" | "26" => "; the file is no SQLite database, or it is damaged: restore a backup",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_driver_says_comes_with_what_to_do() {
        // PgBouncer in transaction mode: a statement is prepared on one connection and asked for on another.
        for code in ["26000", "42P05"] {
            assert!(of_code(code).contains("pool_mode = session"), "{code}");
        }
        assert!(plain(&sqlx::Error::PoolTimedOut).contains("is the database running"));
        let gone = sqlx::Error::Io(io::ErrorKind::NotFound.into());
        assert!(plain(&gone).contains("there is no socket at this path"));
        assert!(plain(&sqlx::Error::Protocol("unexpected".into())).contains("pooler"));
    }
}
