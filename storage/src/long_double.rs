//! The extended precision that INCRBYFLOAT and HINCRBYFLOAT count in: x87's 80-bit `long double`, in software, so that the
//! results are Redis's on every machine. Only what they need: reading as `strtold` does, adding, and printing as `%.17Lf`
//! without the zeros behind.

use std::fmt;
use std::ops::Add;

/// Longest text that is read; Redis's MAX_LONG_DOUBLE_CHARS.
const TEXT_BYTES_MAX: usize = 5 * 1024;
/// Exponent of the last bit of the largest numbers.
const EXPONENT_MAX: i32 = 16_383 - 63;
/// Exponent of the last bit of the smallest numbers, which have fewer than 64 bits.
const EXPONENT_MIN: i32 = -16_445;
/// Digits behind the point when printed.
const FRACTION_DIGITS: usize = 17;

/// An 80-bit floating-point number; never NaN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LongDouble {
    negative: bool,
    magnitude: Magnitude,
}

/// A number without its sign.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Magnitude {
    /// `mantissa × 2^exponent`; the mantissa's top bit is set unless the exponent is the least or the number zero.
    Finite {
        mantissa: u64,
        exponent: i32,
    },
    Infinite,
}

const ZERO: Magnitude = Magnitude::Finite { mantissa: 0, exponent: EXPONENT_MIN };

impl From<i64> for LongDouble {
    fn from(number: i64) -> Self {
        let magnitude = round(u128::from(number.unsigned_abs()), 0, false);
        Self { negative: number < 0, magnitude }
    }
}

impl LongDouble {
    /// Reads the whole text as C's `strtold` does (`inf`, `+1`, `.5`, `0x1p3` included), but no space in front, not NaN,
    /// and neither too large nor too small to be told from infinity or zero.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() >= TEXT_BYTES_MAX {
            return None;
        }
        let (negative, unsigned) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        if unsigned.eq_ignore_ascii_case(b"inf") || unsigned.eq_ignore_ascii_case(b"infinity") {
            return Some(Self { negative, magnitude: Magnitude::Infinite });
        }
        let magnitude = match unsigned {
            [b'0', b'x' | b'X', hexadecimal @ ..] => Scanned::scan(hexadecimal, 16)?.hexadecimal(),
            decimal => Scanned::scan(decimal, 10)?.decimal(),
        }?;
        Some(Self { negative, magnitude })
    }

    /// Whether this is a number, and not infinity.
    pub fn is_finite(&self) -> bool {
        self.magnitude != Magnitude::Infinite
    }
}

/// The sum, rounded to nearest, ties to even. Infinity plus anything is infinity, also where C gives NaN.
impl Add for LongDouble {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let (
            Magnitude::Finite { mantissa: a, exponent: a_exponent },
            Magnitude::Finite { mantissa: b, exponent: b_exponent },
        ) = (self.magnitude, other.magnitude)
        else {
            return Self { negative: false, magnitude: Magnitude::Infinite };
        };
        if (a_exponent, a) < (b_exponent, b) {
            return other + self;
        }
        // The larger one leaves 63 bits below it for the smaller one's bits; what is still lower only breaks ties.
        let shift = (a_exponent - b_exponent).unsigned_abs();
        let (a, b) = (u128::from(a) << 63, u128::from(b) << 63);
        let low = b.checked_shr(shift).unwrap_or(0);
        let inexact = low.checked_shl(shift) != Some(b) && b != 0;
        let sum = if self.negative == other.negative { a + low } else { a - low - u128::from(inexact) };
        let magnitude = round(sum, a_exponent - 63, inexact);
        Self { negative: self.negative, magnitude }
    }
}

