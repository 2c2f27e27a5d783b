//! Reads calls, reports and the delivery log.

mod deliveries;
mod export;
mod handler;
mod reports;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    shared::runtime::start_logging();
    let state = handler::State::from_environment().await?;
    shared::runtime::serve(state, handler::handle).await
}
