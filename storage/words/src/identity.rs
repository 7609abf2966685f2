//! Who: nodes, shards, zones, incarnations and boots.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use crate::position::number;

/// A text that is not forty hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ParseIdError;

impl fmt::Display for ParseIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id is 40 hexadecimal digits")
    }
}

impl core::error::Error for ParseIdError {}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; 20]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text.as_bytes()).map(Self)
            }
        }
    };
}

id! {
    /// A node's id: 160 random bits, printed as 40 hexadecimal digits, as Redis does.
    NodeId
}

id! {
    /// A shard's id: outlives any node of the shard.
    ShardId
}

id! {
    /// A cluster's id: drawn when a node founds it; a node belongs to exactly one.
    ClusterId
}

fn parse_hex(text: &[u8]) -> Result<[u8; 20], ParseIdError> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|d| d as u8).ok_or(ParseIdError);
    if text.len() != 40 {
        return Err(ParseIdError);
    }
    let mut bytes = [0; 20];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(bytes)
}

number! {
    /// Which start of a node this is; every start of a process on a data directory takes the next one.
    Incarnation
}

/// The machine a node runs on, as far as failures go (`cluster-zone`; by default the announced address).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Zone(pub String);

/// The kernel's boot id: as long as it is the same, the page cache that held written bytes has survived.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct BootId(pub [u8; 16]);

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn ids_print_and_parse_as_forty_digits() {
        let id = NodeId(core::array::from_fn(|i| (i * 13) as u8));
        assert_eq!(id.to_string().len(), 40);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("xyz".parse::<NodeId>(), Err(ParseIdError));
        assert_eq!("g".repeat(40).parse::<ShardId>(), Err(ParseIdError));
    }
}
