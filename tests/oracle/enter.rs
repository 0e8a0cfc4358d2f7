//! The way into 32-bit mode and back: a trampoline below 4 GiB and the context it works on.
//!
//! The trampoline is written in `global_asm!`, kept as data in the binary and copied to
//! [`TRAMPOLINE`]; everything in it addresses the [`Context`] by its absolute address, because the
//! guest owns every register, ESP and the segment registers included.
//!
//! - In: host registers are pushed, FPU and segments loaded, then a far jump through memory
//!   enters the code (`iretq` instead where TF, AC, RF or NT must start with the first
//!   instruction and not before it).
//! - Out: a direct far jump, which needs no register, stack or data segment, to the 64-bit half;
//!   or a signal, whose handler stores the general registers and resumes at `leave`.

use super::{Fault, State};
use std::arch::global_asm;
use std::mem::offset_of;

/// Where the trampoline is copied to; its first bytes are the exit for jumps and returns.
pub const TRAMPOLINE: u32 = 0x0F00_0000;
/// Where the context lives.
pub const CONTEXT: u32 = TRAMPOLINE + 0x1000;
/// The selector of Linux's 32-bit user code segment on x86-64.
pub const CS32: u16 = 0x23;
/// The selector of Linux's 64-bit user code segment.
pub const CS64: u16 = 0x33;
/// The selector of Linux's flat user data segment.
pub const DATA_SELECTOR: u16 = 0x2B;
/// EFLAGS as compiled code expects them: IF and the bit that is always set.
pub const HOST_EFLAGS: u32 = 0x202;

/// `Context::exit`: the code was not left yet.
pub const EXIT_NONE: u8 = 0;
/// `Context::exit`: the code ran into the exit sequence appended to it.
pub const EXIT_END: u8 = 1;
/// `Context::exit`: the code jumped to [`TRAMPOLINE`].
pub const EXIT_JUMP: u8 = 2;
/// `Context::exit`: a signal ended the run.
pub const EXIT_SIGNAL: u8 = 3;
/// `Context::exit`: the processor refused to load the state.
pub const EXIT_REFUSED: u8 = 4;

/// What the trampoline, the signal handler and `Oracle` share; one page at [`CONTEXT`].
#[repr(C, align(64))]
pub struct Context {
    pub fx: [u8; 512],
    pub regs: [u32; 8],
    /// With `cs` behind it, the operand of the far jump in.
    pub eip: u32,
    pub cs: u16,
    pub es: u16,
    pub ss: u16,
    pub ds: u16,
    pub fs: u16,
    pub gs: u16,
    pub eflags: u32,
    pub host_mxcsr: u32,
    /// The upper half stays 0, as the status word is before a run.
    pub host_fcw: u32,
    /// Nonzero: load and save the FPU and SSE state.
    pub fpu: u8,
    /// Nonzero: enter by `iretq`.
    pub by_iret: u8,
    /// How the code was left: one of the `EXIT_` values.
    pub exit: u8,
    /// What Syscall User Dispatch looks at: 0 lets system calls pass, 1 raises SIGSYS.
    pub syscall_selector: u8,
    pub host_rsp: u64,
    pub host_fs_base: u64,
    pub host_gs_base: u64,
    /// Counts runs, so that the timer can tell a hang from many short runs.
    pub run: u64,
    /// The run that the timer's last tick fell into.
    pub ticked_run: u64,
    /// Set with `EXIT_SIGNAL`.
    pub fault: Fault,
}

const _: () = assert!(size_of::<Context>() <= 0x1000);
const _: () =
    assert!(offset_of!(Context, eip) % 4 == 0 && offset_of!(Context, cs) == offset_of!(Context, eip) + 4);

/// The context's address as a pointer; valid to dereference while the trampoline is mapped.
pub fn context() -> *mut Context {
    std::ptr::with_exposed_provenance_mut(CONTEXT as usize)
}

macro_rules! at {
    ($field:ident) => {
        CONTEXT as usize + offset_of!(Context, $field)
    };
}

