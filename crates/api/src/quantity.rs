//! Quantities: fixed-point numbers with decimal or binary suffixes, exact to
//! 10⁻⁹, following `k8s.io/apimachinery/pkg/api/resource`.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::str::FromStr;

const NANO: i128 = 1_000_000_000;
/// Larger numbers are cut off, as upstream does at 2⁶³-1 units.
const MAX: i128 = (i64::MAX as i128) * NANO;

/// How a quantity is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `k`, `M`, `G` ..., and `m`, `u`, `n`.
    #[default]
    DecimalSi,
    /// `Ki`, `Mi`, `Gi` ...
    BinarySi,
    /// `e3`, `e6` ...
    DecimalExponent,
}

/// An amount of a resource.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// A text that is not a quantity; the message is upstream's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not `<signedNumber><suffix>`.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// No such suffix.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self { nanos: 0, format: Format::DecimalSi };

    /// Whole units: cores, bytes, pods.
    #[must_use]
    pub const fn from_units(units: i64) -> Self {
        Self { nanos: units as i128 * NANO, format: Format::DecimalSi }
    }

    /// Thousandths: millicores.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self { nanos: millis as i128 * (NANO / 1000), format: Format::DecimalSi }
    }

    /// Bytes, written with binary suffixes.
    #[must_use]
    pub const fn from_bytes(bytes: i64) -> Self {
        Self { nanos: bytes as i128 * NANO, format: Format::BinarySi }
    }

    /// The amount in whole units, rounded up.
    #[must_use]
    pub fn units(self) -> i64 {
        clamp(div_up(self.nanos, NANO))
    }

    /// The amount in thousandths, rounded up.
    #[must_use]
    pub fn millis(self) -> i64 {
        clamp(div_up(self.nanos, NANO / 1000))
    }

    /// The amount as a float, for ratios only.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio needs no more than 53 bits")]
    pub fn to_f64(self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    /// Whether it is nothing.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Whether it is below nothing.
    #[must_use]
    pub const fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Whether it is a whole number of units.
    #[must_use]
    pub const fn is_whole(self) -> bool {
        self.nanos % NANO == 0
    }

    /// How it is written.
    #[must_use]
    pub const fn format(self) -> Format {
        self.format
    }

    /// The canonical text of a quantity, for storing.
    ///
    /// # Errors
    /// A text that is not a quantity.
    pub fn canonical(text: &str) -> Result<String, QuantityError> {
        Ok(text.parse::<Self>()?.to_string())
    }
}

fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

/// Division that rounds away from zero, as upstream rounds quantities.
fn div_up(value: i128, by: i128) -> i128 {
    let quotient = value / by;
    match value % by {
        0 => quotient,
        rest => quotient + rest.signum(),
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            Some(_) => (false, text),
            None => return Err(QuantityError::Format),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return Err(QuantityError::Format);
        }
        let (format, exponent) = read_suffix(suffix)?;
        let nanos = match exponent {
            Scale::Ten(power) => scale_ten(whole, fraction, power),
            Scale::Two(power) => scale_two(whole, fraction, power),
        };
        let nanos = nanos.min(MAX);
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format })
    }
}

enum Scale {
    Ten(i32),
    Two(u32),
}

fn read_suffix(suffix: &str) -> Result<(Format, Scale), QuantityError> {
    if let Some((_, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Ok((Format::DecimalSi, Scale::Ten(*power)));
    }
    if let Some((_, power)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Ok((Format::BinarySi, Scale::Two(*power)));
    }
    if let Some(exponent) = suffix.strip_prefix(['e', 'E']) {
        let power: i32 = exponent.parse().map_err(|_| QuantityError::Suffix)?;
        return Ok((Format::DecimalExponent, Scale::Ten(power)));
    }
    let known = |c: char| "eEinumkKMGTP+-".contains(c) || c.is_ascii_digit();
    Err(if suffix.chars().all(known) { QuantityError::Suffix } else { QuantityError::Format })
}

/// `whole.fraction × 10^power` in nanos, rounded up.
fn scale_ten(whole: &str, fraction: &str, power: i32) -> i128 {
    let mut value: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        value = value.saturating_mul(10).saturating_add(i128::from(digit - b'0'));
    }
    let digits = i32::try_from(fraction.len()).unwrap_or(i32::MAX);
    let shift = power.saturating_add(9).saturating_sub(digits);
    if value == 0 {
        return 0;
    }
    match u32::try_from(shift) {
        Ok(up) => 10i128.checked_pow(up).map_or(MAX, |factor| value.saturating_mul(factor)),
        Err(_) => 10i128.checked_pow(shift.unsigned_abs()).map_or(1, |divisor| div_up(value, divisor)),
    }
}

