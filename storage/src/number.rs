//! Numbers as Redis reads and prints them: integers (`string2ll`), doubles (`string2d`, `d2string`). The extended
//! precision of INCRBYFLOAT has its own file, [`crate::long_double`].

use std::ops::Deref;

/// Reads an integer as Redis's `string2ll` does: no space, no plus sign, no leading zero, no `-0`.
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    let mut magnitude: u64 = 0;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        // 19 digits stay below 10^19 < 2^64.
        magnitude = magnitude * 10 + u64::from(digit - b'0');
    }
    if negative { 0i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

/// Reads an unsigned integer by the same rules, up to 2^64 - 1.
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    match text {
        [b'0'] => Some(0),
        [b'1'..=b'9', ..] if text.len() <= 20 => text.iter().try_fold(0u64, |number, digit| {
            let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
            number.checked_mul(10)?.checked_add(digit)
        }),
        _ => None,
    }
}

/// Reads a double as Redis's `string2d` does: the whole text as `strtod` reads it (`inf`, `+1`, `.5`, `0x10` included), but
/// no space in front, not NaN, and neither too large nor too small to be told from infinity or zero.
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    let number = parse_f64_lossy(text)?;
    let overflow = number.is_infinite() && !spells_infinity(text);
    let underflow = number == 0.0 && has_significant_digit(text);
    (!overflow && !underflow).then_some(number)
}

/// As [`parse_f64`], but a number out of range becomes infinity or zero: what Redis does for the ends of score ranges.
pub fn parse_f64_lossy(text: &[u8]) -> Option<f64> {
    if let Some(number) = parse_hexadecimal(text) {
        return Some(number);
    }
    let number: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (!number.is_nan()).then_some(number)
}

fn spells_infinity(text: &[u8]) -> bool {
    text.iter().any(|byte| matches!(byte, b'n' | b'N'))
}

fn has_significant_digit(text: &[u8]) -> bool {
    let (skip, exponent) = if is_hexadecimal(text) { (2, b'p') } else { (0, b'e') };
    let unsigned = unsigned(text);
    unsigned[skip..]
        .iter()
        .take_while(|byte| byte.to_ascii_lowercase() != exponent)
        .any(|byte| byte.is_ascii_hexdigit() && *byte != b'0')
}

fn unsigned(text: &[u8]) -> &[u8] {
    match text {
        [b'-' | b'+', rest @ ..] => rest,
        _ => text,
    }
}

fn is_hexadecimal(text: &[u8]) -> bool {
    matches!(unsigned(text), [b'0', b'x' | b'X', ..])
}

/// `0x1f`, `-0x1.8p3`: what C's `strtod` reads besides decimals. Digits beyond the 64th bit are cut, not rounded.
fn parse_hexadecimal(text: &[u8]) -> Option<f64> {
    if !is_hexadecimal(text) {
        return None;
    }
    let body = &unsigned(text)[2..];
    let (digits, exponent) = match body.iter().position(|byte| matches!(byte, b'p' | b'P')) {
        Some(at) => (&body[..at], std::str::from_utf8(&body[at + 1..]).ok()?.parse::<i32>().ok()?),
        None => (body, 0),
    };
    let (mut mantissa, mut shift, mut seen_point, mut any) = (0u64, 0i32, false, false);
    for &byte in digits {
        if byte == b'.' && !seen_point {
            seen_point = true;
            continue;
        }
        let digit = u64::from(char::from(byte).to_digit(16)?);
        any = true;
        if mantissa >> 60 == 0 {
            mantissa = mantissa << 4 | digit;
            shift -= if seen_point { 4 } else { 0 };
        } else if !seen_point {
            shift = shift.saturating_add(4);
        }
    }
    if !any {
        return None;
    }
    let exponent = exponent.saturating_add(shift).clamp(-2000, 2000);
    // In two steps, so that neither power leaves the range when the product does not.
    let number = mantissa as f64 * 2f64.powi(exponent / 2) * 2f64.powi(exponent - exponent / 2);
    Some(if text[0] == b'-' { -number } else { number })
}

/// The text of a number, on the stack.
#[derive(Clone, Copy)]
pub struct NumberText {
    bytes: [u8; 32],
    length: usize,
}

impl NumberText {
    fn empty() -> Self {
        Self { bytes: [0; 32], length: 0 }
    }

    fn of(text: &[u8]) -> Self {
        let mut this = Self::empty();
        this.push(text);
        this
    }

    fn push(&mut self, text: &[u8]) {
        self.bytes[self.length..self.length + text.len()].copy_from_slice(text);
        self.length += text.len();
    }

    fn zeros(&mut self, count: usize) {
        self.bytes[self.length..self.length + count].fill(b'0');
        self.length += count;
    }
}

