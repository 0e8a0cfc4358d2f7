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
    )* };
}
pub(crate) use guest_structs;