/// `whole.fraction × 2^power` in nanos, rounded up.
fn scale_two(whole: &str, fraction: &str, power: u32) -> i128 {
    // Twelve digits of fraction are far below one nano of the largest suffix.
    let kept = &fraction[..fraction.len().min(12)];
    let value = scale_ten(whole, kept, 0);
    value.saturating_mul(1i128 << power)
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let sign = if self.nanos < 0 { "-" } else { "" };
        let magnitude = self.nanos.unsigned_abs();
        let nano = NANO.unsigned_abs();
        if self.format == Format::BinarySi && magnitude >= 1024 * nano && magnitude.is_multiple_of(nano) {
            let mut value = magnitude / nano;
            let mut suffix = "";
            for (name, _) in BINARY {
                if !value.is_multiple_of(1024) {
                    break;
                }
                value /= 1024;
                suffix = name;
            }
            return write!(f, "{sign}{value}{suffix}");
        }
        let mut value = magnitude;
        let mut steps = 0usize;
        while value.is_multiple_of(1000) && steps + 1 < DECIMAL.len() {
            value /= 1000;
            steps += 1;
        }
        let (suffix, power) = DECIMAL[steps];
        if self.format == Format::DecimalExponent && power != 0 {
            write!(f, "{sign}{value}e{power}")
        } else {
            write!(f, "{sign}{value}{suffix}")
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Add for Quantity {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_add(other.nanos), format }
    }
}

impl Sub for Quantity {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_sub(other.nanos), format }
    }
}

impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl From<Quantity> for k8s_openapi::apimachinery::pkg::api::resource::Quantity {
    fn from(quantity: Quantity) -> Self {
        Self(quantity.to_string())
    }
}

impl TryFrom<&k8s_openapi::apimachinery::pkg::api::resource::Quantity> for Quantity {
    type Error = QuantityError;
    fn try_from(
        text: &k8s_openapi::apimachinery::pkg::api::resource::Quantity,
    ) -> Result<Self, QuantityError> {
        text.0.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_texts() {
        let table = [
            ("0", "0"),
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1.5Gi", "1536Mi"),
            ("1024Ki", "1Mi"),
            ("1000Ki", "1000Ki"),
            ("100", "100"),
            ("1000", "1k"),
            ("1500", "1500"),
            ("0.1n", "1n"),
            ("1e3", "1e3"),
            ("12e6", "12e6"),
            ("-100m", "-100m"),
            ("+5", "5"),
            (".5", "500m"),
            ("5.", "5"),
            ("1E", "1E"),
            ("512", "512"),
            ("0.5Mi", "512Ki"),
            ("100u", "100u"),
            ("1023", "1023"),
            ("0.5Ki", "512"),
        ];
        for (text, canonical) in table {
            assert_eq!(Quantity::canonical(text).as_deref(), Ok(canonical), "{text}");
        }
    }

    #[test]
    fn bad_texts() {
        for text in ["", "a", "1 ", " 1", "1..2", "1x", "--1", "1Kib", "1e", "."] {
            assert!(text.parse::<Quantity>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn rounding_is_away_from_zero() {
        let quantity: Quantity = "1500u".parse().expect("valid");
        assert_eq!((quantity.millis(), quantity.units()), (2, 1));
        assert_eq!("1Gi".parse::<Quantity>().expect("valid").units(), 1 << 30);
    }

    proptest::proptest! {
        #[test]
        fn text_round_trip(nanos in -MAX..MAX, binary: bool) {
            let format = if binary { Format::BinarySi } else { Format::DecimalSi };
            let quantity = Quantity { nanos, format };
            proptest::prop_assert_eq!(quantity.to_string().parse::<Quantity>(), Ok(quantity));
        }
    }
}
