//! Every instruction whose result silicon defines bit by bit.

use table86::fpu::Operand::St;
use table86::fpu::soft::F80;
use table86::fpu::soft::constant::Constant;
use table86::fpu::way::Whole;

use crate::harness::{CF, Instruction, LastInstruction, PF, ZF, instructions};

pub const ADD_SUB: &[Instruction] = instructions! {
    "fadd st(0), st(1)", Integer, |f, _| f.fadd::<Whole>(0, St(1), 0);
    "fadd st(0), st(0)", Integer, |f, _| f.fadd::<Whole>(0, St(0), 0);
    "fadd st(2), st(0)", Integer, |f, _| f.fadd::<Whole>(2, St(0), 0);
    "faddp st(3), st(0)", Integer, |f, _| f.fadd::<Whole>(3, St(0), 1);
    "fadd dword ptr [{m}]", Single, |f, b| f.fadd::<Whole>(0, b.f32(), 0);
    "fadd qword ptr [{m}]", Double, |f, b| f.fadd::<Whole>(0, b.f64(), 0);
    "fiadd word ptr [{m}]", Integer, |f, b| f.fadd::<Whole>(0, b.i16(), 0);
    "fiadd dword ptr [{m}]", Integer, |f, b| f.fadd::<Whole>(0, b.i32(), 0);
    "fsub st(0), st(1)", Integer, |f, _| f.fsub::<Whole>(0, St(1), 0);
    "fsub dword ptr [{m}]", Single, |f, b| f.fsub::<Whole>(0, b.f32(), 0);
    "fsub qword ptr [{m}]", Double, |f, b| f.fsub::<Whole>(0, b.f64(), 0);
    "fisub word ptr [{m}]", Integer, |f, b| f.fsub::<Whole>(0, b.i16(), 0);
    "fisub dword ptr [{m}]", Integer, |f, b| f.fsub::<Whole>(0, b.i32(), 0);
    "fsubr st(0), st(1)", Integer, |f, _| f.fsubr::<Whole>(0, St(1), 0);
    "fsubr dword ptr [{m}]", Single, |f, b| f.fsubr::<Whole>(0, b.f32(), 0);
    "fsubr qword ptr [{m}]", Double, |f, b| f.fsubr::<Whole>(0, b.f64(), 0);
    "fisubr word ptr [{m}]", Integer, |f, b| f.fsubr::<Whole>(0, b.i16(), 0);
    "fisubr dword ptr [{m}]", Integer, |f, b| f.fsubr::<Whole>(0, b.i32(), 0);
    // The encodings themselves, for assemblers differ on which of the two they call fsub.
    ".byte 0xdc, 0xea", Integer, |f, _| f.fsub::<Whole>(2, St(0), 0);
    ".byte 0xdc, 0xe2", Integer, |f, _| f.fsubr::<Whole>(2, St(0), 0);
    ".byte 0xde, 0xea", Integer, |f, _| f.fsub::<Whole>(2, St(0), 1);
    ".byte 0xde, 0xe1", Integer, |f, _| f.fsubr::<Whole>(1, St(0), 1);
};