global_asm!(
    ".pushsection .rodata.table86_oracle, \"a\"",
    ".globl table86_oracle_start, table86_oracle_enter, table86_oracle_exit_end",
    ".globl table86_oracle_exit_jump, table86_oracle_leave, table86_oracle_end",
    ".balign 16",
    "table86_oracle_start:",
    // 32-bit code: jmp CS64:exit_jump.
    ".byte 0xEA",
    ".long {trampoline} + (table86_oracle_exit_jump - table86_oracle_start)",
    ".short {cs64}",
    ".balign 16",
    "table86_oracle_enter:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov [{host_rsp}], rsp",
    "rdfsbase rax",
    "mov [{host_fs_base}], rax",
    "rdgsbase rax",
    "mov [{host_gs_base}], rax",
    "cmp byte ptr [{fpu}], 0",
    "je 2f",
    "stmxcsr [{host_mxcsr}]",
    "fnstcw [{host_fcw}]",
    "fxrstor [{fx}]",
    "2:",
    // Loading a segment register costs more than finding that it holds the selector already.
    "movzx eax, word ptr [{ds}]",
    "mov ecx, ds",
    "cmp eax, ecx",
    "je 3f",
    "mov ds, eax",
    "3: movzx eax, word ptr [{es}]",
    "mov ecx, es",
    "cmp eax, ecx",
    "je 4f",
    "mov es, eax",
    "4: movzx eax, word ptr [{fs}]",
    "mov ecx, fs",
    "cmp eax, ecx",
    "je 5f",
    "mov fs, eax",
    "5: movzx eax, word ptr [{gs}]",
    "mov ecx, gs",
    "cmp eax, ecx",
    "je 6f",
    "mov gs, eax",
    "6: cmp byte ptr [{by_iret}], 0",
    "jne 8f",
    "movzx eax, word ptr [{ss}]",
    "mov ecx, ss",
    "cmp eax, ecx",
    "je 7f",
    "mov ss, eax",
    "7: mov eax, [{eflags}]",
    "push rax",
    "popfq",
    "mov eax, [{eax}]",
    "mov ecx, [{ecx}]",
    "mov edx, [{edx}]",
    "mov ebx, [{ebx}]",
    "mov esp, [{esp}]",
    "mov ebp, [{ebp}]",
    "mov esi, [{esi}]",
    "mov edi, [{edi}]",
    "mov byte ptr [{syscall_selector}], 1",
    "jmp fword ptr [{eip}]",
    "8: movzx eax, word ptr [{ss}]",
    "push rax",
    "mov eax, [{esp}]",
    "push rax",
    "mov eax, [{eflags}]",
    "push rax",
    "movzx eax, word ptr [{cs}]",
    "push rax",
    "mov eax, [{eip}]",
    "push rax",
    "mov eax, [{eax}]",
    "mov ecx, [{ecx}]",
    "mov edx, [{edx}]",
    "mov ebx, [{ebx}]",
    "mov ebp, [{ebp}]",
    "mov esi, [{esi}]",
    "mov edi, [{edi}]",
    "mov byte ptr [{syscall_selector}], 1",
    "iretq",
    ".balign 16",
    "table86_oracle_exit_end:",
    "mov byte ptr [{exit}], {exit_end}",
    "jmp 2f",
    ".balign 16",
    "table86_oracle_exit_jump:",
    "mov byte ptr [{exit}], {exit_jump}",
    "2: mov byte ptr [{syscall_selector}], 0",
    "mov [{eax}], eax",
    "mov [{ecx}], ecx",
    "mov [{edx}], edx",
    "mov [{ebx}], ebx",
    "mov [{esp}], esp",
    "mov [{ebp}], ebp",
    "mov [{esi}], esi",
    "mov [{edi}], edi",
    "mov rsp, [{host_rsp}]",
    "pushfq",
    "pop rax",
    "mov [{eflags}], eax",
    "mov [{ss}], ss",
    "table86_oracle_leave:",
    // Also after a signal: the return from its handler does not restore NT and ID.
    "push {host_eflags}",
    "popfq",
    "mov [{ds}], ds",
    "mov [{es}], es",
    "mov [{fs}], fs",
    "mov [{gs}], gs",
    "mov ecx, {data_selector}",
    "mov eax, ds",
    "cmp eax, ecx",
    "je 2f",
    "mov ds, ecx",
    "2: mov eax, es",
    "cmp eax, ecx",
    "je 3f",
    "mov es, ecx",
    "3: mov eax, ss",
    "cmp eax, ecx",
    "je 4f",
    "mov ss, ecx",
    // The bases of FS and GS are the host's thread pointers: put back whatever became of them.
    "4: xor ecx, ecx",
    "mov eax, fs",
    "test eax, eax",
    "je 5f",
    "mov fs, ecx",
    "5: mov eax, gs",
    "test eax, eax",
    "je 6f",
    "mov gs, ecx",
    "6: mov rcx, [{host_fs_base}]",
    "rdfsbase rax",
    "cmp rax, rcx",
    "je 7f",
    "wrfsbase rcx",
    "7: mov rcx, [{host_gs_base}]",
    "rdgsbase rax",
    "cmp rax, rcx",
    "je 8f",
    "wrgsbase rcx",
    "8: cmp byte ptr [{fpu}], 0",
    "je 9f",
    "fxsave [{fx}]",
    "ldmxcsr [{host_mxcsr}]",
    // Control word as the host's, status word 0, no register in use: nothing to reset.
    "mov eax, [{fx}]",
    "cmp eax, [{host_fcw}]",
    "jne 2f",
    "cmp byte ptr [{fx} + 4], 0",
    "je 9f",
    "2: fninit",
    "fldcw [{host_fcw}]",
    "9: pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
    "table86_oracle_end:",
    ".popsection",
    trampoline = const TRAMPOLINE,
    cs64 = const CS64,
    data_selector = const DATA_SELECTOR,
    host_eflags = const HOST_EFLAGS,
    exit_end = const EXIT_END,
    exit_jump = const EXIT_JUMP,
    eax = const at!(regs),
    ecx = const at!(regs) + 4,
    edx = const at!(regs) + 8,
    ebx = const at!(regs) + 12,
    esp = const at!(regs) + 16,
    ebp = const at!(regs) + 20,
    esi = const at!(regs) + 24,
    edi = const at!(regs) + 28,
    fx = const at!(fx),
    eip = const at!(eip),
    cs = const at!(cs),
    es = const at!(es),
    ss = const at!(ss),
    ds = const at!(ds),
    fs = const at!(fs),
    gs = const at!(gs),
    eflags = const at!(eflags),
    host_mxcsr = const at!(host_mxcsr),
    host_fcw = const at!(host_fcw),
    fpu = const at!(fpu),
    by_iret = const at!(by_iret),
    exit = const at!(exit),
    syscall_selector = const at!(syscall_selector),
    host_rsp = const at!(host_rsp),
    host_fs_base = const at!(host_fs_base),
    host_gs_base = const at!(host_gs_base),
);

