//! The fuzzers' targets, with the seeds that they begin with and with what is known to be nasty.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::path::{Path, PathBuf};

use fuzz::{TARGETS, Target};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// The most that reaches any target.
const LARGEST: usize = 6 * 1024 * 1024;

/// What readers keep once they have it, such as the plans of phone numbers.
const TABLES: usize = 6 * 1024 * 1024;

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    files.filter(|path| path.is_file()).collect()
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = files(&folder.join("seeds").join(target));
    if target == "delivery" {
        paths.extend(files(&folder.join("../../events/webhook")));
    }
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// What no client sends by mistake.
fn nasty() -> Vec<Vec<u8>> {
    let around = |open: &str, close: &str, times: usize| {
        let (open, close) = (open.repeat(times), close.repeat(times));
        format!(
            r#"{{"type":"post_call_transcription","data":{{"conversation_id":"conv_1","metadata":{open}{close}}}}}"#
        )
    };
    let texts = [
        "[".repeat(LARGEST),
        "{\"a\":".repeat(LARGEST / 5),
        "\"".repeat(LARGEST),
        ",".repeat(LARGEST),
        "a=b&".repeat(LARGEST / 4),
        "number,from\n".repeat(LARGEST / 12),
        format!("number\n{}", ",".repeat(LARGEST - 7)),
        format!("number\n\"{}", "\n".repeat(LARGEST - 8)),
        "9".repeat(LARGEST),
        format!("t=1,{}", "v0=00,".repeat(LARGEST / 6)),
        around("[", "]", LARGEST / 4),
        around("{\"phone_call\":", "}", 100_000).replace("{}", "{\"phone_call\":0}"),
        r#"{"type":"post_call_transcription","type":"post_call_audio","data":{"conversation_id":"conv_1"}}"#.to_owned(),
        r#"{"type":"post_call_transcription","data":{"conversation_id":"conv_1","conversation_id":"conv_2"}}"#.to_owned(),
        r#"{"type":"post_call_transcription","data":{"conversation_id":"\ud83d","agent_name":"\udc00\ud83d"}}"#.to_owned(),
        format!(
            r#"{{"type":"post_call_transcription","event_timestamp":1e400,"data":{{"conversation_id":{},"metadata":
            {{"start_time_unix_secs":-1e308,"call_duration_secs":1e309}}}}}}"#,
            "9".repeat(300)
        ),
        "\u{feff}\u{feff}{}".to_owned(),
        "\u{202e}+1612\u{a0}5550187\u{0}".to_owned(),
        "ttt===;;;,,,\r\n\t\u{7f}".to_owned(),
    ];
    let mut inputs: Vec<Vec<u8>> = texts.into_iter().map(String::into_bytes).collect();
    inputs.extend([
        Vec::new(),
        vec![0; LARGEST],
        vec![0xff; LARGEST],
        b"{\"type\":\"post_call_transcription\",\"data\":{\"conversation_id\":\"\xf0\x9f\"}}".to_vec(),
    ]);
    inputs
}

/// One test, for the memory that it counts is that of the whole process.
#[test]
fn nothing_that_is_sent_brings_a_reader_down_or_makes_it_take_memory_without_bound() {
    for Target { name, read, largest } in TARGETS {
        let seeds = seeds(name);
        assert!(seeds.len() > 2, "{name} begins with something");
        for mut input in seeds.into_iter().chain(nasty()) {
            input.truncate(largest);
            let before = ALLOCATOR.current_usage();
            ALLOCATOR.reset_peak_usage();
            read(&input);
            let taken = ALLOCATOR.peak_usage() - before;
            let bound = TABLES + 24 * input.len();
            let start = String::from_utf8_lossy(&input[..input.len().min(60)]);
            assert!(
                taken < bound,
                "{name}: {taken} bytes for {} of {start:?}",
                input.len()
            );
        }
    }
}