pub const MUL_DIV: &[Instruction] = instructions! {
    "fmul st(0), st(1)", Integer, |f, _| f.fmul::<Whole>(0, St(1), 0);
    "fmul st(2), st(0)", Integer, |f, _| f.fmul::<Whole>(2, St(0), 0);
    "fmulp st(1), st(0)", Integer, |f, _| f.fmul::<Whole>(1, St(0), 1);
    "fmul dword ptr [{m}]", Single, |f, b| f.fmul::<Whole>(0, b.f32(), 0);
    "fmul qword ptr [{m}]", Double, |f, b| f.fmul::<Whole>(0, b.f64(), 0);
    "fimul word ptr [{m}]", Integer, |f, b| f.fmul::<Whole>(0, b.i16(), 0);
    "fimul dword ptr [{m}]", Integer, |f, b| f.fmul::<Whole>(0, b.i32(), 0);
    "fdiv st(0), st(1)", Integer, |f, _| f.fdiv(0, St(1), 0);
    "fdiv dword ptr [{m}]", Single, |f, b| f.fdiv(0, b.f32(), 0);
    "fdiv qword ptr [{m}]", Double, |f, b| f.fdiv(0, b.f64(), 0);
    "fidiv word ptr [{m}]", Integer, |f, b| f.fdiv(0, b.i16(), 0);
    "fidiv dword ptr [{m}]", Integer, |f, b| f.fdiv(0, b.i32(), 0);
    "fdivr st(0), st(1)", Integer, |f, _| f.fdivr(0, St(1), 0);
    "fdivr dword ptr [{m}]", Single, |f, b| f.fdivr(0, b.f32(), 0);
    "fdivr qword ptr [{m}]", Double, |f, b| f.fdivr(0, b.f64(), 0);
    "fidivr word ptr [{m}]", Integer, |f, b| f.fdivr(0, b.i16(), 0);
    "fidivr dword ptr [{m}]", Integer, |f, b| f.fdivr(0, b.i32(), 0);
    ".byte 0xdc, 0xfa", Integer, |f, _| f.fdiv(2, St(0), 0);
    ".byte 0xdc, 0xf2", Integer, |f, _| f.fdivr(2, St(0), 0);
    ".byte 0xde, 0xfa", Integer, |f, _| f.fdiv(2, St(0), 1);
    ".byte 0xde, 0xf1", Integer, |f, _| f.fdivr(1, St(0), 1);
    "fsqrt", Integer, |f, _| f.fsqrt();
};

pub const MONADIC: &[Instruction] = instructions! {
    "fabs", Integer, |f, _| f.fabs::<Whole>();
    "fchs", Integer, |f, _| f.fchs::<Whole>();
    "frndint", Integer, |f, _| f.frndint();
    "fxtract", Integer, |f, _| f.fxtract();
    "fscale", Integer, |f, _| f.fscale();
    "fprem", Integer, |f, _| f.fprem();
    "fprem1", Integer, |f, _| f.fprem1();
};

pub const LOADS: &[Instruction] = instructions! {
    "fld st(0)", Integer, |f, _| f.fld::<Whole>(St(0));
    "fld st(3)", Integer, |f, _| f.fld::<Whole>(St(3));
    "fld st(7)", Integer, |f, _| f.fld::<Whole>(St(7));
    "fld dword ptr [{m}]", Single, |f, b| f.fld::<Whole>(b.f32());
    "fld qword ptr [{m}]", Double, |f, b| f.fld::<Whole>(b.f64());
    "fld tbyte ptr [{m}]", Extended, |f, b| f.fld::<Whole>(b.f80());
    "fild word ptr [{m}]", Integer, |f, b| f.fld::<Whole>(b.i16());
    "fild dword ptr [{m}]", Integer, |f, b| f.fld::<Whole>(b.i32());
    "fild qword ptr [{m}]", Integer, |f, b| f.fld::<Whole>(b.i64());
    "fbld tbyte ptr [{m}]", Bcd, |f, b| f.fbld(b.bytes());
    "fld1", Integer, |f, _| f.fld_constant::<Whole>(Constant::One);
    "fldl2t", Integer, |f, _| f.fld_constant::<Whole>(Constant::Log2Ten);
    "fldl2e", Integer, |f, _| f.fld_constant::<Whole>(Constant::Log2E);
    "fldpi", Integer, |f, _| f.fld_constant::<Whole>(Constant::Pi);
    "fldlg2", Integer, |f, _| f.fld_constant::<Whole>(Constant::Log10Two);
    "fldln2", Integer, |f, _| f.fld_constant::<Whole>(Constant::LnTwo);
    "fldz", Integer, |f, _| f.fld_constant::<Whole>(Constant::Zero);
};

