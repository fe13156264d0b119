//! Requests for a blob or for the rest of one, and which responses match the request.

use http::{HeaderMap, HeaderValue, Method, header};

use super::{Blob, Source};
use crate::{
    client::{content_range::ContentRange, endpoint, exchange::is_html},
    error::{At, Missing, RexError},
    http::{Bound, ErrorResponse, Protocol, Request, Response},
};

impl Blob {
    /// Requests the bytes from `position` on, and checks that the response has them.
    pub(super) async fn open(&mut self) -> Result<(), RexError> {
        let first_time = self.media_type.is_empty();
        // The number of resumes has a bound of its own.
        self.call.reset_request_count();
        let range = match self.read_end() {
            Some(end) => Some(format!("bytes={}-{}", self.position, end.saturating_sub(1))),
            None if self.position > 0 => Some(format!("bytes={}-", self.position)),
            None => None,
        };
        let response = self.request(Method::GET, range.as_deref()).await?;
        // No registry gives a blob the type HTML, and the digest cannot detect it in a part of a blob. So it is refused early.
        if response.status().is_success() && is_html(&response) {
            return Err(response.invalid("text/html instead of a blob"));
        }
        match response.status().as_u16() {
            200 => self.take_all(response, first_time),
            206 => self.take_part(response),
            416 if first_time => self.past_the_end(response).await,
            416 => self.already_complete(&response),
            // Other successes too: 203 is a blob that a proxy has changed, and 202 and 204 have no blob.
            _ => Err(ErrorResponse::read(response).await.into_error(Missing::Blob, self.digest.as_str())),
        }
    }

    pub(super) async fn request(&self, method: Method, range: Option<&str>) -> Result<Response, RexError> {
        let mut headers = HeaderMap::new();
        if let Some(range) = range {
            let value = HeaderValue::try_from(range).map_err(|_| self.invalid("no range".to_owned()))?;
            headers.insert(header::RANGE, value);
        }
        let url = endpoint::blob(&self.upstream.base(), &self.target.repository, &self.digest);
        // The response to HEAD has no body.
        let bound = if method == Method::HEAD { Bound::Requests } else { Bound::Blobs };
        let (protocol, shared, call, at) = (Protocol::Http1, false, &self.call, self.at());
        let request = Request { method, url, headers, protocol, bound, shared, call, at };
        self.upstream.send(&request, &self.scope).await
    }

    /// 206: its `Content-Range` must begin at `position`, its body must be as long as that range, and the size must be the same
    /// as before.
    fn take_part(&mut self, response: Response) -> Result<(), RexError> {
        let range = response.header(header::CONTENT_RANGE).and_then(ContentRange::parse);
        let Some(ContentRange { bytes: Some((first, last)), size }) = range else {
            return Err(response.invalid("a 206 without a valid Content-Range"));
        };
        if first != self.position || self.read_end().is_some_and(|end| last >= end) {
            let requested = self.position;
            return Err(
                response.invalid(format!("bytes {first}-{last} instead of bytes from {requested} on"))
            );
        }
        let length_of_range = (last - first).saturating_add(1);
        if let Some(length) = content_length(&response).filter(|length| *length != length_of_range) {
            return Err(response.invalid(format!("bytes {first}-{last} with a Content-Length of {length}")));
        }
        self.check_metadata(&response, size)?;
        if self.size.is_none() {
            // Only the end of the part is known, so it must be the requested end.
            if self.requested_end() != Some(last.saturating_add(1)) {
                return Err(response.invalid("a 206 with neither the blob's size nor the requested end"));
            }
            self.end = self.requested_end();
            // The blob may continue after it.
            self.verifier = None;
        }
        self.set_end()?;
        let body = Box::new(response.into_body()?.with_least_rate());
        self.source = Source::Open { body, skip: 0, range_left: Some(length_of_range) };
        Ok(())
    }

    /// 200: the whole blob. The bytes before `position` are skipped; a read may resume like this only once.
    fn take_all(&mut self, response: Response, first_time: bool) -> Result<(), RexError> {
        self.check_metadata(&response, content_length(&response))?;
        if !first_time && self.position > 0 && std::mem::replace(&mut self.repeated, true) {
            return Err(
                response.invalid("the registry ignores ranges, and the connection broke more than once")
            );
        }
        if let Some(size) = self.size.filter(|size| self.position > *size) {
            return Err(self.ends_before_position(response.at(), size));
        }
        self.set_end()?;
        let body = Box::new(response.into_body()?.with_least_rate());
        self.source = Source::Open { body, skip: self.position, range_left: None };
        Ok(())
    }

