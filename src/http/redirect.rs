//! Redirects, followed one hop at a time.
//!
//! What belongs to the registry – `Authorization`, the configured headers, the client certificate – goes to its own
//! origin only; the Distribution Specification forbids anything else. After a redirect to another origin, the chain
//! does not get them again: another host must not choose what is read with the registry's credentials (Fetch Standard,
//! "HTTP-redirect fetch").

use http::{HeaderMap, HeaderValue, header};
use url::Url;

use super::{egress::Guard, request::Request, response::Response, wire::Wire};
use crate::error::RexError;

/// The most redirects followed for one request. Storage behind a registry is one hop away, sometimes two.
const MAX_REDIRECTS: usize = 5;

/// Sends `request` to the registry and follows its redirects. `own_headers` go to the registry's origin only.
pub(super) async fn follow(
    wire: &Wire,
    guard: &Guard,
    request: &Request<'_>,
    own_headers: &HeaderMap,
) -> Result<Response, RexError> {
    let at = &request.at;
    let refuse = |problem| RexError::RegistryNotAllowed { at: at.clone(), problem };
    let mut url = request.url.clone();
    let mut at_registry = true;
    for _ in 0..=MAX_REDIRECTS {
        at_registry &= guard.is_registry(&url);
        let trust = guard.admit(&url).map_err(refuse)?.in_chain(at_registry);
        let mut hop = reqwest::Request::new(request.method.clone(), url.clone());
        hop.headers_mut().clone_from(&request.headers);
        // A digest is computed from the bytes without encoding.
        hop.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if at_registry {
            hop.headers_mut().extend(own_headers.clone());
        }
        let response = wire.exchange(trust, request.protocol, hop, request.call, at).await?;
        if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok(if at_registry { response } else { response.marked_as_foreign() });
        }
        let location = response.header(header::LOCATION).and_then(|location| url.join(location).ok());
        let next = location
            .map(without_userinfo)
            .ok_or_else(|| response.invalid("a redirect without a usable Location"))?;
        if url.scheme() == "https" && next.scheme() != "https" {
            return Err(refuse("a redirect from https to http is not followed".to_owned()));
        }
        url = next;
    }
    Err(RexError::Validation { at: at.clone(), problem: format!("more than {MAX_REDIRECTS} redirects") })
}

/// Removes userinfo, which is not sent but which libraries log with the host, and the fragment, which is never sent.
fn without_userinfo(mut url: Url) -> Url {
    url.set_fragment(None);
    // These fail for URLs that cannot have any.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}