pub const STORES: &[Instruction] = instructions! {
    "fst st(2)", Integer, |f, _| f.fst_st::<Whole>(2, 0);
    "fstp st(0)", Integer, |f, _| f.fst_st::<Whole>(0, 1);
    "fstp st(5)", Integer, |f, _| f.fst_st::<Whole>(5, 1);
    "fst dword ptr [{m}]", Integer, |f, b| b.store(f, f.fst_f32(), 0, u32::to_le_bytes);
    "fstp dword ptr [{m}]", Integer, |f, b| b.store(f, f.fst_f32(), 1, u32::to_le_bytes);
    "fst qword ptr [{m}]", Integer, |f, b| b.store(f, f.fst_f64(), 0, u64::to_le_bytes);
    "fstp qword ptr [{m}]", Integer, |f, b| b.store(f, f.fst_f64(), 1, u64::to_le_bytes);
    "fstp tbyte ptr [{m}]", Integer, |f, b| b.store(f, f.fst_f80(), 1, F80::to_bytes);
    "fist word ptr [{m}]", Integer, |f, b| b.store(f, f.fist_i16(), 0, i16::to_le_bytes);
    "fistp word ptr [{m}]", Integer, |f, b| b.store(f, f.fist_i16(), 1, i16::to_le_bytes);
    "fist dword ptr [{m}]", Integer, |f, b| b.store(f, f.fist_i32(), 0, i32::to_le_bytes);
    "fistp dword ptr [{m}]", Integer, |f, b| b.store(f, f.fist_i32(), 1, i32::to_le_bytes);
    "fistp qword ptr [{m}]", Integer, |f, b| b.store(f, f.fist_i64(), 1, i64::to_le_bytes);
    "fisttp word ptr [{m}]", Integer, |f, b| b.store(f, f.fisttp_i16(), 1, i16::to_le_bytes);
    "fisttp dword ptr [{m}]", Integer, |f, b| b.store(f, f.fisttp_i32(), 1, i32::to_le_bytes);
    "fisttp qword ptr [{m}]", Integer, |f, b| b.store(f, f.fisttp_i64(), 1, i64::to_le_bytes);
    "fbstp tbyte ptr [{m}]", Integer, |f, b| b.store(f, f.fbstp(), 1, |bytes| bytes);
};

pub const COMPARES: &[Instruction] = instructions! {
    "fcom st(1)", Integer, |f, _| f.fcom::<Whole>(St(1), 0);
    "fcomp st(2)", Integer, |f, _| f.fcom::<Whole>(St(2), 1);
    "fcompp", Integer, |f, _| f.fcom::<Whole>(St(1), 2);
    "fcom dword ptr [{m}]", Single, |f, b| f.fcom::<Whole>(b.f32(), 0);
    "fcomp dword ptr [{m}]", Single, |f, b| f.fcom::<Whole>(b.f32(), 1);
    "fcom qword ptr [{m}]", Double, |f, b| f.fcom::<Whole>(b.f64(), 0);
    "fcomp qword ptr [{m}]", Double, |f, b| f.fcom::<Whole>(b.f64(), 1);
    "ficom word ptr [{m}]", Integer, |f, b| f.fcom::<Whole>(b.i16(), 0);
    "ficomp dword ptr [{m}]", Integer, |f, b| f.fcom::<Whole>(b.i32(), 1);
    "fucom st(1)", Integer, |f, _| f.fucom::<Whole>(St(1), 0);
    "fucomp st(3)", Integer, |f, _| f.fucom::<Whole>(St(3), 1);
    "fucompp", Integer, |f, _| f.fucom::<Whole>(St(1), 2);
    "fcomi st(0), st(1)", Integer, |f, b| b.compare(f.fcomi::<Whole>(1, 0));
    "fcompi st(0), st(2)", Integer, |f, b| b.compare(f.fcomi::<Whole>(2, 1));
    "fucomi st(0), st(1)", Integer, |f, b| b.compare(f.fucomi::<Whole>(1, 0));
    "fucompi st(0), st(3)", Integer, |f, b| b.compare(f.fucomi::<Whole>(3, 1));
    "ftst", Integer, |f, _| f.ftst::<Whole>();
    "fxam", Integer, |f, _| f.fxam();
};

pub const STACK: &[Instruction] = instructions! {
    "fnop", Integer, |_, _| ();
    "fxch st(1)", Integer, |f, _| f.fxch::<Whole>(1);
    "fxch st(7)", Integer, |f, _| f.fxch::<Whole>(7);
    "fincstp", Integer, |f, _| f.fincstp();
    "fdecstp", Integer, |f, _| f.fdecstp();
    "ffree st(2)", Integer, |f, _| f.ffree(2);
    ".byte 0xdf, 0xc2", Integer, |f, _| f.ffreep(2);
    "fcmovb st(0), st(1)", Integer, |f, b| f.fcmov::<Whole>(1, b.any(CF));
    "fcmove st(0), st(2)", Integer, |f, b| f.fcmov::<Whole>(2, b.any(ZF));
    "fcmovbe st(0), st(7)", Integer, |f, b| f.fcmov::<Whole>(7, b.any(CF | ZF));
    "fcmovu st(0), st(1)", Integer, |f, b| f.fcmov::<Whole>(1, b.any(PF));
    "fcmovnb st(0), st(1)", Integer, |f, b| f.fcmov::<Whole>(1, !b.any(CF));
    "fcmovne st(0), st(1)", Integer, |f, b| f.fcmov::<Whole>(1, !b.any(ZF));
    "fcmovnbe st(0), st(1)", Integer, |f, b| f.fcmov::<Whole>(1, !b.any(CF | ZF));
    "fcmovnu st(0), st(1)", Integer, |f, b| f.fcmov::<Whole>(1, !b.any(PF));
};

