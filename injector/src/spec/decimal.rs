//! Decimal numbers, read exactly and without floating point.

use crate::spec::text::is_digits;

/// Why a decimal number could not be scaled.
pub(super) enum DecimalError {
    /// It is no decimal number.
    NotANumber,
    /// The result does not fit in 64 bits.
    TooLong,
    /// The result is not whole.
    TooFine,
}

/// `number × unit`, if that is whole.
///
/// # Errors
///
/// As [`DecimalError`] has them.
pub(super) fn times(number: &str, unit: u64) -> Result<u64, DecimalError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if !is_digits(whole) || !is_digits(fraction) {
        return Err(DecimalError::NotANumber);
    }
    let whole: u64 = whole.parse().map_err(|_| DecimalError::TooLong)?;
    let whole = whole.checked_mul(unit).ok_or(DecimalError::TooLong)?;
    // No unit reaches further: an hour is 3.6e12 ns, a gibibit 2^30 bits.
    const MAX_DECIMALS: usize = 15;
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > MAX_DECIMALS {
        return Err(DecimalError::TooFine);
    }
    let (mut numerator, mut denominator) = (0, 1);
    for digit in fraction.bytes() {
        numerator = numerator * 10 + u128::from(digit - b'0');
        denominator *= 10;
    }
    let product = numerator * u128::from(unit);
    if product % denominator != 0 {
        return Err(DecimalError::TooFine);
    }
    let part = u64::try_from(product / denominator).map_err(|_| DecimalError::TooLong)?;
    whole.checked_add(part).ok_or(DecimalError::TooLong)
}
