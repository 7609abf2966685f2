//! Moments: as the log has them, milliseconds since 1970; as people read and write them, always in UTC unless they say
//! otherwise. Proleptic Gregorian calendar.

use std::time::{SystemTime, UNIX_EPOCH};

const DAY_MS: u64 = 86_400_000;
/// Days of 400 years.
const ERA_DAYS: u64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH_DAYS: u64 = 719_468;
/// Digits from which a bare number is milliseconds since 1970 and no year.
const MS_DIGITS_MIN: usize = 9;

/// Milliseconds since 1970 as `2026-11-23T20:00:00.000Z`.
pub(crate) fn utc(ms: u64) -> String {
    let (days, in_day) = (ms / DAY_MS, ms % DAY_MS);
    // Days since 0000-03-01, so that the leap day ends a year.
    let shifted = days + EPOCH_DAYS;
    let (era, day_of_era) = (shifted / ERA_DAYS, shifted % ERA_DAYS);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hours, minutes) = (in_day / 3_600_000, in_day / 60_000 % 60);
    let (seconds, millis) = (in_day / 1000 % 60, in_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{millis:03}Z")
}

/// A moment on the command line: `2026-11-23`, `2026-11-23T22:00`, `2026-11-23T22:00:00.5Z`, `…+01:00`, milliseconds since
/// 1970, or `-10m` before now.
///
/// # Errors
/// What is expected instead.
pub(super) fn parse(text: &str) -> Result<u64, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| "the clock stands before 1970")?;
    parse_at(text, now.as_millis() as u64)
}

fn parse_at(text: &str, now_ms: u64) -> Result<u64, String> {
    let text = text.trim();
    let found = if let Some(ago) = text.strip_prefix('-') {
        milliseconds(ago).map(|ago_ms| now_ms.saturating_sub(ago_ms))
    } else if text.len() >= MS_DIGITS_MIN && text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().ok()
    } else {
        date_and_time(text)
    };
    found.ok_or_else(|| {
        format!(
            "'{text}' is no moment: 2026-11-23, 2026-11-23T22:00:00 (UTC, or with +01:00), milliseconds since 1970, or \
             -90s, -10m, -2h, -1d before now are"
        )
    })
}

/// `10m`, `2h`.
fn milliseconds(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit_ms = match &text[digits..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => DAY_MS,
        _ => return None,
    };
    text[..digits].parse::<u64>().ok()?.checked_mul(unit_ms)
}

fn date_and_time(text: &str) -> Option<u64> {
    let (date, time) = match text.split_once(['T', 't', ' ']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut parts = date.splitn(3, '-');
    let (year, month, day) =
        (number(parts.next()?, 4)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let midnight_ms = days_since_1970(year, month, day)? * DAY_MS;
    let Some(time) = time else { return Some(midnight_ms) };
    let (time, east_ms) = without_zone(time)?;
    let local_ms = midnight_ms + in_day_ms(time)?;
    local_ms.checked_add_signed(-east_ms)
}

/// The number, when it has just so many digits.
fn number(text: &str, digits: usize) -> Option<u64> {
    (text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let last = match month {
        2 => 28 + u64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=last).contains(&day) {
        return None;
    }
    // Years that begin in March.
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let year_of_era = year % 400;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (year / 400 * ERA_DAYS + day_of_era).checked_sub(EPOCH_DAYS)
}

/// The time without `Z` or `+01:00`, and how far east that is.
fn without_zone(time: &str) -> Option<(&str, i64)> {
    if let Some(time) = time.strip_suffix(['Z', 'z']) {
        return Some((time, 0));
    }
    let Some(at) = time.find(['+', '-']) else { return Some((time, 0)) };
    let (hours, minutes) = time[at + 1..].split_once(':')?;
    let (hours, minutes) = (number(hours, 2)?, number(minutes, 2)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let east_ms = ((hours * 60 + minutes) * 60_000) as i64;
    Some((&time[..at], if time.as_bytes()[at] == b'-' { -east_ms } else { east_ms }))
}

/// `22:00`, `22:00:05`, `22:00:05.25`.
fn in_day_ms(time: &str) -> Option<u64> {
    let mut parts = time.splitn(3, ':');
    let (hours, minutes) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let (seconds, fraction) = match parts.next() {
        Some(seconds) => seconds.split_once('.').unwrap_or((seconds, "0")),
        None => ("00", "0"),
    };
    let seconds = number(seconds, 2)?;
    if hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    let padded = format!("{fraction:0<3}");
    let millis = number(padded.get(..3)?, 3)?;
    fraction.bytes().all(|byte| byte.is_ascii_digit()).then_some(())?;
    Some(((hours * 60 + minutes) * 60 + seconds) * 1000 + millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_printed_in_utc() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(951_782_400_123), "2000-02-29T00:00:00.123Z");
        assert_eq!(utc(1_700_000_000_000), "2023-11-14T22:13:20.000Z");
    }

    #[test]
    fn what_is_printed_is_read_back() {
        // Every 11th hour of 140 years.
        for ms in (0..140 * 365 * DAY_MS).step_by(11 * 3_600_000 + 1) {
            assert_eq!(parse_at(&utc(ms), 0), Ok(ms), "{}", utc(ms));
        }
    }

    #[test]
    fn moments_are_written_in_many_ways() {
        const MOMENT_MS: u64 = 1_700_000_000_000;
        for (text, ms) in [
            ("2023-11-14", 1_699_920_000_000),
            ("2023-11-14T22:13:20", MOMENT_MS),
            ("2023-11-14 22:13:20", MOMENT_MS),
            ("2023-11-14T22:13:20Z", MOMENT_MS),
            ("2023-11-14T23:13:20+01:00", MOMENT_MS),
            ("2023-11-14T16:43:20-05:30", MOMENT_MS),
            ("2023-11-14T22:13:20.5", MOMENT_MS + 500),
            ("2023-11-14T22:13:20.123456789Z", MOMENT_MS + 123),
            ("2023-11-14T22:13", MOMENT_MS - 20_000),
            ("1700000000000", MOMENT_MS),
            ("-10m", 10_000_000 - 600_000),
            ("-90s", 10_000_000 - 90_000),
            ("-1h", 10_000_000 - 3_600_000),
            ("-250ms", 10_000_000 - 250),
            ("-7d", 0),
        ] {
            assert_eq!(parse_at(text, 10_000_000), Ok(ms), "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_is_refused_with_examples() {
        for text in [
            "",
            "-",
            "-10",
            "-m",
            "10m",
            "2023",
            "2023-13-01",
            "2023-02-29",
            "2023-11-31",
            "2023-1-1",
            "23-01-01",
            "2023-11-14T",
            "2023-11-14T25:00",
            "2023-11-14T22:60",
            "2023-11-14T22:13:60",
            "2023-11-14T22:13:20.x",
            "2023-11-14T22:13:20+1",
            "1960-01-01",
            "yesterday",
            "-99999999999999999999d",
            "2023-11-14T22:13:20.é",
        ] {
            let refusal = parse_at(text, 10_000_000).expect_err(text);
            assert!(refusal.contains("is no moment") && refusal.contains("-10m"), "{refusal}");
        }
    }
}
