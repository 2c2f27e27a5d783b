//! Keeps campaigns and what credits calls to them; decides about calls; erases customers.

mod campaigns;
mod contacts;
mod decisions;
mod erasures;
mod handler;
mod replay;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    shared::runtime::start_logging();
    let state = handler::State::from_environment().await?;
    shared::runtime::serve(state, handler::handle).await
}
