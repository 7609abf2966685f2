//! Random commands out of templates such as `LPOS l e [RANK i] [COUNT n]`.
//!
//! ```text
//! template = token…
//! token    = [ token… ]        now and then
//!          | word | a|b        itself, one of them
//!          | kind | kind+      an argument, one to four of them
//!          | kind^             fifty to two hundred of them
//!          | #key              a number of keys, then that many keys
//!          | kind*             as many arguments as the last #key had keys
//! kind     = l s z h t   a key that most often holds a list, set, sorted set, hash, string
//!          | d decimal number | v string value
//!          | e element   | w one of 2000 elements
//!          | i small integer | n small integer, mostly positive | c 0 or a large number
//!          | f score     | b end of a range of scores | x end of a range of members | g glob pattern
//! ```

use fastrand::Rng;

/// Makes commands out of templates.
pub struct Grammar {
    templates: &'static [&'static str],
    dice: Rng,
    keys: usize,
}

impl Grammar {
    /// Commands are chosen, and filled in, as the seed says.
    pub fn new(templates: &'static [&'static str], seed: u64) -> Self {
        Self { templates, dice: Rng::with_seed(seed), keys: 0 }
    }

    /// The next command.
    pub fn command(&mut self) -> Vec<Vec<u8>> {
        let template = self.templates[self.dice.usize(..self.templates.len())];
        let mut words = Vec::new();
        let mut skipping = false;
        for token in template.split_whitespace() {
            let (opens, token) = token.strip_prefix('[').map_or((false, token), |rest| (true, rest));
            let (closes, token) = token.strip_suffix(']').map_or((false, token), |rest| (true, rest));
            if opens {
                skipping = self.dice.u8(..3) > 0;
            }
            if !skipping {
                self.expand(token, &mut words);
            }
            if closes {
                skipping = false;
            }
        }
        // Random choices cannot be compared, nor cursors that nobody gave, nor what Redis 7.0 did not have.
        let may_spoil =
            !["RAND", "SPOP", "SCAN", "ZRANK", "ZREVRANK"].iter().any(|word| template.contains(word));
        if may_spoil && self.dice.u8(..40) == 0 {
            self.spoil(&mut words);
        }
        words
    }

    /// What a client that is mistaken might send.
    fn spoil(&mut self, words: &mut Vec<Vec<u8>>) {
        let place = self.dice.usize(1..=words.len());
        match self.dice.u8(..3) {
            0 => words.insert(place, b"junk".to_vec()),
            1 if place < words.len() => drop(words.remove(place)),
            _ if place < words.len() => words[place] = self.junk(),
            _ => {}
        }
    }

    fn junk(&mut self) -> Vec<u8> {
        let junk: [&[u8]; 10] = [
            b"",
            b"junk",
            b"-1",
            b"0",
            b"9223372036854775807",
            b"-9223372036854775807",
            b"1.5",
            b"nan",
            b" 1",
            b"+inf",
        ];
        junk[self.dice.usize(..junk.len())].to_vec()
    }

    fn expand(&mut self, token: &str, words: &mut Vec<Vec<u8>>) {
        if let Some(kind) = token.strip_prefix('#') {
            self.keys = self.dice.usize(1..4);
            words.push(self.keys.to_string().into_bytes());
            (0..self.keys).for_each(|_| words.push(self.argument(kind)));
        } else if let Some(kind) = token.strip_suffix('*') {
            (0..self.keys).for_each(|_| words.push(self.argument(kind)));
        } else if let Some(kinds) = token.strip_suffix('+') {
            let count = self.dice.usize(1..5);
            self.repeat(kinds, count, words);
        } else if let Some(kinds) = token.strip_suffix('^') {
            let count = self.dice.usize(50..200);
            self.repeat(kinds, count, words);
        } else {
            words.push(self.argument(token));
        }
    }

    fn repeat(&mut self, kinds: &str, count: usize, words: &mut Vec<Vec<u8>>) {
        for _ in 0..count {
            kinds.split(',').for_each(|kind| words.push(self.argument(kind)));
        }
    }

    fn argument(&mut self, token: &str) -> Vec<u8> {
        match token {
            "l" | "s" | "z" | "h" | "t" => self.key(token),
            "e" => self.element(),
            "w" => format!("w{}", self.dice.u16(..2000)).into_bytes(),
            "i" => self.dice.i64(-6..7).to_string().into_bytes(),
            "n" => self.dice.i64(-1..6).max(self.dice.i64(-1..6)).to_string().into_bytes(),
            "c" => {
                if self.dice.bool() {
                    b"0".to_vec()
                } else {
                    b"100000".to_vec()
                }
            }
            "d" => self.decimal(),
            "v" => match self.dice.u8(..3) {
                0 => self.decimal(),
                _ => self.element(),
            },
            "f" => self.score().into_bytes(),
            "b" => {
                let score = self.score();
                if self.dice.bool() { score.into_bytes() } else { format!("({score}").into_bytes() }
            }
            "x" => match self.dice.u8(..6) {
                0 => b"-".to_vec(),
                1 => b"+".to_vec(),
                2 | 3 => [b"(".to_vec(), self.element()].concat(),
                _ => [b"[".to_vec(), self.element()].concat(),
            },
            "g" => {
                let patterns: [&[u8]; 6] = [b"*", b"m*", b"*1*", b"m[0-5]", b"?", b"m\\1"];
                patterns[self.dice.usize(..patterns.len())].to_vec()
            }
            words => {
                let choices: Vec<&str> = words.split('|').collect();
                let word = choices[self.dice.usize(..choices.len())];
                if self.dice.bool() { word.to_lowercase().into_bytes() } else { word.to_owned().into_bytes() }
            }
        }
    }

    fn key(&mut self, kind: &str) -> Vec<u8> {
        let kind = match self.dice.u8(..60) {
            0 => "lszht".split_at(self.dice.usize(..5)).1.split_at(1).0,
            _ => kind,
        };
        format!("{kind}{}", self.dice.u8(..4)).into_bytes()
    }

    fn element(&mut self) -> Vec<u8> {
        match self.dice.u8(..40) {
            0 => Vec::new(),
            1 => vec![b'x'; self.dice.usize(60..300)],
            2 => vec![0, 255, b'\r', b'\n', self.dice.u8(..4)],
            3..=15 => self.dice.i32(-3..40).to_string().into_bytes(),
            16 => self.dice.i64(..).to_string().into_bytes(),
            _ => format!("m{}", self.dice.u8(..12)).into_bytes(),
        }
    }

    fn decimal(&mut self) -> Vec<u8> {
        let whole = self.dice.i32(-300..300);
        let fraction = self.dice.u32(..10_000);
        match self.dice.u8(..10) {
            0 => format!("{whole}e{}", self.dice.i32(-20..30)),
            1 => format!("{whole}.{fraction:04}{fraction:04}{fraction:04}"),
            2..6 => format!("{whole}.{fraction}"),
            _ => whole.to_string(),
        }
        .into_bytes()
    }

    /// Scores that print the same whichever way a double is printed.
    fn score(&mut self) -> String {
        match self.dice.u8(..20) {
            0 => "inf".to_owned(),
            1 => "-inf".to_owned(),
            2 => "1e20".to_owned(),
            3..9 => format!("{}", f64::from(self.dice.i16(-40..40)) / 4.0),
            _ => self.dice.i32(-9..10).to_string(),
        }
    }
}
