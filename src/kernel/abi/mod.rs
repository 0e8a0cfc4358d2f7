//! The structures of the i386 ABI, as programs lay them out in memory.
//!
//! Fields have the names of the kernel's headers, less the prefix. Every structure is `packed(4)`: i386 aligns
//! 64-bit members to four bytes, and smaller ones as everywhere.

#![allow(missing_docs)]

pub mod file;
pub mod ipc;
pub mod ptrace;
pub mod socket;
pub mod system;
pub mod task;
pub mod time;

pub use file::*;
pub use ipc::*;
pub use ptrace::*;
pub use socket::*;
pub use system::*;
pub use task::*;
pub use time::*;

/// Where the fields of a structure are.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// The structure's name.
    pub name: &'static str,
    /// Its size in bytes.
    pub size: usize,
    /// Names of its fields, and their offsets in bytes.
    pub fields: &'static [(&'static str, usize)],
}

/// All structures of this module.
pub fn layouts() -> impl Iterator<Item = &'static Layout> {
    let modules = [
        file::LAYOUTS,
        ipc::LAYOUTS,
        ptrace::LAYOUTS,
        socket::LAYOUTS,
        system::LAYOUTS,
        task::LAYOUTS,
        time::LAYOUTS,
    ];
    modules.into_iter().flatten()
}

/// Declares guest structures with their sizes in bytes. That there is no padding is checked at compile time, so
/// each of them is [`Plain`](crate::memory::Plain).
macro_rules! guest_structs {
    ($($(#[$meta:meta])* struct $name:ident: $size:literal { $($field:ident: $type:ty,)* })*) => { $(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(C, packed(4))]
        pub struct $name {
            $(pub $field: $type,)*
        }

        const _: () = {
            assert!(size_of::<$name>() == $size);
            assert!(0 $(+ size_of::<$type>())* == $size, "padding");
        };

        // SAFETY: integers, arrays and other plain structures, without padding as the assertion shows.
        #[allow(unsafe_code)]
        unsafe impl crate::memory::Plain for $name {}

        impl crate::kernel::strace::Show for $name {
            fn show(&self, out: &mut crate::kernel::strace::Fields<'_>) {
                out.structure(stringify!($name), &[$(stringify!($field)),*], |index, out| {
                    let fields: &[&dyn Fn(&mut crate::kernel::strace::Fields<'_>)] = &[$(&|out| {
                        // A copy: the field may lie unaligned.
                        let field = self.$field;
                        crate::kernel::strace::Show::show(&field, out);
                    }),*];
                    fields[index](out);
                });
            }
        }

        impl $name {
            /// All bytes zero.
            #[allow(dead_code, unsafe_code)]
            // SAFETY: zero is a value of every integer.
            pub const ZERO: $name = unsafe { std::mem::zeroed() };
        }
    )*

    /// Where the fields of the structures are.
    #[allow(dead_code)]
    pub(in crate::kernel) const LAYOUTS: &[crate::kernel::abi::Layout] = &[$(
        crate::kernel::abi::Layout {
            name: stringify!($name),
            size: $size,
            fields: &[$((stringify!($field), std::mem::offset_of!($name, $field))),*],
        }
    ),*];
    };
}
pub(crate) use guest_structs;
