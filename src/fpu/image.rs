//! The images in memory: FSTENV and FSAVE in their 16- and 32-bit protected-mode formats (SDM Vol. 1, figures 8-9 and
//! 8-11), and the x87 part of FXSAVE's (SDM Vol. 1, table 10-2).

use super::soft::F80;
use super::{Fpu, Pointers, flag};

/// Bytes of a 16-bit environment.
pub const ENV_16: usize = 14;
/// Bytes of a 32-bit environment.
pub const ENV_32: usize = 28;
/// Bytes of a 16-bit FSAVE image.
pub const SAVE_16: usize = ENV_16 + 80;
/// Bytes of a 32-bit FSAVE image.
pub const SAVE_32: usize = ENV_32 + 80;
/// Bytes of an FXSAVE image up to the end of the x87 registers; bytes 24–31, MXCSR and its mask, are not the FPU's.
pub const FXSAVE_X87: usize = 160;

/// The operand size of FSTENV, FLDENV, FSAVE and FRSTOR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 16 bits: 14 and 94 bytes.
    W16,
    /// 32 bits: 28 and 108 bytes.
    W32,
}

fn get_u16(bytes: &[u8], at: usize) -> u16 {
    bytes[at..at + 2].iter().rev().fold(0, |word, &byte| word << 8 | u16::from(byte))
}

fn get_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from(get_u16(bytes, at)) | u32::from(get_u16(bytes, at + 2)) << 16
}

fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn get_f80(bytes: &[u8], at: usize) -> F80 {
    let mut raw = [0; 10];
    raw.copy_from_slice(&bytes[at..at + 10]);
    F80::from_bytes(raw)
}

impl Fpu {
    /// The 14 bytes of a 16-bit environment.
    #[must_use]
    pub fn env16(&self) -> [u8; ENV_16] {
        let p = &self.pointers;
        let words = [self.control, self.status(), self.tag_word(), p.fip as u16, p.fcs, p.fdp as u16, p.fds];
        let mut image = [0; ENV_16];
        for (at, word) in words.into_iter().enumerate() {
            put_u16(&mut image, 2 * at, word);
        }
        image
    }

    /// The 28 bytes of a 32-bit environment, the reserved halves all ones as silicon writes them.
    #[must_use]
    pub fn env32(&self) -> [u8; ENV_32] {
        const RESERVED: u32 = 0xffff_0000;
        let p = &self.pointers;
        let words = [
            RESERVED | u32::from(self.control),
            RESERVED | u32::from(self.status()),
            RESERVED | u32::from(self.tag_word()),
            p.fip,
            u32::from(p.fop & 0x7ff) << 16 | u32::from(p.fcs),
            p.fdp,
            RESERVED | u32::from(p.fds),
        ];
        let mut image = [0; ENV_32];
        for (at, word) in words.into_iter().enumerate() {
            put_u32(&mut image, 4 * at, word);
        }
        image
    }

    /// Masks all exceptions, as FNSTENV does once its image is written; ES and B clear with that.
    /// SDM Vol. 2A, "FSTENV/FNSTENV".
    pub fn mask_all(&mut self) {
        self.set_control(self.control | flag::EXCEPTIONS);
    }

    /// Loads a 16-bit environment. FOP, which the image lacks, becomes 0. SDM Vol. 2A, "FLDENV".
    pub fn load_env16(&mut self, image: &[u8; ENV_16]) {
        let word = |n: usize| get_u16(image, 2 * n);
        self.pointers =
            Pointers { fip: word(3).into(), fcs: word(4), fop: 0, fdp: word(5).into(), fds: word(6) };
        self.load_words(word(0), word(1), word(2));
    }

    /// Loads a 32-bit environment; pending exceptions follow from its flags and masks. SDM Vol. 2A, "FLDENV".
    pub fn load_env32(&mut self, image: &[u8; ENV_32]) {
        let word = |n: usize| get_u32(image, 4 * n);
        self.pointers = Pointers {
            fip: word(3),
            fcs: word(4) as u16,
            fop: (word(4) >> 16) as u16 & 0x7ff,
            fdp: word(5),
            fds: word(6) as u16,
        };
        self.load_words(word(0) as u16, word(1) as u16, word(2) as u16);
    }

