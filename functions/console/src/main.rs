//! The pages for people.

mod access;
mod address;
mod chart;
mod form;
mod handler;
mod pages;
mod show;
mod visit;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    shared::runtime::start_logging();
    let state = handler::State::from_environment().await?;
    shared::runtime::serve(state, handler::handle).await
}
