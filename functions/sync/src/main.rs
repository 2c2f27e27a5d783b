//! Finds the calls that never arrived: compares what the provider lists with what
//! is here, and takes in what is missing, by the clock and on demand.

mod handler;
mod provider;
mod run;
mod settle;
mod silence;
mod walk;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    shared::runtime::start_logging();
    let state = handler::State::from_environment().await?;
    shared::runtime::serve(state, handler::handle).await
}
