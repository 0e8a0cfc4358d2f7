//! Control messages (cmsg(3)): 12-byte headers aligned to four bytes for the guest, 16-byte ones aligned to eight for
//! the host.

use crate::kernel::abi::Cmsghdr;
use crate::kernel::args::Fd;
use crate::kernel::errno::Errno;
use crate::kernel::host;

const GUEST_HEADER: usize = size_of::<Cmsghdr>();
const HOST_HEADER: usize = 16;
/// Timestamps in `SOL_SOCKET` messages, by kind: those consist of 64-bit words that are 32 bits wide for the guest.
const STAMPS: [i32; 3] = [libc::SCM_TIMESTAMP, libc::SCM_TIMESTAMPNS, libc::SCM_TIMESTAMPING];

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// One message, without its header.
struct Message<'a> {
    level: i32,
    kind: i32,
    data: &'a [u8],
}

impl Message<'_> {
    fn is_rights(&self) -> bool {
        self.level == libc::SOL_SOCKET && self.kind == libc::SCM_RIGHTS
    }

    /// Descriptors that it carries.
    fn fds(&self) -> impl Iterator<Item = i32> {
        let data = if self.is_rights() { self.data } else { &[] };
        data.chunks_exact(4).map(|fd| i32::from_le_bytes([fd[0], fd[1], fd[2], fd[3]]))
    }
}

/// The host's control messages for the guest's.
///
/// # Errors
/// `EINVAL` for a length that is none, and for a list that is too short for one message; `EBADF` for a descriptor of
/// the emulator.
pub fn to_host(guest: &[u8]) -> Result<Vec<u8>, Errno> {
    if (1..GUEST_HEADER).contains(&guest.len()) {
        return Err(Errno::EINVAL);
    }
    let mut out = Vec::with_capacity(guest.len() * 2);
    let mut rest = guest;
    while rest.len() >= GUEST_HEADER {
        let (len, level, kind) = match (word(rest, 0), word(rest, 4), word(rest, 8)) {
            (Some(len), Some(level), Some(kind)) => (len as usize, level as i32, kind as i32),
            _ => return Err(Errno::EINVAL),
        };
        if len < GUEST_HEADER || len > rest.len() {
            return Err(Errno::EINVAL);
        }
        let message = Message { level, kind, data: &rest[GUEST_HEADER..len] };
        if message.fds().any(|fd| Fd::new(fd as u32).0 != fd) {
            return Err(Errno::EBADF);
        }
        push_host(&mut out, &message);
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(out)
}

fn push_host(out: &mut Vec<u8>, message: &Message<'_>) {
    out.extend_from_slice(&((HOST_HEADER + message.data.len()) as u64).to_le_bytes());
    out.extend_from_slice(&message.level.to_le_bytes());
    out.extend_from_slice(&message.kind.to_le_bytes());
    out.extend_from_slice(message.data);
    out.resize(out.len().next_multiple_of(8), 0);
}

/// How many bytes of the host's messages to ask for when the guest has room for `len`: never less than what would
/// fit there.
pub fn host_room(len: usize) -> usize {
    // Headers grow by four bytes, alignment takes up to four more, and timestamps double.
    len * 2 + HOST_HEADER
}

/// The guest's control messages for the host's, cut to `room` bytes as the kernel cuts them; true if something was
/// lost. Descriptors for which there is no room are closed.
pub fn to_guest(host: &[u8], room: usize) -> (Vec<u8>, bool) {
    let mut out = Vec::with_capacity(room.min(host.len()));
    let mut lost = false;
    let mut rest = host;
    while rest.len() >= HOST_HEADER {
        let (len, level, kind) = match (word(rest, 0), word(rest, 8), word(rest, 12)) {
            (Some(len), Some(level), Some(kind)) => (len as usize, level as i32, kind as i32),
            _ => break,
        };
        if len < HOST_HEADER || len > rest.len() {
            break;
        }
        lost |= !push_guest(&mut out, room, &Message { level, kind, data: &rest[HOST_HEADER..len] });
        rest = rest.get(len.next_multiple_of(8)..).unwrap_or_default();
    }
    (out, lost)
}

/// Appends a message; false if it was cut or left out.
fn push_guest(out: &mut Vec<u8>, room: usize, message: &Message<'_>) -> bool {
    let narrowed: Vec<u8>;
    let mut data = message.data;
    if message.level == libc::SOL_SOCKET && STAMPS.contains(&message.kind) {
        narrowed = data.chunks_exact(8).flat_map(|wide| wide[..4].to_vec()).collect();
        data = &narrowed;
    }
    let left = room.saturating_sub(out.len());
    let mut fits = left.saturating_sub(GUEST_HEADER).min(data.len());
    if message.is_rights() {
        fits &= !3;
        for fd in message.fds().skip(fits / 4) {
            drop(host::owned(fd as usize));
        }
    }
    // Nothing but a header is worth nothing, unless that is all there is.
    if left < GUEST_HEADER || message.is_rights() && fits == 0 {
        return false;
    }
    out.extend_from_slice(&((GUEST_HEADER + fits) as u32).to_le_bytes());
    out.extend_from_slice(&message.level.to_le_bytes());
    out.extend_from_slice(&message.kind.to_le_bytes());
    out.extend_from_slice(&data[..fits]);
    out.resize(out.len().next_multiple_of(4).min(room), 0);
    fits == data.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host_messages(list: &[(i32, i32, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for &(level, kind, data) in list {
            push_host(&mut out, &Message { level, kind, data });
        }
        out
    }

    #[test]
    fn messages_survive_both_ways() {
        let host = host_messages(&[(0, 2, &[1, 2, 3, 4, 5]), (41, 50, &[9; 20])]);
        let (guest, lost) = to_guest(&host, 1000);
        assert!(!lost);
        assert_eq!(guest.len(), 12 + 8 + 12 + 20);
        assert_eq!(to_host(&guest), Ok(host.clone()));
        assert!(host.len() <= host_room(guest.len()));
    }

    #[test]
    fn what_does_not_fit_is_cut() {
        let host = host_messages(&[(0, 2, &[7; 8])]);
        assert_eq!(to_guest(&host, 16).0, [16, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 7, 7, 7, 7]);
        assert!(to_guest(&host, 16).1);
        assert_eq!(to_guest(&host, 11), (Vec::new(), true));
    }

    #[test]
    fn timestamps_become_narrow() {
        let stamp: Vec<u8> = [5i64, 6].iter().flat_map(|word| word.to_le_bytes()).collect();
        let host = host_messages(&[(libc::SOL_SOCKET, libc::SCM_TIMESTAMP, &stamp)]);
        let (guest, lost) = to_guest(&host, 100);
        assert!(!lost);
        assert_eq!(guest[12..], [5, 0, 0, 0, 6, 0, 0, 0]);
    }

    #[test]
    fn lengths_that_are_none_are_refused() {
        assert_eq!(to_host(&[11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Err(Errno::EINVAL));
        assert_eq!(to_host(&[40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Err(Errno::EINVAL));
        assert_eq!(to_host(&[1, 2, 3]), Err(Errno::EINVAL));
        assert_eq!(to_host(&[]), Ok(Vec::new()));
    }
}
