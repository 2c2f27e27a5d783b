//! What a call's page shows beyond its facts, read from the kept body when
//! somebody looks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::lenient::{Number, Text, lenient, read_object};

/// Levels of nesting up to which a value of the provider is shown; parsers take some 128.
const MAX_DEPTH: usize = 100;

/// What a call's page shows beyond the facts, read from the kept body.
#[derive(Debug, Default)]
pub struct Details<'a> {
    /// The provider's summary.
    pub summary: Option<String>,
    /// Turn by turn.
    pub transcript: Vec<Turn<'a>>,
    /// The provider's `analysis`, as it came; none where it is nested too deeply to be shown.
    pub analysis: Option<&'a RawValue>,
}

/// One turn of a transcript.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Turn<'a> {
    /// `user` or `agent`; what came, where it is neither.
    pub role: Option<String>,
    /// What was said; none on turns of tools and workflows.
    pub message: Option<String>,
    /// Seconds from the start of the call.
    pub at_seconds: u32,
    /// As they came.
    pub tool_calls: Vec<&'a RawValue>,
    /// As they came.
    pub tool_results: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct DetailsEnvelope<'a> {
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    transcript: Option<&'a RawValue>,
    #[serde(borrow, default)]
    analysis: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireAnalysis {
    #[serde(default, deserialize_with = "lenient")]
    transcript_summary: Option<Text>,
}

#[derive(Deserialize)]
struct WireTurn<'a> {
    #[serde(default, deserialize_with = "lenient")]
    role: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    message: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    time_in_call_secs: Option<Number>,
    #[serde(borrow, default)]
    tool_calls: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_results: Option<&'a RawValue>,
}

impl<'a> Details<'a> {
    /// Reads the details from a body, with or without its envelope. What is not
    /// there, or not readable, is absent.
    #[must_use]
    pub fn read(body: &'a [u8]) -> Self {
        let read = |text: &'a str| read_object::<DetailsEnvelope<'a>>(text).ok();
        let Some(outer) = std::str::from_utf8(body).ok().and_then(read) else {
            return Self::default();
        };
        let conversation = outer.data.and_then(|data| read(data.get())).unwrap_or(outer);
        let analysis = conversation.analysis;
        let analysis = analysis.filter(|raw| raw.get().starts_with('{') && is_shallow(raw));
        Self {
            summary: conversation
                .analysis
                .and_then(|raw| read_object::<WireAnalysis>(raw.get()).ok())
                .and_then(|analysis| analysis.transcript_summary)
                .and_then(Text::or_none)
                .map(|text| text.0),
            transcript: list(conversation.transcript)
                .into_iter()
                .filter_map(|turn| read_object::<WireTurn<'a>>(turn.get()).ok())
                .map(Turn::from)
                .collect(),
            analysis,
        }
    }
}

impl<'a> From<WireTurn<'a>> for Turn<'a> {
    fn from(turn: WireTurn<'a>) -> Self {
        Self {
            role: turn.role.map(|role| role.0),
            message: turn.message.map(|message| message.0),
            at_seconds: turn.time_in_call_secs.map_or(0, Number::into_seconds),
            tool_calls: shown(turn.tool_calls),
            tool_results: shown(turn.tool_results),
        }
    }
}

fn list(raw: Option<&RawValue>) -> Vec<&RawValue> {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok())
        .unwrap_or_default()
}

/// Those entries of a list that can be shown as they came.
fn shown(raw: Option<&RawValue>) -> Vec<&RawValue> {
    let mut entries = list(raw);
    entries.retain(|entry| is_shallow(entry));
    entries
}

/// Whether a value of the provider can be shown as it came: an answer that holds what is
/// nested deeper can't be read by most clients.
fn is_shallow(raw: &RawValue) -> bool {
    let (mut depth, mut is_text, mut is_escaped) = (0_usize, false, false);
    raw.get().bytes().all(|byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            b'[' | b'{' if !is_text => depth += 1,
            b']' | b'}' if !is_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth <= MAX_DEPTH
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_found_with_and_without_an_envelope() {
        let data = r#"{"transcript":[{"role":"user","message":null,"time_in_call_secs":3,
            "tool_calls":null,"tool_results":[{"result_value":"x"}]},7],
            "analysis":{"transcript_summary":"It went well.","new":1}}"#;
        let enveloped = format!(r#"{{"type":"post_call_transcription","data":{data}}}"#);
        for body in [data, &enveloped] {
            let details = Details::read(body.as_bytes());
            assert_eq!(details.summary.as_deref(), Some("It went well."));
            let [turn] = details.transcript.as_slice() else {
                panic!("{:?}", details.transcript);
            };
            assert_eq!((turn.role.as_deref(), turn.at_seconds), (Some("user"), 3));
            assert!(turn.message.is_none() && turn.tool_calls.is_empty());
            assert_eq!(turn.tool_results.len(), 1);
            assert!(details.analysis.is_some());
        }
        assert!(Details::read(b"not json").transcript.is_empty());
    }

    #[test]
    fn what_is_nested_without_an_end_is_not_shown() {
        let analysis = |depth: usize| {
            let nested = format!("{}\"[[{{\\\"\"{}", "[".repeat(depth), "]".repeat(depth));
            format!(
                r#"{{"analysis":{{"transcript_summary":"Well.","x":{nested}}},"transcript":[{{"tool_calls":[{nested},1]}}]}}"#
            )
        };
        for (depth, shown) in [(1, true), (99, true), (100, false), (1_000_000, false)] {
            let body = analysis(depth);
            let details = Details::read(body.as_bytes());
            assert_eq!(details.analysis.is_some(), shown, "{depth}");
            assert_eq!(
                details.transcript[0].tool_calls.len(),
                1 + usize::from(shown || depth == 100)
            );
            assert_eq!(details.summary.as_deref(), Some("Well."), "{depth}");
        }
    }
}
