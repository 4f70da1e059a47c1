use super::*;
use alloy_primitives::{Address, B256};
use proptest::prelude::*;

const STATE: &[u8] = b"what was promised, and to whom";

fn cryptlet(n: u8) -> CryptletId {
    CryptletId(Address::repeat_byte(n))
}

fn measured(n: u8) -> Measurement {
    Measurement(B256::repeat_byte(n))
}

fn seal() -> Seal {
    Seal::new(cryptlet(1), Zeroizing::new([7; 32]))
}

/// A seal after so many images, with the images.
fn after(count: usize) -> (Seal, Vec<Vec<u8>>) {
    let (mut seal, mut images) = (seal(), vec![]);
    for _ in 0..count {
        let image = seal.close(measured(1), STATE).unwrap();
        seal = seal.succeeded_by(measured(1), &image).unwrap();
        images.push(image);
    }
    (seal, images)
}

fn refused(seal: &Seal, image: &[u8]) -> SealedError {
    seal.open(measured(1), Some(image)).unwrap_err()
}

/// The image with other words in the clear.
fn forged(image: &[u8], change: impl FnOnce(&mut Image)) -> Vec<u8> {
    let mut image = Image::parse(image).unwrap();
    change(&mut image);
    encode(&image).unwrap()
}

#[test]
fn the_last_image_opens_and_hides_what_it_holds() {
    let (seal, images) = after(2);
    let image = images.last().unwrap();
    let opened = seal.open(measured(1), Some(image)).unwrap().unwrap();
    assert_eq!(opened.as_slice(), STATE);
    assert!(!image.windows(8).any(|part| part == &STATE[..8]));
    let again = seal.close(measured(1), STATE).unwrap();
    assert_ne!(&again, image, "the nonce is fresh");
}

#[test]
fn before_the_first_image_none_is_needed_and_after_it_one_is() {
    assert!(seal().open(measured(1), None).unwrap().is_none());
    let (seal, _) = after(3);
    let missing = seal.open(measured(1), None).unwrap_err();
    assert_eq!(missing, SealedError::Missing(3));
}

#[test]
fn an_older_image_is_rolled_back_and_a_newer_one_is_ahead() {
    let (seal, images) = after(3);
    for (n, image) in images.iter().take(2).enumerate() {
        let found = u64::try_from(n).unwrap() + 1;
        let rolled = SealedError::RolledBack { last: 3, found };
        assert_eq!(refused(&seal, image), rolled);
        let succeeded = seal.succeeded_by(measured(1), image).unwrap_err();
        assert_eq!(succeeded, rolled);
    }
    let again = seal.succeeded_by(measured(1), &images[2]).unwrap_err();
    let rolled = SealedError::RolledBack { last: 3, found: 3 };
    assert_eq!(again, rolled, "the last one does not follow itself");
    let (earlier, _) = after(1);
    let ahead = SealedError::Ahead { last: 1, found: 3 };
    assert_eq!(refused(&earlier, &images[2]), ahead);
    let succeeded = earlier.succeeded_by(measured(1), &images[2]).unwrap_err();
    assert_eq!(succeeded, ahead, "one between is missing");
}

#[test]
fn of_two_images_of_one_counter_the_one_that_the_vault_took_opens() {
    let seal = seal();
    let taken = seal.close(measured(1), b"taken").unwrap();
    let other = seal.close(measured(1), b"other").unwrap();
    let seal = seal.succeeded_by(measured(1), &taken).unwrap();
    assert!(seal.open(measured(1), Some(&taken)).is_ok());
    assert_eq!(refused(&seal, &other), SealedError::Replaced(1));
}

#[test]
fn images_of_others_are_refused_by_name() {
    let (seal, images) = after(1);
    let image = &images[0];
    let other = seal.open(measured(2), Some(image)).unwrap_err();
    assert!(matches!(other, SealedError::OtherMeasurement { .. }));
    let stranger = Seal {
        cryptlet: cryptlet(2),
        ..seal.clone()
    };
    let other = refused(&stranger, image);
    assert!(matches!(other, SealedError::OtherCryptlet { .. }));
    let reset = Seal {
        key: Zeroizing::new([8; 32]),
        ..seal
    };
    assert_eq!(refused(&reset, image), SealedError::Altered);
}

#[test]
fn forged_words_in_the_clear_are_altered() {
    let (seal, images) = after(2);
    let rolled_forward = forged(&images[0], |image| image.counter = 2);
    assert_eq!(refused(&seal, &rolled_forward), SealedError::Altered);
    let taken = seal.succeeded_by(measured(1), &forged(&images[1], |image| image.counter = 3));
    assert_eq!(taken.unwrap_err(), SealedError::Altered);
    let stranger = Seal {
        cryptlet: cryptlet(2),
        ..seal.clone()
    };
    let renamed = forged(&images[1], |image| image.cryptlet = cryptlet(2));
    assert_eq!(refused(&stranger, &renamed), SealedError::Altered);
    let moved = forged(&images[1], |image| image.measurement = measured(2));
    let moved = seal.open(measured(2), Some(&moved)).unwrap_err();
    assert_eq!(moved, SealedError::Altered);
    let newer = forged(&images[1], |image| image.version = 2);
    assert_eq!(refused(&seal, &newer), SealedError::OtherVersion(2));
}

