//! The transcendental instructions: FSIN, FCOS, FSINCOS, FPTAN, FPATAN, F2XM1, FYL2X and FYL2XP1.
//!
//! Results are computed to about 120 bits and then rounded once by the rounding control, so that they are correctly
//! rounded but for odds of 2^-50. Silicon is not: it promises an error below 1 ulp in its own last place, and its
//! last bits and C1 differ between vendors and models. Precision control is ignored, as on silicon.
//!
//! The trigonometric instructions reduce their argument by π of 66 bits, as silicon does (SDM Vol. 1, 8.3.8): sin π
//! has the value silicon gives it, not the mathematical one.

mod atan;
mod fixed;
mod log;
mod power;
mod trig;

pub use atan::arctangent;
pub use log::{log2, log2_plus_one};
pub use power::power_minus_one;
pub use trig::{SinCos, cos, sin, sin_cos, tan};
