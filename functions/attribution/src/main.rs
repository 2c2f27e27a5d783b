//! Keeps campaigns and what credits calls to them.

mod handler;

#[tokio::main]
async fn main() -> Result<(), lambda_http::Error> {
    shared::runtime::start_logging();
    let state = handler::State::from_environment().await?;
    shared::runtime::serve(state, handler::handle).await
}
