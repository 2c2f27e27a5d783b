//! What a form of one of our pages sent.

use lambda_http::Request;
use lambda_http::http::header;
use serde::de::DeserializeOwned;
use shared::error::Error;
use shared::query::Query;
use url::form_urlencoded;

/// The fields of a form. Those that were left empty are not there.
pub struct Form(Vec<(String, String)>);

impl Form {
    /// Of a request.
    pub fn of(request: &Request) -> Self {
        let fields = form_urlencoded::parse(request.body().as_ref()).into_owned();
        Self(fields.filter(|(_, value)| !value.is_empty()).collect())
    }

    /// All values of a field that may be given more than once.
    pub fn take_all(&mut self, name: &str) -> Vec<String> {
        let (taken, left): (Vec<_>, _) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|field| field.0 == name);
        self.0 = left;
        taken.into_iter().map(|(_, value)| value).collect()
    }

    /// All other fields.
    ///
    /// # Errors
    /// Names the one that is given twice, is missing, is not known, or can't be read.
    pub fn read<T: DeserializeOwned>(self) -> Result<T, Error> {
        let mut query = Query::of_pairs(self.0);
        let fields = query.take()?;
        query.finish()?;
        Ok(fields)
    }
}

/// The file that a form with one of them sent.
///
/// # Errors
/// Where it sent none.
pub async fn file(request: &Request, name: &str) -> Result<Vec<u8>, Error> {
    let missing = || Error::invalid(name, "choose a file first");
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let boundary = content_type.and_then(|value| multer::parse_boundary(value).ok());
    let body = request.body().as_ref().to_vec();
    let body = futures_util::stream::iter([Ok::<_, std::convert::Infallible>(body)]);
    let mut parts = multer::Multipart::new(body, boundary.ok_or_else(missing)?);
    let broken = |_| Error::invalid(name, "the upload was cut off: send the form again");
    while let Some(part) = parts.next_field().await.map_err(broken)? {
        if part.name() == Some(name) {
            let bytes = part.bytes().await.map_err(broken)?;
            return Some(bytes.to_vec())
                .filter(|bytes| !bytes.is_empty())
                .ok_or_else(missing);
        }
    }
    Err(missing())
}