#[test]
fn images_are_bounded() {
    let huge = vec![0; MAX_SEALED_BYTES + 1];
    let long = SealedError::TooLong(huge.len());
    assert_eq!(refused(&seal(), &huge), long);
    let closed = seal().close(measured(1), &huge);
    assert!(matches!(closed, Err(SealedError::TooLong(_))));
    let last = Seal {
        counter: u64::MAX,
        ..seal()
    };
    let closed = last.close(measured(1), STATE).unwrap_err();
    assert_eq!(closed, SealedError::Exhausted);
}

#[test]
fn no_secret_shows() {
    let release = Release {
        key: Zeroizing::new([0x55; 32]),
        seal: Some(seal()),
    };
    assert_eq!(
        format!("{release:?}"),
        format!(
            "Release {{ seal: Some(Seal {{ cryptlet: {:?}, counter: 0, .. }}), .. }}",
            cryptlet(1)
        )
    );
}

#[test]
fn a_release_is_read_as_it_was_written_and_no_other_length_is() {
    let (seal, _) = after(2);
    for seal in [None, Some(seal)] {
        let key = Zeroizing::new([3; 32]);
        let bytes = Release { key, seal }.to_bytes();
        let read = Release::from_bytes(&bytes).unwrap();
        assert_eq!(read.to_bytes(), bytes);
    }
    for length in (0..=200).filter(|length| ![32, 124].contains(length)) {
        assert!(Release::from_bytes(&vec![1; length]).is_err(), "{length}");
    }
}

/// Made by another program (PyNaCl and cbor2) from the description of the format.
#[test]
fn an_image_that_another_program_made_opens() {
    let image = alloy_primitives::hex!(
        "a66776657273696f6e016863727970746c657454111111111111111111111111"
        "11111111111111116b6d6561737572656d656e74582022222222222222222222"
        "2222222222222222222222222222222222222222222267636f756e7465720765"
        "6e6f6e636558186465666768696a6b6c6d6e6f707172737475767778797a7b6a"
        "63697068657274657874550f0798c49a269002c51a61b26bcd888284e30afaa8"
    );
    let digest =
        alloy_primitives::b256!("4addb541f556bee5f9627e8bf36dbed92786ad5445875bc23cc222b47a262d30");
    let seal = Seal {
        cryptlet: cryptlet(0x11),
        key: Zeroizing::new(std::array::from_fn(|n| u8::try_from(n).unwrap())),
        counter: 7,
        image: Sha256Digest(digest),
    };
    let state = seal.open(measured(0x22), Some(&image)).unwrap();
    assert_eq!(state.unwrap().as_slice(), b"state");
}

proptest! {
    #[test]
    fn a_flipped_bit_anywhere_is_refused(place in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let (seal, images) = after(2);
        let mut image = images[1].clone();
        let place = place.index(image.len());
        image[place] ^= 1 << bit;
        prop_assert!(seal.open(measured(1), Some(&image)).is_err(), "byte {place}, bit {bit}");
        let (earlier, _) = after(1);
        prop_assert!(earlier.succeeded_by(measured(1), &image).is_err(), "byte {place}, bit {bit}");
    }

    #[test]
    fn a_cut_or_longer_image_is_refused(cut in any::<prop::sample::Index>(), more in proptest::collection::vec(any::<u8>(), 1..50)) {
        let (seal, images) = after(1);
        let image = &images[0];
        let short = &image[..cut.index(image.len())];
        prop_assert!(seal.open(measured(1), Some(short)).is_err());
        let long = [image.as_slice(), &more].concat();
        prop_assert!(seal.open(measured(1), Some(&long)).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        prop_assert!(Image::parse(&bytes).is_err());
        prop_assert!(seal().open(measured(1), Some(&bytes)).is_err());
    }

    #[test]
    fn cbor_of_any_shape_is_refused_or_read_as_it_is(
        version in 0_u8..3,
        counter: u64,
        nonce: [u8; 24],
        ciphertext in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let image = Image {
            version,
            cryptlet: cryptlet(1),
            measurement: measured(1),
            counter,
            nonce: nonce.into(),
            ciphertext: ciphertext.into(),
        };
        let bytes = encode(&image).unwrap();
        prop_assert_eq!(Image::parse(&bytes).is_ok(), version == 1);
        prop_assert!(seal().open(measured(1), Some(&bytes)).is_err());
    }
}
