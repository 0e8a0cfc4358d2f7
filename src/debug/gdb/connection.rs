//! Where gdb is: a socket that only we can see.

use crate::kernel::errno::Errno;
use crate::kernel::host::{self, Arg, PrivateFd};
use gdbstub::conn::{Connection, ConnectionExt};
use std::fmt;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

/// Where to wait for gdb.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `HOST:PORT`.
    Tcp(String),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = std::convert::Infallible;

    /// A port of this machine, `HOST:PORT`, or a path.
    fn from_str(text: &str) -> Result<Address, Self::Err> {
        let is_port = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        Ok(match text.rsplit_once(':') {
            None if is_port(text) => Address::Tcp(format!("127.0.0.1:{text}")),
            Some(("", port)) if is_port(port) => Address::Tcp(format!("127.0.0.1:{port}")),
            Some((host, port)) if is_port(port) && !host.contains('/') => Address::Tcp(text.to_owned()),
            _ => Address::Unix(text.into()),
        })
    }
}

/// A socket that waits for gdb.
#[derive(Debug)]
pub enum Listener {
    /// Of a port.
    Tcp(TcpListener),
    /// In the file system.
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Begins to wait there.
    ///
    /// # Errors
    /// The host's: the port is taken, the path exists.
    pub fn new(address: &Address) -> io::Result<Listener> {
        match address {
            Address::Tcp(address) => TcpListener::bind(address.as_str()).map(Listener::Tcp),
            Address::Unix(path) => {
                UnixListener::bind(path).map(|socket| Listener::Unix(socket, path.clone()))
            }
        }
    }

    /// Waits for gdb. A path is removed again.
    ///
    /// # Errors
    /// The host's.
    pub fn accept(self) -> io::Result<Socket> {
        let socket: OwnedFd = match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                stream.into()
            }
            Listener::Unix(listener, path) => {
                let (stream, _) = listener.accept()?;
                // It was only the way here.
                let _ = std::fs::remove_file(path);
                stream.into()
            }
        };
        let private = PrivateFd::new(socket).map_err(|errno| io::Error::from_raw_os_error(errno.0))?;
        Ok(Socket(Arc::new(private)))
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listener::Tcp(listener) => match listener.local_addr() {
                Ok(address) => address.fmt(f),
                Err(_) => f.write_str("a port"),
            },
            Listener::Unix(_, path) => path.display().fmt(f),
        }
    }
}

/// The connection. It is closed when the program executes another one.
#[derive(Clone, Debug)]
pub struct Socket(Arc<PrivateFd>);

fn failed(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.0)
}

impl Connection for Socket {
    type Error = io::Error;

    fn write(&mut self, byte: u8) -> io::Result<()> {
        self.write_all(&[byte])
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let flags = libc::MSG_NOSIGNAL;
            let args =
                [self.0.get().into(), Arg::slice(rest), rest.len().into(), flags.into(), Arg::NULL, 0.into()];
            match host::call(libc::SYS_sendto, args) {
                Ok(sent) => rest = &rest[sent..],
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ConnectionExt for Socket {
    fn read(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        loop {
            match host::call(libc::SYS_read, [self.0.get().into(), Arg::slice_mut(&mut byte), 1.into()]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => return Ok(byte[0]),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
    }

    /// Only whether something is there, which is all that is asked for.
    fn peek(&mut self) -> io::Result<Option<u8>> {
        let mut wanted = [libc::pollfd { fd: self.0.get(), events: libc::POLLIN, revents: 0 }];
        match host::call(libc::SYS_poll, [Arg::slice_mut(&mut wanted), 1.into(), 0.into()]) {
            Ok(0) | Err(Errno::EINTR) => Ok(None),
            Ok(_) => Ok(Some(0)),
            Err(errno) => Err(failed(errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_port_a_host_or_a_path() {
        for (text, expected) in [("1234", "127.0.0.1:1234"), (":1", "127.0.0.1:1"), ("h:2", "h:2")] {
            assert_eq!(text.parse(), Ok(Address::Tcp(expected.into())), "{text}");
        }
        for text in ["/tmp/x", "x", "./a:1", ""] {
            assert_eq!(text.parse(), Ok(Address::Unix(text.into())), "{text}");
        }
    }
}