    /// 416 to the first request: an empty read if the offset is the blob's size, OUT_OF_RANGE if it is past it.
    async fn past_the_end(&mut self, response: Response) -> Result<(), RexError> {
        let range = response.header(header::CONTENT_RANGE).and_then(ContentRange::parse);
        let at = response.at();
        // Releases its permit before the next request needs one.
        drop(response);
        let size = match range.and_then(|range| range.size) {
            Some(size) => Some(size),
            None => {
                let head = self.request(Method::HEAD, None).await?;
                content_length(&head).filter(|_| head.status().is_success())
            }
        };
        if let Some(size) = size.filter(|size| *size > self.position) {
            return Err(self.refused_range(at, size));
        }
        if size != Some(self.position) {
            return Err(RexError::Range { at, offset: self.position, size });
        }
        self.size = size;
        self.media_type = "application/octet-stream".to_owned();
        self.set_end()?;
        self.source = Source::Finished;
        Ok(())
    }

    /// 416 when the rest was requested: the registry had announced more bytes than the blob has. If the digest of the bytes
    /// so far matches, they are the whole blob.
    fn already_complete(&mut self, response: &Response) -> Result<(), RexError> {
        let range = response.header(header::CONTENT_RANGE).and_then(ContentRange::parse);
        let size = range.and_then(|range| range.size).unwrap_or(self.position);
        if size > self.position {
            return Err(self.refused_range(response.at(), size));
        }
        let announced =
            self.size.map(|size| format!("the registry announced {size} bytes for ")).unwrap_or_default();
        if self.verifier.is_none() || size != self.position {
            let problem = format!("{announced}{}, and it ends after {size}", self.digest);
            return Err(RexError::Integrity { at: response.at(), problem });
        }
        self.end = Some(self.position);
        self.size = self.end;
        self.finish()
    }

    /// Takes the size and media type from the response. The size must be the same in every response.
    fn check_metadata(&mut self, response: &Response, size: Option<u64>) -> Result<(), RexError> {
        if let (Some(known), Some(new)) = (self.size, size)
            && known != new
        {
            let problem = format!("{} had {known} bytes, and now has {new}", self.digest);
            return Err(RexError::Integrity { at: response.at(), problem });
        }
        self.size = self.size.or(size);
        let accepts =
            response.header(header::ACCEPT_RANGES).is_some_and(|unit| unit.eq_ignore_ascii_case("bytes"));
        self.ranges |= accepts || response.status().as_u16() == 206;
        if self.media_type.is_empty() {
            self.media_type =
                response.content_type().unwrap_or_else(|| "application/octet-stream".to_owned());
        }
        Ok(())
    }

    /// Computes the end from the size. An end that was announced before must not change.
    fn set_end(&mut self) -> Result<(), RexError> {
        let Some(size) = self.size else { return Ok(()) };
        let end = self.requested_end().map_or(size, |end| end.min(size));
        if self.end.is_some_and(|announced| announced != end) {
            let problem = format!("more bytes of {} were announced than the {size} that it has", self.digest);
            return Err(RexError::Integrity { at: self.at(), problem });
        }
        if end < size {
            self.verifier = None;
        }
        self.end = Some(end);
        Ok(())
    }

    /// The blob has fewer bytes than `position`. If none was returned, the caller's offset is past the end. Otherwise the blob
    /// has become shorter.
    pub(super) fn ends_before_position(&self, at: At, size: u64) -> RexError {
        let offset = self.position;
        if offset == self.range.offset {
            return RexError::Range { at, offset, size: Some(size) };
        }
        let problem = format!("{offset} bytes of {} were received, and now it has {size}", self.digest);
        RexError::Integrity { at, problem }
    }

    fn refused_range(&self, at: At, size: u64) -> RexError {
        let problem = format!("status 416 for bytes from {}, although the blob has {size}", self.position);
        RexError::Validation { at, problem }
    }
}

pub(super) fn content_length(response: &Response) -> Option<u64> {
    response.header(header::CONTENT_LENGTH)?.parse().ok()
}
