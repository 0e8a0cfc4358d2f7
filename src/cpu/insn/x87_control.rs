//! x87 control and state images. Rows: `opcodes/x87_control.toml`; formats and effects: [`crate::fpu`].

use crate::cpu::x87::{begin, read_image, wait, wait_in_place, write_image};
use crate::cpu::{Exec, Fault, Word};
use crate::fpu::Fpu;
use crate::fpu::way::Way;
use crate::memory::access::GuestValue;

/// Nothing but what every instruction of the FPU does. SDM Vol. 2A, "FNOP".
#[inline(always)]
pub fn fnop<W: Way>(x: Exec) -> Result<(), W::Else> {
    begin::<W>(x)?;
    Ok(())
}

/// Increments TOP. SDM Vol. 2A, "FINCSTP".
#[inline(always)]
pub fn fincstp<W: Way>(x: Exec) -> Result<(), W::Else> {
    begin::<W>(x)?.fincstp();
    Ok(())
}

/// Decrements TOP. SDM Vol. 2A, "FDECSTP".
#[inline(always)]
pub fn fdecstp<W: Way>(x: Exec) -> Result<(), W::Else> {
    begin::<W>(x)?.fdecstp();
    Ok(())
}

/// Marks ST(`i`) as empty. SDM Vol. 2A, "FFREE".
#[inline(always)]
pub fn ffree<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    begin::<W>(x)?.ffree(i);
    Ok(())
}

/// Marks ST(`i`) as empty and pops: an undocumented instruction.
#[inline(always)]
pub fn ffreep<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    begin::<W>(x)?.ffreep(i);
    Ok(())
}

/// Raises #MF if an exception is pending. SDM Vol. 2B, "WAIT/FWAIT".
#[inline(always)]
pub fn fwait(x: Exec) -> Result<(), Fault> {
    wait_in_place(x)
}

/// Initializes. SDM Vol. 2A, "FINIT/FNINIT".
#[inline(always)]
pub fn fninit(x: Exec) -> Result<(), Fault> {
    x.fpu_with_pointers().fninit();
    Ok(())
}

/// Clears the exceptions. SDM Vol. 2A, "FCLEX/FNCLEX".
#[inline(always)]
pub fn fnclex(x: Exec) -> Result<(), Fault> {
    x.fpu().fnclex();
    Ok(())
}

/// What FNENI, FNDISI and FNSETPM do since the 387. SDM Vol. 3B, 23.18.7 (architecture compatibility).
#[inline(always)]
pub fn nothing(_: Exec) -> Result<(), Fault> {
    Ok(())
}

/// Loads the control word. SDM Vol. 2A, "FLDCW".
#[inline(always)]
pub fn fldcw(x: Exec, addr: u32) -> Result<(), Fault> {
    wait_in_place(x)?;
    let control = x.load(addr)?;
    x.set_fpu_control(control);
    Ok(())
}

/// The control word. SDM Vol. 2A, "FSTCW/FNSTCW".
#[inline(always)]
pub fn fnstcw(x: Exec) -> Result<u16, Fault> {
    Ok(x.cpu().fpu.control())
}

/// The status word. SDM Vol. 2A, "FSTSW/FNSTSW".
#[inline(always)]
pub fn fnstsw(x: Exec) -> Result<u16, Fault> {
    Ok(x.fpu_status())
}

/// Loads the environment. SDM Vol. 2A, "FLDENV".
#[inline(always)]
pub fn fldenv<W: Word + GuestValue>(x: Exec, addr: u32) -> Result<(), Fault> {
    x.apart(move |x| {
        wait(x)?;
        if W::BITS == 16 {
            let image = read::<W, _>(x, addr)?;
            x.fpu_with_pointers().load_env16(&image);
        } else {
            let image = read::<W, _>(x, addr)?;
            x.fpu_with_pointers().load_env32(&image);
        }
        Ok(())
    })
}

/// Reads an image: its first word, its last byte, the rest.
#[inline(always)]
fn read<W: Word + GuestValue, const N: usize>(x: Exec, addr: u32) -> Result<[u8; N], Fault> {
    x.load::<W>(addr)?;
    x.load::<u8>(addr.wrapping_add(N as u32 - 1))?;
    read_image(x, addr)
}

/// Stores an image, touched in the order of [`read`], and then does to the FPU what goes with it.
#[inline(always)]
fn save<W: Word, const N: usize>(
    x: Exec,
    addr: u32,
    image: impl FnOnce(&Fpu) -> [u8; N],
    then: impl FnOnce(&mut Fpu),
) -> Result<(), Fault> {
    x.apart(move |x| {
        let image = image(x.fpu_with_pointers());
        x.probe_write(addr, W::BYTES)?;
        x.probe_write(addr.wrapping_add(N as u32 - 1), 1)?;
        write_image(x, addr, &image)?;
        then(&mut x.cpu().fpu);
        Ok(())
    })
}

/// Stores the environment and masks all exceptions. SDM Vol. 2A, "FSTENV/FNSTENV".
#[inline(always)]
pub fn fnstenv<W: Word>(x: Exec, addr: u32) -> Result<(), Fault> {
    if W::BITS == 16 {
        save::<W, _>(x, addr, Fpu::env16, Fpu::mask_all)
    } else {
        save::<W, _>(x, addr, Fpu::env32, Fpu::mask_all)
    }
}

/// Stores everything and initializes. SDM Vol. 2A, "FSAVE/FNSAVE".
#[inline(always)]
pub fn fnsave<W: Word>(x: Exec, addr: u32) -> Result<(), Fault> {
    if W::BITS == 16 {
        save::<W, _>(x, addr, Fpu::save16, Fpu::fninit)
    } else {
        save::<W, _>(x, addr, Fpu::save32, Fpu::fninit)
    }
}

/// Loads everything. SDM Vol. 2A, "FRSTOR".
#[inline(always)]
pub fn frstor<W: Word + GuestValue>(x: Exec, addr: u32) -> Result<(), Fault> {
    x.apart(move |x| {
        wait(x)?;
        if W::BITS == 16 {
            let image = read::<W, _>(x, addr)?;
            x.fpu_with_pointers().restore16(&image);
        } else {
            let image = read::<W, _>(x, addr)?;
            x.fpu_with_pointers().restore32(&image);
        }
        Ok(())
    })
}