    fn load_words(&mut self, control: u16, status: u16, tags: u16) {
        self.set_control(control);
        self.set_status(status);
        self.set_tag_word(tags);
    }

    /// The 94 bytes of a 16-bit FSAVE image. The instruction goes on with [`Fpu::fninit`].
    /// SDM Vol. 2A, "FSAVE/FNSAVE".
    #[must_use]
    pub fn save16(&self) -> [u8; SAVE_16] {
        let mut image = [0; SAVE_16];
        image[..ENV_16].copy_from_slice(&self.env16());
        self.save_registers(&mut image[ENV_16..], 10);
        image
    }

    /// The 108 bytes of a 32-bit FSAVE image. The instruction goes on with [`Fpu::fninit`].
    /// SDM Vol. 2A, "FSAVE/FNSAVE".
    #[must_use]
    pub fn save32(&self) -> [u8; SAVE_32] {
        let mut image = [0; SAVE_32];
        image[..ENV_32].copy_from_slice(&self.env32());
        self.save_registers(&mut image[ENV_32..], 10);
        image
    }

    /// Loads a 16-bit FSAVE image. SDM Vol. 2A, "FRSTOR".
    pub fn restore16(&mut self, image: &[u8; SAVE_16]) {
        if let Some(environment) = image.first_chunk() {
            self.load_env16(environment);
        }
        self.load_registers(&image[ENV_16..], 10);
    }

    /// Loads a 32-bit FSAVE image. SDM Vol. 2A, "FRSTOR".
    pub fn restore32(&mut self, image: &[u8; SAVE_32]) {
        if let Some(environment) = image.first_chunk() {
            self.load_env32(environment);
        }
        self.load_registers(&image[ENV_32..], 10);
    }

    /// Writes the x87 part of an FXSAVE image in its 32-bit format and leaves bytes 24–31 alone.
    /// SDM Vol. 2A, "FXSAVE".
    pub fn fxsave(&self, image: &mut [u8; FXSAVE_X87]) {
        let p = &self.pointers;
        put_u16(image, 0, self.control);
        put_u16(image, 2, self.status());
        put_u16(image, 4, self.tags().into());
        put_u16(image, 6, p.fop & 0x7ff);
        put_u32(image, 8, p.fip);
        put_u32(image, 12, p.fcs.into());
        put_u32(image, 16, p.fdp);
        put_u32(image, 20, p.fds.into());
        image[32..].fill(0);
        self.save_registers(&mut image[32..], 16);
    }

    /// Loads the x87 part of an FXSAVE image in its 32-bit format. SDM Vol. 2A, "FXRSTOR".
    pub fn fxrstor(&mut self, image: &[u8; FXSAVE_X87]) {
        self.pointers = Pointers {
            fop: get_u16(image, 6) & 0x7ff,
            fip: get_u32(image, 8),
            fcs: get_u16(image, 12),
            fdp: get_u32(image, 16),
            fds: get_u16(image, 20),
        };
        self.set_control(get_u16(image, 0));
        self.set_status(get_u16(image, 2));
        self.set_tags(image[4]);
        self.load_registers(&image[32..], 16);
    }

    fn save_registers(&self, image: &mut [u8], stride: usize) {
        for (i, slot) in (0..8).zip(image.chunks_exact_mut(stride)) {
            slot[..10].copy_from_slice(&self.st(i).to_bytes());
        }
    }

    /// Loads ST(0)–ST(7) under the TOP loaded before, leaving the tags.
    fn load_registers(&mut self, image: &[u8], stride: usize) {
        for (i, slot) in (0..8u8).zip(image.chunks_exact(stride)) {
            self.set_physical(self.top().wrapping_add(i), get_f80(slot, 0));
        }
    }
}
