//! Whether a policy document was approved: k signatures of n administrators.
//!
//! An administrator signs the EIP-712 struct `Policy(address administrator,uint64 term,uint64 epoch,bytes32 digest)` in the
//! register's domain, where `administrator` is itself, `term` is that of its board and `digest` is the SHA-256 of the
//! document. These are the rules of `PolicyBoard.setPolicy`, for a reader without a
//! chain: approvals ascend by administrator, so that none counts twice; every approval is of a member; and those count
//! whose signature of 65 bytes (`r`, `s`, `v`) recovers to its administrator, with `s` in the lower half. Wallets that are
//! contracts (ERC-1271) sign in their own way, some of them with 65 bytes too. Only their chain can judge that, so that any
//! other signature counts for nothing here, and stands in the way of no approval that counts.
//!
//! That the epoch is not an old one is for whoever remembers epochs to say.

use crate::{SealError, recover, sha256};
use alloy_primitives::{Address, B256};
use cryptlet_types::{
    policy::{Approval, PolicyInForce, SignedPolicy},
    register::{Board, RegisterDomain},
    report::CompactSignature,
};

/// Checks the approvals of `signed` by `board` of the register at `domain`.
///
/// # Errors
/// [`SealError::Approval`] names the approval that is wrong, [`SealError::TooFewApprovals`] says how many count,
/// [`SealError::Document`] if the policy has no JSON form.
pub fn check_approvals(
    signed: &SignedPolicy,
    domain: &RegisterDomain,
    board: &Board,
) -> Result<PolicyInForce, SealError> {
    let digest = sha256(&signed.policy.to_json()?);
    let mut before = None;
    let mut count = 0;
    for (index, approval) in signed.approvals.iter().enumerate() {
        let refuse = |reason| SealError::Approval {
            index,
            administrator: approval.administrator,
            reason,
        };
        check_place(before, approval.administrator).map_err(refuse)?;
        if !board.members.contains(&approval.administrator) {
            return Err(refuse("is not an administrator of this register"));
        }
        let administrator = approval.administrator;
        let message = domain.policy_digest(administrator, board.term, signed.policy.epoch, digest);
        count += u64::from(counts(approval, message));
        before = Some(approval.administrator);
    }
    if board.threshold == 0 || count < board.threshold {
        return Err(SealError::TooFewApprovals {
            count,
            threshold: board.threshold,
        });
    }
    Ok(PolicyInForce {
        policy: signed.policy.clone(),
        digest,
    })
}

fn check_place(before: Option<Address>, administrator: Address) -> Result<(), &'static str> {
    match before {
        Some(before) if before == administrator => Err("approves twice"),
        Some(before) if before > administrator => {
            Err("stands after a higher address: approvals ascend by administrator")
        }
        _ => Ok(()),
    }
}