impl Deref for NumberText {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Prints a double as Redis's `d2string` does: whole numbers below 2^62 without a fraction, everything else with the
/// fewest digits that read back as the same double, laid out as `fpconv_dtoa` does.
pub fn format_f64(number: f64) -> NumberText {
    if number.is_nan() {
        return NumberText::of(b"nan");
    }
    if number.is_infinite() {
        return NumberText::of(if number > 0.0 { b"inf" } else { b"-inf" });
    }
    if number == 0.0 {
        return NumberText::of(if number.is_sign_negative() { b"-0" } else { b"0" });
    }
    const WHOLE_MAX: f64 = (i64::MAX / 2) as f64;
    if number.abs() <= WHOLE_MAX && number.trunc() == number {
        return NumberText::of(itoa::Buffer::new().format(number as i64).as_bytes());
    }
    lay_out(number < 0.0, &Digits::of(number))
}

/// A number's shortest decimal digits: `digits × 10^exponent`.
struct Digits {
    digits: [u8; 20],
    count: usize,
    exponent: i32,
}

impl Digits {
    fn of(number: f64) -> Self {
        let mut buffer = zmij::Buffer::new();
        let text = buffer.format_finite(number);
        let mut this = Self { digits: [0; 20], count: 0, exponent: 0 };
        let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
        let (mut after_point, mut seen_point) = (0, false);
        for byte in mantissa.bytes() {
            match byte {
                b'.' => seen_point = true,
                b'0'..=b'9' => {
                    after_point += i32::from(seen_point);
                    if this.count > 0 || byte != b'0' {
                        this.digits[this.count] = byte;
                        this.count += 1;
                    }
                }
                _ => {}
            }
        }
        this.exponent = exponent.parse::<i32>().unwrap_or(0) - after_point;
        while this.count > 1 && this.digits[this.count - 1] == b'0' {
            this.count -= 1;
            this.exponent += 1;
        }
        this
    }
}

/// Where `fpconv_dtoa` puts the point: plain while short enough, scientific otherwise.
fn lay_out(negative: bool, Digits { digits, count, exponent }: &Digits) -> NumberText {
    let (digits, count, exponent) = (&digits[..*count], *count as i32, *exponent);
    let magnitude = exponent + count - 1;
    let mut text = NumberText::of(if negative { b"-" } else { b"" });
    if exponent >= 0 && magnitude < count + 7 {
        text.push(digits);
        text.zeros(exponent as usize);
    } else if exponent < 0 && (exponent > -7 || magnitude.abs() < 4) {
        let whole = count + exponent;
        if whole <= 0 {
            text.push(b"0.");
            text.zeros(whole.unsigned_abs() as usize);
            text.push(digits);
        } else {
            text.push(&digits[..whole as usize]);
            text.push(b".");
            text.push(&digits[whole as usize..]);
        }
    } else {
        text.push(&digits[..1]);
        if count > 1 {
            text.push(b".");
            text.push(&digits[1..]);
        }
        text.push(if magnitude < 0 { b"e-" } else { b"e+" });
        text.push(itoa::Buffer::new().format(magnitude.unsigned_abs()).as_bytes());
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn printed(number: f64) -> String {
        String::from_utf8(format_f64(number).to_vec()).unwrap()
    }

    #[test]
    fn integers_are_read_as_string2ll_reads_them() {
        for (text, number) in
            [("0", 0), ("-1", -1), ("9223372036854775807", i64::MAX), ("-9223372036854775808", i64::MIN)]
        {
            assert_eq!(parse_i64(text.as_bytes()), Some(number), "{text}");
        }
        for text in [
            "",
            "-",
            "+1",
            "-0",
            "00",
            "01",
            " 1",
            "1 ",
            "1a",
            "9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999",
        ] {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_u64(b"18446744073709551616"), None);
    }

    #[test]
    fn doubles_are_read_as_string2d_reads_them() {
        for (text, number) in [
            ("1", 1.0),
            ("+1.5", 1.5),
            (".5", 0.5),
            ("5.", 5.0),
            ("-0", 0.0),
            ("1e3", 1000.0),
            ("0x10", 16.0),
            ("-0x1.8p3", -12.0),
            ("inf", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("0e-999", 0.0),
            ("1e-320", 1e-320),
        ] {
            assert_eq!(parse_f64(text.as_bytes()), Some(number), "{text}");
        }
        for text in [
            "",
            " 1",
            "1 ",
            "nan",
            "-nan",
            "1e400",
            "-1e400",
            "1e-400",
            "1,5",
            "abc",
            "0x",
            "0xg",
            "0x1p-5000",
            "1_0",
            "\u{00a0}1",
        ] {
            assert_eq!(parse_f64(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse_f64_lossy(b"1e400"), Some(f64::INFINITY));
    }

    #[test]
    fn doubles_are_printed_as_d2string_prints_them() {
        for (number, text) in [
            (3.0, "3"),
            (-3.0, "-3"),
            (0.0, "0"),
            (-0.0, "-0"),
            (0.1, "0.1"),
            (3.21, "3.21"),
            (-1.5, "-1.5"),
            (1e15, "1000000000000000"),
            (1e20, "1e+20"),
            (1.5e300, "1.5e+300"),
            (1e-7, "1e-7"),
            (1e-6, "0.000001"),
            (1.5e-7, "1.5e-7"),
            (0.000123456, "1.23456e-4"),
            (123456.789, "123456.789"),
            (4611686018427387904.0, "4611686018427387904"),
            (9223372036854775808.0, "9223372036854776000"),
            (0.30000000000000004, "0.30000000000000004"),
            (f64::MAX, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(printed(number), text);
        }
    }

    proptest! {
        #[test]
        fn a_printed_double_reads_back_as_itself(bits: u64) {
            let number = f64::from_bits(bits);
            prop_assume!(!number.is_nan());
            prop_assert_eq!(parse_f64_lossy(&format_f64(number)), Some(number));
        }

        #[test]
        fn a_printed_integer_reads_back_as_itself(number: i64) {
            prop_assert_eq!(parse_i64(number.to_string().as_bytes()), Some(number));
        }
    }
}