/// `number × 2^exponent`, plus a bit less than one in the last place when `inexact`, to the nearest number, ties to even.
fn round(number: u128, exponent: i32, inexact: bool) -> Magnitude {
    let bits = 128 - number.leading_zeros() as i32;
    // Bits that do not fit: beyond 64, or below the least exponent.
    let excess = (bits - 64).max(EXPONENT_MIN - exponent);
    let (mut mantissa, mut exponent) = if excess <= 0 {
        debug_assert!(!inexact, "an inexact number comes with more bits than are kept");
        // Shifted up as far as the mantissa and the least exponent allow.
        (number << -excess, exponent + excess)
    } else {
        let kept = number.checked_shr(excess as u32).unwrap_or(0);
        let lost = number - kept.checked_shl(excess as u32).unwrap_or(0);
        let half = 1u128.checked_shl(excess as u32 - 1).unwrap_or(u128::MAX);
        let up = lost > half || (lost == half && (inexact || kept & 1 == 1));
        (kept + u128::from(up), exponent + excess)
    };
    if mantissa >> 64 != 0 {
        (mantissa, exponent) = (mantissa >> 1, exponent + 1);
    }
    match u64::try_from(mantissa) {
        Ok(0) => ZERO,
        Ok(mantissa) if exponent <= EXPONENT_MAX => Magnitude::Finite { mantissa, exponent },
        _ => Magnitude::Infinite,
    }
}

/// A number's text taken apart: `digits × radix^-after_point`, times a power of ten or two.
struct Scanned {
    digits: Natural,
    radix: u64,
    after_point: i64,
    exponent: i64,
}

impl Scanned {
    fn scan(text: &[u8], radix: u64) -> Option<Self> {
        let marker = if radix == 16 { b'p' } else { b'e' };
        let end = text.iter().position(|byte| byte.to_ascii_lowercase() == marker).unwrap_or(text.len());
        let exponent = match &text[end..] {
            [] => 0,
            [_, exponent @ ..] => scan_exponent(exponent)?,
        };
        let (mut digits, mut any, mut point_at) = (Natural::default(), false, None);
        for (index, &byte) in text[..end].iter().enumerate() {
            if byte == b'.' && point_at.is_none() {
                point_at = Some(index);
            } else {
                let digit = char::from(byte).to_digit(radix as u32)?;
                digits.multiply_add(radix, u64::from(digit));
                any = true;
            }
        }
        let after_point = point_at.map_or(0, |at| end - at - 1) as i64;
        any.then_some(Self { digits, radix, after_point, exponent })
    }

    fn decimal(mut self) -> Option<Magnitude> {
        debug_assert_eq!(self.radix, 10);
        if self.digits.is_zero() {
            return Some(ZERO);
        }
        let exponent = self.exponent - self.after_point;
        let magnitude = self.digits.decimal_digits() as i64 + exponent;
        if !(-5_000..=5_000).contains(&magnitude) {
            return None;
        }
        // 10^n = 5^n × 2^n: powers of two only move the exponent.
        let mut shift = 0;
        let mut inexact = false;
        for factor in powers_of_five(exponent) {
            self.digits.multiply_add(factor, 0);
        }
        if exponent < 0 {
            // Room, so that more than 64 bits are left after the division; 5 has fewer than three bits.
            shift = 3 * exponent.unsigned_abs() as usize + 128;
            self.digits.shift_left(shift);
            for divisor in powers_of_five(-exponent) {
                inexact |= self.digits.divide(divisor) != 0;
            }
        }
        self.digits.rounded(exponent - shift as i64, inexact)
    }

    fn hexadecimal(self) -> Option<Magnitude> {
        let exponent = self.exponent - 4 * self.after_point;
        if self.digits.is_zero() {
            return Some(ZERO);
        }
        self.digits.rounded(exponent, false)
    }
}

/// Factors that make up `5^exponent`.
fn powers_of_five(exponent: i64) -> impl Iterator<Item = u64> {
    const STEP: i64 = 27;
    (0..exponent).step_by(STEP as usize).map(move |done| 5_u64.pow((exponent - done).min(STEP) as u32))
}

/// An exponent; one that is far too large stays far too large.
fn scan_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let magnitude =
        digits.iter().fold(0i64, |number, digit| (number * 10 + i64::from(digit - b'0')).min(1_000_000));
    Some(if negative { -magnitude } else { magnitude })
}

/// A natural number of any size, in limbs of 64 bits, the lowest first; no zero limb at the end.
#[derive(Clone, Default)]
struct Natural(Vec<u64>);

impl Natural {
    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    fn multiply_add(&mut self, factor: u64, summand: u64) {
        let mut carry = u128::from(summand);
        for limb in &mut self.0 {
            carry += u128::from(*limb) * u128::from(factor);
            *limb = carry as u64;
            carry >>= 64;
        }
        if carry > 0 {
            self.0.push(carry as u64);
        }
    }

