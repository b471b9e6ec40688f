//! Sockets, bound.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixStream};

/// Connections that wait to be accepted, at most. The system may allow fewer (`net.core.somaxconn`). The default would be
/// 128, which a gateway that restarts together with its agents fills in a moment.
const BACKLOG: u32 = 4_096;

/// Binds a TCP listener.
///
/// The queue of waiting connections is long. Where a burst finds it full, the kernel answers some connections by SYN cookies
/// and then forgets them: their clients wait on a connection that nobody has.
///
/// # Errors
/// The system refuses the address.
pub fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Binds a unix socket that only its owner may open (mode 0600). A socket that a dead server left is replaced; a living one's
/// is not.
///
/// # Errors
/// Somebody listens there, or the system refuses the path.
pub async fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    if path.exists() {
        if UnixStream::connect(path).await.is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another hallpass listens there"));
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}