/// Whether an approval counts: its signature is an account's, over this message.
fn counts(approval: &Approval, message: B256) -> bool {
    CompactSignature::from_recoverable(&approval.signature)
        .and_then(|signature| recover(message, &signature).ok())
        .is_some_and(|found| found == approval.administrator)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SigningKey;
    use alloy_primitives::{Bytes, U256, uint};
    use cryptlet_types::Policy;

    const ORDER: U256 =
        uint!(0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141_U256);

    /// Of the board.
    const TERM: u64 = 3;

    fn domain() -> RegisterDomain {
        RegisterDomain {
            chain_id: 31_337,
            register: Address::repeat_byte(0x11),
        }
    }

    /// Three keys, ascending by address, and a board that takes two of them.
    fn board() -> (Vec<SigningKey>, Board) {
        let mut keys: Vec<_> = (1..=3)
            .map(|n| SigningKey::from_secret(&[n; 32]).unwrap())
            .collect();
        keys.sort_by_key(SigningKey::address);
        let members = keys.iter().map(SigningKey::address).collect();
        let board = Board {
            members,
            threshold: 2,
            term: TERM,
        };
        (keys, board)
    }

    fn sign(key: &SigningKey, message: B256) -> Approval {
        let signature = key.sign(message).unwrap();
        let mut bytes = [signature.r.0, signature.vs.0].concat();
        bytes.push(27 + (bytes[32] >> 7));
        bytes[32] &= 0x7f;
        Approval {
            administrator: key.address(),
            signature: bytes.into(),
        }
    }

    fn approve(policy: &Policy, domain: &RegisterDomain, key: &SigningKey) -> Approval {
        approve_in(TERM, policy, domain, key)
    }

    fn approve_in(
        term: u64,
        policy: &Policy,
        domain: &RegisterDomain,
        key: &SigningKey,
    ) -> Approval {
        let digest = sha256(&policy.to_json().unwrap());
        let message = domain.policy_digest(key.address(), term, policy.epoch, digest);
        sign(key, message)
    }

    fn signed(keys: &[&SigningKey]) -> SignedPolicy {
        let policy = Policy::closed(7);
        let approvals = keys
            .iter()
            .map(|key| approve(&policy, &domain(), key))
            .collect();
        SignedPolicy { policy, approvals }
    }

    fn refused(signed: &SignedPolicy, board: &Board, place: usize, words: &str) {
        match check_approvals(signed, &domain(), board).unwrap_err() {
            SealError::Approval {
                index,
                administrator,
                reason,
            } => {
                assert_eq!(index, place, "{reason}");
                assert_eq!(administrator, signed.approvals[place].administrator);
                assert!(reason.contains(words), "{reason} does not say {words}");
            }
            other => panic!("{other}"),
        }
    }

    fn too_few(signed: &SignedPolicy, board: &Board, count: u64) {
        let threshold = board.threshold;
        assert_eq!(
            check_approvals(signed, &domain(), board).unwrap_err(),
            SealError::TooFewApprovals { count, threshold }
        );
    }

    #[test]
    fn enough_administrators_put_a_policy_in_force() {
        let (keys, board) = board();
        for chosen in [
            vec![&keys[0], &keys[1]],
            vec![&keys[0], &keys[2]],
            vec![&keys[0], &keys[1], &keys[2]],
        ] {
            let signed = signed(&chosen);
            let in_force = check_approvals(&signed, &domain(), &board).unwrap();
            assert_eq!(in_force.policy, signed.policy);
            assert_eq!(in_force.digest, sha256(&signed.policy.to_json().unwrap()));
        }
    }

    #[test]
    fn too_few_are_refused_and_nobody_needs_nobody() {
        let (keys, board) = board();
        too_few(&signed(&[]), &board, 0);
        too_few(&signed(&[&keys[1]]), &board, 1);
        too_few(&signed(&[]), &Board::default(), 0);
        let open = Board {
            threshold: 0,
            ..board
        };
        too_few(&signed(&[&keys[0], &keys[1]]), &open, 2);
    }

    #[test]
    fn an_administrator_counts_once() {
        let (keys, board) = board();
        refused(&signed(&[&keys[0], &keys[0]]), &board, 1, "twice");
        let around = signed(&[&keys[0], &keys[1], &keys[0]]);
        refused(&around, &board, 2, "ascend");
    }

    #[test]
    fn the_order_is_the_chains() {
        let (keys, board) = board();
        refused(&signed(&[&keys[1], &keys[0]]), &board, 1, "ascend");
    }

    #[test]
    fn strangers_are_refused_even_beside_enough_others() {
        let (keys, board) = board();
        let stranger = SigningKey::from_secret(&[9; 32]).unwrap();
        let mut all = vec![&keys[0], &keys[1], &stranger];
        all.sort_by_key(|key| key.address());
        let place = all
            .iter()
            .position(|key| key.address() == stranger.address());
        refused(
            &signed(&all),
            &board,
            place.unwrap(),
            "not an administrator",
        );
    }

    #[test]
    fn approvals_of_something_else_count_for_nothing() {
        let (keys, board) = board();
        let good = signed(&[&keys[0], &keys[1]]);
        let mut altered = good.clone();
        altered.policy.retry.attempts += 1;
        too_few(&altered, &board, 0);
        let mut epoch = good.clone();
        epoch.policy.epoch += 1;
        too_few(&epoch, &board, 0);
        let elsewhere = [
            RegisterDomain {
                chain_id: 1,
                ..domain()
            },
            RegisterDomain {
                register: Address::ZERO,
                ..domain()
            },
        ];
        for domain in elsewhere {
            let mut foreign = good.clone();
            foreign.approvals[1] = approve(&good.policy, &domain, &keys[1]);
            too_few(&foreign, &board, 1);
        }
        let mut borrowed = good.clone();
        borrowed.approvals[1].signature = good.approvals[0].signature.clone();
        too_few(&borrowed, &board, 1);
        let mut raw = good;
        raw.approvals[1] = sign(&keys[1], B256::ZERO);
        too_few(&raw, &board, 1);
    }

    #[test]
    fn what_was_approved_under_another_term_counts_for_nothing() {
        let (keys, board) = board();
        let good = signed(&[&keys[0], &keys[1]]);
        check_approvals(&good, &domain(), &board).unwrap();
        for term in [TERM - 1, TERM + 1] {
            let mut other = good.clone();
            other.approvals[0] = approve_in(term, &good.policy, &domain(), &keys[0]);
            too_few(&other, &board, 1);
            let next = Board {
                term,
                ..board.clone()
            };
            too_few(&good, &next, 0);
        }
    }

    /// An account's signature in its own name is none in that of another member, such as a wallet that it owns.
    #[test]
    fn a_signature_is_one_administrators() {
        let (keys, mut board) = board();
        let wallet = Address::repeat_byte(0xff);
        board.members.push(wallet);
        let mut both = signed(&[&keys[0]]);
        both.approvals.push(Approval {
            administrator: wallet,
            signature: both.approvals[0].signature.clone(),
        });
        too_few(&both, &board, 1);
        let digest = sha256(&both.policy.to_json().unwrap());
        let theirs = domain().policy_digest(wallet, TERM, both.policy.epoch, digest);
        both.approvals[0] = sign(&keys[0], theirs);
        too_few(&both, &board, 0);
    }

    #[test]
    fn a_signature_has_one_form() {
        let (keys, board) = board();
        let good = signed(&[&keys[0], &keys[1]]);
        let with = |alter: &dyn Fn(&mut Vec<u8>)| {
            let mut signed = good.clone();
            let mut bytes = signed.approvals[1].signature.to_vec();
            alter(&mut bytes);
            signed.approvals[1].signature = bytes.into();
            signed
        };
        too_few(&with(&|bytes| bytes[64] -= 27), &board, 1);
        too_few(&with(&|bytes| bytes[64] += 4), &board, 1);
        let high = with(&|bytes| {
            let s = ORDER - U256::from_be_slice(&bytes[32..64]);
            bytes[32..64].copy_from_slice(&s.to_be_bytes::<32>());
            bytes[64] = 27 + 28 - bytes[64];
        });
        too_few(&high, &board, 1);
        too_few(&with(&|bytes| bytes[..64].fill(0)), &board, 1);
        too_few(&with(&|bytes| bytes[..64].fill(0xff)), &board, 1);
    }

    #[test]
    fn signatures_of_wallets_count_for_nothing_here() {
        let (keys, board) = board();
        let mut signed = signed(&[&keys[0], &keys[1]]);
        let good = signed.approvals[1].signature.clone();
        for length in [0, 1, 64, 65, 66, 4096] {
            let mut bytes = good.to_vec();
            bytes.resize(length, 0);
            bytes.iter_mut().take(32).for_each(|byte| *byte ^= 0x55);
            signed.approvals[1].signature = Bytes::from(bytes);
            too_few(&signed, &board, 1);
        }
        signed
            .approvals
            .push(approve(&signed.policy, &domain(), &keys[2]));
        check_approvals(&signed, &domain(), &board).unwrap();
    }
}