    /// Divides, rounding down; returns the remainder.
    fn divide(&mut self, divisor: u64) -> u64 {
        let mut remainder = 0u128;
        for limb in self.0.iter_mut().rev() {
            let dividend = remainder << 64 | u128::from(*limb);
            *limb = (dividend / u128::from(divisor)) as u64;
            remainder = dividend % u128::from(divisor);
        }
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        remainder as u64
    }

    fn shift_left(&mut self, bits: usize) {
        if self.is_zero() {
            return;
        }
        self.multiply_add(1 << (bits % 64), 0);
        self.0.splice(0..0, std::iter::repeat_n(0, bits / 64));
    }

    fn bits(&self) -> usize {
        self.0.len() * 64 - self.0.last().map_or(0, |limb| limb.leading_zeros() as usize)
    }

    /// The number of decimal digits, or one more.
    fn decimal_digits(&self) -> usize {
        self.bits() * 30_103 / 100_000 + 1
    }

    /// `self × 2^exponent`, plus a bit less than one when `inexact`; `None` when that is no finite number, or zero.
    fn rounded(&self, exponent: i64, inexact: bool) -> Option<Magnitude> {
        let skipped = self.0.len().saturating_sub(2);
        let top = self.0.iter().skip(skipped).rev().fold(0, |top, &limb| top << 64 | u128::from(limb));
        let inexact = inexact || self.0.iter().take(skipped).any(|&limb| limb != 0);
        // The highest limb is not zero: of more than two limbs at least 65 bits are here.
        let exponent = i32::try_from(exponent + skipped as i64 * 64).ok()?;
        match round(top, exponent, inexact) {
            Magnitude::Infinite | Magnitude::Finite { mantissa: 0, .. } => None,
            finite => Some(finite),
        }
    }

    fn decimal(mut self) -> String {
        let mut groups = Vec::new();
        while !self.is_zero() {
            groups.push(self.divide(10_u64.pow(19)));
        }
        let mut text = groups.pop().unwrap_or(0).to_string();
        for group in groups.iter().rev() {
            text.push_str(&format!("{group:019}"));
        }
        text
    }
}

/// As C prints it with `%.17Lf`, without zeros behind the point's last digit; minus zero is `0`.
impl fmt::Display for LongDouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.negative { "-" } else { "" };
        let (mantissa, exponent) = match self.magnitude {
            Magnitude::Infinite => return write!(f, "{sign}inf"),
            Magnitude::Finite { mantissa, exponent } => (mantissa, exponent),
        };
        if exponent >= 0 {
            let mut natural = Natural(vec![mantissa]);
            natural.shift_left(exponent as usize);
            return write!(f, "{sign}{}", natural.decimal());
        }
        const SCALE: u128 = 10_u128.pow(FRACTION_DIGITS as u32);
        // Below 2^64 × 2^57, so it cannot overflow.
        let scaled = shift_right_rounded(u128::from(mantissa) * SCALE, exponent.unsigned_abs());
        let (whole, fraction) = (scaled / SCALE, scaled % SCALE);
        let sign = if scaled == 0 { "" } else { sign };
        if fraction == 0 {
            return write!(f, "{sign}{whole}");
        }
        let fraction = format!("{fraction:0FRACTION_DIGITS$}");
        write!(f, "{sign}{whole}.{}", fraction.trim_end_matches('0'))
    }
}

