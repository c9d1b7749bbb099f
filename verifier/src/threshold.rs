//! How many signatures are enough: the one place where they are counted. Keys are counted, not signatures.

use std::collections::BTreeSet;

use crate::dsse::Envelope;
use crate::refusal::Refusal;
use crate::time::Time;
use crate::trust::{KeyId, RoleName, Trust};

/// The keys that vouch for an envelope, or why they do not suffice.
///
/// Every signature must be good: by a key of the role that counts at `now`, and no key twice.
pub(crate) fn count(
    path: &str,
    envelope: &Envelope,
    role: RoleName,
    trust: &Trust,
    now: Time,
) -> Result<BTreeSet<KeyId>, Vec<Refusal>> {
    let pae = envelope.pae();
    let rules = trust.roles().get(role);
    let mut seen = BTreeSet::new();
    let mut good = BTreeSet::new();
    let mut refusals = Vec::new();
    for signature in &envelope.signatures {
        let (path, key) = (path.to_owned(), signature.keyid.to_string());
        let role = role.to_string();
        let rule = rules.keys.iter().find(|rule| rule.id == signature.keyid);
        let verifies = || trust.key(signature.keyid).is_some_and(|key| key.verifies(&pae, &signature.sig));
        let refusal = match rule {
            _ if !seen.insert(signature.keyid) => Refusal::KeySignedTwice { path, key },
            None => Refusal::SignerUnknown { path, role, key },
            Some(rule) if rule.revoked => Refusal::KeyRevoked { path, role, key },
            Some(rule) if now < rule.from || now > rule.until => Refusal::KeyOutsideValidity { path, role, key },
            Some(_) if !verifies() => Refusal::SignatureInvalid { path, key },
            Some(_) => {
                good.insert(signature.keyid);
                continue;
            }
        };
        refusals.push(refusal);
    }
    // One builder answers for a statement; several would let readers choose.
    if role == RoleName::Build && envelope.signatures.len() > 1 {
        refusals.push(Refusal::TooManySignatures { path: path.to_owned(), count: envelope.signatures.len() });
    }
    if refusals.is_empty() && good.len() < rules.threshold {
        let (count, threshold) = (good.len(), rules.threshold);
        refusals.push(Refusal::TooFewSignatures { path: path.to_owned(), role: role.to_string(), count, threshold });
    }
    if refusals.is_empty() { Ok(good) } else { Err(refusals) }
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::signature::Signer;
    use p256::ecdsa::{DerSignature, SigningKey};
    use p256::pkcs8::EncodePublicKey;

    use super::*;
    use crate::trust::{PublicKey, Role, RoleKey, Roles, RolesFile, SCHEMA};

    fn secret(seed: u8) -> SigningKey {
        SigningKey::from_slice(&[seed; 32]).unwrap()
    }

    fn public(seed: u8) -> PublicKey {
        PublicKey::from_der(secret(seed).verifying_key().to_public_key_der().unwrap().as_bytes()).unwrap()
    }

    fn trust() -> Trust {
        let key = |seed, revoked, until: &str| RoleKey {
            id: public(seed).id(),
            from: "2026-01-01T00:00:00Z".parse().unwrap(),
            until: until.parse().unwrap(),
            revoked,
        };
        let late = "2028-01-01T00:00:00Z";
        let release =
            vec![key(1, false, late), key(2, false, late), key(3, true, late), key(4, false, "2026-02-01T00:00:00Z")];
        let roles = Roles {
            build: Role { threshold: 1, keys: vec![key(5, false, late), key(1, false, late)] },
            release: Role { threshold: 2, keys: release },
        };
        Trust::new(RolesFile { schema: SCHEMA, roles }, (1..=5).map(public), vec![]).unwrap()
    }

    fn judge(role: RoleName, signers: &[(u8, &[u8])]) -> Vec<&'static str> {
        let mut envelope = Envelope::unsigned("text/plain", b"payload".to_vec());
        for (seed, message) in signers {
            let sig: DerSignature =
                secret(*seed).sign(if message.is_empty() { envelope.pae() } else { message.to_vec() }.as_slice());
            envelope.add_signature(public(*seed).id(), sig.as_bytes().to_vec());
        }
        let now = "2026-11-22T00:00:00Z".parse().unwrap();
        match count("release.json", &envelope, role, &trust(), now) {
            Ok(keys) => vec!["good"; keys.len()],
            Err(refusals) => refusals.iter().map(Refusal::name).collect(),
        }
    }

    #[test]
    fn keys_are_counted_and_every_signature_must_be_good() {
        let release = |signers: &[(u8, &[u8])]| judge(RoleName::Release, signers);
        assert_eq!(release(&[(1, b""), (2, b"")]), ["good", "good"]);
        assert_eq!(release(&[]), ["TooFewSignatures"]);
        assert_eq!(release(&[(1, b"")]), ["TooFewSignatures"]);
        assert_eq!(release(&[(1, b""), (1, b"")]), ["KeySignedTwice"]);
        assert_eq!(release(&[(1, b""), (2, b""), (2, b"")]), ["KeySignedTwice"]);
        assert_eq!(release(&[(1, b""), (2, b""), (3, b"")]), ["KeyRevoked"]);
        assert_eq!(release(&[(1, b""), (2, b""), (4, b"")]), ["KeyOutsideValidity"]);
        assert_eq!(release(&[(1, b""), (2, b""), (5, b"")]), ["SignerUnknown"]);
        assert_eq!(release(&[(1, b""), (2, b"payload")]), ["SignatureInvalid"]);
        assert_eq!(judge(RoleName::Build, &[(5, b"")]), ["good"]);
        assert_eq!(judge(RoleName::Build, &[(5, b""), (1, b"")]), ["TooManySignatures"]);
    }
}
