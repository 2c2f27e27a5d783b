//! Builds the functions' binaries, all with one cargo command.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tokio::process::Command;

#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Builds every binary of the workspace and tells where each one is.
///
/// One command for all of them: chosen one by one, the crates that they share
/// would be compiled again for each selection of features.
///
/// # Errors
/// When cargo fails; its own messages have then gone to standard error.
pub async fn build(workspace: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // Fast functions for a fast stand-in.
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    let output = Command::new(cargo)
        .args(["build", "--bins", "--profile", profile])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(workspace)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .await
        .context("starting cargo")?;
    ensure!(output.status.success(), "the functions did not compile");
    let mut binaries = BTreeMap::new();
    for line in output.stdout.split(|&byte| byte == b'\n') {
        if let Ok(Message {
            executable: Some(executable),
            target: Some(target),
        }) = serde_json::from_slice(line)
        {
            binaries.insert(target.name, executable);
        }
    }
    Ok(binaries)
}
