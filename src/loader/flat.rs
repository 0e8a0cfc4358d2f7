//! Flat images: bytes without headers, put at an address and run.

use super::LoadError;
use crate::memory::{END, MapRequest, Memory, Place, Prot, page};

/// Where flat images go unless told otherwise: at address 0, so that addresses in them are offsets in the file.
pub const DEFAULT_ORG: u32 = 0;

/// Zero bytes behind an image, for its data; fewer where the limit on memory leaves fewer.
pub const ROOM: u32 = 1 << 20;

const RWX: Prot = Prot::from_bits(7);

/// Bytes left for the vDSO where memory is limited.
const RESERVED: u64 = 2 * page::SIZE as u64;

/// Longest image, in bytes.
pub const MAX_IMAGE: u64 = 1 << 30;

/// Maps `image` at `org`, which need not be at a page's start, and up to [`ROOM`] zeros behind it; all of it can be read,
/// written and executed. Gives the address behind, a page's start.
///
/// # Errors
/// [`LoadError::BadOrg`] if it does not fit there, [`LoadError::Map`] if there is no memory.
pub(super) fn map(memory: &Memory, image: Vec<u8>, org: u32, limit: u64) -> Result<u32, LoadError> {
    let bytes = image.len() as u64;
    let bad_org = || LoadError::BadOrg { bytes, org };
    let end = u64::from(org) + bytes;
    let end = u32::try_from(end).ok().filter(|&end| end <= END).ok_or_else(bad_org)?;
    let start = org / page::SIZE * page::SIZE;
    let mut pages = vec![0; (org - start) as usize];
    pages.extend(image);
    let request = MapRequest::bytes(Place::FixedNoReplace(start), pages, RWX, None);
    memory.map(&request).map_err(|error| match error {
        crate::memory::MapError::Exists => bad_org(),
        error => LoadError::Map { what: "the image", bytes, error },
    })?;
    let end = end.next_multiple_of(page::SIZE);
    let left = limit.saturating_sub(memory.mapped_bytes()) / u64::from(page::SIZE) * u64::from(page::SIZE);
    let room = u64::from(ROOM).min(left.saturating_sub(RESERVED)).min(u64::from(END - end)) as u32;
    if room == 0 {
        return Ok(end);
    }
    let request = MapRequest::anonymous(Place::FixedNoReplace(end), room, RWX);
    match memory.map(&request) {
        Ok(_) => Ok(end + room),
        // Something is in the way, or there is no memory: the image alone will do.
        Err(_) => Ok(end),
    }
}
