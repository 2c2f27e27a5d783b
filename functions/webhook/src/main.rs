//! Takes deliveries: verifies, parses, attributes and stores them.

mod admission;
mod client_address;
mod handler;
mod refusals;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    shared::runtime::start_logging();
    let state = handler::State::from_environment().await?;
    shared::runtime::serve(state, handler::handle).await
}
