//! Dice and ids.

/// Fills `bytes` with random bits from the operating system.
///
/// # Panics
/// When the operating system has none to give, which Linux does not do after boot.
pub fn fill(bytes: &mut [u8]) {
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("the operating system gives no random bits: {error}"),
        }
    }
}

/// 160 random bits: an id.
pub fn id() -> [u8; 20] {
    let mut bytes = [0; 20];
    fill(&mut bytes);
    bytes
}

/// 64 random bits.
pub fn number() -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_le_bytes(bytes)
}