/// The encodings that the manual leaves out and silicon takes for others.
pub const ALIASES: &[Instruction] = instructions! {
    ".byte 0xd9, 0xda", Integer, |f, _| f.fstpnce(2);
    ".byte 0xdc, 0xd2", Integer, |f, _| f.fcom::<Whole>(St(2), 0);
    ".byte 0xdc, 0xda", Integer, |f, _| f.fcom::<Whole>(St(2), 1);
    ".byte 0xdd, 0xca", Integer, |f, _| f.fxch::<Whole>(2);
    ".byte 0xde, 0xd2", Integer, |f, _| f.fcom::<Whole>(St(2), 1);
    ".byte 0xdf, 0xca", Integer, |f, _| f.fxch::<Whole>(2);
    ".byte 0xdf, 0xd2", Integer, |f, _| f.fst_st::<Whole>(2, 1);
    ".byte 0xdf, 0xda", Integer, |f, _| f.fst_st::<Whole>(2, 1);
    ".byte 0xdb, 0xe0", Integer, |_, _| ();
    ".byte 0xdb, 0xe1", Integer, |_, _| ();
    ".byte 0xdb, 0xe4", Integer, |_, _| ();
};

pub const CONTROL: &[Instruction] = instructions! {
    "fldcw word ptr [{m}]", Integer, |f, b| f.set_control(u16::from_le_bytes(b.bytes()));
    "fnstcw word ptr [{m}]", Integer, |f, b| b.memory[..2].copy_from_slice(&f.control().to_le_bytes());
    "fnstsw word ptr [{m}]", Integer, |f, b| b.memory[..2].copy_from_slice(&f.status().to_le_bytes());
    "fnclex", Integer, |f, _| f.fnclex();
    "fninit", Integer, |f, _| f.fninit();
};

pub const IMAGES: &[Instruction] = instructions! {
    "fnstenv [{m}]", Integer, |f, b| {
        b.put(f.env32());
        f.mask_all();
    };
    "data16 fnstenv [{m}]", Integer, |f, b| {
        b.put(f.env16());
        f.mask_all();
    };
    "fnsave [{m}]", Integer, |f, b| {
        b.put(f.save32());
        f.fninit();
    };
    "data16 fnsave [{m}]", Integer, |f, b| {
        b.put(f.save16());
        f.fninit();
    };
    "fldenv [{m}]", Image, |f, b| f.load_env32(&b.bytes());
    "data16 fldenv [{m}]", Image, |f, b| f.load_env16(&b.bytes());
    "frstor [{m}]", Image, |f, b| f.restore32(&b.bytes());
    "data16 frstor [{m}]", Image, |f, b| f.restore16(&b.bytes());
    "fxsave [{m}]", X87Part, |f, b| {
        let mut image = b.bytes();
        f.fxsave(&mut image);
        b.put(image);
    };
    "fxrstor [{m}]", Image, |f, b| f.fxrstor(&b.bytes());
};

/// All of them, and what counts of the last instruction's pointers.
pub const ALL: &[(&[Instruction], LastInstruction)] = &[
    (ADD_SUB, LastInstruction::Replaced),
    (MUL_DIV, LastInstruction::Replaced),
    (MONADIC, LastInstruction::Replaced),
    (LOADS, LastInstruction::Replaced),
    (STORES, LastInstruction::Replaced),
    (COMPARES, LastInstruction::Replaced),
    (STACK, LastInstruction::Replaced),
    (ALIASES, LastInstruction::Replaced),
    (CONTROL, LastInstruction::Compared),
    (IMAGES, LastInstruction::Compared),
];
