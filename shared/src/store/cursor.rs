//! Cursors: where a list goes on, bound to the list that it belongs to.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use sha2::{Digest, Sha256};

use crate::error::Error;

const CHECKSUM_BYTES: usize = 8;
const MAX_POSITION_BYTES: usize = 1024;

/// A cursor after `position` in the list that `list` describes: its filter and sort.
pub fn encode(list: &str, position: &str) -> String {
    let mut bytes = checksum(list, position).to_vec();
    bytes.extend_from_slice(position.as_bytes());
    BASE64URL.encode(bytes)
}

/// The position of a cursor.
///
/// # Errors
/// `invalid_cursor` where it was altered, cut, or made for another list.
pub fn decode(list: &str, cursor: &str) -> Result<String, Error> {
    let bytes = BASE64URL.decode(cursor).map_err(|_| invalid())?;
    let (sum, position) = bytes.split_at_checked(CHECKSUM_BYTES).ok_or_else(invalid)?;
    let position = std::str::from_utf8(position).map_err(|_| invalid())?;
    // The checksum is no signature, so a position may still be anybody's; none of
    // ours is empty, longer than a key, or (but for what parts two values) unprintable.
    let is_printable = position
        .chars()
        .all(|character| !character.is_control() || character == '\n');
    let is_ours = (1..=MAX_POSITION_BYTES).contains(&position.len()) && is_printable;
    if sum != checksum(list, position) || !is_ours {
        return Err(invalid());
    }
    Ok(position.to_owned())
}

/// The refusal of a cursor.
#[must_use]
pub fn invalid() -> Error {
    Error::Invalid {
        code: "invalid_cursor",
        field: Some("cursor".to_owned()),
        message: "cursor must be the next_cursor of the page before, with the same filter and sort"
            .to_owned(),
    }
}

fn checksum(list: &str, position: &str) -> [u8; CHECKSUM_BYTES] {
    let digest = Sha256::new()
        .chain_update(list)
        .chain_update([0])
        .chain_update(position)
        .finalize();
    std::array::from_fn(|index| digest[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_belongs_to_its_list_and_stands_no_change() {
        let cursor = encode("calls a", "2026-11-22T10:26:40Z#conv_1");
        assert_eq!(decode("calls a", &cursor).unwrap(), "2026-11-22T10:26:40Z#conv_1");
        assert!(decode("calls b", &cursor).is_err());
        for end in 0..cursor.len() {
            assert!(decode("calls a", &cursor[..end]).is_err());
        }
        for position in 0..cursor.len() {
            let mut altered = cursor.clone().into_bytes();
            altered[position] = if altered[position] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).unwrap();
            assert!(decode("calls a", &altered).is_err(), "{altered}");
        }
        for position in ["", "\u{1}", "\u{7f}", &"x".repeat(1025)] {
            assert!(
                decode("calls a", &encode("calls a", position)).is_err(),
                "{position:?}"
            );
        }
        for garbage in ["", "!", "é", "AAAA", &"A".repeat(10_000)] {
            assert!(decode("calls a", garbage).is_err());
        }
    }
}
