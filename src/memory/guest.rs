//! Access to guest memory from Rust: checked against the page bytes, then guarded.

use super::{BadAddress, Memory, Plain, bytes_of, bytes_of_mut, page, zeroed};

/// What a buffer is for, see [`Memory::host_range`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The host reads it.
    Read,
    /// The host writes it.
    Write,
    /// The host is told its address only; pages without access will do.
    Mapped,
}

impl Access {
    fn page_bit(self) -> u8 {
        match self {
            Access::Read => page::READ,
            Access::Write => page::WRITE,
            Access::Mapped => page::MAPPED,
        }
    }
}

/// Why a string could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StringError {
    /// It reaches memory that cannot be read (`EFAULT`).
    #[error(transparent)]
    BadAddress(#[from] BadAddress),
    /// No NUL within the permitted length (`ENAMETOOLONG`, `E2BIG`).
    #[error("string longer than {0} bytes")]
    TooLong(usize),
}

impl Memory {
    /// Reads a value; `addr` need not be aligned.
    ///
    /// # Errors
    /// The first address that cannot be read.
    pub fn read<T: Plain>(&self, addr: u32) -> Result<T, BadAddress> {
        let mut value = zeroed::<T>();
        self.read_bytes(addr, bytes_of_mut(&mut value))?;
        Ok(value)
    }

    /// Writes a value; `addr` need not be aligned.
    ///
    /// # Errors
    /// The first address that cannot be written. Nothing has been written, unless the pages changed meanwhile.
    pub fn write<T: Plain>(&self, addr: u32, value: T) -> Result<(), BadAddress> {
        self.write_bytes(addr, bytes_of(&value))
    }

    /// Reads `out.len()` bytes.
    ///
    /// # Errors
    /// The first address that cannot be read; `out` may have been filled up to there.
    pub fn read_bytes(&self, addr: u32, out: &mut [u8]) -> Result<(), BadAddress> {
        self.check(addr, out.len(), Access::Read)?;
        match self.space.copy_out(addr, out) {
            0 => Ok(()),
            missing => Err(BadAddress(addr.wrapping_add((out.len() - missing) as u32))),
        }
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// As [`Memory::write`].
    pub fn write_bytes(&self, addr: u32, bytes: &[u8]) -> Result<(), BadAddress> {
        self.copy_in(addr, bytes)
    }

    /// Writes bytes, trying again where another thread has just translated code from the page and thereby
    /// protected it.
    fn copy_in(&self, addr: u32, bytes: &[u8]) -> Result<(), BadAddress> {
        const ATTEMPTS: u32 = 8;
        let mut done = 0;
        for _ in 0..ATTEMPTS {
            let rest = &bytes[done..];
            self.check_write(addr.wrapping_add(done as u32), rest.len())?;
            let missing = self.space.copy_in(addr.wrapping_add(done as u32), rest);
            done = bytes.len() - missing;
            if missing == 0 {
                return Ok(());
            }
        }
        Err(BadAddress(addr.wrapping_add(done as u32)))
    }

    /// Sets `len` bytes to `byte`.
    ///
    /// # Errors
    /// As [`Memory::write`].
    pub fn fill(&self, addr: u32, byte: u8, len: u32) -> Result<(), BadAddress> {
        self.check_write(addr, len as usize)?;
        let piece = [byte; page::SIZE as usize];
        let mut done = 0;
        while done < len {
            let step = (len - done).min(page::SIZE) as usize;
            self.copy_in(addr + done, &piece[..step])?;
            done += step as u32;
        }
        Ok(())
    }

    /// Reads up to the next NUL, which is not part of the result, looking at no more than `max_len` bytes, the NUL
    /// included.
    ///
    /// # Errors
    /// Memory that cannot be read before the NUL was found, or none within `max_len` bytes.
    pub fn read_cstr(&self, addr: u32, max_len: usize) -> Result<Vec<u8>, StringError> {
        let mut string = Vec::new();
        let mut buffer = [0; 256];
        let mut at = u64::from(addr);
        while string.len() < max_len {
            let here = u32::try_from(at).map_err(|_| BadAddress(u32::MAX))?;
            // Pieces end at page boundaries, as what follows the NUL need not be readable.
            let room = (page::SIZE - here % page::SIZE) as usize;
            let piece = &mut buffer[..room.min(256).min(max_len - string.len())];
            self.read_bytes(here, piece)?;
            if let Some(end) = piece.iter().position(|&byte| byte == 0) {
                string.extend_from_slice(&piece[..end]);
                return Ok(string);
            }
            string.extend_from_slice(piece);
            at += piece.len() as u64;
        }
        Err(StringError::TooLong(max_len))
    }

    /// The host address of a whole buffer, to be handed to a host system call, which reports by `EFAULT` what
    /// another thread unmaps meanwhile. A buffer to be written loses its translations first.
    ///
    /// # Errors
    /// The first address that does not allow it. Empty buffers are good anywhere.
    pub fn host_range(&self, addr: u32, len: u32, access: Access) -> Result<*mut u8, BadAddress> {
        match access {
            Access::Write => self.check_write(addr, len as usize)?,
            Access::Read | Access::Mapped => self.check(addr, len as usize, access)?,
        }
        Ok(self.space.host(addr))
    }

    /// Reads the bytes at `addr` that are mapped and executable; gives how many of `out` they fill.
    pub fn fetch(&self, addr: u32, out: &mut [u8]) -> usize {
        let wanted = out.len().min((1 << 32) - addr as usize);
        let mut len = 0;
        while len < wanted {
            let here = addr + len as u32;
            if self.space.page_at(here) & page::EXEC == 0 {
                break;
            }
            len = wanted.min(len + (page::SIZE - here % page::SIZE) as usize);
        }
        len - self.space.copy_out(addr, &mut out[..len])
    }

    /// Checks a buffer to be written and gives up the translations from it.
    fn check_write(&self, addr: u32, len: usize) -> Result<(), BadAddress> {
        self.check(addr, len, Access::Write)?;
        self.code_written(addr, len as u32);
        Ok(())
    }

    /// Checks every page of a buffer, letting a stack grow down to it as the hardware's fault would.
    fn check(&self, addr: u32, len: usize, access: Access) -> Result<(), BadAddress> {
        let need = access.page_bit();
        let end = u64::from(addr) + len as u64;
        let mut here = u64::from(addr);
        while here < end {
            let Ok(at) = u32::try_from(here) else { return Err(BadAddress(u32::MAX)) };
            let mut byte = self.space.page_at(at);
            if byte == 0 && self.grow_stack(at) {
                byte = self.space.page_at(at);
            }
            if byte & need == 0 {
                return Err(BadAddress(at));
            }
            here = u64::from(at / page::SIZE + 1) * u64::from(page::SIZE);
        }
        Ok(())
    }
}
