//! Bodies of any length, made up: what loads, benchmarks and budgets are measured with.

use std::ops::RangeInclusive;

use fastrand::Rng;
use jiff::Timestamp;
use serde_json::{Value, json};

/// A call as the provider tells it, of 8,552 bytes.
const SAMPLE: &str = include_str!("../../../events/webhook/phone_inbound_twilio.json");
/// Its id, which no other text in it contains.
const SAMPLE_ID: &str = "conv_edaakjhb57yhmdwecgv6e0bfjemh";
/// Where the words come from.
const SCRIPT: &str = include_str!("demo.json");
const WORDS_PER_TURN: RangeInclusive<usize> = 3..=40;
/// People repeat each other's phrases.
const WORDS_PER_PHRASE: RangeInclusive<usize> = 2..=4;
const TIMES_PER_TURN: usize = 2;

/// A conversation, to be delivered under any id.
///
/// Up to the size of the sample it is the sample. A longer one has turns like those of the
/// sample, each with phrases and measured times of its own: level 3 of zstd makes 8 % of it.
#[derive(Debug, Clone)]
pub struct Conversation(String);

impl Conversation {
    /// Of at least so many bytes, or a few hundred more; always the same.
    ///
    /// # Panics
    /// Never: the sample is a conversation.
    #[must_use]
    #[expect(clippy::expect_used, reason = "the sample is part of the program")]
    pub fn new(bytes: usize) -> Self {
        if bytes <= SAMPLE.len() {
            return Self(SAMPLE.to_owned());
        }
        let mut body: Value = serde_json::from_str(SAMPLE).expect("the sample is JSON");
        let words: Vec<&str> = SCRIPT
            .split(|character: char| !character.is_alphabetic() && character != '\'')
            .filter(|word| !word.is_empty())
            .collect();
        let mut rng = Rng::with_seed(7);
        let turns = body["data"]["transcript"].take();
        let turns = turns.as_array().expect("the sample has turns");
        let mut length = body.to_string().len();
        let mut transcript = Vec::new();
        for turn in turns.iter().cycle() {
            if length >= bytes {
                break;
            }
            let mut turn = turn.clone();
            let mut left = TIMES_PER_TURN;
            measure_anew(&mut turn, &mut left, &mut rng);
            let length_in_words = rng.usize(WORDS_PER_TURN);
            let mut said = Vec::new();
            while said.len() < length_in_words {
                let phrase = rng.usize(WORDS_PER_PHRASE);
                let begin = rng.usize(..words.len() - phrase);
                said.extend_from_slice(&words[begin..begin + phrase]);
            }
            turn["message"] = json!(said.join(" "));
            turn["time_in_call_secs"] = json!(7 * transcript.len());
            length += turn.to_string().len() + 1;
            transcript.push(turn);
        }
        body["data"]["transcript"] = Value::Array(transcript);
        Self(body.to_string())
    }

    /// Its length in bytes, under an id as long as the provider's.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    /// The body that delivers it as another call, which ended at an instant.
    #[must_use]
    pub fn body(&self, id: &str, ended_at: Timestamp) -> String {
        let ended_at = ended_at.as_second();
        let body = self.0.replace(SAMPLE_ID, id);
        let body = body.replacen("1795300084", &ended_at.to_string(), 1);
        body.replace("1795300000", &(ended_at - 84).to_string())
    }
}

/// Gives as many of the measured times as are left another value.
fn measure_anew(value: &mut Value, left: &mut usize, rng: &mut Rng) {
    match value {
        Value::Number(number) if number.is_f64() && *left > 0 => {
            *left -= 1;
            *value = json!(rng.f64());
        }
        Value::Array(values) => values.iter_mut().for_each(|value| measure_anew(value, left, rng)),
        Value::Object(fields) => fields
            .values_mut()
            .for_each(|value| measure_anew(value, left, rng)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "conv_0000000000000000000000000007";

    #[test]
    fn a_conversation_is_as_long_as_asked_for_and_of_the_call_that_it_is_told_to_be() {
        let ended_at = Timestamp::from_second(1_795_400_084).unwrap();
        for bytes in [0, 8552, 100_000, 426_000, 1_500_000] {
            let conversation = Conversation::new(bytes);
            let body = conversation.body(ID, ended_at);
            assert!(
                (bytes..bytes.max(8552) + 3000).contains(&body.len()),
                "{bytes}: {}",
                body.len()
            );
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(body["event_timestamp"], 1_795_400_084);
            assert_eq!(body["data"]["conversation_id"], ID);
            assert_eq!(body["data"]["metadata"]["start_time_unix_secs"], 1_795_400_000);
        }
    }
}
