//! Whether policy accepts what was booted.

use crate::AttestError;
use alloy_primitives::hex;
use cryptlet_types::{
    Provider,
    policy::{EvidenceRule, ImageRule},
};

/// Rules whose reasons an error repeats.
const MAX_REASONS: usize = 4;

/// Checks that some rule for `provider` fits in all its registers. `show` gives the value of a register by its name, or says
/// why there is none.
///
/// # Errors
/// Names, for each rule, the first register that does not fit.
pub(crate) fn check<'a>(
    provider: Provider,
    rule: &EvidenceRule,
    show: impl Fn(&str) -> Result<&'a [u8], &'static str>,
) -> Result<(), AttestError> {
    let mut reasons = vec![];
    for (index, image) in rule.images.iter().enumerate() {
        if image.provider != provider {
            continue;
        }
        match mismatch(image, &show) {
            None => return Ok(()),
            Some(reason) => reasons.push(format!("images[{index}]: {reason}")),
        }
    }
    if reasons.is_empty() {
        return Err(AttestError::Refused(format!(
            "names no image for {}",
            provider.as_str()
        )));
    }
    reasons.truncate(MAX_REASONS);
    Err(AttestError::Refused(reasons.join("; ")))
}

/// The first register of `image` that does not fit.
fn mismatch<'a>(
    image: &ImageRule,
    show: &impl Fn(&str) -> Result<&'a [u8], &'static str>,
) -> Option<String> {
    let first = image.first()?;
    if !image.registers.contains_key(first) {
        return Some(format!("{first} is missing, which says what was booted"));
    }
    image
        .registers
        .iter()
        .find_map(|(name, wanted)| match show(name) {
            Ok(shown) if shown == wanted.as_ref() => None,
            Ok(shown) => Some(format!("{name} is 0x{}", hex::encode(shown))),
            Err(reason) => Some(format!("{name} {reason}")),
        })
}

/// The number in `pcrN`, if it is written without leading zeros and below `count`.
pub(crate) fn pcr(name: &str, count: u8) -> Option<u8> {
    let digits = name.strip_prefix("pcr")?;
    let number: u8 = digits.parse().ok()?;
    (number < count && number.to_string() == digits).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::Bytes;

    fn rule(registers: &[(&str, u8)]) -> EvidenceRule {
        EvidenceRule {
            images: vec![ImageRule {
                provider: Provider::Nitro,
                registers: registers
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), Bytes::from(vec![*value])))
                    .collect(),
            }],
            ..EvidenceRule::default()
        }
    }

    fn ask(rule: &EvidenceRule) -> Result<(), String> {
        check(Provider::Nitro, rule, |name| match pcr(name, 16) {
            Some(0) => Ok(&[7][..]),
            Some(1) => Ok(&[8]),
            Some(_) => Err("is not in it"),
            None => Err("is no register of it"),
        })
        .map_err(|error| error.to_string())
    }

    #[test]
    fn a_rule_fits_only_with_all_its_registers_and_the_error_names_the_first_that_does_not() {
        assert_eq!(ask(&rule(&[("pcr0", 7)])), Ok(()));
        assert_eq!(ask(&rule(&[("pcr0", 7), ("pcr1", 8)])), Ok(()));
        for (registers, said) in [
            (&[("pcr0", 7), ("pcr1", 9)][..], "pcr1 is 0x08"),
            (&[("pcr0", 7), ("pcr2", 0)], "pcr2 is not in it"),
            (&[("pcr0", 7), ("pcr00", 7)], "pcr00 is no register of it"),
            (&[("pcr0", 7), ("pcr16", 7)], "pcr16 is no register of it"),
            (&[("pcr0", 7), ("PCR1", 8)], "PCR1 is no register of it"),
            (&[("pcr1", 8)], "pcr0 is missing"),
            (&[], "pcr0 is missing"),
        ] {
            let error = ask(&rule(registers)).unwrap_err();
            assert!(error.contains(said), "{error} does not say {said}");
        }
    }

    #[test]
    fn one_of_several_images_is_enough_and_rules_for_others_are_none() {
        let mut both = rule(&[("pcr0", 9)]);
        both.images.extend(rule(&[("pcr0", 7)]).images);
        assert_eq!(ask(&both), Ok(()));
        let mut others = rule(&[("pcr0", 7)]);
        others.images[0].provider = Provider::Tpm;
        assert_eq!(
            ask(&others),
            Err("policy: names no image for nitro".to_owned())
        );
    }
}
