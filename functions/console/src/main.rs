//! The pages for people.

mod handler;
mod id_token;
mod origin;
mod pages;
mod provider;
mod seal;
mod session;
mod sign_in;

#[tokio::main]
async fn main() -> Result<(), lambda_http::Error> {
    shared::runtime::start_logging();
    let state = handler::State::from_environment().await?;
    shared::runtime::serve(state, handler::handle).await
}