fn shift_right_rounded(number: u128, bits: u32) -> u128 {
    let kept = number.checked_shr(bits).unwrap_or(0);
    let lost = number - kept.checked_shl(bits).unwrap_or(0);
    let half = 1u128.checked_shl(bits - 1).unwrap_or(u128::MAX);
    kept + u128::from(lost > half || (lost == half && kept & 1 == 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(a: &str, b: &str) -> String {
        (LongDouble::parse(a.as_bytes()).unwrap() + LongDouble::parse(b.as_bytes()).unwrap()).to_string()
    }

    fn printed(text: &str) -> String {
        LongDouble::parse(text.as_bytes()).unwrap().to_string()
    }

    #[test]
    fn sums_are_those_of_redis() {
        for (a, b, expected) in [
            ("0", "0.1", "0.1"),
            ("0.1", "0.2", "0.3"),
            ("10.50", "0.1", "10.6"),
            ("10.6", "-5", "5.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("3", "1.1", "4.1"),
            ("1000.1", "0.2", "1000.29999999999999999"),
            ("100000.1", "0.2", "100000.30000000000000426"),
            ("9223372036854775807", "1", "9223372036854775808"),
            ("18446744073709551615", "1", "18446744073709551616"),
            ("18446744073709551616", "1", "18446744073709551616"),
            ("18446744073709551616", "3", "18446744073709551620"),
            ("1e30", "1", "1000000000000000000024696061952"),
            ("-1", "1", "0"),
            ("1e-18", "0", "0"),
            ("-1e-18", "0", "0"),
            ("5e-18", "1e-19", "0.00000000000000001"),
            ("-3.5", "1.25", "-2.25"),
            ("0x10", "0x.8p1", "17"),
            ("+7", ".5", "7.5"),
            ("123456.789", "0.1", "123456.8890000000000029"),
            ("1e15", "0.1", "1000000000000000.0999755859375"),
            ("99.99", "0.01", "100"),
            ("7.77", "-0.07", "7.7"),
        ] {
            assert_eq!(sum(a, b), expected, "{a} + {b}");
            assert_eq!(sum(b, a), expected, "{b} + {a}");
        }
    }

    #[test]
    fn what_is_no_number_or_out_of_range_is_refused() {
        for text in [
            "", " 1", "1 ", "nan", "-nan", "1e", "1e+", ".", "-", "+-1", "0x", "0x.", "1,5", "1e5000",
            "-1e5000", "1e-5000", "1.2.3", "abc", "0x1p", "1_0",
        ] {
            assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(LongDouble::parse(&[b'1'; TEXT_BYTES_MAX]), None);
        assert!(LongDouble::parse(b"1.1e4932").unwrap().is_finite());
        assert_eq!(LongDouble::parse(b"1.2e4932"), None, "the largest one is 1.189…e4932");
        assert!(!LongDouble::parse(b"-Infinity").unwrap().is_finite());
        let largest = LongDouble::parse(b"1.189731495357231765e4932").unwrap();
        assert!(!(largest + largest).is_finite());
    }

    #[test]
    fn the_smallest_numbers_lose_bits_and_then_vanish() {
        let smallest = LongDouble::parse(b"3.7e-4951").unwrap();
        assert_eq!(smallest.magnitude, Magnitude::Finite { mantissa: 1, exponent: EXPONENT_MIN });
        assert_eq!(LongDouble::parse(b"1.8e-4951"), None, "less than half of the smallest");
        assert_eq!((smallest + LongDouble { negative: true, ..smallest }).magnitude, ZERO);
        assert_eq!(LongDouble::parse(b"0e-99999").unwrap().magnitude, ZERO);
    }

    proptest! {
        #[test]
        fn sums_of_integers_are_exact(a in -(1i64 << 62)..1 << 62, b in -(1i64 << 62)..1 << 62) {
            prop_assert_eq!((LongDouble::from(a) + LongDouble::from(b)).to_string(), (a + b).to_string());
            prop_assert_eq!(LongDouble::parse(a.to_string().as_bytes()), Some(LongDouble::from(a)));
        }

        #[test]
        fn short_decimals_are_printed_as_they_were_read(whole in 0u8..9, fraction in 0u64..10u64.pow(17)) {
            let text = format!("{whole}.{fraction:017}");
            let expected = text.trim_end_matches('0').trim_end_matches('.');
            prop_assert_eq!(printed(&text), expected);
        }

        #[test]
        fn doubles_are_read_exactly(number: f64) {
            prop_assume!(number.is_finite());
            // Rust prints all digits of a double, and a long double holds every double.
            let text = format!("{number:.1074}");
            let (mantissa, exponent) = (number.abs().to_bits() & ((1 << 52) - 1), (number.abs().to_bits() >> 52) as i32);
            let (mantissa, exponent) = if exponent == 0 { (mantissa, -1074) } else { (mantissa | 1 << 52, exponent - 1075) };
            let expected = round(u128::from(mantissa), exponent, false);
            prop_assert_eq!(LongDouble::parse(text.as_bytes()).unwrap().magnitude, expected);
        }
    }
}
