//! Names that people may rely on.
//!
//! The register's contract refuses bad names and look-alikes. A contract that does not is hostile, and this host does
//! not spread what it says: such a cryptlet is known by its id only.

use alloy_primitives::Address;
use cryptlet_types::{CryptletId, manifest::check_name};

/// What is wrong with a cryptlet's name, whoever else has one.
pub(super) fn flaw(cryptlet: CryptletId, publisher: Address, name: &str) -> Option<String> {
    if let Err(error) = check_name(name) {
        return Some(error.to_string());
    }
    (CryptletId::derive(publisher, name) != cryptlet)
        .then(|| "name: the cryptlet's id is not the one of this publisher and name".into())
}

/// The same for two names that a reader may take for one another, as `CryptletText.skeleton` spells it: hyphens are
/// dropped, `0` is `o`, `1` and `i` are `l`, `m` is `rn`, `w` is `vv`, `d` is `cl`.
pub(super) fn skeleton(name: &str) -> String {
    let mut letters = String::with_capacity(2 * name.len());
    for c in name.chars() {
        match c {
            '-' => {}
            'm' => letters.push_str("rn"),
            'w' => letters.push_str("vv"),
            'd' => letters.push_str("cl"),
            '0' => letters.push('o'),
            '1' | 'i' => letters.push('l'),
            c => letters.push(c),
        }
    }
    letters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_alikes_have_one_skeleton() {
        for (one, other) in [
            ("gold-price", "goldprice"),
            ("gold", "g0ld"),
            ("gold", "go1d"),
            ("price", "prlce"),
            ("modern", "rnodern"),
            ("wave", "vvave"),
            ("vvv", "wv"),
            ("index", "inclex"),
            ("gold", "g0-1c1"),
            ("dcl", "cld"),
        ] {
            assert_eq!(skeleton(one), skeleton(other), "{one} and {other}");
        }
        for (one, other) in [
            ("gold", "bold"),
            ("gold", "goci"),
            ("rates5", "ratess"),
            ("price2", "pricez"),
            ("index8", "indexb"),
            ("fund9", "fundg"),
            ("oracl3", "oracle"),
        ] {
            assert_ne!(skeleton(one), skeleton(other), "{one} and {other}");
        }
    }

    #[test]
    fn a_name_fits_its_id_and_the_rules() {
        let publisher = Address::repeat_byte(1);
        let id = CryptletId::derive(publisher, "gold");
        assert_eq!(flaw(id, publisher, "gold"), None);
        assert!(flaw(id, publisher, "silver").unwrap().contains("id is not"));
        assert!(
            flaw(id, Address::ZERO, "gold")
                .unwrap()
                .contains("id is not")
        );
        let cyrillic = "g\u{43e}ld";
        let id = CryptletId::derive(publisher, cyrillic);
        assert!(flaw(id, publisher, cyrillic).unwrap().contains("a-z"));
    }
}