// set_thread_area exists for 32-bit callers only: `int 0x80` with the descriptor's address in EBX.
global_asm!(
    ".pushsection .text.table86_oracle, \"ax\"",
    ".globl table86_oracle_set_thread_area",
    "table86_oracle_set_thread_area:",
    "push rbx",
    "mov ebx, edi",
    "mov eax, 243",
    "int 0x80",
    "pop rbx",
    "ret",
    ".popsection",
);

unsafe extern "C" {
    static table86_oracle_start: u8;
    static table86_oracle_enter: u8;
    static table86_oracle_exit_end: u8;
    static table86_oracle_exit_jump: u8;
    static table86_oracle_leave: u8;
    static table86_oracle_end: u8;
    fn table86_oracle_set_thread_area(descriptor: u32) -> i32;
}

/// The trampoline's code, to be copied to [`TRAMPOLINE`].
pub fn trampoline_code() -> &'static [u8] {
    let start = &raw const table86_oracle_start;
    let len = (&raw const table86_oracle_end).addr() - start.addr();
    // SAFETY: the assembly above puts both symbols into one section, `end` behind `start`.
    unsafe { std::slice::from_raw_parts(start, len) }
}

fn copied(symbol: *const u8) -> u32 {
    TRAMPOLINE + (symbol.addr() - (&raw const table86_oracle_start).addr()) as u32
}

/// The 64-bit address of the exit for code that ran to its end.
pub fn exit_end() -> u32 {
    copied(&raw const table86_oracle_exit_end)
}

/// The 64-bit address of the exit for code that jumped to [`TRAMPOLINE`].
pub fn exit_jump() -> u32 {
    copied(&raw const table86_oracle_exit_jump)
}

/// Where the signal handler resumes after storing the general registers, CS, SS and EFLAGS.
pub fn leave() -> u32 {
    copied(&raw const table86_oracle_leave)
}

/// The direct far jump that leaves 32-bit code: `jmp CS64:exit_end`.
pub fn exit_sequence() -> [u8; 7] {
    let [a, b, c, d] = exit_end().to_le_bytes();
    let [e, f] = CS64.to_le_bytes();
    [0xEA, a, b, c, d, e, f]
}

/// Runs what the context says until the guest is left.
///
/// # Safety
/// The trampoline and the context are mapped, and the signal handlers are in place on this thread.
pub unsafe fn enter() {
    let entry = copied(&raw const table86_oracle_enter) as usize;
    let entry: *const () = std::ptr::with_exposed_provenance(entry);
    // SAFETY: the copy at that address keeps the C calling convention: it saves the callee-saved
    // registers, FS and GS bases, MXCSR and the x87 control word.
    let entry: extern "C" fn() = unsafe { std::mem::transmute(entry) };
    entry();
}

/// Calls the 32-bit `set_thread_area`; returns 0 or a negated errno. See set_thread_area(2).
///
/// # Safety
/// A `user_desc` is mapped at `descriptor`.
pub unsafe fn set_thread_area(descriptor: u32) -> i32 {
    // SAFETY: the kernel reads and writes 16 bytes at `descriptor`, which the caller vouches for.
    unsafe { table86_oracle_set_thread_area(descriptor) }
}

impl Context {
    /// Takes everything of `state` but the FPU image.
    pub fn load(&mut self, state: &State) {
        self.regs = state.regs;
        self.eip = state.eip;
        self.eflags = state.eflags;
        [self.es, self.cs, self.ss, self.ds, self.fs, self.gs] = state.segs;
    }

    /// Writes everything but the FPU image to `state`.
    pub fn store(&self, state: &mut State) {
        state.regs = self.regs;
        state.eip = self.eip;
        state.eflags = self.eflags;
        state.segs = [self.es, self.cs, self.ss, self.ds, self.fs, self.gs];
    }
}
