//! Requests as bytes. A run of `#` in a word is a hole that a number fills, with leading zeros.

use holdfast_tests::client::encode;

/// A request with holes.
pub struct Template {
    bytes: Vec<u8>,
    holes: Vec<(usize, usize)>,
}

impl Template {
    /// The command of these words.
    pub fn of<W: AsRef<[u8]>>(words: &[W]) -> Self {
        let bytes = encode(words);
        let mut holes: Vec<(usize, usize)> = Vec::new();
        for (at, _) in bytes.iter().enumerate().filter(|&(_, &byte)| byte == b'#') {
            match holes.last_mut() {
                Some((start, width)) if *start + *width == at => *width += 1,
                _ => holes.push((at, 1)),
            }
        }
        Self { bytes, holes }
    }

    /// Appends the request with this number in all holes; its leading digits are dropped where a hole is too narrow.
    pub fn write(&self, out: &mut Vec<u8>, number: u64) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        for &(at, width) in &self.holes {
            let mut rest = number;
            for digit in out[start + at..start + at + width].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_fills_all_holes() {
        let mut out = Vec::new();
        Template::of(&["SET", "key:####", "v#"]).write(&mut out, 345);
        assert_eq!(String::from_utf8(out).unwrap(), "*3\r\n$3\r\nSET\r\n$8\r\nkey:0345\r\n$2\r\nv5\r\n");
    }
}
